//! Configured queues: what is set stays set, and the store holds the queue to it.
use super::kit::{self, Kit, LEASE_MS, drain, finish, name};
use crate::model::{
    job::{Outcome, Parts, Start},
    op::{Act, Due, DueKind, Guard, NewJob, Put, Wake},
    policy::{Defaults, TOMBSTONE_MS},
    queue::{Bounds, QueueChange, QueueConfig, QueueFacts, Rate},
    state::State,
};

fn finish_for(to: State, retain_ms: i64) -> Act {
    Act::Finish { to, outcome: Outcome::default(), retain_ms, effects: Vec::new() }
}

async fn configure(kit: &Kit, expect: u64, config: QueueConfig) -> QueueFacts {
    let change = QueueChange::Configure(expect, Some(Box::new(config)));
    kit.store().set_queue(name("mail"), change).await.expect("a queue can be configured")
}

async fn bound(kit: &Kit, bounds: Bounds) {
    let version =
        kit.store().queues(Some(&[name("mail")])).await.expect("it can be read").first().map_or(0, |q| q.version());
    let facts = configure(kit, version, QueueConfig { bounds, ..QueueConfig::default() }).await;
    assert_eq!(facts.version(), version + 1);
}

/// Jobs that a claim of so many gets, whether it says that there are more, and when the rate opens.
async fn claimed(kit: &mut Kit, want: usize) -> (usize, bool, Option<i64>) {
    let claim = kit.claim_of("mail", want);
    let claimed = kit.claim_as(claim).await;
    (claimed.jobs.len(), claimed.more, claimed.opens_in_ms)
}

pub async fn a_configuration_stays_until_the_next(kit: &mut Kit) {
    let first = QueueConfig { note: "ours".to_owned(), ..QueueConfig::default() };
    let mut wakes = kit.store().watch();
    let facts = configure(kit, 0, first.clone()).await;
    assert_eq!((facts.version(), facts.is_configured(Some(&first))), (1, true));
    let raised = drain(kit, &mut wakes).await;
    assert!(raised.contains(&Wake::Queue(name("mail"))), "{raised:?}");
    let defaults = Defaults { timeout_ms: Some(5_000), ..Defaults::default() };
    let second = QueueConfig { defaults, ..first.clone() };
    let facts = configure(kit, 0, second.clone()).await;
    assert!(facts.version() == 1 && facts.is_configured(Some(&first)), "decided on what is gone: {facts:?}");
    configure(kit, 1, second.clone()).await;
    kit.reopen().await;
    let facts = kit.facts("mail").await;
    assert_eq!((facts.version(), facts.is_configured(Some(&second))), (2, true));
    assert_eq!(kit.store().configs().await.expect("they can be read"), [(name("mail"), second)]);
    let facts =
        kit.store().set_queue(name("mail"), QueueChange::Configure(2, None)).await.expect("it can be forgotten");
    assert_eq!((facts.version(), facts.config), (0, None));
    assert_eq!(kit.store().configs().await.expect("they can be read"), []);
}

pub async fn no_more_run_than_may(kit: &mut Kit) {
    bound(kit, Bounds { max_running: 2, ..Bounds::default() }).await;
    let jobs = kit.jobs("mail", 5);
    kit.put(jobs).await;
    let claim = kit.claim_of("mail", 4);
    let first = kit.claim_as(claim).await;
    assert_eq!((first.jobs.len(), first.more, first.opens_in_ms), (2, false, None));
    assert_eq!(claimed(kit, 4).await, (0, false, None));
    // A renewal frees nothing; an end does, and says so.
    let mut wakes = kit.store().watch();
    let (id, secret) = (first.jobs[0].meta.id, first.jobs[0].secret);
    kit.done(id, Guard::Token(secret), kit::extend(LEASE_MS)).await;
    let raised = drain(kit, &mut wakes).await;
    assert!(!raised.iter().any(|wake| matches!(wake, Wake::Ready(_))), "{raised:?}");
    kit.done(id, Guard::Token(secret), finish(State::Succeeded)).await;
    let raised = drain(kit, &mut wakes).await;
    assert_eq!(raised.iter().filter(|wake| matches!(wake, Wake::Ready(_))).count(), 1, "{raised:?}");
    assert_eq!(claimed(kit, 4).await, (1, false, None));
    // So does a lease that runs out.
    kit.advance(LEASE_MS);
    let due: Vec<_> = kit.due_jobs().await.into_iter().filter(|(kind, _)| *kind == DueKind::Lease).collect();
    assert_eq!(due.len(), 2);
    kit.done(due[0].1, Guard::Due(DueKind::Lease), kit::crashed()).await;
    let raised = drain(kit, &mut wakes).await;
    assert!(raised.contains(&Wake::Ready(name("mail"))), "{raised:?}");
    assert_eq!(claimed(kit, 4).await, (1, false, None));
    // Another number is in force at once, and takes nothing away.
    bound(kit, Bounds { max_running: 1, ..Bounds::default() }).await;
    assert_eq!(claimed(kit, 4).await, (0, false, None));
    bound(kit, Bounds { max_running: 3, ..Bounds::default() }).await;
    let raised = drain(kit, &mut wakes).await;
    assert!(raised.contains(&Wake::Ready(name("mail"))), "{raised:?}");
    assert_eq!(claimed(kit, 4).await, (1, false, None));
    assert_eq!(kit.facts("mail").await.count(State::Running), 3);
    bound(kit, Bounds::default()).await;
    assert_eq!(claimed(kit, 4).await, (1, false, None));
}

