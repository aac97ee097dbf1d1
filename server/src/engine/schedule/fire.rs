//! What a schedule does when its time has come: which ticks are due, which of them were missed, which fire, which wait for
//! the runs before them. First [`due`], then, when it is known whether a run goes on, [`fire`].
use super::Calendar;
use crate::model::schedule::{CatchUp, LATE_MS, Overlap, Schedule, ScheduleSpec};

/// Ticks whose time has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// Those that are to fire, overlap apart; the oldest first.
    pub ticks: Vec<i64>,
    /// Missed, and not caught up.
    pub forgotten: u64,
    /// The first tick after all these; it may be due as well, when there were too many.
    pub next_ms: Option<i64>,
}

/// What became of ticks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fired {
    /// These get a job now.
    pub now: Vec<i64>,
    /// This one gets one when the runs before it have ended.
    pub waiting: Option<i64>,
    /// These get none.
    pub skipped: u64,
}

/// The ticks of a schedule that are due at `now_ms`, at most `most` (at least 1).
pub fn due(schedule: &Schedule, spec: &ScheduleSpec, calendar: &Calendar, now_ms: i64, most: usize) -> Due {
    let none = Due { next_ms: schedule.next_ms, ..Due::default() };
    let Some(next_ms) = schedule.next_ms.filter(|next_ms| *next_ms <= now_ms) else { return none };
    if schedule.paused.is_some() {
        return none;
    }
    // From here on a tick is on time; from there on it can be caught up.
    let late_ms = now_ms.saturating_sub(LATE_MS);
    let window_ms = now_ms.saturating_sub(spec.window_ms).min(late_ms);
    let first_on_time = calendar.at_or_after(late_ms.max(next_ms));
    let on_time_is_due = first_on_time.is_some_and(|tick| tick <= now_ms);
    let (from_ms, forgotten) = match spec.catch_up {
        _ if next_ms >= late_ms => (next_ms, 0),
        CatchUp::All => (window_ms.max(next_ms), calendar.count(next_ms, window_ms)),
        CatchUp::Last if !on_time_is_due => {
            let missed = calendar.count(next_ms, late_ms);
            match calendar.last_between(window_ms.max(next_ms), late_ms) {
                Some(last) => (last, missed.saturating_sub(1)),
                None => (late_ms, missed),
            }
        }
        CatchUp::Last | CatchUp::None => (late_ms, calendar.count(next_ms, late_ms)),
    };
    let mut due = Due { forgotten, next_ms: calendar.at_or_after(from_ms.max(next_ms)), ..Due::default() };
    while let Some(tick) = due.next_ms.filter(|tick| *tick <= now_ms && due.ticks.len() < most.max(1)) {
        due.ticks.push(tick);
        due.next_ms = calendar.after(tick);
    }
    due
}

/// What becomes of `ticks` (the oldest first), and of the one that waited, under a policy. `busy`: an earlier run goes on.
pub fn fire(overlap: Overlap, waited: Option<i64>, ticks: &[i64], busy: bool) -> Fired {
    let mut fired = Fired { waiting: waited, ..Fired::default() };
    let mut busy = busy;
    if overlap == Overlap::Allow {
        // What waits was told to wait, by a backfill or by the policy of before.
        release(&mut fired, &mut busy);
        fired.now.extend(ticks);
        return fired;
    }
    if overlap != Overlap::CancelPrevious || ticks.is_empty() {
        release(&mut fired, &mut busy);
    }
    // Of several ticks at once only the newest would be left of them.
    let newest = ticks.len().saturating_sub(1);
    for (place, tick) in ticks.iter().enumerate() {
        match overlap {
            Overlap::CancelPrevious if place < newest => fired.skipped += 1,
            Overlap::CancelPrevious => {
                fired.skipped += u64::from(fired.waiting.replace(*tick).is_some());
            }
            Overlap::BufferOne if fired.waiting.is_none() => fired.waiting = Some(*tick),
            Overlap::Skip if !busy && fired.waiting.is_none() => {
                fired.now.push(*tick);
                busy = true;
            }
            Overlap::Allow | Overlap::Skip | Overlap::BufferOne => fired.skipped += 1,
        }
        release(&mut fired, &mut busy);
    }
    fired
}

/// What waits need not wait any longer when nothing runs.
fn release(fired: &mut Fired, busy: &mut bool) {
    if !*busy && let Some(tick) = fired.waiting.take() {
        fired.now.push(tick);
        *busy = true;
    }
}
