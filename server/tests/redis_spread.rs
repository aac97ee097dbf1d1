//! Queues over several shards, jobs that change queues, jobs enqueued with an outcome: what a store of one shard never sees.
use std::{collections::BTreeSet, sync::Arc};

use jobwire_redis_rig::Redis as Process;
use jobwire_server::{
    model::{
        ids::{JobId, QueueName, Shard},
        job::{Outcome, Parts, Start},
        op::{Act, Claim, Effect, Guard, ListQuery, NewJob, Op, Put, Throttle, Verdict},
        queue::{Bounds, KeyBounds, Pause, QueueChange, QueueConfig},
        state::{State, StateSet},
        time::Clock,
    },
    store::{
        Store,
        conformance::{ManualClock, kit},
        redis::{Options, RedisStore, target::Target},
    },
};
use uuid::Uuid;

const SHARDS: u16 = 8;

/// Two servers' stores on the same data.
struct Pair {
    clock: Arc<ManualClock>,
    one: RedisStore,
    two: RedisStore,
}

async fn pair() -> Pair {
    let clock = Arc::new(ManualClock::default());
    let mut target: Target = Process::shared().url().parse().expect("a target");
    target.prefix = format!("spread-{}", Uuid::new_v4().simple());
    let options = || Options { shards: Some(SHARDS), clock: Some(clock.clone()) };
    let one = RedisStore::open_with(&target, options()).await.expect("the store opens");
    let two = RedisStore::open_with(&target, options()).await.expect("the store opens");
    Pair { clock, one, two }
}

fn made_at(ms: i64, n: u16) -> Uuid {
    let random = [(n >> 8) as u8, n as u8, 3, 4, 5, 6, (n * 31) as u8, n as u8, 9, 1];
    uuid::Builder::from_unix_timestamp_millis(ms as u64, &random).into_uuid()
}

fn job(store: &RedisStore, queue: &QueueName, proposal: Uuid) -> NewJob {
    NewJob {
        id: JobId::stamp(proposal, store.place(queue, proposal, None)),
        kind: kit::name("send"),
        queue: queue.clone(),
        priority: 0,
        start: Start::Now,
        expire_ms: 0,
        deadline_ms: 0,
        create_ms: 1,
        content: 7,
        unique: None,
        idempotency: None,
        fair: 0,
        overshoots: false,
        blocked: false,
        owner: None,
        body: kit::body("task"),
    }
}

async fn put(store: &RedisStore, job: NewJob) -> JobId {
    let id = job.id;
    let answer = store.put(id.shard(), vec![job]).await.expect("the store takes jobs");
    assert!(matches!(answer[..], [Put::Created { .. }]), "{answer:?}");
    id
}

