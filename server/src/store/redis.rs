//! The Redis store: any number of servers on one Redis (or Valkey), a Sentinel set or a Cluster.
//!
//! The truth about a job is a packed record; the READY lists are hints that are checked against it. A change is decided by
//! the same pure rules as everywhere (`store/rules.rs`) and made by compare-and-set, so the scripts know nothing of what it
//! means; only a put and a claim, which select, are scripts of their own. Everything of a job lies in one shard, and its id
//! says in which.
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use async_trait::async_trait;
use bytes::Bytes;
use hashbrown::HashMap;
use parking_lot::Mutex;
use redis::Value;
use tokio::sync::broadcast;
use uuid::Uuid;

use self::{
    claim::Asked, clock::RedisClock, conn::Conn, known::Known, lanes::Lane, layout::Layout, moves::Step, names::Names,
    placing::Placing,
};
use super::{Cas, Checked, Disagreements, Doc, Exported, Mark, Mend, Store, StoreError, StoreInfo, Whole};
use crate::model::{
    ids::{JobId, QueueName, Shard},
    job::{LogLine, Meta, Parts, Record},
    op::{Claim, Claimed, DocChange, DueList, KeyHash, ListQuery, NewJob, Op, Put, Verdict, Wake},
    queue::{QueueChange, QueueConfig, QueueFacts},
    time::Clock,
};

mod apply;
mod audit;
mod check;
mod claim;
mod clock;
mod config;
pub mod conn;
mod docs;
mod due;
mod export;
pub mod health;
mod import;
mod known;
mod lanes;
mod layout;
mod moves;
mod names;
mod open;
mod outbox;
mod placing;
pub mod push;
mod put;
mod queues;
mod reads;
mod record;
mod scripts;
mod strands;
pub mod target;
mod value;
mod watch;

/// Wakes that a receiver may be behind before it has lost some.
const WAKES: usize = 4_096;

/// How a store is opened, besides where it is.
#[derive(Clone, Default)]
pub struct Options {
    /// The number of shards of a store that is new, 1 to 4,096. `None` = 16, or 8 for each master of a cluster. A store that
    /// is there keeps its own.
    pub shards: Option<u16>,
    /// A clock that tests move by hand, instead of Redis's.
    pub clock: Option<Arc<dyn Clock>>,
}

/// Keeps jobs in Redis. Cheap to share; servers on the same prefix are one service.
pub struct RedisStore {
    core: Arc<Core>,
}

/// What the parts of the store have in common.
struct Core {
    conn: Conn,
    root: String,
    layout: Layout,
    placing: Placing,
    names: Names,
    clock: RedisClock,
    known: Known,
    /// Names this opening of the store among the claimers.
    me: String,
    numbers: AtomicU64,
    unanswered: Mutex<HashMap<(Shard, QueueName), Asked>>,
    puts: std::sync::OnceLock<Vec<Lane<NewJob>>>,
    moves: std::sync::OnceLock<Vec<Lane<Step>>>,
    wakes: broadcast::Sender<Wake>,
    epoch: Mutex<String>,
    closed: tokio_util::sync::CancellationToken,
}

impl Core {
    fn times(&self) -> Vec<Bytes> {
        self.clock.args().map(Bytes::from).into()
    }

    fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Relaxed)
    }

    fn puts(&self, shard: Shard) -> &Lane<NewJob> {
        &self.puts.get().expect("lanes start with the store")[usize::from(shard.0)]
    }

    fn moves(&self, shard: Shard) -> &Lane<Step> {
        &self.moves.get().expect("lanes start with the store")[usize::from(shard.0)]
    }

    fn open(&self) -> Result<(), StoreError> {
        if self.closed.is_cancelled() { Err(StoreError::Closed) } else { Ok(()) }
    }

    /// A shard that this store does not have: an id from elsewhere.
    fn has(&self, id: JobId) -> bool {
        self.layout.has(id.shard())
    }

    /// Runs a script on a shard; what it answers after the time.
    async fn eval_parts(
        &self,
        shard: Shard,
        script: &'static conn::Script,
        args: &[Bytes],
    ) -> Result<Vec<Value>, StoreError> {
        self.open()?;
        let asked = std::time::Instant::now();
        let answer = self.conn.eval(script, &[self.layout.tag(shard).as_bytes()], args).await?;
        let Value::Array(mut parts) = answer else { return Err(value::unexpected(&answer)) };
        if parts.is_empty() {
            return Err(value::unexpected(&Value::Array(parts)));
        }
        let rest = parts.split_off(1);
        if let Some(step_ms) = self.clock.heard(value::int(&parts[0])?, asked) {
            tracing::error!(step_ms, "the clock of Redis was set: leases and delays move with it");
        }
        Ok(rest)
    }

    /// The one answer of a script.
    async fn eval(&self, shard: Shard, script: &'static conn::Script, args: &[Bytes]) -> Result<Value, StoreError> {
        let mut parts = self.eval_parts(shard, script, args).await?;
        Ok(if parts.is_empty() { Value::Nil } else { parts.swap_remove(0) })
    }

    /// Plain commands on a shard.
    async fn run(&self, shard: Shard, pipe: redis::Pipeline) -> Result<Vec<Value>, StoreError> {
        self.open()?;
        self.conn.run(self.layout.tag(shard).as_bytes(), pipe).await
    }

    fn wake(&self, wake: Wake) {
        // Nobody listening is no failure: who starts to listen looks at everything first.
        _ = self.wakes.send(wake);
    }
}

