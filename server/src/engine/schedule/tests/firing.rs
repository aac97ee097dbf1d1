//! What becomes of ticks.
use super::*;
use crate::model::{
    schedule::{LATE_MS, Standstill},
    time::{HOUR, MINUTE, SECOND},
};

/// A whole minute.
const T0: i64 = 1_800_000_000_000;

/// Every minute, the first tick that was not handled at T0.
fn due_at(now_ms: i64, change: impl FnOnce(&mut ScheduleSpec)) -> Due {
    let mut spec = cron("* * * * *", "UTC");
    change(&mut spec);
    due(&stored(Some(T0)), &spec, &calendar(&spec), now_ms, 1_000)
}

fn minutes(due: &Due) -> Vec<i64> {
    due.ticks.iter().map(|tick| (tick - T0) / MINUTE).collect()
}

#[test]
fn nothing_fires_before_its_time_or_in_a_pause() {
    assert_eq!(due_at(T0 - 1, |_| ()), Due { next_ms: Some(T0), ..Due::default() });
    let spec = cron("* * * * *", "UTC");
    let paused = Schedule { paused: Some(Standstill { reason: String::new(), pause_ms: 0 }), ..stored(Some(T0)) };
    let nothing = due(&paused, &spec, &calendar(&spec), T0 + HOUR, 1_000);
    assert_eq!(nothing, Due { next_ms: Some(T0), ..Due::default() });
    assert_eq!(due(&stored(None), &spec, &calendar(&spec), T0, 1_000), Due::default());
}

#[test]
fn a_tick_that_is_less_than_a_minute_late_is_on_time() {
    for catch_up in [CatchUp::Last, CatchUp::All, CatchUp::None] {
        let due = due_at(T0 + LATE_MS, |spec| spec.catch_up = catch_up);
        assert_eq!((minutes(&due), due.forgotten), (vec![0, 1], 0), "{catch_up:?}");
        assert_eq!(due.next_ms, Some(T0 + 2 * MINUTE));
    }
    let seconds = due_at(T0 + 9 * SECOND, |spec| spec.cadence = Cadence::Cron("* * * * * *".into()));
    assert_eq!(seconds.ticks.len(), 10, "none of them was missed");
}

#[test]
fn what_was_missed_is_caught_up_as_the_schedule_says() {
    // Nine ticks are over a minute late, one is not.
    let now_ms = T0 + 9 * MINUTE + 30 * SECOND;
    for (catch_up, expected, forgotten) in
        [(CatchUp::Last, vec![9], 9), (CatchUp::All, (0..=9).collect(), 0), (CatchUp::None, vec![9], 9)]
    {
        let due = due_at(now_ms, |spec| spec.catch_up = catch_up);
        assert_eq!((minutes(&due), due.forgotten), (expected, forgotten), "{catch_up:?}");
        assert_eq!(due.next_ms, Some(T0 + 10 * MINUTE), "{catch_up:?}");
    }
    // Hourly, and nothing is on time: the newest one stands for all of them.
    let hourly = |catch_up| {
        let mut spec = cron("@hourly", "UTC");
        spec.catch_up = catch_up;
        spec.window_ms = 150 * MINUTE;
        due(&stored(Some(T0)), &spec, &calendar(&spec), T0 + 5 * HOUR + 10 * MINUTE, 1_000)
    };
    let hours = |due: &Due| due.ticks.iter().map(|tick| (tick - T0) / HOUR).collect::<Vec<_>>();
    assert_eq!((hours(&hourly(CatchUp::Last)), hourly(CatchUp::Last).forgotten), (vec![5], 5));
    assert_eq!((hours(&hourly(CatchUp::All)), hourly(CatchUp::All).forgotten), (vec![3, 4, 5], 3));
    assert_eq!((hours(&hourly(CatchUp::None)), hourly(CatchUp::None).forgotten), (vec![], 6));
    assert_eq!(hourly(CatchUp::None).next_ms, Some(T0 + 6 * HOUR));
}

#[test]
fn nothing_is_caught_up_from_before_the_window() {
    let due = due_at(T0 + 600 * MINUTE, |spec| {
        spec.catch_up = CatchUp::Last;
        spec.window_ms = 10 * MINUTE;
        spec.end_ms = Some(T0 + 500 * MINUTE);
    });
    assert_eq!((due.ticks, due.forgotten, due.next_ms), (vec![], 501, None));
}

