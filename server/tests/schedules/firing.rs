//! One job per tick, on time, late, after outages, with clocks that are set; triggers and backfills.
use std::collections::BTreeSet;

use jobwire_proto::v1::{self, CatchUpPolicy, OverlapPolicy};
use prost::Message as _;

use super::harness::{HOUR, MINUTE, Rig, T0, cron, every_minute, minutes, span, time, until};
use crate::on_every_store;

on_every_store!(
    a_tick_has_one_job_that_knows_it,
    several_servers_fire_a_tick_once,
    what_was_missed_is_caught_up,
    a_clock_that_is_set_fires_nothing_twice,
    a_trigger_is_besides_the_ticks,
    a_backfill_runs_what_is_not_there,
    a_key_that_is_taken_skips_the_tick,
    jobs_start_within_the_jitter,
);

async fn a_tick_has_one_job_that_knows_it(rig: &mut Rig) {
    rig.put("s", every_minute("a")).await;
    rig.advance(MINUTE).await;
    assert_eq!(rig.ticks("s", 1).await, [1]);
    let lease = rig.lease("a").await;
    let task = v1::Task::decode(lease.task.clone()).expect("a task");
    assert_eq!((task.schedule_id.as_str(), task.fire_time), ("s", time(T0 + MINUTE)));
    let job = rig.fired("s").await.remove(0);
    assert_eq!((job.schedule_id.as_str(), job.fire_time), ("s", time(T0 + MINUTE)));
    rig.succeed(lease).await;
    let schedule = rig.get("s").await;
    assert_eq!((schedule.fired_count, schedule.skipped_count), (1, 0));
    assert_eq!((schedule.last_job_id, schedule.last_fire_time), (job.id, time(T0 + MINUTE)));
    assert_eq!(schedule.last_job_state, i32::from(v1::JobState::Succeeded));
    for _ in 0..4 {
        rig.advance(MINUTE / 2).await;
    }
    assert_eq!(rig.ticks("s", 3).await, [1, 2, 3]);
    rig.restart().await;
    rig.advance(MINUTE).await;
    assert_eq!(rig.ticks("s", 4).await, [1, 2, 3, 4]);
    assert_eq!(rig.get("s").await.fired_count, 4);
}

async fn several_servers_fire_a_tick_once(rig: &mut Rig) {
    rig.start().await;
    rig.start().await;
    for n in 0..20 {
        rig.put(&format!("s{n}"), every_minute("a")).await;
    }
    for minute in 1..=5 {
        rig.advance(MINUTE).await;
        for n in 0..20 {
            let id = format!("s{n}");
            let expected: Vec<i64> = (1..=minute).collect();
            assert_eq!(rig.ticks(&id, expected.len()).await, expected, "{id}");
        }
    }
    for n in 0..20 {
        assert_eq!(rig.get(&format!("s{n}")).await.fired_count, 5, "s{n}");
    }
}

async fn what_was_missed_is_caught_up(rig: &mut Rig) {
    for (id, policy) in [("last", CatchUpPolicy::Last), ("all", CatchUpPolicy::All), ("none", CatchUpPolicy::None)] {
        let mut spec = cron("*/10 * * * *", "a");
        spec.catch_up = policy.into();
        spec.catch_up_window = span(35 * MINUTE);
        rig.put(id, spec).await;
    }
    rig.stop().await;
    rig.advance(HOUR + 5 * MINUTE).await;
    rig.restart().await;
    assert_eq!(rig.ticks("last", 1).await, [60]);
    assert_eq!(rig.ticks("all", 4).await, [30, 40, 50, 60]);
    for (id, fired, skipped) in [("last", 1, 5), ("all", 4, 2), ("none", 0, 6)] {
        let schedule = rig.until_schedule(id, "it has been looked at", |s| s.skipped_count > 0).await;
        assert_eq!((schedule.fired_count, schedule.skipped_count), (fired, skipped), "{id}");
        assert_eq!(schedule.next_fire_times.first().map(minutes), Some(70), "{id}");
    }
}

async fn a_clock_that_is_set_fires_nothing_twice(rig: &mut Rig) {
    let mut spec = every_minute("a");
    spec.catch_up = CatchUpPolicy::All.into();
    rig.put("s", spec).await;
    for _ in 0..3 {
        rig.advance(MINUTE).await;
    }
    assert_eq!(rig.ticks("s", 3).await, [1, 2, 3]);
    // An hour back, and everything once more.
    rig.step_clock(-HOUR).await;
    for _ in 0..60 {
        rig.advance(MINUTE).await;
    }
    assert_eq!(rig.ticks("s", 3).await, [1, 2, 3]);
    rig.advance(MINUTE).await;
    assert_eq!(rig.ticks("s", 4).await, [1, 2, 3, 4]);
    // An hour ahead is an ordinary miss.
    rig.step_clock(HOUR).await;
    assert_eq!(rig.ticks("s", 64).await, (1..=64).collect::<Vec<_>>());
    rig.restart().await;
    rig.advance(MINUTE).await;
    assert_eq!(rig.ticks("s", 65).await, (1..=65).collect::<Vec<_>>());
}

