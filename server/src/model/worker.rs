//! What passes between a worker and the server, as plain data: the frames of a stream and what is known of a worker.
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    ids::{JobId, LeaseToken, Pattern},
    job::{CancelRequest, Failure, JobSpec, LogLine, Payload, Progress},
    op::{Passed, Throttle},
    state::State,
    time::SECOND,
};

/// One queue that a worker serves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Subscription {
    pub queue: Pattern,
    /// At least 1.
    pub weight: u32,
    pub strict: bool,
    /// 0 = no limit of its own.
    pub max_slots: u32,
}

/// The window a worker announces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capacity {
    pub slots: u32,
    /// 0 = no limit.
    pub max_bytes: u64,
    /// 0 = all slots.
    pub concurrency: u32,
}

/// Who is talking. Shown, never interpreted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkerInfo {
    pub hostname: String,
    pub pid: i32,
    pub sdk: String,
    pub sdk_version: String,
    pub runtime: String,
    pub app_version: String,
    pub labels: Vec<(String, String)>,
    pub start_ms: Option<i64>,
}

/// A lease that a reconnecting worker believes it holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    pub token: LeaseToken,
    /// `None` = its handler has not started.
    pub running_ms: Option<i64>,
}

/// First frame of a worker.
#[derive(Clone, Debug, PartialEq)]
pub struct Hello {
    pub session_id: String,
    pub worker_id: String,
    pub held: Vec<Held>,
    /// Empty = any.
    pub types: Vec<Pattern>,
    /// Never empty.
    pub subscriptions: Vec<Subscription>,
    pub capacity: Capacity,
    /// What the frame that carries the hello says.
    pub state: WorkerState,
    pub info: WorkerInfo,
    pub revision: i32,
    /// As wished; `None` = the server's default.
    pub lease_ttl_ms: Option<i64>,
}

/// State a worker reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkerState {
    #[default]
    Active,
    Quiet,
    Draining,
}

/// What should happen after a failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FailureAction {
    #[default]
    Policy,
    Retry,
    Stop,
    Discard,
}

/// How an attempt ended, as reported.
#[derive(Clone, Debug, PartialEq)]
pub enum Ended {
    Succeeded { result: Option<Payload> },
    Failed { failure: Failure, action: FailureAction, retry_delay_ms: Option<i64> },
    Snoozed { delay_ms: i64, reason: String, throttle: Option<Throttle> },
    Cancelled { reason: String },
    Released { reason: String },
}

/// An outcome that may be applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    pub token: LeaseToken,
    pub ended: Ended,
    pub run_ms: Option<i64>,
    pub checkpoint: Option<Payload>,
    pub enqueue: Vec<JobSpec>,
}

/// Why an outcome was not applied. Numbers are those of the contract's `RejectionReason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RejectionReason {
    Superseded = 1,
    Finished = 2,
    UnknownLease = 3,
    Invalid = 4,
    Unsupported = 5,
}

/// An outcome that was not applied. `token` as the worker wrote it, since it may not decode.
#[derive(Clone, Debug, PartialEq)]
pub struct Rejection {
    pub token: String,
    pub reason: RejectionReason,
    pub message: String,
}

/// "I am alive, and this is what I hold."
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Heartbeat {
    pub held: Vec<LeaseToken>,
    /// Named tokens that do not decode: lost, whatever they were.
    pub unknown: Vec<String>,
    pub running: u32,
    pub rss_bytes: i64,
    pub cpu_percent: f64,
}

/// Progress, a checkpoint, or both, of one running job.
#[derive(Clone, Debug, PartialEq)]
pub struct ProgressReport {
    pub token: LeaseToken,
    pub progress: Option<Progress>,
    pub checkpoint: Option<Payload>,
}

/// Log lines of one running job.
#[derive(Clone, Debug, PartialEq)]
pub struct LogReport {
    pub token: LeaseToken,
    pub lines: Vec<LogLine>,
}

/// Any frame of a worker after its first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WorkerFrame {
    pub seq: i64,
    pub outcomes: Vec<Report>,
    /// Outcomes that broke a limit or a rule; their leases are armed again when the token decodes.
    pub refused: Vec<(Option<LeaseToken>, Rejection)>,
    pub started: Vec<LeaseToken>,
    pub received_seq: i64,
    pub heartbeat: Option<Heartbeat>,
    pub progress: Vec<ProgressReport>,
    pub logs: Vec<LogReport>,
    pub capacity: Option<Capacity>,
    pub state: Option<WorkerState>,
}

