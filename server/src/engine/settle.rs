//! From a reported outcome to a durable one: decide, apply, and decide again when the store knows more.
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    Inner, admit, clock,
    meters::Batch,
    transition::{Bound, Event, Subject, decide},
};
use crate::{
    model::{
        ids::{JobId, LeaseToken},
        job::{JobSpec, Meta, Parts},
        op::{Effect, Guard, Op, Verdict},
        policy::Policy,
        state::State,
        worker::{Ended, Rejection, RejectionReason, Report},
    },
    store::StoreError,
};

/// A job in hand, with what decisions about it need.
#[derive(Clone, Debug)]
pub struct Known {
    /// As it was leased, so RUNNING.
    pub meta: Meta,
    pub policy: Policy,
}

impl Known {
    /// What an attempt that has run for so long, and was silent for so long, has run past, and by how much.
    pub fn overran(&self, run_ms: i64, silent_ms: i64, wall_ms: i64) -> Option<(Bound, i64)> {
        let Self { meta, policy } = self;
        let silence = policy.heartbeat_ms.map(|most_ms| (Bound::Silence, silent_ms - most_ms));
        let total = (meta.deadline_ms != 0).then_some((Bound::Total, wall_ms - meta.deadline_ms));
        let bounds = [silence, total, Some((Bound::Timeout, run_ms - policy.timeout_ms))];
        let furthest = bounds.into_iter().flatten().max_by_key(|(_, over_ms)| *over_ms)?;
        (furthest.1 >= 0).then_some(furthest)
    }
}

/// One reported outcome on its way into the store.
#[derive(Debug)]
pub struct Settling {
    /// `None` = this server has not got the record yet.
    pub known: Option<Known>,
    pub report: Report,
}

/// Whose outcomes these are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    pub worker_id: String,
    pub session_id: String,
}

/// What became of a batch.
#[derive(Debug, Default)]
pub struct Settled {
    pub rejections: Vec<Rejection>,
    pub succeeded: u64,
    pub failed: u64,
}

impl Inner {
    /// Makes outcomes durable. Errors leave it unknown which of them are: the same call may be repeated.
    pub async fn settle(self: &Arc<Self>, holder: &Holder, batch: &mut [Settling]) -> Result<Settled, StoreError> {
        self.read_unknown(batch).await?;
        let mut done = Settled::default();
        let mut open: Vec<usize> = Vec::with_capacity(batch.len());
        for (index, item) in batch.iter().enumerate() {
            match &item.known {
                Some(_) => open.push(index),
                None => done.reject(&item.report, RejectionReason::UnknownLease, "no such job"),
            }
        }
        // A second round only for jobs that were asked to stop in the meantime.
        while !open.is_empty() {
            let ops = open.iter().map(|index| self.outcome_op(holder, &batch[*index])).collect();
            let verdicts = self.apply(ops).await?;
            let mut again = Vec::new();
            let mut counted = self.meters.batch();
            for (index, verdict) in open.into_iter().zip(verdicts) {
                let item = &mut batch[index];
                if let Verdict::CancelRequested(request) = verdict {
                    item.known.as_mut().expect("only known jobs are applied").meta.cancel = Some(request);
                    again.push(index);
                } else {
                    tally(item, verdict, &mut done, &mut counted);
                }
            }
            open = again;
        }
        Ok(done)
    }

    async fn read_unknown(&self, batch: &mut [Settling]) -> Result<(), StoreError> {
        let ids: Vec<JobId> = batch.iter().filter(|s| s.known.is_none()).map(|s| s.report.token.job).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let records = self.store.get(&ids, Parts::BODY).await?;
        for (item, record) in batch.iter_mut().filter(|s| s.known.is_none()).zip(records) {
            item.known = record.map(|record| Known {
                // The fence decides whether the outcome counts; what it would mean is decided as if it did.
                meta: Meta { state: State::Running, ..record.meta },
                policy: record.body.map(|body| body.policy).unwrap_or_default(),
            });
        }
        Ok(())
    }

