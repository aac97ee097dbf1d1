//! From a record before and after to what has to happen in the lists and indexes: the arguments of `move.lua`.
use bytes::Bytes;

use super::{
    layout::{by_time, hex, line},
    record,
};
use crate::{
    model::{
        ids::JobId,
        job::Attempt,
        limits::ATTEMPTS_KEPT,
        op::{Effect, KeyHash},
        state::State,
        time::Now,
    },
    store::{
        rules::{Change, Line},
        slot::{Slot, flag},
    },
};

/// What else must be so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    None,
    /// The lease has run out.
    Lapsed,
    /// This uniqueness key is free.
    Free(KeyHash),
}

/// One conditional change of one record.
#[derive(Debug)]
pub(super) struct Step {
    pub id: JobId,
    /// The record that it was decided on.
    pub old: Bytes,
    /// Empty = the job goes.
    pub new: Bytes,
    pub condition: Condition,
    moves: Vec<Move>,
}

#[derive(Debug)]
struct Move {
    what: &'static str,
    key: String,
    value: Bytes,
}

impl Step {
    /// A step that leaves `slot` where `change` says. Serials of hints and flags of parts are set on the way.
    pub fn new(now: Now, old: (&Slot, Bytes), slot: &mut Slot, condition: Condition, change: Change) -> Self {
        let (before, old) = old;
        let mut step = Self { id: slot.id, old, new: Bytes::new(), condition, moves: Vec::new() };
        if change.deleted {
            step.detach(before);
            if let Some(key) = before.held_key() {
                step.add("k", String::new(), key.to_vec());
            }
            step.forget(before);
            return step;
        }
        if let Some(place) = Place::of(slot, change.line, before) {
            if (before.state, slot.state) != (State::Running, State::Running) {
                step.leave(before);
            }
            step.enter(now, slot, place);
        }
        step.index(before, slot);
        match (before.held_key(), slot.held_key()) {
            (Some(key), None) => step.add("k", String::new(), key.to_vec()),
            (None, Some(key)) => step.add("K", String::new(), key.to_vec()),
            _ => {}
        }
        if change.stopping {
            step.add("c", String::new(), Bytes::new());
        }
        step.keep(slot, &change);
        for effect in &change.effects {
            let Effect::Put(job) = effect;
            step.add("e", String::new(), postcard::to_stdvec(job).expect("plain data always encodes"));
        }
        if change.touched {
            slot.version = slot.version.wrapping_add(1);
        }
        step.new = if change.touched { record::encode(slot) } else { step.old.clone() };
        step
    }

    /// Bytes that the step takes in a call.
    pub fn size(&self) -> usize {
        self.old.len()
            + self.new.len()
            + self.moves.iter().map(|each| each.key.len() + each.value.len() + 16).sum::<usize>()
    }

    pub fn has_effects(&self) -> bool {
        self.moves.iter().any(|each| each.what == "e")
    }

    pub fn write(&self, args: &mut Vec<Bytes>) {
        args.push(Bytes::copy_from_slice(self.id.as_bytes()));
        args.push(self.old.clone());
        args.push(self.new.clone());
        args.push(match self.condition {
            Condition::None => Bytes::new(),
            Condition::Lapsed => Bytes::from_static(b"1"),
            Condition::Free(key) => Bytes::copy_from_slice(&key),
        });
        args.push(self.moves.len().to_string().into());
        for Move { what, key, value } in &self.moves {
            args.push(Bytes::from_static(what.as_bytes()));
            args.push(Bytes::copy_from_slice(key.as_bytes()));
            args.push(value.clone());
        }
    }

    fn add(&mut self, what: &'static str, key: impl Into<String>, value: impl Into<Bytes>) {
        self.moves.push(Move { what, key: key.into(), value: value.into() });
    }

    fn detach(&mut self, before: &Slot) {
        self.leave(before);
        if before.cancel_deadline().is_some() && before.state == State::Running {
            self.add("-", "c", Bytes::new());
        }
        if before.waiting_expiry().is_some() {
            self.add("-", "x", Bytes::new());
        }
    }

    /// Out of the list of its state. A hint stays behind and is passed over.
    fn leave(&mut self, before: &Slot) {
        match before.state {
            State::Ready => {}
            State::Running => self.add("-", "l", Bytes::new()),
            state => self.add("-", by_time(before.queue, state), Bytes::new()),
        }
        if before.state.is_terminal() {
            self.add("-", "y", Bytes::new());
        }
    }

