//! Uniqueness and idempotency keys.
//!
//! I12: one holder per key.
use super::kit::{self, Kit, finish};
use crate::model::{
    ids::JobId,
    job::Start,
    op::{Act, DueKind, Guard, HeldBy, Hold, KeyKind, NewJob, Op, Put, UniqueKey, Verdict},
    queue::{Bounds, QueueChange, QueueConfig},
    state::State,
};

const KEY: [u8; 16] = [7; 16];
const OTHER: [u8; 16] = [8; 16];

fn unique(kit: &mut Kit, hold: Hold) -> NewJob {
    NewJob { unique: Some(UniqueKey { hash: KEY, hold }), ..kit.job("mail") }
}

async fn put(kit: &Kit, job: NewJob) -> Put {
    kit.put(vec![job]).await.remove(0)
}

async fn created(kit: &Kit, job: NewJob) -> JobId {
    let id = job.id;
    let answer = put(kit, job).await;
    assert!(matches!(answer, Put::Created { .. }), "the key is free: {answer:?}");
    id
}

fn held(by: JobId, key: KeyKind, state: State, ready_ms: i64, same: bool) -> Put {
    Put::Held { by, key, job: Some(HeldBy { state, ready_ms, same }) }
}

async fn is_held(kit: &mut Kit, by: JobId) {
    let ready_ms = kit.meta(by).await.ready_ms;
    let state = kit.state(by).await;
    let job = unique(kit, Hold::UntilFinished);
    let id = job.id;
    assert_eq!(put(kit, job).await, held(by, KeyKind::Unique, state, ready_ms, true));
    assert!(kit.find(id, crate::model::job::Parts::META).await.is_none(), "nothing was recorded");
}

pub async fn a_job_holds_its_key_until_it_ends(kit: &mut Kit) {
    let job = unique(kit, Hold::UntilFinished);
    let first = created(kit, job.clone()).await;
    assert!(matches!(put(kit, job).await, Put::Exists { same: true, .. }), "its own repeat is no conflict");
    is_held(kit, first).await;
    let other = NewJob { unique: Some(UniqueKey { hash: OTHER, hold: Hold::UntilFinished }), ..kit.job("mail") };
    created(kit, other).await;
    let content = NewJob { content: 8, ..unique(kit, Hold::UntilFinished) };
    assert!(matches!(put(kit, content).await, Put::Held { job: Some(HeldBy { same: false, .. }), .. }));
    // Running, retrying, waiting: it is the same job.
    let secret = kit.lease("mail", first).await.secret;
    is_held(kit, first).await;
    kit.done(first, Guard::Token(secret), kit::retry_in(1_000, 1)).await;
    is_held(kit, first).await;
    kit.reopen().await;
    is_held(kit, first).await;
    kit.done(first, kit::ANY, finish(State::Cancelled)).await;
    let job = unique(kit, Hold::UntilFinished);
    let second = created(kit, job).await;
    is_held(kit, second).await;
    // Deleting is an end as well.
    kit.done(second, kit::ANY, Act::Delete).await;
    let job = unique(kit, Hold::UntilFinished);
    created(kit, job).await;
}

pub async fn two_in_one_call_are_one(kit: &mut Kit) {
    let jobs = vec![unique(kit, Hold::UntilFinished), unique(kit, Hold::UntilFinished), kit.job("mail")];
    let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
    let now = kit.wall_ms();
    let answers = kit.put(jobs).await;
    assert!(matches!(answers[0], Put::Created { .. }));
    assert_eq!(answers[1], held(ids[0], KeyKind::Unique, State::Ready, now, true));
    assert!(matches!(answers[2], Put::Created { .. }));
}

pub async fn a_key_until_the_start_is_free_once_handed_out(kit: &mut Kit) {
    let job = unique(kit, Hold::UntilStarted);
    let first = created(kit, job).await;
    is_held(kit, first).await;
    let secret = kit.lease("mail", first).await.secret;
    let job = unique(kit, Hold::UntilStarted);
    let second = created(kit, job).await;
    // One that comes back does not take it again.
    kit.done(first, Guard::Token(secret), kit::give_back()).await;
    is_held(kit, second).await;
    kit.done(second, kit::ANY, finish(State::Cancelled)).await;
    let job = unique(kit, Hold::UntilStarted);
    created(kit, job).await;
    kit.reopen().await;
    kit.done(first, kit::ANY, finish(State::Cancelled)).await;
    kit.done(first, kit::ANY, kit::requeue()).await;
}

