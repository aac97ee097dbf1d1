//! Leases: how they end, how they are renewed, and whose word counts.
//!
//! I4, I5, I6, I8.
use super::kit::{self, Kit, LEASE_MS};
use crate::model::{
    job::AttemptResult,
    op::{Act, DueKind, Guard, Verdict},
    state::State,
};

const LEASE: Guard = Guard::Due(DueKind::Lease);

pub async fn a_lapsed_lease_goes_back(kit: &mut Kit) {
    let (id, secret) = kit.running("mail").await;
    kit.put_one("mail").await;
    kit.advance(LEASE_MS - 1);
    assert_eq!(kit.act(id, LEASE, kit::give_back()).await, Verdict::Stale, "a millisecond early");
    kit.advance(1);
    assert_eq!(kit.due_jobs().await, [(DueKind::Lease, id)]);
    assert_eq!(kit.done(id, LEASE, kit::give_back()).await, State::Ready);
    assert_eq!(kit.due_jobs().await, []);
    let again = kit.lease("mail", id).await;
    assert_ne!(again.secret, secret);
    assert_eq!((again.meta.delivery, again.meta.crashes), (2, 0));
}

pub async fn naming_it_takes_the_job_and_the_crash_back(kit: &mut Kit) {
    let (id, secret) = kit.running("mail").await;
    kit.done(id, Guard::Token(secret), kit::started(LEASE_MS)).await;
    kit.advance(LEASE_MS);
    kit.done(id, LEASE, kit::crashed()).await;
    let meta = kit.meta(id).await;
    assert_eq!((meta.state, meta.crashes, meta.started), (State::Ready, 1, true));

    assert_eq!(kit.done(id, Guard::Token(secret), kit::extend(LEASE_MS)).await, State::Running);
    let meta = kit.meta(id).await;
    assert_eq!((meta.crashes, meta.delivery), (0, 1), "the worker had not crashed, and this is no new lease");
    assert!(kit.claim("mail", 1).await.is_empty(), "it stands in the list no more");
    assert_eq!(kit.next_in().await, Some(LEASE_MS));
    kit.done(id, Guard::Token(secret), kit::extend(LEASE_MS)).await;
    assert_eq!(kit.meta(id).await.crashes, 0, "a crash is taken off once");

    // A lease that ran out without a crash takes none off.
    kit.advance(LEASE_MS);
    kit.done(id, LEASE, kit::crashed()).await;
    let second = kit.lease("mail", id).await.secret;
    kit.advance(LEASE_MS);
    kit.done(id, LEASE, kit::give_back()).await;
    kit.done(id, Guard::Token(second), kit::extend(LEASE_MS)).await;
    assert_eq!(kit.meta(id).await.crashes, 1);
}

pub async fn late_work_counts_until_another_has_the_job(kit: &mut Kit) {
    let (id, late) = kit.running("mail").await;
    kit.advance(LEASE_MS);
    kit.done(id, LEASE, kit::crashed()).await;
    assert_eq!(kit.done(id, Guard::Token(late), kit::finish(State::Succeeded)).await, State::Succeeded);
    assert_eq!(kit.meta(id).await.crashes, 0, "whoever brings a result has not crashed");
    assert!(kit.claim("mail", 1).await.is_empty());

    let (id, late) = kit.running("mail").await;
    kit.advance(LEASE_MS);
    kit.done(id, LEASE, kit::give_back()).await;
    let current = kit.lease("mail", id).await.secret;
    for act in [kit::finish(State::Succeeded), kit::extend(LEASE_MS), kit::retry_in(1, 1), kit::give_back()] {
        assert_eq!(kit.act(id, Guard::Token(late), act).await, Verdict::Stale, "another worker has it");
    }
    assert_eq!(kit.done(id, Guard::Token(current), kit::finish(State::Succeeded)).await, State::Succeeded);

    // A late failure is like one in time.
    let (id, late) = kit.running("mail").await;
    kit.advance(LEASE_MS);
    kit.done(id, LEASE, kit::crashed()).await;
    kit.done(id, Guard::Token(late), kit::retry_in(5_000, 1)).await;
    let meta = kit.meta(id).await;
    assert_eq!((meta.state, meta.failures, meta.crashes), (State::Retrying, 1, 0));
}

pub async fn a_delivery_lease_is_short_until_named(kit: &mut Kit) {
    let (id, secret) = kit.running("mail").await;
    assert_eq!(kit.next_in().await, Some(LEASE_MS));
    kit.advance(4_000);
    kit.done(id, Guard::Token(secret), kit::extend(30_000)).await;
    assert_eq!(kit.next_in().await, Some(30_000));
    kit.advance(LEASE_MS);
    assert_eq!(kit.due_jobs().await, []);
}

pub async fn extending_never_shortens(kit: &mut Kit) {
    let (id, secret) = kit.running("mail").await;
    for less in [5_000, 0, -5_000] {
        kit.done(id, Guard::Token(secret), kit::extend(less)).await;
        assert_eq!(kit.next_in().await, Some(LEASE_MS), "after Extend by {less}");
    }
    kit.done(id, Guard::Token(secret), kit::extend(LEASE_MS + 1)).await;
    assert_eq!(kit.next_in().await, Some(LEASE_MS + 1));
    let version = kit.meta(id).await.version;
    kit.done(id, Guard::Token(secret), kit::extend(LEASE_MS + 2)).await;
    assert_eq!(kit.meta(id).await.version, version, "a mere renewal is no change of the record");
}

