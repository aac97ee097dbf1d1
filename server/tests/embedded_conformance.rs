//! The embedded store under the suite that every store passes; it is closed and opened again on the way.
use std::sync::Arc;

use async_trait::async_trait;
use jobwire_server::store::{
    Durability, SharedStore, Store as _,
    conformance::{Harness, ManualClock},
    embedded::{EmbeddedStore, Options},
    memory::MemoryStore,
};
use proptest::prelude::*;
use tempfile::TempDir;

mod store_support;

struct Embedded {
    clock: Arc<ManualClock>,
    options: Options,
    dir: TempDir,
    store: Arc<EmbeddedStore>,
}

impl Embedded {
    fn new(options: Options) -> Self {
        let clock = Arc::new(ManualClock::default());
        let dir = tempfile::tempdir().expect("a directory");
        let store = EmbeddedStore::open(dir.path(), options.clone(), clock.clone()).expect("the store opens");
        Self { clock, options, dir, store }
    }
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
        self.store = EmbeddedStore::open(self.dir.path(), self.options.clone(), self.clock.clone())
            .expect("the store opens again");
        Some(self.options.lease_ms)
    }
}

fn options() -> Options {
    Options { ballast_bytes: 0, min_free_bytes: 0, ..Options::default() }
}

async fn fsync() -> Embedded {
    Embedded::new(options())
}

/// Nothing stays in memory once it is committed: all side records come from the disk.
async fn without_cache() -> Embedded {
    Embedded::new(Options { cache_bytes: 0, durability: Durability::EmbeddedFast, ..options() })
}

mod with_cache {
    use super::fsync;
    jobwire_server::store_conformance!(fsync);
    jobwire_server::store_conformance!(turns fsync);
}

mod fast_and_without_cache {
    use super::without_cache;
    jobwire_server::store_conformance!(without_cache);
    jobwire_server::store_conformance!(turns without_cache);
}

/// The reference.
struct Memory {
    clock: Arc<ManualClock>,
    store: SharedStore,
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_does_what_the_memory_store_does(calls in store_support::calls()) {
        let clock = Arc::new(ManualClock::default());
        let model = Memory { store: Arc::new(MemoryStore::new(clock.clone())), clock };
        store_support::run(&calls, async || (model, Embedded::new(Options { cache_bytes: 2_000, ..options() })));
    }
}
