//! Fairness keys: who goes next, what each key is held to, and what a throttle holds back.
use std::collections::HashMap;

use super::kit::{self, Kit, LEASE_MS, drain, finish, name};
use crate::model::{
    ids::JobId,
    job::Outcome,
    op::{Act, Claimed, DueKind, FairKey, Guard, ListQuery, NewJob, Throttle, Wake, fair_key},
    queue::{Bounds, KeyBounds, QueueChange, QueueConfig, Rate},
    state::State,
};

/// Jobs by the letter of their key.
#[derive(Default)]
struct Jobs(HashMap<JobId, char>);

impl Jobs {
    /// Records so many jobs of one key; '-' = of none.
    async fn put(&mut self, kit: &mut Kit, key: char, n: usize) -> Vec<JobId> {
        self.put_with(kit, key, n, |_| {}).await
    }

    async fn put_with(&mut self, kit: &mut Kit, key: char, n: usize, change: impl Fn(&mut NewJob)) -> Vec<JobId> {
        let mut jobs = kit.jobs("mail", n);
        for job in &mut jobs {
            job.fair = hash(key);
            change(job);
            self.0.insert(job.id, key);
        }
        let ids = jobs.iter().map(|job| job.id).collect();
        kit.put(jobs).await;
        ids
    }

    /// The keys of what was handed out, in order.
    fn keys(&self, claimed: &Claimed) -> String {
        claimed.jobs.iter().map(|job| self.0[&job.meta.id]).collect()
    }

    /// The keys of the next so many jobs.
    async fn next(&self, kit: &mut Kit, want: usize) -> String {
        self.keys(&claim(kit, want).await)
    }
}

fn hash(key: char) -> FairKey {
    if key == '-' { 0 } else { fair_key(&key.to_string()) }
}

async fn claim(kit: &mut Kit, want: usize) -> Claimed {
    let claim = kit.claim_of("mail", want);
    kit.claim_as(claim).await
}

async fn configure(kit: &Kit, bounds: Bounds, weights: &[(char, u32)]) {
    let known = kit.store().queues(Some(&[name("mail")])).await.expect("it can be read");
    let version = known.first().map_or(0, |queue| queue.version());
    let weights = weights.iter().map(|(key, weight)| (key.to_string(), *weight)).collect();
    let config = QueueConfig { bounds, weights, ..QueueConfig::default() };
    let change = QueueChange::Configure(version, Some(Box::new(config)));
    kit.store().set_queue(name("mail"), change).await.expect("a queue can be configured");
}

fn each(max_running: u32, rate: Option<Rate>) -> Bounds {
    Bounds { per_key: KeyBounds { max_running, rate }, ..Bounds::default() }
}

fn snooze(delay_ms: i64, throttle: Throttle) -> Act {
    Act::Later {
        to: State::Scheduled,
        delay_ms,
        counts: false,
        outcome: None,
        checkpoint: None,
        throttle: Some(throttle),
        effects: Vec::new(),
    }
}

fn readied(wakes: &[Wake]) -> usize {
    wakes.iter().filter(|wake| matches!(wake, Wake::Ready(_))).count()
}

pub async fn keys_take_turns(kit: &mut Kit) {
    let mut jobs = Jobs::default();
    jobs.put(kit, 'a', 6).await;
    jobs.put(kit, 'b', 3).await;
    jobs.put(kit, '-', 2).await;
    assert_eq!(jobs.next(kit, 4).await, "ab-a");
    // The next claim goes on where the last one stopped; who comes later has its turn after those that are there.
    jobs.put(kit, 'c', 2).await;
    assert_eq!(jobs.next(kit, 1).await, "b");
    assert_eq!(jobs.next(kit, 6).await, "-acbac");
    // What is alone gets all.
    assert_eq!(jobs.next(kit, 9).await, "aa");
    assert_eq!(kit.facts("mail").await.count(State::Ready), 0);
    assert!(!claim(kit, 1).await.more);
}

pub async fn keys_that_come_to_a_queue_without_any(kit: &mut Kit) {
    let mut jobs = Jobs::default();
    jobs.put(kit, '-', 3).await;
    assert_eq!(jobs.next(kit, 1).await, "-");
    jobs.put(kit, 'a', 2).await;
    let got = jobs.next(kit, 4).await;
    assert!(got == "-a-a" || got == "a-a-", "{got}");
    kit.reopen().await;
    jobs.put(kit, 'b', 1).await;
    assert_eq!(jobs.next(kit, 2).await, "b");
}

