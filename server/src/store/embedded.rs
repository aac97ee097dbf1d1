//! `--store embedded:DIR`: the machine of the memory store with a journal of its writes, so that what was acknowledged
//! is there after a power cut.
//!
//! One thread owns the machine and decides; another commits what was decided, a group at a time, and gives the answers
//! that waited for it; records that the machine does not hold are read on other threads. See `owner.rs`, `writer.rs` and
//! `read.rs`; `record_log.rs` is the seam to the disk, `sqlite.rs` what is behind it.
use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use self::{
    lock::DirLock,
    owner::{Owner, Request},
    pipe::Pipe,
    record_log::{Found, RecordLog, SideKey, SideSource},
    sides::SideCache,
    space::Space,
    sqlite::SqliteLog,
    writer::{Alarm, Status, Writer},
};
use super::{
    Cas, Disagreements, Doc, Durability, Exported, Mark, Store, StoreError, StoreInfo, Whole,
    memory::{assemble, claim::Handed, machine::Machine, write::Table},
};
use crate::model::{
    ids::{JobId, QueueName, Shard},
    job::{LogLine, Meta, Parts, Record},
    op::{Claim, Claimed, DocChange, DueList, ListQuery, NewJob, Op, Put, Verdict, Wake},
    queue::{QueueChange, QueueFacts},
    time::{Clock, SECOND},
};

mod changes;
mod lock;
mod mark;
mod owner;
mod pipe;
mod read;
mod record_log;
mod schema;
mod sides;
mod space;
mod sqlite;
mod sqlite_open;
mod sqlite_read;
#[cfg(test)]
mod sqlite_tests;
mod sqlite_verify;
#[cfg(test)]
mod tests;
mod writer;

pub use writer::OnFatal;

/// Calls that may wait for the owner; the next callers wait for a place.
const CALLS_MOST: usize = 1_024;
/// Pushes that a slow listener may be behind.
const WAKES_MOST: usize = 4_096;
/// Log lines that are fetched in one go.
const LINES_AT_ONCE: u64 = 256;

/// How an embedded store works.
#[derive(Clone)]
pub struct Options {
    /// [`Durability::EmbeddedFsync`] (the default) or [`Durability::EmbeddedFast`]. `Memory` is refused.
    pub durability: Durability,
    /// Memory for recent bodies, results and the like: 64 MiB. What is not committed yet comes on top.
    pub cache_bytes: usize,
    /// FAST: at most so much is lost with the power: 10 ms.
    pub sync_interval: Duration,
    /// New jobs are refused while less disk space than this is free: 128 MiB.
    pub min_free_bytes: u64,
    /// Size of the file that is removed when the disk fills regardless: 64 MiB; 0 = none. Less than 32 MiB may not be
    /// enough to finish what was accepted.
    pub ballast_bytes: u64,
    /// The fresh lease that every running job gets when the store is opened: 30 s.
    pub lease_ms: i64,
    /// Told once when a commit or a sync has failed, which nothing is accepted after. The process should end, with an
    /// error.
    pub on_fatal: Option<OnFatal>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            durability: Durability::EmbeddedFsync,
            cache_bytes: 64 << 20,
            sync_interval: Duration::from_millis(10),
            min_free_bytes: 128 << 20,
            ballast_bytes: 64 << 20,
            lease_ms: 30 * SECOND,
            on_fatal: None,
        }
    }
}

/// Keeps jobs in a directory. See the module's documentation.
pub struct EmbeddedStore {
    calls: mpsc::Sender<Request>,
    wakes: broadcast::Sender<Wake>,
    sides: Arc<SideCache>,
    source: Arc<dyn SideSource>,
    space: Arc<Space>,
    status: watch::Receiver<Status>,
    durability: Durability,
    clock: Arc<dyn Clock>,
}

impl EmbeddedStore {
    /// Opens the store of `dir`, making both if need be, and reads it into memory. Blocks while it does: about a second
    /// with a million jobs. Errors: `Refused` (in use: names the process; a newer format; no permission) and `Damaged`
    /// (names file, table and row).
    pub fn open(dir: &Path, options: Options, clock: Arc<dyn Clock>) -> Result<Arc<Self>, StoreError> {
        std::fs::create_dir_all(dir)
            .map_err(|error| StoreError::Refused(format!("cannot make the directory {}: {error}", dir.display())))?;
        let lock = DirLock::take(dir)?;
        let log = SqliteLog::open(dir)?;
        let space = Space::new(dir, options.min_free_bytes, options.ballast_bytes);
        Self::over(Box::new(log), Some(lock), space, options, clock)
    }

