//! The state machine: which jobs there are, where each stands, and what may happen to it. PURE: no clock, no I/O, no async,
//! no randomness; the same calls give the same answers.
//!
//! Each state of a queue has a list (READY one per priority), each kind of due thing an index. A change takes the job out
//! of all of them, changes its slot and puts it back: `place.rs`. What must outlive the process is handed to the owner as
//! absolute records: `write.rs`.
use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Unbounded},
};

use super::{
    codec::{Encoder, NameRecord, named, write_name},
    index::{Ids, Timers},
    keys::Keys,
    names::Names,
    place::is_over,
    queue::{Queue, Spot},
    slab::Slab,
    write::{Key, Output, Sides, Table, Write},
};
use crate::store::{
    rules,
    slot::{Stamp, level},
};
use crate::{
    model::{
        ids::{JobId, QueueName, TypeName},
        job::Meta,
        op::{FairKey, ListQuery, NewJob, Put, Wake},
        queue::{Pause, QueueChange, QueueFacts},
        state::State,
        time::Now,
    },
    store::Doc,
};

pub use super::codec::Corrupt;

/// The whole state of a store.
#[derive(Debug, Default)]
pub struct Machine {
    pub(super) slab: Slab,
    pub(super) ids: Ids,
    pub(super) kinds: Names,
    pub(super) queue_names: Names,
    /// Indexed by the queue's number.
    pub(super) queues: Vec<Queue>,
    pub(super) timers: Timers,
    pub(super) keys: Keys,
    pub(super) docs: BTreeMap<String, Doc>,
    /// The highest version of a document that was deleted: new ones start above it.
    pub(super) doc_floor: u64,
    pub(super) next_row: i64,
    /// The latest arrival; counts up.
    pub(super) arrival: i64,
    /// The latest arrival at a front; counts down.
    pub(super) front: i64,
    /// Queues that were at their limit, or a key of theirs was, when a lease of theirs ended in this call.
    pub(super) freed: Vec<u32>,
    pub(super) encoder: Encoder,
    /// While loading: the latest arrival among those that wait for a time.
    pub(super) loaded_ties: i64,
    /// While loading: (queue, fairness key or `None` = the whole queue, end) of throttles.
    pub(super) loaded_throttles: Vec<(u32, Option<FairKey>, i64)>,
    /// While loading: (row, first, last) of logs.
    pub(super) loaded_logs: Vec<(u64, u64, u64)>,
}

/// A job as the machine knows it, and where its owner finds the rest.
#[derive(Clone, Debug)]
pub struct Found {
    pub meta: Meta,
    pub row: u64,
    pub sides: Sides,
}

/// A job that was leased.
#[derive(Clone, Debug)]
pub struct Granted {
    pub found: Found,
    pub secret: u64,
}

impl Machine {
    pub fn new() -> Self {
        Self::default()
    }

    /// Records jobs: READY, or SCHEDULED when the start lies ahead. One answer per job, in order.
    pub fn put(&mut self, now: Now, jobs: Vec<NewJob>, out: &mut Output) -> Vec<Put> {
        out.writes.reserve(jobs.len() * 2);
        self.ids.fetch(&self.slab, jobs.iter().map(|job| job.id));
        let answers = jobs.into_iter().map(|job| self.put_one(now, job, out)).collect();
        self.finish_call(now, out);
        answers
    }

    pub(super) fn put_one(&mut self, now: Now, job: NewJob, out: &mut Output) -> Put {
        let mut waits = false;
        if (job.unique.is_some() || job.idempotency.is_some()) && self.ids.find(&self.slab, job.id).is_none() {
            match self.check_keys(now, &job) {
                Ok(behind) => waits = behind,
                Err(held) => return held,
            }
        }
        if !job.overshoots && self.is_full(&job) {
            return Put::QueueFull;
        }
        if let Err(there) = self.ids.insert(&self.slab, job.id, self.slab.next()) {
            let there = &self.slab[there];
            return Put::Exists { state: there.state, ready_ms: there.ready.get(), same: there.content == job.content };
        }
        let queue = self.queue_number(&job.queue, out);
        let kind = self.kind_number(&job.kind, out);
        let (mut slot, mut line) = rules::new_job(now, &job, queue, kind);
        if waits {
            line = rules::wait_behind(&mut slot);
        }
        slot.row = Stamp::new(self.next_row);
        let at = self.slab.insert(slot);
        self.stand(at, line);
        let row = self.next_row as u64;
        self.next_row += 1;
        out.writes.push(Write::Set(Key::Job { table: Table::Body, row, sub: 0 }, job.body.clone()));
        self.write_meta(at, out);
        self.attach(now, at, out);
        self.take_keys(now, &job, waits, out);
        Put::Created { state: self.slab[at].state, ready_ms: self.slab[at].ready.get() }
    }

    /// Whether as many jobs wait as may, and this is not one of them.
    fn is_full(&self, job: &NewJob) -> bool {
        let Some(number) = self.queue_names.find(&job.queue) else { return false };
        let queue = &self.queues[number as usize];
        let most = queue.bounds().max_depth;
        most > 0 && queue.depth() as u64 >= most && self.ids.find(&self.slab, job.id).is_none()
    }

    /// The job with this id.
    pub fn find(&self, id: JobId) -> Option<Found> {
        self.ids.find(&self.slab, id).map(|at| self.found(at))
    }

    pub(super) fn found(&self, at: u32) -> Found {
        let slot = &self.slab[at];
        Found { meta: self.meta(at), row: slot.row.get() as u64, sides: slot.sides() }
    }

