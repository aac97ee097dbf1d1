//! The leases of one worker, as its server remembers them: what was delivered in which frame, read, started, named. Pure
//! bookkeeping; what follows from it is decided in `session`.
use std::{collections::VecDeque, sync::Arc};

use hashbrown::{HashMap, HashSet};

use super::{dispatch::Freed, settle::Known, transition::Bound};
use crate::model::{
    ids::{JobId, LeaseToken, QueueName},
    time::Now,
    worker::CancelReason,
};

/// A job in a worker's hands.
#[derive(Debug)]
pub struct Lease {
    pub secret: u64,
    pub known: Known,
    pub worker_id: Arc<str>,
    pub bytes: u64,
    /// Response frame that carried it; 0 = not sent yet.
    pub frame: i64,
    /// The worker has shown that it read the frame.
    pub read: bool,
    /// Monotonic, when its handler started. In a [`Table`] only [`Table::started`] sets it.
    pub started_ms: Option<i64>,
    /// Monotonic, when its handler was heard of last: its start, its progress.
    pub heard_ms: i64,
    /// Monotonic, when it was issued and when the worker named it last.
    pub issued_ms: i64,
    pub named_ms: i64,
    /// The store has heard of a naming, so the lease is a full one.
    pub renewed: bool,
    /// The store knows that it started.
    pub stored_started: bool,
    /// Gone for good: it occupies a slot until the worker stops naming it.
    pub revoked: bool,
    /// The worker was told to stop.
    pub ordered: Option<CancelReason>,
}

impl Lease {
    pub fn token(&self) -> LeaseToken {
        LeaseToken { job: self.known.meta.id, secret: self.secret }
    }

    /// What its handler has run past, and by how much. `None` = nothing, or it has not started.
    pub fn overran(&self, now: Now) -> Option<(Bound, i64)> {
        self.known.overran(now.mono_ms - self.started_ms?, now.mono_ms - self.heard_ms, now.wall_ms)
    }
}

/// All leases of one stream.
#[derive(Default)]
pub struct Table {
    leases: HashMap<JobId, Lease>,
    /// How many of them have started: asked for with every frame, so it is not counted anew.
    running: usize,
    /// Frames that carried jobs and were not read yet, oldest first, with the time they were sent.
    unread: VecDeque<(i64, i64, Vec<JobId>)>,
    /// The worker reports starts; if it never does, the receipt counts as the start.
    pub reports_starts: bool,
}

impl Table {
    pub fn len(&self) -> usize {
        self.leases.len()
    }

    pub fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    pub fn insert(&mut self, lease: Lease) {
        self.running += usize::from(lease.started_ms.is_some());
        if let Some(before) = self.leases.insert(lease.known.meta.id, lease) {
            self.running -= usize::from(before.started_ms.is_some());
        }
    }

    pub fn get_mut(&mut self, token: &LeaseToken) -> Option<&mut Lease> {
        self.leases.get_mut(&token.job).filter(|lease| lease.secret == token.secret)
    }

    pub fn by_id(&mut self, id: JobId) -> Option<&mut Lease> {
        self.leases.get_mut(&id)
    }

    pub fn remove(&mut self, token: &LeaseToken) -> Option<Lease> {
        self.get_mut(token)?;
        let lease = self.leases.remove(&token.job)?;
        self.running -= usize::from(lease.started_ms.is_some());
        Some(lease)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Lease> {
        self.leases.values()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Lease> {
        self.leases.values_mut()
    }

    pub fn take(&mut self) -> HashMap<JobId, Lease> {
        self.unread.clear();
        self.running = 0;
        std::mem::take(&mut self.leases)
    }

    pub fn running(&self) -> usize {
        self.running
    }

    /// The worker says that the handler of this lease has started.
    pub fn started(&mut self, token: &LeaseToken, now_ms: i64) {
        self.reports_starts = true;
        let Some(lease) = self.leases.get_mut(&token.job).filter(|lease| lease.secret == token.secret) else { return };
        lease.read = true;
        lease.named_ms = now_ms;
        if lease.started_ms.is_none() {
            lease.started_ms = Some(now_ms);
            lease.heard_ms = now_ms;
            self.running += 1;
        }
    }

    /// Response frame `seq` carries these (again).
    pub fn sent(&mut self, seq: i64, now_ms: i64, ids: Vec<JobId>) {
        for id in &ids {
            if let Some(lease) = self.leases.get_mut(id) {
                lease.frame = seq;
                lease.read = false;
            }
        }
        if !ids.is_empty() {
            self.unread.push_back((seq, now_ms, ids));
        }
    }

    /// The worker has read every response frame up to `seq`: the receipt of what was in them.
    pub fn received(&mut self, seq: i64, now_ms: i64) {
        while let Some((frame, _, _)) = self.unread.front()
            && *frame <= seq
        {
            let (_, _, ids) = self.unread.pop_front().expect("there is a front");
            for id in ids {
                if let Some(lease) = self.leases.get_mut(&id) {
                    lease.read = true;
                    lease.named_ms = now_ms;
                }
            }
        }
    }

    /// When the oldest frame that was not read yet was sent.
    pub fn unread_since(&self) -> Option<i64> {
        self.unread.front().map(|(_, sent_ms, _)| *sent_ms)
    }

    /// Leases that were read and are not among `named`: lost, by the worker's own word (W6).
    pub fn unnamed(&self, named: &HashSet<LeaseToken>) -> Vec<LeaseToken> {
        let missing = |lease: &&Lease| lease.read && !named.contains(&lease.token());
        self.leases.values().filter(missing).map(Lease::token).collect()
    }

    /// Whether a lease that ends now without an outcome is a crash.
    pub fn counts_as_started(&self, lease: &Lease) -> bool {
        lease.started_ms.is_some() || (!self.reports_starts && lease.read)
    }
}

/// What these leases no longer take up, by queue.
pub fn freed<'a>(leases: impl Iterator<Item = &'a Lease>) -> Vec<Freed> {
    let mut sums: Vec<Freed> = Vec::new();
    leases.for_each(|lease| add_freed(&mut sums, lease));
    sums
}

/// Adds one lease to such a list.
pub fn add_freed(sums: &mut Vec<Freed>, lease: &Lease) {
    let queue: &QueueName = &lease.known.meta.queue;
    match sums.iter_mut().find(|sum| sum.queue == *queue) {
        Some(sum) => {
            sum.count += 1;
            sum.bytes += lease.bytes;
        }
        None => sums.push(Freed { queue: queue.clone(), count: 1, bytes: lease.bytes }),
    }
}