    fn over(
        mut log: Box<dyn RecordLog>,
        lock: Option<DirLock>,
        space: Space,
        options: Options,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, StoreError> {
        if options.durability == Durability::Memory {
            return Err(StoreError::Refused("an embedded store is durable: choose fsync or fast".to_owned()));
        }
        let machine = load(log.as_mut(), clock.as_ref(), options.lease_ms)?;
        let pipe = Arc::new(Pipe::default());
        let sides = Arc::new(SideCache::new(options.cache_bytes));
        let space = Arc::new(space);
        let source = log.reader();
        let (status_sender, status) = watch::channel(Status::Open);
        let alarm = Alarm { status: status_sender, on_fatal: options.on_fatal, pipe: pipe.clone() };
        let (calls, call_receiver) = mpsc::channel(CALLS_MOST);
        let wakes = broadcast::Sender::new(WAKES_MOST);
        let owner = Owner {
            machine,
            clock: clock.clone(),
            pipe: pipe.clone(),
            sides: sides.clone(),
            wakes: wakes.clone(),
            _alarm: alarm.clone(),
        };
        let writer = Writer {
            log,
            pipe,
            sides: sides.clone(),
            space: space.clone(),
            durability: options.durability,
            sync_interval: options.sync_interval,
            alarm,
            lock,
            unsafe_since: None,
        };
        spawn("store-writer", move || writer.run())?;
        spawn("store-owner", move || owner.run(call_receiver))?;
        Ok(Arc::new(Self { calls, wakes, sides, source, space, status, durability: options.durability, clock }))
    }

    /// Sends a call to the owner and waits for its answer.
    async fn ask<T>(&self, call: impl FnOnce(oneshot::Sender<T>) -> Request) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.calls.send(call(reply)).await.map_err(|_| self.gone())?;
        match answer.await {
            Ok(answer) => Ok(answer),
            Err(_) => {
                // Answers are lost only when the store fails, which may not have been said yet.
                let _ = self.status.clone().wait_for(|status| *status != Status::Open).await;
                Err(self.gone())
            }
        }
    }

    /// Why nobody answers.
    fn gone(&self) -> StoreError {
        match &*self.status.borrow() {
            Status::Failed(what) => StoreError::Unavailable(what.clone()),
            Status::Open | Status::Closed => StoreError::Closed,
        }
    }

