//! What can be said about a job besides its input: when, where, how long, how often.

use std::time::{Duration, SystemTime};

use jobwire_proto::v1 as pb;

use crate::convert::{to_duration, to_timestamp};
use crate::errors::Error;
use crate::types::{OnConflict, OnExhausted, UniqueScope};

/// Options of a job. What is not set takes the queue's value, then the server's default.
///
/// The same setters are on [`client.enqueue(…)`](crate::Client::enqueue), where they win over the task's own options.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Options {
    pub(crate) spec: Box<pb::JobSpec>,
    /// Somebody asked for no attempt at all.
    pub(crate) no_attempts: bool,
}

impl Options {
    /// Everything by default.
    pub fn new() -> Self {
        Self::default()
    }
}

/// Implements the setters of `Options` on a type that has `edit`, which applies a change to every `Options` it holds.
macro_rules! option_setters {
    () => {
        /// Start this long after the enqueue, by the server's clock. At most 10 years. Replaces [`at`](Self::at).
        pub fn delay(self, delay: std::time::Duration) -> Self {
            self.edit(move |options| options.set_delay(delay))
        }

        /// Start at this moment; in the past = now. Replaces [`delay`](Self::delay), which is the better choice when
        /// clocks may differ.
        pub fn at(self, time: std::time::SystemTime) -> Self {
            self.edit(move |options| options.set_at(time))
        }

        /// Queue to put it in. Default: the queue named like the job's type.
        pub fn queue(self, queue: impl Into<String>) -> Self {
            let queue = queue.into();
            self.edit(move |options| options.spec.queue.clone_from(&queue))
        }

        /// -4 (last) to 4 (first); 0 is normal. Orders the jobs of one queue and fairness key.
        pub fn priority(self, priority: i32) -> Self {
            self.edit(move |options| options.spec.priority = priority)
        }

        /// Jobs of different keys in one queue take turns, whatever their priorities; typically a tenant. At most 256
        /// bytes.
        pub fn fairness_key(self, key: impl Into<String>) -> Self {
            let key = key.into();
            self.edit(move |options| options.spec.fairness_key.clone_from(&key))
        }

        /// Longest one attempt may run, from the moment its handler starts. Default 30 minutes, at most 30 days.
        pub fn timeout(self, timeout: std::time::Duration) -> Self {
            self.edit(move |options| options.spec.timeout = Some($crate::convert::to_duration(timeout)))
        }

        /// Longest time from enqueue to the end, retries included. Default: no limit.
        pub fn total_timeout(self, timeout: std::time::Duration) -> Self {
            self.edit(move |options| options.spec.total_timeout = Some($crate::convert::to_duration(timeout)))
        }

        /// Longest silence (no progress report) while running. Default: silence is fine as long as the worker lives.
        pub fn heartbeat_timeout(self, timeout: std::time::Duration) -> Self {
            self.edit(move |options| options.spec.heartbeat_timeout = Some($crate::convert::to_duration(timeout)))
        }

        /// The first attempt must start within this time of the scheduled start, or the job expires. Default: never.
        /// Replaces [`expire_at`](Self::expire_at).
        pub fn ttl(self, ttl: std::time::Duration) -> Self {
            self.edit(move |options| options.set_ttl(ttl))
        }

        /// The first attempt must start before this, or the job expires. Replaces [`ttl`](Self::ttl).
        pub fn expire_at(self, time: std::time::SystemTime) -> Self {
            self.edit(move |options| options.set_expire_at(time))
        }

        /// What happens after a failure: a number of attempts (the first included), or a [`Retry`](crate::Retry).
        pub fn retry(self, retry: impl Into<$crate::Retry>) -> Self {
            let retry = retry.into();
            self.edit(move |options| options.set_retry(&retry))
        }

        /// At most one live job per key in its queue: a key, or a [`Unique`](crate::Unique) that says more. To compute
        /// it from the input, see [`Task::options_for`](crate::Task::options_for).
        pub fn unique(self, unique: impl Into<$crate::Unique>) -> Self {
            let unique = unique.into().unique;
            self.edit(move |options| options.spec.unique = Some(unique.clone()))
        }

        /// For keys that come from outside ("order-1234-receipt"): a repeat returns the first job, even after that job
        /// is gone, for `idempotency_ttl`. At most 256 bytes; scoped to queue and fairness key.
        pub fn idempotency_key(self, key: impl Into<String>) -> Self {
            let key = key.into();
            self.edit(move |options| options.spec.idempotency_key.clone_from(&key))
        }

        /// How long the idempotency key is remembered. Default 24 h, at most 30 days.
        pub fn idempotency_ttl(self, ttl: std::time::Duration) -> Self {
            self.edit(move |options| options.spec.idempotency_ttl = Some($crate::convert::to_duration(ttl)))
        }

        /// Waits until another job has succeeded: its handle or id, or an [`After`](crate::After) that says more. May be
        /// called repeatedly, at most 1,000 times. If the other one ends otherwise, the job is cancelled.
        pub fn after(self, job: impl Into<$crate::After>) -> Self {
            let dependency = job.into().dependency;
            self.edit(move |options| options.spec.depends_on.push(dependency.clone()))
        }

        /// Adds a tag, for filters and dashboards. At most 16 of 64 bytes.
        pub fn tag(self, tag: impl Into<String>) -> Self {
            let tag = tag.into();
            self.edit(move |options| options.spec.tags.push(tag.clone()))
        }

        /// Adds several tags; see [`tag`](Self::tag).
        pub fn tags<S: Into<String>>(self, tags: impl IntoIterator<Item = S>) -> Self {
            let tags: Vec<String> = tags.into_iter().map(Into::into).collect();
            self.edit(move |options| options.spec.tags.extend(tags.iter().cloned()))
        }

        /// Adds a header, carried unread to the worker. Lower-case keys; at most 64 entries and 8 KiB.
        pub fn header(self, key: impl Into<String>, value: impl Into<String>) -> Self {
            let (key, value) = (key.into(), value.into());
            self.edit(move |options| {
                options.spec.headers.insert(key.clone(), value.clone());
            })
        }

        /// How long to keep the finished record, result included. Default 1 h; zero = about a minute.
        pub fn retention(self, span: std::time::Duration) -> Self {
            self.edit(move |options| options.spec.retention = Some($crate::convert::to_duration(span)))
        }

        /// The same for a DEAD job. Default 30 days.
        pub fn dead_retention(self, span: std::time::Duration) -> Self {
            self.edit(move |options| options.spec.dead_retention = Some($crate::convert::to_duration(span)))
        }
    };
}
pub(crate) use option_setters;

