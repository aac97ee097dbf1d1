//! The calls about queues.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use futures::FutureExt;
use jobwire_proto::v1 as pb;

use crate::bulk::bulk_call;
use crate::calls::awaited;
use crate::client::Client;
use crate::convert::{from_duration, from_timestamp, to_duration};
use crate::errors::Error;
use crate::listing::Listing;
use crate::options::{Options, Retry};

/// Queues: [`client.queues()`](Client::queues). To look needs the scope `read`, the rest `admin`.
#[derive(Debug, Clone)]
pub struct Queues {
    client: Client,
}

impl Client {
    /// The calls about queues.
    ///
    /// ```no_run
    /// # use jobwire::{QueueConfig, prelude::*};
    /// # async fn example(client: Client) -> Result<(), Error> {
    /// client.queues().set("mail", QueueConfig::new().max_running(50).rate_limit(100, secs(1))).await?;
    /// println!("{} ready", client.queues().get("mail").await?.stats.ready);
    /// client.queues().pause(["mail"]).reason("SMTP is down").duration(mins(10)).await?;
    /// # Ok(()) }
    /// ```
    pub fn queues(&self) -> Queues {
        Queues { client: self.clone() }
    }
}

impl Queues {
    /// A queue as it is.
    pub async fn get(&self, name: impl Into<String>) -> Result<QueueInfo, Error> {
        let request = pb::GetQueueRequest { name: name.into() };
        let answer: pb::GetQueueResponse =
            self.client.shared().idempotent("/jobwire.v1.QueueService/GetQueue", request).await?;
        Ok(QueueInfo::from_proto(answer.queue.unwrap_or_default()))
    }

    /// The queues that a filter matches; empty = all. Filterable: name, paused.
    pub fn list(&self, filter: impl Into<String>) -> Listing<QueueInfo> {
        let (client, filter) = (self.client.clone(), filter.into());
        Listing::new(move |page| {
            let (client, filter) = (client.clone(), filter.clone());
            async move {
                let request = pb::ListQueuesRequest { filter, page_size: page.size, page_token: page.token };
                let answer: pb::ListQueuesResponse =
                    client.shared().idempotent("/jobwire.v1.QueueService/ListQueues", request).await?;
                Ok((answer.queues.into_iter().map(QueueInfo::from_proto).collect(), answer.next_page_token))
            }
            .boxed()
        })
    }

    /// Replaces the whole configuration of a queue: what is not set goes back to its default. Await it.
    pub fn put(&self, name: impl Into<String>, config: QueueConfig) -> PutQueue {
        PutQueue { client: self.client.clone(), name: name.into(), config, all: true, etag: String::new() }
    }

    /// Changes what is set, and leaves the rest as it is. Await it.
    pub fn set(&self, name: impl Into<String>, config: QueueConfig) -> PutQueue {
        PutQueue { all: false, ..self.put(name, config) }
    }

    /// Hands out no jobs of these queues; "*" = all of them. Running jobs go on, new ones are accepted. Await it.
    pub fn pause<S: Into<String>>(&self, names: impl IntoIterator<Item = S>) -> PauseQueues {
        let names = names.into_iter().map(Into::into).collect();
        PauseQueues { client: self.client.clone(), request: pb::PauseQueuesRequest { names, ..Default::default() } }
    }

    /// Hands them out again. Gives the names of those that were paused.
    pub async fn resume<S: Into<String>>(&self, names: impl IntoIterator<Item = S>) -> Result<Vec<String>, Error> {
        let request = pb::ResumeQueuesRequest { names: names.into_iter().map(Into::into).collect() };
        let answer: pb::ResumeQueuesResponse =
            self.client.shared().idempotent("/jobwire.v1.QueueService/ResumeQueues", request).await?;
        Ok(answer.names)
    }

    /// Drops every job that neither runs nor has ended. Only counts unless [`force`](PurgeQueue::force) is said. Await it.
    pub fn purge(&self, name: impl Into<String>) -> PurgeQueue {
        let request = pb::PurgeQueueRequest { name: name.into(), ..Default::default() };
        PurgeQueue { client: self.client.clone(), request: Ok(request), limit: None }
    }
}

bulk_call! {
    /// A queue about to be emptied. Await it.
    PurgeQueue: PurgeQueueRequest -> PurgeQueueResponse, once "/jobwire.v1.QueueService/PurgeQueue"
}

impl PurgeQueue {
    /// Drops them.
    pub fn force(self) -> Self {
        self.edit(|request| request.force = true)
    }
}

