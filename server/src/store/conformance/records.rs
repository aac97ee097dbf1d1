//! Documents, logs, history, progress, checkpoints, effects.
use bytes::Bytes;

use super::kit::{self, Kit, LEASE_MS, failure, payload};
use crate::{
    model::{
        ids::Shard,
        job::{AttemptResult, LogLine, Outcome, Progress},
        limits::ATTEMPTS_KEPT,
        op::{Act, Doc, DocChange, Due, DueKind, Effect, Guard, NewJob, Put, Verdict},
        state::State,
    },
    store::{Cas, StoreError},
};

async fn write(kit: &Kit, key: &str, expect: u64, value: Option<&str>) -> Cas {
    let value = value.map(|value| Bytes::copy_from_slice(value.as_bytes()));
    kit.store().doc(Shard(0), key.to_owned(), expect, value).await.expect("the store keeps documents")
}

fn version(cas: Cas) -> u64 {
    match cas {
        Cas::Done { version } => version,
        Cas::Conflict(there) => panic!("there is {there:?}"),
    }
}

pub async fn documents_compare_and_swap(kit: &mut Kit) {
    assert_eq!(write(kit, "a/1", 3, Some("x")).await, Cas::Conflict(None));
    let first = version(write(kit, "a/1", 0, Some("x")).await);
    assert!(first >= 1);
    let there = Doc { version: first, due_ms: 0, value: "x".into() };
    assert_eq!(write(kit, "a/1", 0, Some("y")).await, Cas::Conflict(Some(there.clone())), "it is there");
    assert_eq!(write(kit, "a/1", first + 1, None).await, Cas::Conflict(Some(there)));
    let second = version(write(kit, "a/1", first, Some("y")).await);
    assert!(second > first);
    for key in ["a/3", "a/2", "b", "a"] {
        version(write(kit, key, 0, Some(key)).await);
    }
    let docs = kit.store().docs(Shard(0), "a/").await.expect("the store keeps documents");
    let keys: Vec<&str> = docs.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["a/1", "a/2", "a/3"]);
    assert_eq!(docs[0].1, Doc { version: second, due_ms: 0, value: "y".into() });
    assert_eq!(kit.store().docs(Shard(0), "").await.expect("all of them").len(), 5);

    assert_eq!(write(kit, "a/1", second, None).await, Cas::Done { version: 0 });
    assert_eq!(write(kit, "a/1", second, None).await, Cas::Conflict(None), "once");
    assert_eq!(write(kit, "a/1", 0, None).await, Cas::Done { version: 0 }, "absent as expected");
    kit.reopen().await;
    let third = version(write(kit, "a/1", 0, Some("z")).await);
    assert!(third > second, "a version never comes back");
}

/// Writes a document that is due at `due_ms` (0 = never), with jobs.
async fn timed(kit: &Kit, key: &str, expect: u64, due_ms: i64, jobs: Vec<NewJob>) -> Cas {
    let effects = jobs.into_iter().map(Effect::Put).collect();
    let change = DocChange { key: key.to_owned(), expect, value: Some("v".into()), due_ms, effects };
    kit.store().change_docs(Shard(0), vec![change]).await.expect("the store keeps documents").remove(0)
}

async fn due_docs(kit: &Kit) -> Vec<(String, i64)> {
    let due = kit.due(usize::MAX).await.entries.into_iter().filter_map(|entry| match entry {
        Due::Doc { key, doc } => Some((key, doc.due_ms)),
        Due::Job { .. } | Due::QueueOpens(_) => None,
    });
    due.collect()
}