    fn outcome_op(&self, holder: &Holder, item: &Settling) -> Op {
        let Known { meta, policy } = item.known.as_ref().expect("only known jobs are applied");
        let Settling { report, .. } = item;
        let now_ms = self.clock.now().wall_ms;
        let effects = self.spawned(meta, &report.enqueue, now_ms);
        let event = Event::Reported {
            ended: report.ended.clone(),
            run_ms: report.run_ms,
            checkpoint: report.checkpoint.clone(),
            effects,
        };
        let subject = Subject { meta, policy, worker_id: &holder.worker_id, session_id: &holder.session_id };
        let act = decide(subject, event, now_ms, clock::share()).expect("a running job takes every outcome");
        Op { id: report.token.job, guard: Guard::Token(report.token.secret), act }
    }

    /// The jobs that an outcome enqueues. Their ids are computed when none is proposed, so that a resent outcome names
    /// the same ones.
    fn spawned(&self, parent: &Meta, specs: &[JobSpec], now_ms: i64) -> Vec<Effect> {
        let child = |(index, spec): (usize, &JobSpec)| {
            let proposal = spec.id.unwrap_or_else(|| admit::spawned(parent.id, parent.delivery, index));
            let spec = JobSpec { parent: Some(parent.id), ..spec.clone() };
            let job = self.admit(JobSpec { id: Some(proposal), ..spec }, now_ms);
            Effect::Put(job.along())
        };
        specs.iter().enumerate().map(child).collect()
    }

    /// Gives leases back without an outcome, as `event` means it. Lost races are fine: somebody else decided.
    pub async fn give_back(&self, holder: &Holder, leases: Vec<(LeaseToken, Known, Event)>) -> Result<(), StoreError> {
        let mut open = leases;
        while !open.is_empty() {
            let now_ms = self.clock.now().wall_ms;
            let ops = open
                .iter()
                .filter_map(|(token, known, event)| {
                    let subject = Subject {
                        meta: &known.meta,
                        policy: &known.policy,
                        worker_id: &holder.worker_id,
                        session_id: &holder.session_id,
                    };
                    let act = decide(subject, event.clone(), now_ms, clock::share())?;
                    Some(Op { id: token.job, guard: Guard::Token(token.secret), act })
                })
                .collect::<Vec<_>>();
            debug_assert_eq!(ops.len(), open.len(), "a lease in hand belongs to a running job");
            let verdicts = self.apply(ops).await?;
            open = open
                .into_iter()
                .zip(verdicts)
                .filter_map(|((token, mut known, event), verdict)| match verdict {
                    Verdict::CancelRequested(request) => {
                        known.meta.cancel = Some(request);
                        Some((token, known, event))
                    }
                    _ => None,
                })
                .collect();
        }
        Ok(())
    }
}

impl Settled {
    fn reject(&mut self, report: &Report, reason: RejectionReason, message: &str) {
        self.rejections.push(Rejection { token: report.token.encode(), reason, message: message.to_owned() });
    }
}

fn tally(item: &Settling, verdict: Verdict, done: &mut Settled, counted: &mut Batch<'_>) {
    match verdict {
        Verdict::Done(facts) => {
            let known = item.known.as_ref().expect("only known jobs are applied");
            counted.ended(&known.meta, &item.report, facts.state);
            match item.report.ended {
                Ended::Succeeded { .. } => done.succeeded += 1,
                Ended::Failed { .. } => done.failed += 1,
                Ended::Snoozed { .. } | Ended::Cancelled { .. } | Ended::Released { .. } => {}
            }
        }
        Verdict::Already(_) => {}
        Verdict::Conflict(state) if state.is_terminal() => {
            done.reject(&item.report, RejectionReason::Finished, &format!("the job is {}", state.name()));
        }
        Verdict::Stale | Verdict::Conflict(_) => {
            done.reject(&item.report, RejectionReason::Superseded, "a later lease exists");
        }
        Verdict::NotFound => done.reject(&item.report, RejectionReason::UnknownLease, "no such job"),
        Verdict::CancelRequested(_) => unreachable!("decided again by the caller"),
        Verdict::KeyTaken(_) => unreachable!("an outcome takes no key"),
    }
}