pub async fn a_key_for_a_time_outlives_its_job(kit: &mut Kit) {
    let job = unique(kit, Hold::For(100_000));
    let first = created(kit, job).await;
    kit.done(first, kit::ANY, finish(State::Cancelled)).await;
    is_held(kit, first).await;
    kit.done(first, kit::ANY, Act::Delete).await;
    kit.reopen().await;
    kit.advance(99_999);
    let job = unique(kit, Hold::For(100_000));
    assert_eq!(put(kit, job).await, Put::Held { by: first, key: KeyKind::Unique, job: None });
    kit.advance(1);
    kit.due(9).await;
    let job = unique(kit, Hold::UntilFinished);
    let second = created(kit, job).await;
    is_held(kit, second).await;
}

pub async fn a_request_is_remembered_by_its_key(kit: &mut Kit) {
    let request = |kit: &mut Kit| NewJob { idempotency: Some((KEY, 50_000)), ..kit.job("mail") };
    let job = request(kit);
    let first = created(kit, job).await;
    let now = kit.wall_ms();
    let again = request(kit);
    assert_eq!(put(kit, again).await, held(first, KeyKind::Idempotency, State::Ready, now, true));
    let secret = kit.lease("mail", first).await.secret;
    kit.done(first, Guard::Token(secret), finish(State::Succeeded)).await;
    let again = NewJob { content: 9, ..request(kit) };
    assert_eq!(put(kit, again).await, held(first, KeyKind::Idempotency, State::Succeeded, now, false));
    kit.reopen().await;
    kit.advance(49_999);
    let again = request(kit);
    assert!(matches!(put(kit, again).await, Put::Held { .. }));
    kit.advance(1);
    let again = request(kit);
    let second = created(kit, again).await;
    // It is looked at before the uniqueness key.
    let both = NewJob { unique: Some(UniqueKey { hash: OTHER, hold: Hold::UntilFinished }), ..request(kit) };
    assert!(matches!(put(kit, both).await, Put::Held { by, key: KeyKind::Idempotency, .. } if by == second));
    let free = NewJob { unique: Some(UniqueKey { hash: OTHER, hold: Hold::UntilFinished }), ..kit.job("mail") };
    created(kit, free).await;
}

pub async fn a_retry_needs_its_key(kit: &mut Kit) {
    let job = unique(kit, Hold::UntilFinished);
    let first = created(kit, job).await;
    kit.done(first, kit::ANY, finish(State::Cancelled)).await;
    let job = unique(kit, Hold::UntilFinished);
    let second = created(kit, job).await;
    assert_eq!(kit.act(first, kit::ANY, kit::requeue()).await, Verdict::KeyTaken(second));
    assert_eq!(kit.state(first).await, State::Cancelled);
    kit.done(second, kit::ANY, finish(State::Cancelled)).await;
    kit.done(first, kit::ANY, kit::requeue()).await;
    is_held(kit, first).await;
    kit.reopen().await;
    assert_eq!(kit.act(second, kit::ANY, kit::requeue()).await, Verdict::KeyTaken(first));
}

/// A job whose key was handed out with it, and its lease.
async fn at_work(kit: &mut Kit) -> (JobId, u64) {
    let job = unique(kit, Hold::UntilFinished);
    let id = created(kit, job).await;
    let secret = kit.lease("mail", id).await.secret;
    (id, secret)
}

/// A successor, put now.
async fn behind(kit: &mut Kit, start: Start) -> JobId {
    let job = NewJob { start, ..unique(kit, Hold::KeepLast) };
    let id = job.id;
    assert!(matches!(put(kit, job).await, Put::Created { state: State::Blocked, .. }), "it waits behind the holder");
    id
}

async fn held_for_last(kit: &mut Kit, by: JobId) {
    let (ready_ms, state) = (kit.meta(by).await.ready_ms, kit.state(by).await);
    let job = unique(kit, Hold::KeepLast);
    assert_eq!(put(kit, job).await, held(by, KeyKind::Unique, state, ready_ms, true));
}

pub async fn the_last_waits_behind_the_one_at_work(kit: &mut Kit) {
    let job = unique(kit, Hold::KeepLast);
    let first = created(kit, job).await;
    held_for_last(kit, first).await;
    let secret = kit.lease("mail", first).await.secret;
    let last = behind(kit, Start::Now).await;
    // One at most: later ones are told of it, those that do not wait of the holder.
    held_for_last(kit, last).await;
    is_held(kit, first).await;
    kit.recount().await;
    kit.reopen().await;
    held_for_last(kit, last).await;
    // A holder that fails goes on holding.
    kit.done(first, Guard::Token(secret), kit::retry_in(1_000, 1)).await;
    assert_eq!(kit.act(last, kit::ANY, kit::ready()).await, Verdict::Conflict(State::Blocked));
    kit.advance(1_000);
    kit.done(first, Guard::Due(DueKind::Start), kit::ready()).await;
    let secret = kit.lease("mail", first).await.secret;
    assert_eq!(kit.claim("mail", 9).await.len(), 0, "nothing but the successor is left, and it waits");
    let version = kit.meta(last).await.version;
    kit.done(first, Guard::Token(secret), finish(State::Succeeded)).await;
    let meta = kit.meta(last).await;
    assert_eq!((meta.state, meta.ready_ms, meta.version), (State::Ready, kit.wall_ms(), version + 1));
    is_held(kit, last).await;
    kit.recount().await;
    let secret = kit.lease("mail", last).await.secret;
    // And so on.
    let next = behind(kit, Start::Now).await;
    kit.done(last, Guard::Token(secret), finish(State::Dead)).await;
    is_held(kit, next).await;
    assert_eq!(kit.act(last, kit::ANY, kit::requeue()).await, Verdict::KeyTaken(next));
    kit.lease("mail", next).await;
}

