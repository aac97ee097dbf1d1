//! Uniqueness and idempotency keys.
//!
//! I12: one holder per key.
use super::kit::{self, Kit, finish};
use crate::model::{
    ids::JobId,
    op::{Act, Guard, HeldBy, Hold, KeyKind, NewJob, Put, UniqueKey, Verdict},
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
