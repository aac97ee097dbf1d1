//! `Engine`: the only type that api, web and serve see. Policy lives in the pure files below it (`transition`, `admit`,
//! `retry`, `order`), effects in the tasks (`dispatch`, `session`, `leases`, `timers`).
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    model::{
        filter::Filter,
        ids::{JobId, LeaseToken, Pattern, QueueName},
        job::{JobSpec, LogLine, Parts, Payload, Progress, Record, Start},
        limits::Limits,
        policy::RetrySpec,
        queue::QueueFacts,
        state::State,
        worker::{
            CancelOrder, Directive, Hello, JobLease, LogReport, ProgressReport, Rejection, Report, Subscription,
            Welcome, WorkerFrame, WorkerView,
        },
    },
    store::{StoreError, StoreInfo},
};

/// What became of one enqueue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enqueued {
    pub id: JobId,
    /// The id was there before with the same content: the first job stands.
    pub duplicate: bool,
    pub state: State,
    /// When it becomes, or became, runnable.
    pub ready_ms: i64,
}

/// Why a job was not enqueued.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EnqueueError {
    #[error("job {0} exists with another type or payload")]
    IdConflict(JobId),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a call about one job, or one item of a bulk call, failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum JobError {
    #[error("no job {0}")]
    NotFound(JobId),
    #[error("the job is running")]
    Running,
    #[error("the job is terminal: {}", .0.name())]
    Terminal(State),
    #[error("the job is {} and not in a state that this call changes", .0.name())]
    WrongState(State),
    /// The etag is of an older record.
    #[error("the record has changed since it was read")]
    EtagMismatch,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Where a list or a bulk call goes on. Opaque to clients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cursor {
    pub queue: QueueName,
    pub state: State,
    pub after: Option<crate::model::op::Place>,
    /// When the first call was made: what changes meanwhile is not caught twice.
    pub since_ms: i64,
}

/// One page of jobs. `next` set = there may be more, even when `jobs` is short or empty.
#[derive(Debug, Default)]
pub struct JobPage {
    pub jobs: Vec<Record>,
    pub next: Option<Cursor>,
}

/// Which jobs a bulk call is about.
#[derive(Debug)]
pub enum Selector {
    Ids(Vec<JobId>),
    Filter(Filter),
}

/// A bounded bulk call.
#[derive(Debug)]
pub struct Bulk {
    pub selector: Selector,
    /// Changed items at most.
    pub limit: usize,
    pub cursor: Option<Cursor>,
    pub dry_run: bool,
}

/// What a bulk call did.
#[derive(Debug, Default)]
pub struct BulkDone {
    pub matched: usize,
    pub affected: usize,
    /// At most 100.
    pub sample: Vec<JobId>,
    /// At most 100.
    pub errors: Vec<(JobId, JobError)>,
    pub next: Option<Cursor>,
}

/// CancelJobs.
#[derive(Clone, Debug, Default)]
pub struct Cancel {
    pub reason: String,
    /// For running ones; `None` = as long as it takes.
    pub grace_ms: Option<i64>,
}

/// RetryJobs.
#[derive(Clone, Debug, Default)]
pub struct Retry {
    pub reset_attempts: bool,
    pub spread_ms: i64,
    pub queue: Option<QueueName>,
}

/// UpdateJobs. What is `None` stays.
#[derive(Clone, Debug, Default)]
pub struct Patch {
    pub priority: Option<i8>,
    pub queue: Option<QueueName>,
    pub start: Option<Start>,
    pub retry: Option<RetrySpec>,
    pub timeout_ms: Option<i64>,
    pub payload: Option<Payload>,
}

/// What happened to a watched job.
#[derive(Debug)]
pub enum JobEvent {
    /// The record changed. Boxed: FULL once it is terminal, then nothing follows.
    Record(Box<Record>),
    Progress(Progress),
    Lines(Vec<LogLine>),
}

/// Numbers of one queue or of all, beyond what the store counts.
#[derive(Clone, Debug)]
pub struct QueueView {
    pub facts: QueueFacts,
    pub rates: Rates,
    pub workers: u32,
    pub slots: u32,
    pub slots_busy: u32,
    pub unhandled: Vec<(String, u64)>,
}

/// Per second, over the last minute, on this server; and percentiles of the same minute.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rates {
    pub enqueued: f64,
    pub started: f64,
    pub succeeded: f64,
    pub failed: f64,
    pub wait: Percentiles,
    pub run: Percentiles,
}

/// Milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Percentiles {
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
    pub max: f64,
}

/// Unary LeaseJobs.
#[derive(Clone, Debug)]
pub struct LeaseRequest {
    pub types: Vec<Pattern>,
    pub subscriptions: Vec<Subscription>,
    pub max_jobs: usize,
    pub wait_ms: i64,
    pub lease_ms: i64,
    pub worker_id: String,
}

/// Everything the server can do. Cheap to clone.
#[derive(Clone)]
pub struct Engine {}

