//! The Redis store on a Cluster of three masters: the suite that every store passes, and the model test.
use std::sync::LazyLock;

use jobwire_redis_rig::Cluster;
use proptest::prelude::*;

use redis_support::{Memory, Redis};

mod redis_support;
mod store_support;

static CLUSTER: LazyLock<Cluster> = LazyLock::new(|| Cluster::start(3, 0));

async fn cluster() -> Redis {
    Redis::at(&CLUSTER.url()).await
}

jobwire_server::store_conformance!(cluster);

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_does_what_the_memory_store_does(calls in store_support::calls()) {
        store_support::run(&calls, async || (Memory::new(), cluster().await));
    }
}
