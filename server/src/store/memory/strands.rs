//! The jobs of one queue apart by fairness key, and whose turn it is.
//!
//! A strand is what one key has READY and RUNNING. Those that may go stand in a ring: the first has as many turns as it
//! weighs, then goes to its end. One that may not go (nothing READY, as many running as may, no token left, throttled) is
//! not in the ring, so it costs a claim nothing, however many there are. I13.
use std::collections::{BTreeSet, HashMap, VecDeque};

use super::{
    ready::{Picked, Ready},
    slab::Slab,
};
use crate::{
    model::{
        op::FairKey,
        queue::{KeyBounds, QueueConfig, from_bottom},
        state::State,
        time::Now,
    },
    store::{
        bounds::{self, Bucket},
        slot::Slot,
    },
};

/// Where a strand is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seat {
    /// Nothing is READY.
    Away,
    /// Among those that may go. What it had may be gone by now: that is seen when its turn comes.
    Ring,
    /// As many run as may: one that ends brings it back.
    Held,
    /// Its rate or a throttle lets nothing through before this, monotonic clock.
    Parked(i64),
    /// There are no jobs; it is kept until this, monotonic clock, because its rate or a throttle is not to be forgotten.
    Idle(i64),
}

/// What one fairness key has.
#[derive(Debug)]
struct Strand {
    key: FairKey,
    ready: Ready,
    running: usize,
    bucket: Bucket,
    /// Throttled until then, wall clock; 0 = it is not.
    closed_ms: i64,
    /// Turns that are left to it while it is the first of the ring.
    credit: u32,
    /// Jobs handed out so far, so that some come from below.
    picks: u64,
    seat: Seat,
}

/// All strands of a queue.
#[derive(Debug, Default)]
pub(super) struct Strands {
    numbers: HashMap<FairKey, u32>,
    strands: Vec<Option<Strand>>,
    free: Vec<u32>,
    ring: VecDeque<u32>,
    parked: BTreeSet<(i64, FairKey)>,
    idle: BTreeSet<(i64, u32)>,
    each: KeyBounds,
    weights: HashMap<FairKey, u32>,
    /// The bucket of a key that nobody knows of.
    origin: Bucket,
    /// Strands that are held, of which a lease has ended: whether that makes room is seen at the end of the call.
    eased: Vec<u32>,
    /// Keys whose throttle has ended: whoever keeps records of them may drop those.
    reopened: Vec<FairKey>,
}

/// A strand's turn: how many jobs may go, and how many of them from below.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    number: u32,
    most: usize,
}

impl Strands {
    /// Of a queue without jobs. `known`: nothing was handed out under its bounds that is not known.
    pub fn new(now: Now, config: Option<&QueueConfig>, known: bool) -> Self {
        let mut strands = Self::default();
        strands.configure(now, config);
        if !known {
            strands.origin = Bucket::empty(now.mono_ms);
        }
        strands
    }

    /// Takes bounds and weights; whoever was held back is looked at again.
    pub fn configure(&mut self, now: Now, config: Option<&QueueConfig>) {
        let each = config.map(|config| config.bounds.per_key).unwrap_or_default();
        if let (Some(rate), None) = (each.rate, self.each.rate) {
            self.origin = Bucket::full(rate, now.mono_ms);
            self.strands.iter_mut().flatten().for_each(|strand| strand.bucket = self.origin);
        }
        self.each = each;
        self.weights = config.map(QueueConfig::key_weights).unwrap_or_default();
        // In an order that every store can have.
        let held_back = self.strands.iter().flatten().filter(|strand| strand.seat != Seat::Ring);
        let held_back: BTreeSet<FairKey> = held_back.map(|strand| strand.key).collect();
        for key in held_back {
            let number = self.numbers[&key];
            self.seat(now, number);
        }
    }

    /// A job is READY or RUNNING now. Tells whether the claimers have to know: a strand that is held comes back by itself.
    pub fn enter(&mut self, now: Now, at: u32, slot: &Slot) -> bool {
        let number = self.number(slot.fair);
        let strand = self.strand(number);
        match slot.state {
            State::Ready => {
                let new = strand.ready.insert(at, slot);
                debug_assert!(new, "a job stands in one strand, once");
                if strand.seat == Seat::Away || matches!(strand.seat, Seat::Idle(_)) {
                    self.seat(now, number);
                }
                self.strand(number).seat != Seat::Held
            }
            _ => {
                strand.running += 1;
                if matches!(strand.seat, Seat::Idle(_)) {
                    self.seat(now, number);
                }
                false
            }
        }
    }

