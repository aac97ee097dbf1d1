//! A schedule as it is asked for and as it is kept: plain data. What its times are, and what becomes of each, is decided in
//! `engine/schedule`.
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::{
    ids::{JobId, Name, Shard},
    job::JobSpec,
    time::{HOUR, MINUTE, SECOND},
};

/// Documents that are schedules: this, and the id.
pub const PREFIX: &str = "schedule/";

/// A tick that is handled later than this was missed: what becomes of it is the catch-up policy's to say.
pub const LATE_MS: i64 = MINUTE;
/// How far back missed ticks are caught up when the schedule does not say.
pub const WINDOW_MS: i64 = HOUR;
/// The shortest interval, and the finest grain of a cron expression.
pub const INTERVAL_LEAST_MS: i64 = SECOND;
/// Ticks that one step fires at most.
pub const FIRED_MOST: usize = 1_000;
/// What a run gets to stop in, when the next tick cancels it.
pub const CANCEL_GRACE_MS: i64 = 30 * SECOND;

/// The key of a schedule's document.
pub fn key(id: &Name) -> String {
    format!("{PREFIX}{id}")
}

/// The schedule that a document is.
pub fn id_of(key: &str) -> Option<Name> {
    key.strip_prefix(PREFIX)?.parse().ok()
}

/// The shard that keeps the document, when it is a schedule's; it follows from the key.
pub fn home(key: &str, shards: u16) -> Option<Shard> {
    let id = key.strip_prefix(PREFIX)?;
    Some(Shard((xxh3_64(id.as_bytes()) % u64::from(shards.max(1))) as u16))
}

/// When a schedule fires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cadence {
    /// Five fields, or six with seconds first, or `@hourly` and friends.
    Cron(String),
    /// Every so many milliseconds of elapsed time.
    Every(i64),
}

/// A fixed local time that a clock change skips.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gap {
    /// Fires right after the gap.
    #[default]
    After,
    /// Does not fire that day.
    Skip,
}

/// A fixed local time that a clock change repeats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fold {
    #[default]
    First,
    Both,
}

/// What becomes of a tick while an earlier run is not finished.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overlap {
    #[default]
    Allow,
    Skip,
    /// One tick waits for the end of the runs before it; others are skipped.
    BufferOne,
    /// The runs before it are cancelled; the newest tick waits for their end.
    CancelPrevious,
}

/// What becomes of ticks that were missed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CatchUp {
    /// The newest one fires, unless one that is on time stands for it.
    #[default]
    Last,
    /// Each fires, the oldest first.
    All,
    None,
}

/// What is asked for, checked, defaults filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct ScheduleSpec {
    pub cadence: Cadence,
    /// IANA name.
    pub zone: String,
    pub gap: Gap,
    pub fold: Fold,
    /// No tick before this, wall clock.
    pub start_ms: Option<i64>,
    /// No tick after this, wall clock.
    pub end_ms: Option<i64>,
    /// Each job starts later by a share of this that is its tick's own.
    pub jitter_ms: i64,
    pub overlap: Overlap,
    pub catch_up: CatchUp,
    pub window_ms: i64,
    pub job: JobSpec,
}

impl ScheduleSpec {
    /// Whether both have the same ticks.
    pub fn ticks_like(&self, other: &Self) -> bool {
        let times = |spec: &Self| (spec.cadence.clone(), spec.zone.clone(), spec.gap, spec.fold);
        times(self) == times(other) && (self.start_ms, self.end_ms) == (other.start_ms, other.end_ms)
    }
}

/// A schedule that stands still.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standstill {
    pub reason: String,
    /// Wall clock.
    pub pause_ms: i64,
}

/// A schedule as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// The specification, in the contract's words.
    pub spec: Bytes,
    /// Counts changes of the specification.
    pub revision: u64,
    /// Intervals without a start of their own count from here.
    pub anchor_ms: i64,
    /// The first tick that was not handled yet; `None` = there are no more.
    pub next_ms: Option<i64>,
    /// A tick that waits for the end of the runs before it.
    pub waiting_ms: Option<i64>,
    pub paused: Option<Standstill>,
    /// The latest tick that fired, or the latest trigger; 0 = none.
    pub last_fire_ms: i64,
    pub last_job: Option<JobId>,
    /// Runs that were not seen to have ended, the latest last.
    pub running: Vec<JobId>,
    pub fired: u64,
    /// Ticks that brought no job: skipped, forgotten, or passed in a pause.
    pub skipped: u64,
    pub create_ms: i64,
    /// When specification or pause changed.
    pub update_ms: i64,
}

/// Format of the documents.
const VERSION: u8 = 1;

impl Schedule {
    pub fn encode(&self) -> Bytes {
        postcard::to_extend(self, vec![VERSION]).expect("plain data always encodes").into()
    }

    /// `None`: damaged, or of a later release.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (version, rest) = bytes.split_first()?;
        if *version == VERSION { postcard::from_bytes(rest).ok() } else { None }
    }
}

/// What a job that a schedule enqueued says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tick {
    pub schedule: Name,
    /// The nominal time, wall clock; of a trigger, when it was pulled.
    pub fire_ms: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_reads_back_and_what_is_not_known_is_no_schedule() {
        let schedule = Schedule {
            spec: Bytes::from_static(b"spec"),
            revision: 3,
            anchor_ms: 1,
            next_ms: Some(2),
            waiting_ms: None,
            paused: Some(Standstill { reason: "r".into(), pause_ms: 4 }),
            last_fire_ms: 5,
            last_job: Some(JobId::from_bytes([6; 16])),
            running: vec![JobId::from_bytes([7; 16])],
            fired: 8,
            skipped: 9,
            create_ms: 10,
            update_ms: 11,
        };
        let bytes = schedule.encode();
        assert_eq!(Schedule::decode(&bytes), Some(schedule));
        assert_eq!(Schedule::decode(&bytes[..bytes.len() - 1]), None);
        assert_eq!(Schedule::decode(b"\x02rest"), None);
        assert_eq!(Schedule::decode(b""), None);
    }

    #[test]
    fn the_shard_follows_from_the_id() {
        let key = key(&"nightly".parse().expect("a name"));
        assert_eq!(id_of(&key), Some("nightly".parse().expect("a name")));
        assert_eq!(home(&key, 1), Some(Shard(0)));
        assert_eq!(home(&key, 16), home(&key, 16));
        assert_eq!(home("worker/x", 16), None);
        let homes: std::collections::HashSet<Shard> =
            (0..200).filter_map(|n| home(&format!("{PREFIX}s{n}"), 16)).collect();
        assert_eq!(homes.len(), 16);
    }
}
