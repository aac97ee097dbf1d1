//! The Redis store on a Cluster of three masters: the suite that every store passes, and the model test.
use std::sync::{Arc, LazyLock};

use jobwire_redis_rig::Cluster;
use jobwire_server::{
    model::{ids::JobId, op::Put},
    store::{
        Checked, Mend, SharedStore,
        conformance::{
            Kit,
            kit::{LEASE_MS, name},
        },
        redis::{Options, RedisStore, target::Target},
    },
    upkeep::copy::carry,
};
use proptest::prelude::*;
use uuid::Uuid;

use redis_support::{Memory, Redis};

mod redis_support;
mod store_support;

static CLUSTER: LazyLock<Cluster> = LazyLock::new(|| Cluster::start(3, 0));

async fn cluster() -> Redis {
    Redis::at(&CLUSTER.url()).await
}

jobwire_server::store_conformance!(cluster);
jobwire_server::store_conformance!(turns cluster);

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_does_what_the_memory_store_does(calls in store_support::calls()) {
        store_support::run(&calls, async || (Memory::new(), cluster().await));
    }
}

#[tokio::test]
async fn a_store_copied_into_it_is_in_order() {
    let mut kit = Kit::new(Box::new(Memory::new()));
    for queue in ["mail", "post", "news"] {
        let jobs = kit.jobs(queue, 50);
        kit.put(jobs).await;
        kit.claim(queue, 20).await;
    }
    let mut target: Target = CLUSTER.url().parse().expect("a good URL");
    target.prefix = format!("t{}", Uuid::new_v4().simple());
    let options = Options { shards: Some(24), clock: None };
    let store: SharedStore = Arc::new(RedisStore::open_with(&target, options).await.expect("the store opens"));
    assert_eq!(carry(&kit.store(), &store, LEASE_MS).await.expect("it copies").jobs, 150);
    for queue in ["mail", "post", "news", "a", "b", "c"] {
        let mut job = kit.job(queue);
        let shard = store.place(&name(queue), Uuid::new_v4(), None);
        job.id = JobId::stamp(Uuid::new_v4(), shard);
        let answers = store.put(shard, vec![job]).await.expect("it takes jobs");
        assert!(matches!(answers[..], [Put::Created { .. }]), "{answers:?}");
    }
    let checked = store.check(Mend::default()).await.expect("it can be looked at");
    assert_eq!(checked, Checked { jobs: 156, ..Checked::default() });
}
