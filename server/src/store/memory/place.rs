//! Putting a job where its state says it belongs, and taking it out again.
use super::{
    machine::Machine,
    queue::{Queue, Spot, by_time},
    write::{Key, Output, Table, Write},
};
use crate::model::{
    ids::Shard,
    op::{Place, Wake},
    policy::TOMBSTONE_MS,
    state::State,
    time::Now,
};

impl Machine {
    /// The place of the next job that arrives at the end of a list.
    pub(super) fn next_arrival(&mut self) -> i64 {
        self.arrival += 1;
        self.arrival
    }

    /// The place before all others of a READY list.
    pub(super) fn next_front(&mut self) -> i64 {
        self.front -= 1;
        self.front
    }

    /// The place in a list by due time.
    pub(super) fn order_by_time(&mut self, due_ms: i64) -> i64 {
        let arrival = self.next_arrival();
        by_time::order(due_ms, arrival)
    }

    /// Enters a job into the list of its state and into the indexes of what becomes due, and raises wakes.
    pub(super) fn attach(&mut self, now: Now, at: u32, out: &mut Output) {
        let slot = &self.slab[at];
        let number = slot.queue;
        let queue = &mut self.queues[number as usize];
        let timers = &mut self.timers;
        if slot.fair != 0 && queue.strands.is_none() {
            queue.divide(now, &self.slab, true);
        }
        queue.insert(at, slot);
        match slot.state {
            State::Ready => {
                let may_go = queue.strands.as_mut().is_none_or(|strands| strands.enter(now, at, slot));
                let first = || queue.ready.len() == 1;
                if may_go && queue.pause.is_none() && !slot.is_expired(now) && (queue.quiet || first()) {
                    queue.quiet = false;
                    out.wakes.push(Wake::Ready(queue.name.clone()));
                }
            }
            State::Scheduled | State::Retrying => {
                let new = queue.earliest_start();
                timers.set_start(number, queue.next_start, new);
                queue.next_start = new;
            }
            State::Running => {
                if let Some(strands) = &mut queue.strands {
                    strands.enter(now, at, slot);
                }
                timers.leases.insert(Spot::new(slot.until.get(), at));
                timers.note_mono(slot.until.get());
                if let Some(deadline) = slot.cancel_deadline() {
                    timers.cancels.insert(Spot::new(deadline, at));
                    timers.note_wall(deadline);
                }
            }
            State::Blocked => {}
            State::Succeeded | State::Dead | State::Cancelled | State::Expired | State::Discarded => {
                timers.trims.insert(Spot::new(slot.until.get(), at));
                timers.note_wall(slot.until.get());
                let states = Queue::kept_together(slot.state);
                if queue.kept(states) > queue.bounds().most_kept(slot.state) {
                    timers.over.insert(number);
                    let oldest = queue.first(states);
                    timers.note_wall(oldest.map_or(0, |spot| self.slab[spot.slot].finish.get()) + TOMBSTONE_MS);
                }
            }
        }
        if let Some(expiry) = self.slab[at].waiting_expiry() {
            timers.expiries.insert(Spot::new(expiry, at));
            timers.note_wall(expiry);
        }
    }

    /// Takes a job out of its list and of all indexes but that of ids.
    pub(super) fn detach(&mut self, now: Now, at: u32) {
        let slot = &self.slab[at];
        let number = slot.queue;
        let queue = &mut self.queues[number as usize];
        let timers = &mut self.timers;
        queue.remove(at, slot);
        let eased = match &mut queue.strands {
            Some(strands) if matches!(slot.state, State::Ready | State::Running) => strands.leave(now, at, slot),
            _ => false,
        };
        match slot.state {
            State::Ready | State::Blocked => {}
            State::Scheduled | State::Retrying => {
                let new = queue.earliest_start();
                timers.set_start(number, queue.next_start, new);
                queue.next_start = new;
            }
            State::Running => {
                if queue.held || eased {
                    self.freed.push(number);
                }
                timers.leases.remove(&Spot::new(slot.until.get(), at));
                if let Some(deadline) = slot.cancel_deadline() {
                    timers.cancels.remove(&Spot::new(deadline, at));
                }
            }
            State::Succeeded | State::Dead | State::Cancelled | State::Expired | State::Discarded => {
                timers.trims.remove(&Spot::new(slot.until.get(), at));
                if timers.over.contains(&number) && !is_over(queue) {
                    timers.over.remove(&number);
                }
            }
        }
        if let Some(expiry) = slot.waiting_expiry() {
            timers.expiries.remove(&Spot::new(expiry, at));
        }
    }

    /// Counts a change of the record and has it kept.
    pub(super) fn touch(&mut self, at: u32, out: &mut Output) {
        let slot = &mut self.slab[at];
        slot.version = slot.version.wrapping_add(1);
        self.write_meta(at, out);
    }

    pub(super) fn write_meta(&mut self, at: u32, out: &mut Output) {
        let slot = &self.slab[at];
        let key = Key::Job { table: Table::Meta, row: slot.row.get() as u64, sub: 0 };
        out.writes.push(Write::Set(key, self.encoder.meta(slot)));
    }

    /// Says what every call has to say at its end.
    pub(super) fn finish_call(&mut self, now: Now, out: &mut Output) {
        for number in std::mem::take(&mut self.freed) {
            let queue = &mut self.queues[number as usize];
            let running = queue.list(State::Running).len();
            let eased = queue.strands.as_mut().is_some_and(|strands| strands.ease(now));
            let room = running < queue.bounds().max_running as usize;
            if queue.quiet && if queue.held { room } else { eased } {
                queue.held = false;
                queue.quiet = false;
                out.wakes.push(Wake::Ready(queue.name.clone()));
            }
        }
        if self.timers.take_early() {
            out.wakes.push(Wake::Timer(Shard(0)));
        }
    }

    /// Where a page goes on after `place`. Places are all but unique; while the job still stands there, exactly after it.
    pub(super) fn place_after(&self, queue: u32, place: Place) -> Spot {
        self.still_at(queue, place).unwrap_or(Spot::after(place.order))
    }

    /// The same for lists that are read backwards.
    pub(super) fn place_before(&self, queue: u32, place: Place) -> Spot {
        self.still_at(queue, place).unwrap_or(Spot::new(place.order, 0))
    }

    fn still_at(&self, queue: u32, place: Place) -> Option<Spot> {
        let at = self.ids.find(&self.slab, place.id)?;
        let slot = &self.slab[at];
        (slot.queue == queue && slot.order == place.order).then(|| Spot::new(slot.order, at))
    }
}

pub(super) fn is_over(queue: &Queue) -> bool {
    let bounds = queue.bounds();
    let over = |state| queue.kept(Queue::kept_together(state)) > bounds.most_kept(state);
    [State::Succeeded, State::Dead].into_iter().any(over)
}
