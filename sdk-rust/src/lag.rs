//! Notices when the runtime of the handlers does not turn: something blocks it. Leases are safe, for the session has a
//! thread of its own, but every other handler of the process stands still.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

/// How often the runtime is asked, and how late an answer may be.
pub(crate) const PERIOD: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(crate) struct Lag {
    asked: Option<Asked>,
}

#[derive(Debug)]
struct Asked {
    at: Instant,
    /// How long it took.
    answered: Arc<OnceLock<Duration>>,
    reported: bool,
}

impl Lag {
    /// To be called every period. Asks the runtime for a sign of life; gives how long it has been silent, once per
    /// silence, when that is longer than the period.
    pub fn tick(&mut self, now: Instant, user: &Handle) -> Option<Duration> {
        if let Some(asked) = &mut self.asked
            && asked.answered.get().is_none()
        {
            let silence = now.saturating_duration_since(asked.at);
            let late = silence >= PERIOD && !std::mem::replace(&mut asked.reported, true);
            return late.then_some(silence);
        }
        let answered = Arc::new(OnceLock::new());
        self.asked = Some(Asked { at: now, answered: answered.clone(), reported: false });
        let asked = Instant::now();
        user.spawn(async move { answered.set(asked.elapsed()) });
        None
    }

    /// How late the last sign of life was, or already is.
    pub fn latest(&self, now: Instant) -> Duration {
        let Some(asked) = &self.asked else { return Duration::ZERO };
        asked.answered.get().copied().unwrap_or_else(|| now.saturating_duration_since(asked.at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_that_does_not_turn_is_reported_once() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let (mut lag, t0) = (Lag::default(), Instant::now());
        assert_eq!(lag.tick(t0, runtime.handle()), None);
        assert_eq!(lag.tick(t0 + PERIOD, runtime.handle()), Some(PERIOD));
        assert_eq!(lag.tick(t0 + 2 * PERIOD, runtime.handle()), None, "said already");
        assert_eq!(lag.latest(t0 + 2 * PERIOD), 2 * PERIOD);
        runtime.block_on(tokio::task::yield_now());
        assert!(lag.latest(t0 + 3 * PERIOD) < PERIOD);
        assert_eq!(lag.tick(t0 + 3 * PERIOD, runtime.handle()), None, "it turns again");
        assert_eq!(lag.tick(t0 + 4 * PERIOD, runtime.handle()), Some(PERIOD), "a new silence");
    }
}
