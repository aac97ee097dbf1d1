//! Uniqueness and idempotency keys. A job holds its uniqueness key itself: the entry changes in the step that changes the
//! job. Keys that are held for a time are remembered by themselves, because they may outlive their job.
//!
//! I12: one holder per key, and at most one successor.
use std::collections::{BTreeSet, HashMap};

use super::{
    codec::named,
    machine::Machine,
    write::{Key, Output, Write},
};
use crate::{
    model::{
        ids::JobId,
        op::{HeldBy, Hold, KeyHash, KeyKind, NewJob, Put, UniqueKey},
        time::Now,
    },
    store::{rules, slot::Slot},
};

/// Ended keys that are forgotten with a put.
const SWEPT: usize = 16;

/// Who has a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    pub id: JobId,
    /// Wall clock; `None` = the job holds it itself.
    pub until_ms: Option<i64>,
}

#[derive(Debug, Default)]
pub(super) struct Keys {
    held: HashMap<KeyHash, Holder, hashbrown::DefaultHashBuilder>,
    /// Who waits for the key of a job that has it itself: at most one.
    successors: HashMap<KeyHash, JobId, hashbrown::DefaultHashBuilder>,
    ends: BTreeSet<(i64, KeyHash)>,
}

impl Keys {
    /// Who has the key now.
    pub fn holder(&self, now: Now, key: KeyHash) -> Option<JobId> {
        let holder = self.held.get(&key)?;
        holder.until_ms.is_none_or(|until_ms| until_ms > now.wall_ms).then_some(holder.id)
    }

    pub fn take(&mut self, key: KeyHash, holder: Holder) {
        if let Some(Holder { until_ms: Some(until_ms), .. }) = self.held.insert(key, holder) {
            self.ends.remove(&(until_ms, key));
        }
        if let Some(until_ms) = holder.until_ms {
            self.ends.insert((until_ms, key));
        }
    }

    /// Lets go of a key that the job itself holds: whose it is then.
    pub fn release(&mut self, key: KeyHash, id: JobId) -> Option<JobId> {
        if self.held.get(&key) != Some(&Holder { id, until_ms: None }) {
            return None;
        }
        self.held.remove(&key);
        self.successors.remove(&key)
    }

    /// Who waits for the key.
    pub fn successor(&self, key: KeyHash) -> Option<JobId> {
        self.successors.get(&key).copied()
    }

    /// The job waits for the key.
    pub fn wait(&mut self, key: KeyHash, id: JobId) {
        self.successors.insert(key, id);
    }

    /// The job waits for the key no more.
    pub fn give_up(&mut self, key: KeyHash, id: JobId) {
        if self.successor(key) == Some(id) {
            self.successors.remove(&key);
        }
    }

    pub fn waiting(&self) -> usize {
        self.successors.len()
    }

    /// Keys that are held for a time, by their ends, after this one: end, key, holder.
    pub fn timed(&self, after: Option<(i64, KeyHash)>) -> impl Iterator<Item = (i64, KeyHash, JobId)> {
        let start = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let ends = self.ends.range((start, std::ops::Bound::Unbounded));
        ends.filter_map(|(until_ms, key)| self.held.get(key).map(|holder| (*until_ms, *key, holder.id)))
    }

    pub fn len(&self) -> usize {
        self.held.len()
    }

    pub fn remembered(&self) -> usize {
        self.ends.len()
    }
}

impl Machine {
    /// Whether the job has to wait for its key; or the answer, if it cannot have one of its keys.
    pub(super) fn check_keys(&self, now: Now, job: &NewJob) -> Result<bool, Put> {
        let idempotency = job.idempotency.map(|(hash, _)| (KeyKind::Idempotency, hash));
        let waits = self.waits_behind(now, job);
        let unique = job.unique.filter(|_| !waits).map(|unique| (KeyKind::Unique, unique.hash));
        let held = idempotency.into_iter().chain(unique).find_map(|(key, hash)| {
            let last = key == KeyKind::Unique && job.unique.is_some_and(|unique| unique.hold == Hold::KeepLast);
            let by = self.keys.successor(hash).filter(|_| last).or(self.keys.holder(now, hash))?;
            let slot = self.ids.find(&self.slab, by).map(|at| &self.slab[at]);
            let held = |slot: &Slot| HeldBy {
                state: slot.state,
                ready_ms: slot.ready.get(),
                same: slot.content == job.content,
            };
            Some(Put::Held { by, key, job: slot.map(held) })
        });
        held.map_or(Ok(waits), Err)
    }

