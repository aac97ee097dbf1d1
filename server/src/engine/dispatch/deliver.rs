//! From a claim to the workers: each job goes to one that handles its type, and what finds no worker goes back. Workers
//! that hold more than they can run are asked for the rest when others are idle.
use tokio::sync::mpsc;
use tracing::warn;

use super::{Dispatch, Freed, Key, size};
use crate::{
    engine::session,
    model::{
        ids::QueueName,
        op::{Act, Guard, Leased, Op},
        state::State,
    },
};

/// A job whose type nobody here handles waits so long, doubling up to the second number.
const UNHANDLED_MS: (i64, i64) = (5_000, 60_000);
/// A job whose only capable workers are busy goes back for so long, so that it blocks nobody else.
const BUSY_MS: i64 = 500;
impl Dispatch {
    /// Routes jobs to members, those with a reservation first; what cannot be placed goes back.
    pub(super) fn deliver(&mut self, queue: &QueueName, plan: &mut [(Key, usize)], jobs: Vec<Leased>) {
        let mut parcels: Vec<(Key, Vec<Leased>)> = plan.iter().map(|(key, n)| (*key, Vec::with_capacity(*n))).collect();
        let mut back = Vec::new();
        for job in jobs {
            let bytes = size(&job);
            let place = plan.iter().position(|(key, left)| {
                *left > 0 && self.members.get(key).is_some_and(|m| m.types.handles(&job.meta.kind) && m.fits(bytes))
            });
            match place {
                Some(index) => {
                    let member = self.members.get_mut(&plan[index].0).expect("just found");
                    plan[index].1 -= 1;
                    member.in_use -= 1;
                    member.count(queue, bytes);
                    parcels[index].1.push(job);
                }
                None => back.push(job),
            }
        }
        for (key, jobs) in parcels.into_iter().filter(|(_, jobs)| !jobs.is_empty()) {
            let member = self.members.get(&key).expect("a parcel's member exists");
            if let Err(error) = member.events.try_send(session::Event::Deliver(jobs)) {
                let (mpsc::error::TrySendError::Full(event) | mpsc::error::TrySendError::Closed(event)) = error;
                if let session::Event::Deliver(jobs) = event {
                    let freed =
                        Freed { queue: queue.clone(), count: jobs.len() as u32, bytes: jobs.iter().map(size).sum() };
                    self.members.get_mut(&key).expect("a parcel's member exists").uncount(&freed);
                    self.put_back(jobs.iter().map(|job| (job, ready_again())).collect());
                }
            }
        }
        // Who asked for them has left meanwhile: others may take them, at once.
        let asked_for: usize =
            plan.iter().filter(|(key, _)| !self.members.contains_key(key)).map(|(_, wanted)| *wanted).sum();
        let aside = back.split_off(asked_for.min(back.len()));
        if !back.is_empty() {
            self.put_back(back.iter().map(|job| (job, ready_again())).collect());
        }
        if !aside.is_empty() {
            self.set_aside(queue, aside);
        }
    }

    /// Jobs that no free worker here takes: for a moment when one that handles them is merely busy, for longer when there
    /// is none.
    fn set_aside(&mut self, queue: &QueueName, jobs: Vec<Leased>) {
        let lane = self.lanes.get_mut(queue).expect("jobs came from this lane");
        let mut acts = Vec::with_capacity(jobs.len());
        for job in &jobs {
            let capable = lane
                .members
                .iter()
                .filter_map(|key| self.members.get(key))
                .any(|member| member.types.handles(&job.meta.kind));
            let delay_ms = if capable {
                BUSY_MS
            } else {
                let (count, delay_ms) = lane.unhandled.entry(job.meta.kind.clone()).or_insert((0, UNHANDLED_MS.0));
                *count += 1;
                if *count == 1 {
                    warn!(%queue, kind = %job.meta.kind, "no connected worker handles this type");
                }
                let now = *delay_ms;
                *delay_ms = (now * 2).min(UNHANDLED_MS.1);
                now
            };
            acts.push((
                job,
                Act::Later {
                    to: State::Scheduled,
                    delay_ms,
                    counts: false,
                    outcome: None,
                    checkpoint: None,
                    throttle: None,
                    effects: Vec::new(),
                },
            ));
        }
        self.put_back(acts);
    }

    pub(super) fn put_back(&self, acts: Vec<(&Leased, Act)>) {
        let ops =
            acts.into_iter().map(|(job, act)| Op { id: job.meta.id, guard: Guard::Token(job.secret), act }).collect();
        let inner = self.inner.clone();
        tokio::spawn(async move {
            // If this fails the delivery leases run out by themselves.
            if let Err(error) = inner.apply(ops).await {
                warn!(%error, "jobs that found no worker come back when their delivery leases run out");
            }
        });
    }

    /// The queue is empty and somebody is idle: ask those who hold more than they can run to give the rest back.
    pub(super) fn recall_surplus(&mut self, queue: &QueueName) {
        let Some(lane) = self.lanes.get(queue) else { return };
        if lane.members.len() < 2 {
            return;
        }
        let idle: usize = lane
            .members
            .iter()
            .filter_map(|key| self.members.get(key))
            .map(|m| if m.window.accepting { m.concurrency().saturating_sub(m.in_use) as usize } else { 0 })
            .sum();
        if idle > 0 {
            self.recall(queue, idle);
        }
    }

    pub(super) fn recall(&mut self, queue: &QueueName, most: usize) {
        let Some(lane) = self.lanes.get(queue) else { return };
        let mut left = most;
        for key in &lane.members {
            let Some(member) = self.members.get_mut(key) else { continue };
            let surplus = match most {
                usize::MAX => usize::MAX,
                _ => member.in_use.saturating_sub(member.concurrency()) as usize,
            };
            let count = surplus.min(left);
            if count == 0 || (member.recalling && most != usize::MAX) {
                continue;
            }
            let recall = session::Event::Recall { queue: queue.clone(), count };
            if member.events.try_send(recall).is_ok() {
                member.recalling = true;
                left = left.saturating_sub(count);
            }
        }
    }
}

/// Back to where it came from.
pub fn ready_again() -> Act {
    Act::Ready { front: true, crashed: false, attempt: None, checkpoint: None }
}
