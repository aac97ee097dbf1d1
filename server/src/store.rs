//! The seam below the engine: few verbs, batch first. Stores are mechanics (atomic, guarded moves); what a move means is
//! decided above, in the engine's pure files.
//!
//! **A known job changes state only through [`Store::put`], [`Store::claim`] and [`Store::apply`]**, each atomic per call
//! and idempotent when repeated. All ids of one call belong to one shard; the caller groups them.
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::broadcast;
use uuid::Uuid;

use crate::model::{
    ids::{JobId, QueueName, Shard},
    job::{LogLine, Meta, Parts, Record},
    op::{Claim, Claimed, DocChange, DueList, KeyHash, ListQuery, NewJob, Op, Put, Verdict, Wake},
    queue::{QueueChange, QueueConfig, QueueFacts},
};

mod bounds;
mod check;
pub mod conformance;
pub mod embedded;
pub mod memory;
pub mod redis;
mod rules;
mod slot;
mod whole;

pub use crate::model::op::Doc;
pub use check::{Checked, Found, Mend};
pub use whole::{Exported, Mark, Whole, WholeJob, WholeKey, WholeQueue};

/// Why a store could not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The outcome of a write is unknown: repeat it.
    #[error("the store is not reachable: {0}")]
    Unavailable(String),
    /// Nothing was stored: no room for new jobs. Claims and outcomes still work.
    #[error("the store is full: {0}")]
    Full(String),
    /// The store is shutting down; nothing was stored.
    #[error("the store is closed")]
    Closed,
    /// Refused at the start: the data cannot be trusted. Names the file and the place.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// Refused at the start: someone else has it open, the format is newer, and so on.
    #[error("{0}")]
    Refused(String),
}

/// What an acknowledged change survives, weakest first. Named in GetServerInfo, a metric and the start log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// Nothing: all is lost with the process.
    Memory,
    /// Redis without an append-only file: the death of Jobwire. With Redis goes all since its last snapshot.
    RedisVolatile,
    /// Redis with replicas, Sentinel or Cluster: as the primary's level while it lives; a failover may lose what was not
    /// replicated yet.
    RedisReplicated,
    /// One Redis, `appendfsync everysec`: the death of Jobwire; of Redis all but the last 2 s.
    RedisEverysec,
    /// The death of the process; a power cut may cost the last moments.
    EmbeddedFast,
    /// One Redis, `appendfsync always`: the death of Redis and power cuts.
    RedisAlways,
    /// The death of the process and power cuts.
    EmbeddedFsync,
}

impl Durability {
    pub const ALL: [Self; 7] = [
        Self::Memory,
        Self::RedisVolatile,
        Self::RedisReplicated,
        Self::RedisEverysec,
        Self::EmbeddedFast,
        Self::RedisAlways,
        Self::EmbeddedFsync,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::RedisVolatile => "redis-volatile",
            Self::RedisReplicated => "redis-replicated",
            Self::RedisEverysec => "redis-everysec",
            Self::RedisAlways => "redis-always",
            Self::EmbeddedFast => "embedded-fast",
            Self::EmbeddedFsync => "embedded-fsync",
        }
    }
}

/// What a store says of itself.
#[derive(Clone, Debug)]
pub struct StoreInfo {
    /// "memory", "embedded" or "redis".
    pub kind: &'static str,
    pub durability: Durability,
    /// Bytes on disk, or in the memory of Redis; 0 for the memory store.
    pub bytes: u64,
    /// New jobs are refused for want of room.
    pub full: bool,
    /// Of the servers that the store rests on, as "7.0.15" or "valkey 8.0.1"; `None` = the store is part of this server.
    pub version: Option<String>,
    /// What someone should look at, a sentence each.
    pub warnings: Vec<String>,
}

impl StoreInfo {
    /// Of a store that is part of this server.
    pub fn own(kind: &'static str, durability: Durability, bytes: u64, full: bool) -> Self {
        Self { kind, durability, bytes, full, version: None, warnings: Vec::new() }
    }
}

