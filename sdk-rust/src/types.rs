//! The plain values of the public API: records that come out, and the small words that options are made of. No protobuf
//! type is among them.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use jobwire_proto::v1 as pb;

use crate::convert::from_timestamp;
use crate::payload::{Payload, json_to_struct, struct_to_json};

/// Where a job is. Paused and throttled are conditions of a queue, not states of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum JobState {
    /// Waiting for its start time, or snoozed.
    Scheduled,
    /// Waiting for dependencies.
    Blocked,
    /// Runnable; waiting for a slot.
    Ready,
    /// Leased to a worker.
    Running,
    /// Failed and waiting for its next attempt.
    Retrying,
    /// The handler returned.
    Succeeded,
    /// Out of retries; in the dead-letter set.
    Dead,
    /// Somebody, or its workflow, cancelled it.
    Cancelled,
    /// Not started, or not finished, in the time it had.
    Expired,
    /// Failed, and nobody asked for it to be kept for repair.
    Discarded,
    /// A state this version of the SDK does not know. Not terminal.
    Unknown,
}

impl JobState {
    /// Whether nothing will change any more, a manual retry apart.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Dead | Self::Cancelled | Self::Expired | Self::Discarded)
    }

    /// As filters and the command line spell it: "DEAD".
    pub fn name(self) -> &'static str {
        match self {
            Self::Scheduled => "SCHEDULED",
            Self::Blocked => "BLOCKED",
            Self::Ready => "READY",
            Self::Running => "RUNNING",
            Self::Retrying => "RETRYING",
            Self::Succeeded => "SUCCEEDED",
            Self::Dead => "DEAD",
            Self::Cancelled => "CANCELLED",
            Self::Expired => "EXPIRED",
            Self::Discarded => "DISCARDED",
            Self::Unknown => "UNKNOWN",
        }
    }

    pub(crate) fn from_proto(state: i32) -> Self {
        match pb::JobState::try_from(state) {
            Ok(pb::JobState::Scheduled) => Self::Scheduled,
            Ok(pb::JobState::Blocked) => Self::Blocked,
            Ok(pb::JobState::Ready) => Self::Ready,
            Ok(pb::JobState::Running) => Self::Running,
            Ok(pb::JobState::Retrying) => Self::Retrying,
            Ok(pb::JobState::Succeeded) => Self::Succeeded,
            Ok(pb::JobState::Dead) => Self::Dead,
            Ok(pb::JobState::Cancelled) => Self::Cancelled,
            Ok(pb::JobState::Expired) => Self::Expired,
            Ok(pb::JobState::Discarded) => Self::Discarded,
            Ok(pb::JobState::Unspecified) | Err(_) => Self::Unknown,
        }
    }
}

/// In small letters, as the other SDKs: "dead".
impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name().to_ascii_lowercase())
    }
}

/// What became of an enqueue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EnqueueStatus {
    /// A new job.
    Created,
    /// Same id or idempotency key as before: the first job stands.
    Duplicate,
    /// The uniqueness key is taken: the existing job stands.
    Kept,
    /// The uniqueness key is taken: the existing job was changed.
    Replaced,
}

impl EnqueueStatus {
    pub(crate) fn from_proto(status: i32) -> Self {
        match pb::EnqueueStatus::try_from(status) {
            Ok(pb::EnqueueStatus::Duplicate) => Self::Duplicate,
            Ok(pb::EnqueueStatus::Kept) => Self::Kept,
            Ok(pb::EnqueueStatus::Replaced) => Self::Replaced,
            Ok(pb::EnqueueStatus::Created | pb::EnqueueStatus::Unspecified) | Err(_) => Self::Created,
        }
    }
}