impl Options {
    fn edit(mut self, change: impl Fn(&mut Options)) -> Self {
        change(&mut self);
        self
    }

    /// What no server would take, and what it might take for something else.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.no_attempts {
            let message =
                "0 attempts: 1 = never retry, -1 = no limit, the option left out = as the queue says, then 20";
            return Err(Error::invalid("job.retry.max_attempts", message));
        }
        Ok(())
    }

    pub(crate) fn set_retry(&mut self, retry: &Retry) {
        (self.spec.retry, self.no_attempts) = (Some(retry.policy.clone()), retry.no_attempts);
    }

    // The two oneofs, so that the setters stay one line each.
    pub(crate) fn set_delay(&mut self, delay: Duration) {
        self.spec.start = Some(pb::job_spec::Start::Delay(to_duration(delay)));
    }

    pub(crate) fn set_at(&mut self, time: SystemTime) {
        self.spec.start = Some(pb::job_spec::Start::ScheduleTime(to_timestamp(time)));
    }

    pub(crate) fn set_ttl(&mut self, ttl: Duration) {
        self.spec.expiration = Some(pb::job_spec::Expiration::Ttl(to_duration(ttl)));
    }

    pub(crate) fn set_expire_at(&mut self, time: SystemTime) {
        self.spec.expiration = Some(pb::job_spec::Expiration::ExpireTime(to_timestamp(time)));
    }

    /// The queue a job of this type goes to.
    pub(crate) fn queue_or<'a>(&'a self, r#type: &'a str) -> &'a str {
        if self.spec.queue.is_empty() { r#type } else { &self.spec.queue }
    }
}

/// The setters; also on every enqueue builder.
impl Options {
    option_setters!();
}

/// What happens after an attempt fails. What is not set takes the queue's value, then the server's default: 20 attempts,
/// 1 s × 2 up to 1 h, jitter 0.2. The server computes every delay.
#[derive(Debug, Clone, Default)]
pub struct Retry {
    pub(crate) policy: pb::RetryPolicy,
    no_attempts: bool,
}

