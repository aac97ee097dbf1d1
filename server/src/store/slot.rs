//! One job as stores work on it: 120 bytes, rarely used facts in a box. The memory machine keeps one per job, the Redis
//! store makes one from a packed record.
use crate::model::{
    ids::JobId,
    job::{CancelRequest, Meta},
    op::{FairKey, KeyHash},
    state::State,
    time::Now,
};

/// Which side records a job has, so that nobody looks for, or deletes, what never was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sides {
    pub outcome: bool,
    pub attempts: bool,
    pub progress: bool,
    pub checkpoint: bool,
    pub log: bool,
}

/// A point in time, or a row, in 6 bytes: 0 to 2^48 − 1 (milliseconds up to the year 10889). What is outside is cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct Stamp([u8; 6]);

impl Stamp {
    pub const MAX: i64 = (1 << 48) - 1;

    pub fn new(value: i64) -> Self {
        let bytes = value.clamp(0, Self::MAX).to_le_bytes();
        Self([bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5]])
    }

    pub fn get(self) -> i64 {
        let b = self.0;
        i64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], 0, 0])
    }

    pub fn bytes(self) -> [u8; 6] {
        self.0
    }
}

/// Reads the fields of a record in order.
pub(in crate::store) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    pub fn byte(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    pub fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    pub fn stamp(&mut self) -> Option<Stamp> {
        let b = self.take::<6>()?;
        Some(Stamp::new(i64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], 0, 0])))
    }
}

/// Yes-or-no facts of a slot.
pub(in crate::store) mod flag {
    /// A lease was issued: the token is one.
    pub const LEASED: u16 = 1;
    /// The latest lease was settled by an act under it.
    pub const SETTLED: u16 = 1 << 1;
    /// The handler of the latest lease has started.
    pub const STARTED: u16 = 1 << 2;
    /// Some handler has started, or a person retried the job: it expires no more.
    pub const BEGUN: u16 = 1 << 3;
    /// The latest lease ran out and was counted as a crash.
    pub const CRASHED: u16 = 1 << 4;
    pub const OUTCOME: u16 = 1 << 5;
    pub const ATTEMPTS: u16 = 1 << 6;
    pub const PROGRESS: u16 = 1 << 7;
    pub const CHECKPOINT: u16 = 1 << 8;
    pub const LOG: u16 = 1 << 9;
    /// The job has a uniqueness key, and holds it while it has not ended.
    pub const UNIQUE: u16 = 1 << 10;
    /// It lets go of that key when it is first handed out. Without `UNIQUE`: it has not got the key yet, and waits, BLOCKED,
    /// for the end of the job that has.
    pub const UNTIL_STARTED: u16 = 1 << 11;
    /// The job has a fairness key: `fair` is not 0.
    pub const KEYED: u16 = 1 << 12;
    /// It has to have ended by a time.
    pub const DEADLINE: u16 = 1 << 13;
    /// Flows hear of its end; it is not trimmed.
    pub const WATCHED: u16 = 1 << 14;
    /// No job lives in this slot.
    pub const FREE: u16 = 1 << 15;
}

/// What few jobs have.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::store) struct Extra {
    pub crashes: u32,
    /// Wall clock; 0 = does not expire.
    pub expire_ms: i64,
    /// Wall clock; with the flag `DEADLINE`.
    pub deadline_ms: i64,
    pub cancel: Option<CancelRequest>,
    /// With the flags `UNIQUE`, `UNTIL_STARTED` or both.
    pub unique: KeyHash,
    /// With the flag `WATCHED`: which flows.
    pub owners: Vec<JobId>,
    /// Lowest log index kept and the one that comes next; 0 = no log.
    pub log_first: u64,
    pub log_next: u64,
}

/// A job's record.
#[derive(Clone, Debug)]
pub(in crate::store) struct Slot {
    pub id: JobId,
    pub row: Stamp,
    /// Its place in the list of its queue and state.
    pub order: i64,
    pub token: u64,
    pub content: u64,
    /// 0 = it has no fairness key.
    pub fair: FairKey,
    pub extra: Option<Box<Extra>>,
    pub create: Stamp,
    pub ready: Stamp,
    pub start: Stamp,
    pub finish: Stamp,
    /// RUNNING: end of the lease, monotonic. Ended: when the record goes, wall clock.
    pub until: Stamp,
    pub queue: u32,
    pub kind: u32,
    pub version: u32,
    pub failures: u32,
    pub delivery: u32,
    pub body_bytes: u32,
    pub state: State,
    pub priority: i8,
    pub flags: u16,
}

impl Slot {
    /// A slot where no job lives.
    pub fn free() -> Self {
        Self {
            id: JobId::from_bytes([0; 16]),
            row: Stamp::default(),
            order: 0,
            token: 0,
            content: 0,
            fair: 0,
            extra: None,
            create: Stamp::default(),
            ready: Stamp::default(),
            start: Stamp::default(),
            finish: Stamp::default(),
            until: Stamp::default(),
            queue: 0,
            kind: 0,
            version: 0,
            failures: 0,
            delivery: 0,
            body_bytes: 0,
            state: State::Ready,
            priority: 0,
            flags: flag::FREE,
        }
    }

    pub fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    pub fn set(&mut self, flag: u16, on: bool) {
        if on {
            self.flags |= flag;
        } else {
            self.flags &= !flag;
        }
    }

    /// A lease was issued and nothing was settled under it.
    pub fn is_open(&self) -> bool {
        self.flags & (flag::LEASED | flag::SETTLED) == flag::LEASED
    }

