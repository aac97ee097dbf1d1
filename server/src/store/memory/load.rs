//! Building the state again from the records that were kept, in whatever order they come.
use std::collections::{BTreeSet, HashMap};

use super::{
    codec::{Corrupt, named, read_doc, read_meta, read_name},
    keys::Holder,
    machine::Machine,
    place::is_over,
    queue::{Queue, Spot, by_time},
    ready::LEVELS,
    write::{Key, Table},
};
use crate::model::{ids::Name, state::State, time::Now};
use crate::store::{
    bounds::Bucket,
    slot::{Stamp, flag},
};

impl Machine {
    /// Takes one live record of the tables that the machine holds in memory: job facts and everything named.
    pub fn load(&mut self, key: Key, value: &[u8]) -> Result<(), Corrupt> {
        match key {
            Key::Job { table: Table::Meta, row, .. } => self.load_job(row, value),
            Key::Job { .. } => Ok(()),
            Key::Named(name) => self.load_named(&name, value),
        }
    }

    fn load_job(&mut self, row: u64, value: &[u8]) -> Result<(), Corrupt> {
        let slot = read_meta(row, value)?;
        let id = slot.id;
        self.next_row = self.next_row.max(row as i64 + 1);
        match slot.state {
            State::Scheduled | State::Retrying => self.loaded_ties = self.loaded_ties.max(by_time::arrival(slot.order)),
            _ => {
                self.arrival = self.arrival.max(slot.order);
                self.front = self.front.min(slot.order);
            }
        }
        if let Err(there) = self.ids.insert(&self.slab, id, self.slab.next()) {
            let other = self.slab[there].row.get();
            return Err(Corrupt(format!("job record {row} has the id {id} of job record {other}")));
        }
        self.slab.insert(slot);
        Ok(())
    }

    fn load_named(&mut self, key: &str, value: &[u8]) -> Result<(), Corrupt> {
        let corrupt = || Corrupt(format!("record {key:?} does not decode"));
        if let Some(key) = key.strip_prefix(named::DOC) {
            self.enter_doc(key.to_owned(), read_doc(value).ok_or_else(corrupt)?);
        } else if key == named::DOC_VERSION {
            self.doc_floor = read_doc(value).ok_or_else(corrupt)?.version;
        } else if let Some(name) = key.strip_prefix(named::QUEUE) {
            let name: Name = name.parse().map_err(|_| corrupt())?;
            let record = read_name(value).ok_or_else(corrupt)?;
            let number = check_number(key, record.number)?;
            if !self.queue_names.load(name.clone(), number) {
                return Err(Corrupt(format!("record {key:?} has the number of another queue")));
            }
            while self.queues.len() <= number as usize {
                self.queues.push(Queue::new(name.clone()));
            }
            let queue = &mut self.queues[number as usize];
            queue.name = name;
            queue.pause = record.pause;
            queue.config = record.config;
        } else if let Some(name) = key.strip_prefix(named::KEY) {
            if !self.load_key(name, value) {
                return Err(corrupt());
            }
        } else if let Some(name) = key.strip_prefix(named::THROTTLE) {
            if !self.load_throttle(name, value) {
                return Err(corrupt());
            }
        } else if let Some(name) = key.strip_prefix(named::TYPE) {
            let name: Name = name.parse().map_err(|_| corrupt())?;
            let number = check_number(key, read_name(value).ok_or_else(corrupt)?.number)?;
            if !self.kinds.load(name, number) {
                return Err(Corrupt(format!("record {key:?} has the number of another type")));
            }
        } else {
            return Err(Corrupt(format!("record {key:?} is of no known kind")));
        }
        Ok(())
    }

    /// Takes the range of a job's log lines. Those of jobs that are not there are left alone.
    pub fn load_log(&mut self, row: u64, first: u64, last: u64) {
        self.loaded_logs.push((row, first, last));
    }