pub async fn heavier_keys_have_more_turns(kit: &mut Kit) {
    let mut jobs = Jobs::default();
    configure(kit, Bounds::default(), &[('a', 3), ('c', 2)]).await;
    for key in ['a', 'b', 'c'] {
        jobs.put(kit, key, 12).await;
    }
    assert_eq!(jobs.next(kit, 8).await, "aaabccaa");
    assert_eq!(jobs.next(kit, 2).await, "ab", "a turn goes on in the next claim");
    configure(kit, Bounds::default(), &[]).await;
    let counts = jobs.next(kit, 9).await.chars().fold([0; 3], |mut counts, key| {
        counts[key as usize - 'a' as usize] += 1;
        counts
    });
    assert!(counts.into_iter().all(|n| (2..=4).contains(&n)), "weights are changed at once: {counts:?}");
}

pub async fn priorities_count_within_a_key(kit: &mut Kit) {
    let mut jobs = Jobs::default();
    let low = jobs.put_with(kit, 'a', 2, |job| job.priority = -4).await;
    jobs.put(kit, 'b', 40).await;
    let high = jobs.put_with(kit, 'a', 40, |job| job.priority = 4).await;
    let claimed = claim(kit, 2).await;
    assert_eq!((claimed.jobs[0].meta.id, jobs.keys(&claimed)), (high[0], "ab".to_owned()));
    // One in sixteen of a key comes from below.
    let claimed = claim(kit, 62).await;
    let of_a: Vec<JobId> = claimed.jobs.iter().map(|job| job.meta.id).filter(|id| jobs.0[id] == 'a').collect();
    assert_eq!(of_a.len(), 31);
    assert_eq!(of_a.iter().filter(|id| low.contains(id)).count(), 2, "32 picks of a in all");
}

pub async fn a_key_at_its_limit_blocks_nobody(kit: &mut Kit) {
    let mut jobs = Jobs::default();
    configure(kit, each(2, None), &[]).await;
    jobs.put(kit, 'a', 9).await;
    jobs.put(kit, 'b', 3).await;
    let first = claim(kit, 9).await;
    assert_eq!((jobs.keys(&first), first.more, first.opens_in_ms), ("abab".to_owned(), false, None));
    assert_eq!(kit.facts("mail").await.count(State::Ready), 8);
    // A lease that ends lets the next of its key go, and says so.
    let mut wakes = kit.store().watch();
    let of = |key: char| first.jobs.iter().find(|job| jobs.0[&job.meta.id] == key).expect("one runs");
    let a = of('a');
    kit.done(a.meta.id, Guard::Token(a.secret), kit::extend(LEASE_MS)).await;
    assert_eq!(readied(&drain(kit, &mut wakes).await), 0, "a renewal frees nothing");
    kit.done(a.meta.id, Guard::Token(a.secret), finish(State::Succeeded)).await;
    assert_eq!(readied(&drain(kit, &mut wakes).await), 1);
    assert_eq!(jobs.next(kit, 9).await, "a");
    // A new key is not held up by those that are full; a new job of one that is full goes nowhere.
    jobs.put(kit, 'c', 1).await;
    jobs.put(kit, 'b', 1).await;
    assert_eq!(jobs.next(kit, 9).await, "c");
    // So does a lease that runs out. Other limits count at once.
    kit.advance(LEASE_MS);
    let due: Vec<_> = kit.due_jobs().await.into_iter().filter(|(kind, _)| *kind == DueKind::Lease).collect();
    let lapsed = due.iter().find(|(_, id)| jobs.0[id] == 'b').expect("its lease has run out");
    kit.done(lapsed.1, Guard::Due(DueKind::Lease), kit::crashed()).await;
    assert_eq!(jobs.next(kit, 9).await, "b");
    configure(kit, each(3, None), &[]).await;
    let got = jobs.next(kit, 9).await;
    assert!(got == "ab" || got == "ba", "one more of each: {got}");
    configure(kit, Bounds::default(), &[]).await;
    let rest = claim(kit, 20).await;
    assert_eq!((rest.jobs.len(), rest.more), (6, false));
}

