//! A job as it is asked for, as it is kept and as it is shown.
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    ids::{JobId, QueueName, TypeName},
    op::Hold,
    policy::{Policy, RetrySpec},
    schedule::{ScheduleSpec, Tick},
    state::State,
    workflow::{Dependency, Member},
};

/// How a body is spelled on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum BodyKind {
    Text,
    Data,
}

/// Bytes and how to read them. The server never looks inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    pub kind: BodyKind,
    pub bytes: Bytes,
    /// Empty = application/json for text, application/octet-stream for data.
    pub content_type: String,
    pub content_encoding: String,
}

/// When a job may start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Start {
    #[default]
    Now,
    /// Wall clock, milliseconds.
    At(i64),
    /// So long after the store has taken it.
    In(i64),
}

/// When a job that has not started is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// Wall clock, milliseconds.
    At(i64),
    /// So long after its scheduled start.
    AfterStart(i64),
}

/// What a producer asks for, checked and without defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct JobSpec {
    pub id: Option<Uuid>,
    pub kind: TypeName,
    /// `None` = named like the type.
    pub queue: Option<QueueName>,
    pub payload: Option<Payload>,
    pub headers: Vec<(String, String)>,
    /// −4 to 4, higher first.
    pub priority: i8,
    pub start: Start,
    pub expiry: Option<Expiry>,
    pub timeout_ms: Option<i64>,
    /// Longest silence of a running attempt; `None` = no limit.
    pub heartbeat_ms: Option<i64>,
    /// Longest time from enqueue to the end; `None` = no limit.
    pub total_ms: Option<i64>,
    pub retry: RetrySpec,
    pub tags: Vec<String>,
    pub retention_ms: Option<i64>,
    pub dead_retention_ms: Option<i64>,
    pub parent: Option<JobId>,
    /// By which jobs of a queue take turns, at most 256 bytes; empty = none.
    pub fairness_key: String,
    pub unique: Option<Unique>,
    /// A name that the producer gives the request, at most 256 bytes, and for how many milliseconds it is remembered.
    pub idempotency: Option<(String, i64)>,
    /// The schedule that asks, and for which of its ticks.
    pub tick: Option<Tick>,
    /// It is BLOCKED until all of these are satisfied.
    pub depends_on: Vec<Dependency>,
    pub member: Option<Member>,
}

/// What a producer asks for: at most one job per key in its queue.
#[derive(Clone, Debug, PartialEq)]
pub struct Unique {
    /// At most 256 bytes; empty = a hash of type and payload.
    pub key: String,
    pub hold: Hold,
    pub conflict: Conflict,
    /// With [`Conflict::Debounce`]: the start moves no further than so long after the holder's creation.
    pub within_ms: Option<i64>,
}

/// What becomes of a newcomer whose key is another job's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Conflict {
    /// It is dropped, and the other job is the answer.
    #[default]
    Keep,
    /// It is refused.
    Reject,
    /// Its payload and start go into the other job, if that was never handed out; else as Keep.
    Replace,
    /// Its start goes into the other job, if that was never handed out; else as Keep.
    Debounce,
    /// As Replace, if the other job was never handed out; else it waits for the end of that one. Goes with
    /// [`Hold::KeepLast`].
    KeepLast,
}

impl JobSpec {
    /// Where it goes.
    pub fn queue(&self) -> &QueueName {
        self.queue.as_ref().unwrap_or(&self.kind)
    }
}

/// The part of a job that stays the same between deliveries, and is not in its record. Encoded it is stored; completed it is
/// what workers get.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    pub kind: TypeName,
    pub queue: QueueName,
    pub payload: Option<Payload>,
    pub headers: Vec<(String, String)>,
    pub tags: Vec<String>,
    pub parent: Option<JobId>,
    pub fairness_key: String,
    /// The schedule that it comes from.
    pub tick: Option<Tick>,
    /// As declared; nodes and groups are those of its workflow.
    pub depends_on: Vec<Dependency>,
    /// The workflow that it belongs to.
    pub member: Option<Member>,
}