pub async fn a_successor_is_changed_and_ends_by_itself(kit: &mut Kit) {
    let (first, secret) = at_work(kit).await;
    let late = kit.wall_ms() + 50_000;
    let last = behind(kit, Start::In(50_000)).await;
    let patch =
        Act::Patch { queue: None, priority: Some(2), start: Some(Start::In(60_000)), body: None, content: None };
    assert_eq!(kit.done(last, kit::ANY, patch).await, State::Blocked);
    let meta = kit.meta(last).await;
    assert_eq!((meta.ready_ms, meta.priority), (late + 10_000, 2));
    // Cancelled it waits no more, and another may.
    kit.done(last, kit::ANY, finish(State::Cancelled)).await;
    kit.recount().await;
    let other = behind(kit, Start::Now).await;
    kit.done(other, kit::ANY, Act::Delete).await;
    kit.recount().await;
    let at = kit.wall_ms() + 5_000;
    let job = NewJob { expire_ms: at, ..unique(kit, Hold::KeepLast) };
    let expiring = job.id;
    assert!(matches!(put(kit, job).await, Put::Created { state: State::Blocked, .. }));
    kit.advance(5_000);
    assert_eq!(kit.due_jobs().await, [(DueKind::Expire, expiring)]);
    kit.done(expiring, Guard::Due(DueKind::Expire), finish(State::Expired)).await;
    is_held(kit, first).await;
    // One that has ended before it had its key takes it when it is retried.
    assert_eq!(kit.act(last, kit::ANY, kit::requeue()).await, Verdict::KeyTaken(first));
    let scheduled = behind(kit, Start::In(40_000)).await;
    kit.done(first, Guard::Token(secret), finish(State::Succeeded)).await;
    assert_eq!(kit.state(scheduled).await, State::Scheduled, "its start lies ahead");
    is_held(kit, scheduled).await;
    kit.done(scheduled, kit::ANY, finish(State::Cancelled)).await;
    kit.done(last, kit::ANY, kit::requeue()).await;
    is_held(kit, last).await;
}

pub async fn the_key_passes_on_however_its_holder_ends(kit: &mut Kit) {
    for deleted in [false, true] {
        let (first, _) = at_work(kit).await;
        let last = behind(kit, Start::Now).await;
        let act = if deleted { Act::Delete } else { finish(State::Cancelled) };
        kit.done(first, kit::ANY, act).await;
        is_held(kit, last).await;
        kit.recount().await;
        kit.done(last, kit::ANY, finish(State::Cancelled)).await;
    }
    // Both in one call, either way round.
    for successor_first in [false, true] {
        let (first, _) = at_work(kit).await;
        let last = behind(kit, Start::Now).await;
        let op = |id| Op { id, guard: kit::ANY, act: finish(State::Cancelled) };
        let ops = if successor_first { vec![op(last), op(first)] } else { vec![op(first), op(last)] };
        kit.store().apply(first.shard(), ops).await.expect("the store applies");
        assert_eq!((kit.state(first).await, kit.state(last).await), (State::Cancelled, State::Cancelled));
        kit.recount().await;
        let job = unique(kit, Hold::UntilFinished);
        let free = created(kit, job).await;
        kit.done(free, kit::ANY, finish(State::Cancelled)).await;
    }
}

pub async fn a_successor_counts_in_the_depth(kit: &mut Kit) {
    let config = QueueConfig { bounds: Bounds { max_depth: 1, ..Bounds::default() }, ..QueueConfig::default() };
    let change = QueueChange::Configure(0, Some(Box::new(config)));
    kit.store().set_queue(kit::name("mail"), change).await.expect("a queue can be configured");
    at_work(kit).await;
    behind(kit, Start::Now).await;
    let job = kit.job("mail");
    assert_eq!(put(kit, job).await, Put::QueueFull);
    assert_eq!(kit.facts("mail").await.count(State::Blocked), 1);
}