    /// Index of its priority's list, highest priority first.
    pub fn level(&self) -> usize {
        level(self.priority)
    }

    pub fn crashes(&self) -> u32 {
        self.extra.as_ref().map_or(0, |extra| extra.crashes)
    }

    pub fn set_crashes(&mut self, crashes: u32) {
        if crashes != self.crashes() {
            self.extra_mut().crashes = crashes;
        }
    }

    pub fn expire_ms(&self) -> i64 {
        self.extra.as_ref().map_or(0, |extra| extra.expire_ms)
    }

    /// When it expires, if it waits and that is still looked at.
    pub fn waiting_expiry(&self) -> Option<i64> {
        if self.state == State::Running || self.state.is_terminal() { None } else { self.expiry() }
    }

    /// Whether a claim skips it.
    pub fn is_expired(&self, now: Now) -> bool {
        self.expiry().is_some_and(|at| at <= now.wall_ms)
    }

    /// When it expires while it waits: what is still looked at of its start and of its end.
    pub fn expiry(&self) -> Option<i64> {
        let start = match self.expire_ms() {
            0 => None,
            _ if self.has(flag::BEGUN) => None,
            at => Some(at),
        };
        start.into_iter().chain(self.deadline()).min()
    }

    /// When it has to have ended.
    pub fn deadline(&self) -> Option<i64> {
        self.extra.as_ref().filter(|_| self.has(flag::DEADLINE)).map(|extra| extra.deadline_ms)
    }

    /// `None` = it may take as long as it likes.
    pub fn set_deadline(&mut self, deadline_ms: Option<i64>) {
        if deadline_ms != self.deadline() {
            self.set(flag::DEADLINE, deadline_ms.is_some());
            self.extra_mut().deadline_ms = deadline_ms.unwrap_or(0);
        }
    }

    pub fn cancel(&self) -> Option<&CancelRequest> {
        self.extra.as_ref().and_then(|extra| extra.cancel.as_ref())
    }

    /// When a running job that was asked to stop is ended by any server.
    pub fn cancel_deadline(&self) -> Option<i64> {
        self.cancel().and_then(|cancel| cancel.deadline_ms)
    }

    pub fn extra_mut(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    /// The uniqueness key that it holds.
    pub fn held_key(&self) -> Option<KeyHash> {
        let extra = self.extra.as_ref().filter(|_| self.has(flag::UNIQUE) && !self.state.is_terminal())?;
        Some(extra.unique)
    }

    /// The uniqueness key that is its own once the job before it has ended.
    pub fn awaited_key(&self) -> Option<KeyHash> {
        let extra = self.extra.as_ref().filter(|_| self.has(flag::UNTIL_STARTED) && !self.has(flag::UNIQUE))?;
        Some(extra.unique)
    }

    /// Whether there is a uniqueness key in the record: held, held once, or waited for.
    pub fn has_key(&self) -> bool {
        self.has(flag::UNIQUE | flag::UNTIL_STARTED)
    }

    /// From now on it waits for its key, or holds it.
    pub fn await_key(&mut self, waits: bool) {
        self.set(flag::UNIQUE, !waits);
        self.set(flag::UNTIL_STARTED, waits);
    }

    /// Handed out: a key that was held until then is free.
    pub fn release_at_start(&mut self) -> Option<KeyHash> {
        let released = self.held_key().filter(|_| self.has(flag::UNTIL_STARTED))?;
        self.set(flag::UNIQUE | flag::UNTIL_STARTED, false);
        self.extra_mut().unique = KeyHash::default();
        Some(released)
    }

    /// The flows that watch it.
    pub fn owners(&self) -> &[JobId] {
        self.extra.as_ref().map_or(&[], |extra| &extra.owners)
    }

    pub fn sides(&self) -> Sides {
        Sides {
            outcome: self.has(flag::OUTCOME),
            attempts: self.has(flag::ATTEMPTS),
            progress: self.has(flag::PROGRESS),
            checkpoint: self.has(flag::CHECKPOINT),
            log: self.has(flag::LOG),
        }
    }

    /// The record as others see it.
    pub fn meta(&self, queue: crate::model::ids::QueueName, kind: crate::model::ids::TypeName) -> Meta {
        let terminal = self.state.is_terminal();
        Meta {
            id: self.id,
            state: self.state,
            queue,
            kind,
            priority: self.priority,
            failures: self.failures,
            crashes: self.crashes(),
            delivery: self.delivery,
            started: self.has(flag::STARTED),
            create_ms: self.create.get(),
            ready_ms: self.ready.get(),
            start_ms: self.start.get(),
            finish_ms: self.finish.get(),
            expire_ms: self.expire_ms(),
            deadline_ms: self.deadline().unwrap_or(0),
            purge_ms: if terminal && !self.has(flag::WATCHED) { self.until.get() } else { 0 },
            cancel: self.cancel().cloned(),
            version: self.version,
            content: self.content,
            order: self.order,
            watched: self.has(flag::WATCHED),
        }
    }
}

/// Index of a priority's list, highest first: 4 → 0, −4 → 8.
pub(in crate::store) fn level(priority: i8) -> usize {
    (4 - priority.clamp(-4, 4)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_stays_small() {
        assert_eq!(size_of::<Slot>(), 120);
    }

    #[test]
    fn a_stamp_keeps_what_fits_and_cuts_the_rest() {
        for value in [0, 1, 1_764_000_000_000, Stamp::MAX] {
            assert_eq!(Stamp::new(value).get(), value);
        }
        assert_eq!(Stamp::new(-5).get(), 0);
        assert_eq!(Stamp::new(i64::MAX).get(), Stamp::MAX);
    }
}