#[async_trait]
impl Store for RedisStore {
    fn is_shared(&self) -> bool {
        true
    }

    fn shards(&self) -> u16 {
        self.core.layout.shards()
    }

    fn place(&self, queue: &QueueName, proposal: Uuid, key: Option<KeyHash>) -> Shard {
        self.core.placing.place(queue, proposal, key)
    }

    fn shards_of(&self, queue: &QueueName) -> Vec<Shard> {
        self.core.placing.shards_of(queue)
    }

    fn width(&self, queue: &QueueName) -> u16 {
        self.core.placing.width(queue)
    }

    async fn widen(&self, queue: QueueName, shards: u16) -> Result<(), StoreError> {
        self.core.widen(&queue, shards).await
    }

    async fn tell(&self, note: Bytes) -> Result<(), StoreError> {
        self.core.tell(note).await
    }

    async fn put(&self, shard: Shard, jobs: Vec<NewJob>) -> Result<Vec<Put>, StoreError> {
        self.core.open()?;
        self.core.puts(shard).ask(jobs).await
    }

    async fn claim(&self, shard: Shard, claim: Claim) -> Result<Claimed, StoreError> {
        self.core.claim(shard, claim).await
    }

    async fn apply(&self, shard: Shard, ops: Vec<Op>) -> Result<Vec<Verdict>, StoreError> {
        self.core.open()?;
        if !self.core.layout.has(shard) {
            return Ok(vec![Verdict::NotFound; ops.len()]);
        }
        self.core.apply(shard, ops).await
    }

    async fn change_docs(&self, shard: Shard, changes: Vec<DocChange>) -> Result<Vec<Cas>, StoreError> {
        self.core.change_docs(shard, changes).await
    }

    fn wall_ms(&self) -> i64 {
        self.core.clock.now().wall_ms
    }

    async fn docs(&self, shard: Shard, prefix: &str) -> Result<Vec<(String, Doc)>, StoreError> {
        self.core.docs(shard, prefix).await
    }

    async fn due(&self, shard: Shard, limit: usize) -> Result<DueList, StoreError> {
        self.core.due(shard, limit).await
    }

    async fn get(&self, ids: &[JobId], parts: Parts) -> Result<Vec<Option<Record>>, StoreError> {
        self.core.get(ids, parts).await
    }

    async fn list(&self, query: ListQuery) -> Result<Vec<Meta>, StoreError> {
        self.core.list(query).await
    }

    async fn queues(&self, names: Option<&[QueueName]>) -> Result<Vec<QueueFacts>, StoreError> {
        self.core.queues(names).await
    }

    async fn configs(&self) -> Result<Vec<(QueueName, QueueConfig)>, StoreError> {
        self.core.configs().await
    }

    async fn set_queue(&self, name: QueueName, change: QueueChange) -> Result<QueueFacts, StoreError> {
        self.core.set_queue(name, change).await
    }

    async fn log(&self, id: JobId, lines: Vec<LogLine>, keep: usize) -> Result<(), StoreError> {
        self.core.log(id, lines, keep).await
    }

    async fn read_log(&self, id: JobId, after: u64, min_level: u8, limit: usize) -> Result<Vec<LogLine>, StoreError> {
        self.core.read_log(id, after, min_level, limit).await
    }

    async fn info(&self) -> Result<StoreInfo, StoreError> {
        self.core.info().await
    }

    async fn recount(&self) -> Result<Disagreements, StoreError> {
        self.core.recount().await
    }

    async fn check(&self, mend: Mend) -> Result<Checked, StoreError> {
        self.core.check(&mend).await
    }

    async fn export(&self, from: Option<Mark>, limit: usize) -> Result<Exported, StoreError> {
        self.core.export(from, limit).await
    }

    async fn import(&self, things: Vec<Whole>, lease_ms: i64) -> Result<(), StoreError> {
        self.core.import(things, lease_ms).await
    }

    fn watch(&self) -> broadcast::Receiver<Wake> {
        self.core.wakes.subscribe()
    }

    async fn close(&self) {
        self.core.closed.cancel();
    }
}
