//! Queues and fairness keys that a worker asked to be left alone for a time. Kept, so that a restart does not forget what
//! another service has asked for.
use super::{
    codec::named,
    machine::Machine,
    queue::Queue,
    slab::Slab,
    strands::Strands,
    write::{Key, Output, Write},
};
use crate::{
    model::{
        op::{FairKey, Throttle, Wake},
        state::State,
        time::Now,
    },
    store::bounds::Bucket,
};

impl Machine {
    /// Holds back what else the job at `at` asked for. Of several such times the latest holds.
    pub(super) fn throttle(&mut self, now: Now, at: u32, what: Throttle, until_ms: i64, out: &mut Output) {
        let slot = &self.slab[at];
        let (number, key) = (slot.queue, slot.fair);
        match what {
            Throttle::Queue => self.close_queue(number, until_ms),
            Throttle::Key => self.close_key(now, number, key, until_ms, true),
        }
        let queue = &self.queues[number as usize];
        // Who has taken jobs of it ahead gives them back.
        out.wakes.push(Wake::Queue(queue.name.clone()));
        let closed = queue.strands.iter().flat_map(|strands| strands.closed()).find(|(closed, _)| *closed == key);
        let (record, until_ms) = match what {
            Throttle::Queue => (record(number, None), queue.closed_ms),
            Throttle::Key => (record(number, Some(key)), closed.map_or(until_ms, |(_, until_ms)| until_ms)),
        };
        out.writes.push(Write::Set(record, until_ms.to_le_bytes().to_vec().into()));
    }

    fn close_queue(&mut self, number: u32, until_ms: i64) {
        let queue = &mut self.queues[number as usize];
        queue.closed_ms = queue.closed_ms.max(until_ms);
    }

    fn close_key(&mut self, now: Now, number: u32, key: FairKey, until_ms: i64, known: bool) {
        let queue = &mut self.queues[number as usize];
        queue.divide(now, &self.slab, known);
        if let Some(strands) = &mut queue.strands {
            strands.close(now, key, until_ms);
        }
    }

    /// Opens the queue if it was closed and the time has come. Its rate has nothing left then, so that this is no burst.
    pub(super) fn reopen(&mut self, now: Now, number: u32, out: &mut Output) {
        let queue = &self.queues[number as usize];
        if queue.closed_ms > 0 && queue.closed_ms <= now.wall_ms {
            self.lift(now, number, out);
        }
    }

    /// Opens the queue if a throttle has closed it.
    pub(super) fn lift(&mut self, now: Now, number: u32, out: &mut Output) {
        let queue = &mut self.queues[number as usize];
        let until_ms = std::mem::take(&mut queue.closed_ms);
        if until_ms > 0 {
            let ago_ms = (now.wall_ms - until_ms).max(0);
            queue.bucket = Bucket::empty(now.mono_ms - ago_ms);
            out.writes.push(Write::Remove(record(number, None)));
        }
    }

    /// Forgets throttles of keys that have ended.
    pub(super) fn drop_reopened(&mut self, number: u32, out: &mut Output) {
        let Some(strands) = &mut self.queues[number as usize].strands else { return };
        out.writes.extend(strands.reopened().into_iter().map(|key| Write::Remove(record(number, Some(key)))));
    }

    /// Takes a record as it was kept: its name without the prefix, and its value. False when they make no sense.
    pub(super) fn load_throttle(&mut self, name: &str, value: &[u8]) -> bool {
        let (number, key) = match name.split_once('/') {
            None => (name.parse(), None),
            Some((number, key)) => (number.parse(), Some(FairKey::from_str_radix(key, 16))),
        };
        let (Ok(number), Ok(key)) = (number, key.transpose()) else { return false };
        let Ok(until_ms) = value.try_into().map(i64::from_le_bytes) else { return false };
        self.loaded_throttles.push((number, key, until_ms));
        true
    }

    /// Closes what was closed. Those that have ended meanwhile open at the next claim.
    pub(super) fn place_throttles(&mut self, now: Now) {
        for (number, key, until_ms) in std::mem::take(&mut self.loaded_throttles) {
            match key {
                _ if number as usize >= self.queues.len() => {}
                None => self.close_queue(number, until_ms),
                Some(key) => self.close_key(now, number, key, until_ms, false),
            }
        }
    }
}

impl Queue {
    /// From now on its jobs are kept apart by fairness key. `known`: nothing was handed out under its bounds that is not
    /// known.
    pub(super) fn divide(&mut self, now: Now, slab: &Slab, known: bool) {
        if self.strands.is_some() {
            return;
        }
        let config = self.config.as_ref().map(|configured| &*configured.config);
        let mut strands = Strands::new(now, config, known);
        let running = self.list(State::Running);
        for spot in self.ready.levels().flatten().chain(running) {
            strands.enter(now, spot.slot, &slab[spot.slot]);
        }
        self.strands = Some(Box::new(strands));
    }
}

fn record(number: u32, key: Option<FairKey>) -> Key {
    Key::Named(match key {
        None => format!("{}{number}", named::THROTTLE),
        Some(key) => format!("{}{number}/{key:016x}", named::THROTTLE),
    })
}
