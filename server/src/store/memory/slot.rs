//! One job in memory: 112 bytes, rarely used facts in a box. And the slab that keeps the slots.
use std::ops::{Index, IndexMut};

use super::write::Sides;
use crate::model::{
    ids::JobId,
    job::{CancelRequest, Meta},
    state::State,
};

/// A point in time, or a row, in 6 bytes: 0 to 2^48 − 1 (milliseconds up to the year 10889). What is outside is cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stamp([u8; 6]);

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

/// Yes-or-no facts of a slot.
pub(super) mod flag {
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
    /// No job lives in this slot.
    pub const FREE: u16 = 1 << 15;
}

/// What few jobs have.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Extra {
    pub crashes: u32,
    /// Wall clock; 0 = does not expire.
    pub expire_ms: i64,
    pub cancel: Option<CancelRequest>,
    /// Lowest log index kept and the one that comes next; 0 = no log.
    pub log_first: u64,
    pub log_next: u64,
}

/// A job's record.
#[derive(Debug)]
pub(super) struct Slot {
    pub id: JobId,
    pub row: Stamp,
    /// Its place in the list of its queue and state.
    pub order: i64,
    pub token: u64,
    pub content: u64,
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
    fn free() -> Self {
        Self {
            id: JobId::from_bytes([0; 16]),
            row: Stamp::default(),
            order: 0,
            token: 0,
            content: 0,
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

    /// When it expires, if that is still looked at.
    pub fn expiry(&self) -> Option<i64> {
        match self.expire_ms() {
            0 => None,
            _ if self.has(flag::BEGUN) => None,
            at => Some(at),
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
            purge_ms: if terminal { self.until.get() } else { 0 },
            cancel: self.cancel().cloned(),
            version: self.version,
            content: self.content,
            order: self.order,
        }
    }
}

/// Index of a priority's list, highest first: 4 → 0, −4 → 8.
pub(super) fn level(priority: i8) -> usize {
    (4 - priority.clamp(-4, 4)) as usize
}

/// Slots in pages, so that growing copies nothing. Freed slots are used again, the last one first.
#[derive(Debug, Default)]
pub(super) struct Slab {
    pages: Vec<Vec<Slot>>,
    free: Vec<u32>,
    live: usize,
}

const PAGE_BITS: u32 = 10;
const PAGE: usize = 1 << PAGE_BITS;

impl Slab {
    /// Where the next slot will go.
    pub fn next(&self) -> u32 {
        match self.free.last() {
            Some(at) => *at,
            None => self.pages.last().map_or(0, |page| (self.pages.len() - 1) * PAGE + page.len()) as u32,
        }
    }

    pub fn insert(&mut self, slot: Slot) -> u32 {
        self.live += 1;
        if let Some(at) = self.free.pop() {
            self[at] = slot;
            return at;
        }
        if self.pages.last().is_none_or(|page| page.len() == PAGE) {
            self.pages.push(Vec::with_capacity(PAGE));
        }
        let number = self.pages.len() - 1;
        let page = &mut self.pages[number];
        page.push(slot);
        (number << PAGE_BITS | (page.len() - 1)) as u32
    }

    pub fn remove(&mut self, at: u32) {
        self[at] = Slot::free();
        self.free.push(at);
        self.live -= 1;
    }

    pub fn len(&self) -> usize {
        self.live
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, &Slot)> {
        self.pages
            .iter()
            .enumerate()
            .flat_map(|(number, page)| {
                page.iter().enumerate().map(move |(i, slot)| ((number << PAGE_BITS | i) as u32, slot))
            })
            .filter(|(_, slot)| !slot.has(flag::FREE))
    }
}

impl Index<u32> for Slab {
    type Output = Slot;

    fn index(&self, at: u32) -> &Slot {
        &self.pages[(at >> PAGE_BITS) as usize][at as usize & (PAGE - 1)]
    }
}

impl IndexMut<u32> for Slab {
    fn index_mut(&mut self, at: u32) -> &mut Slot {
        &mut self.pages[(at >> PAGE_BITS) as usize][at as usize & (PAGE - 1)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_stays_small() {
        assert_eq!(size_of::<Slot>(), 112);
    }

    #[test]
    fn a_stamp_keeps_what_fits_and_cuts_the_rest() {
        for value in [0, 1, 1_764_000_000_000, Stamp::MAX] {
            assert_eq!(Stamp::new(value).get(), value);
        }
        assert_eq!(Stamp::new(-5).get(), 0);
        assert_eq!(Stamp::new(i64::MAX).get(), Stamp::MAX);
    }

    #[test]
    fn freed_slots_are_used_again_and_left_out() {
        let mut slab = Slab::default();
        let filled: Vec<u32> =
            (0..PAGE as u32 + 1).map(|n| slab.insert(Slot { flags: 0, version: n, ..Slot::free() })).collect();
        assert_eq!(slab.next(), PAGE as u32 + 1);
        slab.remove(filled[7]);
        assert_eq!(slab.next(), filled[7]);
        assert_eq!(slab.len(), PAGE);
        assert_eq!(slab.iter().count(), PAGE);
        assert_eq!(slab.insert(Slot { flags: 0, ..Slot::free() }), filled[7]);
        assert_eq!(slab[PAGE as u32].version, PAGE as u32);
    }
}
