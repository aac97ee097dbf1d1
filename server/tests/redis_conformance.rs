//! The Redis store on one Redis: the suite that every store passes, and the model test, calls sent twice included.
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use jobwire_redis_rig::{Lossy, Redis as Process};
use jobwire_server::{
    model::{
        ids::{JobId, Shard},
        job::Parts,
        op::{Guard, Op, Put, Verdict},
        state::State,
    },
    store::{
        StoreError,
        conformance::{Kit, kit},
    },
};
use proptest::prelude::*;

use redis_support::{Memory, Redis};
use store_support::twice::Twice;

mod redis_support;
mod store_support;

async fn redis() -> Redis {
    Redis::at(&Process::shared().url()).await
}

jobwire_server::store_conformance!(redis);
jobwire_server::store_conformance!(turns redis);

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_does_what_the_memory_store_does(calls in store_support::calls()) {
        store_support::run(&calls, async || (Memory::new(), redis().await));
    }

    #[test]
    fn it_lets_keys_take_turns_as_the_memory_store_does(calls in store_support::keyed_calls()) {
        store_support::run(&calls, async || (Memory::new(), redis().await));
    }

    #[test]
    fn a_repeated_call_changes_nothing(calls in store_support::calls()) {
        store_support::run(&calls, async || (Memory::new(), Twice(redis().await)));
    }
}

/// Repeats a call until it is answered, as the engine does.
async fn insist<T>(mut call: impl AsyncFnMut() -> Result<T, StoreError>) -> T {
    const PAUSE: Duration = Duration::from_millis(5);
    const PATIENCE: Duration = Duration::from_secs(60);
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        match call().await {
            Ok(answer) => return answer,
            Err(StoreError::Unavailable(_)) => tokio::time::sleep(PAUSE).await,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the store never answered");
}

/// Some answers never arrive, but enough in a row to connect again. Still every job is stored once, leased once and done once.
#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_lost_lose_and_double_nothing() {
    const JOBS: usize = 200;
    let link = Lossy::to(Process::shared().address());
    let mut kit = Kit::new(Box::new(Redis::at(&link.url()).await));
    let store = kit.store();
    link.lose_one_in(17);
    for _ in 0..JOBS / 10 {
        let jobs = kit.jobs("mail", 10);
        let answers = insist(async || store.put(Shard(0), jobs.clone()).await).await;
        let stored = |put: &Put| matches!(put, Put::Created { .. } | Put::Exists { same: true, .. });
        assert!(answers.len() == 10 && answers.iter().all(stored), "{answers:?}");
    }
    let mut leased: BTreeMap<JobId, u64> = BTreeMap::new();
    while leased.len() < JOBS {
        let claim = kit.claim_of("mail", 7);
        let claimed = insist(async || store.claim(Shard(0), claim.clone()).await).await;
        assert!(!claimed.jobs.is_empty(), "{} of {JOBS} jobs were leased, and the rest is gone", leased.len());
        for job in claimed.jobs {
            assert_eq!(job.meta.delivery, 1, "leased once");
            assert_eq!(leased.insert(job.meta.id, job.secret), None, "handed out once");
        }
    }
    for (&id, &secret) in &leased {
        let op = Op { id, guard: Guard::Token(secret), act: kit::finish(State::Succeeded) };
        let verdicts = insist(async || store.apply(Shard(0), vec![op.clone()]).await).await;
        assert!(matches!(verdicts[..], [Verdict::Done(_) | Verdict::Already(State::Succeeded)]), "{verdicts:?}");
    }
    assert!(link.lost() > 5, "only {} answers were lost", link.lost());
    link.lose_one_in(0);
    let ids: Vec<JobId> = leased.into_keys().collect();
    let records = insist(async || store.get(&ids, Parts::META).await).await;
    for record in records {
        let meta = record.expect("it is there").meta;
        assert_eq!((meta.state, meta.delivery), (State::Succeeded, 1));
    }
    kit.check().await;
}