/// The record of a job.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct JobInfo {
    /// Its id.
    pub id: String,
    /// Where it is.
    pub state: JobState,
    /// Its type.
    pub r#type: String,
    /// Its queue.
    pub queue: String,
    /// -4 (last) to 4 (first).
    pub priority: i32,
    /// Attempts that count against `max_attempts`.
    pub attempt: i32,
    /// Leases ever issued; never goes down.
    pub delivery: i32,
    /// Times a worker vanished with it.
    pub crashes: i32,
    /// Its tags.
    pub tags: Vec<String>,
    /// Its headers.
    pub headers: BTreeMap<String, String>,
    /// Its argument; empty in short views.
    pub payload: Payload,
    /// What the handler returned; empty until then, and in short views.
    pub result: Payload,
    /// The latest failure, also while retrying.
    pub failure: Option<Failure>,
    /// The latest progress.
    pub progress: Option<Progress>,
    /// When it was enqueued.
    pub create_time: Option<SystemTime>,
    /// When it becomes, or became, runnable.
    pub schedule_time: Option<SystemTime>,
    /// When the latest attempt started.
    pub start_time: Option<SystemTime>,
    /// When it reached its terminal state.
    pub finish_time: Option<SystemTime>,
    /// When somebody asked to cancel it.
    pub cancel_request_time: Option<SystemTime>,
    /// Who holds it now, or held it last.
    pub worker_id: String,
    /// The workflow it belongs to, or empty.
    pub workflow_id: String,
    /// Its name in that workflow, or empty.
    pub node: String,
    /// The schedule that made it, or empty.
    pub schedule_id: String,
    /// Changes with every change of the record.
    pub etag: String,
}

impl JobInfo {
    pub(crate) fn from_proto(job: pb::Job) -> Self {
        let time = |time: &Option<prost_types::Timestamp>| time.as_ref().and_then(from_timestamp);
        let spec = job.spec.unwrap_or_default();
        Self {
            state: JobState::from_proto(job.state),
            queue: if spec.queue.is_empty() { spec.r#type.clone() } else { spec.queue },
            r#type: spec.r#type,
            priority: spec.priority,
            attempt: job.attempt,
            delivery: job.delivery,
            crashes: job.crashes,
            tags: spec.tags,
            headers: spec.headers,
            payload: spec.payload.map(Payload::from_proto).unwrap_or_default(),
            result: job.result.map(Payload::from_proto).unwrap_or_default(),
            failure: job.failure.map(Failure::from_proto),
            progress: job.progress.map(Progress::from_proto),
            create_time: time(&job.create_time),
            schedule_time: time(&job.schedule_time),
            start_time: time(&job.start_time),
            finish_time: time(&job.finish_time),
            cancel_request_time: time(&job.cancel_request_time),
            worker_id: job.worker_id,
            workflow_id: job.workflow_id,
            node: job.node,
            schedule_id: job.schedule_id,
            etag: job.etag,
            id: job.id,
        }
    }
}

/// Why a job is where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Explanation {
    /// Where it is.
    pub state: JobState,
    /// One sentence, whatever the state: "RUNNING on pod-3 for 12 s, attempt 2 of 20."
    pub summary: String,
    /// What keeps a waiting job from running, a sentence each; the one that has to go first comes first. Empty when it
    /// runs, and when it is over.
    pub reasons: Vec<String>,
}

/// Who decided that an attempt, or a job, failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FailureKind {
    /// The handler returned an error.
    Application,
    /// The attempt ran past its timeout.
    Timeout,
    /// The handler reported no progress for longer than `heartbeat_timeout`.
    Stalled,
    /// The worker vanished more often than `max_crashes` allows.
    WorkerLost,
    /// Somebody cancelled the job.
    Cancelled,
    /// Not started, or not finished, in time.
    Expired,
    /// A dependency ended in a way that can no longer satisfy this job.
    Dependency,
    /// The worker could not read the payload, or could not deliver the result.
    Unprocessable,
    /// A kind this version of the SDK does not know.
    Unknown,
}

/// Why an attempt, or a job, did not succeed.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Failure {
    /// Who decided that it failed.
    pub kind: FailureKind,
    /// Class name in the worker's language, such as "requests.ConnectTimeout".
    pub r#type: String,
    /// One line for a person.
    pub message: String,
    /// As the worker's language prints it, or empty.
    pub stack_trace: String,
    /// What the handler kept with the failure.
    pub details: Option<Payload>,
    /// What caused it.
    pub cause: Option<Box<Failure>>,
}

impl Failure {
    pub(crate) fn from_proto(failure: pb::Failure) -> Self {
        Self {
            kind: match pb::FailureKind::try_from(failure.kind) {
                Ok(pb::FailureKind::Unspecified | pb::FailureKind::Application) => FailureKind::Application,
                Ok(pb::FailureKind::Timeout) => FailureKind::Timeout,
                Ok(pb::FailureKind::Stalled) => FailureKind::Stalled,
                Ok(pb::FailureKind::WorkerLost) => FailureKind::WorkerLost,
                Ok(pb::FailureKind::Cancelled) => FailureKind::Cancelled,
                Ok(pb::FailureKind::Expired) => FailureKind::Expired,
                Ok(pb::FailureKind::Dependency) => FailureKind::Dependency,
                Ok(pb::FailureKind::Unprocessable) => FailureKind::Unprocessable,
                Err(_) => FailureKind::Unknown,
            },
            r#type: failure.r#type,
            message: failure.message,
            stack_trace: failure.stack_trace,
            details: failure.details.map(Payload::from_proto),
            cause: failure.cause.map(|cause| Box::new(Self::from_proto(*cause))),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.r#type.as_str(), self.message.as_str()) {
            ("", message) => f.write_str(message),
            (kind, "") => f.write_str(kind),
            (kind, message) => write!(f, "{kind}: {message}"),
        }
    }
}

