//! How ended records go.
//!
//! I20.
use super::kit::{self, Kit};
use crate::model::{
    ids::JobId,
    job::Outcome,
    op::{Act, Due, DueKind, Guard, Op, Verdict},
    policy::TOMBSTONE_MS,
    queue::MAX_FINISHED,
    state::State,
};

const TRIM: Guard = Guard::Due(DueKind::Trim);

fn finish(to: State, retain_ms: i64) -> Act {
    Act::Finish { to, outcome: Outcome::default(), retain_ms, effects: Vec::new() }
}

pub async fn records_go_when_their_time_is_up(kit: &mut Kit) {
    let short = kit.put_one("mail").await;
    let long = kit.put_one("mail").await;
    kit.done(short, kit::ANY, finish(State::Succeeded, 5)).await;
    kit.done(long, kit::ANY, finish(State::Dead, 10 * TOMBSTONE_MS)).await;
    assert_eq!(kit.next_in().await, Some(TOMBSTONE_MS), "every record stays a while");
    assert_eq!(kit.meta(short).await.purge_ms, kit.wall_ms() + TOMBSTONE_MS);
    kit.advance(TOMBSTONE_MS - 1);
    assert_eq!(kit.act(short, TRIM, Act::Delete).await, Verdict::Stale);
    kit.advance(1);
    assert_eq!(kit.due_jobs().await, [(DueKind::Trim, short)]);
    assert_eq!(kit.act(long, TRIM, Act::Delete).await, Verdict::Stale);
    kit.done(short, TRIM, Act::Delete).await;
    assert_eq!(kit.next_in().await, Some(9 * TOMBSTONE_MS));
    // What is retried in time does not go.
    kit.done(long, kit::ANY, kit::requeue()).await;
    kit.advance(9 * TOMBSTONE_MS);
    assert_eq!(kit.due_jobs().await, []);
    assert_eq!(kit.act(long, TRIM, Act::Delete).await, Verdict::Stale);
}

pub async fn the_oldest_go_when_there_are_too_many(kit: &mut Kit) {
    const EXCESS: usize = 3;
    let mut ids: Vec<JobId> = Vec::new();
    while ids.len() < MAX_FINISHED + EXCESS {
        let jobs = kit.jobs("mail", 1_000.min(MAX_FINISHED + EXCESS - ids.len()));
        let batch: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
        kit.put(jobs).await;
        let ops = batch.iter().enumerate().map(|(i, id)| {
            let to = [State::Succeeded, State::Cancelled, State::Discarded, State::Succeeded][i % 4];
            // The very first is to go for two reasons, and still only once.
            let retain_ms = if i == 0 && ids.is_empty() { 0 } else { i64::MAX / 4 };
            Op { id: *id, guard: kit::ANY, act: finish(to, retain_ms) }
        });
        kit.apply(ops.collect()).await;
        ids.extend(batch);
        kit.advance(10);
    }
    let dead = kit.put_one("mail").await;
    kit.done(dead, kit::ANY, finish(State::Dead, i64::MAX / 4)).await;
    let now = kit.wall_ms();
    let oldest = kit.meta(ids[0]).await.finish_ms;
    assert_eq!(kit.next_in().await, Some(oldest + TOMBSTONE_MS - now), "not before every record's time");
    kit.advance(oldest + TOMBSTONE_MS - now - 1);
    assert_eq!(kit.due_jobs().await, []);
    assert_eq!(kit.act(ids[0], TRIM, Act::Delete).await, Verdict::Stale);
    kit.advance(1);
    let expected: Vec<_> = ids[..EXCESS].iter().map(|id| (DueKind::Trim, *id)).collect();
    assert_eq!(kit.due_jobs().await, expected, "oldest first, whatever way they ended");
    let part = kit.due(2).await;
    assert_eq!((part.entries.len(), part.next_in_ms), (2, Some(0)));
    assert!(matches!(part.entries[0], Due::Job { kind: DueKind::Trim, .. }));
    for id in [ids[EXCESS], dead] {
        assert_eq!(kit.act(id, TRIM, Act::Delete).await, Verdict::Stale, "it is not one too many");
    }
    for id in &ids[..EXCESS] {
        kit.done(*id, TRIM, Act::Delete).await;
    }
    assert_eq!(kit.act(ids[EXCESS], TRIM, Act::Delete).await, Verdict::Stale);
    assert_eq!(kit.due_jobs().await, []);
    assert_eq!(kit.facts("mail").await.finished(), MAX_FINISHED as u64);
    // One more makes one too many.
    let mut wakes = kit.store().watch();
    let last = kit.put_one("mail").await;
    kit.done(last, kit::ANY, finish(State::Succeeded, i64::MAX / 4)).await;
    assert_eq!(kit.due_jobs().await, [(DueKind::Trim, ids[EXCESS])]);
    let raised = kit::drain(kit, &mut wakes).await;
    assert!(raised.iter().any(|wake| matches!(wake, crate::model::op::Wake::Timer(_))), "{raised:?}");
}
