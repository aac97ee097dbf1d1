//! Stores to copy from and to, and whether they are the same.
use std::sync::Arc;

use async_trait::async_trait;
use jobwire_redis_rig::Redis as Process;
use jobwire_server::{
    model::{
        ids::{JobId, Shard},
        job::{Meta, Parts},
        op::ListQuery,
        queue::QueueFacts,
        state::State,
    },
    store::{
        Checked, Durability, Mend, SharedStore,
        conformance::{Harness, ManualClock, kit::LEASE_MS},
        embedded::{self, EmbeddedStore},
        redis::{Options, RedisStore, target::Target},
    },
    upkeep::copy::{Copied, carry},
};
use tempfile::TempDir;
use uuid::Uuid;

/// An embedded store in a directory of its own.
pub struct Embedded {
    pub clock: Arc<ManualClock>,
    pub store: SharedStore,
    pub dir: TempDir,
}

impl Embedded {
    pub fn new(clock: &Arc<ManualClock>) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let store = open(&dir, clock);
        Self { clock: clock.clone(), store, dir }
    }
}

fn open(dir: &TempDir, clock: &Arc<ManualClock>) -> SharedStore {
    let options = embedded::Options {
        durability: Durability::EmbeddedFast,
        ballast_bytes: 0,
        min_free_bytes: 0,
        ..embedded::Options::default()
    };
    EmbeddedStore::open(dir.path(), options, clock.clone()).expect("the store opens")
}

#[async_trait]
impl Harness for Embedded {
    fn store(&self) -> SharedStore {
        self.store.clone()
    }

    fn clock(&self) -> &ManualClock {
        &self.clock
    }

    async fn reopen(&mut self) -> Option<i64> {
        self.store.close().await;
        self.store = open(&self.dir, &self.clock);
        Some(embedded::Options::default().lease_ms)
    }
}

/// A store in Redis under a prefix of its own.
pub struct Redis {
    clock: Arc<ManualClock>,
    pub store: SharedStore,
}

impl Redis {
    pub async fn new(clock: &Arc<ManualClock>, shards: u16) -> Self {
        let mut target: Target = Process::shared().url().parse().expect("a good URL");
        target.prefix = format!("t{}", Uuid::new_v4().simple());
        let options = Options { shards: Some(shards), clock: Some(clock.clone()) };
        let store = RedisStore::open_with(&target, options).await.expect("the store opens");
        Self { clock: clock.clone(), store: Arc::new(store) }
    }
}

#[async_trait]
impl Harness for Redis {
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

pub async fn copy(from: &SharedStore, to: &SharedStore) -> Copied {
    let copied = carry(from, to, LEASE_MS).await.expect("it copies");
    same(from, to).await;
    let checked = to.check(Mend::default()).await.expect("it can be looked at");
    assert_eq!(checked, Checked { jobs: copied.jobs, ..Checked::default() });
    copied
}

/// Who has waited longest is looked for in a store's own way.
async fn queues(store: &SharedStore) -> Vec<QueueFacts> {
    let facts = store.queues(None).await.expect("the store knows queues").into_iter();
    facts.map(|facts| QueueFacts { oldest_ready_ms: None, ..facts }).collect()
}

/// A list in its order; jobs that run in the order of their starts, those that were claimed together in any. READY jobs
/// that have expired, as good as gone, stand last in a store that was filled.
async fn list(store: &SharedStore, queue: &QueueFacts, state: State) -> Vec<Meta> {
    let query = ListQuery { queue: queue.name.clone(), state, after: None, limit: usize::MAX };
    let mut metas = store.list(query).await.expect("it lists");
    if state == State::Running {
        metas.sort_by_key(|meta| (meta.start_ms, meta.id));
    }
    metas.into_iter().map(|meta| Meta { order: 0, ..meta }).collect()
}

/// All that can be read is the same in both.
pub async fn same(a: &SharedStore, b: &SharedStore) {
    let facts = queues(a).await;
    assert_eq!(facts, queues(b).await);
    for queue in &facts {
        for state in State::ALL {
            let (mut there, mut here) = (list(a, queue, state).await, list(b, queue, state).await);
            if state == State::Ready {
                // May be left out, and are then compared by their number alone.
                there.retain(|meta| meta.expire_ms == 0 && meta.deadline_ms == 0);
                here.retain(|meta| meta.expire_ms == 0 && meta.deadline_ms == 0);
            }
            let differ = there.iter().zip(&here).position(|(there, here)| there != here);
            let at = format!("{} of {}", state.name(), queue.name);
            if let Some(n) = differ {
                assert_eq!(there[n], here[n], "{at}, place {n}");
            }
            assert_eq!(there.len(), here.len(), "{at}");
            let ids: Vec<JobId> = there.iter().map(|meta| meta.id).collect();
            for ids in ids.chunks(200) {
                let (there, here) = (a.get(ids, Parts::ALL).await, b.get(ids, Parts::ALL).await);
                for (there, here) in there.expect("it reads").into_iter().zip(here.expect("it reads")) {
                    let parts = |record: Option<jobwire_server::model::job::Record>| {
                        let mut record = record.expect("the job is there");
                        record.meta.order = 0;
                        format!("{record:?}")
                    };
                    assert_eq!(parts(there), parts(here));
                }
                for id in ids {
                    let log = a.read_log(*id, 0, 0, usize::MAX).await.expect("it reads");
                    assert_eq!(log, b.read_log(*id, 0, 0, usize::MAX).await.expect("it reads"), "log of {id}");
                }
            }
        }
    }
    let docs = a.docs(Shard(0), "").await.expect("it reads");
    assert_eq!(docs, b.docs(Shard(0), "").await.expect("it reads"));
}
