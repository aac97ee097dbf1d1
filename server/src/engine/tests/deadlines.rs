//! Attempts that run past what they are held to: ordered to stop, then settled by the server, and what comes late counts no
//! more.
use std::sync::Arc;

use super::{
    kit::{SHARDS, Worker, hello, job, state},
    store::{TestStore, until},
};
use crate::{
    api::ProtoTasks,
    engine::{Engine, EngineConfig, LeaseRequest, clock::ManualClock},
    model::{
        ids::{JobId, LeaseToken},
        job::{AttemptResult, FailureKind, JobSpec, Parts, Progress, Record},
        op::Wake,
        state::State,
        worker::{CancelOrder, CancelReason, ProgressReport, WorkerFrame},
    },
};

struct Site {
    clock: Arc<ManualClock>,
    store: Arc<TestStore>,
    engine: Engine,
}

impl Site {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::at(1_700_000_000_000));
        let store = TestStore::new(SHARDS, clock.clone());
        let engine = Engine::start(EngineConfig::default(), store.clone(), clock.clone(), Arc::new(ProtoTasks));
        Self { clock, store, engine }
    }

    async fn put(&self, job: JobSpec) -> JobId {
        self.engine.enqueue(vec![job], false).await.remove(0).expect("the job is taken").id
    }

    async fn record(&self, id: JobId) -> Record {
        self.engine.get(id, Parts::ALL).await.expect("the job is there")
    }

    /// Time passes for a worker that is there all the while.
    async fn pass(&self, worker: &mut Worker, held: &[LeaseToken], ms: i64) {
        let mut left = ms;
        loop {
            // What was sent so far was sent before.
            let seq = worker.heartbeat(held.to_vec()).await;
            worker.acked(seq).await;
            if left == 0 {
                return;
            }
            let step = left.min(8_000);
            self.clock.advance(step);
            left -= step;
        }
    }

    /// Time passes and the timers look.
    async fn wait(&self, ms: i64) {
        self.clock.advance(ms);
        self.store.wake(Wake::Reset);
    }
}

fn order(worker_hears: &crate::model::worker::ServerFrame) -> Option<CancelOrder> {
    worker_hears.cancels.first().cloned()
}

fn kind(record: &Record) -> Option<FailureKind> {
    record.outcome.as_ref()?.failure.as_ref().map(|failure| failure.kind)
}

async fn progress(worker: &mut Worker, token: LeaseToken) {
    let report = ProgressReport { token, progress: Some(Progress::default()), checkpoint: None };
    worker.send(WorkerFrame { progress: vec![report], ..WorkerFrame::default() }).await;
}

#[tokio::test]
async fn a_silent_handler_is_ordered_to_stop_then_its_attempt_is_settled_as_stalled() {
    let site = Site::new();
    let id = site.put(JobSpec { heartbeat_ms: Some(5_000), ..job("q") }).await;
    let mut worker = Worker::connect(&site.engine, hello("s", &["q"], 1)).await;
    let lease = worker.next_job().await;
    assert_eq!(lease.heartbeat_ms, Some(5_000));
    worker.start(lease.token).await;
    // Progress is a sign of life, though a heartbeat of the worker is none.
    site.pass(&mut worker, &[lease.token], 14_000).await;
    progress(&mut worker, lease.token).await;
    site.pass(&mut worker, &[lease.token], 14_999).await;
    assert!(worker.news.iter().all(|frame| frame.cancels.is_empty()), "the worker has 10 s to end it itself");
    site.pass(&mut worker, &[lease.token], 1).await;
    let order = worker.hears(order).await;
    assert_eq!((order.token, order.reason, order.grace_ms), (lease.token, CancelReason::Timeout, Some(20_000)));
    assert_eq!(order.message, "no progress for longer than 5 s");
    site.pass(&mut worker, &[lease.token], 20_000).await;
    until("the server settles it", async || state(&site.engine, id).await == State::Retrying).await;
    let record = site.record(id).await;
    assert_eq!((kind(&record), record.meta.failures, record.meta.crashes), (Some(FailureKind::Stalled), 1, 0));
    assert_eq!(record.attempts[0].result, AttemptResult::TimedOut);
    // What it says now comes too late.
    let late = worker.finish(lease.token).await;
    worker.acked(late).await;
    assert_eq!(state(&site.engine, id).await, State::Retrying);
}

