//! A store of several shards that servers can share and that fails on command: memory stores side by side, each refusing
//! jobs of another shard.
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::broadcast;
use uuid::Uuid;

use crate::{
    model::{
        ids::{JobId, QueueName, Shard},
        job::{LogLine, Meta, Parts, Record},
        op::{Act, Claim, Claimed, DocChange, DueList, Effect, KeyHash, ListQuery, NewJob, Op, Put, Verdict, Wake},
        queue::{QueueChange, QueueConfig, QueueFacts},
        time::Clock,
    },
    store::{Cas, Disagreements, Doc, Store, StoreError, StoreInfo, memory::MemoryStore},
};

pub struct TestStore {
    shards: Vec<Arc<MemoryStore>>,
    down: Vec<AtomicBool>,
    /// So many changes are made and their answers lost.
    lose: AtomicUsize,
    /// Changes take so long.
    latency_ms: AtomicU64,
    /// Nobody hears what servers tell each other.
    mute: AtomicBool,
    /// Shared stores push notes and documents.
    wakes: broadcast::Sender<Wake>,
    /// Names of the calls that got through, in order.
    pub calls: Mutex<Vec<&'static str>>,
    pub tries: AtomicUsize,
}

impl TestStore {
    /// Queues called `wide…` live in all shards, others in one.
    pub fn new(shards: u16, clock: Arc<dyn Clock>) -> Arc<Self> {
        let store = Arc::new(Self {
            shards: (0..shards).map(|_| Arc::new(MemoryStore::new(clock.clone()))).collect(),
            down: (0..shards).map(|_| AtomicBool::new(false)).collect(),
            lose: AtomicUsize::new(0),
            latency_ms: AtomicU64::new(0),
            mute: AtomicBool::new(false),
            wakes: broadcast::channel(4_096).0,
            calls: Mutex::default(),
            tries: AtomicUsize::new(0),
        });
        for (index, shard) in store.shards.iter().enumerate() {
            let (mut theirs, ours) = (shard.watch(), store.wakes.clone());
            tokio::spawn(async move {
                while let Ok(wake) = theirs.recv().await {
                    let wake = match wake {
                        Wake::Timer(_) => Wake::Timer(Shard(index as u16)),
                        wake => wake,
                    };
                    _ = ours.send(wake);
                }
            });
        }
        store
    }

    pub fn set_down(&self, shard: Shard, down: bool) {
        self.down[usize::from(shard.0)].store(down, SeqCst);
    }

    pub fn all_down(&self, down: bool) {
        self.down.iter().for_each(|shard| shard.store(down, SeqCst));
    }

    pub fn set_latency_ms(&self, ms: u64) {
        self.latency_ms.store(ms, SeqCst);
    }

    pub fn lose_answers(&self, count: usize) {
        self.lose.store(count, SeqCst);
    }

    pub fn mute(&self) {
        self.mute.store(true, SeqCst);
    }

    pub fn count(&self, call: &str) -> usize {
        self.calls.lock().iter().filter(|known| **known == call).count()
    }

    pub fn wake(&self, wake: Wake) {
        _ = self.wakes.send(wake);
    }

    /// The shard, unless it is down.
    fn at(&self, shard: Shard, call: &'static str) -> Result<&MemoryStore, StoreError> {
        self.tries.fetch_add(1, SeqCst);
        if self.down[usize::from(shard.0)].load(SeqCst) {
            return Err(StoreError::Unavailable("switched off".into()));
        }
        self.calls.lock().push(call);
        Ok(&self.shards[usize::from(shard.0)])
    }

    fn answer<T>(&self, answer: T) -> Result<T, StoreError> {
        let lost = self.lose.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok();
        if lost { Err(StoreError::Unavailable("the answer was lost".into())) } else { Ok(answer) }
    }

    fn wide(&self, queue: &QueueName) -> bool {
        queue.as_str().starts_with("wide")
    }

    fn hashed(&self, bytes: &[u8]) -> Shard {
        Shard((xxhash_rust::xxh3::xxh3_64(bytes) % self.shards.len() as u64) as u16)
    }
}

/// Takes what belongs elsewhere out of an op: the outbox.
fn take_effects(op: &mut Op) -> Vec<Effect> {
    match &mut op.act {
        Act::Finish { effects, .. } | Act::Later { effects, .. } => std::mem::take(effects),
        _ => Vec::new(),
    }
}

#[async_trait]
impl Store for TestStore {
    fn is_shared(&self) -> bool {
        self.shards() > 1
    }

    fn shards(&self) -> u16 {
        self.shards.len() as u16
    }

    fn place(&self, queue: &QueueName, proposal: Uuid, _: Option<KeyHash>) -> Shard {
        if self.wide(queue) { self.hashed(&proposal.as_bytes()[8..]) } else { self.hashed(queue.as_str().as_bytes()) }
    }

    fn shards_of(&self, queue: &QueueName) -> Vec<Shard> {
        if self.wide(queue) {
            (0..self.shards()).map(Shard).collect()
        } else {
            vec![self.hashed(queue.as_str().as_bytes())]
        }
    }

    async fn tell(&self, note: Bytes) -> Result<(), StoreError> {
        self.at(Shard(0), "tell")?;
        if !self.mute.load(SeqCst) {
            self.wake(Wake::Told(note));
        }
        Ok(())
    }

    async fn put(&self, shard: Shard, jobs: Vec<NewJob>) -> Result<Vec<Put>, StoreError> {
        assert!(jobs.iter().all(|job| job.id.shard() == shard), "every job of a call belongs to its shard");
        let puts = self.at(shard, "put")?.put(shard, jobs).await?;
        self.answer(puts)
    }