pub async fn starts_keep_to_the_rate(kit: &mut Kit) {
    let rate = Rate { max: 10, per_ms: 1_000, burst: 2 };
    bound(kit, Bounds { rate: Some(rate), ..Bounds::default() }).await;
    let jobs = kit.jobs("mail", 20);
    kit.put(jobs).await;
    assert_eq!(claimed(kit, 5).await, (2, false, Some(100)));
    kit.advance(99);
    assert_eq!(claimed(kit, 5).await, (0, false, Some(1)));
    kit.advance(1);
    assert_eq!(claimed(kit, 2).await, (1, false, Some(100)));
    // What is not used is kept up to the burst.
    kit.advance(60_000);
    assert_eq!(claimed(kit, 5).await, (2, false, Some(100)));
    // A job that comes back has spent its start.
    kit.advance(100);
    let claim = kit.claim_of("mail", 1);
    let job = kit.claim_as(claim).await.jobs.remove(0);
    kit.done(job.meta.id, Guard::Token(job.secret), kit::give_back()).await;
    assert_eq!(claimed(kit, 1).await, (0, false, Some(100)));
    // No more after a restart than without one.
    kit.reopen().await;
    let (jobs, more, opens) = claimed(kit, 5).await;
    assert!(jobs == 0 && !more && opens.is_some_and(|ms| ms > 0 && ms <= 100), "{jobs} {opens:?}");
    // An empty queue waits for nothing.
    bound(kit, Bounds { rate: Some(Rate { max: 1_000, per_ms: 1, burst: 1_000 }), ..Bounds::default() }).await;
    kit.advance(10);
    let (_, more, opens) = claimed(kit, 100).await;
    assert_eq!((more, opens), (false, None));
    assert_eq!(kit.facts("mail").await.count(State::Ready), 0);
}

pub async fn a_full_queue_takes_no_more(kit: &mut Kit) {
    bound(kit, Bounds { max_depth: 2, ..Bounds::default() }).await;
    let later = NewJob { start: Start::In(9_000), ..kit.job("mail") };
    let now = kit.job("mail");
    let third = kit.job("mail");
    let answers = kit.put(vec![later, now.clone(), third.clone()]).await;
    let created = |put: &Put| matches!(put, Put::Created { .. });
    assert!(created(&answers[0]) && created(&answers[1]), "{answers:?}");
    assert_eq!(answers[2], Put::QueueFull);
    assert!(kit.find(third.id, Parts::META).await.is_none());
    // A repeat is no newcomer, and work that goes on is never refused.
    assert!(matches!(kit.put(vec![now]).await[..], [Put::Exists { same: true, .. }]));
    let going_on = NewJob { overshoots: true, ..kit.job("mail") };
    assert!(created(&kit.put(vec![going_on]).await[0]));
    assert_eq!(kit.put(vec![third.clone()]).await, [Put::QueueFull]);
    // What has been handed out waits no more.
    let leased = kit.claim("mail", 2).await;
    assert_eq!(leased.len(), 2);
    assert!(created(&kit.put(vec![third.clone()]).await[0]));
    let more = kit.job("mail");
    assert_eq!(kit.put(vec![more]).await, [Put::QueueFull]);
    kit.done(leased[0].meta.id, Guard::Token(leased[0].secret), kit::retry_in(800, 1)).await;
    assert_eq!(kit.facts("mail").await.count(State::Retrying), 1);
    bound(kit, Bounds { max_depth: 4, ..Bounds::default() }).await;
    let (fourth, fifth) = (kit.job("mail"), kit.job("mail"));
    let answers = kit.put(vec![fourth, fifth]).await;
    assert!(created(&answers[0]) && answers[1] == Put::QueueFull, "{answers:?}");
}

pub async fn as_many_ended_ones_are_kept_as_may(kit: &mut Kit) {
    let mut ended = Vec::new();
    for _ in 0..4 {
        let id = kit.put_one("mail").await;
        kit.done(id, kit::ANY, finish_for(State::Succeeded, i64::MAX / 4)).await;
        kit.advance(10);
        ended.push(id);
    }
    let dead = kit.put_one("mail").await;
    kit.done(dead, kit::ANY, finish_for(State::Dead, i64::MAX / 4)).await;
    kit.advance(TOMBSTONE_MS);
    assert_eq!(kit.due_jobs().await, []);
    bound(kit, Bounds { max_finished: 1, max_dead: -1, ..Bounds::default() }).await;
    let expected: Vec<_> = ended[..3].iter().map(|id| (DueKind::Trim, *id)).collect();
    assert_eq!(kit.due_jobs().await, expected, "the newest stays");
    kit.done(ended[0], Guard::Due(DueKind::Trim), Act::Delete).await;
    bound(kit, Bounds { max_finished: 3, ..Bounds::default() }).await;
    let due = kit.due(9).await;
    assert!(!due.entries.iter().any(|entry| matches!(entry, Due::Job { .. })), "{due:?}");
    // One more is one too many.
    let last = kit.put_one("mail").await;
    kit.done(last, kit::ANY, finish_for(State::Succeeded, i64::MAX / 4)).await;
    assert_eq!(kit.due_jobs().await, [(DueKind::Trim, ended[1])]);
}