#[allow(unused_variables)]
impl Engine {
    pub fn limits(&self) -> &Limits {
        unimplemented!()
    }
    /// Wall clock of the server, milliseconds.
    pub fn wall_ms(&self) -> i64 {
        unimplemented!()
    }
    pub fn server_id(&self) -> &str {
        unimplemented!()
    }
    /// Milliseconds since the server started.
    pub fn uptime_ms(&self) -> i64 {
        unimplemented!()
    }
    /// Records jobs; one answer per job, in order. `dry_run` checks without recording.
    pub async fn enqueue(&self, jobs: Vec<JobSpec>, dry_run: bool) -> Vec<Result<Enqueued, EnqueueError>> {
        unimplemented!()
    }
    pub async fn get(&self, id: JobId, parts: Parts) -> Result<Record, JobError> {
        unimplemented!()
    }
    /// Decodes the task of a record's body.
    pub fn task(&self, record: &Record) -> Option<crate::model::job::Task> {
        unimplemented!()
    }
    pub async fn list(
        &self,
        filter: &Filter,
        cursor: Option<Cursor>,
        page: usize,
        parts: Parts,
    ) -> Result<JobPage, StoreError> {
        unimplemented!()
    }
    pub async fn logs(&self, id: JobId, after: u64, min_level: u8, limit: usize) -> Result<Vec<LogLine>, JobError> {
        unimplemented!()
    }
    /// The record once it is terminal, or as it is when the time is up.
    pub async fn wait(&self, id: JobId, timeout_ms: i64, parts: Parts) -> Result<Record, JobError> {
        unimplemented!()
    }
    /// The record now, then its changes until it is terminal. `logs_after`: also lines after that index.
    pub async fn watch(
        &self,
        id: JobId,
        logs_after: Option<u64>,
    ) -> Result<tokio::sync::mpsc::Receiver<Result<JobEvent, JobError>>, JobError> {
        unimplemented!()
    }
    /// Resolves when the job is terminal (with its record) or found to be absent (`None`). For AwaitResults.
    pub async fn ended(&self, id: JobId) -> Result<Option<Record>, StoreError> {
        unimplemented!()
    }
    pub async fn cancel(&self, bulk: Bulk, cancel: Cancel) -> Result<BulkDone, StoreError> {
        unimplemented!()
    }
    pub async fn retry(&self, bulk: Bulk, retry: Retry) -> Result<BulkDone, StoreError> {
        unimplemented!()
    }
    /// `version`: refuse unless the record still has it (single id).
    pub async fn update(&self, bulk: Bulk, patch: Patch, version: Option<u32>) -> Result<BulkDone, StoreError> {
        unimplemented!()
    }
    /// `force`: also those that are not terminal.
    pub async fn delete(&self, bulk: Bulk, force: bool) -> Result<BulkDone, StoreError> {
        unimplemented!()
    }
    /// By name; `None` = all.
    pub async fn queues(&self, names: Option<Vec<QueueName>>) -> Result<Vec<QueueView>, StoreError> {
        unimplemented!()
    }
    /// Answers once no lease can be issued any more. Makes the queues that are not there.
    pub async fn pause(
        &self,
        names: Vec<QueueName>,
        reason: String,
        actor: String,
        duration_ms: Option<i64>,
    ) -> Result<Vec<QueueName>, StoreError> {
        unimplemented!()
    }
    pub async fn resume(&self, names: Vec<QueueName>) -> Result<Vec<QueueName>, StoreError> {
        unimplemented!()
    }
    pub async fn store_info(&self) -> Result<StoreInfo, StoreError> {
        unimplemented!()
    }
    /// Connected workers, by session id.
    pub fn workers(&self) -> Vec<WorkerView> {
        unimplemented!()
    }
    /// What a session holds.
    pub async fn held_jobs(&self, session_id: &str, limit: usize) -> Result<Vec<Record>, StoreError> {
        unimplemented!()
    }
    /// Sets the wanted state of these sessions; answers which of them are known.
    pub async fn signal(&self, session_ids: Vec<String>, directive: Directive) -> Result<Vec<String>, StoreError> {
        unimplemented!()
    }
    /// Opens a worker's stream: what to send frames into, and the frames to write. The first frame carries the welcome.
    pub async fn open_session(
        &self,
        hello: Hello,
        hello_seq: i64,
    ) -> Result<(SessionHandle, tokio::sync::mpsc::Receiver<crate::model::worker::ServerFrame>), StoreError> {
        unimplemented!()
    }
    /// Long-polls for jobs.
    pub async fn lease_jobs(&self, request: LeaseRequest) -> Result<Vec<JobLease>, StoreError> {
        unimplemented!()
    }
    /// Applies outcomes of leases taken by either way. Durable on return.
    pub async fn report(
        &self,
        reports: Vec<Report>,
        progress: Vec<ProgressReport>,
        logs: Vec<LogReport>,
    ) -> Result<Vec<Rejection>, StoreError> {
        unimplemented!()
    }
    /// Renews leases: those that are lost or settled, and orders to stop.
    pub async fn extend(
        &self,
        tokens: Vec<LeaseToken>,
        lease_ms: i64,
    ) -> Result<(Vec<LeaseToken>, Vec<CancelOrder>), StoreError> {
        unimplemented!()
    }
}

/// How a worker's stream ended, seen from the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEnd {
    /// Everything is acknowledged and the worker half-closed.
    Clean,
    /// A newer stream of the same session took over.
    Moved,
    /// The server shuts down or wants the worker elsewhere.
    GoAway,
    /// The worker broke a rule of the stream: gap in `seq`, second hello. Says which.
    Violation(&'static str),
}

/// The inbound half of a worker's stream.
pub struct SessionHandle {}

#[allow(unused_variables)]
impl SessionHandle {
    /// Takes a frame; never waits for the store. False = the session has ended.
    pub async fn frame(&self, frame: WorkerFrame) -> bool {
        unimplemented!()
    }
    /// The worker half-closed.
    pub async fn half_close(&self) {
        unimplemented!()
    }
    /// Resolves with the reason once the session has ended and its frames have been sent.
    pub async fn ended(&self) -> SessionEnd {
        unimplemented!()
    }
    // Dropping the handle without half_close = the stream broke.
}