/// Queues about to be paused. Await it for their names.
#[must_use = "nothing is paused until this is awaited"]
#[derive(Debug)]
pub struct PauseQueues {
    client: Client,
    request: pb::PauseQueuesRequest,
}

impl PauseQueues {
    /// Why, for people.
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.request.reason = reason.into();
        self
    }

    /// Resumes by itself after this long.
    pub fn duration(mut self, span: Duration) -> Self {
        self.request.duration = Some(to_duration(span));
        self
    }

    async fn send(self) -> Result<Vec<String>, Error> {
        let answer: pb::PauseQueuesResponse =
            self.client.shared().idempotent("/jobwire.v1.QueueService/PauseQueues", self.request).await?;
        Ok(answer.names)
    }
}

awaited!(PauseQueues => Vec<String>);

/// A configuration about to be set. Await it for the queue as it is then.
#[must_use = "nothing is set until this is awaited"]
#[derive(Debug)]
pub struct PutQueue {
    client: Client,
    name: String,
    config: QueueConfig,
    all: bool,
    etag: String,
}

impl PutQueue {
    /// Refuses (ABORTED / ETAG_MISMATCH) unless the stored one has this etag.
    pub fn etag(mut self, etag: impl Into<String>) -> Self {
        self.etag = etag.into();
        self
    }

    async fn send(self) -> Result<QueueInfo, Error> {
        self.config.retry.check()?;
        let paths = self.config.said.iter().map(|path| (*path).to_owned()).collect();
        let request = pb::PutQueueRequest {
            name: self.name,
            config: Some(self.config.config),
            update_mask: (!self.all).then_some(prost_types::FieldMask { paths }),
            etag: self.etag,
        };
        let answer: pb::PutQueueResponse =
            self.client.shared().idempotent("/jobwire.v1.QueueService/PutQueue", request).await?;
        Ok(QueueInfo::from_proto(answer.queue.unwrap_or_default()))
    }
}

awaited!(PutQueue => QueueInfo);

/// What a queue is held to, and the defaults of its jobs.
#[derive(Debug, Clone, Default)]
#[must_use = "a configuration does nothing until it is put"]
pub struct QueueConfig {
    config: pb::QueueConfig,
    /// Which fields were set.
    said: Vec<&'static str>,
    /// Where a policy is checked.
    retry: Options,
}

