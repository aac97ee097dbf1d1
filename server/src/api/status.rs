//! What is said when something is refused: the only place that makes a [`Status`] or an `ItemError`.
//!
//! Each error has a [`Reason`] of the catalogue in `common.proto`; the reason decides the code. Everything a program can
//! use travels as `google.rpc` details, the message is for people.
use std::{fmt, time::Duration};

use jobwire_proto::v1;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{
    engine::{BadGraph, EnqueueError, FlowError, JobError, ScheduleError, StoreError, clock},
    model::{filter::FilterError, ids::JobId},
};

/// The domain of every reason.
pub const DOMAIN: &str = "jobwire.dev";

/// How long to wait before asking a store again that was not reachable.
const STORE_RETRY: Duration = Duration::from_secs(1);
/// How long to wait before sending new jobs to a store that was full.
/// As many jobs wait in a queue as may: workers are at it.
const QUEUE_RETRY: Duration = Duration::from_secs(1);
const FULL_RETRY: Duration = Duration::from_secs(5);

macro_rules! reasons {
    ($($code:ident: $($reason:ident = $name:literal),+;)+) => {
        /// Why a call or an item was refused. Stable, and the same in statuses and items.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Reason { $($($reason,)+)+ }

        impl Reason {
            /// As in ErrorInfo and ItemError.
            pub const fn name(self) -> &'static str {
                match self { $($(Self::$reason => $name,)+)+ }
            }

            /// The gRPC code that goes with it.
            pub const fn code(self) -> Code {
                match self { $($(Self::$reason => Code::$code,)+)+ }
            }
        }
    };
}

reasons! {
    InvalidArgument: InvalidField = "INVALID_FIELD", InvalidFilter = "INVALID_FILTER",
        PayloadNotUtf8 = "PAYLOAD_NOT_UTF8", DependencyCycle = "DEPENDENCY_CYCLE", ProtocolViolation = "PROTOCOL_VIOLATION";
    NotFound: JobNotFound = "JOB_NOT_FOUND", QueueNotFound = "QUEUE_NOT_FOUND", WorkerNotFound = "WORKER_NOT_FOUND",
        ScheduleNotFound = "SCHEDULE_NOT_FOUND", WorkflowNotFound = "WORKFLOW_NOT_FOUND";
    AlreadyExists: IdConflict = "ID_CONFLICT", UniqueConflict = "UNIQUE_CONFLICT";
    Aborted: EtagMismatch = "ETAG_MISMATCH", SessionMoved = "SESSION_MOVED";
    FailedPrecondition: JobRunning = "JOB_RUNNING", JobTerminal = "JOB_TERMINAL",
        DependencyNotFound = "DEPENDENCY_NOT_FOUND", WorkflowClosed = "WORKFLOW_CLOSED",
        RevisionUnsupported = "REVISION_UNSUPPORTED";
    ResourceExhausted: QueueFull = "QUEUE_FULL", StoreFull = "STORE_FULL", MessageTooLarge = "MESSAGE_TOO_LARGE",
        TooManyStreams = "TOO_MANY_STREAMS";
    Unavailable: ShuttingDown = "SHUTTING_DOWN", StoreUnavailable = "STORE_UNAVAILABLE", Overloaded = "OVERLOADED";
    Unimplemented: FeatureDisabled = "FEATURE_DISABLED";
    Internal: Bug = "BUG";
}

/// Why a call, or one item of it, was refused.
#[derive(Clone, Debug)]
pub struct ApiError(Box<Facts>);

