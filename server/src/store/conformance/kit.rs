//! Short words for what the topics do all the time.
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use super::Harness;
use crate::{
    model::{
        ids::{JobId, Name, Shard},
        job::{
            Attempt, AttemptResult, Body, BodyKind, Failure, FailureKind, Meta, Outcome, Parts, Payload, Record, Start,
        },
        op::{Act, Claim, Claimed, Due, DueKind, DueList, Guard, Leased, ListQuery, NewJob, Op, Put, Verdict, Wake},
        policy::Policy,
        queue::QueueFacts,
        state::{State, StateSet},
        time::{Clock, Now},
    },
    store::{SharedStore, StoreError},
};

/// The queue of topics that need only one.
pub const QUEUE: &str = "mail";
/// The life of leases unless a topic says otherwise.
pub const LEASE_MS: i64 = 10_000;

/// A harness with a vocabulary.
pub struct Kit {
    harness: Box<dyn Harness>,
    serial: u64,
}

impl Kit {
    pub fn new(harness: Box<dyn Harness>) -> Self {
        Self { harness, serial: 0 }
    }

    pub fn store(&self) -> SharedStore {
        self.harness.store()
    }

    pub fn now(&self) -> Now {
        self.harness.clock().now()
    }

    pub fn wall_ms(&self) -> i64 {
        self.now().wall_ms
    }

    pub fn advance(&self, ms: i64) {
        self.harness.clock().advance(ms);
    }

    pub fn step_wall(&self, ms: i64) {
        self.harness.clock().step_wall(ms);
    }

    /// Opens the store again; the life of the leases after it, if it outlives that.
    pub async fn reopen(&mut self) -> Option<i64> {
        self.harness.reopen().await
    }

