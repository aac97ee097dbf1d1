//! What people do to jobs: retry, patch, delete.
use super::kit::{self, Kit, LEASE_MS, body, failed, name};
use crate::model::{
    job::{AttemptResult, Body, Parts, Start},
    op::{Act, DueKind, Guard, Verdict},
    state::{State, StateSet},
};

const WAITING: Guard = Guard::In(StateSet::WAITING);
const TERMINAL: Guard = Guard::In(StateSet::TERMINAL);

pub async fn retry_starts_afresh(kit: &mut Kit) {
    let (id, secret) = kit.running("mail").await;
    kit.done(id, Guard::Token(secret), kit::started(LEASE_MS)).await;
    kit.advance(LEASE_MS);
    kit.done(id, Guard::Due(DueKind::Lease), kit::crashed()).await;
    let secret = kit.lease("mail", id).await.secret;
    let act = Act::Finish { to: State::Dead, outcome: failed(2, "no"), retain_ms: 1_000_000, effects: Vec::new() };
    kit.done(id, Guard::Token(secret), act).await;
    let dead = kit.meta(id).await;
    assert_eq!((dead.failures, dead.crashes), (1, 1));
    assert_eq!(dead.finish_ms, kit.wall_ms());
    assert_eq!(dead.purge_ms, kit.wall_ms() + 1_000_000);
    let earlier = kit.put_one("mail").await;
    kit.advance(10);

    let act = Act::Requeue {
        failures: 0,
        delay_ms: 0,
        queue: None,
        body: Some(body("repaired")),
        keep: Some(kit::attempt(2, AttemptResult::Failed)),
    };
    assert_eq!(kit.done(id, TERMINAL, act.clone()).await, State::Ready);
    assert_eq!(kit.act(id, TERMINAL, act).await, Verdict::Conflict(State::Ready), "twice is once");
    let meta = kit.meta(id).await;
    assert_eq!((meta.failures, meta.crashes, meta.delivery), (0, 0, 2), "deliveries only rise");
    assert_eq!((meta.finish_ms, meta.purge_ms, meta.ready_ms), (0, 0, kit.wall_ms()));
    assert_eq!(kit.list("mail", State::Ready).await, [earlier, id]);
    assert_eq!(kit.list("mail", State::Dead).await, []);
    assert_eq!(kit.due_jobs().await, []);
    kit.lease("mail", earlier).await;
    let again = kit.lease("mail", id).await;
    assert_eq!(again.body.map(|Body { task, .. }| task), Some("repaired".into()));
    assert_eq!(again.last_failure.map(|failure| failure.message), Some("no".to_owned()));
    assert_eq!(again.meta.delivery, 3);
    kit.done(id, Guard::Token(again.secret), kit::finish(State::Succeeded)).await;
    let record = kit.record(id).await;
    assert_eq!(record.attempts.iter().map(|attempt| attempt.delivery).collect::<Vec<_>>(), [2]);
    assert!(record.outcome.is_none(), "the failure of an earlier attempt is not that of a success");
}

pub async fn retry_cuts_off_old_leases(kit: &mut Kit) {
    let (id, lost) = kit.running("mail").await;
    kit.advance(LEASE_MS);
    kit.done(id, Guard::Due(DueKind::Lease), kit::finish(State::Dead)).await;
    kit.done(id, TERMINAL, kit::requeue()).await;
    for act in [kit::extend(LEASE_MS), kit::finish(State::Succeeded)] {
        assert_eq!(kit.act(id, Guard::Token(lost), act).await, Verdict::Stale, "superseded by the retry");
    }
    // An outcome that was taken before is acknowledged again, as ever.
    let (id, settled) = {
        kit.lease("mail", id).await;
        kit.running("mail").await
    };
    kit.done(id, Guard::Token(settled), kit::finish(State::Dead)).await;
    kit.done(id, TERMINAL, kit::requeue()).await;
    let resent = kit.act(id, Guard::Token(settled), kit::finish(State::Dead)).await;
    assert_eq!(resent, Verdict::Already(State::Ready));
}

