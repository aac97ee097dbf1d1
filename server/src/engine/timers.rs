//! What is due: promotions, leases that ran out, cancels whose grace is over, expiries, trims. Ask the store, let the pure
//! core decide, apply under a `Due` guard: an event like any other, and a lost race costs one no-op.
//!
//! Sleeps until the store's next entry; an idle server that has its store for itself sleeps for ever.
use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use hashbrown::HashMap;
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::Instant,
};
use tracing::{error, info, warn};

use super::{
    Inner, clock,
    settle::Holder,
    transition::{Event, Subject, decide},
};
use crate::{
    model::{
        ids::{JobId, Shard},
        job::{Meta, Parts},
        limits::STORE_BATCH,
        op::{Due, DueKind, Guard, Op, Verdict, Wake},
        policy::Policy,
        queue::QueueChange,
        workflow,
    },
    store::StoreError,
};

/// When more than so many things are due at once, the history does not say which worker lost what.
const NAMED_MOST: usize = 100;

/// Where other servers work on the same store, every shard is looked at so often, whatever was said: a wake may be lost.
/// One server of each shard comes first; the others stand by.
const SWEEP: Duration = Duration::from_secs(5);
const STAND_BY_SWEEP: Duration = Duration::from_secs(20);
/// How much later than the first they do what is due, in milliseconds: from, and to.
const STAND_BY_MS: (f64, f64) = (300.0, 800.0);
/// How long a shard is left alone that did not answer; doubles up to the second.
const RETRY: Duration = Duration::from_millis(100);
const RETRY_MOST: Duration = Duration::from_secs(1);
/// Pause when something is due and cannot be moved: at first, and while leases are spared.
const BUSY: Duration = Duration::from_millis(100);
const BUSY_MOST: Duration = Duration::from_secs(1);
/// Things due that are asked for while leases do not run out yet, so that these hide little else.
const BEHIND_LEASES: usize = 10 * STORE_BATCH;