    fn next(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// An id that nobody has.
    pub fn id(&mut self) -> JobId {
        let serial = self.next();
        JobId::stamp(Uuid::from_u128(u128::from(serial.wrapping_mul(0x9e37_79b9_7f4a_7c15)) | 1 << 100), Shard(0))
    }

    /// A job that may start now.
    pub fn job(&mut self, queue: &str) -> NewJob {
        NewJob {
            id: self.id(),
            kind: name("send"),
            queue: name(queue),
            priority: 0,
            start: Start::Now,
            expire_ms: 0,
            deadline_ms: 0,
            create_ms: self.wall_ms(),
            content: 7,
            unique: None,
            idempotency: None,
            fair: 0,
            overshoots: false,
            blocked: false,
            owner: None,
            body: body("task"),
        }
    }

    pub fn jobs(&mut self, queue: &str, n: usize) -> Vec<NewJob> {
        (0..n).map(|_| self.job(queue)).collect()
    }

    pub async fn put(&self, jobs: Vec<NewJob>) -> Vec<Put> {
        self.store().put(Shard(0), jobs).await.expect("the store takes jobs")
    }

    /// Records a job that may start now.
    pub async fn put_one(&mut self, queue: &str) -> JobId {
        self.put_with(queue, |_| {}).await
    }

    /// Records a job after `change` was made to it.
    pub async fn put_with(&mut self, queue: &str, change: impl FnOnce(&mut NewJob)) -> JobId {
        let mut job = self.job(queue);
        change(&mut job);
        let id = job.id;
        let answers = self.put(vec![job]).await;
        assert!(matches!(answers[..], [Put::Created { .. }]), "a new job is created: {answers:?}");
        id
    }

    /// A claim with fresh secrets.
    pub fn claim_of(&mut self, queue: &str, want: usize) -> Claim {
        let secrets = (0..want).map(|_| self.next() | 1 << 63).collect();
        Claim { queue: name(queue), secrets, from_bottom: 0, bytes: usize::MAX, lease_ms: LEASE_MS, started: false }
    }

    pub async fn claim_as(&self, claim: Claim) -> Claimed {
        self.store().claim(Shard(0), claim).await.expect("the store hands out jobs")
    }

    pub async fn claim(&mut self, queue: &str, want: usize) -> Vec<Leased> {
        let claim = self.claim_of(queue, want);
        self.claim_as(claim).await.jobs
    }

    /// Leases the one job that is expected to be next.
    pub async fn lease(&mut self, queue: &str, id: JobId) -> Leased {
        let mut jobs = self.claim(queue, 1).await;
        assert_eq!(jobs.iter().map(|job| job.meta.id).collect::<Vec<_>>(), [id], "the next job");
        jobs.remove(0)
    }

    /// A running job, and the secret of its lease.
    pub async fn running(&mut self, queue: &str) -> (JobId, u64) {
        let id = self.put_one(queue).await;
        (id, self.lease(queue, id).await.secret)
    }

    pub async fn apply(&self, ops: Vec<Op>) -> Vec<Verdict> {
        self.store().apply(Shard(0), ops).await.expect("the store applies changes")
    }

    pub async fn act(&self, id: JobId, guard: Guard, act: Act) -> Verdict {
        self.apply(vec![Op { id, guard, act }]).await.remove(0)
    }

    /// An act that must be applied: the state after it.
    pub async fn done(&self, id: JobId, guard: Guard, act: Act) -> State {
        match self.act(id, guard, act.clone()).await {
            Verdict::Done(facts) => facts.state,
            other => panic!("{act:?} under {guard:?} gave {other:?}"),
        }
    }

    pub async fn find(&self, id: JobId, parts: Parts) -> Option<Record> {
        self.store().get(&[id], parts).await.expect("the store reads").remove(0)
    }

    pub async fn record(&self, id: JobId) -> Record {
        self.find(id, Parts::ALL).await.expect("the job is there")
    }

    pub async fn meta(&self, id: JobId) -> Meta {
        self.find(id, Parts::META).await.expect("the job is there").meta
    }

    pub async fn state(&self, id: JobId) -> State {
        self.meta(id).await.state
    }

    pub async fn due(&self, limit: usize) -> DueList {
        self.store().due(Shard(0), limit).await.expect("the store says what is due")
    }

    /// What is due, in short.
    pub async fn due_jobs(&self) -> Vec<(DueKind, JobId)> {
        let jobs = self.due(usize::MAX).await.entries.into_iter().filter_map(|entry| match entry {
            Due::Job { kind, meta } => Some((kind, meta.id)),
            Due::QueueOpens(_) | Due::Doc { .. } => None,
        });
        jobs.collect()
    }

    pub async fn next_in(&self) -> Option<i64> {
        self.due(usize::MAX).await.next_in_ms
    }

    pub async fn list(&self, queue: &str, state: State) -> Vec<JobId> {
        let query = ListQuery { queue: name(queue), state, after: None, limit: usize::MAX };
        self.store().list(query).await.expect("the store lists").into_iter().map(|meta| meta.id).collect()
    }

    pub async fn facts(&self, queue: &str) -> QueueFacts {
        let names = [name(queue)];
        self.store().queues(Some(&names)).await.expect("the store knows queues").pop().expect("the queue is there")
    }

    /// The store agrees with itself, and shows the same when it is opened again.
    pub async fn check(&mut self) {
        let before = match self.store().queues(None).await {
            Ok(queues) => queues,
            Err(StoreError::Closed) => return,
            Err(error) => panic!("the store answers: {error}"),
        };
        self.recount().await;
        if self.reopen().await.is_some() {
            assert_eq!(self.store().queues(None).await.expect("it answers again"), before, "after opening again");
            self.recount().await;
        }
    }

    pub async fn recount(&self) {
        let wrong = self.store().recount().await.expect("the store counts");
        assert!(wrong.is_empty(), "recount: {wrong:#?}");
    }
}

/// A name from a test.
pub fn name(text: &str) -> Name {
    text.parse().expect("tests use valid names")
}

/// An encoded body whose task is these bytes.
pub fn body(task: &str) -> Bytes {
    Body { policy: Policy::default(), task: Bytes::copy_from_slice(task.as_bytes()) }.encode()
}

pub fn payload(text: &str) -> Payload {
    Payload {
        kind: BodyKind::Text,
        bytes: Bytes::copy_from_slice(text.as_bytes()),
        content_type: String::new(),
        content_encoding: String::new(),
    }
}

pub fn failure(message: &str) -> Failure {
    Failure::new(FailureKind::Application, message)
}

/// How the lease with this number ended.
pub fn attempt(delivery: u32, result: AttemptResult) -> Attempt {
    Attempt {
        attempt: delivery,
        delivery,
        worker_id: "host/1".to_owned(),
        session_id: "s".to_owned(),
        start_ms: 1,
        finish_ms: 2,
        result,
        failure: None,
        run_ms: Some(1),
        wait_ms: 0,
    }
}

pub fn failed(delivery: u32, message: &str) -> Outcome {
    let last = Some(attempt(delivery, AttemptResult::Failed));
    Outcome { result: None, failure: Some(failure(message)), last }
}

pub fn finish(to: State) -> Act {
    Act::Finish { to, outcome: Outcome::default(), retain_ms: 3_600_000, effects: Vec::new() }
}

pub fn extend(lease_ms: i64) -> Act {
    Act::Extend { lease_ms, started: false, progress: None, checkpoint: None }
}

pub fn started(lease_ms: i64) -> Act {
    Act::Extend { lease_ms, started: true, progress: None, checkpoint: None }
}

/// RETRYING after the failure of this delivery.
pub fn retry_in(delay_ms: i64, delivery: u32) -> Act {
    Act::Later {
        to: State::Retrying,
        delay_ms,
        counts: true,
        outcome: Some(failed(delivery, "boom")),
        checkpoint: None,
        throttle: None,
        effects: Vec::new(),
    }
}

/// SCHEDULED, nothing said of how it went.
pub fn later(delay_ms: i64) -> Act {
    Act::Later {
        to: State::Scheduled,
        delay_ms,
        counts: false,
        outcome: None,
        checkpoint: None,
        throttle: None,
        effects: Vec::new(),
    }
}

pub fn ready() -> Act {
    Act::Ready { front: false, crashed: false, attempt: None, checkpoint: None }
}

/// What the reaper does with a lease whose handler had started.
pub fn crashed() -> Act {
    Act::Ready { front: true, crashed: true, attempt: None, checkpoint: None }
}

pub fn give_back() -> Act {
    Act::Ready { front: true, crashed: false, attempt: None, checkpoint: None }
}

pub fn requeue() -> Act {
    Act::Requeue { failures: 0, delay_ms: 0, queue: None, body: None, keep: None }
}

pub fn request_cancel(grace_ms: Option<i64>) -> Act {
    Act::RequestCancel { reason: "enough".to_owned(), grace_ms }
}

/// A patch that changes nothing.
pub fn no_patch() -> Act {
    Act::Patch { queue: None, priority: None, start: None, body: None, content: None }
}

pub const ANY: Guard = Guard::In(StateSet::ANY);

/// The wakes raised so far. Those of a shared store come by a way of their own: what was told last marks the end.
pub async fn drain(kit: &Kit, wakes: &mut tokio::sync::broadcast::Receiver<Wake>) -> Vec<Wake> {
    if !kit.store().is_shared() {
        return std::iter::from_fn(|| wakes.try_recv().ok()).collect();
    }
    let end = Bytes::from(Uuid::new_v4().into_bytes().to_vec());
    kit.store().tell(end.clone()).await.expect("the store carries messages");
    let mut raised = Vec::new();
    loop {
        let wake = tokio::time::timeout(Duration::from_secs(10), wakes.recv()).await;
        match wake.expect("what was told is heard").expect("the store is open") {
            Wake::Told(told) if told == end => return raised,
            wake => raised.push(wake),
        }
    }
}
