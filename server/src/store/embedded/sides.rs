//! Side records that are read without the disk: those not committed yet, which only exist here, and recent ones, so that
//! a job delivered soon after its put is never read back.
use std::collections::VecDeque;

use bytes::Bytes;
use hashbrown::HashMap;
use parking_lot::Mutex;

use super::record_log::SideKey;
use crate::store::memory::write::{Key, Table, Write};

/// What an entry costs besides its bytes: its places in the map and in the line, and what an allocation rounds up.
const ENTRY_BYTES: usize = 144;

/// First in, first out, up to a number of bytes; what is not committed stays whatever it costs.
#[derive(Debug)]
pub(crate) struct SideCache {
    inner: Mutex<Inner>,
    budget: usize,
}

#[derive(Debug, Default)]
struct Inner {
    entries: HashMap<SideKey, Entry>,
    line: VecDeque<Placed>,
    /// Of everything in `line`, also what has been replaced since.
    bytes: usize,
    /// The last batch of the owner's that is on the disk.
    committed: u64,
}

#[derive(Debug)]
struct Entry {
    /// `None` = removed.
    value: Option<Bytes>,
    batch: u64,
}

#[derive(Debug)]
struct Placed {
    key: SideKey,
    batch: u64,
    bytes: usize,
}

impl SideCache {
    pub fn new(budget: usize) -> Self {
        Self { inner: Mutex::default(), budget }
    }

    /// Takes in what a call of the machine wrote, as part of the owner's batch of this number.
    pub fn absorb(&self, writes: &[Write], batch: u64) {
        let concerned =
            |write: &Write| !matches!(write, Write::Set(Key::Job { table: Table::Meta, .. } | Key::Named(_), _));
        if !writes.iter().any(concerned) {
            return;
        }
        let mut inner = self.inner.lock();
        for write in writes {
            match write {
                Write::Set(Key::Job { table, row, sub }, value) => {
                    inner.place((*table, *row, *sub), Some(value), batch)
                }
                Write::Remove(Key::Job { table, row, sub }) => inner.place((*table, *row, *sub), None, batch),
                Write::Forget { row, .. } => {
                    // Nobody asks for them any more. Attempts and lines leave in their turn.
                    for table in [Table::Body, Table::Outcome, Table::Progress, Table::Checkpoint] {
                        inner.entries.remove(&(table, *row, 0));
                    }
                }
                Write::Set(Key::Named(_), _) | Write::Remove(Key::Named(_)) => {}
            }
        }
        inner.shrink(self.budget);
    }

    /// Everything up to this batch is on the disk.
    pub fn committed(&self, batch: u64) {
        let mut inner = self.inner.lock();
        inner.committed = batch;
        inner.shrink(self.budget);
    }

    /// What is known here of each key: `None` = ask the disk, `Some(None)` = there is none.
    pub fn look_up(&self, keys: &[SideKey]) -> Vec<Option<Option<Bytes>>> {
        let inner = self.inner.lock();
        keys.iter().map(|key| inner.entries.get(key).map(|entry| entry.value.clone())).collect()
    }
}

impl Inner {
    fn place(&mut self, key: SideKey, value: Option<&Bytes>, batch: u64) {
        if key.0 == Table::Meta {
            return;
        }
        let bytes = ENTRY_BYTES + value.map_or(0, Bytes::len);
        self.entries.insert(key, Entry { value: value.cloned(), batch });
        self.line.push_back(Placed { key, batch, bytes });
        self.bytes += bytes;
    }

    fn shrink(&mut self, budget: usize) {
        while self.bytes > budget && self.line.front().is_some_and(|first| first.batch <= self.committed) {
            let first = self.line.pop_front().expect("just seen");
            self.bytes -= first.bytes;
            if self.entries.get(&first.key).is_some_and(|entry| entry.batch == first.batch) {
                self.entries.remove(&first.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(row: u64, bytes: usize) -> Write {
        Write::Set(Key::Job { table: Table::Body, row, sub: 0 }, Bytes::from(vec![row as u8; bytes]))
    }

    fn rows(cache: &SideCache, rows: std::ops::Range<u64>) -> Vec<u64> {
        let keys: Vec<SideKey> = rows.map(|row| (Table::Body, row, 0)).collect();
        let known = cache.look_up(&keys);
        keys.iter().zip(known).filter(|(_, known)| known.is_some()).map(|(key, _)| key.1).collect()
    }

    #[test]
    fn what_is_not_committed_stays_and_then_leaves_in_order() {
        let cache = SideCache::new(2 * (ENTRY_BYTES + 100));
        for row in 0..5 {
            cache.absorb(&[body(row, 100)], row + 1);
        }
        assert_eq!(rows(&cache, 0..5), vec![0, 1, 2, 3, 4]);
        cache.committed(2);
        assert_eq!(rows(&cache, 0..5), vec![2, 3, 4]);
        cache.committed(5);
        assert_eq!(rows(&cache, 0..5), vec![3, 4]);
    }

    #[test]
    fn a_removed_record_hides_the_disk_until_that_knows() {
        let cache = SideCache::new(0);
        let key = (Table::Checkpoint, 1, 0);
        cache.absorb(&[Write::Remove(Key::Job { table: Table::Checkpoint, row: 1, sub: 0 })], 1);
        assert_eq!(cache.look_up(&[key]), vec![Some(None)]);
        cache.committed(1);
        assert_eq!(cache.look_up(&[key]), vec![None]);
    }

    #[test]
    fn a_newer_value_outlives_the_place_of_the_older() {
        let cache = SideCache::new(0);
        cache.absorb(&[body(1, 10)], 1);
        cache.absorb(&[body(1, 20)], 2);
        cache.committed(1);
        let value = cache.look_up(&[(Table::Body, 1, 0)]).remove(0).expect("known").expect("there");
        assert_eq!(value.len(), 20);
        cache.committed(2);
        assert_eq!(rows(&cache, 1..2), Vec::<u64>::new());
        assert_eq!(cache.inner.lock().bytes, 0);
    }
}
