//! Queues: their switch, their numbers.
use serde::{Deserialize, Serialize};

use super::{ids::QueueName, state::State};

/// A closed queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    pub reason: String,
    pub actor: String,
    pub pause_ms: i64,
    /// Wall clock; when it opens by itself.
    pub resume_ms: Option<i64>,
}

/// A change of a queue.
#[derive(Clone, Debug, PartialEq)]
pub enum QueueChange {
    Pause(Pause),
    Resume,
    /// Resume only if the pause's own end has come.
    ResumeIfDue,
}

/// What the store says of a queue.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueFacts {
    pub name: QueueName,
    pub pause: Option<Pause>,
    /// Jobs per state, indexed by `State as usize`.
    pub counts: [u64; 11],
    /// When the job that has been READY for the longest became so; `None` = none is. Looks at the first in line of each
    /// priority, so jobs that were moved by UpdateJobs may be older.
    pub oldest_ready_ms: Option<i64>,
}

impl QueueFacts {
    pub fn count(&self, state: State) -> u64 {
        self.counts[state as usize]
    }

    /// Ended records kept, DEAD ones apart.
    pub fn finished(&self) -> u64 {
        [State::Succeeded, State::Cancelled, State::Expired, State::Discarded].into_iter().map(|s| self.count(s)).sum()
    }
}

/// Finished records kept per queue, DEAD ones apart.
pub const MAX_FINISHED: usize = 100_000;
/// DEAD records kept per queue.
pub const MAX_DEAD: usize = 1_000_000;