#[tokio::test]
async fn an_attempt_past_its_timeout_is_settled_and_its_late_outcome_refused() {
    let site = Site::new();
    let id = site.put(JobSpec { timeout_ms: Some(1_000), ..job("q") }).await;
    let mut worker = Worker::connect(&site.engine, hello("s", &["q"], 2)).await;
    let first = worker.next_job().await;
    assert_eq!((first.timeout_ms, first.heartbeat_ms), (1_000, None));
    worker.start(first.token).await;
    site.pass(&mut worker, &[first.token], 11_000).await;
    assert_eq!(worker.hears(order).await.message, "ran longer than its timeout of 1 s");
    site.pass(&mut worker, &[first.token], 20_000).await;
    until("the server settles it", async || state(&site.engine, id).await == State::Retrying).await;
    assert_eq!(kind(&site.record(id).await), Some(FailureKind::Timeout));
    site.wait(2_000).await;
    let second = worker.next_job().await;
    assert_eq!((second.token.job, second.attempt, second.crashes), (id, 2, 0));
    worker.finish(first.token).await;
    let rejected = worker.hears(|frame| frame.rejections.first().cloned()).await;
    assert_eq!(rejected.token, first.token.encode());
    assert_eq!(state(&site.engine, id).await, State::Running);
}

#[tokio::test]
async fn a_total_timeout_cuts_the_attempt_and_ends_the_job_as_expired() {
    let site = Site::new();
    let id = site.put(JobSpec { total_ms: Some(60_000), timeout_ms: Some(600_000), ..job("q") }).await;
    let other = site.put(JobSpec { total_ms: Some(60_000), ..job("other") }).await;
    site.clock.advance(20_000);
    let mut worker = Worker::connect(&site.engine, hello("s", &["q"], 1)).await;
    let lease = worker.next_job().await;
    assert_eq!(lease.timeout_ms, 40_000, "what is left");
    worker.start(lease.token).await;
    site.pass(&mut worker, &[lease.token], 39_999).await;
    assert_eq!(state(&site.engine, other).await, State::Ready);
    site.pass(&mut worker, &[lease.token], 1).await;
    site.store.wake(Wake::Reset);
    until("who waits expires", async || state(&site.engine, other).await == State::Expired).await;
    assert_eq!(kind(&site.record(other).await), Some(FailureKind::Expired));
    assert_eq!(state(&site.engine, id).await, State::Running);
    site.pass(&mut worker, &[lease.token], 10_000).await;
    assert_eq!(worker.hears(order).await.message, "not finished within its total_timeout of 60 s");
    site.pass(&mut worker, &[lease.token], 20_000).await;
    until("the server settles it", async || state(&site.engine, id).await == State::Expired).await;
    let record = site.record(id).await;
    assert_eq!((kind(&record), record.meta.failures), (Some(FailureKind::Timeout), 1));
}

/// No session looks after jobs that are leased by a call.
#[tokio::test]
async fn leases_of_unary_workers_are_held_to_their_time_when_they_are_renewed() {
    let site = Site::new();
    let id = site.put(JobSpec { timeout_ms: Some(1_000), ..job("q") }).await;
    let request = LeaseRequest {
        types: Vec::new(),
        subscriptions: hello("u", &["q"], 1).subscriptions,
        max_jobs: 1,
        wait_ms: 5_000,
        lease_ms: 60_000,
        worker_id: "unary".into(),
    };
    let token = site.engine.lease_jobs(request).await.expect("the store answers")[0].token;
    let extend = async || site.engine.extend(vec![token], 60_000).await.expect("the store answers");
    site.clock.advance(10_999);
    assert_eq!(extend().await, (vec![], vec![]));
    site.clock.advance(1);
    let (lost, cancels) = extend().await;
    assert_eq!((lost, cancels[0].token, cancels[0].reason), (vec![], token, CancelReason::Timeout));
    site.clock.advance(20_000);
    assert_eq!(extend().await, (vec![token], vec![]));
    let record = site.record(id).await;
    assert_eq!((record.meta.state, kind(&record)), (State::Retrying, Some(FailureKind::Timeout)));
}
