//! The stream's unary twins: long-poll for jobs, report, renew. Same dispatcher, tokens and fence.
use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use tokio::sync::mpsc;

use super::{
    Engine, LeaseRequest,
    dispatch::{Event as ToDispatch, Joining, Types, Window},
    session,
    settle::{Holder, Known, Settling},
    transition::{Bound, Event, allowance_ms, short},
};
use crate::{
    model::{
        ids::{JobId, LeaseToken},
        job::{FailureKind, Meta, Parts, Record},
        limits::STORE_BATCH,
        op::{Act, Guard, Leased, Op, Verdict},
        state::State,
        worker::{
            CancelOrder, Ended, FailureAction, JobLease, LogReport, OVERRUN_ORDER_MS, OVERRUN_SETTLE_MS,
            ProgressReport, Rejection, Report,
        },
    },
    store::StoreError,
};

/// Bodies of one answer together, so that it stays below the limit of a message.
const ANSWER_BYTES: u64 = 2 << 20;

impl Engine {
    /// Long-polls for jobs. Delivery and start in one: the leases are full ones.
    pub async fn lease_jobs(&self, request: LeaseRequest) -> Result<Vec<JobLease>, StoreError> {
        let inner = &self.0;
        if inner.draining() {
            return Err(StoreError::Closed);
        }
        let key = inner.keys.fetch_add(1, Relaxed);
        let (events, mut inbox) = mpsc::channel(8);
        let known_queues = inner.matching_queues(&request.subscriptions).await?;
        let window =
            Window { slots: request.max_jobs as u32, max_bytes: ANSWER_BYTES, concurrency: 0, accepting: true };
        let types = Types::new(&request.types);
        let subscriptions = request.subscriptions;
        let joining = Joining { key, events, types, subscriptions, known_queues, window, held: Vec::new() };
        inner.dispatch_event(ToDispatch::Join(Box::new(joining))).await;
        let first = async {
            while let Some(event) = inbox.recv().await {
                if let session::Event::Deliver(jobs) = event {
                    return jobs;
                }
            }
            Vec::new()
        };
        let wait = Duration::from_millis(request.wait_ms.max(1) as u64);
        let mut jobs = tokio::time::timeout(wait, first).await.unwrap_or_default();
        inner.dispatch_event(ToDispatch::Leave(key)).await;
        // What was on its way is taken along.
        inbox.close();
        while let Some(event) = inbox.recv().await {
            if let session::Event::Deliver(more) = event {
                jobs.extend(more);
            }
        }
        self.begin(jobs, request.lease_ms).await
    }

    /// Makes delivery leases full ones, started.
    async fn begin(&self, jobs: Vec<Leased>, lease_ms: i64) -> Result<Vec<JobLease>, StoreError> {
        let extend = |job: &Leased| Op {
            id: job.meta.id,
            guard: Guard::Token(job.secret),
            act: Act::Extend { lease_ms, started: true, progress: None, checkpoint: None },
        };
        let verdicts = self.0.apply(jobs.iter().map(extend).collect()).await?;
        let wall_ms = self.wall_ms();
        let mut leases = Vec::with_capacity(jobs.len());
        let mut damaged = Vec::new();
        for (job, verdict) in jobs.into_iter().zip(verdicts) {
            let token = LeaseToken { job: job.meta.id, secret: job.secret };
            match (job.body, verdict) {
                (Some(body), Verdict::Done(_)) => leases.push(JobLease {
                    token,
                    task: self.0.codec.complete(&body.task, &job.meta),
                    attempt: job.meta.failures + 1,
                    max_attempts: body.policy.retry.max_attempts,
                    delivery: job.meta.delivery,
                    timeout_ms: allowance_ms(&job.meta, &body.policy, wall_ms),
                    heartbeat_ms: body.policy.heartbeat_ms,
                    checkpoint: job.checkpoint,
                    last_failure: job.last_failure.map(|failure| short(&failure)),
                    wait_ms: (job.meta.start_ms - job.meta.ready_ms).max(0),
                    crashes: job.meta.crashes,
                    passed: job.passed,
                }),
                (None, Verdict::Done(_)) => damaged.push(unprocessable(token)),
                (_, _) => {}
            }
        }
        if !damaged.is_empty() {
            self.0.settle(&Holder::default(), &mut damaged).await?;
        }
        Ok(leases)
    }

