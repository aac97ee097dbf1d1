//! Handing out jobs: selection and lease in one step.
//!
//! I5: only READY jobs are handed out, so leases of a job never overlap. I13: by turns of
//! their fairness keys, then by priority, then in the order of their arrival.
use super::{
    machine::{Granted, Machine},
    ready::Picked,
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

impl Machine {
    /// Leases READY jobs of one queue, no more than its bounds allow.
    pub fn claim(&mut self, now: Now, claim: &Claim, out: &mut Output) -> Handed {
        let Some(number) = self.queue_names.find(&claim.queue) else { return Handed::default() };
        self.reopen(now, number, out);
        let queue = &mut self.queues[number as usize];
        if queue.pause.is_some() || queue.closed_ms > 0 {
            queue.quiet = true;
            let opens = queue.pause.is_none() && !queue.ready.is_empty();
            return Handed { opens_in_ms: opens.then_some(queue.closed_ms - now.wall_ms), ..Handed::default() };
        }
        let (whole, running) = (queue.bounds().whole(), queue.list(State::Running).len());
        let admitted = bounds::admit(whole, running, &mut queue.bucket, now.mono_ms, claim.secrets.len());
        let want = admitted.most;
        out.writes.reserve(want);
        let (jobs, cut) = match queue.strands {
            None => self.take_first(now, number, claim, want, out),
            Some(_) => self.take_turns(now, number, claim, want, out),
        };

        let (rest, key_opens_in_ms) = match cut {
            true => (true, None),
            false if jobs.len() == want || self.queues[number as usize].strands.is_some() => self.outlook(now, number),
            false => (false, None),
        };
        let opens_in_ms = if rest { admitted.opens_in_ms.filter(|_| !cut) } else { key_opens_in_ms };
        let held = rest && !cut && admitted.held;
        let more = rest && !held && opens_in_ms.is_none();
        let queue = &mut self.queues[number as usize];
        queue.quiet = !more;
        queue.held = held;
        queue.bucket.spend(jobs.len());
        self.drop_reopened(number, out);
        self.finish_call(now, out);
        Handed { jobs, more, opens_in_ms }
    }

    /// Of a queue without strands: what comes first. Tells whether a job was left because its body did not fit.
    fn take_first(
        &mut self,
        now: Now,
        number: u32,
        claim: &Claim,
        want: usize,
        out: &mut Output,
    ) -> (Vec<Granted>, bool) {
        let mut picked = Picked::new(want, claim.bytes);
        self.queues[number as usize].ready.pick(&self.slab, now, claim.from_bottom, want, &mut picked);
        let mut jobs = Vec::with_capacity(picked.slots.len());
        self.hand_out(now, claim, &mut picked, &mut jobs, out);
        (jobs, picked.cut)
    }

    /// Turn by turn.
    fn take_turns(
        &mut self,
        now: Now,
        number: u32,
        claim: &Claim,
        want: usize,
        out: &mut Output,
    ) -> (Vec<Granted>, bool) {
        let mut picked = Picked::new(want, claim.bytes);
        let mut jobs = Vec::with_capacity(want);
        while jobs.len() < want && !picked.cut {
            let Some(strands) = self.queues[number as usize].strands.as_mut() else { break };
            let Some(turn) = strands.next(now, &self.slab, want - jobs.len()) else { break };
            strands.pick(turn, &self.slab, now, &mut picked);
            self.hand_out(now, claim, &mut picked, &mut jobs, out);
        }
        (jobs, picked.cut)
    }

    /// Leases what was picked, under the secrets that are left.
    fn hand_out(&mut self, now: Now, claim: &Claim, picked: &mut Picked, jobs: &mut Vec<Granted>, out: &mut Output) {
        for at in picked.slots.drain(..) {
            let secret = claim.secrets[jobs.len()];
            self.detach(now, at);
            self.grant(now, claim, at, secret, out);
            jobs.push(Granted { found: self.found(at), secret });
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

    /// Whether a claim would find a job, and if not, after how long one that time alone holds back may go.
    pub(super) fn outlook(&mut self, now: Now, number: u32) -> (bool, Option<i64>) {
        let queue = &mut self.queues[number as usize];
        match &mut queue.strands {
            None => (queue.ready.has_claimable(&self.slab, now), None),
            Some(strands) => strands.outlook(now, &self.slab),
        }
    }
}
