//! Where a job is by its id, and what becomes due when.
use std::{
    collections::BTreeSet,
    hash::BuildHasher,
    sync::atomic::{AtomicI64, Ordering::Relaxed},
};

use hashbrown::{DefaultHashBuilder, HashTable, hash_table::Entry};

use super::{queue::Spot, slab::Slab};
use crate::model::{ids::JobId, time::Now};

/// Parts of the id table: each grows by itself, so that no call waits for all of it to be rehashed.
const PARTS: usize = 64;

/// From id to slot; the id itself stands only in the slot.
#[derive(Debug)]
pub(super) struct Ids {
    hasher: DefaultHashBuilder,
    parts: Vec<HashTable<u32>>,
}

impl Default for Ids {
    fn default() -> Self {
        Self { hasher: DefaultHashBuilder::default(), parts: vec![HashTable::new(); PARTS] }
    }
}

impl Ids {
    pub fn find(&self, slab: &Slab, id: JobId) -> Option<u32> {
        let hash = self.hasher.hash_one(id);
        self.parts[part(hash)].find(hash, |at| slab[*at].id == id).copied()
    }

    /// Looks ids up for nothing but to have the memory behind them fetched side by side: they are scattered, and one
    /// look-up after the other waits for each. A tenth of the time of a large batch, a quarter when a million jobs wait.
    pub fn fetch(&self, slab: &Slab, ids: impl Iterator<Item = JobId>) {
        let found = ids.filter(|id| self.find(slab, *id).is_some()).count();
        std::hint::black_box(found);
    }

    /// Enters `at` under `id`, unless the id is there: then the slot that has it.
    pub fn insert(&mut self, slab: &Slab, id: JobId, at: u32) -> Result<(), u32> {
        let hash = self.hasher.hash_one(id);
        let hasher = &self.hasher;
        match self.parts[part(hash)].entry(hash, |at| slab[*at].id == id, |at| hasher.hash_one(slab[*at].id)) {
            Entry::Occupied(there) => Err(*there.get()),
            Entry::Vacant(place) => {
                place.insert(at);
                Ok(())
            }
        }
    }

    /// Takes out a slot that is still in the slab.
    pub fn remove(&mut self, slab: &Slab, at: u32) {
        let hash = self.hasher.hash_one(slab[at].id);
        if let Ok(there) = self.parts[part(hash)].find_entry(hash, |other| *other == at) {
            there.remove();
        }
    }

    pub fn len(&self) -> usize {
        self.parts.iter().map(HashTable::len).sum()
    }
}

/// Bits that the tables themselves use last.
fn part(hash: u64) -> usize {
    (hash >> 40) as usize % PARTS
}

/// What becomes due, by time.
#[derive(Debug, Default)]
pub(super) struct Timers {
    /// RUNNING: end of the lease, monotonic. The others are on the wall clock.
    pub leases: BTreeSet<Spot>,
    /// RUNNING and asked to stop: end of the grace.
    pub cancels: BTreeSet<Spot>,
    /// Waiting, never started.
    pub expiries: BTreeSet<Spot>,
    /// Ended: when the record goes.
    pub trims: BTreeSet<Spot>,
    /// (first start, queue).
    pub starts: BTreeSet<(i64, u32)>,
    /// (end of the pause, queue).
    pub opens: BTreeSet<(i64, u32)>,
    /// (time, key) of documents.
    pub docs: BTreeSet<(i64, String)>,
    /// Queues that keep more ended records than they should.
    pub over: BTreeSet<u32>,
    promise: Promise,
    /// Something was entered that is due earlier than promised.
    early: bool,
}

/// Until when, on both clocks, the one who asks what is due was told that nothing would be.
#[derive(Debug)]
struct Promise {
    wall_ms: AtomicI64,
    mono_ms: AtomicI64,
}

impl Default for Promise {
    fn default() -> Self {
        Self { wall_ms: AtomicI64::new(i64::MAX), mono_ms: AtomicI64::new(i64::MAX) }
    }
}

impl Timers {
    /// Something is due at `ms` on the wall clock.
    pub fn note_wall(&mut self, ms: i64) {
        if ms < *self.promise.wall_ms.get_mut() {
            *self.promise.wall_ms.get_mut() = ms;
            self.early = true;
        }
    }

    /// Something is due at `ms` on the monotonic clock.
    pub fn note_mono(&mut self, ms: i64) {
        if ms < *self.promise.mono_ms.get_mut() {
            *self.promise.mono_ms.get_mut() = ms;
            self.early = true;
        }
    }

    /// Whether whoever was promised more time must be told. Asking clears it.
    pub fn take_early(&mut self) -> bool {
        std::mem::take(&mut self.early)
    }

    /// An answer has said that nothing more is due before `next_in_ms` from now. Answers only put off: of several askers
    /// the one with the longest promise is the one that must be woken.
    pub fn promise(&self, now: Now, next_in_ms: Option<i64>) {
        let (wall, mono) = match next_in_ms {
            Some(ms) => (now.wall_ms.saturating_add(ms), now.mono_ms.saturating_add(ms)),
            None => (i64::MAX, i64::MAX),
        };
        self.promise.wall_ms.fetch_max(wall, Relaxed);
        self.promise.mono_ms.fetch_max(mono, Relaxed);
    }

    /// Keeps the first start of a queue up to date: `old` is what the index has, `new` what is so.
    pub fn set_start(&mut self, queue: u32, old: Option<i64>, new: Option<i64>) {
        if old == new {
            return;
        }
        if let Some(ms) = old {
            self.starts.remove(&(ms, queue));
        }
        if let Some(ms) = new {
            self.starts.insert((ms, queue));
            self.note_wall(ms);
        }
    }
}
