//! The smallest durable store there can be: the machine, and a map of the records that it asks to be kept. Opening it again
//! builds a new machine from the map, which holds the promise that the records are the whole state.
use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use jobwire_server::{
    model::{
        ids::{JobId, QueueName, Shard},
        job::{LogLine, Meta, Parts, Record},
        op::{Claim, Claimed, DocChange, DueList, ListQuery, NewJob, Op, Put, Verdict, Wake},
        queue::{QueueChange, QueueFacts},
        time::{Clock, Now},
    },
    store::{
        Cas, Disagreements, Doc, Durability, SharedStore, Store, StoreError, StoreInfo,
        conformance::{Harness, ManualClock},
        memory::{
            MemoryStore,
            assemble::{self, Damaged, SideReader},
            machine::Machine,
            write::{Key, Output, Table, Write},
        },
    },
};
use parking_lot::Mutex;
use proptest::prelude::*;
use tokio::sync::broadcast;

mod store_support;

const FRESH_LEASE_MS: i64 = 30_000;

#[derive(Clone, Default)]
struct Records(BTreeMap<Key, Bytes>);

impl Records {
    fn apply(&mut self, writes: Vec<Write>) {
        use Table::{Attempt, Body, Checkpoint, Log, Meta, Outcome, Progress};
        for write in writes {
            match write {
                Write::Set(key, value) => drop(self.0.insert(key, value)),
                Write::Remove(key) => drop(self.0.remove(&key)),
                Write::Forget { row, .. } => {
                    let tables = [Meta, Body, Outcome, Attempt, Progress, Checkpoint, Log];
                    for table in tables {
                        let of_row = Key::Job { table, row, sub: 0 }..=Key::Job { table, row, sub: u64::MAX };
                        let keys: Vec<Key> = self.0.range(of_row).map(|(key, _)| key.clone()).collect();
                        keys.iter().for_each(|key| drop(self.0.remove(key)));
                    }
                }
            }
        }
    }

    /// A machine of what is here, read in the worst order there is: jobs before the names they use.
    fn machine(&self, now: Now) -> Machine {
        let mut machine = Machine::new();
        let mut logs: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        for (key, value) in &self.0 {
            match key {
                Key::Job { table: Table::Log, row, sub } => {
                    let range = logs.entry(*row).or_insert((*sub, *sub));
                    *range = (range.0.min(*sub), range.1.max(*sub));
                }
                key => machine.load(key.clone(), value).expect("what was written can be read"),
            }
        }
        for (row, (first, last)) in logs {
            machine.load_log(row, first, last);
        }
        machine.loaded(now, FRESH_LEASE_MS).expect("what was written fits together");
        machine
    }
}

impl SideReader for Records {
    fn read(&self, key: &Key) -> Result<Option<Bytes>, Damaged> {
        Ok(self.0.get(key).cloned())
    }
}

struct Journal {
    clock: Arc<ManualClock>,
    inner: Mutex<Option<(Machine, Records)>>,
    wakes: broadcast::Sender<Wake>,
}

impl Journal {
    fn open(clock: Arc<ManualClock>, records: Records) -> Self {
        let machine = records.machine(clock.now());
        Self { clock, inner: Mutex::new(Some((machine, records))), wakes: broadcast::channel(1_024).0 }
    }

    fn call<T>(&self, work: impl FnOnce(&mut Machine, &Records, Now, &mut Output) -> T) -> Result<T, StoreError> {
        let mut inner = self.inner.lock();
        let (machine, records) = inner.as_mut().ok_or(StoreError::Closed)?;
        let mut out = Output::default();
        let answer = work(machine, records, self.clock.now(), &mut out);
        // Twice: a batch that is replayed changes nothing.
        records.apply(out.writes.clone());
        records.apply(out.writes);
        for wake in out.wakes {
            let _ = self.wakes.send(wake);
        }
        Ok(answer)
    }
}

#[async_trait]
impl Store for Journal {
    async fn put(&self, _: Shard, jobs: Vec<NewJob>) -> Result<Vec<Put>, StoreError> {
        self.call(|machine, _, now, out| machine.put(now, jobs, out))
    }

    async fn claim(&self, _: Shard, claim: Claim) -> Result<Claimed, StoreError> {
        self.call(|machine, records, now, out| {
            let handed = machine.claim(now, &claim, out);
            Claimed {
                jobs: handed.jobs.into_iter().map(|granted| assemble::leased(granted, records)).collect(),
                more: handed.more,
                opens_in_ms: handed.opens_in_ms,
            }
        })
    }

