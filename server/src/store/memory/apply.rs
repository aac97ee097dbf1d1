//! Guarded changes. First the guard, then the state table, then the act: a `match` over what was asked.
use super::{
    machine::Machine,
    place::waiting_expiry,
    queue::Queue,
    slot::{Slot, Stamp, flag},
    write::{Key, Output, Table, Write},
};
use crate::model::{
    ids::JobId,
    job::{Attempt, AttemptResult, CancelRequest, Outcome, Payload, Progress, Start},
    limits::ATTEMPTS_KEPT,
    op::{Act, DueKind, Effect, Facts, Guard, Op, Verdict, Wake},
    policy::TOMBSTONE_MS,
    state::{State, sources},
    time::Now,
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
        self.finish_call(out);
        verdicts
    }

    fn apply_one(&mut self, now: Now, op: Op, stopping: &mut Vec<JobId>, out: &mut Output) -> Verdict {
        let Some(at) = self.ids.find(&self.slab, op.id) else { return Verdict::NotFound };
        if let Err(refusal) = self.check(now, at, op.guard) {
            return refusal;
        }
        let slot = &self.slab[at];
        let state = slot.state;
        let taken_back = state == State::Ready && matches!(op.act, Act::Extend { .. });
        if !sources(op.act.kind()).has(state) || taken_back && !slot.is_open() {
            return Verdict::Conflict(state);
        }
        let reruns = matches!(op.act, Act::Later { .. } | Act::Ready { .. });
        if let Some(cancel) = slot.cancel().filter(|_| reruns && state == State::Running) {
            return Verdict::CancelRequested(cancel.clone());
        }
        let by_token = matches!(op.guard, Guard::Token(_));
        match op.act {
            Act::Extend { lease_ms, started, progress, checkpoint } => {
                self.extend(now, at, lease_ms, started, progress, checkpoint, out);
            }
            Act::Finish { to, outcome, retain_ms, effects } => {
                self.finish(now, at, by_token, to, outcome, retain_ms, out);
                self.effects(now, effects, out);
            }
            Act::Later { to, delay_ms, counts, outcome, checkpoint, effects } => {
                self.later(now, at, by_token, to, delay_ms, counts, outcome, out);
                self.keep_checkpoint(at, checkpoint, out);
                self.requeued(now, at, out);
                self.effects(now, effects, out);
            }
            Act::Ready { front, crashed, attempt, checkpoint } => {
                self.ready(now, at, by_token, front, crashed);
                self.keep_attempt(at, attempt, out);
                self.keep_checkpoint(at, checkpoint, out);
                self.requeued(now, at, out);
            }
            Act::Requeue { failures, delay_ms, queue, body, keep } => {
                let queue = queue.map(|queue| self.queue_number(&queue, out));
                self.requeue(now, at, failures, delay_ms, queue);
                self.keep_attempt(at, keep, out);
                self.keep_body(at, body, out);
                self.requeued(now, at, out);
            }
            Act::RequestCancel { reason, grace_ms } => {
                if self.request_cancel(now, at, reason, grace_ms, out) {
                    stopping.push(op.id);
                }
            }
            Act::Patch { queue, priority, start, body, content } => {
                let queue = queue.map(|queue| self.queue_number(&queue, out));
                self.patch(now, at, queue, priority, start);
                if let Some(content) = content {
                    self.slab[at].content = content;
                }
                self.keep_body(at, body, out);
                self.requeued(now, at, out);
            }
            Act::Delete => {
                self.delete(at, out);
                return Verdict::Done(Facts { state, cancel: None });
            }
        }
        let slot = &self.slab[at];
        let cancel = slot.cancel().filter(|_| slot.state == State::Running).cloned();
        Verdict::Done(Facts { state: slot.state, cancel })
    }

    fn check(&self, now: Now, at: u32, guard: Guard) -> Result<(), Verdict> {
        let slot = &self.slab[at];
        match guard {
            Guard::Token(secret) if !slot.has(flag::LEASED) || slot.token != secret => Err(Verdict::Stale),
            Guard::Token(_) if slot.has(flag::SETTLED) => Err(Verdict::Already(slot.state)),
            Guard::Token(_) if slot.state.is_terminal() => Err(Verdict::Conflict(slot.state)),
            Guard::Token(_) => Ok(()),
            Guard::Due(kind) if self.is_due(now, at, kind) => Ok(()),
            Guard::Due(_) => Err(Verdict::Stale),
            Guard::In(states) if states.has(slot.state) => Ok(()),
            Guard::In(_) => Err(Verdict::Conflict(slot.state)),
            Guard::Version(version) if version == slot.version => Ok(()),
            Guard::Version(_) => Err(Verdict::Stale),
        }
    }

    /// Whether the job's entry of this kind is at or before now.
    fn is_due(&self, now: Now, at: u32, kind: DueKind) -> bool {
        let slot = &self.slab[at];
        match kind {
            DueKind::Start => {
                matches!(slot.state, State::Scheduled | State::Retrying) && slot.ready.get() <= now.wall_ms
            }
            DueKind::Lease => slot.state == State::Running && slot.until.get() <= now.mono_ms,
            DueKind::Cancel => {
                slot.state == State::Running && slot.cancel_deadline().is_some_and(|deadline| deadline <= now.wall_ms)
            }
            DueKind::Expire => waiting_expiry(slot).is_some_and(|expiry| expiry <= now.wall_ms),
            DueKind::Trim => {
                slot.state.is_terminal()
                    && (slot.until.get() <= now.wall_ms
                        || self.surplus(now, slot.queue, Queue::kept_together(slot.state)).any(|spot| spot.slot == at))
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one act")]
    fn extend(
        &mut self,
        now: Now,
        at: u32,
        lease_ms: i64,
        started: bool,
        progress: Option<Progress>,
        checkpoint: Option<Payload>,
        out: &mut Output,
    ) {
        self.detach(at);
        let takes_back = self.slab[at].state == State::Ready;
        let order = if takes_back { self.next_arrival() } else { self.slab[at].order };
        let slot = &mut self.slab[at];
        let end = now.mono_ms.saturating_add(lease_ms.max(0));
        if takes_back {
            slot.state = State::Running;
            slot.until = Stamp::new(end);
            take_crash_off(slot);
        } else {
            slot.until = Stamp::new(end.max(slot.until.get()));
        }
        slot.order = order;
        let starts = started && !slot.has(flag::STARTED);
        if starts {
            slot.set(flag::STARTED | flag::BEGUN, true);
        }
        let changed = takes_back || starts || progress.is_some() || checkpoint.is_some();
        if let Some(progress) = progress {
            let bytes = self.encoder.side(&progress);
            self.keep_side(at, Table::Progress, 0, bytes, flag::PROGRESS, out);
        }
        self.keep_checkpoint(at, checkpoint, out);
        // A mere renewal is not kept: after a restart every running job gets a fresh lease.
        if changed {
            self.touch(at, out);
        }
        self.attach(now, at, out);
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one act")]
    fn finish(
        &mut self,
        now: Now,
        at: u32,
        by_token: bool,
        to: State,
        outcome: Outcome,
        retain_ms: i64,
        out: &mut Output,
    ) {
        self.detach(at);
        let order = self.next_arrival();
        let slot = &mut self.slab[at];
        settle(slot, by_token);
        match outcome.last.as_ref().map(|last| last.result) {
            Some(AttemptResult::Failed | AttemptResult::TimedOut) => slot.failures += 1,
            Some(AttemptResult::Lost) => slot.set_crashes(slot.crashes() + 1),
            Some(
                AttemptResult::Succeeded | AttemptResult::Snoozed | AttemptResult::Released | AttemptResult::Cancelled,
            )
            | None => {}
        }
        slot.state = to;
        slot.order = order;
        slot.finish = Stamp::new(now.wall_ms);
        slot.until = Stamp::new(now.wall_ms.saturating_add(retain_ms.max(TOMBSTONE_MS)));
        if outcome != Outcome::default() {
            let bytes = self.encoder.side(&outcome);
            self.keep_side(at, Table::Outcome, 0, bytes, flag::OUTCOME, out);
        } else if to == State::Succeeded && slot.has(flag::OUTCOME) {
            // The failure of an earlier attempt is not that of a job that succeeded.
            slot.set(flag::OUTCOME, false);
            let row = slot.row.get() as u64;
            out.writes.push(Write::Remove(Key::Job { table: Table::Outcome, row, sub: 0 }));
        }
        self.touch(at, out);
        self.attach(now, at, out);
    }

    /// Leaves the job detached.
    #[expect(clippy::too_many_arguments, reason = "the parts of one act")]
    fn later(
        &mut self,
        now: Now,
        at: u32,
        by_token: bool,
        to: State,
        delay_ms: i64,
        counts: bool,
        outcome: Option<Outcome>,
        out: &mut Output,
    ) {
        self.detach(at);
        let due = now.wall_ms.saturating_add(delay_ms.max(0));
        let order = self.order_by_time(due);
        let slot = &mut self.slab[at];
        settle(slot, by_token);
        slot.state = to;
        slot.order = order;
        slot.ready = Stamp::new(due);
        if counts {
            slot.failures += 1;
        }
        if counts || outcome.is_some() {
            slot.set(flag::BEGUN, true);
        }
        let Some(mut outcome) = outcome else { return };
        let attempt = outcome.last.take();
        // A snooze has neither result nor failure: the failure stored before stays.
        if outcome != Outcome::default() {
            let bytes = self.encoder.side(&outcome);
            self.keep_side(at, Table::Outcome, 0, bytes, flag::OUTCOME, out);
        }
        self.keep_attempt(at, attempt, out);
    }

    /// Leaves the job detached.
    fn ready(&mut self, now: Now, at: u32, by_token: bool, front: bool, crashed: bool) {
        self.detach(at);
        let stays = self.slab[at].state == State::Ready && !front;
        let order = match front {
            true => self.next_front(),
            false if stays => self.slab[at].order,
            false => self.next_arrival(),
        };
        let slot = &mut self.slab[at];
        settle(slot, by_token);
        if crashed {
            slot.set_crashes(slot.crashes() + 1);
            slot.set(flag::CRASHED, true);
        }
        slot.ready = match slot.state {
            State::Scheduled | State::Retrying => Stamp::new(slot.ready.get().min(now.wall_ms)),
            State::Ready => slot.ready,
            _ => Stamp::new(now.wall_ms),
        };
        slot.state = State::Ready;
        slot.order = order;
    }

    /// Leaves the job detached.
    fn requeue(&mut self, now: Now, at: u32, failures: u32, delay_ms: i64, queue: Option<u32>) {
        self.detach(at);
        let due = now.wall_ms.saturating_add(delay_ms.max(0));
        let ready = delay_ms <= 0;
        let order = if ready { self.next_arrival() } else { self.order_by_time(due) };
        let slot = &mut self.slab[at];
        if slot.state.is_terminal() {
            slot.set(flag::BEGUN, true);
        }
        // What was settled under the latest lease stays settled; a lease that was cut off can never be taken back.
        if slot.is_open() {
            slot.set(flag::LEASED, false);
            slot.token = 0;
        }
        slot.set(flag::CRASHED, false);
        slot.state = if ready { State::Ready } else { State::Scheduled };
        slot.order = order;
        slot.failures = failures;
        slot.set_crashes(0);
        slot.ready = Stamp::new(due);
        slot.finish = Stamp::default();
        slot.until = Stamp::default();
        if let Some(extra) = slot.extra.as_mut() {
            extra.cancel = None;
        }
        if let Some(queue) = queue {
            slot.queue = queue;
        }
    }

    /// Asks again with less grace: the shorter one holds. True when the worker has to be told.
    fn request_cancel(&mut self, now: Now, at: u32, reason: String, grace_ms: Option<i64>, out: &mut Output) -> bool {
        let deadline_ms = grace_ms.map(|grace| now.wall_ms.saturating_add(grace.max(0)));
        let slot = &self.slab[at];
        let request = match slot.cancel() {
            None => CancelRequest { reason, request_ms: now.wall_ms, deadline_ms },
            Some(first) => {
                let both = [first.deadline_ms, deadline_ms];
                CancelRequest { deadline_ms: both.into_iter().flatten().min(), ..first.clone() }
            }
        };
        if slot.cancel() == Some(&request) {
            return false;
        }
        self.detach(at);
        self.slab[at].extra_mut().cancel = Some(request);
        self.touch(at, out);
        self.attach(now, at, out);
        true
    }

    /// Leaves the job detached.
    fn patch(&mut self, now: Now, at: u32, queue: Option<u32>, priority: Option<i8>, start: Option<Start>) {
        self.detach(at);
        let slot = &self.slab[at];
        let queue = queue.unwrap_or(slot.queue);
        let priority = priority.map_or(slot.priority, |priority| priority.clamp(-4, 4));
        let starts = match start {
            None => None,
            Some(Start::Now) => Some(now.wall_ms),
            Some(Start::At(at)) => Some(at.max(now.wall_ms)),
            Some(Start::In(delay)) => Some(now.wall_ms.saturating_add(delay.max(0))),
        };
        let state = match (slot.state, starts) {
            (State::Blocked, _) => State::Blocked,
            (state, None) => state,
            (_, Some(starts)) if starts <= now.wall_ms => State::Ready,
            (State::Retrying, Some(_)) => State::Retrying,
            (_, Some(_)) => State::Scheduled,
        };
        let moves = queue != slot.queue || priority != slot.priority;
        let order = match state {
            // Where it is in line it stays, unless the line is another one.
            State::Ready if slot.state == State::Ready && !moves => slot.order,
            State::Ready => self.next_arrival(),
            State::Scheduled | State::Retrying => match starts {
                Some(due) => self.order_by_time(due),
                None => slot.order,
            },
            _ => slot.order,
        };
        let slot = &mut self.slab[at];
        match starts {
            Some(starts) if !(state == State::Ready && slot.state == State::Ready) => slot.ready = Stamp::new(starts),
            _ => {}
        }
        slot.state = state;
        slot.order = order;
        slot.queue = queue;
        slot.priority = priority;
    }

    fn delete(&mut self, at: u32, out: &mut Output) {
        self.detach(at);
        self.ids.remove(&self.slab, at);
        let slot = &self.slab[at];
        out.writes.push(Write::Forget { row: slot.row.get() as u64, sides: slot.sides() });
        self.slab.remove(at);
    }

    /// Ends a change that left the job detached.
    fn requeued(&mut self, now: Now, at: u32, out: &mut Output) {
        self.touch(at, out);
        self.attach(now, at, out);
    }

    fn effects(&mut self, now: Now, effects: Vec<Effect>, out: &mut Output) {
        for effect in effects {
            match effect {
                Effect::Put(job) => drop(self.put_one(now, job, out)),
            }
        }
    }

    fn keep_side(&mut self, at: u32, table: Table, sub: u64, bytes: bytes::Bytes, flag: u16, out: &mut Output) {
        let slot = &mut self.slab[at];
        slot.set(flag, true);
        out.writes.push(Write::Set(Key::Job { table, row: slot.row.get() as u64, sub }, bytes));
    }

    fn keep_checkpoint(&mut self, at: u32, checkpoint: Option<Payload>, out: &mut Output) {
        if let Some(checkpoint) = checkpoint {
            let bytes = self.encoder.side(&checkpoint);
            self.keep_side(at, Table::Checkpoint, 0, bytes, flag::CHECKPOINT, out);
        }
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

    fn keep_body(&mut self, at: u32, body: Option<bytes::Bytes>, out: &mut Output) {
        let Some(body) = body else { return };
        let slot = &mut self.slab[at];
        slot.body_bytes = body.len().try_into().unwrap_or(u32::MAX);
        out.writes.push(Write::Set(Key::Job { table: Table::Body, row: slot.row.get() as u64, sub: 0 }, body));
    }
}

/// An act under the token was applied: nothing more will be, and whoever spoke had not crashed.
fn settle(slot: &mut Slot, by_token: bool) {
    if by_token {
        take_crash_off(slot);
        slot.set(flag::SETTLED, true);
    }
}

fn take_crash_off(slot: &mut Slot) {
    if slot.has(flag::CRASHED) {
        slot.set(flag::CRASHED, false);
        slot.set_crashes(slot.crashes().saturating_sub(1));
    }
}
