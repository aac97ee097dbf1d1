//! Random lives, carried from kind to kind.
use std::sync::Arc;

use jobwire_server::store::{
    conformance::{Kit, ManualClock, lockstep},
    memory::MemoryStore,
};
use proptest::prelude::*;

use super::harness::{Embedded, Redis, copy, same};
use crate::{redis_support::Memory, store_support};

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_life_is_the_same_in_another_store(calls in store_support::calls()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
        runtime.block_on(async {
            let embedded = Embedded::new(&Arc::default());
            let clock: Arc<ManualClock> = embedded.clock.clone();
            // The harness opens its store again on the way: another handle on it is asked for at the end.
            let (mut model, mut subject) = (Kit::new(Box::new(Memory::with(&clock))), Kit::new(Box::new(embedded)));
            lockstep::run(&calls, &mut model, &mut subject).await;
            let first = subject.store();
            for shards in [1, 3] {
                let redis = Redis::new(&clock, shards).await;
                let second = Redis::new(&clock, shards).await;
                let last = Embedded::new(&clock);
                copy(&first, &redis.store).await;
                copy(&redis.store, &second.store).await;
                copy(&second.store, &last.store).await;
                same(&first, &last.store).await;
                let mut kit = Kit::new(Box::new(last));
                kit.reopen().await;
                kit.recount().await;
                same(&first, &kit.store()).await;
            }
            let memory: jobwire_server::store::SharedStore = Arc::new(MemoryStore::new(clock.clone()));
            copy(&first, &memory).await;
        });
    }
}
