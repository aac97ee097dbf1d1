//! Queues: pauses, counters, wakes, lists.
//!
//! I18.
use super::kit::{self, Kit, LEASE_MS, drain, name};
use crate::model::{
    ids::JobId,
    job::Start,
    op::{Due, DueKind, Guard, ListQuery, Wake},
    queue::{Pause, QueueChange},
    state::{State, StateSet},
};

fn pause(kit: &Kit, lasts_ms: Option<i64>) -> QueueChange {
    let now = kit.wall_ms();
    QueueChange::Pause(Pause {
        reason: "repairs".to_owned(),
        actor: "ann".to_owned(),
        pause_ms: now,
        resume_ms: lasts_ms.map(|ms| now + ms),
    })
}

async fn set(kit: &Kit, queue: &str, change: QueueChange) -> crate::model::queue::QueueFacts {
    kit.store().set_queue(name(queue), change).await.expect("a queue can be changed")
}

pub async fn a_paused_queue_hands_out_nothing(kit: &mut Kit) {
    let id = kit.put_one("mail").await;
    let (running, secret) = kit.running("other").await;
    let facts = set(kit, "mail", pause(kit, None)).await;
    assert_eq!(facts.pause.as_ref().map(|pause| pause.reason.as_str()), Some("repairs"));
    assert_eq!(kit.facts("mail").await, facts);
    let claim = kit.claim_of("mail", 5);
    let claimed = kit.claim_as(claim).await;
    assert!(claimed.jobs.is_empty() && !claimed.more);
    // Everything else goes on.
    kit.put_one("mail").await;
    set(kit, "other", pause(kit, None)).await;
    kit.done(running, Guard::Token(secret), kit::extend(LEASE_MS)).await;
    kit.done(running, Guard::Token(secret), kit::finish(State::Succeeded)).await;
    // It outlives the process.
    kit.reopen().await;
    assert!(kit.claim("mail", 5).await.is_empty());
    let facts = set(kit, "mail", QueueChange::ResumeIfDue).await;
    assert!(facts.pause.is_some(), "this pause has no end of its own");
    let facts = set(kit, "mail", QueueChange::Resume).await;
    assert_eq!(facts.pause, None);
    kit.lease("mail", id).await;
    let made = set(kit, "made", pause(kit, None)).await;
    assert_eq!(made.counts, [0; 11]);
    let all = kit.store().queues(None).await.expect("the store knows queues");
    assert_eq!(all.iter().map(|queue| queue.name.as_str()).collect::<Vec<_>>(), ["made", "mail", "other"]);
}

pub async fn pauses_end_by_themselves(kit: &mut Kit) {
    kit.put_one("mail").await;
    set(kit, "mail", pause(kit, Some(5_000))).await;
    assert_eq!(kit.next_in().await, Some(5_000));
    kit.advance(4_999);
    assert!(set(kit, "mail", QueueChange::ResumeIfDue).await.pause.is_some());
    assert!(kit.due(9).await.entries.is_empty());
    kit.advance(1);
    let due = kit.due(9).await;
    assert!(matches!(&due.entries[..], [Due::QueueOpens(queue)] if queue.as_str() == "mail"), "{due:?}");
    assert!(set(kit, "mail", QueueChange::ResumeIfDue).await.pause.is_none());
    assert_eq!(kit.next_in().await, None);
    assert_eq!(kit.claim("mail", 5).await.len(), 1);
    // Pausing again replaces the end.
    set(kit, "mail", pause(kit, Some(5_000))).await;
    set(kit, "mail", pause(kit, Some(9_000))).await;
    assert_eq!(kit.due(9).await.next_in_ms.map(|ms| ms.min(9_000)), Some(9_000));
    set(kit, "mail", pause(kit, None)).await;
    kit.advance(LEASE_MS);
    assert!(!kit.due(9).await.entries.iter().any(|entry| matches!(entry, Due::QueueOpens(_))));
}

