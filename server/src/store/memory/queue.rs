//! One queue: its lists, its pause, and what has been said about it.
use std::{cmp::Ordering, collections::BTreeSet};

use crate::model::{
    ids::QueueName,
    queue::{Bounds, Configured, Pause, QueueConfig, QueueFacts},
    state::State,
    time::Now,
};
use crate::store::{bounds::Bucket, slot::Slot};

use super::{ready::Ready, slab::Slab, strands::Strands};

/// A place in a list: order, then slot. 12 bytes instead of 16, because there is one per job, and compared as two numbers,
/// because every change does so dozens of times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Spot {
    low: u32,
    high: i32,
    pub slot: u32,
}

impl Ord for Spot {
    fn cmp(&self, other: &Self) -> Ordering {
        self.order().cmp(&other.order()).then(self.slot.cmp(&other.slot))
    }
}

impl PartialOrd for Spot {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Spot {
    pub fn new(order: i64, slot: u32) -> Self {
        Self { high: (order >> 32) as i32, low: order as u32, slot }
    }

    pub fn order(self) -> i64 {
        i64::from(self.high) << 32 | i64::from(self.low)
    }

    /// After every place of this order.
    pub fn after(order: i64) -> Self {
        Self::new(order, u32::MAX)
    }
}

/// Orders of lists by time: the due time above, arrival below it, so that places differ and equals keep their order.
pub(super) mod by_time {
    const ARRIVAL_BITS: u32 = 20;
    /// The year 2248.
    const LATEST_MS: i64 = (1 << (63 - ARRIVAL_BITS)) - 1;

    pub fn order(due_ms: i64, arrival: i64) -> i64 {
        due_ms.clamp(0, LATEST_MS) << ARRIVAL_BITS | self::arrival(arrival)
    }

    /// What decides between equals.
    pub fn arrival(order: i64) -> i64 {
        order & ((1 << ARRIVAL_BITS) - 1)
    }

    pub fn due_ms(order: i64) -> i64 {
        order >> ARRIVAL_BITS
    }
}

/// A queue.
#[derive(Debug)]
pub(super) struct Queue {
    pub name: QueueName,
    pub pause: Option<Pause>,
    pub config: Option<Configured>,
    /// What its rate has left; looked at only while there is one.
    pub bucket: Bucket,
    /// A claim took less than there was because as many jobs run as may: the next that ends raises a wake.
    pub held: bool,
    pub ready: Ready,
    /// READY and RUNNING jobs by fairness key; `None` = no job of it ever had one, and keys have no bounds.
    pub strands: Option<Box<Strands>>,
    /// A worker asked for the whole queue to be left alone until then, wall clock; 0 = none does.
    pub closed_ms: i64,
    /// The other states' jobs, indexed by `State as usize`.
    lists: [BTreeSet<Spot>; 11],
    /// A claim was told that there is nothing more, and no wake has followed: the next job that can be claimed raises one.
    pub quiet: bool,
    /// The entry in the machine's index of starts.
    pub next_start: Option<i64>,
}

impl Queue {
    pub fn new(name: QueueName) -> Self {
        Self {
            name,
            pause: None,
            config: None,
            bucket: Bucket::default(),
            held: false,
            ready: Ready::default(),
            strands: None,
            closed_ms: 0,
            lists: Default::default(),
            quiet: true,
            next_start: None,
        }
    }

    /// The list of a state other than READY.
    pub fn list(&self, state: State) -> &BTreeSet<Spot> {
        &self.lists[state as usize]
    }

    pub fn insert(&mut self, at: u32, slot: &Slot) {
        let new = match slot.state {
            State::Ready => self.ready.insert(at, slot),
            state => self.lists[state as usize].insert(Spot::new(slot.order, at)),
        };
        debug_assert!(new, "a job stands in one list, once");
    }

    pub fn remove(&mut self, at: u32, slot: &Slot) {
        let found = match slot.state {
            State::Ready => self.ready.remove(at, slot),
            state => self.lists[state as usize].remove(&Spot::new(slot.order, at)),
        };
        debug_assert!(found, "a job stands in the list of its state");
    }

    /// Takes whole lists, as they were built from records.
    pub fn load(&mut self, state: State, level: usize, list: BTreeSet<Spot>) {
        if state == State::Ready {
            self.ready.load(level, list);
        } else {
            self.lists[state as usize] = list;
        }
    }

