//! Beside a store at work: nothing is found that is only on its way.
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use jobwire_redis_rig::Redis as Process;
use jobwire_server::{
    model::{
        ids::{JobId, Shard},
        job::Start,
        op::{Claim, Guard, NewJob, Op},
        state::State,
    },
    store::{
        Mend, Store as _,
        conformance::kit::{body, finish, give_back, name, retry_in},
        redis::{Options, RedisStore, target::Target},
    },
};
use uuid::Uuid;

/// Puts, claims, gives back, retries, finishes, deletes, until it is told to stop. The number of claims.
async fn work(store: Arc<RedisStore>, stop: Arc<AtomicBool>, seed: u64) -> usize {
    let mut claims = 0;
    let mut n = seed;
    while !stop.load(Relaxed) {
        let jobs = (0..20).map(|_| {
            n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            NewJob {
                id: JobId::stamp(Uuid::new_v4(), Shard(0)),
                kind: name("send"),
                queue: name(["mail", "post"][(n >> 40) as usize % 2]),
                priority: ((n >> 33) % 9) as i8 - 4,
                start: if n >> 50 & 3 == 0 { Start::In((n >> 20) as i64 % 30) } else { Start::Now },
                expire_ms: 0,
                deadline_ms: 0,
                create_ms: 1,
                content: 1,
                unique: None,
                idempotency: None,
                fair: 0,
                overshoots: false,
                blocked: false,
                owner: None,
                body: body("task"),
            }
        });
        store.put(Shard(0), jobs.collect()).await.expect("it takes jobs");
        for queue in ["mail", "post"] {
            let claim = Claim {
                queue: name(queue),
                secrets: (0..12).map(|_| rand()).collect(),
                from_bottom: 1,
                bytes: usize::MAX,
                lease_ms: 60_000,
                started: true,
            };
            let jobs = store.claim(Shard(0), claim).await.expect("it hands out").jobs;
            claims += jobs.len();
            let ops = jobs.into_iter().enumerate().map(|(i, job)| {
                let act = match i % 4 {
                    0 => give_back(),
                    1 => retry_in(5, job.meta.delivery),
                    _ => finish(State::Succeeded),
                };
                Op { id: job.meta.id, guard: Guard::Token(job.secret), act }
            });
            store.apply(Shard(0), ops.collect()).await.expect("it applies");
        }
    }
    claims
}

fn rand() -> u64 {
    Uuid::new_v4().as_u128() as u64 | 1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_found_beside_servers_at_work() {
    let mut target: Target = Process::shared().url().parse().expect("a good URL");
    target.prefix = format!("t{}", Uuid::new_v4().simple());
    let options = Options { shards: Some(1), clock: None };
    let store = Arc::new(RedisStore::open_with(&target, options).await.expect("the store opens"));
    let stop = Arc::new(AtomicBool::new(false));
    let workers: Vec<_> = (1..4).map(|n| tokio::spawn(work(store.clone(), stop.clone(), n))).collect();
    let looker = RedisStore::open(&target).await.expect("the store opens");
    let until = tokio::time::Instant::now() + Duration::from_secs(4);
    let (mut looks, mut jobs) = (0, 0);
    while looks < 5 || tokio::time::Instant::now() < until {
        let checked = looker.check(Mend::default()).await.expect("it can be looked at");
        assert_eq!(checked.found, [], "look {looks} at {} jobs", checked.jobs);
        looks += 1;
        jobs = checked.jobs;
    }
    stop.store(true, Relaxed);
    let mut claims = 0;
    for worker in workers {
        claims += worker.await.expect("it worked");
    }
    assert!(claims > 100 && jobs > 100, "{claims} claims, {jobs} jobs: too little to prove anything");
    let checked = looker.check(Mend::default()).await.expect("it can be looked at");
    assert_eq!((checked.found.len(), checked.skipped.len()), (0, 0), "{checked:#?}");
}