pub async fn documents_become_due(kit: &mut Kit) {
    let now_ms = kit.wall_ms();
    let first = version(timed(kit, "a", 0, now_ms + 1_000, Vec::new()).await);
    let other = version(timed(kit, "b", 0, now_ms + 2_000, Vec::new()).await);
    version(timed(kit, "c", 0, 0, Vec::new()).await);
    assert_eq!(due_docs(kit).await, []);
    assert_eq!(kit.next_in().await, Some(1_000));
    let there = Doc { version: first, due_ms: now_ms + 1_000, value: "v".into() };
    assert_eq!(timed(kit, "a", 0, 5, Vec::new()).await, Cas::Conflict(Some(there.clone())));
    assert_eq!(kit.store().docs(Shard(0), "a").await.expect("it reads"), [("a".to_owned(), there)]);
    kit.reopen().await;
    kit.advance(1_000);
    assert_eq!(due_docs(kit).await, [("a".to_owned(), now_ms + 1_000)]);
    assert_eq!(due_docs(kit).await, [("a".to_owned(), now_ms + 1_000)], "until it is changed");
    assert_eq!(kit.next_in().await, Some(1_000));
    // Later, sooner, never, gone.
    let second = version(timed(kit, "a", first, now_ms + 5_000, Vec::new()).await);
    assert_eq!((due_docs(kit).await, kit.next_in().await), (vec![], Some(1_000)));
    kit.advance(1_000);
    assert_eq!(due_docs(kit).await, [("b".to_owned(), now_ms + 2_000)]);
    let third = version(timed(kit, "a", second, now_ms, Vec::new()).await);
    assert_eq!(due_docs(kit).await.len(), 2);
    version(timed(kit, "a", third, 0, Vec::new()).await);
    version(write(kit, "b", other, None).await);
    assert_eq!((due_docs(kit).await, kit.next_in().await), (vec![], None));
}

pub async fn a_document_and_its_jobs_are_written_together(kit: &mut Kit) {
    let (job, late) = (kit.job("mail"), kit.job("mail"));
    assert_eq!(timed(kit, "a", 7, 0, vec![job.clone()]).await, Cas::Conflict(None));
    assert!(kit.find(job.id, Default::default()).await.is_none(), "what is refused has no effects");
    let first = version(timed(kit, "a", 0, 0, vec![job.clone(), job.clone()]).await);
    assert_eq!(kit.list("mail", State::Ready).await, [job.id]);
    // Who comes second, with the same job or another, changes nothing.
    assert!(matches!(timed(kit, "a", 0, 0, vec![late.clone()]).await, Cas::Conflict(Some(_))));
    version(timed(kit, "a", first, 0, vec![job.clone()]).await);
    assert_eq!(kit.list("mail", State::Ready).await, [job.id]);
    kit.reopen().await;
    assert_eq!(kit.list("mail", State::Ready).await, [job.id]);
}

fn line(message: &str, level: u8) -> LogLine {
    LogLine {
        index: 77,
        time_ms: 5,
        level,
        message: message.to_owned(),
        fields: vec![("k".to_owned(), "v".to_owned())],
        attempt: 1,
    }
}

async fn read(kit: &Kit, id: crate::model::ids::JobId, after: u64, level: u8, limit: usize) -> Vec<(u64, String)> {
    let lines = kit.store().read_log(id, after, level, limit).await.expect("logs can be read");
    lines.into_iter().map(|line| (line.index, line.message)).collect()
}