    /// Takes another configuration if it was decided on the present one.
    pub fn configure(&mut self, now: Now, slab: &Slab, expect: u64, config: Option<Box<QueueConfig>>) {
        if self.config.as_ref().map_or(0, |configured| configured.version) != expect {
            return;
        }
        let old = self.bounds().rate;
        self.config = config.map(|config| Configured { version: expect + 1, config });
        match self.bounds().rate {
            Some(rate) if old.is_none() => self.bucket = Bucket::full(rate, now.mono_ms),
            _ => {}
        }
        let config = self.config.as_ref().map(|configured| &*configured.config);
        match &mut self.strands {
            Some(strands) => strands.configure(now, config),
            None if config.is_some_and(|config| config.bounds.per_key.any()) => self.divide(now, slab, true),
            None => {}
        }
    }

    pub fn bounds(&self) -> Bounds {
        self.config.as_ref().map(|configured| configured.config.bounds).unwrap_or_default()
    }

    /// Jobs that have not been handed out and have not ended.
    pub fn depth(&self) -> usize {
        let waiting = [State::Scheduled, State::Retrying, State::Blocked];
        self.ready.len() + waiting.iter().map(|state| self.list(*state).len()).sum::<usize>()
    }

    /// When the first SCHEDULED or RETRYING job is due.
    pub fn earliest_start(&self) -> Option<i64> {
        [State::Scheduled, State::Retrying]
            .into_iter()
            .filter_map(|state| self.list(state).first())
            .map(|spot| by_time::due_ms(spot.order()))
            .min()
    }

    /// The states whose records are counted together against a limit, `state` being one of them.
    pub fn kept_together(state: State) -> &'static [State] {
        match state {
            State::Dead => DEAD,
            _ => FINISHED,
        }
    }

    /// Records kept in these states.
    pub fn kept(&self, states: &[State]) -> usize {
        states.iter().map(|state| self.list(*state).len()).sum()
    }

    /// The oldest record of these states.
    pub fn first(&self, states: &[State]) -> Option<Spot> {
        states.iter().filter_map(|state| self.list(*state).first().copied()).min()
    }

    /// Records of these states, oldest first.
    pub fn oldest(&self, states: &[State]) -> impl Iterator<Item = Spot> {
        let mut lists: Vec<_> = states.iter().map(|state| self.list(*state).iter().copied().peekable()).collect();
        std::iter::from_fn(move || {
            let firsts = lists.iter_mut().enumerate().filter_map(|(at, list)| list.peek().map(|spot| (*spot, at)));
            let (_, at) = firsts.min()?;
            lists[at].next()
        })
    }

    pub fn facts(&self, oldest_ready_ms: Option<i64>) -> QueueFacts {
        let mut counts = [0; 11];
        for state in State::ALL {
            counts[state as usize] =
                if state == State::Ready { self.ready.len() } else { self.list(state).len() } as u64;
        }
        QueueFacts {
            name: self.name.clone(),
            pause: self.pause.clone(),
            config: self.config.clone(),
            throttled_ms: (self.closed_ms > 0).then_some(self.closed_ms),
            counts,
            oldest_ready_ms,
        }
    }
}

/// Ended records, DEAD ones apart.
pub(super) const FINISHED: &[State] = &[State::Succeeded, State::Cancelled, State::Expired, State::Discarded];
pub(super) const DEAD: &[State] = &[State::Dead];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spots_sort_by_order_then_slot() {
        let orders = [i64::MIN, -(1 << 40), -1, 0, 1, u32::MAX as i64, 1 << 33, i64::MAX];
        for pair in orders.windows(2) {
            assert!(Spot::new(pair[0], 9) < Spot::new(pair[1], 0), "{pair:?}");
            assert!(Spot::after(pair[0]) < Spot::new(pair[1], 0), "{pair:?}");
        }
        for order in orders {
            assert_eq!(Spot::new(order, 3).order(), order);
        }
        assert_eq!(size_of::<Spot>(), 12);
    }

    #[test]
    fn times_sort_first_and_arrival_decides_between_equals() {
        let now = 1_764_000_000_000;
        assert!(by_time::order(now, 900_000) < by_time::order(now + 1, 1));
        assert!(by_time::order(now, 1) < by_time::order(now, 2));
        assert_eq!(by_time::due_ms(by_time::order(now, 1 << 40)), now);
        assert!(by_time::order(i64::MAX, 5) > 0);
    }
}
