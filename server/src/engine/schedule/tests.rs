//! Ticks in the zones of the world, held against a reference that goes about it the other way round; and what becomes of
//! ticks, as tables.
use bytes::Bytes;
use jiff::Timestamp;

use super::*;
use crate::model::{
    job::{JobSpec, Start},
    policy::RetrySpec,
    schedule::{Cadence, CatchUp, Fold, Gap, Overlap, Schedule, ScheduleSpec, WINDOW_MS},
};

mod firing;
mod reference;
mod zones;

fn spec(cadence: Cadence, zone: &str) -> ScheduleSpec {
    ScheduleSpec {
        cadence,
        zone: zone.to_owned(),
        gap: Gap::After,
        fold: Fold::First,
        start_ms: None,
        end_ms: None,
        jitter_ms: 0,
        overlap: Overlap::Allow,
        catch_up: CatchUp::Last,
        window_ms: WINDOW_MS,
        job: JobSpec {
            id: None,
            kind: "a".parse().expect("a name"),
            queue: None,
            payload: None,
            headers: Vec::new(),
            priority: 0,
            start: Start::Now,
            expiry: None,
            timeout_ms: None,
            heartbeat_ms: None,
            total_ms: None,
            retry: RetrySpec::default(),
            tags: Vec::new(),
            retention_ms: None,
            dead_retention_ms: None,
            parent: None,
            fairness_key: String::new(),
            unique: None,
            idempotency: None,
            tick: None,
            depends_on: Vec::new(),
            member: None,
        },
    }
}

fn cron(text: &str, zone: &str) -> ScheduleSpec {
    spec(Cadence::Cron(text.to_owned()), zone)
}

fn calendar(spec: &ScheduleSpec) -> Calendar {
    Calendar::new(spec, 0).expect("a cadence")
}

fn at(text: &str) -> i64 {
    text.parse::<Timestamp>().expect("a time").as_millisecond()
}

fn show(ms: i64) -> String {
    Timestamp::from_millisecond(ms).expect("a time").to_string()
}

/// The first `count` ticks after a time.
fn next(spec: &ScheduleSpec, after: &str, count: usize) -> Vec<String> {
    let calendar = calendar(spec);
    let mut ticks = Vec::new();
    let mut ms = at(after);
    while let Some(tick) = calendar.after(ms).filter(|_| ticks.len() < count) {
        ticks.push(show(tick));
        ms = tick;
    }
    ticks
}

fn stored(next_ms: Option<i64>) -> Schedule {
    Schedule {
        spec: Bytes::new(),
        revision: 1,
        anchor_ms: 0,
        next_ms,
        waiting_ms: None,
        paused: None,
        last_fire_ms: 0,
        last_job: None,
        running: Vec::new(),
        fired: 0,
        skipped: 0,
        create_ms: 0,
        update_ms: 0,
    }
}