pub async fn logs_are_numbered_and_trimmed(kit: &mut Kit) {
    let id = kit.put_one("mail").await;
    let log = async |kit: &Kit, lines: Vec<LogLine>, keep| {
        kit.store().log(id, lines, keep).await.expect("lines are taken");
    };
    assert!(read(kit, id, 0, 0, 9).await.is_empty());
    log(kit, vec![], 9).await;
    log(kit, vec![line("a", 9), line("b", 17)], 9).await;
    log(kit, vec![line("c", 5)], 9).await;
    let all = |lines: &[(u64, &str)]| -> Vec<(u64, String)> {
        lines.iter().map(|(index, message)| (*index, (*message).to_owned())).collect()
    };
    assert_eq!(read(kit, id, 0, 0, 9).await, all(&[(1, "a"), (2, "b"), (3, "c")]));
    assert_eq!(read(kit, id, 1, 0, 9).await, all(&[(2, "b"), (3, "c")]));
    assert_eq!(read(kit, id, 0, 9, 9).await, all(&[(1, "a"), (2, "b")]));
    assert_eq!(read(kit, id, 0, 0, 1).await, all(&[(1, "a")]));
    assert!(read(kit, id, u64::MAX, 0, 9).await.is_empty());
    let whole = kit.store().read_log(id, 0, 17, 9).await.expect("logs can be read").remove(0);
    assert_eq!(whole, LogLine { index: 2, ..line("b", 17) });
    log(kit, vec![line("d", 9), line("e", 9)], 3).await;
    assert_eq!(read(kit, id, 0, 0, 9).await, all(&[(3, "c"), (4, "d"), (5, "e")]));
    log(kit, ["f", "g", "h", "i"].map(|text| line(text, 9)).to_vec(), 2).await;
    assert_eq!(read(kit, id, 0, 0, 9).await, all(&[(8, "h"), (9, "i")]), "more at once than are kept");
    kit.reopen().await;
    log(kit, vec![line("j", 9)], 2).await;
    assert_eq!(read(kit, id, 0, 0, 9).await, all(&[(9, "i"), (10, "j")]));
    let nobody = kit.id();
    kit.store().log(nobody, vec![line("x", 9)], 9).await.expect("lines of a job that is gone are dropped");
    assert!(read(kit, nobody, 0, 0, 9).await.is_empty());
}

pub async fn history_is_bounded_and_newest_first(kit: &mut Kit) {
    let id = kit.put_one("mail").await;
    let rounds = ATTEMPTS_KEPT + 3;
    for delivery in 1..=rounds {
        let secret = kit.lease("mail", id).await.secret;
        kit.done(id, Guard::Token(secret), kit::retry_in(0, delivery)).await;
        kit.done(id, Guard::Due(DueKind::Start), kit::ready()).await;
    }
    let deliveries = |record: &crate::model::job::Record| -> Vec<u32> {
        record.attempts.iter().map(|attempt| attempt.delivery).collect()
    };
    let record = kit.record(id).await;
    assert_eq!(deliveries(&record), (4..=rounds).rev().collect::<Vec<_>>());
    assert_eq!(record.meta.failures, rounds);
    assert_eq!(record.outcome.and_then(|outcome| outcome.failure), Some(failure("boom")));

    let secret = kit.lease("mail", id).await.secret;
    let last = Some(kit::attempt(rounds + 1, AttemptResult::Succeeded));
    let outcome = Outcome { result: Some(payload("42")), failure: None, last: last.clone() };
    let act = Act::Finish { to: State::Succeeded, outcome, retain_ms: 0, effects: Vec::new() };
    kit.done(id, Guard::Token(secret), act).await;
    let record = kit.record(id).await;
    assert_eq!(deliveries(&record), (5..=rounds + 1).rev().collect::<Vec<_>>(), "the last one is among them");
    assert_eq!(record.attempts.first(), last.as_ref());
    let outcome = record.outcome.expect("it succeeded with a result");
    assert_eq!((outcome.result, outcome.failure), (Some(payload("42")), None));
}

pub async fn a_snooze_keeps_the_failure(kit: &mut Kit) {
    let (id, secret) = kit.running("mail").await;
    kit.done(id, Guard::Token(secret), kit::retry_in(0, 1)).await;
    let snoozed = Outcome { last: Some(kit::attempt(2, AttemptResult::Snoozed)), ..Outcome::default() };
    for (outcome, attempts) in [(Some(snoozed), 2), (None, 2)] {
        kit.done(id, Guard::Due(DueKind::Start), kit::ready()).await;
        let leased = kit.lease("mail", id).await;
        assert_eq!(leased.last_failure, Some(failure("boom")));
        let act = Act::Later {
            to: State::Scheduled,
            delay_ms: 0,
            counts: false,
            outcome,
            checkpoint: None,
            throttle: None,
            effects: Vec::new(),
        };
        kit.done(id, Guard::Token(leased.secret), act).await;
        let record = kit.record(id).await;
        assert_eq!(record.outcome.and_then(|outcome| outcome.failure), Some(failure("boom")));
        assert_eq!(record.attempts.len(), attempts);
    }
    // Ending it without a word of its own keeps it, too.
    kit.done(id, kit::ANY, kit::finish(State::Cancelled)).await;
    let record = kit.record(id).await;
    assert_eq!(record.outcome.and_then(|outcome| outcome.failure), Some(failure("boom")));
}