pub async fn facts_are_exact(kit: &mut Kit) {
    let count = |states: &[(State, u64)]| {
        let mut counts = [0; 11];
        for (state, n) in states {
            counts[*state as usize] = *n;
        }
        counts
    };
    let ids: Vec<JobId> = {
        let jobs = kit.jobs("mail", 6);
        let ids = jobs.iter().map(|job| job.id).collect();
        kit.put(jobs).await;
        ids
    };
    let first = kit.wall_ms();
    kit.advance(500);
    kit.put_with("mail", |job| job.start = Start::In(9_000)).await;
    kit.put_with("mail", |job| job.priority = 4).await;
    let facts = kit.facts("mail").await;
    assert_eq!(facts.counts, count(&[(State::Ready, 7), (State::Scheduled, 1)]));
    assert_eq!(facts.oldest_ready_ms, Some(first));
    let leased = kit.claim("mail", 5).await;
    assert_eq!(leased.len(), 5);
    let secret = |id: JobId| leased.iter().find(|job| job.meta.id == id).expect("it was leased").secret;
    kit.done(ids[0], Guard::Token(secret(ids[0])), kit::finish(State::Succeeded)).await;
    kit.done(ids[1], Guard::Token(secret(ids[1])), kit::finish(State::Dead)).await;
    kit.done(ids[2], Guard::Token(secret(ids[2])), kit::retry_in(800, 1)).await;
    let facts = kit.facts("mail").await;
    let expected = [
        (State::Ready, 2),
        (State::Scheduled, 1),
        (State::Running, 2),
        (State::Retrying, 1),
        (State::Succeeded, 1),
        (State::Dead, 1),
    ];
    assert_eq!(facts.counts, count(&expected));
    assert_eq!((facts.finished(), facts.count(State::Dead)), (1, 1));
    kit.claim("mail", 9).await;
    assert_eq!(kit.facts("mail").await.oldest_ready_ms, None);
    assert_eq!(kit.facts("mail").await.count(State::Ready), 0);
    // The front of a line counts as well as its end.
    let old = kit.put_one("line").await;
    let since = kit.wall_ms();
    let secret = kit.lease("line", old).await.secret;
    kit.put_one("line").await;
    kit.advance(50);
    kit.done(old, Guard::Token(secret), kit::give_back()).await;
    assert_eq!(kit.facts("line").await.oldest_ready_ms, Some(since));
}

async fn ready(kit: &Kit, wakes: &mut tokio::sync::broadcast::Receiver<Wake>, queue: &str) -> usize {
    drain(kit, wakes).await.into_iter().filter(|wake| *wake == Wake::Ready(name(queue))).count()
}