/// Setters that are one field each.
macro_rules! settings {
    ($($(#[$doc:meta])* $name:ident: $given:ty => $value:expr;)*) => {$(
        $(#[$doc])*
        pub fn $name(mut self, $name: $given) -> Self {
            self.config.$name = $value;
            self.said.push(stringify!($name));
            self
        }
    )*};
}

impl QueueConfig {
    /// Everything by default.
    pub fn new() -> Self {
        Self::default()
    }

    settings! {
        /// Jobs running at once across all workers. 0 = no limit.
        max_running: i32 => max_running;
        /// The same for each fairness key. 0 = no limit.
        max_running_per_key: i32 => max_running_per_key;
        /// Jobs waiting; beyond it enqueues fail with QUEUE_FULL. 0 = no limit.
        max_depth: i64 => max_depth;
        /// Default longest run of one attempt.
        timeout: Duration => Some(to_duration(timeout));
        /// Default time in which the first attempt has to start.
        ttl: Duration => Some(to_duration(ttl));
        /// How long finished records are kept by default.
        retention: Duration => Some(to_duration(retention));
        /// How long DEAD records are kept by default.
        dead_retention: Duration => Some(to_duration(dead_retention));
        /// Finished records kept at most. 0 = 100,000, -1 = no limit.
        max_finished: i64 => max_finished;
        /// DEAD records kept at most. 0 = 1,000,000, -1 = no limit.
        max_dead: i64 => max_dead;
        /// Redis only: shards of the store that the queue is spread over. 0 = 1.
        shards: i32 => shards;
        /// For people.
        note: impl Into<String> => note.into();
        /// Turns of single fairness keys relative to the others, 1 to 1,000; keys that are not listed have 1.
        key_weights: BTreeMap<String, i32> => key_weights;
    }

    /// At most `max` starts per `per`, as a token bucket that holds `max`.
    pub fn rate_limit(mut self, max: i32, per: Duration) -> Self {
        self.config.rate_limit = Some(rate(max, per));
        self.said.push("rate_limit");
        self
    }

    /// The same for each fairness key.
    pub fn rate_limit_per_key(mut self, max: i32, per: Duration) -> Self {
        self.config.rate_limit_per_key = Some(rate(max, per));
        self.said.push("rate_limit_per_key");
        self
    }

    /// Default retry policy of its jobs.
    pub fn retry(mut self, retry: impl Into<Retry>) -> Self {
        self.retry.set_retry(&retry.into());
        self.config.retry.clone_from(&self.retry.spec.retry);
        self.said.push("retry");
        self
    }
}

fn rate(max: i32, per: Duration) -> pb::RateLimit {
    pb::RateLimit { max, per: Some(to_duration(per)), burst: 0 }
}

/// A queue: what was set of it, and how it is.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct QueueInfo {
    /// Its name.
    pub name: String,
    /// Jobs running at once at most; 0 = no limit.
    pub max_running: i32,
    /// Starts at most, and per which time.
    pub rate_limit: Option<(i32, Duration)>,
    /// Jobs waiting at most; 0 = no limit.
    pub max_depth: i64,
    /// For people.
    pub note: String,
    /// Its numbers.
    pub stats: QueueStats,
    /// Whether it hands out nothing.
    pub paused: bool,
    /// Why.
    pub pause_reason: String,
    /// Who paused it.
    pub pause_actor: String,
    /// Since when.
    pub pause_time: Option<SystemTime>,
    /// When a pause or a throttle ends by itself.
    pub resume_time: Option<SystemTime>,
    /// Changes with the configuration.
    pub etag: String,
    config: pb::QueueConfig,
}

impl QueueInfo {
    /// The whole configuration, to be changed and [put](Queues::put) again.
    pub fn config(&self) -> QueueConfig {
        QueueConfig { config: self.config.clone(), ..QueueConfig::default() }
    }

    fn from_proto(queue: pb::Queue) -> Self {
        let time = |time: &Option<prost_types::Timestamp>| time.as_ref().and_then(from_timestamp);
        let config = queue.config.unwrap_or_default();
        let limit = |rate: &pb::RateLimit| (rate.max, rate.per.as_ref().map(from_duration).unwrap_or_default());
        Self {
            max_running: config.max_running,
            rate_limit: config.rate_limit.as_ref().map(limit),
            max_depth: config.max_depth,
            note: config.note.clone(),
            stats: QueueStats::from_proto(queue.stats.unwrap_or_default()),
            paused: queue.paused,
            pause_reason: queue.pause_reason,
            pause_actor: queue.pause_actor,
            pause_time: time(&queue.pause_time),
            resume_time: time(&queue.resume_time),
            etag: queue.etag,
            name: queue.name,
            config,
        }
    }
}

/// Numbers of a queue. Rates are of the last minute.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct QueueStats {
    /// Runnable, waiting for a slot.
    pub ready: i64,
    /// Leased to workers.
    pub running: i64,
    /// Waiting for their start time.
    pub scheduled: i64,
    /// Waiting for their next attempt.
    pub retrying: i64,
    /// Waiting for other jobs.
    pub blocked: i64,
    /// In the dead-letter set.
    pub dead: i64,
    /// Other finished records that are kept.
    pub finished: i64,
    /// How long the oldest runnable job has waited.
    pub latency: Duration,
    /// Enqueued per second.
    pub enqueued_per_second: f64,
    /// Started per second.
    pub started_per_second: f64,
    /// Succeeded per second.
    pub succeeded_per_second: f64,
    /// Failed per second.
    pub failed_per_second: f64,
    /// Workers that serve it.
    pub workers: i32,
    /// Their slots.
    pub slots: i32,
    /// How many of those are taken.
    pub slots_busy: i32,
    /// Types that no connected worker handles, with the jobs set aside for that.
    pub unhandled_types: BTreeMap<String, i64>,
}

impl QueueStats {
    fn from_proto(stats: pb::QueueStats) -> Self {
        Self {
            ready: stats.ready,
            running: stats.running,
            scheduled: stats.scheduled,
            retrying: stats.retrying,
            blocked: stats.blocked,
            dead: stats.dead,
            finished: stats.finished,
            latency: stats.latency.as_ref().map(from_duration).unwrap_or_default(),
            enqueued_per_second: stats.enqueued_per_second,
            started_per_second: stats.started_per_second,
            succeeded_per_second: stats.succeeded_per_second,
            failed_per_second: stats.failed_per_second,
            workers: stats.workers,
            slots: stats.slots,
            slots_busy: stats.slots_busy,
            unhandled_types: stats.unhandled_types,
        }
    }
}
