//! Redis's time, as this server knows it. Every answer carries `TIME`; what has passed since on the own monotonic clock is
//! added. The estimate is never ahead of Redis, and behind it by the shortest way of an answer.
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use crate::model::time::{Clock, Now};

/// An answer that is off by more than this tells of a clock that was set.
const STEP_MS: i64 = 5_000;

/// Answers that took longer say nothing about the time.
const SLOW: Duration = Duration::from_secs(1);

/// Where times in records come from.
pub(super) struct RedisClock {
    /// Tests move the time by hand; scripts are then told what it is.
    manual: Option<Arc<dyn Clock>>,
    since: Instant,
    /// Redis's time less the own; the greatest seen is the nearest to the truth.
    offset_ms: AtomicI64,
}

impl RedisClock {
    pub fn new(manual: Option<Arc<dyn Clock>>) -> Self {
        Self { manual, since: Instant::now(), offset_ms: AtomicI64::new(i64::MIN) }
    }

    /// The answer to a call made at `asked` carried this time. Tells by how much the clock of Redis was set, if it was. An
    /// answer that took long tells nothing: this process may have slept on it.
    pub fn heard(&self, redis_ms: i64, asked: Instant) -> Option<i64> {
        let known = self.offset_ms.load(Relaxed) != i64::MIN;
        if known && asked.elapsed() > SLOW {
            return None;
        }
        let own_ms = self.since.elapsed().as_millis() as i64;
        let offset_ms = redis_ms - own_ms;
        let before_ms = self.offset_ms.fetch_max(offset_ms, Relaxed);
        let step_ms = offset_ms.saturating_sub(before_ms);
        if before_ms == i64::MIN || step_ms.abs() < STEP_MS {
            return None;
        }
        self.offset_ms.store(offset_ms, Relaxed);
        Some(step_ms)
    }

    pub fn now(&self) -> Now {
        match &self.manual {
            Some(clock) => clock.now(),
            None => {
                let ms = self.since.elapsed().as_millis() as i64 + self.offset_ms.load(Relaxed);
                Now { wall_ms: ms, mono_ms: ms }
            }
        }
    }

    /// The first two arguments of every script.
    pub fn args(&self) -> [String; 2] {
        match &self.manual {
            Some(clock) => {
                let now = clock.now();
                [now.wall_ms.to_string(), now.mono_ms.to_string()]
            }
            None => [String::new(), String::new()],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_the_fastest_answer_and_steps() {
        let clock = RedisClock::new(None);
        assert_eq!(clock.heard(1_000_000, Instant::now()), None);
        assert_eq!(clock.heard(999_900, Instant::now()), None, "an answer that was slow");
        assert!((1_000_000..1_000_100).contains(&clock.now().wall_ms));
        assert!(clock.heard(2_000_000, Instant::now()).is_some_and(|step| step > 900_000));
        assert!(clock.now().wall_ms >= 2_000_000);
        assert!(clock.heard(1_500_000, Instant::now()).is_some_and(|step| step < -400_000));
        assert!((1_500_000..1_500_100).contains(&clock.now().wall_ms));
    }
}
