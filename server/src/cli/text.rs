//! Words for people: times, durations, states, payloads. What others wrote is made harmless for a terminal.
use std::borrow::Cow;

use jiff::{Timestamp, tz::TimeZone};
use jobwire_proto::v1::{AttemptResult, Failure, FailureKind, JobState, LogLevel, Payload, Progress, payload::Body};
use prost_types::{Duration, Timestamp as ProtoTimestamp};

/// One line without control characters: they are written as escapes.
pub fn line(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_harmful(c) { clean.extend(c.escape_default()) } else { clean.push(c) }
    }
    Cow::Owned(clean)
}

/// As [`line`], but line ends and tabs stay.
pub fn lines(text: &str) -> String {
    text.split('\n')
        .map(|part| part.split('\t').map(line).collect::<Vec<_>>().join("\t"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Control characters, and those that turn the direction of text around.
fn is_harmful(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// At most `max` characters, the cut marked.
pub fn cut(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    text.chars().take(max.saturating_sub(1)).chain(['…']).collect()
}

/// Two units at most: `340 ms`, `1.2 s`, `14 m 3 s`, `3 d 4 h`.
pub fn words(duration: Duration) -> String {
    let millis = duration.seconds.saturating_mul(1_000).saturating_add(i64::from(duration.nanos) / 1_000_000).max(0);
    let (s, m, h, d) = (millis / 1_000, millis / 60_000, millis / 3_600_000, millis / 86_400_000);
    match millis {
        ..1_000 => format!("{millis} ms"),
        1_000..10_000 => format!("{:.1} s", millis as f64 / 1_000.0),
        10_000..60_000 => format!("{s} s"),
        60_000..3_600_000 => format!("{m} m {} s", s % 60),
        3_600_000..86_400_000 => format!("{h} h {} m", m % 60),
        _ => format!("{d} d {} h", h % 24),
    }
}

/// `3 s ago`, `in 2 m 0 s`; empty if there is no time.
pub fn ago(time: Option<&ProtoTimestamp>) -> String {
    let Some(time) = time else { return String::new() };
    let away = millis(time) - Timestamp::now().as_millisecond();
    let duration = |ms: i64| words(Duration { seconds: ms / 1_000, nanos: ((ms % 1_000) * 1_000_000) as i32 });
    if away > 0 { format!("in {}", duration(away)) } else { format!("{} ago", duration(-away)) }
}

/// Local time to the second; empty if there is none.
pub fn time(time: Option<&ProtoTimestamp>) -> String {
    let local = time.and_then(|time| Timestamp::from_millisecond(millis(time)).ok());
    local.map(|time| time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()).unwrap_or_default()
}

/// Local time of day with milliseconds, for logs.
pub fn clock(time: Option<&ProtoTimestamp>) -> String {
    let local = time.and_then(|time| Timestamp::from_millisecond(millis(time)).ok());
    local.map(|time| time.to_zoned(TimeZone::system()).strftime("%H:%M:%S%.3f").to_string()).unwrap_or_default()
}

fn millis(time: &ProtoTimestamp) -> i64 {
    time.seconds.saturating_mul(1_000).saturating_add(i64::from(time.nanos) / 1_000_000)
}

/// `READY`; a number if this program does not know it.
pub fn state(number: i32) -> String {
    name(JobState::try_from(number).map(|state| state.as_str_name()).ok(), "JOB_STATE_", number)
}

pub fn result(number: i32) -> String {
    match AttemptResult::try_from(number) {
        Ok(AttemptResult::Unspecified) => "RUNNING".to_owned(),
        known => name(known.map(|result| result.as_str_name()).ok(), "ATTEMPT_RESULT_", number),
    }
}

pub fn level(number: i32) -> String {
    name(LogLevel::try_from(number).map(|level| level.as_str_name()).ok(), "LOG_LEVEL_", number)
}

/// An enum value without the prefix of its type.
pub fn name(known: Option<&str>, prefix: &str, number: i32) -> String {
    known.map_or_else(|| number.to_string(), |name| name.strip_prefix(prefix).unwrap_or(name).to_owned())
}

/// The body as text, or its size if it is none.
pub fn payload(payload: &Payload) -> String {
    match &payload.body {
        None => String::new(),
        Some(Body::Text(text)) => lines(text),
        Some(Body::Data(data)) => {
            let kind = if payload.content_type.is_empty() { "bytes" } else { payload.content_type.as_str() };
            format!("({} bytes, {})", data.len(), line(kind))
        }
        Some(Body::Json(_)) => "(JSON)".to_owned(),
    }
}

/// `smtp.Timeout: no answer in 30 s`.
pub fn failure(failure: &Failure) -> String {
    let kind = match FailureKind::try_from(failure.kind) {
        _ if !failure.r#type.is_empty() => line(&failure.r#type).into_owned(),
        Ok(FailureKind::Unspecified | FailureKind::Application) => "failed".to_owned(),
        known => name(known.map(|kind| kind.as_str_name()).ok(), "FAILURE_KIND_", failure.kind),
    };
    if failure.message.is_empty() { kind } else { format!("{kind}: {}", line(&failure.message)) }
}

/// `40 %  12/30  resizing`.
pub fn progress(progress: &Progress) -> String {
    let mut parts = Vec::new();
    parts.extend(progress.percent.map(|percent| format!("{percent:.0} %")));
    if progress.total > 0 {
        parts.push(format!("{}/{}", progress.current, progress.total));
    } else if progress.current > 0 {
        parts.push(progress.current.to_string());
    }
    if !progress.message.is_empty() {
        parts.push(line(&progress.message).into_owned());
    }
    parts.join("  ")
}

/// `1,204`.
pub fn number(n: impl Into<i64>) -> String {
    let n: i64 = n.into();
    let digits = n.unsigned_abs().to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).expect("digits are ASCII")).collect();
    format!("{}{}", if n < 0 { "-" } else { "" }, groups.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        for (millis, text) in [
            (0, "0 ms"),
            (340, "340 ms"),
            (1_240, "1.2 s"),
            (59_999, "59 s"),
            (843_000, "14 m 3 s"),
            (7_260_000, "2 h 1 m"),
            (273_600_000, "3 d 4 h"),
        ] {
            let nanos = ((millis % 1_000) * 1_000_000) as i32;
            assert_eq!(words(Duration { seconds: millis / 1_000, nanos }), text);
        }
    }

    #[test]
    fn numbers_are_grouped() {
        for (n, text) in [(0, "0"), (999, "999"), (1_204, "1,204"), (-1_234_567, "-1,234,567")] {
            assert_eq!(number(n), text);
        }
    }

    #[test]
    fn control_characters_are_shown_not_sent() {
        assert_eq!(line("a\u{1b}]0;x\u{7}b\nc"), "a\\u{1b}]0;x\\u{7}b\\nc");
        assert_eq!(line("grün ✓"), "grün ✓");
        assert_eq!(lines("a\n\tb\u{1b}"), "a\n\tb\\u{1b}");
        assert_eq!(line("a\u{202e}b"), "a\\u{202e}b");
    }

    #[test]
    fn unknown_enum_values_are_numbers() {
        assert_eq!(state(7), "DEAD");
        assert_eq!(state(77), "77");
        assert_eq!(result(0), "RUNNING");
        assert_eq!(level(13), "WARN");
    }

    #[test]
    fn failures_and_progress_are_one_line() {
        let told = Failure { r#type: "smtp.Timeout".into(), message: "no answer".into(), ..Failure::default() };
        assert_eq!(failure(&told), "smtp.Timeout: no answer");
        let lost = Failure { kind: FailureKind::WorkerLost as i32, ..Failure::default() };
        assert_eq!(failure(&lost), "WORKER_LOST");
        let at = Progress { percent: Some(40.4), current: 12, total: 30, message: "x".into(), ..Progress::default() };
        assert_eq!(progress(&at), "40 %  12/30  x");
    }

    #[test]
    fn long_texts_are_cut_with_a_mark() {
        assert_eq!(cut("abcdef", 4), "abc…");
        assert_eq!(cut("abcd", 4), "abcd");
    }
}