pub async fn progress_and_checkpoint_replace(kit: &mut Kit) {
    let (id, secret) = kit.running("mail").await;
    let percent = |percent| Progress { percent: Some(percent), ..Progress::default() };
    let report = |progress: Option<f64>, checkpoint: Option<&str>| Act::Extend {
        lease_ms: LEASE_MS,
        started: true,
        progress: progress.map(percent),
        checkpoint: checkpoint.map(payload),
    };
    for (act, progress, checkpoint) in [
        (report(Some(10.0), None), Some(10.0), None),
        (report(None, Some("a")), Some(10.0), Some("a")),
        (report(Some(90.0), Some("b")), Some(90.0), Some("b")),
        (report(None, None), Some(90.0), Some("b")),
    ] {
        kit.done(id, Guard::Token(secret), act).await;
        let record = kit.record(id).await;
        assert_eq!((record.progress, record.checkpoint), (progress.map(percent), checkpoint.map(payload)));
    }
    kit.done(id, Guard::Token(secret), kit::give_back()).await;
    let leased = kit.lease("mail", id).await;
    assert_eq!(leased.checkpoint, Some(payload("b")), "the next attempt goes on from there");
}

pub async fn effects_are_recorded_once(kit: &mut Kit) {
    let (id, secret) = kit.running("mail").await;
    let child = kit.job("child");
    let known = kit.job("child");
    kit.put(vec![known.clone()]).await;
    let mut changed = known.clone();
    changed.content += 1;
    let effects = vec![Effect::Put(child.clone()), Effect::Put(changed), Effect::Put(child.clone())];
    let act = Act::Finish { to: State::Succeeded, outcome: Outcome::default(), retain_ms: 0, effects };
    assert_eq!(kit.act(id, Guard::Token(secret ^ 1), act.clone()).await, Verdict::Stale);
    assert!(kit.find(child.id, Default::default()).await.is_none(), "what is refused has no effects");
    kit.done(id, Guard::Token(secret), act.clone()).await;
    assert_eq!(kit.list("child", State::Ready).await, [known.id, child.id]);
    assert_eq!(kit.meta(known.id).await.content, known.content);
    assert_eq!(kit.act(id, Guard::Token(secret), act).await, Verdict::Already(State::Succeeded));
    let answers = kit.put(vec![child]).await;
    assert!(matches!(answers[..], [Put::Exists { same: true, .. }]), "{answers:?}");

    let (id, secret) = kit.running("mail").await;
    let other = kit.job("child");
    let act = Act::Later {
        to: State::Retrying,
        delay_ms: 1,
        counts: true,
        outcome: None,
        checkpoint: None,
        throttle: None,
        effects: vec![Effect::Put(other.clone())],
    };
    kit.done(id, Guard::Token(secret), act).await;
    assert_eq!(kit.state(other.id).await, State::Ready);
}

pub async fn a_closed_store_says_so(kit: &mut Kit) {
    let id = kit.put_one("mail").await;
    let store = kit.store();
    store.close().await;
    let job = kit.job("mail");
    assert!(matches!(store.put(Shard(0), vec![job]).await, Err(StoreError::Closed)));
    assert!(matches!(store.get(&[id], Default::default()).await, Err(StoreError::Closed)));
    assert!(matches!(store.due(Shard(0), 9).await, Err(StoreError::Closed)));
    assert!(matches!(store.recount().await, Err(StoreError::Closed)));
}
