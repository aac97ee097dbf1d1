//! READY jobs in the order in which they are handed out: the highest priority first, each priority by arrival.
use std::{
    collections::BTreeSet,
    ops::Bound::{Excluded, Unbounded},
};

use super::{queue::Spot, slab::Slab};
use crate::{model::time::Now, store::slot::Slot};

/// Priorities, and so lists.
pub(super) const LEVELS: usize = 9;

#[derive(Debug, Default)]
pub(super) struct Ready {
    levels: [BTreeSet<Spot>; LEVELS],
    /// Per level: all up to this place have expired unstarted, so claims go on after it.
    expired_to: [Option<Spot>; LEVELS],
}

/// What a claim has taken so far.
#[derive(Debug)]
pub(super) struct Picked {
    pub slots: Vec<u32>,
    /// Room for bodies that is left.
    bytes: usize,
    /// The first job is in: from now on bodies have to fit.
    any: bool,
    /// A job was left because its body did not fit.
    pub cut: bool,
}

impl Picked {
    /// Of a claim of so many jobs and so many bytes.
    pub fn new(jobs: usize, bytes: usize) -> Self {
        Self { slots: Vec::with_capacity(jobs), bytes, any: false, cut: false }
    }
}

impl Ready {
    pub fn insert(&mut self, at: u32, slot: &Slot) -> bool {
        let (spot, level) = (Spot::new(slot.order, at), slot.level());
        if self.expired_to[level].is_some_and(|seen| spot <= seen) {
            self.expired_to[level] = None;
        }
        self.levels[level].insert(spot)
    }

    pub fn remove(&mut self, at: u32, slot: &Slot) -> bool {
        self.levels[slot.level()].remove(&Spot::new(slot.order, at))
    }

    pub fn contains(&self, at: u32, slot: &Slot) -> bool {
        self.levels[slot.level()].contains(&Spot::new(slot.order, at))
    }

    /// Takes a whole list, as it was built from records.
    pub fn load(&mut self, level: usize, list: BTreeSet<Spot>) {
        self.levels[level] = list;
    }

    pub fn level(&self, level: usize) -> &BTreeSet<Spot> {
        &self.levels[level]
    }

    pub fn levels(&self) -> impl Iterator<Item = &BTreeSet<Spot>> {
        self.levels.iter()
    }

    pub fn len(&self) -> usize {
        self.levels.iter().map(BTreeSet::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.levels.iter().all(BTreeSet::is_empty)
    }

    /// Finds `from_bottom` jobs of the lowest priorities and then those that come first until `most` are picked or the
    /// bytes are used up. Whoever asks takes them out. From below first: what is taken from above must not use up the
    /// room that keeps the lowest from starving.
    pub fn pick(&mut self, slab: &Slab, now: Now, from_bottom: usize, most: usize, picked: &mut Picked) {
        let start = picked.slots.len();
        let mut seen = [None; LEVELS];
        for level in (0..LEVELS).rev() {
            self.pick_level(slab, now, level, start + from_bottom.min(most), &mut seen, picked);
        }
        let mixed = picked.slots.len() > start;
        for level in 0..LEVELS {
            self.pick_level(slab, now, level, start + most, &mut seen, picked);
        }
        if mixed {
            picked.slots[start..].sort_unstable_by_key(|at| (slab[*at].level(), slab[*at].order));
        }
    }

    fn pick_level(
        &mut self,
        slab: &Slab,
        now: Now,
        level: usize,
        most: usize,
        seen: &mut [Option<Spot>; LEVELS],
        picked: &mut Picked,
    ) {
        if picked.slots.len() >= most || picked.cut {
            return;
        }
        let after = seen[level].or(self.expired_to[level]);
        for spot in self.levels[level].range((after.map_or(Unbounded, Excluded), Unbounded)) {
            let slot = &slab[spot.slot];
            if slot.is_expired(now) {
                if seen[level].is_none() {
                    self.expired_to[level] = Some(*spot);
                }
                continue;
            }
            if picked.slots.len() == most {
                return;
            }
            let bytes = slot.body_bytes as usize;
            if bytes > picked.bytes && picked.any {
                picked.cut = true;
                return;
            }
            picked.bytes = picked.bytes.saturating_sub(bytes);
            picked.any = true;
            picked.slots.push(spot.slot);
            seen[level] = Some(*spot);
        }
    }

    /// Whether a claim would find a job.
    pub fn has_claimable(&mut self, slab: &Slab, now: Now) -> bool {
        for (list, expired_to) in self.levels.iter().zip(&mut self.expired_to) {
            for spot in list.range::<Spot, _>((expired_to.map_or(Unbounded, Excluded), Unbounded)) {
                if !slab[spot.slot].is_expired(now) {
                    return true;
                }
                *expired_to = Some(*spot);
            }
        }
        false
    }
}
