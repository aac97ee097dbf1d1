//! What a job says about retries and time. Every default is here.
use serde::{Deserialize, Serialize};

use super::time::{DAY, HOUR, MINUTE, SECOND};

/// Where a job goes when its retries are used up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exhausted {
    #[default]
    Dead,
    Discard,
}

/// How an attempt that failed is repeated. Complete: defaults are filled in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// The first attempt included; -1 = no limit.
    pub max_attempts: i32,
    pub initial_delay_ms: i64,
    pub multiplier: f64,
    pub max_delay_ms: i64,
    /// Random share of each delay, 0 to 1.
    pub jitter: f64,
    /// Replaces the exponential curve when not empty; the last one repeats.
    pub delays_ms: Vec<i64>,
    /// Failure types that give up at once: exact, or a prefix ending in `*`.
    pub non_retryable_types: Vec<String>,
    /// Vanished workers that are forgiven; -1 = no limit.
    pub max_crashes: i32,
    pub on_exhausted: Exhausted,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 20,
            initial_delay_ms: SECOND,
            multiplier: 2.0,
            max_delay_ms: HOUR,
            jitter: 0.2,
            delays_ms: Vec::new(),
            non_retryable_types: Vec::new(),
            max_crashes: 3,
            on_exhausted: Exhausted::Dead,
        }
    }
}

/// What a producer said of retries: `None` and empty lists take the default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RetrySpec {
    pub max_attempts: Option<i32>,
    pub initial_delay_ms: Option<i64>,
    pub multiplier: Option<f64>,
    pub max_delay_ms: Option<i64>,
    pub jitter: Option<f64>,
    pub delays_ms: Vec<i64>,
    pub non_retryable_types: Vec<String>,
    pub max_crashes: Option<i32>,
    pub on_exhausted: Option<Exhausted>,
}

impl RetrySpec {
    /// This over `base`.
    pub fn over(self, base: RetryPolicy) -> RetryPolicy {
        RetryPolicy {
            max_attempts: self.max_attempts.unwrap_or(base.max_attempts),
            initial_delay_ms: self.initial_delay_ms.unwrap_or(base.initial_delay_ms),
            multiplier: self.multiplier.unwrap_or(base.multiplier),
            max_delay_ms: self.max_delay_ms.unwrap_or(base.max_delay_ms),
            jitter: self.jitter.unwrap_or(base.jitter),
            delays_ms: if self.delays_ms.is_empty() { base.delays_ms } else { self.delays_ms },
            non_retryable_types: if self.non_retryable_types.is_empty() {
                base.non_retryable_types
            } else {
                self.non_retryable_types
            },
            max_crashes: self.max_crashes.unwrap_or(base.max_crashes),
            on_exhausted: self.on_exhausted.unwrap_or(base.on_exhausted),
        }
    }
}

/// What a queue says for jobs that do not say. `None` takes the server's own default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Defaults {
    pub retry: RetrySpec,
    pub timeout_ms: Option<i64>,
    pub ttl_ms: Option<i64>,
    pub retention_ms: Option<i64>,
    pub dead_retention_ms: Option<i64>,
}

impl Defaults {
    /// The policy of a job that says nothing.
    pub fn policy(&self) -> Policy {
        let own = Policy::default();
        Policy {
            retry: self.retry.clone().over(own.retry),
            timeout_ms: self.timeout_ms.unwrap_or(own.timeout_ms),
            retention_ms: self.retention_ms.unwrap_or(own.retention_ms),
            dead_retention_ms: self.dead_retention_ms.unwrap_or(own.dead_retention_ms),
            heartbeat_ms: own.heartbeat_ms,
        }
    }
}

/// Everything a server needs to decide what an event means for a job. Travels with the job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    pub retry: RetryPolicy,
    /// Longest one attempt may run.
    pub timeout_ms: i64,
    /// How long a finished record stays, unless it is DEAD.
    pub retention_ms: i64,
    /// How long a DEAD record stays.
    pub dead_retention_ms: i64,
    /// Longest silence of a running attempt; `None` = no limit. Spelled behind the rest: see [`Policy::encode`].
    #[serde(skip)]
    pub heartbeat_ms: Option<i64>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            retry: RetryPolicy::default(),
            timeout_ms: 30 * MINUTE,
            retention_ms: HOUR,
            dead_retention_ms: 30 * DAY,
            heartbeat_ms: None,
        }
    }
}

impl Policy {
    /// As it is kept. What came later stands behind what a policy had at first, and only if it is set: policies of before
    /// read right, and a server of before passes over it.
    pub fn encode(&self) -> Vec<u8> {
        let bytes = postcard::to_stdvec(self).expect("a policy always encodes");
        match self.heartbeat_ms {
            None => bytes,
            later => postcard::to_extend(&later, bytes).expect("a number always encodes"),
        }
    }

    /// `None` = not a policy.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (policy, later): (Self, &[u8]) = postcard::take_from_bytes(bytes).ok()?;
        let heartbeat_ms = if later.is_empty() { None } else { postcard::from_bytes(later).ok()? };
        Some(Self { heartbeat_ms, ..policy })
    }
}

/// Every finished record stays at least this long, so that repeated calls and late outcomes get exact answers.
pub const TOMBSTONE_MS: i64 = MINUTE;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_reads_back_also_one_of_before_heartbeats() {
        let plain = Policy { timeout_ms: 7, ..Policy::default() };
        let silent = Policy { heartbeat_ms: Some(500), ..plain.clone() };
        for policy in [&plain, &silent] {
            assert_eq!(Policy::decode(&policy.encode()).as_ref(), Some(policy));
        }
        let before: Policy = postcard::from_bytes(&silent.encode()).expect("what came later is passed over");
        assert_eq!(before, plain);
        assert_eq!(Policy::decode(&[1, 2]), None);
    }
}
