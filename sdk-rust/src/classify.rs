//! Classifiers: what an error that a handler returned through `?` means for its job. They are asked in the order they
//! were added to the worker ([`WorkerBuilder::classify`](crate::WorkerBuilder::classify)), [`http()`] last and by default;
//! the first answer counts, and without one the job's retry policy decides. Each is asked for the error first, then for
//! what caused it, down to the root. What a handler says itself with a [`JobError`](crate::JobError) is never classified.
//!
//! ```
//! use jobwire::classify::{self, Verdict};
//! # use jobwire::{Client, Worker};
//! # fn example(client: Client) {
//! Worker::builder(client)
//!     .classify(classify::http_strict)
//!     .classify(classify::database)
//!     .classify(|error| error.is::<std::num::ParseIntError>().then_some(Verdict::NonRetryable))
//! # ;
//! # }
//! ```
//!
//! The features `reqwest`, `sqlx` and `tokio-postgres` teach the classifiers the errors of those crates. With any HTTP
//! client that uses the `http` crate's types, [`HttpError::check`] turns an answer into an error they know:
//!
//! ```
//! # use jobwire::classify::HttpError;
//! # fn example(response: http::Response<()>) -> Result<(), jobwire::JobError> {
//! HttpError::check(response.status(), response.headers())?; // 429 with Retry-After: not tried again before that
//! # Ok(()) }
//! ```

use std::error::Error;
use std::fmt;
use std::time::{Duration, SystemTime};

use rand::Rng;

use crate::types::Throttle;

/// Causes that are looked at.
const DEPTH: usize = 16;
/// After a deadlock: soon, and not all at the same time.
const DATABASE_DELAY_MS: std::ops::RangeInclusive<u64> = 100..=1_000;

/// What an error means. Type, message and causes of the failure stay those of the error.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Verdict {
    /// By the job's retry policy, whatever later classifiers would say.
    Retry,
    /// Failed, and not to be tried again before this long; uses up an attempt.
    RetryAfter(Duration),
    /// Failed for good.
    NonRetryable,
    /// Failed for good, and not worth keeping for repair.
    Discard,
    /// Not now: run again after this long; uses up no attempt. [`Throttle`] holds siblings back too.
    Snooze(Duration, Throttle),
}