/// Everything that can be claimed, shard by shard, and the secrets.
async fn claim_all(store: &RedisStore, queue: &QueueName) -> Vec<(JobId, u64)> {
    let mut jobs = Vec::new();
    for shard in store.shards_of(queue) {
        let claim = Claim {
            queue: queue.clone(),
            secrets: (0..100).map(|n| 1_000 * u64::from(shard.0) + n + 1).collect(),
            from_bottom: 0,
            bytes: usize::MAX,
            lease_ms: 10_000,
            started: true,
        };
        let claimed = store.claim(shard, claim).await.expect("the store hands out jobs");
        jobs.extend(claimed.jobs.into_iter().map(|job| (job.meta.id, job.secret)));
    }
    jobs
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..1_000 {
        if holds().await {
            return;
        }
        // A condition of another server: looked at until it holds.
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("{what} did not come about within 10 s");
}

async fn agrees(store: &RedisStore) {
    let wrong = store.recount().await.expect("the store counts");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn a_widened_queue_is_spread_and_stays_one_queue() {
    let Pair { clock, one, two } = pair().await;
    let mail = kit::name("mail");
    let before = clock.now().wall_ms;
    let old: BTreeSet<Shard> =
        [put(&one, job(&one, &mail, made_at(before, 1))).await].into_iter().map(JobId::shard).collect();
    one.widen(mail.clone(), 4).await.expect("the queue is widened");
    assert_eq!(one.width(&mail), 4);
    until("the other server knows", async || two.width(&mail) == 4).await;
    assert_eq!(two.shards_of(&mail).len(), 4);
    // Before the new list holds, jobs go where they went.
    assert!(old.contains(&two.place(&mail, made_at(before + 59_999, 2), None)));
    clock.advance(60_000);
    let mut ids = BTreeSet::new();
    for n in 0..40 {
        ids.insert(put(&two, job(&two, &mail, made_at(clock.now().wall_ms, n))).await);
    }
    let shards: BTreeSet<Shard> = ids.iter().map(|id| id.shard()).collect();
    assert_eq!(shards.len(), 4, "spread over all: {shards:?}");
    let facts = one.queues(Some(std::slice::from_ref(&mail))).await.expect("it is known").remove(0);
    assert_eq!(facts.count(State::Ready), 41, "counted over all shards");
    let mut listed = Vec::new();
    let mut after = None;
    loop {
        let query = ListQuery { queue: mail.clone(), state: State::Ready, after, limit: 7 };
        let page = one.list(query).await.expect("it lists");
        after = page.last().map(|meta| meta.place());
        listed.extend(page.iter().map(|meta| meta.id));
        if page.len() < 7 {
            break;
        }
    }
    assert_eq!(listed.len(), 41);
    assert!(ids.is_subset(&listed.into_iter().collect()), "pages go through all shards");

    // A pause holds in each.
    let pause = Pause { reason: String::new(), actor: String::new(), pause_ms: 1, resume_ms: None };
    two.set_queue(mail.clone(), QueueChange::Pause(pause)).await.expect("it is paused");
    assert!(claim_all(&one, &mail).await.is_empty());
    one.set_queue(mail.clone(), QueueChange::Resume).await.expect("it is opened");
    assert_eq!(claim_all(&two, &mail).await.len(), 41);
    agrees(&one).await;
}

#[tokio::test]
async fn shards_share_the_limits_of_their_queue() {
    let Pair { clock, one, two } = pair().await;
    let mail = kit::name("mail");
    let bounds = Bounds { max_running: 6, max_depth: 40, ..Bounds::default() };
    let config = QueueConfig { bounds, note: "ours".to_owned(), ..QueueConfig::default() };
    one.set_queue(mail.clone(), QueueChange::Configure(0, Some(Box::new(config.clone())))).await.expect("it is set");
    // Shards that come later get their part.
    two.widen(mail.clone(), 4).await.expect("the queue is widened");
    until("the other server knows", async || one.width(&mail) == 4).await;
    clock.advance(60_000);
    for n in 0..40 {
        let job = job(&one, &mail, made_at(clock.now().wall_ms, n));
        // Full shards refuse, which is no matter here.
        one.put(job.id.shard(), vec![job]).await.expect("the store answers");
    }
    assert_eq!(claim_all(&two, &mail).await.len(), 6, "no more together than may run");
    assert_eq!(one.configs().await.expect("they can be read"), [(mail.clone(), config)]);
    let facts = two.queues(Some(std::slice::from_ref(&mail))).await.expect("it is known").remove(0);
    assert_eq!(facts.version(), 1);
    let more = QueueConfig { bounds: Bounds { max_running: 8, ..bounds }, ..QueueConfig::default() };
    two.set_queue(mail.clone(), QueueChange::Configure(1, Some(Box::new(more)))).await.expect("it is set");
    assert_eq!(claim_all(&one, &mail).await.len(), 2);
    agrees(&one).await;
}

#[tokio::test]
async fn a_job_that_changes_its_queue_stays_in_its_shard_and_is_claimed() {
    let Pair { one, two, clock } = pair().await;
    let mail = kit::name("mail");
    // A queue that lives elsewhere.
    let other = (0..).map(|n| kit::name(&format!("other-{n}")));
    let other = other.into_iter().find(|name| one.shards_of(name) != one.shards_of(&mail)).expect("there are 8 shards");
    let id = put(&one, job(&one, &mail, made_at(clock.now().wall_ms, 1))).await;
    let act = Act::Patch { queue: Some(other.clone()), priority: None, start: None, body: None, content: None };
    let op = Op { id, guard: Guard::In(StateSet::ANY), act };
    assert!(matches!(one.apply(id.shard(), vec![op]).await.expect("it is moved")[..], [Verdict::Done(_)]));
    until("the other server knows", async || two.shards_of(&other).contains(&id.shard())).await;
    assert!(claim_all(&two, &mail).await.is_empty());
    assert_eq!(claim_all(&two, &other).await.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [id]);
    agrees(&two).await;
}

#[tokio::test]
async fn jobs_of_an_outcome_go_to_their_own_shards_once() {
    let Pair { one, two, clock } = pair().await;
    let mail = kit::name("mail");
    let id = put(&one, job(&one, &mail, made_at(clock.now().wall_ms, 1))).await;
    let secret = claim_all(&one, &mail).await[0].1;
    let children: Vec<NewJob> =
        (0..12).map(|n| job(&one, &kit::name(&format!("child-{n}")), made_at(clock.now().wall_ms, n + 2))).collect();
    let ids: Vec<JobId> = children.iter().map(|child| child.id).collect();
    assert!(ids.iter().any(|child| child.shard() != id.shard()), "some live elsewhere");
    let act = || Act::Finish {
        to: State::Succeeded,
        outcome: Outcome::default(),
        retain_ms: 3_600_000,
        effects: children.iter().cloned().map(Effect::Put).collect(),
    };
    let op = || vec![Op { id, guard: Guard::Token(secret), act: act() }];
    assert!(matches!(one.apply(id.shard(), op()).await.expect("it ends")[..], [Verdict::Done(_)]));
    // The answer was lost, and another server hears the outcome again.
    assert!(matches!(two.apply(id.shard(), op()).await.expect("it has ended")[..], [Verdict::Already(_)]));
    let found = two.get(&ids, Parts::META).await.expect("they can be read");
    assert!(found.iter().all(Option::is_some), "all are there: {found:?}");
    for n in 0..12 {
        assert_eq!(claim_all(&two, &kit::name(&format!("child-{n}"))).await.len(), 1, "and once");
    }
    agrees(&one).await;
}

#[tokio::test]
async fn a_throttled_queue_is_left_alone_in_every_shard() {
    let Pair { clock, one, two } = pair().await;
    let mail = kit::name("mail");
    one.widen(mail.clone(), 4).await.expect("the queue is widened");
    until("the other server knows", async || two.width(&mail) == 4).await;
    clock.advance(60_000);
    let jobs = async |from: u16| {
        for n in from..from + 40 {
            put(&one, job(&one, &mail, made_at(clock.now().wall_ms, n))).await;
        }
    };
    jobs(0).await;
    let (id, secret) = claim_all(&one, &mail).await[0];
    let act = Act::Later {
        to: State::Scheduled,
        delay_ms: 5_000,
        counts: false,
        outcome: None,
        checkpoint: None,
        throttle: Some(Throttle::Queue),
        effects: Vec::new(),
    };
    // A server that has never met the queue hears the outcome.
    let op = vec![Op { id, guard: Guard::Token(secret), act }];
    assert!(matches!(two.apply(id.shard(), op).await.expect("it is put off")[..], [Verdict::Done(_)]));
    jobs(40).await;
    assert!(claim_all(&one, &mail).await.is_empty());
    let facts = two.queues(Some(std::slice::from_ref(&mail))).await.expect("it is known").remove(0);
    assert_eq!(facts.throttled_ms, Some(clock.now().wall_ms + 5_000));
    one.set_queue(mail.clone(), QueueChange::Resume).await.expect("it resumes");
    assert_eq!(claim_all(&two, &mail).await.len(), 40);
    agrees(&one).await;
}

#[tokio::test]
async fn a_key_lives_in_one_shard_and_its_limit_is_whole() {
    let Pair { clock, one, two } = pair().await;
    let mail = kit::name("mail");
    let bounds = Bounds { per_key: KeyBounds { max_running: 3, rate: None }, ..Bounds::default() };
    let config = QueueConfig { bounds, ..QueueConfig::default() };
    one.set_queue(mail.clone(), QueueChange::Configure(0, Some(Box::new(config)))).await.expect("it is set");
    one.widen(mail.clone(), 4).await.expect("the queue is widened");
    until("the other server knows", async || two.width(&mail) == 4).await;
    clock.advance(60_000);
    for n in 0..40 {
        let (proposal, fair) = (made_at(clock.now().wall_ms, n), u64::from(n % 5) + 1);
        let id = JobId::stamp(proposal, one.place(&mail, proposal, Some([fair as u8; 16])));
        put(&one, NewJob { id, fair, ..job(&one, &mail, proposal) }).await;
    }
    let claimed = claim_all(&two, &mail).await;
    assert_eq!(claimed.len(), 15, "three of each key");
    for (id, secret) in claimed {
        let act = kit::finish(State::Succeeded);
        let op = Op { id, guard: Guard::Token(secret), act };
        assert!(matches!(one.apply(id.shard(), vec![op]).await.expect("it ends")[..], [Verdict::Done(_)]));
    }
    assert_eq!(claim_all(&one, &mail).await.len(), 15);
    agrees(&one).await;
}
