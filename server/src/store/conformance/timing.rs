//! Starts, retries, expiry, and what is due when.
//!
//! I10.
use super::kit::{self, Kit, LEASE_MS, drain};
use crate::model::{
    job::{AttemptResult, Outcome, Start},
    op::{Act, Due, DueKind, Guard, Verdict, Wake},
    queue::{Pause, QueueChange},
    state::State,
};

const START: Guard = Guard::Due(DueKind::Start);
const EXPIRE: Guard = Guard::Due(DueKind::Expire);

pub async fn scheduled_jobs_become_due(kit: &mut Kit) {
    let late = kit.put_with("mail", |job| job.start = Start::In(3_000)).await;
    let early = kit.put_with("post", |job| job.start = Start::In(1_000)).await;
    let twin = kit.put_with("mail", |job| job.start = Start::In(3_000)).await;
    assert_eq!(kit.list("mail", State::Scheduled).await, [late, twin]);
    assert!(kit.claim("mail", 9).await.is_empty());
    assert_eq!(kit.next_in().await, Some(1_000));
    kit.advance(1_000);
    assert_eq!(kit.due_jobs().await, [(DueKind::Start, early)]);
    assert_eq!(kit.act(late, START, kit::ready()).await, Verdict::Stale);
    assert_eq!(kit.done(early, START, kit::ready()).await, State::Ready);
    assert_eq!(kit.next_in().await, Some(2_000));
    kit.advance(5_000);
    assert_eq!(kit.due_jobs().await, [(DueKind::Start, late), (DueKind::Start, twin)]);
    let due_at = kit.meta(late).await.ready_ms;
    kit.done(late, START, kit::ready()).await;
    assert_eq!(kit.meta(late).await.ready_ms, due_at, "it was runnable when it was due, not when somebody noticed");
    assert_eq!(kit.act(late, START, kit::ready()).await, Verdict::Stale, "once");
    kit.lease("mail", late).await;
}

pub async fn retries_count_and_wait(kit: &mut Kit) {
    let (id, secret) = kit.running("mail").await;
    kit.done(id, Guard::Token(secret), kit::retry_in(2_000, 1)).await;
    let meta = kit.meta(id).await;
    assert_eq!((meta.state, meta.failures, meta.ready_ms), (State::Retrying, 1, kit.wall_ms() + 2_000));
    assert_eq!(kit.list("mail", State::Retrying).await, [id]);
    kit.advance(2_000);
    kit.done(id, START, kit::ready()).await;
    let secret = kit.lease("mail", id).await.secret;
    let snooze = kit::later(500);
    kit.done(id, Guard::Token(secret), snooze).await;
    let meta = kit.meta(id).await;
    assert_eq!((meta.state, meta.failures), (State::Scheduled, 1), "a snooze uses no attempt");
    // A person need not wait.
    let waiting = Guard::In(crate::model::state::StateSet::WAITING);
    kit.advance(100);
    kit.done(id, waiting, kit::ready()).await;
    assert_eq!(kit.meta(id).await.ready_ms, kit.wall_ms());
    let secret = kit.lease("mail", id).await.secret;
    let outcome = kit::failed(3, "the end");
    let act = Act::Finish { to: State::Dead, outcome, retain_ms: 1, effects: Vec::new() };
    kit.done(id, Guard::Token(secret), act).await;
    let meta = kit.meta(id).await;
    assert_eq!((meta.failures, meta.attempt()), (2, 2), "the last failure is an attempt used as well");
}

