//! What a look over a whole store has found.
use std::sync::Arc;

use crate::model::job::TaskCodec;

/// What to do about what is found.
#[derive(Clone, Default)]
pub struct Mend {
    /// `Some` = mend what can be mended beside servers at work. Names that were lost are read from the tasks of their jobs.
    pub tasks: Option<Arc<dyn TaskCodec>>,
    /// Life of the lease that a RUNNING job without one gets, in milliseconds.
    pub lease_ms: i64,
}

/// The answer to a check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Jobs that were looked at.
    pub jobs: u64,
    pub found: Vec<Found>,
    /// What could not be looked at, a sentence each: counters of a queue that never stood still.
    pub skipped: Vec<String>,
}

/// Something that does not agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// A sentence.
    pub what: String,
    /// What was done about it, or why nothing could be. `None` = nobody asked.
    pub mended: Option<Result<String, String>>,
}

impl Checked {
    /// How many disagreements are left.
    pub fn left(&self) -> usize {
        self.found.iter().filter(|found| !matches!(found.mended, Some(Ok(_)))).count()
    }
}