async fn a_trigger_is_besides_the_ticks(rig: &mut Rig) {
    let mut spec = every_minute("a");
    spec.overlap = OverlapPolicy::Skip.into();
    rig.put("s", spec).await;
    let pause = v1::PauseSchedulesRequest { selector: super::harness::by_ids(&["s"]), reason: String::new() };
    rig.schedules().pause_schedules(pause).await.expect("paused");
    let body = Some(v1::payload::Body::Text("{\"by\":\"hand\"}".into()));
    let payload = Some(v1::Payload { body, ..Default::default() });
    let mut ids = BTreeSet::new();
    for payload in [None, payload] {
        let request = v1::TriggerScheduleRequest { id: "s".into(), payload };
        ids.insert(rig.schedules().trigger_schedule(request).await.expect("it runs").into_inner().job_id);
    }
    assert_eq!(ids.len(), 2, "whatever runs");
    let fired = rig.fired("s").await;
    assert_eq!(fired.iter().map(|job| job.id.clone()).collect::<BTreeSet<_>>(), ids);
    let schedule = rig.get("s").await;
    assert_eq!((schedule.paused, schedule.fired_count, schedule.skipped_count), (true, 2, 0));
}

async fn a_backfill_runs_what_is_not_there(rig: &mut Rig) {
    rig.put("s", every_minute("a")).await;
    rig.advance(MINUTE).await;
    rig.ticks("s", 1).await;
    let backfill = async |from, to, overlap: OverlapPolicy, dry_run, continue_token| {
        let request = v1::BackfillScheduleRequest {
            id: "s".into(),
            from: time(from),
            to: time(to),
            overlap: overlap.into(),
            dry_run,
            continue_token,
        };
        rig.schedules().backfill_schedule(request).await.expect("it answers").into_inner()
    };
    let allow = OverlapPolicy::Allow;
    let counted = backfill(T0 - 3 * MINUTE, T0 + MINUTE, allow, true, String::new()).await;
    assert_eq!((counted.tick_count, counted.fired_count, counted.existing_count), (5, 4, 1));
    assert_eq!(rig.get("s").await.fired_count, 1, "nothing changed");
    let done = backfill(T0 - 3 * MINUTE, T0 + MINUTE, allow, false, String::new()).await;
    assert_eq!((done.tick_count, done.fired_count, done.existing_count), (5, 4, 1));
    assert_eq!(done.sample_ids, counted.sample_ids);
    let again = backfill(T0 - 3 * MINUTE, T0 + MINUTE, allow, false, String::new()).await;
    assert_eq!((again.fired_count, again.existing_count), (0, 5));
    assert_eq!(rig.ticks("s", 5).await, [-3, -2, -1, 0, 1]);
    assert_eq!(rig.get("s").await.fired_count, 5);
    // More than go into one call.
    let (mut token, mut calls, mut fired) = (String::new(), 0, 0);
    loop {
        let done = backfill(T0 - 1_500 * MINUTE, T0, allow, false, token).await;
        (token, calls, fired) = (done.continue_token, calls + 1, fired + done.fired_count);
        if token.is_empty() {
            break;
        }
    }
    assert_eq!((calls, fired), (2, 1_501 - 4));
    let skipping = backfill(T0 - 1_510 * MINUTE, T0 - 1_501 * MINUTE, OverlapPolicy::Skip, false, String::new()).await;
    assert_eq!((skipping.fired_count, skipping.skipped_count), (0, 10), "runs go on");
}

async fn a_key_that_is_taken_skips_the_tick(rig: &mut Rig) {
    let mut spec = every_minute("a");
    spec.job.as_mut().expect("a job").unique = Some(v1::Unique { key: "one".into(), ..Default::default() });
    rig.put("s", spec).await;
    rig.advance(MINUTE).await;
    assert_eq!(rig.ticks("s", 1).await, [1]);
    rig.advance(MINUTE).await;
    let schedule = rig.until_schedule("s", "the second tick is skipped", |s| s.skipped_count == 1).await;
    assert_eq!(schedule.fired_count, 1);
    let lease = rig.lease("a").await;
    rig.succeed(lease).await;
    rig.advance(MINUTE).await;
    assert_eq!(rig.ticks("s", 2).await, [1, 3]);
}

async fn jobs_start_within_the_jitter(rig: &mut Rig) {
    let mut spec = every_minute("a");
    spec.jitter = span(30_000);
    for n in 0..10 {
        rig.put(&format!("s{n}"), spec.clone()).await;
    }
    rig.advance(MINUTE).await;
    let mut starts = BTreeSet::new();
    for n in 0..10 {
        let id = format!("s{n}");
        until("it has fired", async || rig.fired(&id).await.len() == 1).await;
        let job = rig.fired(&id).await.remove(0);
        let start = job.schedule_time.expect("a start");
        let start_ms = start.seconds * 1_000 + i64::from(start.nanos) / 1_000_000;
        assert!((0..30_000).contains(&(start_ms - T0 - MINUTE)), "{start_ms}");
        assert_eq!(job.fire_time, time(T0 + MINUTE), "the nominal time");
        starts.insert(start_ms);
    }
    assert!(starts.len() > 5, "they are spread: {starts:?}");
}
