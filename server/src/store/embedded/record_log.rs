//! The seam below the writer thread: something that keeps records, a batch at a time, all or nothing. SQLite is behind
//! it in production; tests put a log there that loses, refuses or records.
use std::sync::Arc;

use bytes::Bytes;

use super::changes::Changes;
use crate::store::{
    StoreError,
    memory::write::{Key, Table},
};

/// Why a batch was not kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CommitError {
    /// No room on the disk. Nothing of the batch was kept and the log is usable: repeat it as it stands.
    #[error("no space left on the disk: {0}")]
    NoSpace(String),
    /// What the disk holds is unknown now. Nothing may be acknowledged any more.
    #[error("{0}")]
    Fatal(String),
}

/// How long a commit takes to be safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Safety {
    /// On the disk when `commit` returns, with every commit before it.
    PowerLoss,
    /// With the kernel when `commit` returns: it outlives the process, not the machine.
    Crash,
}

/// What was found when the log was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Loaded {
    /// Number of the last commit.
    pub seq: u64,
    /// Live jobs.
    pub jobs: u64,
}

/// One thing that is read back at the start.
pub(crate) enum Found<'a> {
    /// A record of table Meta, or a named one.
    Record(Key, &'a [u8]),
    /// A job's log: the lowest and the highest index kept.
    Log { row: u64, first: u64, last: u64 },
}

/// Keeps records. Owned by the one thread that writes.
pub(crate) trait RecordLog: Send {
    /// Reads every record that lives in memory, in no particular order, and checks that none is missing. `sink` answers
    /// with what it could not read. Errors: `Damaged`, naming file and place.
    fn load(&mut self, sink: &mut dyn FnMut(Found<'_>) -> Result<(), String>) -> Result<Loaded, StoreError>;

    /// Keeps a batch, all or nothing, and returns once it is as safe as was asked.
    fn commit(&mut self, changes: &Changes, safety: Safety) -> Result<(), CommitError>;

    /// Makes everything that was committed safe against power loss.
    fn sync(&mut self) -> Result<(), CommitError>;

    /// Moves some bookkeeping off the path of later commits; called when nothing waits.
    fn tidy(&mut self) -> Result<(), CommitError>;

    /// A way to read side records from other threads. Sees every commit that has returned.
    fn reader(&self) -> Arc<dyn SideSource>;

    /// Holds the tables against each other and against the number of jobs there should be; empty = agree. Reads
    /// everything: seconds with millions of jobs.
    fn verify(&mut self, jobs: u64) -> Result<Vec<String>, CommitError>;

    /// Makes everything safe, folds the log up and lets go of its files.
    fn close(self: Box<Self>) -> Result<(), CommitError>;
}

/// Why a side record could not be read.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// It is there, and cannot be trusted: names the place.
    #[error("{0}")]
    Damaged(String),
    /// Says nothing about the record.
    #[error("{0}")]
    Failed(String),
}

/// Names a side record: table, row, sub.
pub(crate) type SideKey = (Table, u64, u64);

/// Reads what is not kept in memory. Blocks; called from threads that may.
pub(crate) trait SideSource: Send + Sync {
    /// One answer per key, in order; `None` = there is no such record.
    fn read(&self, keys: &[SideKey]) -> Vec<Result<Option<Bytes>, ReadError>>;

    /// Bytes on disk.
    fn bytes(&self) -> u64;
}
