//! Contract ↔ model. Everything that comes in is checked here, once, and becomes a type that cannot be wrong; each error
//! names the path of the field. Nothing below this layer knows protobuf.
//!
//! I26: bad input changes nothing.
use std::{fmt::Display, str::FromStr};

use prost_types::{Duration, Timestamp};

use super::status::ApiError;
use crate::model::{
    ids::{JobId, Name},
    limits::Limits,
};

pub mod bulk;
pub mod config;
pub mod frame;
pub mod job;
pub mod lease;
pub mod outcome;
pub mod payload;
pub mod queue;
pub mod schedule;
pub mod spec;
pub mod token;
pub mod worker;
pub mod workflow;

pub type Parsed<T> = Result<T, ApiError>;

/// Text that people write to be read by people: reasons, names of workers.
pub const NOTE_BYTES: usize = 1 << 10;
/// Names of workers, sessions, hosts, versions; longer is cut.
pub const LABEL_BYTES: usize = 256;

/// What checks depend on besides the value.
#[derive(Clone, Copy, Debug)]
pub struct Ctx<'a> {
    pub limits: &'a Limits,
    /// Wall clock, milliseconds.
    pub now_ms: i64,
    /// Unary calls, made by people and by code being written: unknown enum values are refused. On streams they count as
    /// unspecified, so that a newer peer can go on.
    pub strict: bool,
}

/// A span of time, in milliseconds: 0 or more, at most `most_ms`. What is not whole is rounded up.
pub fn span(field: &str, value: &Duration, most_ms: i64) -> Parsed<i64> {
    let refuse = |why: String| Err(ApiError::field(field, why));
    if !(-999_999_999..=999_999_999).contains(&value.nanos)
        || (value.seconds > 0 && value.nanos < 0)
        || (value.seconds < 0 && value.nanos > 0)
    {
        return refuse("is not a valid duration: nanos out of range or of another sign than seconds".into());
    }
    if value.seconds < 0 || value.nanos < 0 {
        return refuse("must not be negative".into());
    }
    match value.seconds.checked_mul(1_000) {
        Some(ms) if ms <= most_ms => {
            let ms = ms + (i64::from(value.nanos) + 999_999) / 1_000_000;
            if ms <= most_ms { Ok(ms) } else { refuse(format!("must be at most {} s", most_ms / 1_000)) }
        }
        _ => refuse(format!("must be at most {} s", most_ms / 1_000)),
    }
}

/// As [`span`], and more than nothing.
pub fn positive_span(field: &str, value: &Duration, most_ms: i64) -> Parsed<i64> {
    match span(field, value, most_ms)? {
        0 => Err(ApiError::field(field, "must be more than 0s")),
        ms => Ok(ms),
    }
}

/// A span inside a range; `None` when the field is absent.
pub fn span_between(field: &str, value: Option<&Duration>, least_ms: i64, most_ms: i64) -> Parsed<Option<i64>> {
    let Some(value) = value else { return Ok(None) };
    match span(field, value, most_ms)? {
        ms if ms < least_ms => Err(ApiError::field(field, format!("must be at least {} s", least_ms / 1_000))),
        ms => Ok(Some(ms)),
    }
}

/// A point in time, in milliseconds since the epoch: years 1 to 9999.
pub fn time(field: &str, value: &Timestamp) -> Parsed<i64> {
    const YEARS_1_TO_9999: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
    if !YEARS_1_TO_9999.contains(&value.seconds) || !(0..=999_999_999).contains(&value.nanos) {
        return Err(ApiError::field(field, "is not a valid time: years 1 to 9999, nanos 0 to 999999999"));
    }
    Ok(value.seconds * 1_000 + i64::from(value.nanos / 1_000_000))
}

pub fn to_span(ms: i64) -> Duration {
    Duration { seconds: ms / 1_000, nanos: (ms % 1_000) as i32 * 1_000_000 }
}

pub fn to_time(ms: i64) -> Timestamp {
    Timestamp { seconds: ms.div_euclid(1_000), nanos: ms.rem_euclid(1_000) as i32 * 1_000_000 }
}

/// A time that is 0 when there is none.
pub fn to_time_if(ms: i64) -> Option<Timestamp> {
    (ms != 0).then(|| to_time(ms))
}

/// Anything that reads itself from text and says what is wrong.
pub fn text<T: FromStr<Err: Display>>(field: &str, value: &str) -> Parsed<T> {
    value.parse().map_err(|error| ApiError::field(field, format!("{error}")))
}

/// A name that must be there.
pub fn name(field: &str, value: &str) -> Parsed<Name> {
    text(field, value)
}

/// The id of a job.
pub fn job_id(field: &str, value: &str) -> Parsed<JobId> {
    value.parse().map_err(|_| ApiError::field(field, "must be a UUID"))
}

