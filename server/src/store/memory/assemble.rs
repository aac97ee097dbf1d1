//! Putting records together from what the machine knows and what its owner keeps beside it.
use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::{
    machine::{Found, Granted},
    write::{Key, Table},
};
use crate::model::{
    job::{Attempt, Body, LogLine, Outcome, Parts, Record},
    limits::ATTEMPTS_KEPT,
    op::{Leased, Passed},
};

/// A side record that is there but cannot be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a record is damaged")]
pub struct Damaged;

/// Reads side records by key: the owner's half.
pub trait SideReader {
    /// `None` = there is none.
    fn read(&self, key: &Key) -> Result<Option<Bytes>, Damaged>;
}

/// The record of a job with the parts that were asked for. A damaged part is left out.
pub fn record(found: Found, parts: Parts, sides: &impl SideReader) -> Record {
    let Found { meta, row, sides: has } = found;
    let outcome: Option<Outcome> =
        if has.outcome && (parts.outcome || parts.attempts) { part(sides, Table::Outcome, row, 0) } else { None };
    let attempts = if parts.attempts {
        let last = outcome.as_ref().and_then(|outcome| outcome.last.clone());
        history(row, has.attempts, meta.delivery, last, sides)
    } else {
        Vec::new()
    };
    let progress = if has.progress && parts.progress { part(sides, Table::Progress, row, 0) } else { None };
    let checkpoint = if has.checkpoint && parts.checkpoint { part(sides, Table::Checkpoint, row, 0) } else { None };
    Record {
        body: if parts.body { body(row, sides) } else { None },
        outcome: outcome.filter(|_| parts.outcome),
        attempts,
        progress,
        checkpoint,
        meta,
    }
}

/// A job that was leased, with all that its worker needs.
pub fn leased(granted: Granted, sides: &impl SideReader) -> Leased {
    let Granted { found, secret } = granted;
    let outcome: Option<Outcome> = if found.sides.outcome { part(sides, Table::Outcome, found.row, 0) } else { None };
    let checkpoint = if found.sides.checkpoint { part(sides, Table::Checkpoint, found.row, 0) } else { None };
    Leased {
        secret,
        body: body(found.row, sides),
        checkpoint,
        last_failure: outcome.and_then(|outcome| outcome.failure),
        passed: Passed::default(),
        meta: found.meta,
    }
}

/// Lines of a log from index `first` up to `end` (not included): those after `after` of at least `min_level`, at most
/// `limit`.
pub fn log_lines(
    (row, first, end): (u64, u64, u64),
    after: u64,
    min_level: u8,
    limit: usize,
    sides: &impl SideReader,
) -> Vec<LogLine> {
    (first.max(after.saturating_add(1))..end)
        .filter_map(|index| part::<LogLine>(sides, Table::Log, row, index))
        .filter(|line| line.level >= min_level)
        .take(limit)
        .collect()
}

/// Ended leases, newest first: those in the history, and the last one, which an ended job keeps with its outcome.
fn history(row: u64, has: bool, deliveries: u32, last: Option<Attempt>, sides: &impl SideReader) -> Vec<Attempt> {
    let mut attempts = Vec::new();
    if has {
        let first = deliveries.saturating_sub(ATTEMPTS_KEPT - 1).max(1);
        let kept = (first..=deliveries).rev();
        attempts.extend(kept.filter_map(|delivery| part(sides, Table::Attempt, row, u64::from(delivery))));
    }
    if let Some(last) = last {
        let newer = |attempt: &Attempt| attempt.delivery > last.delivery;
        let place = attempts.iter().take_while(|attempt| newer(attempt)).count();
        if attempts.get(place).is_none_or(|attempt| attempt.delivery != last.delivery) {
            attempts.insert(place, last);
        }
    }
    attempts.truncate(ATTEMPTS_KEPT as usize);
    attempts
}

fn body(row: u64, sides: &impl SideReader) -> Option<Body> {
    let bytes = sides.read(&Key::Job { table: Table::Body, row, sub: 0 }).ok()??;
    Body::decode(&bytes).ok()
}

fn part<T: DeserializeOwned>(sides: &impl SideReader, table: Table, row: u64, sub: u64) -> Option<T> {
    let bytes = sides.read(&Key::Job { table, row, sub }).ok()??;
    postcard::from_bytes(&bytes).ok()
}
