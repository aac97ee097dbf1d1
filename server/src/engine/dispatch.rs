//! Matches free slots with waiting jobs. ONE task that knows every connected worker's window and every queue that one of
//! them serves: it claims what fits, routes each job to a worker that handles its type, and sleeps while nothing waits.
//!
//! One task for all queues, not one for each, because the slots of a worker are shared by its queues: weights, strict
//! order and the window (W1) need one place that counts.
use std::{sync::Arc, time::Duration};

use hashbrown::{HashMap, HashSet};
use tokio::sync::{
    broadcast::{Receiver as Wakes, error::RecvError},
    mpsc,
};
use tracing::error;

use self::{deliver::ready_again, lane::Lane, member::Member};
use super::{Inner, clock, order, session};
use crate::{
    model::{
        ids::{JobId, Pattern, QueueName, Shard, TypeName},
        limits::STORE_BATCH,
        op::{Claim, Claimed, Leased, Wake},
        queue::{self, QueueFacts},
        worker::Subscription,
    },
    store::StoreError,
};

pub use self::member::Types;

mod deliver;
mod lane;
mod member;

/// Pause after a claim that failed; doubles up to the second.
const RETRY: Duration = Duration::from_millis(100);
const RETRY_MOST: Duration = Duration::from_secs(1);
/// After an outage claims wait for outcomes and renewals, at most so long.
const DRAIN: Duration = Duration::from_secs(2);
/// Bodies of one claim together at most.
const CLAIM_BYTES: usize = 8 << 20;

/// Names a member of the dispatcher: one stream, or one long-poll.
pub type Key = u64;

/// A window as the dispatcher sees it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Window {
    pub slots: u32,
    /// 0 = no limit.
    pub max_bytes: u64,
    pub concurrency: u32,
    /// False while the worker is quiet, draining, or silent.
    pub accepting: bool,
}

/// Leases that no longer count, by queue.
#[derive(Clone, Debug)]
pub struct Freed {
    pub queue: QueueName,
    pub count: u32,
    pub bytes: u64,
}

/// What a member brings along.
pub struct Joining {
    pub key: Key,
    pub events: mpsc::Sender<session::Event>,
    pub types: Types,
    pub subscriptions: Vec<Subscription>,
    /// Queues that exist now and match a prefix among the subscriptions.
    pub known_queues: Vec<QueueName>,
    pub window: Window,
    /// Leases brought along.
    pub held: Vec<Freed>,
}

pub enum Event {
    Join(Box<Joining>),
    Leave(Key),
    Freed(Key, Vec<Freed>),
    Window(Key, Window),
    /// The worker answered a recall, one way or another.
    Recalled(Key),
    Claimed {
        queue: QueueName,
        shard: Shard,
        plan: Vec<(Key, usize)>,
        result: Result<Claimed, StoreError>,
    },
    QueueChanged {
        queue: QueueName,
        paused: bool,
    },
    Look(QueueName),
    /// The pause after a failed claim is over.
    TryAgain(QueueName),
    /// After an outage of this shard: outcomes and renewals are through.
    Drained(Shard),
    /// Jobs set aside because nobody handles their type, by queue and type.
    Unhandled(tokio::sync::oneshot::Sender<Vec<(QueueName, TypeName, u64)>>),
    Stop,
}

struct Dispatch {
    inner: Arc<Inner>,
    events: mpsc::Sender<Event>,
    members: HashMap<Key, Member>,
    lanes: HashMap<QueueName, Lane>,
    dirty: Vec<QueueName>,
    /// Shards that were lost, until claims may go there again.
    closed: HashSet<Shard>,
    stopping: bool,
}

/// Runs until the engine stops.
pub async fn run(inner: Arc<Inner>, mut inbox: mpsc::Receiver<Event>, mut wakes: Wakes<Wake>) {
    let events = inner.dispatch.clone();
    let mut dispatch = Dispatch {
        inner,
        events,
        members: HashMap::new(),
        lanes: HashMap::new(),
        dirty: Vec::new(),
        closed: HashSet::new(),
        stopping: false,
    };
    let mut contact = dispatch.inner.contact.changes();
    loop {
        tokio::select! {
            event = inbox.recv() => match event {
                Some(event) => dispatch.on(event),
                None => return,
            },
            wake = wakes.recv() => match wake {
                Ok(wake) => dispatch.on_wake(wake),
                Err(RecvError::Lagged(_)) => dispatch.on_wake(Wake::Reset),
                Err(RecvError::Closed) => return,
            },
            Ok(()) = contact.changed() => dispatch.on_contact(),
            () = dispatch.inner.stopped.cancelled() => return,
        }
        // What has arrived meanwhile is taken in before slots are shared out: bigger claims, fewer of them.
        while let Ok(event) = inbox.try_recv() {
            dispatch.on(event);
        }
        dispatch.pump();
    }
}

