//! Handing out jobs.
//!
//! I13, I19.
use super::kit::{self, Kit, body, failure, payload};
use crate::model::{
    ids::JobId,
    job::{Body, Outcome, Start},
    limits::STORE_BATCH,
    op::{Act, DueKind, Guard},
    state::State,
};

async fn ids(kit: &mut Kit, want: usize) -> Vec<JobId> {
    kit.claim("mail", want).await.into_iter().map(|job| job.meta.id).collect()
}

pub async fn arrival_order_within_priority(kit: &mut Kit) {
    let mut expected = Vec::new();
    for priority in [0, 4, -4, 0, 1, 4, -1, 0] {
        let id = kit.put_with("mail", |job| job.priority = priority).await;
        kit.advance(1);
        expected.push((-priority, expected.len(), id));
    }
    expected.sort();
    let expected: Vec<JobId> = expected.into_iter().map(|(_, _, id)| id).collect();
    assert_eq!(kit.list("mail", State::Ready).await, expected);
    let mut got = Vec::new();
    while got.len() < expected.len() {
        got.extend(ids(kit, 1).await);
        kit.advance(1);
    }
    assert_eq!(got, expected);
    assert_eq!(kit.list("mail", State::Running).await, expected, "running jobs stand in the order of their claims");
    assert!(ids(kit, 3).await.is_empty());
}

pub async fn the_bottom_does_not_starve(kit: &mut Kit) {
    let mut high = Vec::new();
    let mut low = Vec::new();
    for _ in 0..6 {
        low.push(kit.put_with("mail", |job| job.priority = -4).await);
        high.push(kit.put_with("mail", |job| job.priority = 4).await);
    }
    let mut claim = kit.claim_of("mail", 4);
    claim.from_bottom = 1;
    let got: Vec<JobId> = kit.claim_as(claim).await.jobs.into_iter().map(|job| job.meta.id).collect();
    assert_eq!(got, [high[0], high[1], high[2], low[0]]);
    let mut claim = kit.claim_of("mail", 1);
    claim.from_bottom = 1;
    let got: Vec<JobId> = kit.claim_as(claim).await.jobs.into_iter().map(|job| job.meta.id).collect();
    assert_eq!(got, [low[1]]);
    // More from below than wait below: the rest comes from above it.
    let mut claim = kit.claim_of("mail", 20);
    claim.from_bottom = 5;
    let claimed = kit.claim_as(claim).await;
    assert_eq!(claimed.jobs.len(), 7);
    assert!(!claimed.more);

    // One priority only: arrival decides.
    let same: Vec<JobId> = {
        let jobs = kit.jobs("same", 4);
        let ids = jobs.iter().map(|job| job.id).collect();
        kit.put(jobs).await;
        ids
    };
    let mut claim = kit.claim_of("same", 4);
    claim.from_bottom = 1;
    let got: Vec<JobId> = kit.claim_as(claim).await.jobs.into_iter().map(|job| job.meta.id).collect();
    assert_eq!(got, same);
    // What comes from below stands where it belongs: before those that came after it.
    let jobs = kit.jobs("mixed", 3);
    let low: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
    kit.put(jobs).await;
    let high = kit.put_with("mixed", |job| job.priority = 1).await;
    let mut claim = kit.claim_of("mixed", 4);
    claim.from_bottom = 1;
    let got: Vec<JobId> = kit.claim_as(claim).await.jobs.into_iter().map(|job| job.meta.id).collect();
    assert_eq!(got, [high, low[0], low[1], low[2]]);
}

pub async fn bodies_are_bounded_but_the_first_fits(kit: &mut Kit) {
    let mut sizes = Vec::new();
    for n in [1_000, 10, 10, 500, 10] {
        let task = body(&"x".repeat(n));
        sizes.push(task.len());
        kit.put_with("mail", |job| job.body = task).await;
    }
    let mut claim = kit.claim_of("mail", 5);
    claim.bytes = 5;
    let claimed = kit.claim_as(claim).await;
    assert_eq!(claimed.jobs.len(), 1, "the first fits whatever its size");
    assert!(claimed.more);
    let mut claim = kit.claim_of("mail", 5);
    claim.bytes = sizes[1] + sizes[2] + sizes[3] - 1;
    let claimed = kit.claim_as(claim).await;
    assert_eq!(claimed.jobs.len(), 2, "no later job overtakes the one that does not fit");
    assert!(claimed.more);
    let mut claim = kit.claim_of("mail", 5);
    claim.bytes = sizes[3] + sizes[4];
    let claimed = kit.claim_as(claim).await;
    assert_eq!(claimed.jobs.len(), 2, "exactly full is not too much");
    assert!(!claimed.more);
}