    /// A job is not READY, or not RUNNING, any more. Tells whether its strand is held, so that [`Self::ease`] has to be
    /// called when the call ends.
    pub fn leave(&mut self, now: Now, at: u32, slot: &Slot) -> bool {
        let Some(number) = self.numbers.get(&slot.fair).copied() else {
            debug_assert!(false, "whoever leaves has entered");
            return false;
        };
        let strand = self.strand(number);
        if slot.state == State::Ready {
            let found = strand.ready.remove(at, slot);
            debug_assert!(found, "a READY job stands in its strand");
        } else {
            strand.running -= 1;
        }
        let gone = strand.ready.is_empty() && strand.running == 0;
        let held = strand.seat == Seat::Held;
        if held {
            self.eased.push(number);
        } else if gone && strand.seat == Seat::Away {
            self.seat(now, number);
        }
        held
    }

    /// Strands that were held come back if they have room now. Tells whether one did.
    pub fn ease(&mut self, now: Now) -> bool {
        let mut any = false;
        for number in std::mem::take(&mut self.eased) {
            // One that has come up twice may be gone.
            if self.strands[number as usize].as_ref().is_some_and(|strand| strand.seat == Seat::Held) {
                self.seat(now, number);
                any |= self.strands[number as usize].as_ref().is_some_and(|strand| strand.seat == Seat::Ring);
            }
        }
        any
    }

    /// Nothing of this key goes before `until_ms`, wall clock. The latest such time holds; it is the answer.
    pub fn close(&mut self, now: Now, key: FairKey, until_ms: i64) -> i64 {
        let number = self.number(key);
        let opens = now.mono_ms.saturating_add(until_ms - now.wall_ms);
        let strand = self.strand(number);
        if until_ms > strand.closed_ms {
            strand.closed_ms = until_ms;
            strand.bucket = Bucket::empty(opens);
        }
        let until_ms = strand.closed_ms;
        self.seat(now, number);
        until_ms
    }

    /// Whose turn it is, for at most `want` jobs; `None` = nobody may go.
    pub fn next(&mut self, now: Now, slab: &Slab, want: usize) -> Option<Turn> {
        self.wake(now);
        while let Some(number) = self.ring.front().copied() {
            let alone = self.ring.len() == 1;
            let each = self.each;
            let key = self.strand(number).key;
            let weight = self.weights.get(&key).copied().unwrap_or(1);
            let strand = self.strand(number);
            if strand.ready.has_claimable(slab, now) && strand.closed_ms <= now.wall_ms {
                let admitted = bounds::admit(each, strand.running, &mut strand.bucket, now.mono_ms, want);
                if admitted.most > 0 {
                    if strand.credit == 0 {
                        strand.credit = weight;
                    }
                    let most = if alone { admitted.most } else { admitted.most.min(strand.credit as usize) };
                    return Some(Turn { number, most });
                }
            }
            self.ring.pop_front();
            self.seat_after(now, number, slab);
        }
        None
    }

    /// Finds the jobs of a turn; whoever asks takes them out. Nothing = the next one does not fit.
    pub fn pick(&mut self, turn: Turn, slab: &Slab, now: Now, picked: &mut Picked) -> usize {
        let (strand, before) = (self.strand(turn.number), picked.slots.len());
        let bottom = from_bottom(strand.picks, turn.most);
        strand.ready.pick(slab, now, bottom, turn.most, picked);
        let got = picked.slots.len() - before;
        strand.picks += got as u64;
        strand.bucket.spend(got);
        strand.credit = strand.credit.saturating_sub(got as u32);
        if strand.credit == 0 && self.ring.len() > 1 {
            self.ring.rotate_left(1);
        }
        got
    }

    /// Whether somebody may go, and if not, after how long somebody may whom time alone holds back.
    pub fn outlook(&mut self, now: Now, slab: &Slab) -> (bool, Option<i64>) {
        if self.next(now, slab, 1).is_some() {
            return (true, None);
        }
        (false, self.parked.first().map(|(at, _)| (at - now.mono_ms).max(1)))
    }

    /// Keys whose throttle has ended since this was last asked.
    pub fn reopened(&mut self) -> Vec<FairKey> {
        std::mem::take(&mut self.reopened)
    }

    /// Keys that are throttled, and until when.
    pub fn closed(&self) -> impl Iterator<Item = (FairKey, i64)> {
        self.strands.iter().flatten().filter(|strand| strand.closed_ms > 0).map(|strand| (strand.key, strand.closed_ms))
    }

    /// Per key, how many of its jobs are READY and how many run.
    pub fn each(&self) -> impl Iterator<Item = (FairKey, usize, usize)> {
        self.strands.iter().flatten().map(|strand| (strand.key, strand.ready.len(), strand.running))
    }

