//! Schedules whose time has come: whoever asks what is due fires them. A tick is one change of the schedule's document, made
//! only to the version that it was decided on, and its jobs are recorded in the same step; their ids follow from schedule and
//! tick. So of several servers one fires a tick, and a server that dies in the middle leaves it whole, done or undone.
//!
//! I11: one job per tick.
use std::{sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use hashbrown::{HashMap, HashSet};
use parking_lot::Mutex;
use tracing::{debug, error};

use super::{
    Engine, Inner,
    schedule::{BadCadence, Calendar, Due, due, fire, jitter, tick_id},
    transition,
};
use crate::{
    model::{
        ids::{JobId, Name, Shard},
        job::{JobSpec, Parts, Record, Start},
        limits::STORE_BATCH,
        op::{Doc, DocChange, Effect, Guard, NewJob, Op},
        schedule::{CANCEL_GRACE_MS, FIRED_MOST, Overlap, Schedule, ScheduleSpec, Tick, id_of},
        state::StateSet,
        time::SECOND,
    },
    store::{Cas, StoreError},
};

/// While a tick waits for the runs before it they are listened to; whoever fires the schedule also looks this often, because
/// the one who listens may be gone.
const RECHECK_MS: i64 = 5 * SECOND;
/// Runs that are remembered.
const RUNS_MOST: usize = 100;
/// Jobs that one step fires, in bytes of their payloads.
const STEP_BYTES: usize = 4 << 20;
/// Specifications that are kept read.
const READ_MOST: usize = 20_000;

/// A specification as it was read, with its ticks.
pub struct Plan {
    encoded: bytes::Bytes,
    anchor_ms: i64,
    pub spec: ScheduleSpec,
    pub calendar: Calendar,
}

/// What this server keeps of schedules: only what saves it reading them again.
#[derive(Default)]
pub struct Plans {
    read: Mutex<HashMap<String, Arc<Plan>>>,
    complained: Mutex<HashSet<String>>,
}

/// A schedule that is being fired.
struct Open {
    key: String,
    id: Name,
    version: u64,
    now_ms: i64,
    schedule: Schedule,
    plan: Arc<Plan>,
    due: Due,
}

impl Open {
    /// Whether it matters if its runs go on.
    fn looks_at_runs(&self) -> bool {
        self.plan.spec.overlap != Overlap::Allow || self.schedule.waiting_ms.is_some()
    }
}

impl Inner {
    /// The specification of a schedule and its ticks. `None`: it is of a later release, or damaged.
    pub(super) fn plan(&self, key: &str, schedule: &Schedule) -> Option<Arc<Plan>> {
        let known = self.plans.read.lock().get(key).cloned();
        if let Some(plan) = known.filter(|p| p.encoded == schedule.spec && p.anchor_ms == schedule.anchor_ms) {
            return Some(plan);
        }
        let spec = self.codec.schedule(&schedule.spec)?;
        let calendar = Calendar::new(&spec, schedule.anchor_ms)
            .map_err(|error: BadCadence| debug!(key, %error, "a cadence that this release does not know"))
            .ok()?;
        let (encoded, anchor_ms) = (schedule.spec.clone(), schedule.anchor_ms);
        let plan = Arc::new(Plan { encoded, anchor_ms, spec, calendar });
        let mut read = self.plans.read.lock();
        if read.len() >= READ_MOST {
            read.clear();
        }
        read.insert(key.to_owned(), plan.clone());
        Some(plan)
    }

    /// Fires the schedules that the store says are due. Answers how many of them moved.
    pub(super) async fn fire_due(
        self: &Arc<Self>,
        shard: Shard,
        docs: Vec<(String, Doc)>,
    ) -> Result<usize, StoreError> {
        if docs.is_empty() {
            return Ok(0);
        }
        let wall_ms = self.store.wall_ms();
        // The store has said that their time has come, and its clock counts.
        let docs = docs.into_iter().map(|(key, doc)| (key, wall_ms.max(doc.due_ms), doc)).collect();
        self.fire_docs(shard, docs).await
    }

    async fn fire_docs(self: &Arc<Self>, shard: Shard, docs: Vec<(String, i64, Doc)>) -> Result<usize, StoreError> {
        self.configured().await?;
        let mut open = Vec::with_capacity(docs.len());
        for (key, now_ms, doc) in docs {
            match self.open_schedule(&key, now_ms, &doc) {
                Some(each) => open.push(each),
                None => self.complain(&key),
            }
        }
        let mut unfinished = self.unfinished_of(&open).await?;
        if self.cancel_previous(&open, &unfinished).await? {
            unfinished = self.unfinished_of(&open).await?;
        }
        let unfinished: HashSet<JobId> = unfinished.into_keys().collect();
        let (changes, after): (Vec<DocChange>, Vec<_>) =
            open.into_iter().map(|each| self.step(each, &unfinished)).unzip();
        let answers = self.heard(shard, self.store.change_docs(shard, changes).await)?;
        let mut moved = 0;
        for (Stepped { key, plan, waits_for, jobs }, answer) in after.into_iter().zip(answers) {
            // Somebody else was first, or changed the schedule: what is due then is seen again.
            let Cas::Done { .. } = answer else { continue };
            moved += 1;
            self.meters.fired(plan.spec.job.queue(), &plan.spec.job.kind, jobs.len());
            if !waits_for.is_empty() {
                self.watch_runs(shard, key.clone(), waits_for);
            }
            if !jobs.is_empty() && (plan.spec.job.unique.is_some() || plan.spec.job.idempotency.is_some()) {
                self.count_conflicts(&key, &jobs).await?;
            }
        }
        Ok(moved)
    }

    fn open_schedule(&self, key: &str, now_ms: i64, doc: &Doc) -> Option<Open> {
        let id = id_of(key)?;
        let schedule = Schedule::decode(&doc.value)?;
        let plan = self.plan(key, &schedule)?;
        let due = due(&schedule, &plan.spec, &plan.calendar, now_ms, most_at_once(&plan.spec));
        Some(Open { key: key.to_owned(), id, version: doc.version, now_ms, schedule, plan, due })
    }

    /// Says once that a document cannot be read: a server of a later release may know it.
    fn complain(&self, key: &str) {
        if self.plans.complained.lock().insert(key.to_owned()) {
            error!(key, "a schedule is damaged, or of a later release: this server does not fire it");
        }
    }

    /// Those of the runs that go on, as far as anybody wants to know.
    async fn unfinished_of(&self, open: &[Open]) -> Result<HashMap<JobId, Record>, StoreError> {
        let runs = open.iter().filter(|each| each.looks_at_runs()).flat_map(|each| &each.schedule.running);
        self.unfinished(runs.copied().collect()).await
    }

    pub(super) async fn unfinished(&self, runs: Vec<JobId>) -> Result<HashMap<JobId, Record>, StoreError> {
        let mut found = HashMap::new();
        for ids in runs.chunks(STORE_BATCH) {
            let records = self.store.get(ids, Parts::BODY).await?.into_iter().flatten();
            found.extend(records.filter(|r| !r.meta.state.is_terminal()).map(|r| (r.meta.id, r)));
        }
        Ok(found)
    }

    /// Whether any run was asked to stop.
    async fn cancel_previous(&self, open: &[Open], unfinished: &HashMap<JobId, Record>) -> Result<bool, StoreError> {
        let cancels = |each: &&Open| each.plan.spec.overlap == Overlap::CancelPrevious && !each.due.ticks.is_empty();
        let runs: Vec<&Record> = open
            .iter()
            .filter(cancels)
            .flat_map(|each| each.schedule.running.iter().filter_map(|id| unfinished.get(id)))
            .collect();
        self.cancel_runs(&runs).await
    }

    /// Asks runs to stop for a newer one; answers whether there were any.
    pub(super) async fn cancel_runs(&self, runs: &[&Record]) -> Result<bool, StoreError> {
        let ops: Vec<Op> = runs
            .iter()
            .filter_map(|record| {
                let (meta, policy) = (&record.meta, record.body.as_ref().map(|body| body.policy.clone()));
                let reason = "a newer run of its schedule is due";
                let act = transition::cancel(meta, &policy.unwrap_or_default(), reason, Some(CANCEL_GRACE_MS))?;
                Some(Op { id: meta.id, guard: Guard::In(StateSet::of(&[meta.state])), act })
            })
            .collect();
        let any = !ops.is_empty();
        // Who changed meanwhile is asked again with the next tick.
        self.apply(ops).await?;
        Ok(any)
    }

    /// What becomes of a schedule: the change of its document, and what is to be done once it is made.
    fn step(&self, open: Open, unfinished: &HashSet<JobId>) -> (DocChange, Stepped) {
        let looks = open.looks_at_runs();
        let Open { key, id, version, now_ms, mut schedule, plan, due } = open;
        if looks {
            schedule.running.retain(|run| unfinished.contains(run));
        }
        let busy = looks && !schedule.running.is_empty();
        let fired = fire(plan.spec.overlap, schedule.waiting_ms, &due.ticks, busy);
        let jobs: Vec<NewJob> = fired.now.iter().map(|tick| self.tick_job(&id, &plan.spec, *tick)).collect();
        let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
        schedule.next_ms = due.next_ms;
        schedule.waiting_ms = fired.waiting;
        schedule.skipped += due.forgotten + fired.skipped;
        note_runs(&mut schedule, plan.spec.overlap, &fired.now, &ids);
        let waits_for = if schedule.waiting_ms.is_some() { schedule.running.clone() } else { Vec::new() };
        let effects = jobs.into_iter().map(Effect::Put).collect();
        let change = document(&id, version, &schedule, now_ms, effects);
        (change, Stepped { key, plan, waits_for, jobs: ids })
    }

    /// The job of a tick: the same, whoever makes it.
    pub(super) fn tick_job(&self, id: &Name, spec: &ScheduleSpec, tick_ms: i64) -> NewJob {
        let start = match jitter(id, tick_ms, spec.jitter_ms) {
            0 => Start::Now,
            ms => Start::At(tick_ms + ms),
        };
        let tick = Some(Tick { schedule: id.clone(), fire_ms: tick_ms });
        let job = JobSpec { id: Some(tick_id(id, tick_ms)), start, tick, ..spec.job.clone() };
        // A tick that is refused would be lost: nobody asks again.
        self.admit(job, self.store.wall_ms()).along()
    }

    /// Fires what waits as soon as these runs have ended, if that is soon: later on somebody else looks.
    fn watch_runs(self: &Arc<Self>, shard: Shard, key: String, runs: Vec<JobId>) {
        let inner = self.clone();
        tokio::spawn(async move {
            let engine = Engine(inner.clone());
            let ended = futures::future::join_all(runs.into_iter().map(|run| engine.ended(run)));
            let patience = Duration::from_millis(RECHECK_MS as u64);
            tokio::select! {
                ended = tokio::time::timeout(patience, ended) => if ended.is_ok() {
                    inner.fire_waiting(shard, key).await;
                },
                () = inner.stopped.cancelled() => {}
            }
        });
    }

    fn fire_waiting(self: &Arc<Self>, shard: Shard, key: String) -> BoxFuture<'static, ()> {
        let inner = self.clone();
        async move {
            let fired = async {
                let Some(doc) = inner.read_doc(shard, key.clone()).await? else { return Ok(0) };
                inner.fire_docs(shard, vec![(key, inner.store.wall_ms(), doc)]).await
            };
            if let Err(error) = fired.await {
                debug!(%error, "what waits for a run is looked at again in a while");
            }
        }
        .boxed()
    }

    /// Ticks whose job met a key of another job have none: they count as skipped.
    async fn count_conflicts(&self, key: &str, jobs: &[JobId]) -> Result<(), StoreError> {
        let records = self.store.get(jobs, Parts::META).await?;
        let dropped: HashSet<JobId> =
            jobs.iter().zip(&records).filter(|(_, record)| record.is_none()).map(|(id, _)| *id).collect();
        let Some(id) = id_of(key).filter(|_| !dropped.is_empty()) else { return Ok(()) };
        let recount = |schedule: &mut Schedule| {
            schedule.fired = schedule.fired.saturating_sub(dropped.len() as u64);
            schedule.skipped += dropped.len() as u64;
            schedule.running.retain(|run| !dropped.contains(run));
            if schedule.last_job.is_some_and(|job| dropped.contains(&job)) {
                schedule.last_job = None;
            }
            true
        };
        match self.edit_schedule(&id, recount).await {
            Ok(_) | Err(super::ScheduleError::NotFound(_)) => Ok(()),
            Err(super::ScheduleError::Store(error)) => Err(error),
            Err(error) => {
                debug!(%error, "a tick without a job is not counted");
                Ok(())
            }
        }
    }
}

