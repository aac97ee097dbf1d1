//! The Redis store on a Sentinel set: the suite that every store passes, and the model test.
use std::sync::LazyLock;

use jobwire_redis_rig::Sentinels;
use proptest::prelude::*;

use redis_support::{Memory, Redis};

mod redis_support;
mod store_support;

static SENTINELS: LazyLock<Sentinels> = LazyLock::new(Sentinels::start);

async fn sentinel() -> Redis {
    Redis::at(&SENTINELS.url()).await
}

jobwire_server::store_conformance!(sentinel);
jobwire_server::store_conformance!(turns sentinel);

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_does_what_the_memory_store_does(calls in store_support::calls()) {
        store_support::run(&calls, async || (Memory::new(), sentinel().await));
    }
}