pub async fn each_key_keeps_to_the_rate(kit: &mut Kit) {
    let mut jobs = Jobs::default();
    configure(kit, each(0, Some(Rate { max: 10, per_ms: 1_000, burst: 2 })), &[]).await;
    jobs.put(kit, 'a', 9).await;
    jobs.put(kit, 'b', 1).await;
    let first = claim(kit, 9).await;
    assert_eq!((jobs.keys(&first), first.more, first.opens_in_ms), ("aba".to_owned(), false, Some(100)));
    kit.advance(40);
    // Others go meanwhile.
    jobs.put(kit, 'c', 3).await;
    let second = claim(kit, 2).await;
    assert_eq!((jobs.keys(&second), second.more, second.opens_in_ms), ("cc".to_owned(), false, Some(60)));
    kit.advance(60);
    let third = claim(kit, 9).await;
    assert_eq!((jobs.keys(&third), third.opens_in_ms), ("a".to_owned(), Some(40)));
    kit.advance(1_000);
    assert_eq!(jobs.next(kit, 9).await.chars().filter(|key| *key == 'a').count(), 2, "no more than the burst");
    // A key that was away has not been forgotten while that mattered.
    jobs.put(kit, 'b', 4).await;
    assert_eq!(jobs.next(kit, 9).await, "bb");
    kit.advance(100);
    kit.reopen().await;
    assert!(jobs.next(kit, 9).await.len() <= 2, "no more after a restart than without one");
}

pub async fn the_queues_bounds_come_first(kit: &mut Kit) {
    let mut jobs = Jobs::default();
    let bounds = Bounds { max_running: 3, ..each(2, None) };
    configure(kit, bounds, &[]).await;
    for key in ['a', 'b', 'c'] {
        jobs.put(kit, key, 3).await;
    }
    let first = claim(kit, 9).await;
    assert_eq!((jobs.keys(&first), first.more), ("abc".to_owned(), false));
    kit.done(first.jobs[1].meta.id, Guard::Token(first.jobs[1].secret), finish(State::Succeeded)).await;
    assert_eq!(jobs.next(kit, 9).await, "a");
}

pub async fn a_throttle_holds_its_key_back(kit: &mut Kit) {
    let mut jobs = Jobs::default();
    jobs.put(kit, 'a', 3).await;
    jobs.put(kit, 'b', 2).await;
    let first = claim(kit, 2).await;
    let a = first.jobs.iter().find(|job| jobs.0[&job.meta.id] == 'a').expect("one of a runs");
    kit.done(a.meta.id, Guard::Token(a.secret), snooze(5_000, Throttle::Key)).await;
    let rest = claim(kit, 9).await;
    assert_eq!((jobs.keys(&rest), rest.more, rest.opens_in_ms), ("b".to_owned(), false, Some(5_000)));
    kit.advance(2_000);
    // New jobs of the key wait too; and so they do after a restart.
    jobs.put(kit, 'a', 1).await;
    let none = claim(kit, 9).await;
    assert_eq!((none.jobs.len(), none.opens_in_ms), (0, Some(3_000)));
    kit.reopen().await;
    let none = claim(kit, 9).await;
    assert_eq!((none.jobs.len(), none.opens_in_ms), (0, Some(3_000)));
    kit.advance(3_000);
    assert_eq!(jobs.next(kit, 9).await, "aaa");
}

pub async fn a_throttle_holds_its_queue_back(kit: &mut Kit) {
    let mut jobs = Jobs::default();
    jobs.put(kit, '-', 3).await;
    jobs.put(kit, 'b', 3).await;
    let first = claim(kit, 2).await;
    let secret = |n: usize| (first.jobs[n].meta.id, Guard::Token(first.jobs[n].secret));
    let ((one, by_one), (two, by_two)) = (secret(0), secret(1));
    kit.done(one, by_one, snooze(5_000, Throttle::Queue)).await;
    // The later of two times holds.
    kit.done(two, by_two, snooze(2_000, Throttle::Queue)).await;
    let opens = kit.wall_ms() + 5_000;
    assert_eq!(kit.facts("mail").await.throttled_ms, Some(opens));
    let none = claim(kit, 9).await;
    assert_eq!((none.jobs.len(), none.more, none.opens_in_ms), (0, false, Some(5_000)));
    kit.reopen().await;
    kit.advance(4_999);
    assert_eq!(claim(kit, 9).await.opens_in_ms, Some(1));
    kit.advance(1);
    assert_eq!(claim(kit, 9).await.jobs.len(), 4);
    assert_eq!(kit.facts("mail").await.throttled_ms, None);
}

pub async fn resuming_ends_a_throttle(kit: &mut Kit) {
    let mut jobs = Jobs::default();
    jobs.put(kit, 'a', 2).await;
    let first = claim(kit, 1).await;
    kit.done(first.jobs[0].meta.id, Guard::Token(first.jobs[0].secret), snooze(60_000, Throttle::Queue)).await;
    assert_eq!(claim(kit, 9).await.jobs.len(), 0);
    let mut wakes = kit.store().watch();
    kit.store().set_queue(name("mail"), QueueChange::Resume).await.expect("it resumes");
    assert_eq!(readied(&drain(kit, &mut wakes).await), 1);
    assert_eq!((claim(kit, 9).await.jobs.len(), kit.facts("mail").await.throttled_ms), (1, None));
}