pub async fn expiry_ends_with_the_first_start(kit: &mut Kit) {
    let at = kit.wall_ms() + 60_000;
    let waiting = kit.put_with("mail", |job| (job.expire_ms, job.priority) = (at, -1)).await;
    let scheduled = kit.put_with("mail", |job| (job.expire_ms, job.start) = (at, Start::In(500_000))).await;
    let mut begun = Vec::new();
    let mut unbegun = Vec::new();
    for starts in [true, false] {
        let id = kit.put_with("mail", |job| job.expire_ms = at).await;
        let secret = kit.lease("mail", id).await.secret;
        if starts {
            kit.done(id, Guard::Token(secret), kit::started(LEASE_MS)).await;
            begun.push(id);
        } else {
            unbegun.push(id);
        }
        kit.done(id, Guard::Token(secret), kit::later(400_000)).await;
    }
    let failed = kit.put_with("mail", |job| job.expire_ms = at).await;
    let secret = kit.lease("mail", failed).await.secret;
    kit.done(failed, Guard::Token(secret), kit::retry_in(400_000, 1)).await;
    // A handler that tells how it went has started, whether the store heard of that before or not.
    let spoke = kit.put_with("mail", |job| job.expire_ms = at).await;
    let secret = kit.lease("mail", spoke).await.secret;
    let outcome = Outcome { last: Some(kit::attempt(1, AttemptResult::Snoozed)), ..Outcome::default() };
    let act = Act::Later {
        to: State::Scheduled,
        delay_ms: 400_000,
        counts: false,
        outcome: Some(outcome),
        checkpoint: None,
        throttle: None,
        effects: Vec::new(),
    };
    kit.done(spoke, Guard::Token(secret), act).await;
    let running = kit.put_with("mail", |job| job.expire_ms = at).await;
    let secret = kit.lease("mail", running).await.secret;
    kit.done(running, Guard::Token(secret), kit::extend(300_000)).await;

    kit.advance(59_999);
    assert_eq!(kit.due_jobs().await, []);
    assert_eq!(kit.next_in().await, Some(1));
    kit.advance(1);
    let mut due: Vec<_> = kit.due_jobs().await;
    due.sort_by_key(|(_, id)| *id);
    let mut expected: Vec<_> = [waiting, scheduled, unbegun[0]].into_iter().map(|id| (DueKind::Expire, id)).collect();
    expected.sort_by_key(|(_, id)| *id);
    assert_eq!(due, expected);
    for id in [begun[0], failed, spoke, running] {
        assert_eq!(kit.act(id, EXPIRE, kit::finish(State::Expired)).await, Verdict::Stale);
    }
    // Given back without having started, it has expired.
    kit.done(running, Guard::Token(secret), kit::give_back()).await;
    assert_eq!(kit.done(running, EXPIRE, kit::finish(State::Expired)).await, State::Expired);
    // Retried by a person it expires no more.
    kit.done(running, kit::ANY, kit::requeue()).await;
    assert_eq!(kit.act(running, EXPIRE, kit::finish(State::Expired)).await, Verdict::Stale);
    kit.lease("mail", running).await;
}

pub async fn a_deadline_ends_what_waits(kit: &mut Kit) {
    let at = kit.wall_ms() + 60_000;
    let waiting = kit.put_with("mail", |job| (job.deadline_ms, job.expire_ms) = (at, at + 1)).await;
    let sooner = kit.put_with("mail", |job| (job.deadline_ms, job.expire_ms) = (at, at - 50_000)).await;
    let scheduled = kit.put_with("mail", |job| (job.deadline_ms, job.start) = (at, Start::In(500_000))).await;
    // It counts from the first to the last: a handler that has started changes nothing, nor does a failure.
    let failed = kit.put_with("news", |job| (job.deadline_ms, job.expire_ms) = (at, at - 50_000)).await;
    let secret = kit.lease("news", failed).await.secret;
    kit.done(failed, Guard::Token(secret), kit::started(LEASE_MS)).await;
    kit.done(failed, Guard::Token(secret), kit::retry_in(400_000, 1)).await;
    let running = kit.put_with("post", |job| job.deadline_ms = at).await;
    let secret = kit.lease("post", running).await.secret;
    kit.done(running, Guard::Token(secret), kit::started(300_000)).await;
    assert_eq!(kit.meta(failed).await.deadline_ms, at);

    kit.reopen().await;
    kit.done(running, Guard::Token(secret), kit::started(300_000)).await;
    kit.advance(10_000);
    assert_eq!(kit.due_jobs().await, [(DueKind::Expire, sooner)]);
    kit.done(sooner, EXPIRE, kit::finish(State::Expired)).await;
    kit.advance(49_999);
    assert_eq!(kit.due_jobs().await, []);
    assert_eq!(kit.next_in().await, Some(1));
    kit.advance(1);
    let mut due: Vec<_> = kit.due_jobs().await;
    due.sort_by_key(|(_, id)| *id);
    let mut expected: Vec<_> = [waiting, scheduled, failed].into_iter().map(|id| (DueKind::Expire, id)).collect();
    expected.sort_by_key(|(_, id)| *id);
    assert_eq!(due, expected);
    assert!(kit.claim("mail", 9).await.is_empty(), "its time is over");
    assert_eq!(kit.act(running, EXPIRE, kit::finish(State::Expired)).await, Verdict::Stale);
    // Given back it has had its time, though its handler had started.
    kit.done(running, Guard::Token(secret), kit::give_back()).await;
    assert!(kit.claim("post", 9).await.is_empty(), "its time is over");
    assert_eq!(kit.done(running, EXPIRE, kit::finish(State::Expired)).await, State::Expired);
    // A person who retries what waits gives it no more time; what has ended is free of it.
    kit.done(failed, kit::ANY, kit::requeue()).await;
    assert_eq!(kit.done(failed, EXPIRE, kit::finish(State::Expired)).await, State::Expired);
    kit.done(failed, kit::ANY, kit::requeue()).await;
    assert_eq!(kit.meta(failed).await.deadline_ms, 0);
    kit.lease("news", failed).await;
}