#[derive(Clone, Debug)]
struct Facts {
    reason: Reason,
    /// Where it is not the reason's own.
    code: Code,
    message: String,
    /// Path of the offending field; empty = none.
    field: String,
    retry: Option<Duration>,
    metadata: Vec<(&'static str, String)>,
    /// What is missing or in the way: its kind and its name.
    resource: Option<(&'static str, String)>,
}

impl ApiError {
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self(Box::new(Facts {
            reason,
            code: reason.code(),
            message: message.into(),
            field: String::new(),
            retry: None,
            metadata: Vec::new(),
            resource: None,
        }))
    }

    /// INVALID_FIELD. `message` goes on where the field's name stops: "must be 1 to 128 characters".
    pub fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Reason::InvalidField, message).at(field)
    }

    /// FEATURE_DISABLED, for a field that belongs to a part of the contract which this server does not serve.
    pub fn disabled_field(field: impl Into<String>) -> Self {
        Self::new(Reason::FeatureDisabled, "is not supported by this server").at(field)
    }

    /// FEATURE_DISABLED, for a whole call.
    pub fn disabled(call: &str) -> Self {
        Self::new(Reason::FeatureDisabled, format!("{call} is not supported by this server"))
    }

    /// INTERNAL / BUG: the cause goes to the log, an opaque id to the client.
    pub fn bug(cause: impl fmt::Display) -> Self {
        let request_id = clock::uuid().to_string();
        tracing::error!(request_id, %cause, "a request failed because of a defect");
        Self::new(Reason::Bug, format!("internal error; the server's log has it as request {request_id}"))
            .with("request_id", request_id)
    }

    /// UNAVAILABLE / SHUTTING_DOWN: another server, or this one a little later, will answer.
    pub fn shutting_down() -> Self {
        Self::new(Reason::ShuttingDown, "the server is shutting down").retry_after(STORE_RETRY)
    }

    /// Names the offending field.
    pub fn at(mut self, field: impl Into<String>) -> Self {
        self.0.field = field.into();
        self
    }

    /// Puts a step in front of the field's path: `max_attempts` within `retry` is `retry.max_attempts`.
    pub fn within(mut self, outer: impl fmt::Display) -> Self {
        if self.0.field.is_empty() {
            self.0.field = outer.to_string();
        } else {
            self.0.field = format!("{outer}.{}", self.0.field);
        }
        self
    }

    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.0.retry = Some(delay);
        self
    }

    pub fn with(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.0.metadata.push((key, value.into()));
        self
    }

    /// Another code than the reason's own.
    pub fn coded(mut self, code: Code) -> Self {
        self.0.code = code;
        self
    }

    fn about(mut self, kind: &'static str, name: impl Into<String>) -> Self {
        self.0.resource = Some((kind, name.into()));
        self
    }

    pub fn reason(&self) -> Reason {
        self.0.reason
    }

    /// With the field in front.
    pub fn message(&self) -> String {
        if self.0.field.is_empty() { self.0.message.clone() } else { format!("{}: {}", self.0.field, self.0.message) }
    }

    pub fn job_not_found(id: JobId) -> Self {
        Self::new(Reason::JobNotFound, format!("no job {id}")).about("job", id.to_string())
    }

    /// The uniqueness key is held by this job.
    fn unique_conflict(by: JobId) -> Self {
        Self::new(Reason::UniqueConflict, format!("job {by} has the uniqueness key"))
            .with("job_id", by.to_string())
            .about("job", by.to_string())
    }

    fn no_dependency(id: JobId) -> Self {
        Self::new(Reason::DependencyNotFound, format!("no job {id}")).about("job", id.to_string())
    }

    pub fn queue_not_found(name: &str) -> Self {
        Self::new(Reason::QueueNotFound, format!("no queue {name}")).about("queue", name)
    }

    pub fn worker_not_found(session_id: &str) -> Self {
        Self::new(Reason::WorkerNotFound, format!("no worker with session {session_id}")).about("worker", session_id)
    }

    /// A status that tonic made, in our words: codes of the gRPC table and a reason. `None` = it may stay as it is.
    pub fn from_tonic(status: &Status) -> Option<Self> {
        if !status.details().is_empty() {
            return None;
        }
        let reason = match status.code() {
            Code::OutOfRange | Code::ResourceExhausted => Reason::MessageTooLarge,
            // What tonic calls INTERNAL is a request that it cannot read: no message, two, cut, or not protobuf.
            Code::Internal => Reason::ProtocolViolation,
            Code::Unimplemented => Reason::FeatureDisabled,
            Code::Cancelled if status.message() == "Timeout expired" => {
                return Some(
                    Self::new(Reason::Overloaded, "the call's deadline has passed").coded(Code::DeadlineExceeded),
                );
            }
            _ => return None,
        };
        let message = match (status.message(), reason) {
            ("", Reason::FeatureDisabled) => "no such service or method",
            (message, _) => message,
        };
        Some(Self::new(reason, message))
    }

    /// About one item of a call or stream.
    pub fn into_item(self) -> v1::ItemError {
        let Facts { reason, code, message, field, retry, metadata, .. } = *self.0;
        v1::ItemError {
            code: code as i32,
            reason: reason.name().to_owned(),
            message,
            field,
            retry_delay: retry.map(|delay| prost_types::Duration {
                seconds: delay.as_secs() as i64,
                nanos: delay.subsec_nanos() as i32,
            }),
            metadata: metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
        }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.reason.name(), self.message())
    }
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        let text = error.message();
        let Facts { reason, code, message, field, retry, metadata, resource } = *error.0;
        let metadata = metadata.into_iter().map(|(key, value)| (key.to_owned(), value));
        let mut details =
            ErrorDetails::with_error_info(reason.name(), DOMAIN, metadata.collect::<std::collections::HashMap<_, _>>());
        if !field.is_empty() {
            details.add_bad_request_violation(field, message.clone());
        }
        if let Some(delay) = retry {
            details.set_retry_info(Some(delay));
        }
        if reason.code() == Code::FailedPrecondition {
            let subject = resource.as_ref().map_or(String::new(), |(kind, name)| format!("{kind}/{name}"));
            details.add_precondition_failure_violation(reason.name(), subject, message);
        } else if let Some((kind, name)) = resource {
            details.set_resource_info(kind, name, "", message);
        }
        Status::with_error_details(code, text, details)
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let message = error.to_string();
        match error {
            StoreError::Unavailable(_) => Self::new(Reason::StoreUnavailable, message).retry_after(STORE_RETRY),
            StoreError::Full(_) => Self::new(Reason::StoreFull, message).retry_after(FULL_RETRY),
            StoreError::Closed => Self::shutting_down(),
            StoreError::Damaged(_) | StoreError::Refused(_) => Self::bug(message),
        }
    }
}

