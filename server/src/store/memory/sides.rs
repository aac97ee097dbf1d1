//! The side records of the memory store: what an owner with a disk would write there.
use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use super::{
    assemble::{Damaged, SideReader},
    write::{Key, Table, Write},
};

/// Side records by job.
#[derive(Debug, Default)]
pub(super) struct SideMap {
    jobs: HashMap<u64, JobSides, hashbrown::DefaultHashBuilder>,
}

#[derive(Debug, Default)]
struct JobSides {
    body: Bytes,
    /// Few waiting jobs have any.
    #[expect(clippy::box_collection, reason = "8 bytes instead of 24 for the many that have none")]
    rest: Option<Box<BTreeMap<(Table, u64), Bytes>>>,
}

impl SideMap {
    /// Keeps what is a side record; what the machine holds itself needs no second copy.
    pub fn apply(&mut self, write: Write) {
        match write {
            Write::Set(Key::Job { table: Table::Meta, .. } | Key::Named(_), _) | Write::Remove(Key::Named(_)) => {}
            Write::Set(Key::Job { table: Table::Body, row, .. }, body) => self.jobs.entry(row).or_default().body = body,
            Write::Set(Key::Job { table, row, sub }, value) => {
                // In memory of its own: it comes cut out of a buffer that it would keep alive.
                let value = Bytes::copy_from_slice(&value);
                self.jobs.entry(row).or_default().rest.get_or_insert_default().insert((table, sub), value);
            }
            Write::Remove(Key::Job { table, row, sub }) => {
                if let Some(rest) = self.jobs.get_mut(&row).and_then(|job| job.rest.as_mut()) {
                    rest.remove(&(table, sub));
                }
            }
            Write::Forget { row, .. } => drop(self.jobs.remove(&row)),
        }
    }
}

impl SideReader for SideMap {
    fn read(&self, key: &Key) -> Result<Option<Bytes>, Damaged> {
        let Key::Job { table, row, sub } = key else { return Ok(None) };
        let Some(job) = self.jobs.get(row) else { return Ok(None) };
        Ok(match table {
            Table::Body => Some(job.body.clone()),
            table => job.rest.as_ref().and_then(|rest| rest.get(&(*table, *sub))).cloned(),
        })
    }
}