    /// Applies outcomes of leases taken by either way. Durable on return.
    pub async fn report(
        &self,
        reports: Vec<Report>,
        progress: Vec<ProgressReport>,
        logs: Vec<LogReport>,
    ) -> Result<Vec<Rejection>, StoreError> {
        for LogReport { token, lines } in logs {
            self.0.store.log(token.job, lines, self.limits().log_lines).await?;
            self.0.hub.touched(token.job);
        }
        let wall_ms = self.wall_ms();
        let extend = |report: ProgressReport| Op {
            id: report.token.job,
            guard: Guard::Token(report.token.secret),
            act: Act::Extend {
                lease_ms: 0,
                started: true,
                progress: report.progress.map(|mut progress| {
                    progress.update_ms = wall_ms;
                    progress
                }),
                checkpoint: report.checkpoint,
            },
        };
        self.0.apply(progress.into_iter().map(extend).collect()).await?;
        let mut rejections = Vec::new();
        let mut rest: Vec<Settling> = reports.into_iter().map(|report| Settling { known: None, report }).collect();
        for batch in rest.chunks_mut(STORE_BATCH) {
            rejections.extend(self.0.settle(&Holder::default(), batch).await?.rejections);
        }
        self.0.meters.rejected(&rejections);
        Ok(rejections)
    }

    /// Renews leases: those that are lost or settled, and orders to stop. No session looks after the time of such jobs, so
    /// it is looked at here: who runs past it is ordered to stop, and in the end loses the lease.
    pub async fn extend(
        &self,
        tokens: Vec<LeaseToken>,
        lease_ms: i64,
    ) -> Result<(Vec<LeaseToken>, Vec<CancelOrder>), StoreError> {
        let op = |token: &LeaseToken| Op {
            id: token.job,
            guard: Guard::Token(token.secret),
            act: Act::Extend { lease_ms, started: true, progress: None, checkpoint: None },
        };
        let verdicts = self.0.apply(tokens.iter().map(op).collect()).await?;
        let wall_ms = self.wall_ms();
        let (mut alive, mut lost, mut cancels) = (Vec::new(), Vec::new(), Vec::new());
        for (token, verdict) in tokens.into_iter().zip(verdicts) {
            match verdict {
                Verdict::Done(facts) => match facts.cancel {
                    Some(request) => cancels.push(CancelOrder::requested(token, &request, wall_ms)),
                    None => alive.push(token),
                },
                _ => lost.push(token),
            }
        }
        let ids: Vec<JobId> = alive.iter().map(|token| token.job).collect();
        let records = self.0.store.get(&ids, Parts { body: true, progress: true, ..Parts::META }).await?;
        let mut settled = Vec::new();
        for (token, record) in alive.into_iter().zip(records) {
            let Some((known, bound, over_ms)) = record.and_then(|record| overran(record, wall_ms)) else { continue };
            if over_ms >= OVERRUN_SETTLE_MS {
                settled.push((token, known, Event::Overran(bound)));
                lost.push(token);
            } else if over_ms >= OVERRUN_ORDER_MS {
                cancels.push(CancelOrder::overran(token, bound.message(&known.meta, &known.policy)));
            }
        }
        self.0.give_back(&Holder::default(), settled).await?;
        Ok((lost, cancels))
    }
}

/// What the attempt with this record has run past, and by how much.
fn overran(record: Record, now_ms: i64) -> Option<(Known, Bound, i64)> {
    let Record { meta, body, progress, .. } = record;
    let known = Known { meta: Meta { state: State::Running, ..meta }, policy: body?.policy };
    let start_ms = known.meta.start_ms;
    let heard_ms = progress.map_or(start_ms, |progress| progress.update_ms.max(start_ms));
    let (bound, over_ms) = known.overran(now_ms - start_ms, now_ms - heard_ms, now_ms)?;
    Some((known, bound, over_ms))
}

fn unprocessable(token: LeaseToken) -> Settling {
    let failure = crate::model::job::Failure::new(FailureKind::Unprocessable, "the stored job is damaged");
    let ended = Ended::Failed { failure, action: FailureAction::Stop, retry_delay_ms: None };
    Settling { known: None, report: Report { token, ended, run_ms: None, checkpoint: None, enqueue: Vec::new() } }
}