impl From<EnqueueError> for ApiError {
    fn from(error: EnqueueError) -> Self {
        match error {
            EnqueueError::IdConflict(id) => Self::new(Reason::IdConflict, error.to_string())
                .with("job_id", id.to_string())
                .about("job", id.to_string()),
            EnqueueError::UniqueConflict(by) => Self::unique_conflict(by),
            EnqueueError::QueueFull(ref queue) => Self::new(Reason::QueueFull, error.to_string())
                .with("queue", queue.to_string())
                .about("queue", queue.to_string())
                .retry_after(QUEUE_RETRY),
            EnqueueError::NoJob(place, id) => Self::no_dependency(id).at(format!("depends_on[{place}]")),
            EnqueueError::Store(error) => error.into(),
        }
    }
}

impl From<JobError> for ApiError {
    fn from(error: JobError) -> Self {
        let message = error.to_string();
        match error {
            JobError::NotFound(id) => Self::job_not_found(id),
            JobError::UniqueConflict(by) => Self::unique_conflict(by),
            JobError::Running => Self::new(Reason::JobRunning, message),
            JobError::Terminal(state) => Self::new(Reason::JobTerminal, message).with("state", state.name()),
            JobError::WrongState(state) => {
                let reason = if state.is_terminal() { Reason::JobTerminal } else { Reason::JobRunning };
                Self::new(reason, message).with("state", state.name())
            }
            JobError::EtagMismatch => Self::new(Reason::EtagMismatch, message),
            JobError::Store(error) => error.into(),
        }
    }
}

