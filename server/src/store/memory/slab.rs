//! Where the machine keeps its jobs.
use std::ops::{Index, IndexMut};

use crate::store::slot::{Slot, flag};

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