/// What is to be done once a change is made.
struct Stepped {
    key: String,
    plan: Arc<Plan>,
    /// The runs that a tick waits for.
    waits_for: Vec<JobId>,
    jobs: Vec<JobId>,
}

/// Ticks of this schedule that go into one step.
pub(super) fn most_at_once(spec: &ScheduleSpec) -> usize {
    let bytes = spec.job.payload.as_ref().map_or(0, |payload| payload.bytes.len()) + 512;
    (STEP_BYTES / bytes).clamp(1, FIRED_MOST)
}

/// Ticks fired, and their jobs.
pub(super) fn note_runs(schedule: &mut Schedule, overlap: Overlap, ticks: &[i64], jobs: &[JobId]) {
    schedule.fired += ticks.len() as u64;
    if let (Some(tick), Some(job)) = (ticks.last(), jobs.last()) {
        (schedule.last_fire_ms, schedule.last_job) = (*tick, Some(*job));
    }
    // What waits while others may run beside each other waits for those that were there before it.
    if overlap != Overlap::Allow || schedule.waiting_ms.is_none() {
        schedule.running.extend(jobs);
    }
    let surplus = schedule.running.len().saturating_sub(RUNS_MOST);
    schedule.running.drain(..surplus);
}

/// The document of a schedule, due when it has to be looked at next.
pub(super) fn document(id: &Name, expect: u64, schedule: &Schedule, now_ms: i64, effects: Vec<Effect>) -> DocChange {
    let next_ms = schedule.next_ms.filter(|_| schedule.paused.is_none());
    let recheck_ms = schedule.waiting_ms.map(|_| now_ms + RECHECK_MS);
    let due_ms = next_ms.into_iter().chain(recheck_ms).min().unwrap_or(0);
    let key = crate::model::schedule::key(id);
    DocChange { key, expect, value: Some(schedule.encode()), due_ms, effects }
}
