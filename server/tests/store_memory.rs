//! The memory store under the suite that every store passes.
use std::sync::Arc;

use async_trait::async_trait;
use jobwire_server::store::{
    SharedStore,
    conformance::{Harness, ManualClock},
    memory::MemoryStore,
};

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
