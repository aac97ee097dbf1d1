//! Ticks while the run before them goes on.
use jobwire_proto::v1::{self, JobState, OverlapPolicy};

use super::harness::{MINUTE, Rig, T0, every_minute, time, until};
use crate::on_every_store;

on_every_store!(
    skipped_ticks_are_counted,
    one_tick_waits_for_the_run_before,
    a_tick_that_waits_survives_a_restart,
    the_run_before_is_cancelled,
    the_newest_tick_takes_the_place_of_the_one_that_waits,
    allowed_runs_are_beside_each_other,
);

async fn put(rig: &Rig, overlap: OverlapPolicy) {
    rig.put("s", v1::ScheduleSpec { overlap: overlap.into(), ..every_minute("a") }).await;
}

/// The first tick has fired and runs.
async fn running(rig: &mut Rig, overlap: OverlapPolicy) -> v1::JobLease {
    put(rig, overlap).await;
    rig.advance(MINUTE).await;
    rig.ticks("s", 1).await;
    rig.lease("a").await
}

async fn skipped_ticks_are_counted(rig: &mut Rig) {
    let first = running(rig, OverlapPolicy::Skip).await;
    for _ in 0..2 {
        rig.advance(MINUTE / 2).await;
    }
    rig.until_schedule("s", "a tick is skipped", |s| s.skipped_count == 1).await;
    rig.succeed(first).await;
    rig.advance(MINUTE).await;
    assert_eq!(rig.ticks("s", 2).await, [1, 3]);
    let schedule = rig.get("s").await;
    assert_eq!((schedule.fired_count, schedule.skipped_count), (2, 1));
}

async fn one_tick_waits_for_the_run_before(rig: &mut Rig) {
    let first = running(rig, OverlapPolicy::BufferOne).await;
    rig.advance(MINUTE).await;
    rig.until_schedule("s", "a tick waits", |s| s.waiting_fire_time == time(T0 + 2 * MINUTE)).await;
    rig.advance(MINUTE).await;
    rig.until_schedule("s", "the next one is skipped", |s| s.skipped_count == 1).await;
    assert_eq!(rig.fired("s").await.len(), 1);
    rig.succeed(first).await;
    assert_eq!(rig.ticks("s", 2).await, [1, 2]);
    let schedule = rig.get("s").await;
    assert_eq!((schedule.waiting_fire_time, schedule.fired_count, schedule.skipped_count), (None, 2, 1));
    assert_eq!(schedule.last_fire_time, time(T0 + 2 * MINUTE));
}

async fn a_tick_that_waits_survives_a_restart(rig: &mut Rig) {
    let first = running(rig, OverlapPolicy::BufferOne).await;
    rig.advance(MINUTE).await;
    rig.until_schedule("s", "a tick waits", |s| s.waiting_fire_time.is_some()).await;
    rig.restart().await;
    assert_eq!(rig.get("s").await.waiting_fire_time, time(T0 + 2 * MINUTE));
    rig.succeed(first).await;
    // Whoever listened is gone: it is looked at again after some seconds.
    rig.advance(6_000).await;
    assert_eq!(rig.ticks("s", 2).await, [1, 2]);
}

async fn the_run_before_is_cancelled(rig: &mut Rig) {
    let first = running(rig, OverlapPolicy::CancelPrevious).await;
    rig.advance(MINUTE).await;
    rig.until_schedule("s", "the next tick waits", |s| s.waiting_fire_time == time(T0 + 2 * MINUTE)).await;
    let job = rig.fired("s").await.remove(0);
    assert_eq!(job.state, i32::from(JobState::Running));
    assert!(job.cancel_request_time.is_some());
    // It does not obey: when the grace is over it is ended, and its successor starts.
    rig.advance(31_000).await;
    assert_eq!(rig.ticks("s", 2).await, [1, 2]);
    until("the first is cancelled", async || rig.fired("s").await[0].state == i32::from(JobState::Cancelled)).await;
    drop(first);
    // One that has not started is cancelled at once.
    rig.advance(MINUTE).await;
    assert_eq!(rig.ticks("s", 3).await, [1, 2, 3]);
    assert_eq!(rig.fired("s").await[1].state, i32::from(JobState::Cancelled));
}

async fn the_newest_tick_takes_the_place_of_the_one_that_waits(rig: &mut Rig) {
    put(rig, OverlapPolicy::BufferOne).await;
    rig.advance(MINUTE).await;
    rig.ticks("s", 1).await;
    let first = rig.lease("a").await;
    rig.advance(MINUTE).await;
    rig.until_schedule("s", "a tick waits", |s| s.waiting_fire_time.is_some()).await;
    put(rig, OverlapPolicy::CancelPrevious).await;
    // A grace that is not over yet.
    rig.advance(MINUTE).await;
    rig.until_schedule("s", "the newest waits", |s| s.waiting_fire_time == time(T0 + 3 * MINUTE)).await;
    assert_eq!(rig.get("s").await.skipped_count, 1);
    rig.succeed(first).await;
    assert_eq!(rig.ticks("s", 2).await, [1, 3]);
}

async fn allowed_runs_are_beside_each_other(rig: &mut Rig) {
    let _first = running(rig, OverlapPolicy::Allow).await;
    rig.advance(MINUTE).await;
    rig.advance(MINUTE).await;
    assert_eq!(rig.ticks("s", 3).await, [1, 2, 3]);
    assert_eq!(rig.get("s").await.skipped_count, 0);
}
