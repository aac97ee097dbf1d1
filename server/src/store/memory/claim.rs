//! Handing out jobs: selection and lease in one step.
//!
//! I5: only READY jobs are handed out, so leases of a job never overlap. I13: in the order of their arrival.
use std::ops::Bound::{Excluded, Unbounded};

use super::{
    machine::{Granted, Machine},
    queue::{LEVELS, Spot},
    write::Output,
};
use crate::model::{op::Claim, state::State, time::Now};
use crate::store::{
    bounds,
    slot::{Stamp, flag},
};

/// The answer to a claim.
#[derive(Debug, Default)]
pub struct Handed {
    pub jobs: Vec<Granted>,
    pub more: bool,
    pub opens_in_ms: Option<i64>,
}

/// What a claim has taken so far.
struct Picked {
    slots: Vec<u32>,
    /// Room for bodies that is left.
    bytes: usize,
    /// A job was left because its body did not fit.
    cut: bool,
}

impl Machine {
    /// Leases READY jobs of one queue, no more than its bounds allow.
    pub fn claim(&mut self, now: Now, claim: &Claim, out: &mut Output) -> Handed {
        let Some(number) = self.queue_names.find(&claim.queue) else { return Handed::default() };
        let queue = &mut self.queues[number as usize];
        if queue.pause.is_some() {
            queue.quiet = true;
            return Handed::default();
        }
        let (bounds, running) = (queue.bounds(), queue.list(State::Running).len());
        let admitted = bounds::admit(&bounds, running, &mut queue.bucket, now.mono_ms, claim.secrets.len());
        let want = admitted.most;
        let mut picked = Picked { slots: Vec::with_capacity(want), bytes: claim.bytes, cut: false };
        // From below first: what is taken from above must not use up the room that keeps the lowest from starving.
        for level in (0..LEVELS).rev() {
            self.pick(now, number, level, claim.from_bottom.min(want), &mut picked);
        }
        let from_bottom = picked.slots.len();
        for level in 0..LEVELS {
            self.pick(now, number, level, want, &mut picked);
        }
        picked.slots.rotate_left(from_bottom);

        let rest = picked.cut || picked.slots.len() == want && self.has_claimable(now, number);
        let opens_in_ms = admitted.opens_in_ms.filter(|_| rest && !picked.cut);
        let held = rest && !picked.cut && admitted.held;
        let more = rest && !held && opens_in_ms.is_none();
        let queue = &mut self.queues[number as usize];
        queue.quiet = !more;
        queue.held = held;
        queue.bucket.spend(picked.slots.len());
        out.writes.reserve(picked.slots.len());
        let mut jobs = Vec::with_capacity(picked.slots.len());
        for (at, secret) in picked.slots.into_iter().zip(claim.secrets.iter().copied()) {
            self.grant(now, claim, at, secret, out);
            jobs.push(Granted { found: self.found(at), secret });
        }
        self.finish_call(out);
        Handed { jobs, more, opens_in_ms }
    }

    /// Takes jobs out of one READY list until `most` are picked in all or the bytes are used up.
    fn pick(&mut self, now: Now, number: u32, level: usize, most: usize, picked: &mut Picked) {
        if picked.slots.len() >= most {
            return;
        }
        let queue = &mut self.queues[number as usize];
        let start = picked.slots.len();
        for spot in queue.ready[level].range((queue.expired_to[level].map_or(Unbounded, Excluded), Unbounded)) {
            let slot = &self.slab[spot.slot];
            if slot.is_expired(now) {
                queue.expired_to[level] = Some(*spot);
                continue;
            }
            if picked.slots.len() == most {
                break;
            }
            let bytes = slot.body_bytes as usize;
            if bytes > picked.bytes && !picked.slots.is_empty() {
                picked.cut = true;
                break;
            }
            picked.bytes = picked.bytes.saturating_sub(bytes);
            picked.slots.push(spot.slot);
        }
        for i in start..picked.slots.len() {
            self.detach(picked.slots[i]);
        }
    }

    fn grant(&mut self, now: Now, claim: &Claim, at: u32, secret: u64, out: &mut Output) {
        let order = self.next_arrival();
        let slot = &mut self.slab[at];
        slot.state = State::Running;
        slot.order = order;
        slot.token = secret;
        slot.delivery += 1;
        slot.start = Stamp::new(now.wall_ms);
        slot.until = Stamp::new(now.mono_ms.saturating_add(claim.lease_ms));
        slot.set(flag::SETTLED | flag::CRASHED | flag::STARTED, false);
        slot.set(flag::LEASED, true);
        if claim.started {
            slot.set(flag::STARTED | flag::BEGUN, true);
        }
        let id = slot.id;
        if let Some(key) = slot.release_at_start() {
            self.keys.release(key, id);
        }
        self.touch(at, out);
        self.attach(now, at, out);
    }

    /// Whether a claim would find a job.
    pub(super) fn has_claimable(&mut self, now: Now, number: u32) -> bool {
        let queue = &mut self.queues[number as usize];
        for (list, expired_to) in queue.ready.iter().zip(&mut queue.expired_to) {
            for spot in list.range::<Spot, _>((expired_to.map_or(Unbounded, Excluded), Unbounded)) {
                if !self.slab[spot.slot].is_expired(now) {
                    return true;
                }
                *expired_to = Some(*spot);
            }
        }
        false
    }
}