    /// Whether this READY job stands where it belongs.
    pub fn has(&self, at: u32, slot: &Slot) -> bool {
        let number = self.numbers.get(&slot.fair);
        let strand = number.and_then(|number| self.strands[*number as usize].as_ref());
        strand.is_some_and(|strand| strand.ready.contains(at, slot))
    }

    fn strand(&mut self, number: u32) -> &mut Strand {
        self.strands[number as usize].as_mut().expect("numbers are those of strands that are there")
    }

    fn number(&mut self, key: FairKey) -> u32 {
        if let Some(number) = self.numbers.get(&key) {
            return *number;
        }
        let strand = Strand {
            key,
            ready: Ready::default(),
            running: 0,
            bucket: self.origin,
            closed_ms: 0,
            credit: 0,
            picks: 0,
            seat: Seat::Away,
        };
        let number = self.free.pop().unwrap_or_else(|| {
            self.strands.push(None);
            self.strands.len() as u32 - 1
        });
        self.strands[number as usize] = Some(strand);
        self.numbers.insert(key, number);
        number
    }

    /// Those whose time has come are back.
    fn wake(&mut self, now: Now) {
        while let Some((_, key)) = self.parked.first().filter(|(at, _)| *at <= now.mono_ms) {
            let number = self.numbers[key];
            self.seat(now, number);
        }
        while let Some((_, number)) = self.idle.first().copied().filter(|(at, _)| *at <= now.mono_ms) {
            self.seat(now, number);
        }
    }

    /// Gives a strand the place that fits what it has now: not the first in line, and not by its rate, which is seen when
    /// its turn comes.
    fn seat(&mut self, now: Now, number: u32) {
        let each = self.each;
        let strand = self.strand(number);
        let old = strand.seat;
        if strand.closed_ms > 0 && strand.closed_ms <= now.wall_ms {
            strand.closed_ms = 0;
            let key = strand.key;
            self.reopened.push(key);
        }
        let strand = self.strand(number);
        let opens = (strand.closed_ms > 0).then(|| now.mono_ms.saturating_add(strand.closed_ms - now.wall_ms));
        let full = each.rate.map(|rate| strand.bucket.full_ms(rate)).filter(|at| *at > now.mono_ms);
        let new = match (strand.ready.is_empty(), opens) {
            (false, Some(opens)) => Seat::Parked(opens),
            (false, None) if each.max_running > 0 && strand.running >= each.max_running as usize => Seat::Held,
            (false, None) => Seat::Ring,
            (true, _) if strand.running > 0 => Seat::Away,
            (true, opens) => opens.or(full).map_or(Seat::Away, Seat::Idle),
        };
        self.sit(number, old, new);
        let strand = self.strand(number);
        if strand.seat == Seat::Away && strand.running == 0 {
            let key = strand.key;
            self.numbers.remove(&key);
            self.strands[number as usize] = None;
            self.free.push(number);
        }
    }

    /// The strand was in front and could not go.
    fn seat_after(&mut self, now: Now, number: u32, slab: &Slab) {
        let each = self.each;
        let strand = self.strand(number);
        strand.seat = Seat::Away;
        strand.credit = 0;
        if strand.closed_ms > now.wall_ms || !strand.ready.has_claimable(slab, now) {
            // What is READY has expired: it goes when that is noticed, and costs nothing until then.
            let gone = strand.closed_ms <= now.wall_ms && !strand.ready.is_empty();
            if !gone {
                self.seat(now, number);
            }
            return;
        }
        let admitted = bounds::admit(each, strand.running, &mut strand.bucket, now.mono_ms, 1);
        let seat = match admitted.opens_in_ms {
            Some(ms) => Seat::Parked(now.mono_ms.saturating_add(ms)),
            None => Seat::Held,
        };
        self.sit(number, Seat::Away, seat);
    }

    fn sit(&mut self, number: u32, old: Seat, new: Seat) {
        if old == new {
            return;
        }
        let key = self.strand(number).key;
        match old {
            Seat::Parked(at) => _ = self.parked.remove(&(at, key)),
            Seat::Idle(at) => _ = self.idle.remove(&(at, number)),
            Seat::Ring => self.ring.retain(|other| *other != number),
            Seat::Away | Seat::Held => {}
        }
        match new {
            Seat::Parked(at) => _ = self.parked.insert((at, key)),
            Seat::Idle(at) => _ = self.idle.insert((at, number)),
            Seat::Ring => self.ring.push_back(number),
            Seat::Away | Seat::Held => {}
        }
        let strand = self.strand(number);
        strand.seat = new;
        if new != Seat::Ring {
            strand.credit = 0;
        }
    }
}