pub async fn retry_into_another_queue_later(kit: &mut Kit) {
    let (id, secret) = kit.running("mail").await;
    kit.done(id, Guard::Token(secret), kit::finish(State::Dead)).await;
    let act = Act::Requeue { failures: 19, delay_ms: 4_000, queue: Some(name("slow")), body: None, keep: None };
    assert_eq!(kit.done(id, TERMINAL, act).await, State::Scheduled);
    let meta = kit.meta(id).await;
    assert_eq!((meta.queue, meta.failures, meta.ready_ms), (name("slow"), 19, kit.wall_ms() + 4_000));
    assert_eq!(kit.facts("mail").await.counts, [0; 11]);
    assert_eq!(kit.list("slow", State::Scheduled).await, [id]);
    kit.advance(4_000);
    kit.done(id, Guard::Due(DueKind::Start), kit::ready()).await;
    kit.lease("slow", id).await;

    // What waits can be had at once.
    let waiting = kit.put_with("mail", |job| job.start = Start::In(50_000)).await;
    assert_eq!(kit.done(waiting, WAITING, kit::requeue()).await, State::Ready);
    kit.lease("mail", waiting).await;
    let running = kit.act(waiting, kit::ANY, kit::requeue()).await;
    assert_eq!(running, Verdict::Conflict(State::Running));
}

pub async fn patch_moves_waiting_jobs(kit: &mut Kit) {
    let a = kit.put_one("mail").await;
    let b = kit.put_one("mail").await;
    let c = kit.put_with("mail", |job| job.priority = 2).await;
    kit.advance(100);
    let with = |queue: Option<&str>, priority| Act::Patch {
        queue: queue.map(name),
        priority,
        start: None,
        body: None,
        content: None,
    };
    kit.done(a, WAITING, with(None, None)).await;
    kit.done(a, WAITING, with(Some("mail"), Some(0))).await;
    assert_eq!(kit.list("mail", State::Ready).await, [c, a, b], "what stays the same keeps its place");
    kit.done(b, WAITING, with(None, Some(4))).await;
    assert_eq!(kit.list("mail", State::Ready).await, [b, c, a]);
    kit.done(c, WAITING, with(None, Some(0))).await;
    assert_eq!(kit.list("mail", State::Ready).await, [b, a, c], "behind those that wait there");
    kit.done(b, WAITING, with(Some("fast"), None)).await;
    assert_eq!(kit.list("mail", State::Ready).await, [a, c]);
    let moved = kit.lease("fast", b).await;
    assert_eq!((moved.meta.queue, moved.meta.priority), (name("fast"), 4));
    assert_eq!(kit.act(b, kit::ANY, with(None, Some(1))).await, Verdict::Conflict(State::Running));

    let scheduled = kit.put_with("mail", |job| job.start = Start::In(5_000)).await;
    kit.done(scheduled, WAITING, with(Some("fast"), Some(-2))).await;
    assert_eq!(kit.list("fast", State::Scheduled).await, [scheduled]);
    assert_eq!(kit.next_in().await, Some(5_000));
}

pub async fn patch_changes_the_start(kit: &mut Kit) {
    let at = |start| Act::Patch { queue: None, priority: None, start: Some(start), body: None, content: None };
    let id = kit.put_one("mail").await;
    assert_eq!(kit.done(id, WAITING, at(Start::In(9_000))).await, State::Scheduled);
    assert_eq!(kit.next_in().await, Some(9_000));
    assert_eq!(kit.done(id, WAITING, at(Start::At(kit.wall_ms() + 4_000))).await, State::Scheduled);
    assert_eq!(kit.next_in().await, Some(4_000));
    let earlier = kit.put_one("mail").await;
    kit.advance(10);
    assert_eq!(kit.done(id, WAITING, at(Start::Now)).await, State::Ready);
    assert_eq!(kit.meta(id).await.ready_ms, kit.wall_ms());
    assert_eq!(kit.list("mail", State::Ready).await, [earlier, id]);
    assert_eq!(kit.done(earlier, WAITING, at(Start::Now)).await, State::Ready);
    assert_eq!(kit.list("mail", State::Ready).await, [earlier, id], "it was ready and stays where it is");

    kit.lease("mail", earlier).await;
    let secret = kit.lease("mail", id).await.secret;
    kit.done(id, Guard::Token(secret), kit::retry_in(60_000, 1)).await;
    assert_eq!(kit.done(id, WAITING, at(Start::In(1_000))).await, State::Retrying, "it is still a retry");
    assert_eq!(kit.meta(id).await.ready_ms, kit.wall_ms() + 1_000);
    assert_eq!(kit.done(id, WAITING, at(Start::In(-1))).await, State::Ready);
}

