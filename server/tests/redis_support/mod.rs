//! The Redis store as the suites want it: a fresh prefix for each test, a clock that is moved by hand.
// Each test binary uses its part.
#![allow(dead_code)]
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use jobwire_server::{
    model::op::Wake,
    store::{
        SharedStore, Store as _,
        conformance::{Harness, ManualClock},
        memory::MemoryStore,
        redis::{Options, RedisStore, target::Target},
    },
};
use tokio::{sync::broadcast, time::timeout};
use uuid::Uuid;

/// Longest wait for a message that was sent.
const LONG: Duration = Duration::from_secs(20);

/// A store under a prefix of its own.
pub struct Redis {
    clock: Arc<ManualClock>,
    target: Target,
    store: Arc<RedisStore>,
}

impl Redis {
    /// In the Redis of this URL.
    pub async fn at(url: &str) -> Self {
        let mut target: Target = url.parse().expect("a good URL");
        target.prefix = format!("t{}", Uuid::new_v4().simple());
        let clock = Arc::new(ManualClock::default());
        let store = open(&target, &clock).await;
        Self { clock, target, store }
    }

    /// The clock that its store was given.
    pub fn shared_clock(&self) -> Arc<ManualClock> {
        self.clock.clone()
    }

    /// What its keys begin with.
    pub fn prefix(&self) -> &str {
        &self.target.prefix
    }
}

/// One shard: the suite speaks to one at a time. Returns once the store hears itself.
async fn open(target: &Target, clock: &Arc<ManualClock>) -> Arc<RedisStore> {
    let options = Options { shards: Some(1), clock: Some(clock.clone()) };
    let store = Arc::new(RedisStore::open_with(target, options).await.expect("the store opens"));
    hear(&store).await;
    store
}

/// Says something until it is heard: from then on every wake is.
async fn hear(store: &RedisStore) {
    static MARKS: AtomicU64 = AtomicU64::new(0);
    const AGAIN: Duration = Duration::from_millis(200);
    let mut wakes = store.watch();
    let mark = Bytes::from(format!("mark {}", MARKS.fetch_add(1, Ordering::Relaxed)));
    let heard = async {
        loop {
            store.tell(mark.clone()).await.expect("the store can be told things");
            if timeout(AGAIN, told(&mut wakes, &mark)).await.is_ok() {
                return;
            }
        }
    };
    timeout(LONG, heard).await.expect("what is told is heard");
}

async fn told(wakes: &mut broadcast::Receiver<Wake>, mark: &Bytes) {
    while wakes.recv().await.expect("the store is open") != Wake::Told(mark.clone()) {}
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
        // A topic may have closed it for good.
        if self.store.info().await.is_err() {
            return None;
        }
        self.store.close().await;
        self.store = open(&self.target, &self.clock).await;
        None
    }
}

/// The reference.
pub struct Memory {
    clock: Arc<ManualClock>,
    store: SharedStore,
}

impl Memory {
    pub fn new() -> Self {
        Self::with(&Arc::default())
    }

    pub fn with(clock: &Arc<ManualClock>) -> Self {
        Self { store: Arc::new(MemoryStore::new(clock.clone())), clock: clock.clone() }
    }
}

#[async_trait]
impl Harness for Memory {
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