    /// Whether the job is the successor of one that was handed out.
    fn waits_behind(&self, now: Now, job: &NewJob) -> bool {
        let Some(UniqueKey { hash, hold: Hold::KeepLast }) = job.unique else { return false };
        let own = |id| self.keys.held.get(&hash) == Some(&Holder { id, until_ms: None });
        let holder = self.keys.holder(now, hash).filter(|id| own(*id) && self.keys.successor(hash).is_none());
        let at = holder.and_then(|id| self.ids.find(&self.slab, id));
        at.is_some_and(|at| self.slab[at].delivery > 0)
    }

    /// The job that held a key has ended: its successor has it, and runs.
    pub(super) fn succeed(&mut self, now: Now, key: KeyHash, heir: JobId, out: &mut Output) {
        let Some(at) = self.ids.find(&self.slab, heir) else { return };
        self.detach(now, at);
        let line = rules::succeed(&mut self.slab[at], now);
        self.keys.take(key, Holder { id: heir, until_ms: None });
        self.stand(at, line);
        self.touch(at, out);
        self.attach(now, at, out);
    }

    /// A job that was recorded takes its keys, or waits for one.
    pub(super) fn take_keys(&mut self, now: Now, job: &NewJob, waits: bool, out: &mut Output) {
        if job.unique.is_none() && job.idempotency.is_none() {
            return;
        }
        self.forget_ended_keys(now, out);
        if let Some((hash, keep_ms)) = job.idempotency {
            self.remember_key(hash, job.id, now.wall_ms.saturating_add(keep_ms), out);
        }
        match job.unique {
            Some(UniqueKey { hash, hold: Hold::For(ms) }) => {
                self.remember_key(hash, job.id, now.wall_ms.saturating_add(ms), out);
            }
            Some(UniqueKey { hash, .. }) if waits => self.keys.wait(hash, job.id),
            Some(UniqueKey { hash, .. }) => self.keys.take(hash, Holder { id: job.id, until_ms: None }),
            None => {}
        }
    }

    pub(super) fn remember_key(&mut self, hash: KeyHash, id: JobId, until_ms: i64, out: &mut Output) {
        self.keys.take(hash, Holder { id, until_ms: Some(until_ms) });
        let value = postcard::to_stdvec(&(id, until_ms)).expect("plain data always encodes");
        out.writes.push(Write::Set(record_of(hash), value.into()));
    }

    fn forget_ended_keys(&mut self, now: Now, out: &mut Output) {
        for _ in 0..SWEPT {
            match self.keys.ends.first().copied() {
                Some((until_ms, key)) if until_ms <= now.wall_ms => {
                    self.keys.ends.remove(&(until_ms, key));
                    self.keys.held.remove(&key);
                    out.writes.push(Write::Remove(record_of(key)));
                }
                _ => return,
            }
        }
    }

    /// Takes a remembered key as it was kept: its name without the prefix, and its value. False when they make no sense.
    pub(super) fn load_key(&mut self, name: &str, value: &[u8]) -> bool {
        let Ok(key) = u128::from_str_radix(name, 16) else { return false };
        let Ok((id, until_ms)) = postcard::from_bytes::<(JobId, i64)>(value) else { return false };
        self.keys.take(key.to_be_bytes(), Holder { id, until_ms: Some(until_ms) });
        true
    }
}

fn record_of(key: KeyHash) -> Key {
    Key::Named(format!("{}{:032x}", named::KEY, u128::from_be_bytes(key)))
}