impl Dispatch {
    fn on(&mut self, event: Event) {
        match event {
            Event::Join(joining) => self.join(*joining),
            Event::Leave(key) => self.leave(key),
            Event::Freed(key, freed) => {
                if let Some(member) = self.members.get_mut(&key) {
                    freed.iter().for_each(|freed| member.uncount(freed));
                    self.touch(key);
                }
            }
            Event::Window(key, window) => {
                if let Some(member) = self.members.get_mut(&key) {
                    member.window = window;
                    self.touch(key);
                }
            }
            Event::Recalled(key) => {
                if let Some(member) = self.members.get_mut(&key) {
                    member.recalling = false;
                }
            }
            Event::Claimed { queue, shard, plan, result } => self.claimed(queue, shard, plan, result),
            Event::QueueChanged { queue, paused } if paused => self.recall(&queue, usize::MAX),
            Event::QueueChanged { queue, .. } | Event::Look(queue) => self.look(&queue),
            Event::TryAgain(queue) => {
                if let Some(lane) = self.lanes.get_mut(&queue) {
                    lane.pausing = false;
                    self.dirty.push(queue);
                }
            }
            Event::Drained(shard) => self.reopen(shard),
            Event::Unhandled(reply) => {
                let list = self.lanes.iter().flat_map(|(queue, lane)| {
                    lane.unhandled.iter().map(|(kind, (count, _))| (queue.clone(), kind.clone(), *count))
                });
                _ = reply.send(list.collect());
            }
            Event::Stop => self.stopping = true,
        }
    }

    fn on_wake(&mut self, wake: Wake) {
        match wake {
            Wake::Ready(queue) => self.look(&queue),
            Wake::Timer(_) | Wake::Doc(_) | Wake::Told(_) => {}
            Wake::Cancel(ids) => {
                let ids: Arc<[JobId]> = ids.into();
                for member in self.members.values() {
                    // A worker whose inbox is full hears of it with its next renewal.
                    _ = member.events.try_send(session::Event::Cancelled(ids.clone()));
                }
            }
            Wake::Queue(queue) => self.read_queue(queue),
            Wake::Reset => {
                let all: Vec<QueueName> = self.lanes.keys().cloned().collect();
                all.iter().for_each(|queue| self.look(queue));
                for member in self.members.values() {
                    _ = member.events.try_send(session::Event::LookAgain);
                }
                self.read_new_queues();
            }
        }
    }

    /// Shards were lost, or are back.
    fn on_contact(&mut self) {
        self.closed.extend(self.inner.contact.lost());
        for shard in self.closed.iter().copied().filter(|shard| !self.inner.contact.is_lost(*shard)) {
            let (inner, events) = (self.inner.clone(), self.events.clone());
            tokio::spawn(async move {
                _ = tokio::time::timeout(DRAIN, inner.contact.drained(shard)).await;
                _ = events.send(Event::Drained(shard)).await;
            });
        }
        // One that was lost and is back already has not been seen at all.
        self.dirty.extend(self.lanes.keys().cloned());
    }

    fn reopen(&mut self, shard: Shard) {
        if !self.inner.contact.is_lost(shard) && self.closed.remove(&shard) {
            self.dirty.extend(self.lanes.keys().cloned());
        }
    }

    fn join(&mut self, joining: Joining) {
        let (key, known_queues) = (joining.key, joining.known_queues.clone());
        let member = Member::new(joining);
        let exact = member.subscriptions.iter().filter_map(|s| match &s.queue {
            Pattern::Exact(name) => Some(name.clone()),
            Pattern::Prefix(_) => None,
        });
        let queues: Vec<QueueName> = exact.chain(known_queues).collect();
        self.members.insert(key, member);
        for queue in queues {
            self.serve(key, queue);
        }
    }

