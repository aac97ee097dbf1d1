//! What a handler returns instead of a result.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::time::Duration;

use jobwire_proto::v1 as pb;

use crate::classify::{self, Classifier, Verdict};
use crate::convert::to_duration;
use crate::types::Throttle;

/// How a handler says that it did not finish. Any error turns into one through `?` and is then retried as the job's
/// policy says; the constructors say something more precise.
///
/// ```
/// # use jobwire::{JobError, secs};
/// fn fetch(status: u16) -> Result<String, JobError> {
///     match status {
///         200 => Ok("body".to_owned()),
///         429 => Err(JobError::snooze(secs(60))),
///         503 => Err(JobError::retry_after(secs(5), "the service is down")),
///         422 => Err(JobError::non_retryable("bad address")),
///         _ => Err(std::io::Error::other("unexpected status"))?,
///     }
/// }
/// ```
pub struct JobError(Box<Inner>);

struct Inner {
    action: Action,
    kind: String,
    message: String,
    causes: Vec<(String, String)>,
    details: Option<crate::Payload>,
    /// What came through `?`, for classifiers.
    source: Option<BoxError>,
}

type BoxError = Box<dyn Error + Send + Sync>;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    /// By the retry policy.
    Fail,
    RetryAfter(Duration),
    Stop,
    Discard,
    Unprocessable,
    Snooze(Duration, Throttle),
    Release,
    Cancelled,
}

impl JobError {
    /// An ordinary failure: retried by the job's policy. `Failure.type` is "JobError" unless [`kind`](Self::kind) sets
    /// another.
    pub fn new(message: impl Into<String>) -> Self {
        Self::with(Action::Fail, "JobError", message.into())
    }

    /// Failed, and not to be tried again before `delay`. Uses up an attempt, bounded by `max_attempts`.
    pub fn retry_after(delay: Duration, message: impl Into<String>) -> Self {
        Self::with(Action::RetryAfter(delay), "RetryAfter", message.into())
    }

    /// Failed for good: goes where `on_exhausted` says, the dead-letter set by default.
    pub fn non_retryable(message: impl Into<String>) -> Self {
        Self::with(Action::Stop, "NonRetryable", message.into())
    }

    /// Failed for good, and not worth keeping for repair.
    pub fn discard(message: impl Into<String>) -> Self {
        Self::with(Action::Discard, "Discard", message.into())
    }

    /// Not now: run again after `delay`. Uses up no attempt. See [`throttle`](Self::throttle).
    pub fn snooze(delay: Duration) -> Self {
        Self::with(Action::Snooze(delay, Throttle::Job), "Snooze", String::new())
    }

    /// Given back as good as untouched: the job returns to the front of its queue. Uses up no attempt.
    pub fn release(reason: impl Into<String>) -> Self {
        Self::with(Action::Release, "Release", reason.into())
    }

    /// The handler obeyed a cancel. What is reported depends on why it was told to stop: Cancelled when somebody or the
    /// workflow asked, a timeout failure after `timeout`, Released at shutdown, nothing when the lease is lost.
    pub fn cancelled() -> Self {
        Self::with(Action::Cancelled, "Cancelled", String::new())
    }

    /// An error of whatever kind, retried by the job's policy: for boxed errors, such as those of tower layers and
    /// `anyhow`, which `?` does not take. A `JobError` in the box stays what it is.
    pub fn boxed(error: impl Into<BoxError>) -> Self {
        match error.into().downcast::<Carried>() {
            Ok(carried) => carried.0,
            Err(error) => Self::from_error("Error", error),
        }
    }

    /// With [`snooze`](Self::snooze): hold back siblings for the same time as well. Nothing otherwise.
    pub fn throttle(mut self, scope: Throttle) -> Self {
        if let Action::Snooze(_, throttle) = &mut self.0.action {
            *throttle = scope;
        }
        self
    }

    /// Names the failure: `Failure.type`, which `non_retryable_types` of the retry policy is matched against.
    pub fn kind(mut self, kind: impl Into<String>) -> Self {
        self.0.kind = kind.into();
        self
    }

    /// Replaces the message. One line for a person, at most 4 KiB; longer is cut.
    pub fn message(mut self, message: impl Into<String>) -> Self {
        self.0.message = message.into();
        self
    }