/// Writes and reads a [`Task`] as the contract's message. Implemented by the api layer, so that nothing below it knows
/// protobuf.
pub trait TaskCodec: Send + Sync + 'static {
    fn encode(&self, task: Task) -> Bytes;
    /// `None` when the bytes are not a task.
    fn decode(&self, bytes: &Bytes) -> Option<Task>;
    /// What a worker gets: the task as it was encoded, with what the record says of the job.
    fn complete(&self, encoded: &Bytes, meta: &Meta) -> Bytes;
    /// The specification of a schedule. `None` when the bytes are none that this release knows.
    fn schedule(&self, encoded: &Bytes) -> Option<ScheduleSpec>;
}

/// What the store keeps beside the record and gives back with every claim: the policy and the encoded task. Immutable
/// but for UpdateJobs and RetryJobs.
#[derive(Clone, Debug, PartialEq)]
pub struct Body {
    pub policy: Policy,
    pub task: Bytes,
}

/// A body that does not decode.
#[derive(Debug, thiserror::Error)]
#[error("the job's body is damaged")]
pub struct DamagedBody;

impl Body {
    const VERSION: u8 = 1;

    /// `version (1) · length of the policy (4, little endian; 0 = the defaults) · policy · task`.
    pub fn encode(&self) -> Bytes {
        let policy = if self.policy == Policy::default() { Vec::new() } else { self.policy.encode() };
        let mut out = Vec::with_capacity(5 + policy.len() + self.task.len());
        out.push(Self::VERSION);
        out.extend_from_slice(&(policy.len() as u32).to_le_bytes());
        out.extend_from_slice(&policy);
        out.extend_from_slice(&self.task);
        out.into()
    }

    /// Shares `bytes`; copies nothing but the policy.
    pub fn decode(bytes: &Bytes) -> Result<Self, DamagedBody> {
        let head = bytes.get(..5).ok_or(DamagedBody)?;
        if head[0] != Self::VERSION {
            return Err(DamagedBody);
        }
        let length = u32::from_le_bytes(head[1..].try_into().expect("4 of 5 bytes")) as usize;
        let end = length.checked_add(5).filter(|end| *end <= bytes.len()).ok_or(DamagedBody)?;
        let policy = if length == 0 { Policy::default() } else { Policy::decode(&bytes[5..end]).ok_or(DamagedBody)? };
        Ok(Self { policy, task: bytes.slice(end..) })
    }
}

/// Who decided that an attempt, or a job, failed. Numbers are those of the contract's `FailureKind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum FailureKind {
    Application = 1,
    Timeout = 2,
    Stalled = 3,
    WorkerLost = 4,
    Cancelled = 5,
    Expired = 6,
    Dependency = 7,
    Unprocessable = 8,
}

/// Why an attempt, or a job, did not succeed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    pub kind: FailureKind,
    /// Stable class name, such as `requests.ConnectTimeout`.
    pub class: String,
    pub message: String,
    pub stack_trace: String,
    pub details: Option<Payload>,
    pub cause: Option<Box<Failure>>,
}

impl Failure {
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            class: String::new(),
            message: message.into(),
            stack_trace: String::new(),
            details: None,
            cause: None,
        }
    }
}

/// How a lease ended. Numbers are those of the contract's `AttemptResult`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum AttemptResult {
    Succeeded = 1,
    Failed = 2,
    TimedOut = 3,
    Lost = 4,
    Snoozed = 5,
    Released = 6,
    Cancelled = 7,
}

/// One ended lease, in short.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    pub attempt: u32,
    pub delivery: u32,
    pub worker_id: String,
    pub session_id: String,
    pub start_ms: i64,
    pub finish_ms: i64,
    pub result: AttemptResult,
    /// Kind, class and message only, cut.
    pub failure: Option<Failure>,
    pub run_ms: Option<i64>,
    pub wait_ms: i64,
}

