//! What is due: promotions, leases that ran out, cancels whose grace is over, expiries, trims. Ask the store, let the pure
//! core decide, apply under a `Due` guard: an event like any other, and a lost race costs one no-op.
//!
//! Sleeps until the store's next entry; an idle server sleeps for ever.
use std::{sync::Arc, time::Duration};

use hashbrown::HashMap;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tracing::{error, info, warn};

use super::{
    Inner, clock,
    settle::Holder,
    transition::{Event, Subject, decide},
};
use crate::{
    model::{
        ids::{JobId, Shard},
        job::{Meta, Parts},
        limits::STORE_BATCH,
        op::{Due, DueKind, Guard, Op, Verdict, Wake},
        policy::Policy,
        queue::QueueChange,
    },
    store::StoreError,
};

/// When more than so many things are due at once, the history does not say which worker lost what.
const NAMED_MOST: usize = 100;

/// Runs until the store closes.
pub async fn run(inner: Arc<Inner>, mut wakes: Receiver<Wake>) {
    loop {
        let pause = match inner.act_on_due().await {
            Ok(next) => next,
            Err(StoreError::Closed) => return,
            Err(error) => {
                error!(%error, "timers cannot reach the store");
                Some(Duration::from_secs(1))
            }
        };
        tokio::select! {
            () = sleep(pause) => {}
            () = timer_wake(&mut wakes) => {}
            () = inner.stopped.cancelled() => return,
        }
    }
}

async fn sleep(pause: Option<Duration>) {
    match pause {
        Some(pause) => tokio::time::sleep(pause).await,
        None => std::future::pending().await,
    }
}

/// Resolves when something is due earlier than was said.
async fn timer_wake(wakes: &mut Receiver<Wake>) {
    loop {
        match wakes.recv().await {
            Ok(Wake::Timer(_) | Wake::Reset) | Err(RecvError::Lagged(_)) => return,
            Ok(Wake::Ready(_) | Wake::Cancel(_) | Wake::Queue(_) | Wake::Doc(_) | Wake::Told(_)) => {}
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

impl Inner {
    /// Works off what is due and says how long there is until the next entry.
    async fn act_on_due(&self) -> Result<Option<Duration>, StoreError> {
        loop {
            let due = self.store.due(Shard(0), STORE_BATCH).await?;
            let mut jobs = Vec::new();
            for entry in due.entries {
                match entry {
                    Due::Job { kind, meta } => jobs.push((kind, meta)),
                    Due::QueueOpens(name) => {
                        info!(queue = %name, "the pause has ended");
                        self.store.set_queue(name, QueueChange::ResumeIfDue).await?;
                    }
                }
            }
            let moved = self.act_on(jobs).await?;
            match due.next_in_ms {
                // Nothing moved though something is due: others are at it, or it is ours to mend; never spin.
                Some(0) if moved == 0 => return Ok(Some(Duration::from_millis(100))),
                Some(0) => {}
                Some(ms) => return Ok(Some(Duration::from_millis(ms as u64))),
                None => return Ok(None),
            }
        }
    }

    /// Answers how many of them moved.
    async fn act_on(&self, jobs: Vec<(DueKind, Meta)>) -> Result<usize, StoreError> {
        let policies = self.policies(&jobs).await?;
        let now_ms = self.clock.now().wall_ms;
        let mut ops = Vec::with_capacity(jobs.len());
        for ((kind, meta), policy) in jobs.iter().zip(&policies) {
            let holder = match kind {
                DueKind::Lease | DueKind::Cancel if jobs.len() <= NAMED_MOST => self.holder_of(meta).await,
                _ => None,
            };
            let Holder { worker_id, session_id } = holder.unwrap_or_default();
            let subject = Subject { meta, policy, worker_id: &worker_id, session_id: &session_id };
            if let Some(act) = decide(subject, Event::Due(*kind), now_ms, clock::share()) {
                ops.push((*kind, Op { id: meta.id, guard: Guard::Due(*kind), act }));
            }
        }
        let kinds: Vec<DueKind> = ops.iter().map(|(kind, _)| *kind).collect();
        let ops: Vec<Op> = ops.into_iter().map(|(_, op)| op).collect();
        let metas: HashMap<JobId, &Meta> = jobs.iter().map(|(_, meta)| (meta.id, meta)).collect();
        let named: Vec<JobId> = ops.iter().map(|op| op.id).collect();
        let verdicts = self.apply(ops).await?;
        let moved = verdicts.iter().filter(|verdict| matches!(verdict, Verdict::Done(_))).count();
        for ((kind, id), verdict) in kinds.into_iter().zip(named).zip(verdicts) {
            match (kind, verdict) {
                (DueKind::Lease, Verdict::Done(facts)) => {
                    self.meters.lease_expired(metas[&id]);
                    warn!(job = %id, now = facts.state.name(), "a lease ran out");
                }
                (DueKind::Cancel | DueKind::Expire, Verdict::Done(facts)) => self.meters.ended_by_time(facts.state),
                (_, _) => {}
            }
        }
        Ok(moved)
    }

    /// Policies of those jobs whose end or repetition has to be decided; defaults for the rest.
    async fn policies(&self, jobs: &[(DueKind, Meta)]) -> Result<Vec<Policy>, StoreError> {
        let needs = |kind: DueKind| matches!(kind, DueKind::Lease | DueKind::Cancel | DueKind::Expire);
        let ids: Vec<JobId> = jobs.iter().filter(|(kind, _)| needs(*kind)).map(|(_, meta)| meta.id).collect();
        let mut read = if ids.is_empty() { Vec::new() } else { self.store.get(&ids, Parts::BODY).await? }.into_iter();
        let policy = |(kind, _): &(DueKind, Meta)| {
            let body = if needs(*kind) { read.next().flatten().and_then(|record| record.body) } else { None };
            body.map(|body| body.policy).unwrap_or_default()
        };
        Ok(jobs.iter().map(policy).collect())
    }
}