    fn serve(&mut self, key: Key, queue: QueueName) {
        let lane = self.lanes.entry(queue.clone()).or_default();
        let member = self.members.get_mut(&key).expect("only members serve");
        if !lane.members.contains(&key) {
            lane.members.push(key);
            member.queues.push(queue.clone());
        }
        lane.unhandled.retain(|kind, _| !member.types.handles(kind));
        self.look(&queue);
    }

    fn leave(&mut self, key: Key) {
        self.members.remove(&key);
        self.lanes.retain(|_, lane| {
            lane.members.retain(|member| *member != key);
            !lane.members.is_empty() || lane.claiming
        });
    }

    /// The queue may have jobs now.
    fn look(&mut self, queue: &QueueName) {
        if !self.lanes.contains_key(queue) {
            // A queue that is new: those who subscribed to a prefix of its name serve it from now on.
            let serving = self.members.iter_mut().filter(|(_, member)| member.subscription(queue).is_some());
            let members: Vec<Key> = serving
                .map(|(key, member)| {
                    member.queues.push(queue.clone());
                    *key
                })
                .collect();
            if members.is_empty() {
                return;
            }
            self.lanes.insert(queue.clone(), Lane { members, ..Lane::default() });
        }
        if let Some(lane) = self.lanes.get_mut(queue) {
            lane.hints.raise(self.inner.store.shards_of(queue));
            lane.woken = lane.claiming;
            self.dirty.push(queue.clone());
        }
    }

    /// A member has room, or less: look at its queues again.
    fn touch(&mut self, key: Key) {
        for queue in &self.members[&key].queues {
            if self.lanes.get(queue).is_some_and(|lane| lane.hints.any() && !lane.claiming) {
                self.dirty.push(queue.clone());
            }
        }
    }

    fn pump(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        if dirty.len() > 1 {
            dirty.sort_unstable();
            dirty.dedup();
        }
        for queue in dirty {
            self.claim(queue);
        }
    }

    fn claim(&mut self, queue: QueueName) {
        let Some(lane) = self.lanes.get(&queue) else { return };
        if self.stopping || lane.claiming || lane.pausing {
            return;
        }
        // An outage is over when outcomes and renewals are through.
        let open = |shard| !self.closed.contains(&shard) && !self.inner.contact.is_lost(shard);
        let Some(shard) = lane.hints.next(open) else { return };
        let turn = lane.turn;
        let members: Vec<Key> =
            (0..lane.members.len()).map(|i| lane.members[(turn + i) % lane.members.len()]).collect();
        let mut left = STORE_BATCH;
        let mut bytes = 0usize;
        let mut plan = Vec::new();
        for key in members {
            let wanted = self.share(key, &queue).min(left);
            if wanted > 0 {
                let member = self.members.get_mut(&key).expect("a lane's members exist");
                member.in_use += wanted as u32;
                bytes = bytes.saturating_add(match member.window.max_bytes {
                    0 => CLAIM_BYTES,
                    most => most.saturating_sub(member.bytes) as usize,
                });
                plan.push((key, wanted));
                left -= wanted;
            }
        }
        if plan.is_empty() {
            return;
        }
        let want = STORE_BATCH - left;
        let lane = self.lanes.get_mut(&queue).expect("looked up above");
        lane.hints.taken(shard);
        lane.turn = lane.turn.wrapping_add(1);
        lane.claiming = true;
        lane.woken = false;
        let claim = Claim {
            queue: queue.clone(),
            secrets: clock::secrets(want),
            from_bottom: queue::from_bottom(lane.picked, want),
            bytes: bytes.min(CLAIM_BYTES),
            lease_ms: self.inner.config.delivery_ttl_ms,
            started: false,
        };
        let (inner, events) = (self.inner.clone(), self.events.clone());
        tokio::spawn(async move {
            let mut result = inner.heard(shard, inner.store.claim(shard, claim).await);
            if let Ok(claimed) = &mut result {
                inner.pass_results(&mut claimed.jobs).await;
            }
            _ = events.send(Event::Claimed { queue, shard, plan, result }).await;
        });
    }

