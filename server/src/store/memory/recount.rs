//! Counters and indexes held against an enumeration of the slots.
//!
//! I21: they agree.
use std::collections::{BTreeSet, HashMap};

use super::{machine::Machine, place::is_over, queue::Spot, ready::LEVELS};
use crate::model::{op::FairKey, state::State};

impl Machine {
    /// What does not agree, a sentence each; empty = all does.
    pub fn recount(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut expect = |ok: bool, say: &dyn Fn() -> String| {
            if !ok {
                wrong.push(say());
            }
        };
        let mut ready = vec![[0usize; LEVELS]; self.queues.len()];
        let mut counts = vec![[0usize; 11]; self.queues.len()];
        let (mut leases, mut cancels, mut expiries, mut trims, mut live) = (0, 0, 0, 0, 0);
        for (at, slot) in self.slab.iter() {
            live += 1;
            let id = slot.id;
            let number = slot.queue as usize;
            let queue = &self.queues[number];
            let spot = Spot::new(slot.order, at);
            counts[number][slot.state as usize] += 1;
            let listed = if slot.state == State::Ready {
                ready[number][slot.level()] += 1;
                queue.ready.contains(at, slot)
            } else {
                queue.list(slot.state).contains(&spot)
            };
            expect(listed, &|| format!("{id} is not in the list {} of {}", slot.state.name(), queue.name));
            expect(self.ids.find(&self.slab, id) == Some(at), &|| format!("{id} is not found by its id"));
            let mut indexed = |due: Option<i64>, index: &BTreeSet<Spot>, count: &mut usize, what: &str| {
                if let Some(due) = due {
                    *count += 1;
                    expect(index.contains(&Spot::new(due, at)), &|| format!("{id} is not in the index of {what}"));
                }
            };
            let running = slot.state == State::Running;
            let until = slot.until.get();
            indexed(running.then_some(until), &self.timers.leases, &mut leases, "leases");
            let deadline = slot.cancel_deadline().filter(|_| running);
            indexed(deadline, &self.timers.cancels, &mut cancels, "cancels");
            indexed(slot.waiting_expiry(), &self.timers.expiries, &mut expiries, "expiries");
            indexed(slot.state.is_terminal().then_some(until), &self.timers.trims, &mut trims, "trims");
            expect(!running || slot.is_open(), &|| format!("{id} is RUNNING without a lease"));
        }
        let timed: BTreeSet<(i64, String)> =
            self.docs.iter().filter(|(_, doc)| doc.due_ms != 0).map(|(key, doc)| (doc.due_ms, key.clone())).collect();
        expect(timed == self.timers.docs, &|| "the index of documents by time is not that of the documents".to_owned());
        for (found, index, what) in [
            (live, self.ids.len(), "ids"),
            (live, self.slab.len(), "slots"),
            (leases, self.timers.leases.len(), "leases"),
            (cancels, self.timers.cancels.len(), "cancels"),
            (expiries, self.timers.expiries.len(), "expiries"),
            (trims, self.timers.trims.len(), "trims"),
        ] {
            expect(found == index, &|| format!("{what}: {found} found, {index} indexed"));
        }
        let mut held = self.keys.remembered();
        for (_, slot) in self.slab.iter() {
            if let Some(key) = slot.held_key() {
                held += 1;
                let holder = self.keys.holder(crate::model::time::Now::default(), key);
                expect(holder == Some(slot.id), &|| format!("{} does not hold its uniqueness key", slot.id));
            }
        }
        let mut waiting = 0;
        for (_, slot) in self.slab.iter() {
            if let Some(key) = slot.awaited_key() {
                waiting += 1;
                let own = self.keys.successor(key) == Some(slot.id) && slot.state == State::Blocked;
                let behind = self.keys.holder(crate::model::time::Now::default(), key).is_some();
                expect(own && behind, &|| {
                    format!("{} waits for a uniqueness key that nobody will leave to it", slot.id)
                });
            }
        }
        expect(waiting == self.keys.waiting(), &|| {
            format!("successors: {waiting} found, {} kept", self.keys.waiting())
        });
        expect(held == self.keys.len(), &|| format!("keys: {held} found, {} held", self.keys.len()));
        let mut strands: HashMap<(u32, FairKey), (usize, usize)> = HashMap::new();
        for (at, slot) in self.slab.iter() {
            let counts = strands.entry((slot.queue, slot.fair)).or_default();
            match slot.state {
                State::Ready => counts.0 += 1,
                State::Running => counts.1 += 1,
                _ => continue,
            }
            let queue = &self.queues[slot.queue as usize];
            let stands = match &queue.strands {
                None => slot.fair == 0,
                Some(strands) => slot.state == State::Running || strands.has(at, slot),
            };
            expect(stands, &|| format!("{} is not in the strand of its key in {}", slot.id, queue.name));
        }
        for (number, queue) in self.queues.iter().enumerate() {
            for (key, ready, running) in queue.strands.iter().flat_map(|strands| strands.each()) {
                let found = strands.get(&(number as u32, key)).copied().unwrap_or_default();
                expect(found == (ready, running), &|| {
                    format!("key {key:016x} of {}: {found:?} found, {:?} counted", queue.name, (ready, running))
                });
            }
        }
        let (mut starts, mut opens) = (0, 0);
        for (number, queue) in self.queues.iter().enumerate() {
            let facts = queue.facts(None);
            for state in State::ALL {
                let (found, counted) = (counts[number][state as usize] as u64, facts.count(state));
                expect(found == counted, &|| {
                    format!("{} in {}: {found} found, {counted} counted", state.name(), queue.name)
                });
            }
            for (level, found) in ready[number].iter().enumerate() {
                let listed = queue.ready.level(level).len();
                expect(*found == listed, &|| {
                    format!("priority {} of {}: {found} found, {listed} listed", 4 - level as i8, queue.name)
                });
            }
            let at = number as u32;
            let start = queue.earliest_start();
            starts += usize::from(start.is_some());
            let indexed = start.is_none_or(|start| self.timers.starts.contains(&(start, at)));
            expect(indexed && queue.next_start == start, &|| format!("the first start of {} is wrong", queue.name));
            let end = queue.pause.as_ref().and_then(|pause| pause.resume_ms);
            opens += usize::from(end.is_some());
            let indexed = end.is_none_or(|end| self.timers.opens.contains(&(end, at)));
            expect(indexed, &|| format!("the end of the pause of {} is wrong", queue.name));
            let over = self.timers.over.contains(&at);
            expect(over == is_over(queue), &|| format!("{} is wrongly taken as (not) overfull", queue.name));
        }
        expect(starts == self.timers.starts.len(), &|| "the index of starts has entries of no queue".to_owned());
        expect(opens == self.timers.opens.len(), &|| "the index of pauses has entries of no queue".to_owned());
        wrong
    }
}