    /// Builds lists and indexes. Every RUNNING job keeps its token and gets one fresh lease of `lease_ms`.
    pub fn loaded(&mut self, now: Now, lease_ms: i64) -> Result<(), Corrupt> {
        for (number, _) in self.queues.iter().enumerate() {
            if self.queue_names.get(number as u32).is_none() {
                return Err(Corrupt(format!("queue number {number} has no name")));
            }
        }
        self.place_logs();
        // What comes next comes after everything that waits for the same millisecond.
        self.arrival += (self.loaded_ties - by_time::arrival(self.arrival)).max(0);
        let lease = Stamp::new(now.mono_ms.saturating_add(lease_ms));
        let mut lists: HashMap<(u32, State, usize), Vec<Spot>> = HashMap::new();
        let (mut leases, mut cancels, mut expiries, mut trims) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let running: Vec<u32> =
            self.slab.iter().filter(|(_, slot)| slot.state == State::Running).map(|(at, _)| at).collect();
        for at in running {
            self.slab[at].until = lease;
        }
        for (at, slot) in self.slab.iter() {
            let row = slot.row.get();
            if slot.queue as usize >= self.queues.len() {
                return Err(Corrupt(format!("job record {row} is in queue number {}, which has no name", slot.queue)));
            }
            if self.kinds.get(slot.kind).is_none() {
                return Err(Corrupt(format!("job record {row} is of type number {}, which has no name", slot.kind)));
            }
            let level = if slot.state == State::Ready { slot.level() } else { 0 };
            if let Some(key) = slot.held_key() {
                self.keys.take(key, Holder { id: slot.id, until_ms: None });
            }
            if let Some(key) = slot.awaited_key() {
                self.keys.wait(key, slot.id);
            }
            lists.entry((slot.queue, slot.state, level)).or_default().push(Spot::new(slot.order, at));
            match slot.state {
                State::Running => {
                    leases.push(Spot::new(slot.until.get(), at));
                    cancels.extend(slot.cancel_deadline().map(|deadline| Spot::new(deadline, at)));
                }
                state if state.is_terminal() => trims.push(Spot::new(slot.until.get(), at)),
                _ => {}
            }
            expiries.extend(slot.waiting_expiry().map(|expiry| Spot::new(expiry, at)));
        }
        debug_assert!(lists.keys().all(|(_, _, level)| *level < LEVELS), "levels come from priorities");
        // Built from sorted entries the sets are dense: a third less memory than one by one.
        for ((number, state, level), spots) in lists {
            self.queues[number as usize].load(state, level, spots.into_iter().collect());
        }
        let index = |spots: Vec<Spot>| spots.into_iter().collect::<BTreeSet<Spot>>();
        self.timers.leases = index(leases);
        self.timers.cancels = index(cancels);
        self.timers.expiries = index(expiries);
        self.timers.trims = index(trims);
        let mut keyed = BTreeSet::new();
        for (_, slot) in self.slab.iter() {
            if slot.fair != 0 && matches!(slot.state, State::Ready | State::Running) {
                keyed.insert(slot.queue);
            }
        }
        for (number, queue) in self.queues.iter_mut().enumerate() {
            if keyed.contains(&(number as u32)) || queue.bounds().per_key.any() {
                queue.divide(now, &self.slab, false);
            }
            queue.next_start = queue.earliest_start();
            queue.bucket = Bucket::empty(now.mono_ms);
            self.timers.starts.extend(queue.next_start.map(|at| (at, number as u32)));
            let opens = queue.pause.as_ref().and_then(|pause| pause.resume_ms);
            self.timers.opens.extend(opens.map(|at| (at, number as u32)));
            if is_over(queue) {
                self.timers.over.insert(number as u32);
            }
        }
        self.place_throttles(now);
        Ok(())
    }

    fn place_logs(&mut self) {
        let logs = std::mem::take(&mut self.loaded_logs);
        if logs.is_empty() {
            return;
        }
        let logs: HashMap<u64, (u64, u64)> = logs.into_iter().map(|(row, first, last)| (row, (first, last))).collect();
        let logged: Vec<(u32, u64, u64)> = self
            .slab
            .iter()
            .filter_map(|(at, slot)| logs.get(&(slot.row.get() as u64)).map(|(first, last)| (at, *first, *last)))
            .collect();
        for (at, first, last) in logged {
            let slot = &mut self.slab[at];
            slot.set(flag::LOG, true);
            let extra = slot.extra_mut();
            extra.log_first = first;
            extra.log_next = last + 1;
        }
    }
}

/// Numbers are handed out one after the other: an absurd one must not allocate a table as large.
fn check_number(key: &str, number: u32) -> Result<u32, Corrupt> {
    const MOST: u32 = 1 << 26;
    if number < MOST { Ok(number) } else { Err(Corrupt(format!("record {key:?} has the number {number}"))) }
}