/// Progress of a running job; each report replaces the one before. At most 4 KiB in all.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Progress {
    /// 0 to 100.
    pub percent: Option<f64>,
    /// Units done.
    pub current: i64,
    /// Units in all; 0 = not countable.
    pub total: i64,
    /// For a person.
    pub message: String,
    /// Anything structured: a JSON object, or null.
    pub data: serde_json::Value,
}

impl Progress {
    /// A share of 100.
    pub fn percent(percent: f64) -> Self {
        Self { percent: Some(percent), ..Self::default() }
    }

    /// `current` of `total` units.
    pub fn counts(current: i64, total: i64) -> Self {
        Self { current, total, ..Self::default() }
    }

    /// Adds a message for people.
    pub fn message(mut self, message: impl Into<String>) -> Self {
        self.message = message.into();
        self
    }

    /// Adds structured data; anything but a JSON object is put under the key "value".
    pub fn data(mut self, data: impl Into<serde_json::Value>) -> Self {
        self.data = data.into();
        self
    }

    pub(crate) fn into_proto(self) -> pb::Progress {
        let data = match self.data {
            serde_json::Value::Null => None,
            serde_json::Value::Object(object) => Some(json_to_struct(&object)),
            other => Some(json_to_struct(&serde_json::Map::from_iter([("value".to_owned(), other)]))),
        };
        pb::Progress {
            percent: self.percent,
            current: self.current,
            total: self.total,
            message: self.message,
            data,
            update_time: None,
        }
    }

    pub(crate) fn from_proto(progress: pb::Progress) -> Self {
        Self {
            percent: progress.percent,
            current: progress.current,
            total: progress.total,
            message: progress.message,
            data: progress.data.as_ref().map_or(serde_json::Value::Null, struct_to_json),
        }
    }
}

/// One line a handler logged.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LogLine {
    /// Position in the job's log, from 1. A gap means that lines were dropped.
    pub index: i64,
    /// When.
    pub time: Option<SystemTime>,
    /// Severity.
    pub level: LogLevel,
    /// The text.
    pub message: String,
    /// Structured fields.
    pub fields: BTreeMap<String, String>,
    /// In which attempt.
    pub attempt: i32,
}

impl LogLine {
    pub(crate) fn from_proto(line: pb::LogLine) -> Self {
        Self {
            index: line.index,
            time: line.time.as_ref().and_then(from_timestamp),
            level: LogLevel::from_proto(line.level),
            message: line.message,
            fields: line.fields,
            attempt: line.attempt,
        }
    }
}

/// Severity of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum LogLevel {
    /// Finest detail.
    Trace,
    /// For developers.
    Debug,
    /// What happens.
    Info,
    /// What should not happen, but does no harm yet.
    Warn,
    /// What went wrong.
    Error,
    /// Nothing goes on from here.
    Fatal,
}

impl LogLevel {
    pub(crate) fn to_proto(self) -> pb::LogLevel {
        match self {
            Self::Trace => pb::LogLevel::Trace,
            Self::Debug => pb::LogLevel::Debug,
            Self::Info => pb::LogLevel::Info,
            Self::Warn => pb::LogLevel::Warn,
            Self::Error => pb::LogLevel::Error,
            Self::Fatal => pb::LogLevel::Fatal,
        }
    }

    /// Numbers between the named ones belong to the range that they lie in, as in OpenTelemetry.
    fn from_proto(level: i32) -> Self {
        match level {
            1..=4 => Self::Trace,
            5..=8 => Self::Debug,
            13..=16 => Self::Warn,
            17..=20 => Self::Error,
            21.. => Self::Fatal,
            _ => Self::Info,
        }
    }
}