#[test]
fn a_step_fires_so_many_and_the_next_one_goes_on() {
    let spec = ScheduleSpec { catch_up: CatchUp::All, window_ms: 100 * HOUR, ..cron("* * * * *", "UTC") };
    let now_ms = T0 + 25 * MINUTE;
    let mut schedule = stored(Some(T0));
    let mut all = Vec::new();
    for expected in [10, 10, 6] {
        let due = due(&schedule, &spec, &calendar(&spec), now_ms, 10);
        assert_eq!((due.ticks.len(), due.forgotten), (expected, 0));
        schedule.next_ms = due.next_ms;
        all.extend(due.ticks);
    }
    assert_eq!(all, (0..=25).map(|minute| T0 + minute * MINUTE).collect::<Vec<_>>());
    assert_eq!(schedule.next_ms, Some(now_ms + MINUTE));
}

#[test]
fn a_year_without_a_server_costs_no_more_than_a_day() {
    let due = due_at(T0 + 8_760 * HOUR, |spec| {
        spec.cadence = Cadence::Cron("* * * * * *".into());
        spec.window_ms = 8_000 * HOUR;
    });
    // All within the last minute are on time.
    assert_eq!((due.ticks.len(), due.forgotten), (61, 10_000));
}

#[test]
fn overlap_decides_who_runs_who_waits_and_who_is_skipped() {
    use Overlap::{Allow, BufferOne, CancelPrevious, Skip};
    let fired = |now: &[i64], waiting, skipped| Fired { now: now.to_vec(), waiting, skipped };
    for (overlap, waited, ticks, busy, expected) in [
        (Allow, None, vec![1, 2], true, fired(&[1, 2], None, 0)),
        (Allow, Some(1), vec![2], true, fired(&[2], Some(1), 0)),
        (Allow, Some(1), vec![2], false, fired(&[1, 2], None, 0)),
        (Skip, None, vec![1, 2], true, fired(&[], None, 2)),
        (Skip, None, vec![1, 2], false, fired(&[1], None, 1)),
        (Skip, Some(1), vec![2], false, fired(&[1], None, 1)),
        (BufferOne, None, vec![1], true, fired(&[], Some(1), 0)),
        (BufferOne, Some(1), vec![2, 3], true, fired(&[], Some(1), 2)),
        (BufferOne, Some(1), vec![2], false, fired(&[1], Some(2), 0)),
        (BufferOne, Some(1), vec![], false, fired(&[1], None, 0)),
        (BufferOne, None, vec![1, 2, 3], false, fired(&[1], Some(2), 1)),
        (CancelPrevious, None, vec![1, 2], true, fired(&[], Some(2), 1)),
        (CancelPrevious, Some(1), vec![2], true, fired(&[], Some(2), 1)),
        (CancelPrevious, Some(1), vec![], true, fired(&[], Some(1), 0)),
        (CancelPrevious, Some(1), vec![2], false, fired(&[2], None, 1)),
        (CancelPrevious, None, vec![1, 2], false, fired(&[2], None, 1)),
        (CancelPrevious, Some(1), vec![], false, fired(&[1], None, 0)),
    ] {
        assert_eq!(fire(overlap, waited, &ticks, busy), expected, "{overlap:?} {waited:?} {ticks:?} {busy}");
    }
}

#[test]
fn ids_and_jitter_are_those_of_schedule_and_tick() {
    let (a, b) = ("a".parse().expect("a name"), "b".parse().expect("a name"));
    assert_eq!(tick_id(&a, T0), tick_id(&a, T0));
    assert_ne!(tick_id(&a, T0), tick_id(&a, T0 + 1));
    assert_ne!(tick_id(&a, T0), tick_id(&b, T0));
    let spread: std::collections::BTreeSet<i64> = (0..100).map(|n| jitter(&a, T0 + n, 10 * SECOND)).collect();
    assert!(spread.len() > 90 && spread.iter().all(|ms| (0..10 * SECOND).contains(ms)));
    assert_eq!(jitter(&a, T0, 0), 0);
}
