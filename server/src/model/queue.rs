//! Queues: their switch, their configuration, their numbers.
use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::{
    ids::QueueName,
    op::{FairKey, fair_key},
    policy::Defaults,
    state::State,
};

/// What users have set. Complete: a change replaces all of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct QueueConfig {
    pub bounds: Bounds,
    pub defaults: Defaults,
    /// Turns of fairness keys relative to the others, 1 to 1,000; those that are not named have 1.
    pub weights: BTreeMap<String, u32>,
    /// For people.
    pub note: String,
}

impl QueueConfig {
    /// Turns of single keys, as stores know them.
    pub fn key_weights(&self) -> HashMap<FairKey, u32> {
        self.weights.iter().map(|(key, weight)| (fair_key(key), *weight)).collect()
    }
}

/// What the store itself holds a queue to, in the step that would break it. 0 = no bound, or the usual one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bounds {
    /// Leases at once.
    pub max_running: u32,
    pub rate: Option<Rate>,
    /// What each fairness key is held to by itself.
    pub per_key: KeyBounds,
    /// Jobs that have not been handed out and have not ended. Only new ones are refused.
    pub max_depth: u64,
    /// Finished records kept, DEAD ones apart: 0 = [`MAX_FINISHED`], -1 = no limit.
    pub max_finished: i64,
    /// DEAD records kept: 0 = [`MAX_DEAD`], -1 = no limit.
    pub max_dead: i64,
}

/// What one fairness key of a queue is held to; jobs without one share theirs. 0 = no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyBounds {
    /// Leases at once.
    pub max_running: u32,
    pub rate: Option<Rate>,
}

impl KeyBounds {
    pub fn any(&self) -> bool {
        self.max_running > 0 || self.rate.is_some()
    }
}

impl Bounds {
    /// Ended records of this kind that are kept.
    pub fn most_kept(&self, state: State) -> usize {
        let (set, usual) = match state {
            State::Dead => (self.max_dead, MAX_DEAD),
            _ => (self.max_finished, MAX_FINISHED),
        };
        match set {
            0 => usual,
            set => usize::try_from(set).unwrap_or(usize::MAX),
        }
    }

    /// What the queue as a whole is held to when jobs are handed out.
    pub fn whole(&self) -> KeyBounds {
        KeyBounds { max_running: self.max_running, rate: self.rate }
    }

    /// Whether jobs have to be handed out one by one as handlers are free, because a lease is a start that counts.
    pub fn limits_starts(&self) -> bool {
        self.whole().any() || self.per_key.any()
    }

    /// The part of one of so many shards, where each is held to its own. Together they are the whole, unless that is less
    /// than the number of shards: each lets one through, so that no shard stands still for ever. A fairness key lives in one
    /// shard: what holds for each is not divided.
    pub fn part(&self, shard: u64, shards: u64) -> Self {
        let part = |whole: u64| match whole {
            0 => 0,
            whole => (whole / shards + u64::from(shard < whole % shards)).max(1),
        };
        Self {
            max_running: part(self.max_running.into()) as u32,
            rate: self.rate.map(|rate| Rate {
                burst: part(rate.burst.into()) as u32,
                per_ms: rate.per_ms * shards as i64,
                ..rate
            }),
            max_depth: part(self.max_depth),
            ..*self
        }
    }
}

/// One pick in so many comes from the lowest waiting priority, so that nothing starves.
pub const BOTTOM_EVERY: u64 = 16;

/// How many of the next `want` picks come from the bottom, when `picked` were made before.
pub fn from_bottom(picked: u64, want: usize) -> usize {
    ((picked + want as u64) / BOTTOM_EVERY - picked / BOTTOM_EVERY) as usize
}

/// A token bucket: at most `burst` starts at once, and `max` more each `per_ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    pub max: u32,
    pub per_ms: i64,
    pub burst: u32,
}

/// A configuration and its version, from 1, which changes with every write.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Configured {
    pub version: u64,
    /// Boxed: few queues have one.
    pub config: Box<QueueConfig>,
}

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
    /// Ends the pause, and a throttle of the whole queue.
    Resume,
    /// Resume only if the pause's own end has come.
    ResumeIfDue,
    /// Configure if the version is still this (0 = never configured); otherwise nothing. `None` forgets the configuration.
    Configure(u64, Option<Box<QueueConfig>>),
}

/// What the store says of a queue.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueFacts {
    pub name: QueueName,
    pub pause: Option<Pause>,
    pub config: Option<Configured>,
    /// A worker asked for the queue to be left alone until then, wall clock.
    pub throttled_ms: Option<i64>,
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

    /// Whether the configuration is this one now.
    pub fn is_configured(&self, config: Option<&QueueConfig>) -> bool {
        self.config.as_ref().map(|configured| &*configured.config) == config
    }

    /// 0 = never configured.
    pub fn version(&self) -> u64 {
        self.config.as_ref().map_or(0, |configured| configured.version)
    }

    /// Ended records kept, DEAD ones apart.
    pub fn finished(&self) -> u64 {
        [State::Succeeded, State::Cancelled, State::Expired, State::Discarded].into_iter().map(|s| self.count(s)).sum()
    }
}

/// Finished records kept per queue, DEAD ones apart, unless it is configured.
pub const MAX_FINISHED: usize = 100_000;
/// DEAD records kept per queue, unless it is configured.
pub const MAX_DEAD: usize = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_pick_in_sixteen_comes_from_the_bottom_however_they_are_batched() {
        for batch in [1, 3, 16, 100] {
            let mut picked = 0;
            let mut bottom = 0;
            while picked < 48_000 {
                bottom += from_bottom(picked, batch);
                picked += batch as u64;
            }
            assert_eq!(bottom as u64, picked / BOTTOM_EVERY, "in batches of {batch}");
        }
    }

    #[test]
    fn parts_add_up_to_the_whole() {
        let rate = Some(Rate { max: 10, per_ms: 1_000, burst: 7 });
        let whole = Bounds { max_running: 5, rate, max_depth: 100, ..Bounds::default() };
        let parts: Vec<Bounds> = (0..3).map(|shard| whole.part(shard, 3)).collect();
        assert_eq!(parts.iter().map(|part| part.max_running).collect::<Vec<_>>(), [2, 2, 1]);
        assert_eq!(parts.iter().map(|part| part.max_depth).sum::<u64>(), 100);
        assert_eq!(parts.iter().filter_map(|part| part.rate).map(|rate| rate.burst).collect::<Vec<_>>(), [3, 2, 2]);
        assert!(parts.iter().all(|part| part.rate.is_some_and(|rate| (rate.max, rate.per_ms) == (10, 3_000))));
        assert_eq!(whole.part(0, 1), whole);
    }
}
