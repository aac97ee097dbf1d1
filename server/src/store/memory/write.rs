//! What the machine asks its owner to keep: absolute records, last one wins, never deltas. Loading every live record in
//! any order and rebuilding the indexes gives the state back; replaying a batch twice changes nothing.
use bytes::Bytes;

use crate::model::op::Wake;

pub use crate::store::slot::Sides;

/// The kinds of record that belong to one job. The machine itself holds only what `Meta` has; the rest is read by the
/// owner when somebody asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Table {
    /// The facts that change. Loaded at boot.
    Meta = 0,
    /// Encoded `Body`, as it came with the put.
    Body = 1,
    /// postcard `Outcome`.
    Outcome = 2,
    /// postcard `Attempt`; `sub` = delivery.
    Attempt = 3,
    /// postcard `Progress`.
    Progress = 4,
    /// postcard `Payload`.
    Checkpoint = 5,
    /// postcard `LogLine`; `sub` = index.
    Log = 6,
}

/// Names one record.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// `row` numbers the jobs of this store in order of their put; `sub` is 0 where a job has one record of the kind.
    Job { table: Table, row: u64, sub: u64 },
    /// A queue, a type's number, a document: loaded at boot. The name carries a prefix for its kind.
    Named(String),
}

/// One change to be kept.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    Set(Key, Bytes),
    Remove(Key),
    /// Every record of this job, in all tables.
    Forget {
        row: u64,
        sides: Sides,
    },
}

/// What a call leaves behind besides its answer.
#[derive(Debug, Default)]
pub struct Output {
    pub writes: Vec<Write>,
    pub wakes: Vec<Wake>,
}