    fn enter(&mut self, now: Now, slot: &mut Slot, place: Place) {
        match place {
            Place::Line(what) => {
                record::next_hint(slot);
                let hint = record::hint(slot).to_le_bytes().to_vec();
                self.add(what, line(slot.queue, slot.level()), hint);
                if !slot.is_expired(now) {
                    self.add("w", hex(slot.queue), Bytes::new());
                }
            }
            Place::Lease => self.add("+", "l", slot.until.get().to_string()),
            Place::Time(ms) => self.add("t", by_time(slot.queue, slot.state), ms.to_string()),
            Place::Beside(from) => self.add("m", from, by_time(slot.queue, slot.state)),
        }
        if slot.state.is_terminal() {
            self.add("+", "y", slot.until.get().to_string());
        }
    }

    /// What becomes due besides: cancels, expiries.
    fn index(&mut self, before: &Slot, slot: &Slot) {
        let deadline = |slot: &Slot| slot.cancel_deadline().filter(|_| slot.state == State::Running);
        for (key, old, new) in
            [("c", deadline(before), deadline(slot)), ("x", before.waiting_expiry(), slot.waiting_expiry())]
        {
            match new {
                Some(ms) if old != new => self.add("+", key, ms.to_string()),
                None if old.is_some() => self.add("-", key, Bytes::new()),
                _ => {}
            }
        }
    }

    fn keep(&mut self, slot: &mut Slot, change: &Change) {
        if let Some(outcome) = &change.outcome {
            slot.set(flag::OUTCOME, true);
            self.part("r", outcome);
        }
        if change.drop_outcome {
            slot.set(flag::OUTCOME, false);
            self.add("d", "r", Bytes::new());
        }
        if let Some(attempt) = &change.attempt {
            self.attempt(slot, attempt);
        }
        if let Some(progress) = &change.progress {
            slot.set(flag::PROGRESS, true);
            self.part("p", progress);
        }
        if let Some(checkpoint) = &change.checkpoint {
            slot.set(flag::CHECKPOINT, true);
            self.part("k", checkpoint);
        }
        if let Some(body) = &change.body {
            self.add("s", "j", body.clone());
        }
    }

    fn part(&mut self, key: &'static str, part: &impl serde::Serialize) {
        self.add("s", key, postcard::to_stdvec(part).expect("plain data always encodes"));
    }

    /// Adds to the history; what falls out of it at the other end is removed.
    fn attempt(&mut self, slot: &mut Slot, attempt: &Attempt) {
        let mut value = attempt.delivery.to_be_bytes().to_vec();
        value.extend(postcard::to_stdvec(attempt).expect("plain data always encodes"));
        self.add("a", "a", value);
        if slot.has(flag::ATTEMPTS) && attempt.delivery > ATTEMPTS_KEPT {
            self.add("d", "a", (attempt.delivery - ATTEMPTS_KEPT).to_be_bytes().to_vec());
        }
        slot.set(flag::ATTEMPTS, true);
    }

    fn forget(&mut self, slot: &Slot) {
        self.add("d", "j", Bytes::new());
        for (key, had) in [("r", flag::OUTCOME), ("p", flag::PROGRESS), ("k", flag::CHECKPOINT)] {
            if slot.has(had) {
                self.add("d", key, Bytes::new());
            }
        }
        if slot.has(flag::ATTEMPTS) {
            for delivery in deliveries(slot.delivery) {
                self.add("d", "a", delivery.to_be_bytes().to_vec());
            }
        }
        self.add("d", "gn", Bytes::new());
        self.add("D", "g:", Bytes::new());
    }
}

/// Deliveries of which the history may know.
pub(super) fn deliveries(latest: u32) -> std::ops::RangeInclusive<u32> {
    latest.saturating_sub(ATTEMPTS_KEPT - 1).max(1)..=latest
}

/// A place that is not the one before.
enum Place {
    /// At the end or the front of a READY list.
    Line(&'static str),
    Lease,
    Time(i64),
    /// Where it stood in the list by time of this name.
    Beside(String),
}

impl Place {
    fn of(slot: &Slot, line: Line, before: &Slot) -> Option<Self> {
        match (slot.state, line) {
            (State::Ready, Line::Front) => Some(Self::Line("f")),
            (State::Ready, Line::End | Line::Time(_)) => Some(Self::Line("r")),
            (State::Ready, Line::Stays) => None,
            // Only an Extend knows of an end of the lease.
            (State::Running, _) if slot.until.get() > 0 => Some(Self::Lease),
            (State::Running, _) => None,
            (_, Line::Time(ms)) => Some(Self::Time(ms)),
            (state, Line::Stays) if state == before.state && slot.queue == before.queue => None,
            (_, Line::Stays) => Some(Self::Beside(by_time(before.queue, before.state))),
            (_, Line::End | Line::Front) => Some(Self::Time(slot.finish.get())),
        }
    }
}
