//! Bounded calls about many jobs: cancel, retry, update, delete. Each item is a guarded move of its own, decided on its
//! record; a call does a limited number of them, or stops after a few seconds, and says where to go on.
use super::{
    Bulk, BulkDone, Cancel, Engine, Inner, JobError, Patch, Retry, Selector, admit, clock,
    transition::{self, failures_after_retry},
};
use crate::{
    model::{
        filter::Filter,
        ids::JobId,
        job::{Body, Parts, Record},
        limits::{BULK_SAMPLE, STORE_BATCH},
        op::{Act, Guard, Op, Verdict},
        policy::Policy,
        state::{Move, State, StateSet, sources},
        time::SECOND,
    },
    store::StoreError,
};

/// A call goes on for so long at most.
const BUDGET_MS: i64 = 5 * SECOND;
/// How often an item that changed under our hands is decided again.
const ROUNDS: usize = 3;

/// What a call does to one record.
type Decide<'a> = dyn Fn(&Inner, &Record) -> Result<(Guard, Act), JobError> + Send + Sync + 'a;

/// A call, as far as the loop is concerned.
struct Change<'a> {
    /// States that a filter may find. Those that a call itself leads to are left out, so that nothing is caught twice.
    states: StateSet,
    parts: Parts,
    decide: &'a Decide<'a>,
}

impl Engine {
    pub async fn cancel(&self, bulk: Bulk, cancel: Cancel) -> Result<BulkDone, StoreError> {
        let decide = |_: &Inner, record: &Record| {
            let (meta, policy) = (&record.meta, policy(record));
            let act = transition::cancel(meta, &policy, &cancel.reason, cancel.grace_ms)
                .ok_or(JobError::Terminal(meta.state))?;
            Ok((Guard::In(StateSet::of(&[meta.state])), act))
        };
        let states = StateSet::WAITING.or(StateSet::RUNNING);
        self.0.change(bulk, Change { states, parts: Parts::BODY, decide: &decide }).await
    }

    /// Terminal jobs start over, SCHEDULED and RETRYING ones stop waiting; SUCCEEDED ones only when named by id.
    pub async fn retry(&self, bulk: Bulk, retry: Retry) -> Result<BulkDone, StoreError> {
        let by_filter = matches!(bulk.selector, Selector::Filter(_));
        let mut states = sources(Move::Requeue);
        if by_filter {
            states = StateSet::of(&states.iter().filter(|s| *s != State::Succeeded).collect::<Vec<_>>());
        }
        let decide = |inner: &Inner, record: &Record| {
            let meta = &record.meta;
            match meta.state {
                State::Running => return Err(JobError::Running),
                state if !states.has(state) => return Err(JobError::WrongState(state)),
                _ => {}
            }
            let body = match &retry.queue {
                Some(queue) if *queue != meta.queue => {
                    inner.edited(record, |_, task| task.queue = queue.clone())?.map(|body| body.encode())
                }
                _ => None,
            };
            let act = Act::Requeue {
                failures: failures_after_retry(meta, &policy(record), retry.reset_attempts),
                delay_ms: (retry.spread_ms as f64 * clock::share()) as i64,
                queue: retry.queue.clone(),
                body,
                keep: record.outcome.as_ref().and_then(|outcome| outcome.last.clone()),
            };
            Ok((Guard::Version(meta.version), act))
        };
        let parts = Parts { outcome: true, ..Parts::BODY };
        self.0.change(bulk, Change { states, parts, decide: &decide }).await
    }

    /// `version`: refuse unless the record still has it (single id).
    pub async fn update(&self, bulk: Bulk, patch: Patch, version: Option<u32>) -> Result<BulkDone, StoreError> {
        let decide = |inner: &Inner, record: &Record| {
            let meta = &record.meta;
            if version.is_some_and(|version| version != meta.version) {
                return Err(JobError::EtagMismatch);
            }
            match meta.state {
                State::Running => return Err(JobError::Running),
                state if state.is_terminal() => return Err(JobError::Terminal(state)),
                _ => {}
            }
            let body = inner.edited(record, |policy, task| {
                if let Some(retry) = &patch.retry {
                    policy.retry = retry.clone().over(std::mem::take(&mut policy.retry));
                }
                policy.timeout_ms = patch.timeout_ms.unwrap_or(policy.timeout_ms);
                task.queue = patch.queue.clone().unwrap_or_else(|| task.queue.clone());
                task.payload = patch.payload.clone().or_else(|| task.payload.take());
            })?;
            let act = Act::Patch {
                queue: patch.queue.clone(),
                priority: patch.priority,
                start: patch.start,
                body: body.map(|body| body.encode()),
                content: patch.payload.as_ref().map(|payload| admit::content(&meta.kind, Some(payload))),
            };
            Ok((Guard::Version(meta.version), act))
        };
        self.0.change(bulk, Change { states: StateSet::WAITING, parts: Parts::BODY, decide: &decide }).await
    }

    /// `force`: also those that are not terminal; a running one is then gone for its worker as well.
    pub async fn delete(&self, bulk: Bulk, force: bool) -> Result<BulkDone, StoreError> {
        let states = if force { StateSet::ANY } else { StateSet::TERMINAL };
        self.delete_in(bulk, states).await
    }

    /// Drops every job of a queue that is neither running nor terminal.
    pub async fn purge(&self, bulk: Bulk) -> Result<BulkDone, StoreError> {
        self.delete_in(bulk, StateSet::WAITING).await
    }