pub(crate) type Classifier = Box<dyn Fn(&(dyn Error + 'static)) -> Option<Verdict> + Send + Sync>;

/// The first answer of `classifiers`.
pub(crate) fn verdict(classifiers: &[Classifier], error: &(dyn Error + 'static)) -> Option<Verdict> {
    classifiers.iter().find_map(|classify| chain(error).find_map(classify))
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| (*error).source()).take(DEPTH)
}

/// 429 and 503 with a Retry-After: not tried again before that. On by default.
pub fn http(error: &(dyn Error + 'static)) -> Option<Verdict> {
    let error = error.downcast_ref::<HttpError>()?;
    error.retry_after.filter(|_| matches!(error.status, 429 | 503)).map(Verdict::RetryAfter)
}

/// 4xx is hopeless and not retried, but for 408 (Request Timeout), 425 (Too Early) and 429 (Too Many Requests).
pub fn http_strict(error: &(dyn Error + 'static)) -> Option<Verdict> {
    let status = status(error)?;
    ((400..500).contains(&status) && !matches!(status, 408 | 425 | 429)).then_some(Verdict::NonRetryable)
}

fn status(error: &(dyn Error + 'static)) -> Option<u16> {
    if let Some(error) = error.downcast_ref::<HttpError>() {
        return Some(error.status);
    }
    #[cfg(feature = "reqwest")]
    if let Some(status) = error.downcast_ref::<reqwest::Error>().and_then(reqwest::Error::status) {
        return Some(status.as_u16());
    }
    None
}

/// Deadlocks and serialisation failures: tried again after 100 ms to 1 s. Knows the errors of `sqlx` and
/// `tokio-postgres` with the features of those names; for other libraries see [`sqlstate`].
pub fn database(error: &(dyn Error + 'static)) -> Option<Verdict> {
    #[cfg(feature = "sqlx")]
    if let Some(sqlx::Error::Database(error)) = error.downcast_ref::<sqlx::Error>() {
        return sqlstate(&error.code()?);
    }
    #[cfg(feature = "tokio-postgres")]
    if let Some(error) = error.downcast_ref::<tokio_postgres::Error>() {
        return sqlstate(error.code()?.code());
    }
    let _ = error;
    None
}

/// What an SQLSTATE means: 40001 (serialisation failure; MySQL's deadlock as well) and 40P01 (PostgreSQL's deadlock) are
/// tried again after 100 ms to 1 s. For classifiers of one's own.
pub fn sqlstate(code: &str) -> Option<Verdict> {
    let delay = || Duration::from_millis(rand::rng().random_range(DATABASE_DELAY_MS));
    matches!(code, "40001" | "40P01").then(|| Verdict::RetryAfter(delay()))
}

/// An HTTP answer that is an error, with what it says about trying again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpError {
    status: u16,
    retry_after: Option<Duration>,
}

impl HttpError {
    /// An error for 4xx and 5xx, with the Retry-After of the headers.
    pub fn check(status: http::StatusCode, headers: &http::HeaderMap) -> Result<(), Self> {
        if !status.is_client_error() && !status.is_server_error() {
            return Ok(());
        }
        let header = headers.get(http::header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        Err(Self { status: status.as_u16(), retry_after: header.and_then(retry_after) })
    }

    /// The status code.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// How long to wait, when the answer said so.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HTTP status {}", self.status)
    }
}

impl Error for HttpError {}

/// Reads the value of a Retry-After header: seconds, or a date (in the past = zero).
pub fn retry_after(value: &str) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value.trim()).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secs;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot fetch")]
    struct Fetch(#[source] HttpError);

    fn answer(status: u16, retry_after: Option<&str>) -> HttpError {
        let mut headers = http::HeaderMap::new();
        if let Some(value) = retry_after {
            headers.insert(http::header::RETRY_AFTER, value.parse().expect("a value"));
        }
        HttpError::check(http::StatusCode::from_u16(status).expect("a status"), &headers).expect_err("an error")
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(retry_after(" 120 "), Some(secs(120)));
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        let soon = retry_after(&httpdate::fmt_http_date(SystemTime::now() + secs(100))).expect("a date");
        assert!((secs(90)..=secs(100)).contains(&soon), "{soon:?}");
        assert_eq!((retry_after("later"), retry_after("-1")), (None, None));
    }

    #[test]
    fn http_knows_busy_answers_anywhere_in_the_chain() {
        let classifiers: Vec<Classifier> = vec![Box::new(http)];
        let verdict = |error: HttpError| verdict(&classifiers, &Fetch(error));
        assert_eq!(verdict(answer(429, Some("7"))), Some(Verdict::RetryAfter(secs(7))));
        assert_eq!(verdict(answer(503, Some("7"))), Some(Verdict::RetryAfter(secs(7))));
        assert_eq!(verdict(answer(503, None)), None, "by the policy");
        assert_eq!(verdict(answer(500, Some("7"))), None);
        let ok = HttpError::check(http::StatusCode::FOUND, &http::HeaderMap::new());
        assert_eq!(ok, Ok(()));
    }

    #[test]
    fn http_strict_gives_up_on_what_the_client_did_wrong() {
        for (status, hopeless) in [(400, true), (404, true), (408, false), (425, false), (429, false), (500, false)] {
            let verdict = http_strict(&answer(status, None));
            assert_eq!(verdict, hopeless.then_some(Verdict::NonRetryable), "{status}");
        }
    }

    #[test]
    fn deadlocks_are_tried_again_soon() {
        for code in ["40001", "40P01"] {
            match sqlstate(code) {
                Some(Verdict::RetryAfter(delay)) => assert!((100..=1_000).contains(&delay.as_millis()), "{delay:?}"),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(sqlstate("23505"), None);
    }

    #[test]
    fn the_first_classifier_wins_for_the_whole_chain() {
        let user: Classifier = Box::new(|error| error.is::<HttpError>().then_some(Verdict::Discard));
        assert_eq!(verdict(&[user, Box::new(http)], &Fetch(answer(429, Some("1")))), Some(Verdict::Discard));
    }

    #[cfg(feature = "sqlx")]
    #[test]
    fn errors_of_sqlx_are_known() {
        #[derive(Debug)]
        struct Deadlock;
        impl fmt::Display for Deadlock {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("deadlock detected")
            }
        }
        impl Error for Deadlock {}
        impl sqlx::error::DatabaseError for Deadlock {
            fn message(&self) -> &str {
                "deadlock detected"
            }
            fn code(&self) -> Option<std::borrow::Cow<'_, str>> {
                Some("40P01".into())
            }
            fn as_error(&self) -> &(dyn Error + Send + Sync + 'static) {
                self
            }
            fn as_error_mut(&mut self) -> &mut (dyn Error + Send + Sync + 'static) {
                self
            }
            fn into_error(self: Box<Self>) -> Box<dyn Error + Send + Sync + 'static> {
                self
            }
            fn kind(&self) -> sqlx::error::ErrorKind {
                sqlx::error::ErrorKind::Other
            }
        }
        let error = sqlx::Error::Database(Box::new(Deadlock));
        assert!(matches!(database(&error), Some(Verdict::RetryAfter(_))));
        assert_eq!(database(&sqlx::Error::RowNotFound), None);
    }
}
