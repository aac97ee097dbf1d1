//! The pure state machine, and [`MemoryStore`]: that machine behind a lock, which is `--store memory`. The machine is also
//! the reference of the tests and the heart of the embedded store.
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::broadcast;

use self::{machine::Machine, sides::SideMap, write::Output};
use super::{Cas, Disagreements, Doc, Durability, Exported, Mark, Store, StoreError, StoreInfo, Whole};
use crate::model::{
    ids::{JobId, QueueName, Shard},
    job::{LogLine, Meta, Parts, Record},
    op::{Claim, Claimed, DocChange, DueList, ListQuery, NewJob, Op, Put, Verdict, Wake},
    queue::{QueueChange, QueueFacts},
    time::{Clock, Now},
};

mod apply;
pub mod assemble;
pub(in crate::store) mod claim;
mod codec;
mod due;
pub mod export;
mod index;
mod keys;
mod load;
pub mod machine;
mod names;
mod place;
mod queue;
mod ready;
mod records;
mod recount;
mod sides;
mod slab;
mod strands;
#[cfg(test)]
mod tests;
mod throttle;
pub mod write;

/// Wakes that a receiver may be behind before it has lost some.
const WAKES: usize = 4_096;

/// Keeps everything in memory: as fast as it gets, and gone with the process.
pub struct MemoryStore {
    clock: Arc<dyn Clock>,
    inner: Mutex<Inner>,
    wakes: broadcast::Sender<Wake>,
}

struct Inner {
    machine: Machine,
    sides: SideMap,
    closed: bool,
}

impl MemoryStore {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let inner = Inner { machine: Machine::new(), sides: SideMap::default(), closed: false };
        Self { clock, inner: Mutex::new(inner), wakes: broadcast::channel(WAKES).0 }
    }

    fn read<T>(&self, read: impl FnOnce(&Inner, Now) -> T) -> Result<T, StoreError> {
        let inner = self.inner.lock();
        if inner.closed { Err(StoreError::Closed) } else { Ok(read(&inner, self.clock.now())) }
    }

    /// The clock is read under the lock, so that time never runs backwards between two changes.
    fn write<T>(&self, write: impl FnOnce(&mut Machine, Now, &mut Output) -> T) -> Result<T, StoreError> {
        self.write_then(write, |answer, _| answer)
    }

    /// Changes, keeps what the change asks to be kept, and then makes the answer from what is kept.
    fn write_then<T, U>(
        &self,
        write: impl FnOnce(&mut Machine, Now, &mut Output) -> T,
        then: impl FnOnce(T, &SideMap) -> U,
    ) -> Result<U, StoreError> {
        let mut inner = self.inner.lock();
        if inner.closed {
            return Err(StoreError::Closed);
        }
        let mut out = Output::default();
        let answer = write(&mut inner.machine, self.clock.now(), &mut out);
        for write in out.writes {
            inner.sides.apply(write);
        }
        for wake in out.wakes {
            // Nobody listening is no failure: who starts to listen looks at everything first.
            let _ = self.wakes.send(wake);
        }
        Ok(then(answer, &inner.sides))
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn put(&self, _: Shard, jobs: Vec<NewJob>) -> Result<Vec<Put>, StoreError> {
        self.write(|machine, now, out| machine.put(now, jobs, out))
    }

    async fn claim(&self, _: Shard, claim: Claim) -> Result<Claimed, StoreError> {
        self.write_then(
            |machine, now, out| machine.claim(now, &claim, out),
            |handed, sides| Claimed {
                jobs: handed.jobs.into_iter().map(|granted| assemble::leased(granted, sides)).collect(),
                more: handed.more,
                opens_in_ms: handed.opens_in_ms,
            },
        )
    }

    async fn apply(&self, _: Shard, ops: Vec<Op>) -> Result<Vec<Verdict>, StoreError> {
        self.write(|machine, now, out| machine.apply(now, ops, out))
    }

    async fn change_docs(&self, _: Shard, changes: Vec<DocChange>) -> Result<Vec<Cas>, StoreError> {
        self.write(|machine, now, out| machine.change_docs(now, changes, out))
    }

    fn wall_ms(&self) -> i64 {
        self.clock.now().wall_ms
    }

    async fn docs(&self, _: Shard, prefix: &str) -> Result<Vec<(String, Doc)>, StoreError> {
        self.read(|inner, _| inner.machine.docs(prefix))
    }

    async fn due(&self, _: Shard, limit: usize) -> Result<DueList, StoreError> {
        self.read(|inner, now| inner.machine.due(now, limit))
    }

    async fn get(&self, ids: &[JobId], parts: Parts) -> Result<Vec<Option<Record>>, StoreError> {
        self.read(|inner, _| {
            let record = |id: &JobId| inner.machine.find(*id).map(|found| assemble::record(found, parts, &inner.sides));
            ids.iter().map(record).collect()
        })
    }

    async fn list(&self, query: ListQuery) -> Result<Vec<Meta>, StoreError> {
        self.read(|inner, _| inner.machine.list(&query))
    }

    async fn queues(&self, names: Option<&[QueueName]>) -> Result<Vec<QueueFacts>, StoreError> {
        self.read(|inner, _| inner.machine.queues(names))
    }

    async fn set_queue(&self, name: QueueName, change: QueueChange) -> Result<QueueFacts, StoreError> {
        self.write(|machine, now, out| machine.set_queue(now, &name, change, out))
    }

    async fn log(&self, id: JobId, lines: Vec<LogLine>, keep: usize) -> Result<(), StoreError> {
        self.write(|machine, _, out| machine.log(id, lines, keep, out)).map(drop)
    }

    async fn read_log(&self, id: JobId, after: u64, min_level: u8, limit: usize) -> Result<Vec<LogLine>, StoreError> {
        self.read(|inner, _| match inner.machine.log_range(id) {
            Some(range) => assemble::log_lines(range, after, min_level, limit, &inner.sides),
            None => Vec::new(),
        })
    }

    async fn info(&self) -> Result<StoreInfo, StoreError> {
        self.read(|_, _| StoreInfo::own("memory", Durability::Memory, 0, false))
    }

    async fn recount(&self) -> Result<Disagreements, StoreError> {
        self.read(|inner, _| inner.machine.recount())
    }

    async fn export(&self, from: Option<Mark>, limit: usize) -> Result<Exported, StoreError> {
        self.read(|inner, _| {
            let page = inner.machine.export(from.as_ref(), limit);
            let page = page.map_err(|corrupt| StoreError::Refused(corrupt.to_string()))?;
            page.with(&inner.sides).map_err(|damaged| StoreError::Damaged(damaged.to_string()))
        })?
    }

    async fn import(&self, things: Vec<Whole>, lease_ms: i64) -> Result<(), StoreError> {
        self.write(|machine, now, out| machine.import(now, things, lease_ms, out))
    }

    fn watch(&self) -> broadcast::Receiver<Wake> {
        self.wakes.subscribe()
    }

    async fn close(&self) {
        self.inner.lock().closed = true;
    }
}
