//! Servers on one store, and workers that speak frames with them.
use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::sync::mpsc;

use super::store::TestStore;
use crate::{
    api::ProtoTasks,
    engine::{Engine, EngineConfig, SessionEnd, SessionHandle, clock::SystemClock},
    model::{
        ids::{JobId, LeaseToken},
        job::{JobSpec, Parts, Start},
        policy::RetrySpec,
        state::State,
        worker::{
            Capacity, Ended, Heartbeat, Held, Hello, JobLease, Report, ServerFrame, Subscription, Welcome, WorkerFrame,
            WorkerInfo, WorkerState,
        },
    },
    store::SharedStore,
};

pub const SHARDS: u16 = 4;

pub fn store() -> Arc<TestStore> {
    TestStore::new(SHARDS, Arc::new(SystemClock::default()))
}

/// A server with the usual times, or with leases that last so long where the worker wishes nothing.
pub fn server(store: &Arc<TestStore>) -> Engine {
    server_with(store.clone(), EngineConfig::default())
}

pub fn server_with(store: SharedStore, config: EngineConfig) -> Engine {
    Engine::start(config, store, Arc::new(SystemClock::default()), Arc::new(ProtoTasks))
}

pub fn job(queue: &str) -> JobSpec {
    JobSpec {
        id: None,
        kind: queue.parse().expect("a name"),
        queue: None,
        payload: None,
        headers: Vec::new(),
        priority: 0,
        start: Start::Now,
        expiry: None,
        timeout_ms: None,
        heartbeat_ms: None,
        total_ms: None,
        retry: RetrySpec::default(),
        tags: Vec::new(),
        retention_ms: None,
        dead_retention_ms: None,
        parent: None,
        fairness_key: String::new(),
        unique: None,
        idempotency: None,
        tick: None,
        depends_on: Vec::new(),
        member: None,
    }
}

pub async fn enqueue(engine: &Engine, queue: &str, count: usize) -> Vec<JobId> {
    let answers = engine.enqueue((0..count).map(|_| job(queue)).collect(), false).await;
    answers.into_iter().map(|answer| answer.expect("a job is taken").id).collect()
}

pub async fn state(engine: &Engine, id: JobId) -> State {
    engine.get(id, Parts::META).await.expect("the job is there").meta.state
}

pub fn hello(session_id: &str, queues: &[&str], slots: u32) -> Hello {
    Hello {
        session_id: session_id.into(),
        worker_id: format!("worker of {session_id}"),
        held: Vec::new(),
        types: Vec::new(),
        subscriptions: queues
            .iter()
            .map(|queue| Subscription {
                queue: queue.parse().expect("a pattern"),
                weight: 1,
                strict: false,
                max_slots: 0,
            })
            .collect(),
        capacity: Capacity { slots, max_bytes: 0, concurrency: 0 },
        state: WorkerState::Active,
        info: WorkerInfo::default(),
        revision: 1,
        lease_ttl_ms: None,
    }
}

/// A worker's end of a stream.
pub struct Worker {
    pub handle: SessionHandle,
    frames: mpsc::Receiver<ServerFrame>,
    seq: i64,
    pub welcome: Welcome,
    pub acked: i64,
    jobs: VecDeque<JobLease>,
    /// Frames with something else than jobs and acks, as they came.
    pub news: VecDeque<ServerFrame>,
    received: i64,
}

impl Worker {
    pub async fn connect(engine: &Engine, hello: Hello) -> Self {
        let (handle, mut frames) = engine.open_session(hello, 1).await.expect("a stream is opened");
        let first = frames.recv().await.expect("the first frame");
        let welcome = *first.welcome.expect("a welcome");
        let mut worker = Self {
            handle,
            frames,
            seq: 1,
            welcome,
            acked: 0,
            jobs: VecDeque::new(),
            news: VecDeque::new(),
            received: 1,
        };
        worker.jobs.extend(first.jobs);
        worker
    }

    /// Takes in the next frame; false = the stream has ended.
    pub async fn read(&mut self) -> bool {
        let frame = tokio::time::timeout(Duration::from_secs(20), self.frames.recv()).await;
        let Some(mut frame) = frame.expect("the server says something") else { return false };
        self.received = frame.seq;
        self.acked = self.acked.max(frame.acked_seq);
        self.jobs.extend(std::mem::take(&mut frame.jobs));
        self.news.push_back(frame);
        true
    }

    pub async fn send(&mut self, frame: WorkerFrame) {
        self.seq += 1;
        let frame = WorkerFrame { seq: self.seq, received_seq: self.received, ..frame };
        assert!(self.handle.frame(frame).await, "the session takes frames");
    }

    pub async fn next_job(&mut self) -> JobLease {
        loop {
            if let Some(job) = self.jobs.pop_front() {
                return job;
            }
            assert!(self.read().await, "the stream ended before a job came");
        }
    }

    pub async fn start(&mut self, token: LeaseToken) {
        self.send(WorkerFrame { started: vec![token], ..WorkerFrame::default() }).await;
    }

    pub async fn heartbeat(&mut self, held: Vec<LeaseToken>) -> i64 {
        let heartbeat = Some(Heartbeat { held, ..Heartbeat::default() });
        self.send(WorkerFrame { heartbeat, ..WorkerFrame::default() }).await;
        self.seq
    }

    /// Sends a success and does not wait for its ack.
    pub async fn finish(&mut self, token: LeaseToken) -> i64 {
        let report = Report {
            token,
            ended: Ended::Succeeded { result: None },
            run_ms: Some(1),
            checkpoint: None,
            enqueue: Vec::new(),
        };
        self.send(WorkerFrame { outcomes: vec![report], ..WorkerFrame::default() }).await;
        self.seq
    }

    pub async fn acked(&mut self, seq: i64) {
        while self.acked < seq {
            assert!(self.read().await, "the stream ended before frame {seq} was acknowledged");
        }
    }

    /// The first frame of which `find` finds something.
    pub async fn hears<T>(&mut self, find: impl Fn(&ServerFrame) -> Option<T>) -> T {
        loop {
            while let Some(frame) = self.news.pop_front() {
                if let Some(found) = find(&frame) {
                    return found;
                }
            }
            assert!(self.read().await, "the stream ended before that came");
        }
    }

    /// How the server ended it.
    pub async fn ended(mut self) -> SessionEnd {
        while self.read().await {}
        self.handle.ended().await
    }
}

/// A lease as a reconnecting worker names it.
pub fn held(token: LeaseToken) -> Held {
    Held { token, running_ms: Some(10) }
}