/// What a watched job did.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum JobEvent {
    /// The record now, and after each change. The last event of a stream is a terminal state with everything in it.
    State(Box<JobInfo>),
    /// New progress.
    Progress(Progress),
    /// A log line.
    Log(LogLine),
}

/// What else a snooze holds back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Throttle {
    /// Nothing but the job itself.
    #[default]
    Job,
    /// Every job of the queue with the same fairness key.
    Key,
    /// Every job of the queue.
    Queue,
}

impl Throttle {
    pub(crate) fn to_proto(self) -> pb::ThrottleScope {
        match self {
            Self::Job => pb::ThrottleScope::Unspecified,
            Self::Key => pb::ThrottleScope::Key,
            Self::Queue => pb::ThrottleScope::Queue,
        }
    }
}

/// How long a job holds its uniqueness key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum UniqueScope {
    /// Until the job is terminal, retries included.
    #[default]
    UntilFinished,
    /// Until the first attempt is handed to a worker: at most one waiting.
    UntilStarted,
    /// This long after the enqueue, whatever the job does.
    For(Duration),
}

impl UniqueScope {
    pub(crate) fn to_proto(self) -> (pb::UniqueScope, Option<Duration>) {
        match self {
            Self::UntilFinished => (pb::UniqueScope::UntilFinished, None),
            Self::UntilStarted => (pb::UniqueScope::UntilStarted, None),
            Self::For(ttl) => (pb::UniqueScope::ForTtl, Some(ttl)),
        }
    }
}

/// What becomes of a job whose uniqueness key is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnConflict {
    /// The existing job is returned, the newcomer dropped.
    #[default]
    Keep,
    /// The enqueue fails with ALREADY_EXISTS / UNIQUE_CONFLICT.
    Reject,
    /// The newcomer's payload and start replace those of the existing job, if it has not been handed out.
    Replace,
    /// The existing job's start moves to the newcomer's.
    Debounce,
}

impl OnConflict {
    pub(crate) fn to_proto(self) -> pb::UniqueConflict {
        match self {
            Self::Keep => pb::UniqueConflict::Keep,
            Self::Reject => pb::UniqueConflict::Reject,
            Self::Replace => pb::UniqueConflict::Replace,
            Self::Debounce => pb::UniqueConflict::Debounce,
        }
    }
}

/// Where a job goes that ran out of retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnExhausted {
    /// Into the dead-letter set, for an operator.
    #[default]
    Dead,
    /// Finished as DISCARDED; nobody will look.
    Discard,
}

impl OnExhausted {
    pub(crate) fn to_proto(self) -> pb::ExhaustedAction {
        match self {
            Self::Dead => pb::ExhaustedAction::Dead,
            Self::Discard => pb::ExhaustedAction::Discard,
        }
    }
}

/// Why a running job should stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CancelReason {
    /// A person or program asked for it.
    Requested,
    /// It ran past its timeout.
    Timeout,
    /// Its workflow was cancelled or failed fast.
    Workflow,
    /// The lease is gone: somebody else runs the job, or it is settled. Whatever the handler returns is dropped.
    LeaseLost,
    /// The worker is shutting down and its grace is over: save a checkpoint, 2 s are left.
    Shutdown,
}

/// One queue that a worker serves.
#[derive(Debug, Clone)]
pub struct Queue {
    pub(crate) subscription: pb::Subscription,
}

impl Queue {
    /// Exact name, or a prefix ending in "*".
    pub fn new(name: impl Into<String>) -> Self {
        Self { subscription: pb::Subscription { queue: name.into(), ..Default::default() } }
    }

    /// Share of this worker's attention relative to its other queues. Default 1.
    pub fn weight(mut self, weight: i32) -> Self {
        self.subscription.weight = weight;
        self
    }

    /// Limit on leases from this queue, inside the worker's slots. Default: none.
    pub fn max_slots(mut self, max_slots: i32) -> Self {
        self.subscription.max_slots = max_slots;
        self
    }

    /// Whether a worker may not hold so many of its jobs.
    #[cfg(feature = "worker")]
    pub(crate) fn holds_less_than(&self, jobs: usize) -> bool {
        let max_slots = usize::try_from(self.subscription.max_slots).unwrap_or(0);
        0 < max_slots && max_slots < jobs
    }

    /// Serve this queue only when every queue listed before it is empty.
    pub fn strict(mut self) -> Self {
        self.subscription.strict = true;
        self
    }
}

impl<S: Into<String>> From<S> for Queue {
    fn from(name: S) -> Self {
        Self::new(name)
    }
}
