//! What can go wrong, as one tree:
//!
//! ```text
//! Error
//! ├── Rpc(RpcError)      the server, or the way to it, refused a call: code, reason, field, retry_delay, metadata
//! ├── JobFailed          from result(): the job is DEAD or DISCARDED; carries the Failure
//! ├── JobCancelled       from result(): somebody, or its workflow, cancelled it
//! ├── JobExpired         from result(): it did not start before its expiry
//! ├── WorkflowFailed     from the result() of a workflow: it failed, or was cancelled; carries the failures of nodes
//! ├── Timeout            the caller's own deadline passed
//! ├── Codec              a payload could not be written or read
//! └── Config             an option, address or environment variable that makes no sense
//! ```
//!
//! What a *handler* returns is a [`JobError`](crate::JobError).

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use jobwire_proto::v1 as pb;
use tonic_types::StatusExt;

use crate::convert::from_duration;
use crate::types::{Failure, JobState};

/// Why a call did not do what it was asked to. See the [module](self) for the tree.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server, or the way to it, refused.
    #[error(transparent)]
    Rpc(#[from] Box<RpcError>),
    /// The awaited job failed for good: it is DEAD, or DISCARDED.
    #[error("job {job_id} failed: {failure}")]
    #[non_exhaustive]
    JobFailed {
        /// Which job.
        job_id: String,
        /// [`JobState::Dead`] or [`JobState::Discarded`].
        state: JobState,
        /// The last failure, as the worker reported it.
        failure: Box<Failure>,
    },
    /// The awaited job was cancelled.
    #[error("job {job_id} was cancelled{}", because(.message))]
    #[non_exhaustive]
    JobCancelled {
        /// Which job.
        job_id: String,
        /// The reason given, or empty.
        message: String,
    },
    /// The awaited job was not started, or not finished, in the time it had.
    #[error("job {job_id} expired{}", because(.message))]
    #[non_exhaustive]
    JobExpired {
        /// Which job.
        job_id: String,
        /// Which limit it passed, or empty.
        message: String,
    },
    /// The awaited workflow has failed, or was cancelled.
    #[cfg(feature = "client")]
    #[error("workflow {workflow_id} {state}{}", failed_nodes(.failures))]
    #[non_exhaustive]
    WorkflowFailed {
        /// Which workflow.
        workflow_id: String,
        /// How it ended.
        state: crate::WorkflowState,
        /// The nodes that failed, by name.
        failures: Vec<(String, Failure)>,
    },
    /// The deadline given to the call passed first. The job goes on.
    #[error("{what} took longer than {after:?}")]
    #[non_exhaustive]
    Timeout {
        /// What was awaited.
        what: String,
        /// How long.
        after: Duration,
    },
    /// A payload, result or checkpoint could not be written or read.
    #[error("{what}: {message}")]
    #[non_exhaustive]
    Codec {
        /// Which body: "payload of email.send".
        what: String,
        /// What the codec said, with the place in the JSON.
        message: String,
    },
    /// An address, option or environment variable that makes no sense.
    #[error("{0}")]
    Config(String),
}

#[cfg(feature = "client")]
fn failed_nodes(failures: &[(String, Failure)]) -> String {
    failures.iter().map(|(node, failure)| format!("; {node}: {failure}")).collect()
}