    async fn apply(&self, _: Shard, ops: Vec<Op>) -> Result<Vec<Verdict>, StoreError> {
        self.call(|machine, _, now, out| machine.apply(now, ops, out))
    }

    async fn change_docs(&self, _: Shard, changes: Vec<DocChange>) -> Result<Vec<Cas>, StoreError> {
        self.call(|machine, _, now, out| machine.change_docs(now, changes, out))
    }

    fn wall_ms(&self) -> i64 {
        self.clock.now().wall_ms
    }

    async fn docs(&self, _: Shard, prefix: &str) -> Result<Vec<(String, Doc)>, StoreError> {
        self.call(|machine, _, _, _| machine.docs(prefix))
    }

    async fn due(&self, _: Shard, limit: usize) -> Result<DueList, StoreError> {
        self.call(|machine, _, now, _| machine.due(now, limit))
    }

    async fn get(&self, ids: &[JobId], parts: Parts) -> Result<Vec<Option<Record>>, StoreError> {
        self.call(|machine, records, _, _| {
            let read = |id: &JobId| machine.find(*id).map(|found| assemble::record(found, parts, records));
            ids.iter().map(read).collect()
        })
    }

    async fn list(&self, query: ListQuery) -> Result<Vec<Meta>, StoreError> {
        self.call(|machine, _, _, _| machine.list(&query))
    }

    async fn queues(&self, names: Option<&[QueueName]>) -> Result<Vec<QueueFacts>, StoreError> {
        self.call(|machine, _, _, _| machine.queues(names))
    }

    async fn set_queue(&self, name: QueueName, change: QueueChange) -> Result<QueueFacts, StoreError> {
        self.call(|machine, _, now, out| machine.set_queue(now, &name, change, out))
    }

    async fn log(&self, id: JobId, lines: Vec<LogLine>, keep: usize) -> Result<(), StoreError> {
        self.call(|machine, _, _, out| machine.log(id, lines, keep, out)).map(drop)
    }

    async fn read_log(&self, id: JobId, after: u64, min_level: u8, limit: usize) -> Result<Vec<LogLine>, StoreError> {
        self.call(|machine, records, _, _| match machine.log_range(id) {
            Some(range) => assemble::log_lines(range, after, min_level, limit, records),
            None => Vec::new(),
        })
    }

    async fn info(&self) -> Result<StoreInfo, StoreError> {
        self.call(|_, _, _, _| StoreInfo::own("journal", Durability::Memory, 0, false))
    }

    async fn recount(&self) -> Result<Disagreements, StoreError> {
        self.call(|machine, _, _, _| machine.recount())
    }

    fn watch(&self) -> broadcast::Receiver<Wake> {
        self.wakes.subscribe()
    }

    async fn close(&self) {
        *self.inner.lock() = None;
    }
}

struct Reopened {
    clock: Arc<ManualClock>,
    store: Arc<Journal>,
}

#[async_trait]
impl Harness for Reopened {
    fn store(&self) -> SharedStore {
        self.store.clone()
    }

    fn clock(&self) -> &ManualClock {
        &self.clock
    }

    async fn reopen(&mut self) -> Option<i64> {
        let records = self.store.inner.lock().take().map(|(_, records)| records).unwrap_or_default();
        self.store = Arc::new(Journal::open(self.clock.clone(), records));
        Some(FRESH_LEASE_MS)
    }
}

fn fresh() -> Reopened {
    let clock = Arc::new(ManualClock::default());
    Reopened { store: Arc::new(Journal::open(clock.clone(), Records::default())), clock }
}

async fn journal() -> Reopened {
    fresh()
}

jobwire_server::store_conformance!(journal);
jobwire_server::store_conformance!(turns journal);

/// The memory store: the model.
struct Model {
    clock: Arc<ManualClock>,
    store: SharedStore,
}

#[async_trait]
impl Harness for Model {
    fn store(&self) -> SharedStore {
        self.store.clone()
    }

    fn clock(&self) -> &ManualClock {
        &self.clock
    }

    async fn reopen(&mut self) -> Option<i64> {
        None
    }
}

fn model() -> Model {
    let clock = Arc::new(ManualClock::default());
    Model { store: Arc::new(MemoryStore::new(clock.clone())), clock }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn opened_again_at_any_point_it_is_the_same(calls in store_support::calls()) {
        store_support::run(&calls, async || (model(), fresh()));
    }
}