pub async fn more_is_exact(kit: &mut Kit) {
    kit.put_one("mail").await;
    kit.put_one("mail").await;
    kit.put_one("mail").await;
    for (want, got, more) in [(0, 0, true), (1, 1, true), (2, 2, false), (1, 0, false), (0, 0, false)] {
        let claim = kit.claim_of("mail", want);
        let claimed = kit.claim_as(claim).await;
        assert_eq!((claimed.jobs.len(), claimed.more), (got, more), "wanting {want}");
    }
    // What has expired cannot be claimed.
    let soon = kit.wall_ms() + 10;
    kit.put_one("mail").await;
    kit.put_with("mail", |job| job.expire_ms = soon).await;
    kit.advance(10);
    let claim = kit.claim_of("mail", 1);
    let claimed = kit.claim_as(claim).await;
    assert_eq!((claimed.jobs.len(), claimed.more), (1, false));
    let jobs = kit.jobs("bulk", STORE_BATCH + 1);
    kit.put(jobs).await;
    let claim = kit.claim_of("bulk", STORE_BATCH);
    let claimed = kit.claim_as(claim).await;
    assert_eq!((claimed.jobs.len(), claimed.more), (STORE_BATCH, true));
}

pub async fn a_lease_carries_what_its_worker_needs(kit: &mut Kit) {
    let id = kit.put_with("mail", |job| job.body = body("the task")).await;
    kit.advance(250);
    let claim = kit.claim_of("mail", 1);
    let secret = claim.secrets[0];
    let first = kit.claim_as(claim).await.jobs.remove(0);
    assert_eq!(first.secret, secret);
    assert_eq!((first.meta.state, first.meta.delivery, first.meta.started), (State::Running, 1, false));
    assert_eq!(first.meta.start_ms, kit.wall_ms());
    assert_eq!(first.meta.ready_ms, kit.wall_ms() - 250);
    assert_eq!(first.body.map(|Body { task, .. }| task), Some("the task".into()));
    assert_eq!((first.checkpoint, first.last_failure), (None, None));

    let outcome = Outcome { failure: Some(failure("boom")), ..Outcome::default() };
    let act = Act::Later {
        to: State::Retrying,
        delay_ms: 1_000,
        counts: true,
        outcome: Some(outcome),
        checkpoint: Some(payload("half done")),
        throttle: None,
        effects: Vec::new(),
    };
    kit.done(id, Guard::Token(secret), act).await;
    kit.advance(1_000);
    kit.done(id, Guard::Due(DueKind::Start), kit::ready()).await;
    let mut claim = kit.claim_of("mail", 1);
    claim.started = true;
    let again = kit.claim_as(claim).await.jobs.remove(0);
    assert_eq!((again.meta.delivery, again.meta.failures, again.meta.started), (2, 1, true));
    assert_eq!(again.checkpoint, Some(payload("half done")));
    assert_eq!(again.last_failure, Some(failure("boom")));
    assert_eq!(kit.meta(id).await, again.meta);
}

pub async fn expired_jobs_are_skipped(kit: &mut Kit) {
    let at = kit.wall_ms() + 1_000;
    let gone = kit.put_with("mail", |job| job.expire_ms = at).await;
    let urgent = kit.put_with("mail", |job| (job.expire_ms, job.priority) = (at, 3)).await;
    let kept = kit.put_one("mail").await;
    let later = kit.put_with("mail", |job| job.expire_ms = at + 1).await;
    kit.advance(1_000);
    assert_eq!(ids(kit, 9).await, [kept, later]);
    // The store ends nothing by itself.
    for id in [urgent, gone] {
        assert_eq!(kit.state(id).await, State::Ready);
    }
    // One that arrives before the skipped ones is found.
    let (front, secret) = (kept, kit.meta(kept).await.version);
    kit.done(front, Guard::Version(secret), kit::give_back()).await;
    assert_eq!(ids(kit, 9).await, [kept]);
    for id in [gone, urgent] {
        assert_eq!(kit.done(id, Guard::Due(DueKind::Expire), kit::finish(State::Expired)).await, State::Expired);
    }
    let fresh = kit.put_with("mail", |job| job.start = Start::Now).await;
    assert_eq!(ids(kit, 9).await, [fresh]);
}

pub async fn nothing_from_an_unknown_queue(kit: &mut Kit) {
    kit.put_one("mail").await;
    let claim = kit.claim_of("male", 3);
    let claimed = kit.claim_as(claim).await;
    assert!(claimed.jobs.is_empty() && !claimed.more);
    let names = [kit::name("male"), kit::name("mail")];
    let known = kit.store().queues(Some(&names)).await.expect("the store knows queues");
    assert_eq!(known.len(), 1, "asking does not make a queue");
}
