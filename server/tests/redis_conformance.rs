//! The Redis store on one Redis: the suite that every store passes, and the model test, calls sent twice included.
use jobwire_redis_rig::Redis as Process;
use proptest::prelude::*;

use redis_support::{Memory, Redis};
use store_support::twice::Twice;

mod redis_support;
mod store_support;

async fn redis() -> Redis {
    Redis::at(&Process::shared().url()).await
}

jobwire_server::store_conformance!(redis);

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_does_what_the_memory_store_does(calls in store_support::calls()) {
        store_support::run(&calls, async || (Memory::new(), redis().await));
    }

    #[test]
    fn a_repeated_call_changes_nothing(calls in store_support::calls()) {
        store_support::run(&calls, async || (Memory::new(), Twice(redis().await)));
    }
}