pub async fn due_is_ordered_and_bounded(kit: &mut Kit) {
    let expire = kit.wall_ms() + 1_000;
    let expired = kit.put_with("mail", |job| (job.expire_ms, job.priority) = (expire, -1)).await;
    let ended = kit.put_one("mail").await;
    kit.done(ended, kit::ANY, kit::finish(State::Cancelled)).await;
    let start = kit.put_with("mail", |job| job.start = Start::In(5_000)).await;
    let start_before = kit.put_with("post", |job| job.start = Start::In(4_000)).await;
    let (stopping, secret) = kit.running("mail").await;
    kit.done(stopping, Guard::Token(secret), kit::extend(i64::MAX / 4)).await;
    kit.done(stopping, kit::ANY, kit::request_cancel(Some(9_000))).await;
    let pause =
        Pause { reason: String::new(), actor: String::new(), pause_ms: 1, resume_ms: Some(kit.wall_ms() + 2_000) };
    kit.store().set_queue(kit::name("shut"), QueueChange::Pause(pause)).await.expect("a queue can be paused");
    let (leased, _) = kit.running("mail").await;
    kit.advance(40 * 86_400_000);

    let expected = [
        (DueKind::Lease, leased),
        (DueKind::Cancel, stopping),
        (DueKind::Start, start_before),
        (DueKind::Start, start),
        (DueKind::Expire, expired),
        (DueKind::Trim, ended),
    ];
    assert_eq!(kit.due_jobs().await, expected);
    let all = kit.due(usize::MAX).await;
    assert_eq!(all.entries.len(), 7);
    assert!(all.entries.iter().any(|entry| matches!(entry, Due::QueueOpens(name) if name.as_str() == "shut")));
    for limit in 0..=7 {
        let due = kit.due(limit).await;
        assert_eq!(due.entries.len(), limit);
        assert_eq!(due.next_in_ms == Some(0), limit < 7, "limit {limit}");
        assert_eq!(format!("{:?}", due.entries), format!("{:?}", &all.entries[..limit]), "a prefix of all");
    }
    assert_eq!(kit.due(2).await.entries.len(), 2, "asking changes nothing");
}

