//! Guarded changes: what they mean is said in `rules`; here a job is taken out of its list, changed, and put back.
use super::{
    keys::Holder,
    machine::Machine,
    queue::Queue,
    write::{Key, Output, Table, Write},
};
use crate::{
    model::{
        ids::{JobId, QueueName},
        job::Attempt,
        limits::ATTEMPTS_KEPT,
        op::{Act, Effect, Guard, Op, Verdict, Wake},
        time::Now,
    },
    store::{
        rules::{self, Change, Line},
        slot::flag,
    },
};

impl Machine {
    /// Applies changes one after the other. One verdict per op, in order.
    pub fn apply(&mut self, now: Now, ops: Vec<Op>, out: &mut Output) -> Vec<Verdict> {
        out.writes.reserve(ops.len() * 2);
        self.ids.fetch(&self.slab, ops.iter().map(|op| op.id));
        let mut stopping = Vec::new();
        let verdicts = ops.into_iter().map(|op| self.apply_one(now, op, &mut stopping, out)).collect();
        if !stopping.is_empty() {
            out.wakes.push(Wake::Cancel(stopping));
        }
        self.finish_call(now, out);
        verdicts
    }

    fn apply_one(&mut self, now: Now, op: Op, stopping: &mut Vec<JobId>, out: &mut Output) -> Verdict {
        let Some(at) = self.ids.find(&self.slab, op.id) else { return Verdict::NotFound };
        let slot = &self.slab[at];
        let lease_over = || slot.until.get() <= now.mono_ms;
        let surplus = || self.surplus(now, slot.queue, Queue::kept_together(slot.state)).any(|spot| spot.slot == at);
        if let Err(refusal) = rules::check(slot, now, op.guard, lease_over, surplus) {
            return refusal;
        }
        if let Err(refusal) = rules::may(slot, &op.act) {
            return refusal;
        }
        if let Some(key) = rules::takes_again(slot, &op.act)
            && let Some(other) = self.keys.holder(now, key)
        {
            return Verdict::KeyTaken(other);
        }
        let (held, awaited) = (slot.held_key(), slot.awaited_key());
        let before = slot.state;
        let queue = named(&op.act).cloned().map(|queue| self.queue_number(&queue, out));
        let by_token = matches!(op.guard, Guard::Token(_));
        self.detach(now, at);
        let change = rules::act(&mut self.slab[at], now, by_token, op.act, queue);
        let now_held = self.slab[at].held_key().filter(|_| !change.deleted);
        if let Some(key) = awaited.filter(|_| change.deleted || self.slab[at].awaited_key().is_none()) {
            self.keys.give_up(key, op.id);
        }
        let heir = match (held, now_held) {
            (Some(key), None) => self.keys.release(key, op.id).map(|heir| (key, heir)),
            (None, Some(key)) => {
                self.keys.take(key, Holder { id: op.id, until_ms: None });
                None
            }
            _ => None,
        };
        if change.deleted {
            let facts = rules::facts(&self.slab[at], before, true);
            self.forget(at, out);
            if let Some((key, heir)) = heir {
                self.succeed(now, key, heir, out);
            }
            return Verdict::Done(facts);
        }
        if change.stopping {
            stopping.push(op.id);
        }
        self.stand(at, change.line);
        let throttle = change.throttle;
        let effects = self.keep(at, change, out);
        self.attach(now, at, out);
        if let Some((what, until_ms)) = throttle {
            self.throttle(now, at, what, until_ms, out);
        }
        let facts = rules::facts(&self.slab[at], before, false);
        if let Some((key, heir)) = heir {
            self.succeed(now, key, heir, out);
        }
        for effect in effects {
            match effect {
                Effect::Put(job) => drop(self.put_one(now, job, out)),
            }
        }
        Verdict::Done(facts)
    }

    /// Gives a job its place.
    pub(super) fn stand(&mut self, at: u32, line: Line) {
        let order = match line {
            Line::Stays => return,
            Line::End => self.next_arrival(),
            Line::Front => self.next_front(),
            Line::Time(due_ms) => self.order_by_time(due_ms),
        };
        self.slab[at].order = order;
    }

    /// Has kept what a change brought, and hands out its effects.
    fn keep(&mut self, at: u32, change: Change, out: &mut Output) -> Vec<Effect> {
        if let Some(outcome) = &change.outcome {
            let bytes = self.encoder.side(outcome);
            self.keep_side(at, Table::Outcome, 0, bytes, flag::OUTCOME, out);
        }
        if change.drop_outcome {
            self.slab[at].set(flag::OUTCOME, false);
            let row = self.slab[at].row.get() as u64;
            out.writes.push(Write::Remove(Key::Job { table: Table::Outcome, row, sub: 0 }));
        }
        self.keep_attempt(at, change.attempt, out);
        if let Some(progress) = &change.progress {
            let bytes = self.encoder.side(progress);
            self.keep_side(at, Table::Progress, 0, bytes, flag::PROGRESS, out);
        }
        if let Some(checkpoint) = &change.checkpoint {
            let bytes = self.encoder.side(checkpoint);
            self.keep_side(at, Table::Checkpoint, 0, bytes, flag::CHECKPOINT, out);
        }
        if let Some(body) = change.body {
            let row = self.slab[at].row.get() as u64;
            out.writes.push(Write::Set(Key::Job { table: Table::Body, row, sub: 0 }, body));
        }
        if change.touched {
            self.touch(at, out);
        }
        change.effects
    }

    fn forget(&mut self, at: u32, out: &mut Output) {
        self.ids.remove(&self.slab, at);
        let slot = &self.slab[at];
        out.writes.push(Write::Forget { row: slot.row.get() as u64, sides: slot.sides() });
        self.slab.remove(at);
    }

    fn keep_side(&mut self, at: u32, table: Table, sub: u64, bytes: bytes::Bytes, flag: u16, out: &mut Output) {
        let slot = &mut self.slab[at];
        slot.set(flag, true);
        out.writes.push(Write::Set(Key::Job { table, row: slot.row.get() as u64, sub }, bytes));
    }

    /// Adds to the history; what falls out of it at the other end is removed.
    fn keep_attempt(&mut self, at: u32, attempt: Option<Attempt>, out: &mut Output) {
        let Some(attempt) = attempt else { return };
        let bytes = self.encoder.side(&attempt);
        let had = self.slab[at].has(flag::ATTEMPTS);
        self.keep_side(at, Table::Attempt, u64::from(attempt.delivery), bytes, flag::ATTEMPTS, out);
        if had && attempt.delivery > ATTEMPTS_KEPT {
            let row = self.slab[at].row.get() as u64;
            let sub = u64::from(attempt.delivery - ATTEMPTS_KEPT);
            out.writes.push(Write::Remove(Key::Job { table: Table::Attempt, row, sub }));
        }
    }
}

/// The queue that an act moves its job to.
fn named(act: &Act) -> Option<&QueueName> {
    match act {
        Act::Requeue { queue, .. } | Act::Patch { queue, .. } => queue.as_ref(),
        _ => None,
    }
}