    /// How many leases of `queue` member `key` may take now.
    fn share(&self, key: Key, queue: &QueueName) -> usize {
        let member = &self.members[&key];
        let mut free = member.free();
        if self.inner.configs.limits_starts(queue) {
            // A lease is a start that counts: none for later.
            free = free.min(member.concurrency().saturating_sub(member.in_use) as usize);
        }
        let Some(index) = member.subscription(queue) else { return 0 };
        if free == 0 {
            return 0;
        }
        let subscription = &member.subscriptions[index];
        let may_have_jobs = |s: &Subscription| match &s.queue {
            Pattern::Exact(name) => self.lanes.get(name).is_some_and(|lane| lane.hints.any()),
            Pattern::Prefix(_) => {
                self.lanes.iter().any(|(name, lane)| lane.hints.any() && s.queue.matches(name.as_str()))
            }
        };
        if subscription.strict && member.subscriptions[..index].iter().any(may_have_jobs) {
            return 0;
        }
        let total = if member.subscriptions.len() == 1 {
            subscription.weight
        } else {
            member.subscriptions.iter().filter(|s| may_have_jobs(s)).map(|s| s.weight).sum()
        };
        let share = order::share(free, subscription.weight, total);
        match subscription.max_slots {
            0 => share,
            most => share.min(most.saturating_sub(member.per_queue.get(queue).copied().unwrap_or(0)) as usize),
        }
    }

    fn claimed(
        &mut self,
        queue: QueueName,
        shard: Shard,
        mut plan: Vec<(Key, usize)>,
        result: Result<Claimed, StoreError>,
    ) {
        let Some(lane) = self.lanes.get_mut(&queue) else { return };
        lane.claiming = false;
        let wanted: usize = plan.iter().map(|(_, n)| n).sum();
        let claimed = match result {
            Ok(claimed) => {
                lane.failures = 0;
                claimed
            }
            Err(StoreError::Closed) => return,
            Err(error) => {
                // An outage was told of already.
                if !matches!(error, StoreError::Unavailable(_)) {
                    error!(%queue, %error, "cannot claim");
                }
                lane.pausing = true;
                let pause = RETRY.saturating_mul(1 << lane.failures.min(8)).min(RETRY_MOST);
                lane.failures += 1;
                later(pause, self.events.clone(), Event::TryAgain(queue.clone()));
                Claimed { jobs: Vec::new(), more: true, opens_in_ms: None }
            }
        };
        lane.picked += claimed.jobs.len() as u64;
        lane.hints.set(shard, claimed.more || lane.woken);
        if let Some(ms) = claimed.opens_in_ms {
            let (events, queue) = (self.events.clone(), queue.clone());
            later(Duration::from_millis(ms.max(0) as u64), events, Event::Look(queue));
        }
        let (more, starved) = (lane.hints.any(), claimed.jobs.len() < wanted);
        self.inner.meters.started(&claimed.jobs);
        if lane.members.is_empty() {
            self.put_back(claimed.jobs.iter().map(|job| (job, ready_again())).collect());
            self.lanes.remove(&queue);
            return;
        }
        self.deliver(&queue, &mut plan, claimed.jobs);
        for (key, unused) in plan {
            if let Some(member) = self.members.get_mut(&key) {
                member.in_use = member.in_use.saturating_sub(unused as u32);
                // What this claim held in vain may serve a queue that found no slot meanwhile.
                self.touch(key);
            }
        }
        if more {
            self.dirty.push(queue);
        } else if starved {
            self.recall_surplus(&queue);
        }
    }

    /// Queues that came to be while nobody heard of it.
    fn read_new_queues(&self) {
        let subscriptions: Vec<Subscription> =
            self.members.values().flat_map(|member| member.subscriptions.iter().cloned()).collect();
        let (inner, events) = (self.inner.clone(), self.events.clone());
        tokio::spawn(async move {
            for queue in inner.matching_queues(&subscriptions).await.unwrap_or_default() {
                _ = events.send(Event::Look(queue)).await;
            }
        });
    }

    fn read_queue(&self, queue: QueueName) {
        let (inner, events) = (self.inner.clone(), self.events.clone());
        tokio::spawn(async move {
            let facts = inner.store.queues(Some(std::slice::from_ref(&queue))).await;
            let is_closed = |facts: &QueueFacts| facts.pause.is_some() || facts.throttled_ms.is_some();
            let paused = facts.is_ok_and(|facts| facts.first().is_some_and(is_closed));
            _ = events.send(Event::QueueChanged { queue, paused }).await;
        });
    }
}

fn later(pause: Duration, events: mpsc::Sender<Event>, event: Event) {
    tokio::spawn(async move {
        tokio::time::sleep(pause).await;
        _ = events.send(event).await;
    });
}

/// Bytes of a job that count against a window.
pub fn size(job: &Leased) -> u64 {
    job.body.as_ref().map_or(0, |body| body.task.len() as u64)
}
