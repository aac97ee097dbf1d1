//! The ticks of a schedule, one after the other.
use jiff::{SignedDuration, Timestamp};

use super::cron::Local;
use crate::model::schedule::{Cadence, ScheduleSpec};

/// Ticks that are counted one by one; beyond that they are so many that nobody needs the number.
const COUNTED: u64 = 10_000;

/// A cadence that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCadence {
    #[error("{0}")]
    Cron(String),
    #[error("never fires: there is no such date")]
    Never,
    #[error("is not the name of a time zone, such as \"Europe/Berlin\" or \"UTC\"")]
    Zone,
}

/// Knows every tick.
#[derive(Clone, Debug)]
pub struct Calendar {
    rule: Rule,
    start_ms: i64,
    end_ms: i64,
}

#[derive(Clone, Debug)]
enum Rule {
    Cron(Box<Local>),
    /// At `first_ms`, and every `step_ms` from there.
    Every {
        first_ms: i64,
        step_ms: i64,
    },
}

impl Calendar {
    /// Of a schedule whose cadence was set at `anchor_ms`.
    pub fn new(spec: &ScheduleSpec, anchor_ms: i64) -> Result<Self, BadCadence> {
        let rule = match &spec.cadence {
            Cadence::Cron(text) => Rule::Cron(Box::new(Local::new(text, &spec.zone, spec.gap, spec.fold)?)),
            Cadence::Every(step_ms) => {
                // Without a start of its own, nothing fires before the first interval is over.
                let first_ms = spec.start_ms.unwrap_or(anchor_ms.saturating_add(*step_ms));
                Rule::Every { first_ms, step_ms: *step_ms }
            }
        };
        let (start_ms, end_ms) = (spec.start_ms.unwrap_or(i64::MIN), spec.end_ms.unwrap_or(i64::MAX));
        Ok(Self { rule, start_ms, end_ms })
    }

    /// The first tick later than this.
    pub fn after(&self, ms: i64) -> Option<i64> {
        let ms = ms.max(self.start_ms.saturating_sub(1));
        let tick = match &self.rule {
            Rule::Cron(local) => local.after(ms)?,
            Rule::Every { first_ms, .. } if ms < *first_ms => *first_ms,
            Rule::Every { first_ms, step_ms } => {
                let passed = (ms - first_ms) / step_ms;
                first_ms.checked_add((passed + 1).checked_mul(*step_ms)?)?
            }
        };
        (tick <= self.end_ms).then_some(tick)
    }

    /// The first tick at this time or later.
    pub fn at_or_after(&self, ms: i64) -> Option<i64> {
        self.after(ms.saturating_sub(1))
    }

    /// The latest of the ticks from `from_ms` to before `until_ms`.
    pub fn last_between(&self, from_ms: i64, until_ms: i64) -> Option<i64> {
        let found = |low: i64| self.at_or_after(low).filter(|tick| *tick < until_ms);
        let (mut low, mut high) = (from_ms, until_ms);
        let mut best = found(low)?;
        // There is a tick at or after `low`, and none at or after `high`.
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            match found(middle) {
                Some(tick) => (best, low) = (tick, tick),
                None => high = middle,
            }
        }
        Some(best)
    }

    /// How many ticks there are from `from_ms` to before `until_ms`; of cron expressions at most 10,000.
    pub fn count(&self, from_ms: i64, until_ms: i64) -> u64 {
        if let Rule::Every { step_ms, .. } = &self.rule {
            let until_ms = until_ms.min(self.end_ms.saturating_add(1));
            let first = self.at_or_after(from_ms).filter(|first| *first < until_ms);
            return first.map_or(0, |first| ((until_ms - 1 - first) / step_ms) as u64 + 1);
        }
        let mut counted = 0;
        let mut tick = self.at_or_after(from_ms);
        while let Some(ms) = tick.filter(|ms| *ms < until_ms && counted < COUNTED) {
            counted += 1;
            tick = self.after(ms);
        }
        counted
    }

    /// In a sentence, for people.
    pub fn words(&self) -> String {
        let mut words = match &self.rule {
            Rule::Cron(local) => local.words(),
            Rule::Every { first_ms, step_ms } => {
                format!("Every {:#}, counted from {}", SignedDuration::from_millis(*step_ms), time(*first_ms))
            }
        };
        if let Rule::Cron(_) = self.rule
            && self.start_ms > i64::MIN
        {
            words += &format!(", from {}", time(self.start_ms));
        }
        if self.end_ms < i64::MAX {
            words += &format!(", until {}", time(self.end_ms));
        }
        words
    }
}

fn time(ms: i64) -> String {
    Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |time| time.to_string())
}