pub async fn a_renewal_wins_over_the_reaper(kit: &mut Kit) {
    let (id, secret) = kit.running("mail").await;
    kit.advance(LEASE_MS);
    assert_eq!(kit.due_jobs().await, [(DueKind::Lease, id)]);
    kit.done(id, Guard::Token(secret), kit::extend(LEASE_MS)).await;
    assert_eq!(kit.act(id, LEASE, kit::crashed()).await, Verdict::Stale);
    assert_eq!(kit.state(id).await, State::Running);
}

pub async fn given_back_jobs_come_first(kit: &mut Kit) {
    let (a, secret_a) = kit.running("mail").await;
    let (b, secret_b) = kit.running("mail").await;
    let waiting = kit.put_one("mail").await;
    let urgent = kit.put_with("mail", |job| job.priority = 1).await;
    kit.done(a, Guard::Token(secret_a), kit::give_back()).await;
    kit.advance(5);
    let act = Act::Ready {
        front: true,
        crashed: false,
        attempt: Some(kit::attempt(1, AttemptResult::Released)),
        checkpoint: Some(kit::payload("so far")),
    };
    kit.done(b, Guard::Token(secret_b), act).await;
    assert_eq!(kit.list("mail", State::Ready).await, [urgent, b, a, waiting]);
    let meta = kit.meta(b).await;
    assert_eq!((meta.failures, meta.crashes, meta.ready_ms), (0, 0, kit.wall_ms()));
    let record = kit.record(b).await;
    assert_eq!(record.attempts, [kit::attempt(1, AttemptResult::Released)]);
    assert_eq!(record.checkpoint, Some(kit::payload("so far")));
    // Not to the front: behind those that wait.
    let (c, secret_c) = kit.running("other").await;
    let first = kit.put_one("other").await;
    kit.done(c, Guard::Token(secret_c), kit::ready()).await;
    assert_eq!(kit.list("other", State::Ready).await, [first, c]);
}

pub async fn an_outcome_settles_once(kit: &mut Kit) {
    for (act, state) in [
        (kit::finish(State::Succeeded), State::Succeeded),
        (kit::retry_in(60_000, 1), State::Retrying),
        (kit::later(60_000), State::Scheduled),
        (kit::give_back(), State::Ready),
    ] {
        let (id, secret) = kit.running("mail").await;
        assert_eq!(kit.done(id, Guard::Token(secret), act.clone()).await, state);
        let before = kit.meta(id).await;
        for again in [act, kit::finish(State::Dead), kit::extend(LEASE_MS)] {
            assert_eq!(kit.act(id, Guard::Token(secret), again).await, Verdict::Already(state));
        }
        assert_eq!(kit.meta(id).await, before);
        kit.done(id, kit::ANY, Act::Delete).await;
    }
    // What the reaper does settles nothing.
    let (id, secret) = kit.running("mail").await;
    kit.advance(LEASE_MS);
    kit.done(id, LEASE, kit::finish(State::Dead)).await;
    let late = kit.act(id, Guard::Token(secret), kit::finish(State::Succeeded)).await;
    assert_eq!(late, Verdict::Conflict(State::Dead));
}

pub async fn crashes_are_charged_only_when_started(kit: &mut Kit) {
    let (id, _) = kit.running("mail").await;
    kit.advance(LEASE_MS);
    kit.done(id, LEASE, kit::give_back()).await;
    assert_eq!(kit.meta(id).await.crashes, 0);
    for crashes in 1..=3 {
        let secret = kit.lease("mail", id).await.secret;
        kit.done(id, Guard::Token(secret), kit::started(LEASE_MS)).await;
        kit.advance(LEASE_MS);
        let act = Act::Ready {
            front: true,
            crashed: true,
            attempt: Some(kit::attempt(crashes + 1, AttemptResult::Lost)),
            checkpoint: None,
        };
        kit.done(id, LEASE, act).await;
        let meta = kit.meta(id).await;
        assert_eq!((meta.crashes, meta.failures), (crashes, 0));
    }
    let secret = kit.lease("mail", id).await.secret;
    kit.advance(LEASE_MS);
    let last = kit::attempt(5, AttemptResult::Lost);
    let outcome = crate::model::job::Outcome { last: Some(last), ..Default::default() };
    let act = Act::Finish { to: State::Dead, outcome, retain_ms: 0, effects: Vec::new() };
    kit.done(id, LEASE, act).await;
    assert_eq!(kit.meta(id).await.crashes, 4, "the last crash is counted as well");
    assert_eq!(kit.act(id, Guard::Token(secret), kit::extend(1)).await, Verdict::Conflict(State::Dead));
    let deliveries: Vec<u32> = kit.record(id).await.attempts.iter().map(|attempt| attempt.delivery).collect();
    assert_eq!(deliveries, [5, 4, 3, 2]);
}