/// What became of a conditional write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cas {
    Done {
        version: u64,
    },
    /// Nothing was written: this is what is there.
    Conflict(Option<Doc>),
}

/// Checks between what counters say and what an enumeration finds; empty = agree.
pub type Disagreements = Vec<String>;

pub type SharedStore = Arc<dyn Store>;

#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Whether other servers may use the same data, now or later.
    fn is_shared(&self) -> bool {
        false
    }

    /// How many shards there are: numbers below this. 1 unless the store is spread.
    fn shards(&self) -> u16 {
        1
    }

    /// The shard of a new job of this queue. The same key, or without one the same proposal, always gets the same one, so
    /// that a repeated enqueue meets its first.
    fn place(&self, queue: &QueueName, proposal: Uuid, key: Option<KeyHash>) -> Shard {
        let _ = (queue, proposal, key);
        Shard(0)
    }

    /// The shards in which this queue may have jobs, at least one.
    fn shards_of(&self, queue: &QueueName) -> Vec<Shard> {
        let _ = queue;
        vec![Shard(0)]
    }

    /// Over how many shards new jobs of this queue are spread.
    fn width(&self, queue: &QueueName) -> u16 {
        let _ = queue;
        1
    }

    /// Spreads the queue over so many shards, 1 to [`Store::shards`]: from a minute from now on, so that every server knows
    /// of it before it counts. Jobs that are there stay where they are, and go on being claimed.
    async fn widen(&self, queue: QueueName, shards: u16) -> Result<(), StoreError> {
        match shards {
            1 => Ok(()),
            _ => Err(StoreError::Refused(format!("this store has one shard: it cannot spread {queue}"))),
        }
    }

    /// Tells the other servers of this store something, as [`Wake::Told`]; the teller hears it too. Lossy. Does nothing
    /// where no other server can be.
    async fn tell(&self, note: Bytes) -> Result<(), StoreError> {
        let _ = note;
        Ok(())
    }

    /// Records jobs: READY, or SCHEDULED when the start lies ahead. Durable on return. One answer per job, in order. A job
    /// whose id is there changes nothing. Errors: `Full` (whole call), `Unavailable`. Cost: O(jobs).
    async fn put(&self, shard: Shard, jobs: Vec<NewJob>) -> Result<Vec<Put>, StoreError>;

    /// Leases READY jobs of one queue: highest priority first, then arrival, but for `from_bottom`. Skips expired ones.
    /// Nothing from a paused queue. Visible on return, durable soon after: a lost claim means a second run.
    /// Cost: O(jobs), whatever the depth.
    async fn claim(&self, shard: Shard, claim: Claim) -> Result<Claimed, StoreError>;

    /// Applies guarded changes, each on its own. One verdict per op, in order. Durable on return, but for calls that hold
    /// nothing but Extend. Cost: O(ops · log n).
    async fn apply(&self, shard: Shard, ops: Vec<Op>) -> Result<Vec<Verdict>, StoreError>;

    /// Writes or deletes documents, each if its version is the expected one, and does its effects in the same step. One
    /// answer per change, in order. Durable on return.
    async fn change_docs(&self, shard: Shard, changes: Vec<DocChange>) -> Result<Vec<Cas>, StoreError>;

    /// Writes (`Some`) or deletes (`None`) one document that is never due.
    async fn doc(&self, shard: Shard, key: String, expect: u64, new: Option<Bytes>) -> Result<Cas, StoreError> {
        let change = DocChange { key, expect, value: new, due_ms: 0, effects: Vec::new() };
        let mut done = self.change_docs(shard, vec![change]).await?;
        done.pop().ok_or_else(|| StoreError::Unavailable("no answer to the change of a document".to_owned()))
    }

    /// Documents whose key starts with `prefix`, by key.
    async fn docs(&self, shard: Shard, prefix: &str) -> Result<Vec<(String, Doc)>, StoreError>;

    /// The time by which things are due, on the wall clock, in milliseconds.
    fn wall_ms(&self) -> i64;

    /// What is due now, at most `limit` entries: leases and cancels first, then documents, starts, expiries, trims. Changes
    /// nothing.
    async fn due(&self, shard: Shard, limit: usize) -> Result<DueList, StoreError>;

    /// Records by id, in order; `None` = not there. May show a change up to one commit before it is durable.
    async fn get(&self, ids: &[JobId], parts: Parts) -> Result<Vec<Option<Record>>, StoreError>;

    /// One page of one list. Jobs that were claimed in the same millisecond stand in any order, and READY jobs that have
    /// expired, as good as gone, may be left out. Cost: O(page · log n).
    async fn list(&self, query: ListQuery) -> Result<Vec<Meta>, StoreError>;

    /// Queues by name: those named, or all. Unknown names are left out.
    async fn queues(&self, names: Option<&[QueueName]>) -> Result<Vec<QueueFacts>, StoreError>;

    /// The queues that are configured, by name.
    async fn configs(&self) -> Result<Vec<(QueueName, QueueConfig)>, StoreError> {
        let all = self.queues(None).await?;
        let configured = |facts: QueueFacts| facts.config.map(|configured| (facts.name, *configured.config));
        Ok(all.into_iter().filter_map(configured).collect())
    }

    /// Changes a queue, making it if need be; returns once every claim obeys. Durable on return.
    async fn set_queue(&self, name: QueueName, change: QueueChange) -> Result<QueueFacts, StoreError>;

    /// Appends lines to a job's log, numbering them from the last; keeps the newest `keep`. Lost if the job is gone. Not
    /// waited for.
    async fn log(&self, id: JobId, lines: Vec<LogLine>, keep: usize) -> Result<(), StoreError>;

    /// Lines after `after` (0 = from the start) of at least `min_level`, at most `limit`.
    async fn read_log(&self, id: JobId, after: u64, min_level: u8, limit: usize) -> Result<Vec<LogLine>, StoreError>;

    async fn info(&self) -> Result<StoreInfo, StoreError>;

    /// Holds counters and indexes against an enumeration of the records.
    async fn recount(&self) -> Result<Disagreements, StoreError>;

    /// Looks over everything, job by job, and mends what does not agree if it is told to. Beside servers at work nothing is
    /// found that is only on its way, because everything is looked at again before it counts. Errors: `Refused` = this store
    /// builds its counters and indexes anew when it is opened, and mends nothing else.
    async fn check(&self, mend: Mend) -> Result<Checked, StoreError> {
        if mend.tasks.is_some() {
            let why = "this store builds its counters and indexes anew at each start: there is nothing to repair in place. \
                       What is damaged on disk comes from a backup";
            return Err(StoreError::Refused(why.to_owned()));
        }
        let jobs = self.queues(None).await?.iter().flat_map(|queue| queue.counts).sum();
        let found = self.recount().await?.into_iter().map(|what| Found { what, mended: None }).collect();
        Ok(Checked { jobs, found, skipped: Vec::new() })
    }

    /// The page of everything after `from` (`None` = the first): at most about `limit` things and 4 MiB. Nothing may change
    /// the store between two pages.
    async fn export(&self, from: Option<Mark>, limit: usize) -> Result<Exported, StoreError> {
        let _ = (from, limit);
        Err(StoreError::Refused("this store cannot be copied".to_owned()))
    }

    /// Takes pages of another store's export, in order, into a store that is empty before the first and that nobody else
    /// uses. RUNNING jobs keep their tokens and get a lease of `lease_ms`. Durable on return. After an error it has to be
    /// emptied and filled anew.
    async fn import(&self, things: Vec<Whole>, lease_ms: i64) -> Result<(), StoreError> {
        let _ = (things, lease_ms);
        Err(StoreError::Refused("this store cannot be filled from another".to_owned()))
    }

    /// Pushes from now on. A receiver that lags has lost messages: treat that as [`Wake::Reset`].
    fn watch(&self) -> broadcast::Receiver<Wake>;

    /// Finishes what was accepted, makes it durable and lets go of the data. Later calls get `Closed`.
    async fn close(&self);
}
