//! The memory store under the suite that every store passes.
use std::sync::Arc;

use async_trait::async_trait;
use jobwire_server::store::{
    SharedStore,
    conformance::{Harness, ManualClock},
    memory::MemoryStore,
};
use proptest::prelude::*;
use store_support::twice::Twice;

mod store_support;

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

async fn memory() -> Memory {
    let clock = Arc::new(ManualClock::default());
    Memory { store: Arc::new(MemoryStore::new(clock.clone())), clock }
}

jobwire_server::store_conformance!(memory);
jobwire_server::store_conformance!(turns memory);

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_repeated_call_changes_nothing(calls in store_support::calls()) {
        store_support::run(&calls, async || (memory().await, Twice(memory().await)));
    }
}
