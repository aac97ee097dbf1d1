//! PURE. When a schedule fires, and what becomes of each of its ticks: no clock, no I/O. The same schedule and the same time
//! give the same jobs on every server.
use uuid::Uuid;
use xxhash_rust::xxh3::Xxh3;

use crate::model::ids::Name;

mod calendar;
mod cron;
mod fire;
#[cfg(test)]
mod tests;

pub use calendar::{BadCadence, Calendar};
pub use fire::{Due, Fired, due, fire};

/// The proposal for the id of a tick's job: whoever fires the tick names the same job.
pub fn tick_id(schedule: &Name, tick_ms: i64) -> Uuid {
    Uuid::new_v8(hash(b't', schedule, tick_ms).digest128().to_be_bytes())
}

/// How much later than its tick a job starts, below `jitter_ms`.
pub fn jitter(schedule: &Name, tick_ms: i64, jitter_ms: i64) -> i64 {
    match u64::try_from(jitter_ms) {
        Ok(most @ 1..) => (hash(b'j', schedule, tick_ms).digest() % most) as i64,
        _ => 0,
    }
}

fn hash(what: u8, schedule: &Name, tick_ms: i64) -> Xxh3 {
    let mut hash = Xxh3::new();
    hash.update(&[what]);
    hash.update(schedule.as_str().as_bytes());
    hash.update(&[0]);
    hash.update(&tick_ms.to_le_bytes());
    hash
}