fn because(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

impl Error {
    /// The gRPC code, when a call was refused; [`Code::DeadlineExceeded`] for a timeout, [`Code::InvalidArgument`] for
    /// what was refused before it was sent.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Rpc(error) => Some(error.code),
            Self::Timeout { .. } => Some(Code::DeadlineExceeded),
            Self::Codec { .. } | Self::Config(_) => Some(Code::InvalidArgument),
            #[cfg(feature = "client")]
            Self::WorkflowFailed { .. } => None,
            Self::JobFailed { .. } | Self::JobCancelled { .. } | Self::JobExpired { .. } => None,
        }
    }

    /// The server's stable word for it, such as "UNIQUE_CONFLICT"; empty when it did not come from the server.
    pub fn reason(&self) -> &str {
        self.rpc().map_or("", |error| &error.reason)
    }

    /// Path of the offending field, such as "retry.max_attempts"; empty when there is none.
    pub fn field(&self) -> &str {
        self.rpc().map_or("", |error| &error.field)
    }

    /// Whether the same call may succeed later.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Timeout { .. } => true,
            _ => self.rpc().is_some_and(RpcError::retryable),
        }
    }

    /// How long to wait before trying again, when the server said so.
    pub fn retry_delay(&self) -> Option<Duration> {
        self.rpc().and_then(|error| error.retry_delay)
    }

    /// The dynamic parts of the message; None when it did not come from the server.
    pub fn metadata(&self) -> Option<&BTreeMap<String, String>> {
        self.rpc().map(|error| &error.metadata)
    }

    /// The job that was there first, after ALREADY_EXISTS.
    pub fn existing_job_id(&self) -> Option<&str> {
        self.metadata()?.get("job_id").map(String::as_str)
    }

    fn rpc(&self) -> Option<&RpcError> {
        match self {
            Self::Rpc(error) => Some(error),
            _ => None,
        }
    }

    /// The same error, saying what it is about.
    pub(crate) fn about(self, what: &str) -> Self {
        match self {
            Self::Rpc(mut error) => {
                error.message = format!("{what}: {}", error.message);
                Self::Rpc(error)
            }
            Self::Codec { what: body, message } => Self::Codec { what: format!("{what}: {body}"), message },
            other => other,
        }
    }

    pub(crate) fn codec(what: impl Into<String>, error: impl fmt::Display) -> Self {
        Self::Codec { what: what.into(), message: error.to_string() }
    }

    pub(crate) fn invalid(field: &str, message: impl Into<String>) -> Self {
        Self::Rpc(Box::new(RpcError {
            code: Code::InvalidArgument,
            reason: "INVALID_FIELD".into(),
            message: message.into(),
            field: field.into(),
            retry_delay: None,
            metadata: BTreeMap::new(),
        }))
    }
}

impl From<RpcError> for Error {
    fn from(error: RpcError) -> Self {
        Self::Rpc(Box::new(error))
    }
}

/// A refusal, with everything the server said about it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RpcError {
    /// The gRPC code.
    pub code: Code,
    /// The server's stable word for it, such as "QUEUE_FULL"; empty when the refusal came from elsewhere.
    pub reason: String,
    /// For a developer, in English. Not stable.
    pub message: String,
    /// Path of the offending field, or empty.
    pub field: String,
    /// Wait at least this long before trying again.
    pub retry_delay: Option<Duration>,
    /// The dynamic parts of the message, such as "job_id".
    pub metadata: BTreeMap<String, String>,
}

impl RpcError {
    /// Whether the same call may succeed later: UNAVAILABLE and DEADLINE_EXCEEDED; RESOURCE_EXHAUSTED and ABORTED when
    /// the server said when.
    pub fn retryable(&self) -> bool {
        match self.code {
            Code::Unavailable | Code::DeadlineExceeded => true,
            Code::ResourceExhausted | Code::Aborted => self.retry_delay.is_some(),
            _ => false,
        }
    }

    pub(crate) fn from_status(status: &tonic::Status) -> Self {
        let details = status.get_error_details();
        let mut error = Self {
            code: Code::from_number(status.code() as i32),
            reason: String::new(),
            message: status.message().to_owned(),
            field: String::new(),
            retry_delay: details.retry_info().and_then(|info| info.retry_delay),
            metadata: BTreeMap::new(),
        };
        if let Some(info) = details.error_info() {
            error.reason.clone_from(&info.reason);
            error.metadata = info.metadata.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        }
        if let Some(violation) = details.bad_request().and_then(|bad| bad.field_violations.first()) {
            error.field.clone_from(&violation.field);
        }
        error
    }

    pub(crate) fn from_item(item: pb::ItemError) -> Self {
        Self {
            code: Code::from_number(item.code),
            reason: item.reason,
            message: item.message,
            field: item.field,
            retry_delay: item.retry_delay.as_ref().map(from_duration),
            metadata: item.metadata,
        }
    }