pub async fn wakes_on_the_edge_only(kit: &mut Kit) {
    let mut wakes = kit.store().watch();
    let a = kit.put_one("mail").await;
    assert_eq!(ready(kit, &mut wakes, "mail").await, 1, "there was nothing and now there is");
    kit.put_one("mail").await;
    let jobs = kit.jobs("mail", 3);
    kit.put(jobs).await;
    assert_eq!(ready(kit, &mut wakes, "mail").await, 0, "there was something");
    assert_eq!(kit.claim("mail", 5).await.len(), 5);
    assert_eq!(ready(kit, &mut wakes, "mail").await, 0);
    let jobs = kit.jobs("mail", 3);
    kit.put(jobs).await;
    assert_eq!(ready(kit, &mut wakes, "mail").await, 1, "one call, one wake");
    kit.claim("mail", 9).await;
    kit.advance(LEASE_MS);
    kit.done(a, Guard::Due(DueKind::Lease), kit::give_back()).await;
    assert_eq!(ready(kit, &mut wakes, "mail").await, 1, "given back to an empty queue");
    kit.done(a, Guard::In(StateSet::WAITING), kit::finish(State::Cancelled)).await;
    kit.put_one("mail").await;
    assert_eq!(ready(kit, &mut wakes, "mail").await, 1, "what waited went another way");

    // A claim that found nothing it could take has the next one announced, whatever stands in line.
    let at = kit.wall_ms() + 10;
    kit.put_with("old", |job| job.expire_ms = at).await;
    kit.advance(10);
    assert!(kit.claim("old", 1).await.is_empty());
    ready(kit, &mut wakes, "old").await;
    kit.put_one("old").await;
    assert_eq!(ready(kit, &mut wakes, "old").await, 1);

    // Promotion is an arrival like any other.
    let late = kit.put_with("slow", |job| job.start = Start::In(100)).await;
    assert_eq!(ready(kit, &mut wakes, "slow").await, 0);
    kit.advance(100);
    kit.done(late, Guard::Due(DueKind::Start), kit::ready()).await;
    assert_eq!(ready(kit, &mut wakes, "slow").await, 1);

    // A closed queue is silent until it opens.
    set(kit, "shut", pause(kit, None)).await;
    assert!(drain(kit, &mut wakes).await.contains(&Wake::Queue(name("shut"))));
    kit.put_one("shut").await;
    assert_eq!(ready(kit, &mut wakes, "shut").await, 0);
    set(kit, "shut", QueueChange::Resume).await;
    let raised = drain(kit, &mut wakes).await;
    assert!(raised.contains(&Wake::Queue(name("shut"))) && raised.contains(&Wake::Ready(name("shut"))), "{raised:?}");
    set(kit, "shut", QueueChange::Resume).await;
    assert_eq!(drain(kit, &mut wakes).await, [], "nothing changed");
    set(kit, "empty", pause(kit, None)).await;
    drain(kit, &mut wakes).await;
    set(kit, "empty", QueueChange::Resume).await;
    assert_eq!(ready(kit, &mut wakes, "empty").await, 0);
}

async fn pages(kit: &Kit, state: State, size: usize) -> Vec<JobId> {
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let query = ListQuery { queue: name("mail"), state, after, limit: size };
        let page = kit.store().list(query).await.expect("the store lists");
        all.extend(page.iter().map(|meta| meta.id));
        match page.last() {
            Some(last) if page.len() == size => after = Some(last.place()),
            _ => return all,
        }
    }
}

pub async fn lists_page_without_gaps(kit: &mut Kit) {
    let mut ready = Vec::new();
    for i in 0..12i8 {
        let priority = i % 3 - 1;
        let id = kit.put_with("mail", |job| job.priority = priority).await;
        ready.push((-priority, i, id));
    }
    ready.sort();
    let ready: Vec<JobId> = ready.into_iter().map(|(_, _, id)| id).collect();
    let mut scheduled = Vec::new();
    for i in 0..10 {
        let at = 1_000 * (i % 3) + 1_000;
        scheduled.push((at, i, kit.put_with("mail", |job| job.start = Start::In(at)).await));
    }
    scheduled.sort();
    let scheduled: Vec<JobId> = scheduled.into_iter().map(|(_, _, id)| id).collect();
    for size in [1, 2, 3, 5, 100] {
        assert_eq!(pages(kit, State::Ready, size).await, ready, "pages of {size}");
        assert_eq!(pages(kit, State::Scheduled, size).await, scheduled, "pages of {size}");
    }
    let mut ended = Vec::new();
    for (i, id) in ready.iter().enumerate() {
        kit.done(*id, kit::ANY, kit::finish(State::Cancelled)).await;
        kit.advance(i as i64 % 2);
        ended.insert(0, *id);
    }
    for size in [1, 2, 5, 100] {
        assert_eq!(pages(kit, State::Cancelled, size).await, ended, "the newest come first, pages of {size}");
    }
    // A page goes on where it was, even when the job it ended with has gone.
    let query = |after| ListQuery { queue: name("mail"), state: State::Cancelled, after, limit: 4 };
    let first = kit.store().list(query(None)).await.expect("the store lists");
    kit.done(ended[3], kit::ANY, crate::model::op::Act::Delete).await;
    let next = kit.store().list(query(first.last().map(|meta| meta.place()))).await.expect("the store lists");
    assert_eq!(next.iter().map(|meta| meta.id).collect::<Vec<_>>(), ended[4..8]);
    assert!(kit.list("nowhere", State::Ready).await.is_empty());
}
