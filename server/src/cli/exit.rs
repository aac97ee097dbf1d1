//! Exit codes, and errors that say what to do next.
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Done = 0,
    /// The job did not succeed, or a check failed.
    Unsuccessful = 1,
    /// Wrong arguments.
    Usage = 2,
    NotFound = 3,
    /// No server, or no answer in time.
    Unreachable = 4,
    /// Not authenticated, or not allowed.
    Denied = 5,
    /// The server understood and said no.
    Refused = 6,
    /// Time was up; the job goes on.
    StillRunning = 7,
    /// A bug of the server, or of this program.
    Bug = 8,
    Interrupted = 130,
}

impl Exit {
    /// The code for a gRPC status.
    pub fn of(code: Code) -> Self {
        match code {
            Code::Ok => Self::Done,
            Code::InvalidArgument | Code::OutOfRange => Self::Usage,
            Code::NotFound => Self::NotFound,
            Code::Unavailable | Code::DeadlineExceeded => Self::Unreachable,
            Code::Unauthenticated | Code::PermissionDenied => Self::Denied,
            Code::AlreadyExists
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::ResourceExhausted
            | Code::Unimplemented => Self::Refused,
            Code::Cancelled | Code::Unknown | Code::Internal | Code::DataLoss => Self::Bug,
        }
    }
}

/// Why a command did not do its work.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    /// Lines for stderr; empty = say nothing.
    pub message: String,
}

impl Failure {
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// To stderr.
    pub fn show(&self) {
        if !self.message.is_empty() {
            eprintln!("jobwire: {}", self.message);
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let info = status.get_details_error_info();
        let reason = info.as_ref().map_or("", |info| info.reason.as_str());
        let violations = status.get_details_bad_request().map(|bad| bad.field_violations).unwrap_or_default();
        let mut fields: Vec<String> = violations.into_iter().map(|violation| violation.field).collect();
        fields.extend(info.as_ref().and_then(|info| info.metadata.get("field").cloned()));
        fields.retain(|field| !field.is_empty() && !status.message().contains(field.as_str()));
        fields.dedup();
        let text = match status.message() {
            "" => status.code().description(),
            text => text,
        };
        let mut message = super::text::line(text).into_owned();
        if !fields.is_empty() {
            message.push_str(&format!(" (field {})", fields.join(", ")));
        }
        if !reason.is_empty() {
            message.push_str(&format!(" [{reason}]"));
        }
        if let Some(wait) = status.get_details_retry_info().and_then(|info| info.retry_delay) {
            message.push_str(&format!("\nTry again in {}.", super::text::words(super::spec::proto_duration(wait))));
        }
        if let Some(hint) = hint(reason, status.code()) {
            message.push_str(&format!("\n{hint}"));
        }
        Self::new(Exit::of(status.code()), message)
    }
}

fn hint(reason: &str, code: Code) -> Option<&'static str> {
    Some(match reason {
        "JOB_NOT_FOUND" => "Finished jobs go when their retention ends. What is there: jobwire job ls",
        "QUEUE_NOT_FOUND" => "What is there: jobwire queue ls",
        "WORKER_NOT_FOUND" => "Who is connected: jobwire worker ls",
        "INVALID_FILTER" => "A filter reads like: state = DEAD AND queue = mail",
        "JOB_RUNNING" => "Stop it first: jobwire job cancel ID",
        "ID_CONFLICT" => "See what is there: jobwire job get ID",
        "SHUTTING_DOWN" => "The server is about to stop; try again when it is back.",
        _ if code == Code::Internal => "This is a bug of the server; its log has more.",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn a_status_becomes_a_sentence_with_field_reason_and_hint() {
        let mut details = ErrorDetails::new();
        details.set_error_info("JOB_NOT_FOUND", "jobwire.dev", [("field".to_owned(), "id".to_owned())]);
        let failure = Failure::from(Status::with_error_details(Code::NotFound, "no such job", details));
        assert_eq!(failure.exit, Exit::NotFound);
        assert_eq!(
            failure.message,
            "no such job (field id) [JOB_NOT_FOUND]\nFinished jobs go when their retention ends. What is there: jobwire job ls"
        );
    }

    #[test]
    fn a_message_cannot_write_control_characters_to_the_terminal() {
        let failure = Failure::from(Status::invalid_argument("a\u{1b}[2Jb"));
        assert_eq!((failure.exit, failure.message.as_str()), (Exit::Usage, "a\\u{1b}[2Jb"));
    }
}