/// Runs until the store closes.
pub async fn run(inner: Arc<Inner>, mut wakes: Receiver<Wake>) {
    let mut agenda = Agenda::new(inner.store.shards(), Instant::now());
    let mut rounds = FuturesUnordered::new();
    let mut contact = inner.contact.changes();
    loop {
        for shard in agenda.begin(Instant::now()) {
            let inner = &inner;
            rounds.push(async move { (shard, inner.act_on_due(shard).await) });
        }
        tokio::select! {
            Some((shard, result)) = rounds.next(), if !rounds.is_empty() => {
                let pause = match result {
                    Ok(next) => {
                        agenda.answered(shard);
                        inner.pause(shard, next)
                    }
                    Err(StoreError::Closed) => return,
                    Err(error) => {
                        // An outage was told of already.
                        if !matches!(error, StoreError::Unavailable(_)) {
                            error!(shard = shard.0, %error, "what is due cannot be done");
                        }
                        Some(agenda.retry(shard))
                    }
                };
                agenda.end(shard, Instant::now(), pause);
            }
            // Somebody has to find out when a lost shard is back.
            Ok(()) = contact.changed() => {
                inner.contact.lost().for_each(|shard| agenda.look(shard, Instant::now() + RETRY));
            }
            named = timer_wake(&mut wakes) => match named {
                Some(shard) => agenda.look(shard, Instant::now() + inner.stand_by(shard)),
                None => agenda.look_at_all(Instant::now()),
            },
            () = sleep_until(agenda.next()) => {}
            () = inner.stopped.cancelled() => return,
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Resolves when something is due earlier than was said, with the shard where; `None` = anywhere.
async fn timer_wake(wakes: &mut Receiver<Wake>) -> Option<Shard> {
    loop {
        match wakes.recv().await {
            Ok(Wake::Timer(shard)) => return Some(shard),
            Ok(Wake::Reset) | Err(RecvError::Lagged(_)) => return None,
            Ok(Wake::Ready(_) | Wake::Cancel(_) | Wake::Queue(_) | Wake::Doc(_) | Wake::Told(_)) => {}
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// When to ask which shard next.
struct Agenda(Vec<Round>);

/// `at`: when to ask again; `None` = when there is a wake.
#[derive(Clone, Copy)]
struct Round {
    at: Option<Instant>,
    under_way: bool,
    /// A wake came while it was under way: its answer may be too old.
    again: Option<Instant>,
    /// Rounds that failed one after the other.
    failures: u32,
}

impl Agenda {
    /// Every shard is asked at once.
    fn new(shards: u16, now: Instant) -> Self {
        let round = Round { at: Some(now), under_way: false, again: None, failures: 0 };
        Self(vec![round; usize::from(shards)])
    }

    /// The shards whose time has come: their rounds begin.
    fn begin(&mut self, now: Instant) -> Vec<Shard> {
        let mut due = Vec::new();
        for (index, round) in self.0.iter_mut().enumerate() {
            if !round.under_way && round.at.is_some_and(|at| at <= now) {
                *round = Round { at: None, under_way: true, again: None, ..*round };
                due.push(Shard(index as u16));
            }
        }
        due
    }

    /// The pause after a round that failed.
    fn retry(&mut self, shard: Shard) -> Duration {
        let failures = &mut self.0[usize::from(shard.0)].failures;
        *failures += 1;
        RETRY.saturating_mul(1 << (*failures - 1).min(8)).min(RETRY_MOST)
    }

    fn end(&mut self, shard: Shard, now: Instant, pause: Option<Duration>) {
        let round = &mut self.0[usize::from(shard.0)];
        let at = pause.map(|pause| now + pause).into_iter().chain(round.again).min();
        *round = Round { at, under_way: false, again: None, ..*round };
    }

    fn answered(&mut self, shard: Shard) {
        self.0[usize::from(shard.0)].failures = 0;
    }

    /// Asks this shard then, unless it is to be asked sooner.
    fn look(&mut self, shard: Shard, at: Instant) {
        let Some(round) = self.0.get_mut(usize::from(shard.0)) else { return };
        let next = if round.under_way { &mut round.again } else { &mut round.at };
        *next = Some(next.map_or(at, |known| known.min(at)));
    }

    fn look_at_all(&mut self, at: Instant) {
        (0..self.0.len() as u16).for_each(|shard| self.look(Shard(shard), at));
    }

    fn next(&self) -> Option<Instant> {
        self.0.iter().filter(|round| !round.under_way).filter_map(|round| round.at).min()
    }
}

impl Inner {
    /// How long to wait before a shard is asked again, when there are `next` until its next entry.
    fn pause(&self, shard: Shard, next: Option<Duration>) -> Option<Duration> {
        if !self.shared() {
            return next;
        }
        let sweep = if self.peers.is_first(shard) { SWEEP } else { STAND_BY_SWEEP };
        Some(next.map_or(sweep, |next| sweep.min(next + self.stand_by(shard))))
    }

    /// How much longer this server waits than the first one.
    fn stand_by(&self, shard: Shard) -> Duration {
        if !self.shared() || self.peers.is_first(shard) {
            return Duration::ZERO;
        }
        let (from, to) = STAND_BY_MS;
        Duration::from_millis((from + (to - from) * clock::share()) as u64)
    }

    /// Works off what is due in a shard and says how long there is until the next entry.
    async fn act_on_due(self: &Arc<Self>, shard: Shard) -> Result<Option<Duration>, StoreError> {
        if self.contact.is_lost(shard) {
            self.probe(shard).await?;
        }
        loop {
            // After an outage workers are heard first.
            let grace_ms = self.contact.grace_left_ms(shard, self.mono_ms());
            let limit = if grace_ms > 0 { BEHIND_LEASES } else { STORE_BATCH };
            let due = self.heard_reading(shard, self.store.due(shard, limit).await)?;
            let (mut jobs, mut schedules, mut spared) = (Vec::new(), Vec::new(), false);
            let mut flows = Vec::new();
            for entry in due.entries {
                match entry {
                    Due::Job { kind: DueKind::Lease, .. } if grace_ms > 0 => spared = true,
                    Due::Job { kind, meta } => jobs.push((kind, meta)),
                    Due::Doc { key, doc } => match workflow::id_of(&key) {
                        Some(id) => flows.push((id, doc)),
                        None => schedules.push((key, doc)),
                    },
                    Due::QueueOpens(name) => {
                        info!(queue = %name, "the pause has ended");
                        self.store.set_queue(name, QueueChange::ResumeIfDue).await?;
                    }
                }
            }
            // Who held the lost ones is asked first, and nobody else should wait for that.
            let held = |(kind, _): &(DueKind, Meta)| matches!(kind, DueKind::Lease | DueKind::Cancel);
            let (lost, others): (Vec<_>, Vec<_>) = jobs.into_iter().partition(held);
            let fired = self.fire_due(shard, schedules).await? + self.flows_due(shard, flows).await?;
            let moved = fired + self.act_on(others).await? + self.act_on(lost).await?;
            let next = due.next_in_ms.map(|ms| Duration::from_millis(ms as u64));
            let spared = spared.then(|| Duration::from_millis(grace_ms as u64));
            match next {
                // Nothing moved though something is due: others are at it, or it is ours to mend; never spin.
                Some(Duration::ZERO) if moved == 0 => return Ok(Some(spared.unwrap_or(BUSY).min(BUSY_MOST))),
                Some(Duration::ZERO) => {}
                next => return Ok(next.into_iter().chain(spared).min()),
            }
        }
    }

    /// Answers how many of them moved.
    async fn act_on(&self, jobs: Vec<(DueKind, Meta)>) -> Result<usize, StoreError> {
        if jobs.is_empty() {
            return Ok(0);
        }
        let policies = self.policies(&jobs).await?;
        let now_ms = self.clock.now().wall_ms;
        let mut holders = self.holders(&jobs).await;
        let mut ops = Vec::with_capacity(jobs.len());
        for ((kind, meta), policy) in jobs.iter().zip(&policies) {
            let Holder { worker_id, session_id } = holders.remove(&meta.id).unwrap_or_default();
            let subject = Subject { meta, policy, worker_id: &worker_id, session_id: &session_id };
            if let Some(act) = decide(subject, Event::Due(*kind), now_ms, clock::share()) {
                ops.push((*kind, Op { id: meta.id, guard: Guard::Due(*kind), act }));
            }
        }
        let kinds: Vec<DueKind> = ops.iter().map(|(kind, _)| *kind).collect();
        let ops: Vec<Op> = ops.into_iter().map(|(_, op)| op).collect();
        let metas: HashMap<JobId, &Meta> = jobs.iter().map(|(_, meta)| (meta.id, meta)).collect();
        let named: Vec<JobId> = ops.iter().map(|op| op.id).collect();
        let verdicts = self.apply(ops).await?;
        let moved = verdicts.iter().filter(|verdict| matches!(verdict, Verdict::Done(_))).count();
        for ((kind, id), verdict) in kinds.into_iter().zip(named).zip(verdicts) {
            match (kind, verdict) {
                (DueKind::Lease, Verdict::Done(facts)) => {
                    self.meters.lease_expired(metas[&id]);
                    warn!(job = %id, now = facts.state.name(), "a lease ran out");
                }
                (DueKind::Cancel | DueKind::Expire, Verdict::Done(facts)) => self.meters.ended_by_time(facts.state),
                (_, _) => {}
            }
        }
        Ok(moved)
    }

    /// Who had those jobs in hand whose lease or grace is over.
    async fn holders(&self, jobs: &[(DueKind, Meta)]) -> HashMap<JobId, Holder> {
        let held = |kind: DueKind| matches!(kind, DueKind::Lease | DueKind::Cancel);
        let metas: Vec<&Meta> = jobs.iter().filter(|(kind, _)| held(*kind)).map(|(_, meta)| meta).collect();
        if (1..=NAMED_MOST).contains(&metas.len()) { self.holders_of(&metas).await } else { HashMap::new() }
    }

    /// Policies of those jobs whose end or repetition has to be decided; defaults for the rest.
    async fn policies(&self, jobs: &[(DueKind, Meta)]) -> Result<Vec<Policy>, StoreError> {
        let needs = |kind: DueKind| matches!(kind, DueKind::Lease | DueKind::Cancel | DueKind::Expire);
        let ids: Vec<JobId> = jobs.iter().filter(|(kind, _)| needs(*kind)).map(|(_, meta)| meta.id).collect();
        let mut read = if ids.is_empty() { Vec::new() } else { self.store.get(&ids, Parts::BODY).await? }.into_iter();
        let policy = |(kind, _): &(DueKind, Meta)| {
            let body = if needs(*kind) { read.next().flatten().and_then(|record| record.body) } else { None };
            body.map(|body| body.policy).unwrap_or_default()
        };
        Ok(jobs.iter().map(policy).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_asked_when_its_time_has_come_or_it_is_named() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut agenda = Agenda::new(3, start);
        assert_eq!(agenda.begin(start), [Shard(0), Shard(1), Shard(2)]);
        assert!(agenda.begin(start).is_empty());
        agenda.end(Shard(0), start, Some(Duration::from_millis(50)));
        agenda.end(Shard(2), start, None);
        assert_eq!(agenda.next(), Some(after(50)));
        agenda.look(Shard(1), start);
        assert!(agenda.begin(after(49)).is_empty(), "shard 1 is under way");
        agenda.end(Shard(1), after(49), None);
        assert_eq!(agenda.begin(after(49)), [Shard(1)], "a wake came in between");
        assert_eq!(agenda.begin(after(50)), [Shard(0)]);
        agenda.look(Shard(2), after(90));
        agenda.look(Shard(2), after(120));
        assert_eq!(agenda.next(), Some(after(90)));
        agenda.look(Shard(9), after(60));
        assert!(agenda.begin(after(60)).is_empty(), "there is no such shard");
        agenda.look_at_all(after(60));
        assert_eq!(agenda.begin(after(60)), [Shard(2)]);
    }

    #[test]
    fn a_shard_that_fails_is_left_alone_for_longer_and_longer() {
        let mut agenda = Agenda::new(1, Instant::now());
        let pauses: Vec<u128> = (0..6).map(|_| agenda.retry(Shard(0)).as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1_000, 1_000]);
        agenda.answered(Shard(0));
        assert_eq!(agenda.retry(Shard(0)), RETRY);
    }
}