pub async fn patch_replaces_the_body(kit: &mut Kit) {
    let id = kit.put_with("mail", |job| job.body = body("short")).await;
    let act = Act::Patch {
        queue: None,
        priority: None,
        start: None,
        body: Some(body(&"long".repeat(100))),
        content: Some(99),
    };
    let before = kit.meta(id).await;
    kit.done(id, Guard::Version(before.version), act.clone()).await;
    assert_eq!(kit.act(id, Guard::Version(before.version), act).await, Verdict::Stale);
    let record = kit.find(id, Parts::BODY).await.expect("it is there");
    assert_eq!(record.meta.content, 99);
    assert_eq!(record.body.map(|Body { task, .. }| task.len()), Some(400));
    // The byte budget knows the new size.
    kit.put_one("mail").await;
    let mut claim = kit.claim_of("mail", 2);
    claim.bytes = 300;
    assert_eq!(kit.claim_as(claim).await.jobs.len(), 1);
}

pub async fn delete_forgets_everything(kit: &mut Kit) {
    let (running, secret) = kit.running("mail").await;
    let line = crate::model::job::LogLine {
        index: 0,
        time_ms: 1,
        level: 9,
        message: "hello".to_owned(),
        fields: Vec::new(),
        attempt: 1,
    };
    kit.store().log(running, vec![line], 10).await.expect("a line is taken");
    kit.done(running, Guard::Token(secret), kit::retry_in(50_000, 1)).await;
    let waiting = kit.put_one("mail").await;
    let ended = kit.put_one("mail").await;
    kit.done(ended, kit::ANY, kit::finish(State::Cancelled)).await;
    let (gone_running, gone_secret) = {
        kit.lease("mail", waiting).await;
        kit.running("mail").await
    };
    for id in [running, waiting, ended, gone_running] {
        let state = kit.state(id).await;
        assert_eq!(kit.done(id, kit::ANY, Act::Delete).await, state, "the state it was in");
        assert!(kit.find(id, Parts::ALL).await.is_none());
        assert_eq!(kit.act(id, kit::ANY, Act::Delete).await, Verdict::NotFound);
    }
    assert_eq!(kit.act(gone_running, Guard::Token(gone_secret), kit::extend(1)).await, Verdict::NotFound);
    assert_eq!(kit.facts("mail").await.counts, [0; 11]);
    assert_eq!(kit.next_in().await, None);
    assert!(kit.store().read_log(running, 0, 0, 10).await.expect("logs can be read").is_empty());

    // The id is free again, and nothing of the old job shows.
    let mut job = kit.job("mail");
    job.id = running;
    kit.put(vec![job]).await;
    let record = kit.record(running).await;
    assert_eq!((record.meta.delivery, record.meta.failures), (0, 0));
    assert!(record.outcome.is_none() && record.attempts.is_empty());
    assert!(kit.store().read_log(running, 0, 0, 10).await.expect("logs can be read").is_empty());
}

pub async fn versions_guard_changes(kit: &mut Kit) {
    let id = kit.put_one("mail").await;
    let mut seen = vec![kit.meta(id).await.version];
    let secret = kit.lease("mail", id).await.secret;
    seen.push(kit.meta(id).await.version);
    for (guard, act) in [
        (Guard::Token(secret), kit::started(LEASE_MS)),
        (Guard::Token(secret), kit::retry_in(9_000, 1)),
        (WAITING, kit::ready()),
        (WAITING, Act::Patch { queue: None, priority: Some(3), start: None, body: None, content: None }),
        (WAITING, kit::finish(State::Cancelled)),
        (TERMINAL, kit::requeue()),
    ] {
        let what = format!("{act:?}");
        kit.done(id, guard, act).await;
        let version = kit.meta(id).await.version;
        assert!(!seen.contains(&version), "{what} changes the version");
        for old in &seen {
            assert_eq!(kit.act(id, Guard::Version(*old), Act::Delete).await, Verdict::Stale);
        }
        seen.push(version);
    }
    kit.done(id, Guard::Version(*seen.last().expect("seen above")), Act::Delete).await;
}
