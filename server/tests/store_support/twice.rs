//! A store whose callers never trust the first answer to arrive: whatever may be repeated is sent twice, and the answer
//! that would have been lost is the one they get. What is left behind must be as if it had been sent once.
// Each test binary uses its part.
#![allow(dead_code)]
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use jobwire_server::{
    model::{
        ids::{JobId, QueueName, Shard},
        job::{LogLine, Meta, Parts, Record},
        op::{
            Act, Claim, Claimed, DocChange, DueKind, DueList, Guard, KeyHash, ListQuery, NewJob, Op, Put, Verdict, Wake,
        },
        queue::{QueueChange, QueueFacts},
    },
    store::{
        Cas, Disagreements, Doc, SharedStore, Store, StoreError, StoreInfo,
        conformance::{Harness, ManualClock},
    },
};
use tokio::sync::broadcast;
use uuid::Uuid;

/// A harness whose store is asked twice.
pub struct Twice<H>(pub H);

#[async_trait]
impl<H: Harness> Harness for Twice<H> {
    fn store(&self) -> SharedStore {
        Arc::new(Asked { store: self.0.store() })
    }

    fn clock(&self) -> &ManualClock {
        self.0.clock()
    }

    async fn reopen(&mut self) -> Option<i64> {
        self.0.reopen().await
    }
}

struct Asked {
    store: SharedStore,
}

/// Whether a repeat finds its guard gone with the first. Other pairs, acts under `In` above all, apply again by what they
/// are: extending, patching, giving back whatever is there now.
fn repeatable(op: &Op) -> bool {
    match op.guard {
        Guard::In(_) => false,
        Guard::Version(_) => true,
        Guard::Token(_) => {
            matches!(
                op.act,
                Act::Finish { .. } | Act::Later { .. } | Act::Ready { .. } | Act::Requeue { .. } | Act::Delete
            )
        }
        Guard::Due(DueKind::Start | DueKind::Lease) => {
            matches!(op.act, Act::Finish { .. } | Act::Ready { .. } | Act::Delete)
        }
        Guard::Due(_) => matches!(op.act, Act::Finish { .. } | Act::Delete),
    }
}

#[async_trait]
impl Store for Asked {
    fn shards(&self) -> u16 {
        self.store.shards()
    }

    fn is_shared(&self) -> bool {
        self.store.is_shared()
    }

    fn place(&self, queue: &QueueName, proposal: Uuid, key: Option<KeyHash>) -> Shard {
        self.store.place(queue, proposal, key)
    }

    fn shards_of(&self, queue: &QueueName) -> Vec<Shard> {
        self.store.shards_of(queue)
    }

    async fn tell(&self, note: Bytes) -> Result<(), StoreError> {
        self.store.tell(note).await
    }

    async fn put(&self, shard: Shard, jobs: Vec<NewJob>) -> Result<Vec<Put>, StoreError> {
        let lost = self.store.put(shard, jobs.clone()).await?;
        let again = self.store.put(shard, jobs).await?;
        // One whose key is another's was none the first time, and is none now.
        let none = |put: &Put| matches!(put, Put::Exists { .. } | Put::Held { .. });
        assert!(again.iter().all(none), "the repeat made a job: {again:?}");
        Ok(lost)
    }

    /// Once: to the store a repeat of its caller is another claim; its own repeats are below it.
    async fn claim(&self, shard: Shard, claim: Claim) -> Result<Claimed, StoreError> {
        self.store.claim(shard, claim).await
    }

    async fn apply(&self, shard: Shard, ops: Vec<Op>) -> Result<Vec<Verdict>, StoreError> {
        let again = ops.iter().all(repeatable).then(|| ops.clone());
        let lost = self.store.apply(shard, ops).await?;
        if let Some(again) = again {
            self.store.apply(shard, again).await?;
        }
        Ok(lost)
    }

    async fn change_docs(&self, shard: Shard, changes: Vec<DocChange>) -> Result<Vec<Cas>, StoreError> {
        let lost = self.store.change_docs(shard, changes.clone()).await?;
        // A deletion that is repeated finds version 0, which is what it expects only if it was no deletion.
        let again = changes.into_iter().filter(|change| change.expect > 0 || change.value.is_some()).collect();
        self.store.change_docs(shard, again).await?;
        Ok(lost)
    }

    fn wall_ms(&self) -> i64 {
        self.store.wall_ms()
    }

    async fn docs(&self, shard: Shard, prefix: &str) -> Result<Vec<(String, Doc)>, StoreError> {
        self.store.docs(shard, prefix).await
    }

    async fn due(&self, shard: Shard, limit: usize) -> Result<DueList, StoreError> {
        self.store.due(shard, limit).await?;
        self.store.due(shard, limit).await
    }

    async fn get(&self, ids: &[JobId], parts: Parts) -> Result<Vec<Option<Record>>, StoreError> {
        self.store.get(ids, parts).await
    }

    async fn list(&self, query: ListQuery) -> Result<Vec<Meta>, StoreError> {
        self.store.list(query).await
    }

    async fn queues(&self, names: Option<&[QueueName]>) -> Result<Vec<QueueFacts>, StoreError> {
        self.store.queues(names).await
    }

    async fn set_queue(&self, name: QueueName, change: QueueChange) -> Result<QueueFacts, StoreError> {
        self.store.set_queue(name.clone(), change.clone()).await?;
        self.store.set_queue(name, change).await
    }

    async fn log(&self, id: JobId, lines: Vec<LogLine>, keep: usize) -> Result<(), StoreError> {
        self.store.log(id, lines, keep).await
    }

    async fn read_log(&self, id: JobId, after: u64, min_level: u8, limit: usize) -> Result<Vec<LogLine>, StoreError> {
        self.store.read_log(id, after, min_level, limit).await
    }

    async fn info(&self) -> Result<StoreInfo, StoreError> {
        self.store.info().await
    }

    async fn recount(&self) -> Result<Disagreements, StoreError> {
        self.store.recount().await
    }

    fn watch(&self) -> broadcast::Receiver<Wake> {
        self.store.watch()
    }

    async fn close(&self) {
        self.store.close().await;
    }
}
