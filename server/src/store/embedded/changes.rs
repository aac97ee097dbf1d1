//! Turns the writes of a group into what has to reach the disk: one change per record, the last one, in the order of
//! the tables' keys.
use std::cmp::Ordering;

use bytes::Bytes;
use hashbrown::{HashMap, HashSet};

use crate::store::memory::write::{Key, Sides, Table, Write};

/// One change of one job's record. `value` `None` = remove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JobChange {
    pub table: Table,
    pub row: u64,
    pub sub: u64,
    pub value: Option<Bytes>,
}

impl JobChange {
    fn order(&self, other: &Self) -> Ordering {
        (self.table, self.row, self.sub).cmp(&(other.table, other.row, other.sub))
    }
}

/// What a group comes down to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// Sorted by table, row and sub; each key once; none of a forgotten row.
    pub jobs: Vec<JobChange>,
    /// Jobs to forget, by row.
    pub forget: Vec<(u64, Sides)>,
    /// Each name once.
    pub named: Vec<(String, Option<Bytes>)>,
}

impl Changes {
    /// Folds writes that happened one after the other. A job that came and went within them is still in `forget`:
    /// removing what is not there is harmless.
    pub fn of(writes: Vec<Write>) -> Self {
        let mut jobs = Vec::with_capacity(writes.len());
        let mut forget: Vec<(u64, Sides)> = Vec::new();
        let mut named: Vec<(String, Option<Bytes>)> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        for write in writes {
            let (key, value) = match write {
                Write::Set(key, value) => (key, Some(value)),
                Write::Remove(key) => (key, None),
                Write::Forget { row, sides } => {
                    forget.push((row, sides));
                    continue;
                }
            };
            match key {
                Key::Job { table, row, sub } => jobs.push(JobChange { table, row, sub, value }),
                Key::Named(name) => match places.get(&name) {
                    Some(place) => named[*place].1 = value,
                    None => {
                        places.insert(name.clone(), named.len());
                        named.push((name, value));
                    }
                },
            }
        }
        if !forget.is_empty() {
            let gone: HashSet<u64> = forget.iter().map(|(row, _)| *row).collect();
            jobs.retain(|change: &JobChange| !gone.contains(&change.row));
            forget.sort_unstable_by_key(|(row, _)| *row);
        }
        // Stable: among equals the last one written is last.
        jobs.sort_by(JobChange::order);
        let mut kept: Vec<JobChange> = Vec::with_capacity(jobs.len());
        for change in jobs {
            match kept.last_mut() {
                Some(last) if last.order(&change) == Ordering::Equal => *last = change,
                _ => kept.push(change),
            }
        }
        Self { jobs: kept, forget, named }
    }

    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.forget.is_empty() && self.named.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(table: Table, row: u64, value: &'static str) -> Write {
        Write::Set(Key::Job { table, row, sub: 0 }, Bytes::from_static(value.as_bytes()))
    }

    #[test]
    fn the_last_write_of_a_record_wins_and_tables_come_in_order() {
        let changes = Changes::of(vec![
            set(Table::Body, 2, "body 2"),
            set(Table::Meta, 2, "ready"),
            set(Table::Body, 1, "body 1"),
            set(Table::Meta, 2, "running"),
            Write::Remove(Key::Job { table: Table::Checkpoint, row: 2, sub: 0 }),
            set(Table::Meta, 2, "ended"),
        ]);
        let seen: Vec<_> =
            changes.jobs.iter().map(|c| (c.table, c.row, c.value.as_ref().map(|v| v.to_vec()))).collect();
        assert_eq!(
            seen,
            vec![
                (Table::Meta, 2, Some(b"ended".to_vec())),
                (Table::Body, 1, Some(b"body 1".to_vec())),
                (Table::Body, 2, Some(b"body 2".to_vec())),
                (Table::Checkpoint, 2, None),
            ]
        );
    }

    #[test]
    fn a_forgotten_job_leaves_no_other_change() {
        let sides = Sides { outcome: true, ..Sides::default() };
        let changes = Changes::of(vec![
            set(Table::Meta, 7, "ready"),
            set(Table::Meta, 8, "ready"),
            Write::Forget { row: 7, sides },
        ]);
        assert_eq!(changes.jobs.len(), 1);
        assert_eq!(changes.jobs[0].row, 8);
        assert_eq!(changes.forget, vec![(7, sides)]);
    }

    #[test]
    fn a_name_is_written_once_with_its_last_value() {
        let name = || Key::Named("doc/a".to_owned());
        let changes = Changes::of(vec![
            Write::Set(name(), Bytes::from_static(b"1")),
            Write::Remove(name()),
            Write::Set(name(), Bytes::from_static(b"2")),
        ]);
        assert_eq!(changes.named, vec![("doc/a".to_owned(), Some(Bytes::from_static(b"2")))]);
        assert!(Changes::of(Vec::new()).is_empty());
    }
}
