//! From a record before and after to what has to happen in the lists and indexes: the arguments of `move.lua`.
use bytes::Bytes;

use super::{outbox::Throttled, record};
use crate::{
    model::{
        ids::JobId,
        job::Attempt,
        limits::ATTEMPTS_KEPT,
        op::{Effect, KeyHash, Throttle},
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
    place: Place,
    condition: Condition,
    extras: Vec<Extra>,
}

/// Where the job stands then; the letter that `move.lua` knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    End = b'E' as isize,
    Front = b'F' as isize,
    /// The same for a job that no claim will take: nobody is told.
    ExpiredEnd = b'e' as isize,
    ExpiredFront = b'f' as isize,
    /// As it stands.
    Stays = b'S' as isize,
    /// At the same place in the list of another queue.
    Beside = b'M' as isize,
    /// In no list of a queue.
    Nowhere = b'.' as isize,
}

/// Something else that moves: a letter that `move.lua` knows, the key, the value.
#[derive(Debug)]
struct Extra {
    what: &'static str,
    value: Bytes,
}

impl Step {
    /// A step that leaves `slot` where `change` says. Serials of hints and flags of parts are set on the way.
    pub fn new(now: Now, old: (&Slot, Bytes), slot: &mut Slot, condition: Condition, change: Change) -> Self {
        let (before, old) = old;
        let mut step =
            Self { id: slot.id, old, new: Bytes::new(), place: Place::Nowhere, condition, extras: Vec::new() };
        if change.deleted {
            step.forget(before);
            return step;
        }
        step.place = place(now, slot, change.line, before);
        if slot.state == State::Ready && step.place != Place::Stays {
            record::next_hint(slot);
        }
        // Only an Extend knows of an end of the lease.
        if slot.state == State::Running && slot.until.get() > 0 {
            step.add("+l", slot.until.get().to_string());
        }
        step.index(before, slot);
        match (before.held_key(), slot.held_key()) {
            (Some(key), None) => step.add("k", key.to_vec()),
            (None, Some(key)) => step.add("K", key.to_vec()),
            _ => {}
        }
        if let (Some(key), None) = (before.awaited_key(), slot.awaited_key()) {
            step.add("w", key.to_vec());
        }
        if change.stopping {
            step.add("c", Bytes::new());
        }
        step.keep(slot, &change);
        if let Some((what, until_ms)) = change.throttle {
            let until = until_ms.to_string();
            match what {
                Throttle::Key => step.add("f", until),
                Throttle::Queue => step.add("q", until),
            }
        }
        for Effect::Put(job) in &change.effects {
            step.add("e", postcard::to_stdvec(job).expect("plain data always encodes"));
        }
        if change.touched {
            slot.version = slot.version.wrapping_add(1);
        }
        step.new = if change.touched { record::encode(slot) } else { step.old.clone() };
        step
    }

    /// The throttle of the queue is for its other shards too.
    pub fn spread(&mut self, throttled: &Throttled) {
        self.add("et", postcard::to_stdvec(throttled).expect("plain data always encodes"));
    }

    /// Bytes that the step takes in a call.
    pub fn size(&self) -> usize {
        self.old.len() + self.new.len() + self.extras.iter().map(|each| each.value.len() + 16).sum::<usize>() + 32
    }

    pub fn has_effects(&self) -> bool {
        self.extras.iter().any(|each| each.what.starts_with('e'))
    }

    pub fn write(&self, args: &mut Vec<Bytes>) {
        let condition = match self.condition {
            Condition::None => '-',
            Condition::Lapsed => 'l',
            Condition::Free(_) => 'k',
        };
        args.push(Bytes::copy_from_slice(self.id.as_bytes()));
        args.push(self.old.clone());
        args.push(self.new.clone());
        args.push(format!("{}{condition}{}", self.place as u8 as char, self.extras.len()).into());
        if let Condition::Free(key) = self.condition {
            args.push(Bytes::copy_from_slice(&key));
        }
        for Extra { what, value } in &self.extras {
            args.push(Bytes::from_static(what.as_bytes()));
            args.push(value.clone());
        }
    }

    fn add(&mut self, what: &'static str, value: impl Into<Bytes>) {
        self.extras.push(Extra { what, value: value.into() });
    }