/// How the last attempts went, in full: the result, or the latest failure, and who had it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    pub result: Option<Payload>,
    pub failure: Option<Failure>,
    pub last: Option<Attempt>,
}

/// Latest progress; each report replaces the one before.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    pub percent: Option<f64>,
    pub current: i64,
    pub total: i64,
    pub message: String,
    /// An encoded structure of the contract; opaque here.
    pub data: Bytes,
    pub update_ms: i64,
}

/// One line that a handler logged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogLine {
    /// From 1; assigned by the store.
    pub index: u64,
    pub time_ms: i64,
    /// OpenTelemetry severity number, 0 to 24.
    pub level: u8,
    pub message: String,
    pub fields: Vec<(String, String)>,
    pub attempt: u32,
}

/// Somebody wants a running job to stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelRequest {
    pub reason: String,
    /// Wall clock.
    pub request_ms: i64,
    /// When any server finishes the job itself; `None` = never.
    pub deadline_ms: Option<i64>,
}

/// The facts about a job that change: what every claim, list and decision works on.
#[derive(Clone, Debug, PartialEq)]
pub struct Meta {
    pub id: JobId,
    pub state: State,
    pub queue: QueueName,
    pub kind: TypeName,
    pub priority: i8,
    /// Failures accepted: attempts used. The attempt shown is this + 1 while running.
    pub failures: u32,
    pub crashes: u32,
    /// Leases ever issued.
    pub delivery: u32,
    /// Whether the handler of the latest lease has started.
    pub started: bool,
    pub create_ms: i64,
    /// When it became, or becomes, runnable.
    pub ready_ms: i64,
    /// When the latest lease was issued; 0 = never.
    pub start_ms: i64,
    /// 0 = not ended.
    pub finish_ms: i64,
    /// 0 = does not expire.
    pub expire_ms: i64,
    /// When it has to have ended, wall clock; 0 = no limit.
    pub deadline_ms: i64,
    /// When the finished record goes; 0 = not ended.
    pub purge_ms: i64,
    pub cancel: Option<CancelRequest>,
    /// Changes with every change of the record.
    pub version: u32,
    /// Hash of type and payload: tells a repeated enqueue from a conflicting one.
    pub content: u64,
    /// Where it stands in its list: its place in a page token.
    pub order: i64,
    /// Flows watch it: it is a node, waits for other jobs, or is waited for.
    pub watched: bool,
}

impl Meta {
    /// Whether its time from enqueue to the end is over.
    pub fn is_overdue(&self, now_ms: i64) -> bool {
        self.deadline_ms != 0 && self.deadline_ms <= now_ms
    }

    /// The number of the attempt that runs, ran last or comes next.
    pub fn attempt(&self) -> u32 {
        match self.state {
            State::Succeeded | State::Running => self.failures + 1,
            _ if self.start_ms == 0 => 0,
            _ => self.failures,
        }
    }
}

/// Which parts of a record to read besides its [`Meta`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    pub body: bool,
    pub outcome: bool,
    pub attempts: bool,
    pub progress: bool,
    pub checkpoint: bool,
}

impl Parts {
    pub const META: Self = Self { body: false, outcome: false, attempts: false, progress: false, checkpoint: false };
    pub const BODY: Self = Self { body: true, ..Self::META };
    pub const ALL: Self = Self { body: true, outcome: true, attempts: true, progress: true, checkpoint: true };
}

/// A job as read: the parts that were asked for and exist.
#[derive(Clone, Debug)]
pub struct Record {
    pub meta: Meta,
    pub body: Option<Body>,
    pub outcome: Option<Outcome>,
    /// Newest first.
    pub attempts: Vec<Attempt>,
    pub progress: Option<Progress>,
    pub checkpoint: Option<Payload>,
}