/// Wanted state of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DirectiveKind {
    Run,
    Quiet,
    Terminate,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Directive {
    pub kind: DirectiveKind,
    pub grace_ms: Option<i64>,
    pub reason: String,
}

/// Why a running job should stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelReason {
    Requested,
    Timeout,
    Workflow,
}

#[derive(Clone, Debug, PartialEq)]
pub struct CancelOrder {
    pub token: LeaseToken,
    pub reason: CancelReason,
    pub message: String,
    pub grace_ms: Option<i64>,
}

/// After its time is up a worker has so long to end an attempt itself; then it is ordered to, and in the end the server
/// settles the attempt.
pub const OVERRUN_ORDER_MS: i64 = 10 * SECOND;
pub const OVERRUN_SETTLE_MS: i64 = 30 * SECOND;

impl CancelOrder {
    /// The order to end an attempt whose time is up.
    pub fn overran(token: LeaseToken, message: String) -> Self {
        let grace_ms = Some(OVERRUN_SETTLE_MS - OVERRUN_ORDER_MS);
        Self { token, reason: CancelReason::Timeout, message, grace_ms }
    }

    /// The order that a request recorded with the job becomes, `wall_ms` being now.
    pub fn requested(token: LeaseToken, request: &CancelRequest, wall_ms: i64) -> Self {
        Self {
            token,
            reason: CancelReason::Requested,
            message: request.reason.clone(),
            grace_ms: request.deadline_ms.map(|deadline| (deadline - wall_ms).max(0)),
        }
    }
}

/// A job, on loan.
#[derive(Clone, Debug, PartialEq)]
pub struct JobLease {
    pub token: LeaseToken,
    /// The encoded task, to be spliced into the frame.
    pub task: Bytes,
    pub attempt: u32,
    pub max_attempts: i32,
    pub delivery: u32,
    pub timeout_ms: i64,
    pub heartbeat_ms: Option<i64>,
    pub checkpoint: Option<Payload>,
    /// Kind, class and message only.
    pub last_failure: Option<Failure>,
    pub wait_ms: i64,
    /// Earlier leases that ended by a crash.
    pub crashes: u32,
    /// Results of the jobs that it waited for.
    pub passed: Passed,
}

/// How a job ended that another one waited for.
#[derive(Clone, Debug, PartialEq)]
pub struct DependencyResult {
    pub alias: String,
    pub job: JobId,
    pub state: State,
    pub result: Option<Payload>,
    /// Kind, class and message only.
    pub failure: Option<Failure>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GoAwayReason {
    Shutdown,
    Rebalance,
    Credentials,
    Unhealthy,
}

#[derive(Clone, Debug, PartialEq)]
pub struct GoAway {
    pub reason: GoAwayReason,
    pub reconnect_ms: i64,
    pub grace_ms: i64,
    pub message: String,
}

/// Answer to [`Hello`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Welcome {
    pub lost: Vec<LeaseToken>,
    pub settled: Vec<LeaseToken>,
    pub cancels: Vec<CancelOrder>,
    pub directive: Option<Directive>,
    pub slots: u32,
    pub lease_ttl_ms: i64,
    pub delivery_ttl_ms: i64,
    pub heartbeat_ms: i64,
    pub revision: i32,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeartbeatAck {
    pub heartbeat_seq: i64,
    pub lost: Vec<String>,
}

/// A frame to a worker.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServerFrame {
    pub seq: i64,
    pub jobs: Vec<JobLease>,
    pub acked_seq: i64,
    pub rejections: Vec<Rejection>,
    pub cancels: Vec<CancelOrder>,
    pub recalls: Vec<LeaseToken>,
    pub heartbeat_ack: Option<HeartbeatAck>,
    pub directive: Option<Directive>,
    pub go_away: Option<GoAway>,
    pub welcome: Option<Box<Welcome>>,
}

/// What is known of a connected worker. Servers show it to each other: a change of it takes a new version in
/// `engine/roster.rs`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WorkerView {
    pub session_id: String,
    /// The server that has its stream.
    pub server_id: String,
    pub worker_id: String,
    pub state: WorkerState,
    pub directive: Option<Directive>,
    pub info: WorkerInfo,
    pub types: Vec<Pattern>,
    pub subscriptions: Vec<Subscription>,
    pub slots: u32,
    pub concurrency: u32,
    pub in_flight: u32,
    pub running: u32,
    pub connect_ms: i64,
    pub last_seen_ms: i64,
    pub succeeded: u64,
    pub failed: u64,
    pub rss_bytes: i64,
    pub cpu_percent: f64,
}