impl From<FlowError> for ApiError {
    fn from(error: FlowError) -> Self {
        let message = error.to_string();
        match error {
            FlowError::NotFound(id) => Self::new(Reason::WorkflowNotFound, message).about("workflow", id.to_string()),
            FlowError::IdConflict(id) => Self::new(Reason::IdConflict, message).about("workflow", id.to_string()),
            FlowError::Closed(id) => Self::new(Reason::WorkflowClosed, message).about("workflow", id.to_string()),
            FlowError::WrongState(state) => {
                let reason = if state.is_terminal() { Reason::JobTerminal } else { Reason::JobRunning };
                Self::new(reason, message).with("state", state.name())
            }
            FlowError::Graph(BadGraph::Cycle(place, path)) => {
                let error = Self::new(Reason::DependencyCycle, message).at(format!("nodes[{place}].job.depends_on"));
                error.with("path", path.join(" -> "))
            }
            FlowError::Graph(BadGraph::Duplicate(place, _)) => Self::field(format!("nodes[{place}].name"), message),
            FlowError::Graph(BadGraph::NoNode((place, i), _)) => {
                Self::field(format!("nodes[{place}].job.depends_on[{i}].node"), message)
            }
            FlowError::Graph(BadGraph::TooMany) => Self::field("nodes", message),
            FlowError::NoJob((place, i), id) => {
                Self::no_dependency(id).at(format!("nodes[{place}].job.depends_on[{i}].job_id"))
            }
            FlowError::NoSuchJob(id) => Self::job_not_found(id),
            FlowError::Unreadable(_) => Self::bug(message),
            FlowError::Store(error) => error.into(),
        }
    }
}

impl From<ScheduleError> for ApiError {
    fn from(error: ScheduleError) -> Self {
        let message = error.to_string();
        match error {
            ScheduleError::NotFound(id) => Self::new(Reason::ScheduleNotFound, message).about("schedule", id.as_str()),
            ScheduleError::EtagMismatch => Self::new(Reason::EtagMismatch, message).at("etag"),
            ScheduleError::Unreadable(_) => Self::bug(message),
            ScheduleError::Enqueue(error) => error.into(),
            ScheduleError::Store(error) => error.into(),
        }
    }
}

impl From<FilterError> for ApiError {
    fn from(error: FilterError) -> Self {
        Self::new(Reason::InvalidFilter, error.to_string()).at("filter").with("position", error.position.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_field_is_named_in_status_and_item() {
        let error = || ApiError::field("max_attempts", "must be -1, or at least 1").within("retry").within("jobs[3]");
        let status = Status::from(error());
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), "jobs[3].retry.max_attempts: must be -1, or at least 1");
        let details = status.get_error_details();
        let info = details.error_info().expect("every status has an ErrorInfo");
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("INVALID_FIELD", DOMAIN));
        assert_eq!(details.bad_request().expect("a field").field_violations[0].field, "jobs[3].retry.max_attempts");
        let item = error().into_item();
        assert_eq!((item.code, item.field.as_str()), (3, "jobs[3].retry.max_attempts"));
    }

    #[test]
    fn every_kind_of_detail_is_where_clients_look_for_it() {
        let full = Status::from(ApiError::from(StoreError::Full("disk".into())));
        assert_eq!(full.code(), Code::ResourceExhausted);
        assert_eq!(full.get_error_details().retry_info().and_then(|r| r.retry_delay), Some(FULL_RETRY));

        let id = JobId::from_bytes([1; 16]);
        let missing = Status::from(ApiError::from(JobError::NotFound(id)));
        assert_eq!(missing.code(), Code::NotFound);
        let details = missing.get_error_details();
        assert_eq!(details.resource_info().expect("what is missing").resource_name, id.to_string());

        let running = Status::from(ApiError::from(JobError::Running));
        let details = running.get_error_details();
        assert_eq!(details.precondition_failure().expect("a precondition").violations[0].r#type, "JOB_RUNNING");

        let conflict = ApiError::from(EnqueueError::IdConflict(id)).into_item();
        assert_eq!(conflict.metadata["job_id"], id.to_string());
    }

    #[test]
    fn tonics_own_codes_become_ours() {
        for (theirs, ours, reason) in [
            (Status::out_of_range("too large"), Code::ResourceExhausted, "MESSAGE_TOO_LARGE"),
            (Status::internal("Missing request message."), Code::InvalidArgument, "PROTOCOL_VIOLATION"),
            (Status::unimplemented(""), Code::Unimplemented, "FEATURE_DISABLED"),
        ] {
            let status = Status::from(ApiError::from_tonic(&theirs).expect("a code that is mapped"));
            assert_eq!(status.code(), ours);
            assert_eq!(status.get_error_details().error_info().expect("ErrorInfo").reason, reason);
        }
        assert!(ApiError::from_tonic(&Status::not_found("unknown service")).is_none());
        assert!(ApiError::from_tonic(&ApiError::bug("test").into()).is_none());
    }
}
