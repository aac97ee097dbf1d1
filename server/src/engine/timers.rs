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
use tracing::{debug, info, warn};

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
    },
    store::StoreError,
};

/// When more than so many things are due at once, the history does not say which worker lost what.
const NAMED_MOST: usize = 100;

/// Where other servers work on the same store, every shard is looked at so often, whatever was said: a wake may be lost.
const SWEEP: Duration = Duration::from_secs(5);
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
    let mut agenda = Agenda::new(inner.store.shards(), inner.shared().then_some(SWEEP), Instant::now());
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
                        next
                    }
                    Err(StoreError::Closed) => return,
                    Err(error) => {
                        debug!(shard = shard.0, %error, "timers cannot reach the store");
                        Some(agenda.retry(shard))
                    }
                };
                agenda.end(shard, Instant::now(), pause);
            }
            // Somebody has to find out when a lost shard is back.
            Ok(()) = contact.changed() => {
                inner.contact.lost().for_each(|shard| agenda.look_in(shard, Instant::now(), RETRY));
            }
            named = timer_wake(&mut wakes) => agenda.look(named, Instant::now()),
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
struct Agenda {
    shards: Vec<Round>,
    sweep: Option<Duration>,
}

/// `at`: when to ask again; `None` = when there is a wake.
#[derive(Clone, Copy)]
struct Round {
    at: Option<Instant>,
    under_way: bool,
    /// A wake came while it was under way: its answer may be too old.
    again: bool,
    /// Rounds that failed one after the other.
    failures: u32,
}

impl Agenda {
    /// Every shard is asked at once.
    fn new(shards: u16, sweep: Option<Duration>, now: Instant) -> Self {
        let round = Round { at: Some(now), under_way: false, again: false, failures: 0 };
        Self { shards: vec![round; usize::from(shards)], sweep }
    }

    /// The shards whose time has come: their rounds begin.
    fn begin(&mut self, now: Instant) -> Vec<Shard> {
        let mut due = Vec::new();
        for (index, round) in self.shards.iter_mut().enumerate() {
            if !round.under_way && round.at.is_some_and(|at| at <= now) {
                *round = Round { at: None, under_way: true, again: false, ..*round };
                due.push(Shard(index as u16));
            }
        }
        due
    }

    /// The pause after a round that failed.
    fn retry(&mut self, shard: Shard) -> Duration {
        let failures = &mut self.shards[usize::from(shard.0)].failures;
        *failures += 1;
        RETRY.saturating_mul(1 << (*failures - 1).min(8)).min(RETRY_MOST)
    }

    fn end(&mut self, shard: Shard, now: Instant, pause: Option<Duration>) {
        let round = &mut self.shards[usize::from(shard.0)];
        let pause = match (pause, self.sweep) {
            (Some(pause), Some(sweep)) => Some(pause.min(sweep)),
            (pause, sweep) => pause.or(sweep),
        };
        let at = if round.again { Some(now) } else { pause.map(|pause| now + pause) };
        *round = Round { at, under_way: false, again: false, ..*round };
    }

    fn answered(&mut self, shard: Shard) {
        self.shards[usize::from(shard.0)].failures = 0;
    }

    /// Asks this shard soon, unless it is to be asked sooner.
    fn look_in(&mut self, shard: Shard, now: Instant, pause: Duration) {
        let round = &mut self.shards[usize::from(shard.0)];
        let at = now + pause;
        round.at = Some(round.at.map_or(at, |known| known.min(at)));
    }

    /// Asks this shard, or all, without delay.
    fn look(&mut self, named: Option<Shard>, now: Instant) {
        for (index, round) in self.shards.iter_mut().enumerate() {
            if named.is_none_or(|shard| usize::from(shard.0) == index) {
                round.again = round.under_way;
                round.at = Some(now);
            }
        }
    }

    fn next(&self) -> Option<Instant> {
        self.shards.iter().filter(|round| !round.under_way).filter_map(|round| round.at).min()
    }
}

impl Inner {
    /// Works off what is due in a shard and says how long there is until the next entry.
    async fn act_on_due(&self, shard: Shard) -> Result<Option<Duration>, StoreError> {
        if self.contact.is_lost(shard) {
            self.probe(shard).await?;
        }
        loop {
            // After an outage workers are heard first.
            let grace_ms = self.contact.grace_left_ms(shard, self.mono_ms());
            let limit = if grace_ms > 0 { BEHIND_LEASES } else { STORE_BATCH };
            let due = self.heard_reading(shard, self.store.due(shard, limit).await)?;
            let (mut jobs, mut spared) = (Vec::new(), false);
            for entry in due.entries {
                match entry {
                    Due::Job { kind: DueKind::Lease, .. } if grace_ms > 0 => spared = true,
                    Due::Job { kind, meta } => jobs.push((kind, meta)),
                    Due::QueueOpens(name) => {
                        info!(queue = %name, "the pause has ended");
                        self.store.set_queue(name, QueueChange::ResumeIfDue).await?;
                    }
                }
            }
            let moved = self.act_on(jobs).await?;
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
        let mut agenda = Agenda::new(3, None, start);
        assert_eq!(agenda.begin(start), [Shard(0), Shard(1), Shard(2)]);
        assert!(agenda.begin(start).is_empty());
        agenda.end(Shard(0), start, Some(Duration::from_millis(50)));
        agenda.end(Shard(2), start, None);
        assert_eq!(agenda.next(), Some(after(50)));
        agenda.look(Some(Shard(1)), start);
        assert!(agenda.begin(after(49)).is_empty(), "shard 1 is under way");
        agenda.end(Shard(1), after(49), None);
        assert_eq!(agenda.begin(after(49)), [Shard(1)], "a wake came in between");
        assert_eq!(agenda.begin(after(50)), [Shard(0)]);
        agenda.look_in(Shard(2), after(50), Duration::from_millis(40));
        agenda.look_in(Shard(2), after(50), Duration::from_millis(70));
        assert_eq!(agenda.next(), Some(after(90)));
        agenda.look(Some(Shard(9)), after(60));
        assert!(agenda.begin(after(60)).is_empty(), "there is no such shard");
        agenda.look(None, after(60));
        assert_eq!(agenda.begin(after(60)), [Shard(2)]);
    }

    #[test]
    fn a_shared_store_is_swept_and_one_of_our_own_is_not() {
        let start = Instant::now();
        for (sweep, next) in [(None, None), (Some(SWEEP), Some(start + SWEEP))] {
            let mut agenda = Agenda::new(1, sweep, start);
            agenda.begin(start);
            agenda.end(Shard(0), start, None);
            assert_eq!(agenda.next(), next);
            agenda.look(None, start);
            agenda.begin(start);
            agenda.end(Shard(0), start, Some(Duration::from_secs(60)));
            assert_eq!(agenda.next(), Some(start + sweep.unwrap_or(Duration::from_secs(60))));
        }
    }
}