/// An enum value, `Default` when unspecified or, unless strict, unknown.
pub fn choice<E: TryFrom<i32>, T: Default>(
    ctx: Ctx<'_>,
    field: &str,
    value: i32,
    meaning: impl FnOnce(E) -> T,
) -> Parsed<T> {
    match E::try_from(value) {
        Ok(known) => Ok(meaning(known)),
        Err(_) if ctx.strict => Err(ApiError::field(field, format!("{value} is not a value of this enum"))),
        Err(_) => Ok(T::default()),
    }
}

/// Refuses text that is longer than it may be.
pub fn at_most(field: &str, value: String, bytes: usize) -> Parsed<String> {
    if value.len() > bytes {
        return Err(ApiError::field(field, format!("must be at most {bytes} bytes")));
    }
    Ok(value)
}

/// Refuses a list that is longer than it may be.
pub fn count(field: &str, found: usize, most: usize) -> Parsed<()> {
    if found > most {
        return Err(ApiError::field(field, format!("{found} entries; at most {most} are allowed")));
    }
    Ok(())
}

/// A page or batch size: `default` for 0, capped at `most`, never negative.
pub fn size(field: &str, value: i32, default: usize, most: usize) -> Parsed<usize> {
    match usize::try_from(value) {
        Ok(0) => Ok(default),
        Ok(size) => Ok(size.min(most)),
        Err(_) => Err(ApiError::field(field, "must not be negative")),
    }
}

/// Cuts text to so many bytes, at a character's edge.
pub fn cut(mut value: String, bytes: usize) -> String {
    if value.len() > bytes {
        value.truncate(boundary(&value, bytes));
    }
    value
}

/// The last character's edge at or before `at`.
fn boundary(text: &str, at: usize) -> usize {
    (0..=at).rev().find(|at| text.is_char_boundary(*at)).expect("the start is one")
}

/// Cuts text in the middle to about so many bytes: both ends of a stack trace matter.
pub fn cut_middle(value: String, bytes: usize) -> String {
    const GAP: &str = "\n[…]\n";
    if value.len() <= bytes {
        return value;
    }
    let half = (bytes - GAP.len()) / 2;
    let head = &value[..boundary(&value, half)];
    let from = value.len() - half;
    let tail = &value[(from..).find(|at| value.is_char_boundary(*at)).expect("the end is one")..];
    format!("{head}{GAP}{tail}")
}

/// What an etag says: the version of the record it was read from.
pub fn etag(field: &str, value: &str) -> Parsed<Option<u32>> {
    if value.is_empty() {
        return Ok(None);
    }
    value.parse().map(Some).map_err(|_| ApiError::field(field, "is not an etag of this server"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::time::{DAY, SECOND};

    fn duration(seconds: i64, nanos: i32) -> Duration {
        Duration { seconds, nanos }
    }

    #[test]
    fn spans() {
        assert_eq!(span("f", &duration(1, 500_000_000), DAY).expect("valid"), 1_500);
        assert_eq!(span("f", &duration(0, 1), DAY).expect("rounded up"), 1);
        assert_eq!(span("f", &duration(86_400, 0), DAY).expect("the most"), DAY);
        for bad in [
            duration(-1, 0),
            duration(0, -1),
            duration(1, -1),
            duration(-1, 1),
            duration(0, 1_000_000_000),
            duration(86_400, 1),
            duration(i64::MAX, 0),
            duration(i64::MIN, i32::MIN),
        ] {
            assert!(span("f", &bad, DAY).is_err(), "{bad:?}");
        }
        assert!(positive_span("f", &duration(0, 0), DAY).is_err());
        assert!(span_between("f", Some(&duration(9, 0)), 10 * SECOND, DAY).is_err());
        assert_eq!(span_between("f", None, 10 * SECOND, DAY).expect("absent"), None);
    }

    #[test]
    fn times() {
        let at = |seconds, nanos| time("f", &Timestamp { seconds, nanos });
        assert_eq!(at(-1, 999_000_000).expect("valid"), -1);
        for (seconds, nanos) in [(i64::MIN, 0), (253_402_300_800, 0), (0, -1), (0, 1_000_000_000)] {
            assert!(at(seconds, nanos).is_err(), "{seconds} {nanos}");
        }
        for ms in [-1_500, 0, 1, 1_750_000_000_123] {
            assert_eq!(time("f", &to_time(ms)).expect("valid"), ms);
        }
    }

    #[test]
    fn cuts_keep_characters_whole() {
        assert_eq!(cut("aé".into(), 2), "a");
        let stack = cut_middle(format!("first{}last", "é".repeat(1_000)), 100);
        assert!(stack.len() <= 100 && stack.starts_with("first") && stack.ends_with("last"), "{stack}");
    }
}