    pub(super) fn meta(&self, at: u32) -> Meta {
        let slot = &self.slab[at];
        slot.meta(self.queues[slot.queue as usize].name.clone(), self.kinds.name(slot.kind))
    }

    /// One page of one list, in its order.
    pub fn list(&self, query: &ListQuery) -> Vec<Meta> {
        let Some(number) = self.queue_names.find(&query.queue) else { return Vec::new() };
        let queue = &self.queues[number as usize];
        let spots: Box<dyn Iterator<Item = Spot>> = match query.state {
            State::Ready => {
                let first = query.after.map_or(0, |place| level(place.priority));
                let pages = queue.ready.levels().enumerate().skip(first).flat_map(move |(at, list)| {
                    let after = query.after.filter(|_| at == first).map(|place| self.place_after(number, place));
                    list.range((after.map_or(Unbounded, Excluded), Unbounded))
                });
                Box::new(pages.copied())
            }
            state if state.is_terminal() => {
                let before = query.after.map(|place| self.place_before(number, place));
                Box::new(queue.list(state).range((Unbounded, before.map_or(Unbounded, Excluded))).rev().copied())
            }
            state => {
                let after = query.after.map(|place| self.place_after(number, place));
                Box::new(queue.list(state).range((after.map_or(Unbounded, Excluded), Unbounded)).copied())
            }
        };
        spots.take(query.limit).map(|spot| self.meta(spot.slot)).collect()
    }

    /// Queues by name: those named that are known, or all.
    pub fn queues(&self, names: Option<&[QueueName]>) -> Vec<QueueFacts> {
        let mut numbers: Vec<u32> = match names {
            Some(names) => names.iter().filter_map(|name| self.queue_names.find(name)).collect(),
            None => (0..self.queues.len() as u32).collect(),
        };
        numbers.sort_by(|a, b| self.queues[*a as usize].name.cmp(&self.queues[*b as usize].name));
        numbers.dedup();
        numbers.into_iter().map(|number| self.facts(number)).collect()
    }

    fn facts(&self, number: u32) -> QueueFacts {
        let queue = &self.queues[number as usize];
        let longest = queue.ready.levels().flat_map(|list| {
            let first = list.first();
            let behind_fronts = list.range(Spot::new(0, 0)..).next();
            [first, behind_fronts]
        });
        let oldest = longest.flatten().map(|spot| self.slab[spot.slot].ready.get()).min();
        queue.facts(oldest)
    }

    /// Changes a queue, making it if need be.
    pub fn set_queue(&mut self, now: Now, name: &QueueName, change: QueueChange, out: &mut Output) -> QueueFacts {
        let number = self.queue_number(name, out);
        let queue = &mut self.queues[number as usize];
        let (old, old_config, closed) = (queue.pause.clone(), queue.config.clone(), queue.closed_ms > 0);
        match change {
            QueueChange::Pause(pause) => queue.pause = Some(pause),
            QueueChange::Resume => {
                queue.pause = None;
                self.lift(now, number, out);
            }
            QueueChange::ResumeIfDue => {
                let due = |pause: &Pause| pause.resume_ms.is_some_and(|at| at <= now.wall_ms);
                queue.pause.take_if(|pause| due(pause));
            }
            QueueChange::Configure(expect, config) => queue.configure(now, &self.slab, expect, config),
        }
        let queue = &self.queues[number as usize];
        if queue.pause != old || queue.config != old_config || closed && queue.closed_ms == 0 {
            let new = queue.pause.clone();
            let config = queue.config.clone();
            let ends = |pause: &Option<Pause>| pause.as_ref().and_then(|pause| pause.resume_ms);
            if let Some(at) = ends(&old) {
                self.timers.opens.remove(&(at, number));
            }
            if let Some(at) = ends(&new) {
                self.timers.opens.insert((at, number));
                self.timers.note_wall(at);
            }
            out.wakes.push(Wake::Queue(name.clone()));
            if new.is_none() && queue.closed_ms == 0 && !queue.ready.is_empty() {
                let queue = &mut self.queues[number as usize];
                (queue.quiet, queue.held) = (false, false);
                out.wakes.push(Wake::Ready(name.clone()));
            }
            self.count_surplus(now, number);
            let record = write_name(&NameRecord { number, pause: new, config });
            out.writes.push(Write::Set(Key::Named(format!("{}{name}", named::QUEUE)), record));
        }
        self.finish_call(now, out);
        self.facts(number)
    }

    /// The number of ended records that the queue keeps may be another one now.
    fn count_surplus(&mut self, now: Now, number: u32) {
        let is_over = is_over(&self.queues[number as usize]);
        match is_over {
            true => {
                self.timers.over.insert(number);
                self.timers.note_wall(now.wall_ms);
            }
            false => _ = self.timers.over.remove(&number),
        }
    }

    /// The number of a queue, made if need be.
    pub(super) fn queue_number(&mut self, name: &QueueName, out: &mut Output) -> u32 {
        let (number, new) = self.queue_names.number(name);
        if new {
            self.queues.push(Queue::new(name.clone()));
            let record = write_name(&NameRecord::new(number));
            out.writes.push(Write::Set(Key::Named(format!("{}{name}", named::QUEUE)), record));
        }
        number
    }

    pub(super) fn kind_number(&mut self, name: &TypeName, out: &mut Output) -> u32 {
        let (number, new) = self.kinds.number(name);
        if new {
            let record = write_name(&NameRecord::new(number));
            out.writes.push(Write::Set(Key::Named(format!("{}{name}", named::TYPE)), record));
        }
        number
    }
}
