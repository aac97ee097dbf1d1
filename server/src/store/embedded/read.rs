//! Fetching the side records that an answer needs: from memory, else from the disk, on a thread that may block.
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;

use super::{
    record_log::{ReadError, SideKey, SideSource},
    sides::SideCache,
};
use crate::{
    model::{job::Parts, limits::ATTEMPTS_KEPT},
    store::{
        StoreError,
        memory::{
            assemble::{Damaged, SideReader},
            machine::Found,
            write::{Key, Table},
        },
    },
};

/// Side records by key, as they were fetched.
#[derive(Debug, Default)]
pub(crate) struct Fetched(HashMap<SideKey, Result<Option<Bytes>, Damaged>>);

impl SideReader for Fetched {
    fn read(&self, key: &Key) -> Result<Option<Bytes>, Damaged> {
        match key {
            Key::Job { table, row, sub } => self.0.get(&(*table, *row, *sub)).cloned().unwrap_or(Ok(None)),
            Key::Named(_) => Ok(None),
        }
    }
}

impl Fetched {
    /// Whether the job's body was asked for and is not there: the job was deleted meanwhile, or the store is damaged.
    pub fn lacks_body(&self, row: u64) -> bool {
        matches!(self.0.get(&(Table::Body, row, 0)), Some(Ok(None)))
    }
}

/// Fetches records. Those that are damaged are logged and marked. Errors: `Unavailable`.
pub(crate) async fn fetch(
    sides: &SideCache,
    source: &Arc<dyn SideSource>,
    keys: Vec<SideKey>,
) -> Result<Fetched, StoreError> {
    let mut fetched = HashMap::with_capacity(keys.len());
    let mut missing = Vec::new();
    for (key, known) in keys.iter().zip(sides.look_up(&keys)) {
        match known {
            Some(value) => drop(fetched.insert(*key, Ok(value))),
            None => missing.push(*key),
        }
    }
    if !missing.is_empty() {
        let source = source.clone();
        let read = tokio::task::spawn_blocking(move || {
            let answers = source.read(&missing);
            missing.into_iter().zip(answers).collect::<Vec<_>>()
        });
        let read = read.await.map_err(|error| StoreError::Unavailable(format!("a reading thread failed: {error}")))?;
        for (key, answer) in read {
            let answer = match answer {
                Ok(value) => Ok(value),
                Err(ReadError::Damaged(place)) => {
                    tracing::error!(%place, "a record is damaged");
                    Err(Damaged)
                }
                Err(ReadError::Failed(what)) => return Err(StoreError::Unavailable(what)),
            };
            fetched.insert(key, answer);
        }
    }
    Ok(Fetched(fetched))
}

/// What a delivery of this job needs.
pub(crate) fn for_lease(found: &Found, keys: &mut Vec<SideKey>) {
    let Found { row, sides, .. } = *found;
    keys.push((Table::Body, row, 0));
    keys.extend(sides.outcome.then_some((Table::Outcome, row, 0)));
    keys.extend(sides.checkpoint.then_some((Table::Checkpoint, row, 0)));
}

/// What these parts of the job's record need.
pub(crate) fn for_record(found: &Found, parts: Parts, keys: &mut Vec<SideKey>) {
    let Found { row, sides, .. } = *found;
    keys.extend(parts.body.then_some((Table::Body, row, 0)));
    keys.extend((sides.outcome && (parts.outcome || parts.attempts)).then_some((Table::Outcome, row, 0)));
    keys.extend((sides.progress && parts.progress).then_some((Table::Progress, row, 0)));
    keys.extend((sides.checkpoint && parts.checkpoint).then_some((Table::Checkpoint, row, 0)));
    if sides.attempts && parts.attempts {
        let last = found.meta.delivery;
        let first = last.saturating_sub(ATTEMPTS_KEPT - 1).max(1);
        keys.extend((first..=last).map(|delivery| (Table::Attempt, row, u64::from(delivery))));
    }
}