    /// Anything to keep with the failure. Counts as a result for size limits.
    pub fn details(mut self, details: crate::Payload) -> Self {
        self.0.details = Some(details);
        self
    }

    /// The error it was made of, if it was.
    pub fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_ref().map(|source| &**source as _)
    }

    pub(crate) fn action(&self) -> &Action {
        &self.0.action
    }

    /// Lets classifiers say what it means, if nobody else has.
    pub(crate) fn classified(mut self, classifiers: &[Classifier]) -> Self {
        if self.0.action == Action::Fail
            && let Some(verdict) = self.source().and_then(|error| classify::verdict(classifiers, error))
        {
            self.0.action = match verdict {
                Verdict::Retry => Action::Fail,
                Verdict::RetryAfter(delay) => Action::RetryAfter(delay),
                Verdict::NonRetryable => Action::Stop,
                Verdict::Discard => Action::Discard,
                Verdict::Snooze(delay, throttle) => Action::Snooze(delay, throttle),
            };
        }
        self
    }

    fn from_error(kind: &str, error: BoxError) -> Self {
        const CAUSES_MAX: usize = 5;
        let mut job_error = Self::with(Action::Fail, kind, error.to_string());
        let mut source = error.source();
        while let Some(cause) = source.filter(|_| job_error.0.causes.len() < CAUSES_MAX) {
            job_error.0.causes.push((String::new(), cause.to_string()));
            source = cause.source();
        }
        job_error.0.source = Some(error);
        job_error
    }

    /// The payload could not be read: never retried.
    pub(crate) fn unprocessable(message: impl Into<String>) -> Self {
        Self::with(Action::Unprocessable, "Unprocessable", message.into())
    }

    fn with(action: Action, kind: &str, message: String) -> Self {
        Self(Box::new(Inner {
            action,
            kind: kind.to_owned(),
            message,
            causes: Vec::new(),
            details: None,
            source: None,
        }))
    }

    /// The outcome to report; `timed_out` and the like are decided by the caller.
    pub(crate) fn into_result(self) -> pb::outcome::Result {
        use pb::outcome::Result as R;
        let action = self.0.action.clone();
        match action {
            Action::Fail => self.failed(pb::FailureAction::Unspecified, None),
            Action::RetryAfter(delay) => self.failed(pb::FailureAction::Retry, Some(delay)),
            Action::Stop | Action::Unprocessable => self.failed(pb::FailureAction::Stop, None),
            Action::Discard => self.failed(pb::FailureAction::Discard, None),
            Action::Snooze(delay, throttle) => R::Snoozed(pb::Snoozed {
                delay: Some(to_duration(delay)),
                reason: self.0.message,
                throttle: throttle.to_proto() as i32,
            }),
            Action::Release => R::Released(pb::Released { reason: self.0.message }),
            Action::Cancelled => R::Cancelled(pb::Cancelled { reason: self.0.message }),
        }
    }

    /// The same for another job, without what came through `?`.
    pub(crate) fn again(&self) -> Self {
        let Inner { action, kind, message, causes, details, source: _ } = &*self.0;
        Self(Box::new(Inner {
            action: action.clone(),
            kind: kind.clone(),
            message: message.clone(),
            causes: causes.clone(),
            details: details.clone(),
            source: None,
        }))
    }

    fn failed(self, action: pb::FailureAction, retry_delay: Option<Duration>) -> pb::outcome::Result {
        let kind = match self.0.action {
            Action::Unprocessable => pb::FailureKind::Unprocessable,
            _ => pb::FailureKind::Application,
        };
        let cause = self.0.causes.into_iter().rev().fold(None, |cause, (r#type, message)| {
            Some(Box::new(pb::Failure { r#type, message, cause, ..Default::default() }))
        });
        pb::outcome::Result::Failed(pb::Failed {
            failure: Some(pb::Failure {
                kind: kind as i32,
                r#type: self.0.kind,
                message: self.0.message,
                details: self.0.details.map(crate::Payload::into_proto),
                cause,
                ..Default::default()
            }),
            action: action as i32,
            retry_delay: retry_delay.map(to_duration),
        })
    }
}

/// A handler that panicked has failed.
pub(crate) fn panicked(panic: &(dyn Any + Send)) -> JobError {
    let message = panic
        .downcast_ref::<&str>()
        .map(|message| (*message).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "the handler panicked".to_owned());
    JobError::new(message).kind("panic")
}

/// Retried by the job's policy. `Failure.type` is the path of the error's type, causes are kept 5 deep.
impl<E: Error + Send + Sync + 'static> From<E> for JobError {
    fn from(error: E) -> Self {
        Self::from_error(std::any::type_name::<E>(), Box::new(error))
    }
}

/// As tower's layers want errors; [`JobError::boxed`] gives it back.
impl From<JobError> for BoxError {
    fn from(error: JobError) -> Self {
        Box::new(Carried(error))
    }
}

/// A `JobError` in a box. Not an `Error` by itself, so that `?` can make one of any error.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Carried(JobError);

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.kind.as_str(), self.0.message.as_str()) {
            (kind, "") => f.write_str(kind),
            (kind, message) => write!(f, "{kind}: {message}"),
        }
    }
}

