//! Calls about many workflows: cancel, retry, delete.
use std::sync::Arc;

use super::{FlowError, Inner};
use crate::{
    engine::{Cancel, Engine},
    model::{
        filter::Filter,
        ids::JobId,
        limits::BULK_SAMPLE,
        workflow::{FlowState, Stop},
    },
};

/// Which workflows a call is about.
#[derive(Debug)]
pub enum FlowSelector {
    Ids(Vec<JobId>),
    /// `after`: where an earlier call stopped (time of creation and id).
    Filter {
        filter: Filter,
        after: Option<(i64, JobId)>,
    },
}

/// What a call about many workflows did.
#[derive(Debug, Default)]
pub struct FlowBulk {
    pub matched: usize,
    pub affected: usize,
    /// At most 100.
    pub sample: Vec<JobId>,
    /// At most 100.
    pub errors: Vec<(JobId, FlowError)>,
    /// Where to go on.
    pub next: Option<(i64, JobId)>,
}

/// What is done to each.
enum Deed {
    Nothing,
    Stop(Stop),
    Retry,
    Delete { force: bool },
}

impl Engine {
    /// Cancels everything of them that has not ended; nothing new begins.
    pub async fn cancel_workflows(
        &self,
        selector: FlowSelector,
        cancel: Cancel,
        limit: usize,
        dry_run: bool,
    ) -> Result<FlowBulk, FlowError> {
        let stop = Stop { reason: cancel.reason, grace_ms: cancel.grace_ms };
        let deed = if dry_run { Deed::Nothing } else { Deed::Stop(stop) };
        self.each(selector, limit, |state| !state.is_terminal(), deed).await
    }

    /// Tries every failed node again, and revives what was cancelled because of it.
    pub async fn retry_workflows(
        &self,
        selector: FlowSelector,
        limit: usize,
        dry_run: bool,
    ) -> Result<FlowBulk, FlowError> {
        let deed = if dry_run { Deed::Nothing } else { Deed::Retry };
        self.each(selector, limit, |state| state != FlowState::Succeeded, deed).await
    }

    /// `force`: also those that have not ended. `count_only`: nothing is deleted.
    pub async fn delete_workflows(
        &self,
        selector: FlowSelector,
        limit: usize,
        force: bool,
        count_only: bool,
    ) -> Result<FlowBulk, FlowError> {
        let deed = if count_only { Deed::Nothing } else { Deed::Delete { force } };
        self.each(selector, limit, |state| force || count_only || state.is_terminal(), deed).await
    }

    async fn each(
        &self,
        selector: FlowSelector,
        limit: usize,
        of_interest: impl Fn(FlowState) -> bool,
        deed: Deed,
    ) -> Result<FlowBulk, FlowError> {
        let mut done = FlowBulk::default();
        let ids = match selector {
            FlowSelector::Ids(ids) => ids,
            FlowSelector::Filter { filter, after } => {
                let mut found = self.matching(&filter).await?;
                found.retain(|(id, flow)| {
                    of_interest(flow.state) && after.is_none_or(|after| (flow.create_ms, *id) < after)
                });
                if found.len() > limit {
                    found.truncate(limit);
                    done.next = found.last().map(|(id, flow)| (flow.create_ms, *id));
                }
                found.into_iter().map(|(id, _)| id).collect()
            }
        };
        for id in ids {
            match self.0.clone().do_to(id, &deed).await {
                Ok(affected) => {
                    done.matched += 1;
                    done.affected += usize::from(affected);
                    if done.sample.len() < BULK_SAMPLE {
                        done.sample.push(id);
                    }
                }
                Err(FlowError::Store(error)) => return Err(error.into()),
                Err(error) if done.errors.len() < BULK_SAMPLE => done.errors.push((id, error)),
                Err(_) => {}
            }
        }
        Ok(done)
    }
}

impl Inner {
    /// Answers whether anything was changed.
    async fn do_to(self: Arc<Self>, id: JobId, deed: &Deed) -> Result<bool, FlowError> {
        let there = self.open(id, true).await?.filter(|there| there.flow.lone.is_none());
        let there = there.ok_or(FlowError::NotFound(id))?;
        match deed {
            Deed::Nothing => return Ok(false),
            Deed::Stop(stop) => self.stop_flow(id, stop.clone()).await?,
            Deed::Retry => self.retry_flow(id).await?,
            Deed::Delete { force: false } if !there.flow.state.is_terminal() => {
                return Err(FlowError::WrongState(there.flow.state));
            }
            Deed::Delete { .. } => self.clone().purge(there).await?,
        }
        Ok(true)
    }
}
