//! What is due, and when the next thing will be.
//!
//! I10: nothing is due before its time.
use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap},
};

use super::{
    machine::Machine,
    queue::{DEAD, FINISHED, Spot, by_time},
};
use crate::model::{
    op::{Due, DueKind, DueList},
    policy::TOMBSTONE_MS,
    state::State,
    time::Now,
};
use crate::store::slot::flag;

/// An answer in the making.
struct Answer<'a> {
    machine: &'a Machine,
    limit: usize,
    entries: Vec<Due>,
    /// Until the next entry that is not among these.
    next_in_ms: Option<i64>,
}

impl Answer<'_> {
    fn is_full(&self) -> bool {
        self.entries.len() >= self.limit
    }

    fn push(&mut self, kind: DueKind, at: u32) {
        self.entries.push(Due::Job { kind, meta: self.machine.meta(at) });
    }

    fn next_in(&mut self, ms: i64) {
        let ms = ms.max(0);
        self.next_in_ms = Some(self.next_in_ms.map_or(ms, |first| first.min(ms)));
    }

    fn take(&mut self, kind: DueKind, index: &BTreeSet<Spot>, now_ms: i64) {
        for spot in index {
            if spot.order() > now_ms || self.is_full() {
                return self.next_in(spot.order() - now_ms);
            }
            self.push(kind, spot.slot);
        }
    }
}

impl Machine {
    /// What is due now, at most `limit` entries: leases and cancels first, then pauses that end, documents,
    /// starts, expiries, trims.
    /// Changes nothing but what the asker may rely on: it is woken when something earlier than this answer says comes up.
    pub fn due(&self, now: Now, limit: usize) -> DueList {
        let mut answer = Answer { machine: self, limit, entries: Vec::new(), next_in_ms: None };
        answer.take(DueKind::Lease, &self.timers.leases, now.mono_ms);
        answer.take(DueKind::Cancel, &self.timers.cancels, now.wall_ms);
        self.due_opens(now, &mut answer);
        self.due_docs(now, &mut answer);
        self.due_starts(now, &mut answer);
        answer.take(DueKind::Expire, &self.timers.expiries, now.wall_ms);
        answer.take(DueKind::Trim, &self.timers.trims, now.wall_ms);
        self.due_surplus(now, &mut answer);
        self.timers.promise(now, answer.next_in_ms);
        DueList { entries: answer.entries, next_in_ms: answer.next_in_ms }
    }

    fn due_opens(&self, now: Now, answer: &mut Answer) {
        for (at, queue) in &self.timers.opens {
            if *at > now.wall_ms || answer.is_full() {
                return answer.next_in(at - now.wall_ms);
            }
            answer.entries.push(Due::QueueOpens(self.queues[*queue as usize].name.clone()));
        }
    }

    fn due_docs(&self, now: Now, answer: &mut Answer) {
        for (at, key) in &self.timers.docs {
            if *at > now.wall_ms || answer.is_full() {
                return answer.next_in(at - now.wall_ms);
            }
            answer.entries.push(Due::Doc { key: key.clone(), doc: self.docs[key].clone() });
        }
    }

    /// Merges the queues' lists: what has waited longest past its time comes first, whichever queue it is in.
    fn due_starts(&self, now: Now, answer: &mut Answer) {
        let mut lists = Vec::new();
        let mut firsts = BinaryHeap::new();
        for (at, number) in &self.timers.starts {
            if *at > now.wall_ms {
                answer.next_in(at - now.wall_ms);
                break;
            }
            for state in [State::Scheduled, State::Retrying] {
                let mut list = self.queues[*number as usize].list(state).iter();
                if let Some(first) = list.next() {
                    firsts.push(Reverse((*first, lists.len())));
                    lists.push(list);
                }
            }
        }
        while let Some(Reverse((spot, list))) = firsts.pop() {
            let at = by_time::due_ms(spot.order());
            if at > now.wall_ms || answer.is_full() {
                return answer.next_in(at - now.wall_ms);
            }
            answer.push(DueKind::Start, spot.slot);
            if let Some(next) = lists[list].next() {
                firsts.push(Reverse((*next, list)));
            }
        }
    }

    /// Ended records beyond the number that a queue keeps.
    fn due_surplus(&self, now: Now, answer: &mut Answer) {
        for number in &self.timers.over {
            for states in [FINISHED, DEAD] {
                // The first that is not due yet, or has no room, says when there is more.
                let mut rest = self.excess(*number, states);
                for spot in rest.by_ref() {
                    let slot = &self.slab[spot.slot];
                    let at = slot.finish.get() + TOMBSTONE_MS;
                    if at > now.wall_ms || answer.is_full() {
                        answer.next_in(at - now.wall_ms);
                        break;
                    }
                    // It is in the answer, or among those that found no room, if its own time is up.
                    if slot.until.get() > now.wall_ms {
                        answer.push(DueKind::Trim, spot.slot);
                    }
                }
            }
        }
    }

    /// The oldest records of these states, as many as there are too many.
    fn excess(&self, number: u32, states: &[State]) -> impl Iterator<Item = Spot> {
        let queue = &self.queues[number as usize];
        let most = states.first().map_or(0, |state| queue.bounds().most_kept(*state));
        let oldest = queue.oldest(states).take(queue.kept(states).saturating_sub(most));
        // What is watched is kept, however many there are.
        oldest.filter(|spot| !self.slab[spot.slot].has(flag::WATCHED))
    }

    /// Those of them that have been kept for as long as every record is.
    pub(super) fn surplus(&self, now: Now, number: u32, states: &[State]) -> impl Iterator<Item = Spot> {
        self.excess(number, states)
            .take_while(move |spot| self.slab[spot.slot].finish.get() + TOMBSTONE_MS <= now.wall_ms)
    }
}