impl fmt::Debug for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JobError({:?}, {self})", self.0.action)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secs;

    fn failed(error: JobError) -> pb::Failed {
        match error.into_result() {
            pb::outcome::Result::Failed(failed) => failed,
            other => panic!("expected a failure, got {other:?}"),
        }
    }

    #[test]
    fn any_error_is_retryable_and_keeps_its_path_and_causes() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot send")]
        struct SendError(#[source] std::io::Error);
        let outcome = failed(SendError(std::io::Error::other("refused")).into());
        assert_eq!(outcome.action, pb::FailureAction::Unspecified as i32);
        let failure = outcome.failure.expect("a failure");
        assert!(failure.r#type.ends_with("::SendError"), "{}", failure.r#type);
        assert_eq!(failure.message, "cannot send");
        assert_eq!(failure.cause.expect("a cause").message, "refused");
    }

    #[test]
    fn boxed_errors_keep_what_they_are() {
        let there: BoxError = JobError::discard("no").into();
        assert_eq!(*JobError::boxed(there).action(), Action::Discard);
        let error = JobError::boxed(Box::new(std::io::Error::other("disk")) as BoxError);
        assert!(error.source().is_some_and(|source| source.is::<std::io::Error>()));
        assert_eq!(failed(error).failure.expect("a failure").message, "disk");
    }

    #[test]
    fn classifiers_speak_when_the_handler_did_not() {
        let classifiers: Vec<Classifier> = vec![Box::new(|_| Some(Verdict::NonRetryable))];
        let io = || std::io::Error::other("disk");
        let outcome = failed(JobError::from(io()).classified(&classifiers));
        assert_eq!(outcome.action, pb::FailureAction::Stop as i32);
        assert_eq!(outcome.failure.expect("a failure").message, "disk", "what failed stays");
        let said = failed(JobError::retry_after(secs(1), "busy").classified(&classifiers));
        assert_eq!(said.action, pb::FailureAction::Retry as i32);
        let plain = failed(JobError::new("no source").classified(&classifiers));
        assert_eq!(plain.action, pb::FailureAction::Unspecified as i32);
    }

    #[test]
    fn constructors_say_what_happens_next() {
        let retry = failed(JobError::retry_after(secs(5), "later"));
        assert_eq!(retry.action, pb::FailureAction::Retry as i32);
        assert_eq!(retry.retry_delay.expect("a delay").seconds, 5);
        assert_eq!(failed(JobError::non_retryable("no")).action, pb::FailureAction::Stop as i32);
        assert_eq!(failed(JobError::discard("no")).action, pb::FailureAction::Discard as i32);
        let bad = failed(JobError::unprocessable("no JSON"));
        assert_eq!(bad.failure.expect("a failure").kind, pb::FailureKind::Unprocessable as i32);
        match JobError::snooze(secs(60)).throttle(Throttle::Queue).message("429").into_result() {
            pb::outcome::Result::Snoozed(snoozed) => {
                assert_eq!(snoozed.throttle, pb::ThrottleScope::Queue as i32);
                assert_eq!((snoozed.delay.expect("a delay").seconds, snoozed.reason.as_str()), (60, "429"));
            }
            other => panic!("expected a snooze, got {other:?}"),
        }
    }
}