pub async fn an_open_throttle_is_no_burst(kit: &mut Kit) {
    let mut jobs = Jobs::default();
    configure(kit, each(0, Some(Rate { max: 10, per_ms: 1_000, burst: 5 })), &[]).await;
    jobs.put(kit, 'a', 9).await;
    let first = claim(kit, 1).await;
    kit.done(first.jobs[0].meta.id, Guard::Token(first.jobs[0].secret), snooze(5_000, Throttle::Key)).await;
    kit.advance(5_000);
    let none = claim(kit, 9).await;
    assert_eq!((none.jobs.len(), none.opens_in_ms), (0, Some(100)), "the bucket fills from the end of the throttle");
    kit.advance(200);
    assert_eq!(claim(kit, 9).await.jobs.len(), 2);
}

pub async fn a_key_stays_with_its_job(kit: &mut Kit) {
    let mut jobs = Jobs::default();
    configure(kit, each(1, None), &[]).await;
    let ids = jobs.put(kit, 'a', 2).await;
    let first = claim(kit, 9).await;
    assert_eq!(first.jobs.len(), 1);
    // A failure frees the key; so its retry comes after the one behind it.
    kit.done(ids[0], Guard::Token(first.jobs[0].secret), kit::retry_in(800, 1)).await;
    let second = claim(kit, 9).await;
    assert_eq!(second.jobs.iter().map(|job| job.meta.id).collect::<Vec<_>>(), [ids[1]]);
    kit.advance(800);
    kit.done(ids[0], Guard::Due(DueKind::Start), kit::ready()).await;
    assert_eq!(claim(kit, 9).await.jobs.len(), 0, "its key is at its limit");
    kit.done(ids[1], Guard::Token(second.jobs[0].secret), finish(State::Dead)).await;
    let third = claim(kit, 9).await;
    assert_eq!(third.jobs.iter().map(|job| job.meta.id).collect::<Vec<_>>(), [ids[0]]);
    // Run again by a person, it waits for its key; the key keeps its limit after a restart.
    let again = Act::Requeue { failures: 0, delay_ms: 0, queue: None, body: None, keep: None };
    kit.done(ids[1], kit::ANY, again).await;
    kit.reopen().await;
    assert_eq!(claim(kit, 9).await.jobs.len(), 0);
    kit.done(
        ids[0],
        kit::ANY,
        Act::Finish { to: State::Succeeded, outcome: Outcome::default(), retain_ms: 0, effects: Vec::new() },
    )
    .await;
    assert_eq!(claim(kit, 9).await.jobs.len(), 1);
}

pub async fn many_keys_that_come_and_go(kit: &mut Kit) {
    configure(kit, each(1, Some(Rate { max: 1_000, per_ms: 1_000, burst: 1 })), &[]).await;
    for round in 0..20u64 {
        let mut jobs = kit.jobs("mail", 50);
        for (n, job) in jobs.iter_mut().enumerate() {
            job.fair = 1 + round * 50 + n as u64;
        }
        kit.put(jobs).await;
        let claimed = claim(kit, 50).await;
        assert_eq!(claimed.jobs.len(), 50);
        for job in claimed.jobs {
            kit.done(job.meta.id, Guard::Token(job.secret), finish(State::Succeeded)).await;
        }
        kit.advance(10);
    }
    let left = claim(kit, 1).await;
    assert_eq!((left.jobs.len(), left.more, left.opens_in_ms), (0, false, None), "nothing is left of them");
}

pub async fn lists_show_all_keys_in_order(kit: &mut Kit) {
    let mut jobs = Jobs::default();
    let mut expected = Vec::new();
    for key in ['a', 'b', '-', 'a', 'c', 'b'] {
        expected.extend(jobs.put(kit, key, 1).await);
    }
    let urgent = jobs.put_with(kit, 'b', 1, |job| job.priority = 2).await;
    expected.insert(0, urgent[0]);
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let query = ListQuery { queue: name("mail"), state: State::Ready, after, limit: 2 };
        let page = kit.store().list(query).await.expect("the store lists");
        let Some(last) = page.last() else { break };
        after = Some(last.place());
        seen.extend(page.iter().map(|meta| meta.id));
    }
    assert_eq!(seen, expected);
}