impl Retry {
    /// `max_attempts` in all, the first included, with the default delays. 1 = never retry, -1 = no limit; 0 is refused when
    /// the job is enqueued. As the queue says, then 20: `Retry::default()`.
    pub fn attempts(max_attempts: i32) -> Self {
        Self::default().max_attempts(max_attempts)
    }

    /// `max_attempts` in all, the second one after `initial_delay`, each further delay twice as long.
    pub fn exponential(max_attempts: i32, initial_delay: Duration) -> Self {
        let mut retry = Self::attempts(max_attempts);
        retry.policy.initial_delay = Some(to_duration(initial_delay));
        retry
    }

    /// Explicit delays instead of a curve; the last one repeats. As many attempts as delays, plus the first one, unless
    /// [`max_attempts`](Self::max_attempts) says otherwise.
    pub fn delays(delays: impl IntoIterator<Item = Duration>) -> Self {
        let delays: Vec<_> = delays.into_iter().map(to_duration).collect();
        let max_attempts = i32::try_from(delays.len() + 1).unwrap_or(i32::MAX);
        Self { policy: pb::RetryPolicy { max_attempts, delays, ..Default::default() }, no_attempts: false }
    }

    /// No retry at all.
    pub fn never() -> Self {
        Self::attempts(1)
    }

    /// Attempts in all, the first included; see [`attempts`](Self::attempts).
    pub fn max_attempts(mut self, max_attempts: i32) -> Self {
        (self.policy.max_attempts, self.no_attempts) = (max_attempts, max_attempts == 0);
        self
    }

    /// Growth of the delay per attempt, at least 1. Default 2.
    pub fn multiplier(mut self, multiplier: f64) -> Self {
        self.policy.multiplier = multiplier;
        self
    }

    /// Ceiling of a computed delay. Default 1 h. Does not cut what a handler asks for with `retry_after`.
    pub fn max_delay(mut self, max_delay: Duration) -> Self {
        self.policy.max_delay = Some(to_duration(max_delay));
        self
    }

    /// Share of each delay that is random, 0 to 1. Default 0.2.
    pub fn jitter(mut self, jitter: f64) -> Self {
        self.policy.jitter = Some(jitter);
        self
    }

    /// A failure type that ends it at once: exact, or a prefix ending in "*". May be called repeatedly.
    pub fn non_retryable(mut self, failure_type: impl Into<String>) -> Self {
        self.policy.non_retryable_types.push(failure_type.into());
        self
    }

    /// How many times a worker may vanish with the job before it counts as poison. Default 3; 0 = the first time is
    /// final, -1 = no limit. Uses up no attempt.
    pub fn max_crashes(mut self, max_crashes: i32) -> Self {
        self.policy.max_crashes = Some(max_crashes);
        self
    }

    /// Where the job goes when retries are used up. Default [`OnExhausted::Dead`].
    pub fn on_exhausted(mut self, action: OnExhausted) -> Self {
        self.policy.on_exhausted = action.to_proto() as i32;
        self
    }
}

impl From<i32> for Retry {
    fn from(max_attempts: i32) -> Self {
        Self::attempts(max_attempts)
    }
}

/// At most one job per key, within its queue and fairness key.
#[derive(Debug, Clone, Default)]
pub struct Unique {
    pub(crate) unique: pb::Unique,
}

impl Unique {
    /// The key, at most 256 bytes.
    pub fn key(key: impl Into<String>) -> Self {
        Self { unique: pb::Unique { key: key.into(), ..Default::default() } }
    }

    /// A hash of type and payload as key.
    pub fn by_payload() -> Self {
        Self::default()
    }

    /// How long the job holds the key. Default: until it is finished, retries included.
    pub fn scope(mut self, scope: UniqueScope) -> Self {
        let (scope, ttl) = scope.to_proto();
        self.unique.scope = scope as i32;
        self.unique.ttl = ttl.map(to_duration);
        self
    }

    /// What becomes of the newcomer. Default [`OnConflict::Keep`].
    pub fn on_conflict(mut self, action: OnConflict) -> Self {
        self.unique.on_conflict = action.to_proto() as i32;
        self
    }
}

impl<S: Into<String>> From<S> for Unique {
    fn from(key: S) -> Self {
        Self::key(key)
    }
}