pub async fn the_next_entry_is_exact(kit: &mut Kit) {
    assert_eq!(kit.next_in().await, None, "an empty store waits for nothing");
    kit.put_one("mail").await;
    assert_eq!(kit.next_in().await, None, "a job that can run waits for nobody's clock");
    kit.put_with("mail", |job| job.start = Start::In(90_000)).await;
    assert_eq!(kit.next_in().await, Some(90_000));
    let expire = kit.wall_ms() + 80_000;
    let expiring = kit.put_with("other", |job| job.expire_ms = expire).await;
    assert_eq!(kit.next_in().await, Some(80_000));
    let leased = kit.claim("mail", 1).await.remove(0);
    assert_eq!(kit.next_in().await, Some(LEASE_MS));
    kit.done(leased.meta.id, kit::ANY, kit::request_cancel(Some(7_000))).await;
    assert_eq!(kit.next_in().await, Some(7_000));
    kit.done(leased.meta.id, Guard::Token(leased.secret), kit::finish(State::Succeeded)).await;
    assert_eq!(kit.next_in().await, Some(80_000));
    kit.done(expiring, kit::ANY, Act::Delete).await;
    assert_eq!(kit.next_in().await, Some(90_000));
    kit.advance(91_000);
    let due = kit.due(9).await;
    assert_eq!(due.entries.len(), 1);
    assert_eq!(due.next_in_ms, Some(3_600_000 - 91_000), "what is in the answer is not what comes next");
}

pub async fn the_wall_clock_cannot_end_a_lease(kit: &mut Kit) {
    let (id, _) = kit.running("mail").await;
    let scheduled = kit.put_with("mail", |job| job.start = Start::In(60_000)).await;
    kit.step_wall(3_600_000);
    assert_eq!(kit.due_jobs().await, [(DueKind::Start, scheduled)]);
    assert_eq!(kit.act(id, Guard::Due(DueKind::Lease), kit::crashed()).await, Verdict::Stale);
    kit.done(scheduled, START, kit::ready()).await;
    kit.step_wall(-7_200_000);
    assert_eq!(kit.state(scheduled).await, State::Ready, "a step back un-fires nothing");
    assert_eq!(kit.next_in().await, Some(LEASE_MS));
    kit.advance(LEASE_MS);
    assert_eq!(kit.due_jobs().await, [(DueKind::Lease, id)]);
}

async fn timers(kit: &Kit, wakes: &mut tokio::sync::broadcast::Receiver<Wake>) -> usize {
    drain(kit, wakes).await.into_iter().filter(|wake| matches!(wake, Wake::Timer(_))).count()
}

pub async fn a_timer_is_raised_when_something_is_earlier(kit: &mut Kit) {
    let mut wakes = kit.store().watch();
    kit.due(9).await;
    kit.put_with("mail", |job| job.start = Start::In(60_000)).await;
    assert_eq!(timers(kit, &mut wakes).await, 1, "nothing was waited for");
    kit.due(9).await;
    kit.put_with("mail", |job| job.start = Start::In(61_000)).await;
    assert_eq!(timers(kit, &mut wakes).await, 0, "later than what is waited for");
    kit.put_with("mail", |job| job.start = Start::In(59_000)).await;
    assert_eq!(timers(kit, &mut wakes).await, 1, "earlier");
    kit.due(9).await;
    let mut jobs = kit.jobs("mail", 3);
    for (job, delay) in jobs.iter_mut().zip([50_000, 40_000, 30_000]) {
        job.start = Start::In(delay);
    }
    kit.put(jobs).await;
    assert_eq!(timers(kit, &mut wakes).await, 1, "one call, one wake");
    kit.due(9).await;
    kit.running("mail").await;
    assert_eq!(timers(kit, &mut wakes).await, 1, "a lease ends earlier");
    kit.due(9).await;
    kit.running("mail").await;
    assert_eq!(timers(kit, &mut wakes).await, 0, "this one does not");
    // What was due before, and was acted on, holds nothing back.
    kit.advance(LEASE_MS);
    assert_eq!(kit.due_jobs().await.len(), 2);
    assert_eq!(kit.due(1).await.next_in_ms, Some(0), "somebody else may ask for less");
    kit.running("mail").await;
    assert_eq!(timers(kit, &mut wakes).await, 1, "the answer had said nothing before the first start");
    kit.put_with("mail", |job| job.start = Start::In(5_000)).await;
    assert_eq!(timers(kit, &mut wakes).await, 1, "nor this");
}