    /// What becomes due besides: cancels, expiries.
    fn index(&mut self, before: &Slot, slot: &Slot) {
        let deadline = |slot: &Slot| slot.cancel_deadline().filter(|_| slot.state == State::Running);
        for ([enter, leave], old, new) in [
            (["+c", "-c"], deadline(before), deadline(slot)),
            (["+x", "-x"], before.waiting_expiry(), slot.waiting_expiry()),
        ] {
            match new {
                Some(ms) if old != new => self.add(enter, ms.to_string()),
                None if old.is_some() => self.add(leave, Bytes::new()),
                _ => {}
            }
        }
        // It stays where it stands, but is kept for another time.
        if before.state.is_terminal() && slot.state == before.state && before.until != slot.until {
            self.add("+y", slot.until.get().to_string());
        }
    }

    fn keep(&mut self, slot: &mut Slot, change: &Change) {
        if let Some(outcome) = &change.outcome {
            slot.set(flag::OUTCOME, true);
            self.part("sr", outcome);
        }
        if change.drop_outcome {
            slot.set(flag::OUTCOME, false);
            self.add("dr", Bytes::new());
        }
        if let Some(attempt) = &change.attempt {
            self.attempt(slot, attempt);
        }
        if let Some(progress) = &change.progress {
            slot.set(flag::PROGRESS, true);
            self.part("sp", progress);
        }
        if let Some(checkpoint) = &change.checkpoint {
            slot.set(flag::CHECKPOINT, true);
            self.part("sk", checkpoint);
        }
        if let Some(body) = &change.body {
            self.add("sj", body.clone());
        }
    }

    fn part(&mut self, what: &'static str, part: &impl serde::Serialize) {
        self.add(what, postcard::to_stdvec(part).expect("plain data always encodes"));
    }

    /// Adds to the history; what falls out of it at the other end is removed.
    fn attempt(&mut self, slot: &mut Slot, attempt: &Attempt) {
        let mut value = attempt.delivery.to_be_bytes().to_vec();
        value.extend(postcard::to_stdvec(attempt).expect("plain data always encodes"));
        self.add("aa", value);
        if slot.has(flag::ATTEMPTS) && attempt.delivery > ATTEMPTS_KEPT {
            self.add("da", (attempt.delivery - ATTEMPTS_KEPT).to_be_bytes().to_vec());
        }
        slot.set(flag::ATTEMPTS, true);
    }

    fn forget(&mut self, slot: &Slot) {
        if slot.cancel_deadline().is_some() && slot.state == State::Running {
            self.add("-c", Bytes::new());
        }
        if slot.waiting_expiry().is_some() {
            self.add("-x", Bytes::new());
        }
        if let Some(key) = slot.held_key() {
            self.add("k", key.to_vec());
        }
        if let Some(key) = slot.awaited_key() {
            self.add("w", key.to_vec());
        }
        self.add("dj", Bytes::new());
        for (what, had) in [("dr", flag::OUTCOME), ("dp", flag::PROGRESS), ("dk", flag::CHECKPOINT)] {
            if slot.has(had) {
                self.add(what, Bytes::new());
            }
        }
        if slot.has(flag::ATTEMPTS) {
            for delivery in deliveries(slot.delivery) {
                self.add("da", delivery.to_be_bytes().to_vec());
            }
        }
        self.add("dgn", Bytes::new());
        self.add("Dg:", Bytes::new());
    }
}

fn place(now: Now, slot: &Slot, line: Line, before: &Slot) -> Place {
    match (slot.state, line) {
        (State::Ready, Line::Stays) => Place::Stays,
        (State::Ready, Line::Front) if slot.is_expired(now) => Place::ExpiredFront,
        (State::Ready, Line::Front) => Place::Front,
        (State::Ready, _) if slot.is_expired(now) => Place::ExpiredEnd,
        (State::Ready, _) => Place::End,
        (State::Running, _) if before.state == State::Running => Place::Stays,
        (State::Running, _) => Place::Nowhere,
        (state, Line::Stays) if state == before.state && slot.queue == before.queue => Place::Stays,
        (_, Line::Stays) => Place::Beside,
        (_, _) => Place::End,
    }
}

/// Deliveries of which the history may know.
pub(super) fn deliveries(latest: u32) -> std::ops::RangeInclusive<u32> {
    latest.saturating_sub(ATTEMPTS_KEPT - 1).max(1)..=latest
}