    async fn delete_in(&self, bulk: Bulk, states: StateSet) -> Result<BulkDone, StoreError> {
        let decide = |_: &Inner, record: &Record| match record.meta.state {
            state if states.has(state) => Ok((Guard::In(states), Act::Delete)),
            State::Running => Err(JobError::Running),
            state => Err(JobError::WrongState(state)),
        };
        self.0.change(bulk, Change { states, parts: Parts::META, decide: &decide }).await
    }
}

fn policy(record: &Record) -> Policy {
    record.body.as_ref().map(|body| body.policy.clone()).unwrap_or_default()
}

impl Inner {
    async fn change(&self, bulk: Bulk, change: Change<'_>) -> Result<BulkDone, StoreError> {
        let Bulk { selector, limit, cursor, dry_run } = bulk;
        let mut done = BulkDone::default();
        let filter = match selector {
            Selector::Ids(ids) => {
                let records = self.store.get(&ids, change.parts).await?;
                let missing = ids.iter().zip(&records).filter(|(_, record)| record.is_none());
                missing.for_each(|(id, _)| done.fail(*id, JobError::NotFound(*id)));
                self.change_all(records.into_iter().flatten().collect(), &change, dry_run, &mut done).await?;
                return Ok(done);
            }
            Selector::Filter(filter) => filter,
        };
        self.change_matching(&filter, cursor, limit, dry_run, &change, &mut done).await?;
        Ok(done)
    }

    async fn change_matching(
        &self,
        filter: &Filter,
        mut cursor: Option<super::Cursor>,
        limit: usize,
        dry_run: bool,
        change: &Change<'_>,
        done: &mut BulkDone,
    ) -> Result<(), StoreError> {
        let until_ms = self.mono_ms() + BUDGET_MS;
        loop {
            let page = (limit - done.matched).min(STORE_BATCH);
            let since_ms = cursor.as_ref().map(|cursor| cursor.since_ms);
            let found = self.list(filter, change.states, cursor, page, change.parts).await?;
            cursor = found.next;
            // What has ended since the first call is left for the next one.
            let known = |record: &Record| since_ms.is_none_or(|since_ms| record.meta.finish_ms <= since_ms);
            let records = found.jobs.into_iter().filter(known).collect();
            self.change_all(records, change, dry_run, done).await?;
            if cursor.is_none() || done.matched >= limit || self.mono_ms() >= until_ms {
                done.next = cursor;
                return Ok(());
            }
        }
    }

    async fn change_all(
        &self,
        records: Vec<Record>,
        change: &Change<'_>,
        dry_run: bool,
        done: &mut BulkDone,
    ) -> Result<(), StoreError> {
        done.matched += records.len();
        let room = BULK_SAMPLE.saturating_sub(done.sample.len());
        done.sample.extend(records.iter().take(room).map(|record| record.meta.id));
        let mut open = records;
        for round in 0..ROUNDS {
            let mut ops = Vec::with_capacity(open.len());
            for record in &open {
                match (change.decide)(self, record) {
                    Ok((guard, act)) => ops.push(Op { id: record.meta.id, guard, act }),
                    Err(error) => done.fail(record.meta.id, error),
                }
            }
            if dry_run || ops.is_empty() {
                return Ok(());
            }
            let ids: Vec<JobId> = ops.iter().map(|op| op.id).collect();
            let verdicts = self.apply(ops).await?;
            let mut again = Vec::new();
            for (id, verdict) in ids.into_iter().zip(verdicts) {
                match verdict {
                    Verdict::Done(_) | Verdict::Already(_) => done.affected += 1,
                    Verdict::NotFound => done.fail(id, JobError::NotFound(id)),
                    Verdict::KeyTaken(by) => done.fail(id, JobError::UniqueConflict(by)),
                    Verdict::Conflict(State::Running) if round + 1 == ROUNDS => done.fail(id, JobError::Running),
                    Verdict::Conflict(state) if round + 1 == ROUNDS => done.fail(id, JobError::WrongState(state)),
                    Verdict::Stale | Verdict::CancelRequested(_) if round + 1 == ROUNDS => {
                        done.fail(id, JobError::EtagMismatch);
                    }
                    Verdict::Conflict(_) | Verdict::Stale | Verdict::CancelRequested(_) => again.push(id),
                }
            }
            if again.is_empty() {
                return Ok(());
            }
            // Changed under our hands: decide again on what they are now.
            open = self.store.get(&again, change.parts).await?.into_iter().flatten().collect();
        }
        Ok(())
    }

    /// The body with its policy and task edited. `None` when nothing of it changed.
    pub(super) fn edited(
        &self,
        record: &Record,
        edit: impl FnOnce(&mut Policy, &mut crate::model::job::Task),
    ) -> Result<Option<Body>, JobError> {
        let damaged = || StoreError::Damaged(format!("the body of job {}", record.meta.id));
        let body = record.body.as_ref().ok_or_else(damaged)?;
        let mut task = self.codec.decode(&body.task).ok_or_else(damaged)?;
        let before = task.clone();
        let mut policy = body.policy.clone();
        edit(&mut policy, &mut task);
        if task == before && policy == body.policy {
            return Ok(None);
        }
        let task = if task == before { body.task.clone() } else { self.codec.encode(task) };
        Ok(Some(Body { policy, task }))
    }
}

impl BulkDone {
    fn fail(&mut self, id: JobId, error: JobError) {
        if self.errors.len() < BULK_SAMPLE {
            self.errors.push((id, error));
        }
    }
}