    async fn fetch(&self, keys: Vec<SideKey>) -> Result<read::Fetched, StoreError> {
        read::fetch(&self.sides, &self.source, keys).await
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), StoreError> {
    let started = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    started.map(drop).map_err(|error| StoreError::Refused(format!("cannot start the thread {name}: {error}")))
}

/// Reads everything that lives in memory.
fn load(log: &mut dyn RecordLog, clock: &dyn Clock, lease_ms: i64) -> Result<Machine, StoreError> {
    let mut machine = Machine::new();
    log.load(&mut |found| match found {
        Found::Record(key, value) => machine.load(key, value).map_err(|corrupt| corrupt.to_string()),
        Found::Log { row, first, last } => {
            machine.load_log(row, first, last);
            Ok(())
        }
    })?;
    machine.loaded(clock.now(), lease_ms).map_err(|corrupt| StoreError::Damaged(corrupt.to_string()))?;
    Ok(machine)
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn put(&self, _shard: Shard, jobs: Vec<NewJob>) -> Result<Vec<Put>, StoreError> {
        if self.space.is_full() {
            let space = self.space.clone();
            let _ = tokio::task::spawn_blocking(move || space.look()).await;
            if self.space.is_full() {
                return Err(StoreError::Full(self.space.reason()));
            }
        }
        self.ask(|reply| Request::Put { jobs, reply }).await
    }

    async fn claim(&self, _shard: Shard, claim: Claim) -> Result<Claimed, StoreError> {
        let Handed { jobs: granted, more, opens_in_ms } = self.ask(|reply| Request::Claim { claim, reply }).await?;
        let mut keys = Vec::with_capacity(granted.len());
        granted.iter().for_each(|granted| read::for_lease(&granted.found, &mut keys));
        let fetched = self.fetch(keys).await?;
        for granted in granted.iter().filter(|granted| fetched.lacks_body(granted.found.row)) {
            let id = granted.found.meta.id;
            if self.ask(|reply| Request::Find { ids: vec![id], reply }).await?.iter().flatten().next().is_some() {
                tracing::error!(job = %id, row = granted.found.row, "a job has no body");
            }
        }
        let jobs = granted.into_iter().map(|granted| assemble::leased(granted, &fetched)).collect();
        Ok(Claimed { jobs, more, opens_in_ms })
    }

    async fn apply(&self, _shard: Shard, ops: Vec<Op>) -> Result<Vec<Verdict>, StoreError> {
        self.ask(|reply| Request::Apply { ops, reply }).await
    }

    async fn change_docs(&self, _shard: Shard, changes: Vec<DocChange>) -> Result<Vec<Cas>, StoreError> {
        self.ask(|reply| Request::ChangeDocs { changes, reply }).await
    }

    fn wall_ms(&self) -> i64 {
        self.clock.now().wall_ms
    }

    async fn docs(&self, _shard: Shard, prefix: &str) -> Result<Vec<(String, Doc)>, StoreError> {
        self.ask(|reply| Request::Docs { prefix: prefix.to_owned(), reply }).await
    }

    async fn due(&self, _shard: Shard, limit: usize) -> Result<DueList, StoreError> {
        self.ask(|reply| Request::Due { limit, reply }).await
    }

    async fn get(&self, ids: &[JobId], parts: Parts) -> Result<Vec<Option<Record>>, StoreError> {
        let found = self.ask(|reply| Request::Find { ids: ids.to_vec(), reply }).await?;
        let mut keys = Vec::new();
        found.iter().flatten().for_each(|found| read::for_record(found, parts, &mut keys));
        let fetched = self.fetch(keys).await?;
        Ok(found.into_iter().map(|found| found.map(|found| assemble::record(found, parts, &fetched))).collect())
    }

    async fn list(&self, query: ListQuery) -> Result<Vec<Meta>, StoreError> {
        self.ask(|reply| Request::List { query, reply }).await
    }

    async fn queues(&self, names: Option<&[QueueName]>) -> Result<Vec<QueueFacts>, StoreError> {
        self.ask(|reply| Request::Queues { names: names.map(<[QueueName]>::to_vec), reply }).await
    }

    async fn set_queue(&self, name: QueueName, change: QueueChange) -> Result<QueueFacts, StoreError> {
        self.ask(|reply| Request::SetQueue { name, change, reply }).await
    }

    async fn log(&self, id: JobId, lines: Vec<LogLine>, keep: usize) -> Result<(), StoreError> {
        self.calls.send(Request::Log { id, lines, keep }).await.map_err(|_| self.gone())
    }

    async fn read_log(&self, id: JobId, after: u64, min_level: u8, limit: usize) -> Result<Vec<LogLine>, StoreError> {
        let mut lines = Vec::new();
        let Some((row, first, end)) = self.ask(|reply| Request::LogRange { id, reply }).await? else {
            return Ok(lines);
        };
        let mut from = first.max(after.saturating_add(1));
        while from < end && lines.len() < limit {
            let to = end.min(from.saturating_add(LINES_AT_ONCE));
            let fetched = self.fetch((from..to).map(|index| (Table::Log, row, index)).collect()).await?;
            let room = limit - lines.len();
            lines.extend(assemble::log_lines((row, from, to), from - 1, min_level, room, &fetched));
            from = to;
        }
        Ok(lines)
    }

    async fn info(&self) -> Result<StoreInfo, StoreError> {
        let source = self.source.clone();
        let bytes = tokio::task::spawn_blocking(move || source.bytes()).await.unwrap_or(0);
        Ok(StoreInfo::own("embedded", self.durability, bytes, self.space.is_full()))
    }

    async fn recount(&self) -> Result<Disagreements, StoreError> {
        self.ask(|reply| Request::Recount { reply }).await?
    }

    async fn export(&self, from: Option<Mark>, limit: usize) -> Result<Exported, StoreError> {
        let page = self.ask(|reply| Request::Export { from, limit, reply }).await?;
        let page = page.map_err(|corrupt| StoreError::Refused(corrupt.to_string()))?;
        let fetched = self.fetch(page.sides()).await?;
        page.with(&fetched).map_err(|damaged| StoreError::Damaged(damaged.to_string()))
    }

    async fn import(&self, things: Vec<Whole>, lease_ms: i64) -> Result<(), StoreError> {
        if self.space.is_full() {
            return Err(StoreError::Full(self.space.reason()));
        }
        self.ask(|reply| Request::Import { things, lease_ms, reply }).await
    }

    fn watch(&self) -> broadcast::Receiver<Wake> {
        self.wakes.subscribe()
    }

    async fn close(&self) {
        let _ = self.calls.send(Request::Close).await;
        let mut status = self.status.clone();
        // Ends when the writing thread has let go of the data, or has failed.
        let _ = status.wait_for(|status| *status != Status::Open).await;
    }
}
