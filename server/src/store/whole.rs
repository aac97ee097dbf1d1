//! A store's content as it is carried from one store into another, whatever their kinds. What is numbered by a store (queues,
//! rows, hints, places) stays behind; the order in which things come says the rest.
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Doc, slot::Slot};
use crate::model::{
    ids::{JobId, QueueName, Shard, TypeName},
    job::LogLine,
    op::KeyHash,
    queue::{Configured, Pause},
};

/// Bytes of a page, about. The first job always fits.
pub(in crate::store) const PAGE_BYTES: usize = 4 << 20;

/// Where an export goes on. Each kind of store has its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark(pub(in crate::store) Vec<u8>);

impl Mark {
    pub(in crate::store) fn of(place: &impl Serialize) -> Self {
        Self(postcard::to_stdvec(place).expect("plain data always encodes"))
    }

    /// `None` = it is another store's.
    pub(in crate::store) fn read<'a, T: Deserialize<'a>>(&'a self) -> Option<T> {
        postcard::from_bytes(&self.0).ok()
    }
}

/// A page of a store.
#[derive(Debug)]
pub struct Exported {
    pub things: Vec<Whole>,
    /// `None` = that was all.
    pub next: Option<Mark>,
}

/// One thing that a store keeps.
#[derive(Debug)]
pub enum Whole {
    Queue(WholeQueue),
    Doc {
        shard: Shard,
        key: String,
        doc: Doc,
    },
    /// The highest version of a document that was deleted.
    DocFloor(Shard, u64),
    /// A key that is remembered for a time.
    Key(WholeKey),
    Job(Box<WholeJob>),
}

/// A queue apart from its jobs.
#[derive(Clone, Debug)]
pub struct WholeQueue {
    pub name: QueueName,
    pub pause: Option<Pause>,
    pub config: Option<Configured>,
    /// Over how many shards it is spread.
    pub width: u16,
    /// How its jobs are placed, for a store with as many shards.
    pub(in crate::store) lists: Option<(u16, String)>,
}

/// A key that is remembered for a time.
#[derive(Clone, Copy, Debug)]
pub struct WholeKey {
    pub(in crate::store) hash: KeyHash,
    pub(in crate::store) id: JobId,
    /// Wall clock.
    pub(in crate::store) until_ms: i64,
    /// Of a store with as many shards.
    pub(in crate::store) shards: u16,
}

/// A job with all that belongs to it. Those of one list come in its order, the first to go first, ended ones in the order
/// of their ends.
#[derive(Debug)]
pub struct WholeJob {
    /// Numbers in it (row, order, queue, type) mean nothing outside of its store.
    pub(in crate::store) slot: Slot,
    pub(in crate::store) queue: QueueName,
    pub(in crate::store) kind: TypeName,
    /// In lists by time: its time, and how many of the same time stand before it.
    pub(in crate::store) place: (i64, u32),
    pub(in crate::store) body: Bytes,
    pub(in crate::store) outcome: Option<Bytes>,
    pub(in crate::store) progress: Option<Bytes>,
    pub(in crate::store) checkpoint: Option<Bytes>,
    /// (delivery, encoded attempt).
    pub(in crate::store) attempts: Vec<(u32, Bytes)>,
    /// Numbered without gaps.
    pub(in crate::store) log: Vec<LogLine>,
}

impl WholeJob {
    /// Which job it is.
    pub fn id(&self) -> JobId {
        self.slot.id
    }

    /// Bytes, about.
    pub(in crate::store) fn size(&self) -> usize {
        let parts = [&self.outcome, &self.progress, &self.checkpoint];
        let lines = self.log.iter().map(|line| line.message.len() + 64).sum::<usize>();
        let attempts = self.attempts.iter().map(|(_, attempt)| attempt.len()).sum::<usize>();
        self.body.len() + parts.into_iter().flatten().map(Bytes::len).sum::<usize>() + attempts + lines + 256
    }
}

/// Counts those of the same time in a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::store) struct Run(Option<(i64, u32)>);

impl Run {
    pub fn next(&mut self, ms: i64) -> (i64, u32) {
        let place = match self.0 {
            Some((same, n)) if same == ms => (ms, n + 1),
            _ => (ms, 0),
        };
        self.0 = Some(place);
        place
    }
}
