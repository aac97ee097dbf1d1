//! Spans and moments of time between std and protobuf. Nothing here can fail: what does not fit is cut.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A span for the wire. Longer than protobuf can say (10,000 years) becomes that.
pub(crate) fn to_duration(span: Duration) -> prost_types::Duration {
    const SECONDS_MAX: u64 = 315_576_000_000;
    prost_types::Duration {
        seconds: span.as_secs().min(SECONDS_MAX) as i64,
        nanos: if span.as_secs() < SECONDS_MAX { span.subsec_nanos() as i32 } else { 0 },
    }
}

/// A span from the wire; negative ones are 0.
pub(crate) fn from_duration(span: &prost_types::Duration) -> Duration {
    let nanos = i128::from(span.seconds) * 1_000_000_000 + i128::from(span.nanos);
    if nanos <= 0 {
        return Duration::ZERO;
    }
    Duration::new((nanos / 1_000_000_000) as u64, (nanos % 1_000_000_000) as u32)
}

/// A moment for the wire.
pub(crate) fn to_timestamp(time: SystemTime) -> prost_types::Timestamp {
    prost_types::Timestamp::from(time)
}

/// A moment from the wire; None when it lies outside of what the platform's clock can hold.
pub(crate) fn from_timestamp(time: &prost_types::Timestamp) -> Option<SystemTime> {
    let nanos = u32::try_from(time.nanos).ok()?;
    let seconds = Duration::new(time.seconds.unsigned_abs(), 0);
    let whole = if time.seconds >= 0 { UNIX_EPOCH.checked_add(seconds)? } else { UNIX_EPOCH.checked_sub(seconds)? };
    whole.checked_add(Duration::new(0, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_survive_the_round_trip_and_negative_ones_are_zero() {
        let span = Duration::from_millis(1_234);
        assert_eq!(from_duration(&to_duration(span)), span);
        assert_eq!(from_duration(&prost_types::Duration { seconds: -3, nanos: 5 }), Duration::ZERO);
        assert_eq!(to_duration(Duration::MAX).seconds, 315_576_000_000);
    }

    #[test]
    fn moments_survive_the_round_trip_also_before_1970() {
        for time in [UNIX_EPOCH + Duration::from_millis(1_700_000_000_123), UNIX_EPOCH - Duration::from_millis(1_500)] {
            assert_eq!(from_timestamp(&to_timestamp(time)), Some(time));
        }
        assert_eq!(from_timestamp(&prost_types::Timestamp { seconds: 0, nanos: -1 }), None);
    }
}
