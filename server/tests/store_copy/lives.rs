//! What must go on after a move.
use std::sync::Arc;

use jobwire_server::{
    model::{
        ids::{JobId, Shard},
        job::{Parts, Start},
        op::{Act, DueKind, Guard, Hold, NewJob, Op, Put, UniqueKey, Verdict},
        queue::{Pause, QueueChange},
        state::State,
    },
    store::{
        SharedStore,
        conformance::{
            Kit, ManualClock,
            kit::{LEASE_MS, QUEUE, body, extend, finish, name},
        },
    },
};
use uuid::Uuid;

use super::harness::{Embedded, Redis, copy};

async fn act(store: &SharedStore, id: JobId, guard: Guard, act: Act) -> Verdict {
    store.apply(id.shard(), vec![Op { id, guard, act }]).await.expect("it applies").remove(0)
}

/// An embedded store with a worker in the middle of things, copied to Redis with so many shards.
async fn moved(shards: u16) -> (Kit, Redis, Lives) {
    let clock: Arc<ManualClock> = Arc::default();
    let mut kit = Kit::new(Box::new(Embedded::new(&clock)));
    let (running, secret) = kit.running(QUEUE).await;
    let (ended, settled) = kit.running(QUEUE).await;
    kit.done(ended, Guard::Token(settled), finish(State::Succeeded)).await;
    let unique = UniqueKey { hash: [3; 16], hold: Hold::UntilFinished };
    let keyed = kit.put_with(QUEUE, |job| job.unique = Some(unique)).await;
    let named = kit.put_with(QUEUE, |job| job.idempotency = Some(([4; 16], 60_000))).await;
    let redis = Redis::new(&clock, shards).await;
    copy(&kit.store(), &redis.store).await;
    (kit, redis, Lives { running, secret, ended, settled, keyed, named })
}

struct Lives {
    running: JobId,
    secret: u64,
    ended: JobId,
    settled: u64,
    keyed: JobId,
    named: JobId,
}

#[tokio::test]
async fn a_worker_keeps_its_lease() {
    let (kit, redis, lives) = moved(16).await;
    let store = &redis.store;
    kit.advance(LEASE_MS - 1);
    let extended = act(store, lives.running, Guard::Token(lives.secret), extend(LEASE_MS)).await;
    assert!(matches!(extended, Verdict::Done(_)), "{extended:?}");
    kit.advance(LEASE_MS - 1);
    let done = act(store, lives.running, Guard::Token(lives.secret), finish(State::Succeeded)).await;
    assert!(matches!(done, Verdict::Done(_)), "{done:?}");
    // An outcome that was sent before the move and is repeated after it.
    let again = act(store, lives.ended, Guard::Token(lives.settled), finish(State::Succeeded)).await;
    assert_eq!(again, Verdict::Already(State::Succeeded));
    assert_eq!(act(store, lives.running, Guard::Token(5), finish(State::Dead)).await, Verdict::Stale);
}

#[tokio::test]
async fn a_worker_that_does_not_come_loses_its_lease() {
    let (kit, redis, lives) = moved(16).await;
    kit.advance(LEASE_MS);
    let due = redis.store.due(lives.running.shard(), 10).await.expect("it says what is due");
    let text = format!("{:?}", due.entries);
    assert!(text.contains(&format!("{:?}", DueKind::Lease)) && text.contains(&lives.running.to_string()), "{text}");
}

#[tokio::test]
async fn keys_are_held_on() {
    let (mut kit, redis, lives) = moved(1).await;
    let mut rival = kit.job(QUEUE);
    rival.unique = Some(UniqueKey { hash: [3; 16], hold: Hold::UntilFinished });
    let mut repeat = kit.job(QUEUE);
    repeat.idempotency = Some(([4; 16], 60_000));
    let answers = redis.store.put(Shard(0), vec![rival, repeat]).await.expect("it answers");
    let by: Vec<JobId> = answers
        .iter()
        .map(|put| match put {
            Put::Held { by, .. } => *by,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(by, [lives.keyed, lives.named]);
}

#[tokio::test]
async fn a_request_is_remembered_in_every_shard() {
    let (mut kit, redis, lives) = moved(16).await;
    for shard in (0..16).map(Shard) {
        let mut repeat = kit.job(QUEUE);
        repeat.id = JobId::stamp(Uuid::new_v4(), shard);
        repeat.idempotency = Some(([4; 16], 60_000));
        let answers = redis.store.put(shard, vec![repeat]).await.expect("it answers");
        assert!(matches!(answers[..], [Put::Held { by, .. }] if by == lives.named), "{answers:?}");
    }
    kit.advance(60_001);
    let mut later = kit.job(QUEUE);
    later.idempotency = Some(([4; 16], 60_000));
    let answers = redis.store.put(Shard(0), vec![later]).await.expect("it answers");
    assert!(matches!(answers[..], [Put::Created { .. }]), "{answers:?}");
}

#[tokio::test]
async fn thousands_of_jobs_of_many_shards_and_a_wide_queue() {
    let clock: Arc<ManualClock> = Arc::default();
    let (first, second) = (Redis::new(&clock, 4).await, Redis::new(&clock, 4).await);
    first.store.widen(name("wide"), 4).await.expect("it spreads");
    let pause = Pause { reason: "night".into(), actor: "me".into(), pause_ms: 1, resume_ms: None };
    first.store.set_queue(name("closed"), QueueChange::Pause(pause)).await.expect("it pauses");
    let queues = ["wide", "closed", "mail"];
    let mut ids = Vec::new();
    for n in 0..9_000usize {
        let (queue, shard) = (queues[n % 3], Shard((n / 3 % 4) as u16));
        ids.push(JobId::stamp(Uuid::new_v4(), shard));
        let job = NewJob {
            id: ids[n],
            kind: name("send"),
            queue: name(queue),
            priority: (n % 9) as i8 - 4,
            start: if n % 5 == 0 { Start::In(1 + n as i64 % 7) } else { Start::Now },
            expire_ms: 0,
            deadline_ms: 0,
            create_ms: n as i64,
            content: n as u64,
            unique: None,
            idempotency: None,
            fair: n as u64 / 12 % 4,
            overshoots: false,
            blocked: false,
            owner: None,
            body: body("task"),
        };
        if n % 3 > 0 && shard != first.store.shards_of(&name(queue))[0] {
            // Only where a server would put it.
            continue;
        }
        first.store.put(shard, vec![job]).await.expect("it takes jobs");
    }
    let copied = copy(&first.store, &second.store).await;
    assert_eq!((copied.jobs, copied.queues), (4_500, 3));
    assert_eq!(second.store.width(&name("wide")), 4);
    let proposal = Uuid::now_v7();
    let place = |redis: &Redis| redis.store.place(&name("wide"), proposal, None);
    assert_eq!(place(&first), place(&second));
    let got = second.store.get(&ids[..1], Parts::META).await.expect("it reads");
    assert!(got[0].is_some());
    // And into one shard less there is no way.
    let small = Redis::new(&clock, 2).await;
    let refused = jobwire_server::upkeep::copy::carry(&first.store, &small.store, LEASE_MS).await;
    assert!(refused.is_err_and(|error| error.to_string().contains("shard")));
}
