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
use crate::store::slot::{Stamp, flag};

/// What a claim has taken so far.
struct Picked {
    slots: Vec<u32>,
    /// Room for bodies that is left.
    bytes: usize,
    /// A job was left because its body did not fit.
    cut: bool,
}

impl Machine {
    /// Leases READY jobs of one queue. Also tells whether more could be claimed.
    pub fn claim(&mut self, now: Now, claim: &Claim, out: &mut Output) -> (Vec<Granted>, bool) {
        let Some(number) = self.queue_names.find(&claim.queue) else { return (Vec::new(), false) };
        if self.queues[number as usize].pause.is_some() {
            self.queues[number as usize].quiet = true;
            return (Vec::new(), false);
        }
        let want = claim.secrets.len();
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

        let more = picked.cut || picked.slots.len() == want && self.has_claimable(now, number);
        self.queues[number as usize].quiet = !more;
        out.writes.reserve(picked.slots.len());
        let mut granted = Vec::with_capacity(picked.slots.len());
        for (at, secret) in picked.slots.into_iter().zip(claim.secrets.iter().copied()) {
            self.grant(now, claim, at, secret, out);
            granted.push(Granted { found: self.found(at), secret });
        }
        self.finish_call(out);
        (granted, more)
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