    async fn claim(&self, shard: Shard, claim: Claim) -> Result<Claimed, StoreError> {
        self.at(shard, "claim")?.claim(shard, claim).await
    }

    async fn apply(&self, shard: Shard, mut ops: Vec<Op>) -> Result<Vec<Verdict>, StoreError> {
        assert!(ops.iter().all(|op| op.id.shard() == shard), "every op of a call belongs to its shard");
        tokio::time::sleep(Duration::from_millis(self.latency_ms.load(SeqCst))).await;
        let renewal = ops.iter().all(|op| matches!(op.act, Act::Extend { .. }));
        let store = self.at(shard, if renewal { "renew" } else { "apply" })?;
        let effects: Vec<Vec<Effect>> = ops.iter_mut().map(take_effects).collect();
        let verdicts = store.apply(shard, ops).await?;
        for (effects, _) in effects.into_iter().zip(&verdicts).filter(|(_, v)| matches!(v, Verdict::Done(_))) {
            for Effect::Put(job) in effects {
                let shard = job.id.shard();
                self.shards[usize::from(shard.0)].put(shard, vec![job]).await?;
            }
        }
        self.answer(verdicts)
    }

    async fn change_docs(&self, shard: Shard, mut changes: Vec<DocChange>) -> Result<Vec<Cas>, StoreError> {
        let store = self.at(shard, "doc")?;
        let keys: Vec<String> = changes.iter().map(|change| change.key.clone()).collect();
        let effects: Vec<Vec<Effect>> = changes.iter_mut().map(|change| std::mem::take(&mut change.effects)).collect();
        let done = store.change_docs(shard, changes).await?;
        let written = |(_, cas): &(_, &Cas)| matches!(cas, Cas::Done { .. });
        for ((key, effects), _) in keys.into_iter().zip(effects).zip(&done).filter(written) {
            for Effect::Put(job) in effects {
                let shard = job.id.shard();
                self.shards[usize::from(shard.0)].put(shard, vec![job]).await?;
            }
            self.wake(Wake::Doc(key));
        }
        Ok(done)
    }

    fn wall_ms(&self) -> i64 {
        self.shards[0].wall_ms()
    }

    async fn docs(&self, shard: Shard, prefix: &str) -> Result<Vec<(String, Doc)>, StoreError> {
        self.at(shard, "docs")?.docs(shard, prefix).await
    }

    async fn due(&self, shard: Shard, limit: usize) -> Result<DueList, StoreError> {
        self.at(shard, "due")?.due(shard, limit).await
    }

    async fn get(&self, ids: &[JobId], parts: Parts) -> Result<Vec<Option<Record>>, StoreError> {
        let mut records = Vec::with_capacity(ids.len());
        for id in ids {
            // A made-up id may name a shard that is not there.
            let shard = Shard(id.shard().0 % self.shards());
            records.extend(self.at(shard, "get")?.get(&[*id], parts).await?);
        }
        Ok(records)
    }

    async fn list(&self, query: ListQuery) -> Result<Vec<Meta>, StoreError> {
        let mut metas = Vec::new();
        for shard in self.shards_of(&query.queue) {
            metas.extend(self.at(shard, "list")?.list(query.clone()).await?);
        }
        Ok(metas)
    }

    async fn queues(&self, names: Option<&[QueueName]>) -> Result<Vec<QueueFacts>, StoreError> {
        let mut all: Vec<QueueFacts> = Vec::new();
        for shard in 0..self.shards() {
            for facts in self.at(Shard(shard), "queues")?.queues(names).await? {
                match all.iter_mut().find(|known| known.name == facts.name) {
                    Some(known) => known.counts.iter_mut().zip(facts.counts).for_each(|(sum, count)| *sum += count),
                    None => all.push(facts),
                }
            }
        }
        Ok(all)
    }

    /// Each queue's home is the first shard.
    async fn configs(&self) -> Result<Vec<(QueueName, QueueConfig)>, StoreError> {
        self.at(Shard(0), "configs")?.configs().await
    }

    async fn set_queue(&self, name: QueueName, change: QueueChange) -> Result<QueueFacts, StoreError> {
        let mut last = None;
        for shard in self.shards_of(&name) {
            last = Some(self.at(shard, "set_queue")?.set_queue(name.clone(), change.clone()).await?);
        }
        Ok(last.expect("a queue has a shard"))
    }

    async fn log(&self, id: JobId, lines: Vec<LogLine>, keep: usize) -> Result<(), StoreError> {
        self.at(id.shard(), "log")?.log(id, lines, keep).await
    }

    async fn read_log(&self, id: JobId, after: u64, min_level: u8, limit: usize) -> Result<Vec<LogLine>, StoreError> {
        self.at(id.shard(), "read_log")?.read_log(id, after, min_level, limit).await
    }

    async fn info(&self) -> Result<StoreInfo, StoreError> {
        self.at(Shard(0), "info")?.info().await
    }

    async fn recount(&self) -> Result<Disagreements, StoreError> {
        self.at(Shard(0), "recount")?.recount().await
    }

    fn watch(&self) -> broadcast::Receiver<Wake> {
        self.wakes.subscribe()
    }

    async fn close(&self) {
        for shard in &self.shards {
            shard.close().await;
        }
    }
}

/// Awaits a condition; fails a test that waits in vain.
pub async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let met = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(10), met).await.is_ok(), "in vain: {what}");
}