    pub(crate) fn local(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            reason: String::new(),
            message: message.into(),
            field: String::new(),
            retry_delay: None,
            metadata: BTreeMap::new(),
        }
    }
}

impl fmt::Display for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code.name())?;
        if !self.reason.is_empty() {
            write!(f, " / {}", self.reason)?;
        }
        if !self.field.is_empty() && !self.message.contains(&self.field) {
            write!(f, " ({})", self.field)?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for RpcError {}

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $number:literal $name:literal,)*) => {
        /// The codes of gRPC.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Code { $($(#[$doc])* $variant = $number,)* }

        impl Code {
            /// As gRPC spells it: "NOT_FOUND".
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            pub(crate) fn from_number(number: i32) -> Self {
                match number { $($number => Self::$variant,)* _ => Self::Unknown }
            }
        }
    };
}

codes! {
    /// The call was given up.
    Cancelled = 1 "CANCELLED",
    /// Neither side knows.
    Unknown = 2 "UNKNOWN",
    /// The request itself is wrong; see `field`.
    InvalidArgument = 3 "INVALID_ARGUMENT",
    /// Too late.
    DeadlineExceeded = 4 "DEADLINE_EXCEEDED",
    /// No such thing.
    NotFound = 5 "NOT_FOUND",
    /// There is one already.
    AlreadyExists = 6 "ALREADY_EXISTS",
    /// These credentials do not allow it.
    PermissionDenied = 7 "PERMISSION_DENIED",
    /// A limit is reached.
    ResourceExhausted = 8 "RESOURCE_EXHAUSTED",
    /// The state of things does not allow it.
    FailedPrecondition = 9 "FAILED_PRECONDITION",
    /// Somebody else changed it meanwhile.
    Aborted = 10 "ABORTED",
    /// Past the end.
    OutOfRange = 11 "OUT_OF_RANGE",
    /// This server does not do that.
    Unimplemented = 12 "UNIMPLEMENTED",
    /// A bug of the server.
    Internal = 13 "INTERNAL",
    /// No server, or not now.
    Unavailable = 14 "UNAVAILABLE",
    /// Data is gone.
    DataLoss = 15 "DATA_LOSS",
    /// No valid credentials.
    Unauthenticated = 16 "UNAUTHENTICATED",
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use tonic_types::ErrorDetails;

    #[test]
    fn a_status_keeps_reason_field_delay_and_metadata() {
        let mut details = ErrorDetails::new();
        details
            .set_error_info("INVALID_FIELD", "jobwire.dev", HashMap::from([("limit".to_owned(), "4".to_owned())]))
            .add_bad_request_violation("job.priority", "must be -4 to 4")
            .set_retry_info(Some(Duration::from_millis(1_500)));
        let status = tonic::Status::with_error_details(tonic::Code::InvalidArgument, "priority is 9", details);
        let error = Error::from(RpcError::from_status(&status));
        assert_eq!(error.code(), Some(Code::InvalidArgument));
        assert_eq!((error.reason(), error.field()), ("INVALID_FIELD", "job.priority"));
        assert_eq!(error.retry_delay(), Some(Duration::from_millis(1_500)));
        assert_eq!(error.metadata().and_then(|m| m.get("limit")).map(String::as_str), Some("4"));
        assert!(!error.retryable());
        assert_eq!(error.to_string(), "INVALID_ARGUMENT / INVALID_FIELD (job.priority): priority is 9");
    }

    #[test]
    fn exhaustion_is_retryable_only_when_the_server_says_when() {
        let mut error = RpcError::local(Code::ResourceExhausted, "queue is full");
        assert!(!error.retryable());
        error.retry_delay = Some(Duration::from_secs(1));
        assert!(error.retryable());
        assert!(RpcError::local(Code::Unavailable, "").retryable());
        assert!(!RpcError::local(Code::NotFound, "").retryable());
    }
}
