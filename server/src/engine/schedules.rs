//! Calls about schedules: put, look, pause, resume, trigger, backfill, delete. Firing them is in `ticks`.
use bytes::Bytes;
use futures::future::join_all;
use hashbrown::{HashMap, HashSet};
use xxhash_rust::xxh3::Xxh3;

use super::{
    Accepted, Engine, EnqueueError, Inner, clock,
    schedule::{Calendar, fire},
    ticks::{document, most_at_once, note_runs},
};
use crate::{
    model::{
        filter::{Filter, Row, Value},
        ids::{JobId, Name, Shard},
        job::{JobSpec, Parts, Payload, Record},
        limits::{BULK_SAMPLE, STORE_BATCH},
        op::{Doc, Effect, NewJob},
        schedule::{Overlap, PREFIX, Schedule, ScheduleSpec, Standstill, Tick, home, id_of, key},
        state::State,
    },
    store::{Cas, StoreError},
};

/// Changes of schedules on their way side by side, in a call about many.
const AT_ONCE: usize = 64;
/// Next ticks that are shown.
const SHOWN: usize = 5;

/// Why a call about a schedule failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ScheduleError {
    #[error("no schedule {0}")]
    NotFound(Name),
    #[error("the specification has changed since it was read")]
    EtagMismatch,
    /// This server cannot read it.
    #[error("schedule {0} is of a later release, or damaged")]
    Unreadable(Name),
    #[error(transparent)]
    Enqueue(#[from] EnqueueError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A schedule as it is shown.
#[derive(Clone, Debug)]
pub struct ScheduleView {
    pub id: Name,
    pub schedule: Schedule,
    /// Ticks that passed in the pause counted in.
    pub skipped: u64,
    /// The next five; none in a pause.
    pub next_ms: Vec<i64>,
    pub last_state: Option<State>,
    pub etag: String,
}

/// One page of schedules, by id. `more`: there are others behind the last.
#[derive(Debug)]
pub struct SchedulePage {
    pub schedules: Vec<ScheduleView>,
    pub more: bool,
}

/// Which schedules a call is about.
#[derive(Debug)]
pub enum ScheduleSelector {
    Ids(Vec<Name>),
    Filter(Filter),
}

/// What a call about many schedules did.
#[derive(Debug, Default)]
pub struct ScheduleBulk {
    pub matched: usize,
    pub affected: usize,
    /// At most 100.
    pub sample: Vec<Name>,
    /// At most 100.
    pub errors: Vec<(Name, ScheduleError)>,
}

/// Ticks of a past interval, edges included.
#[derive(Clone, Copy, Debug)]
pub struct Backfill {
    pub from_ms: i64,
    pub to_ms: i64,
    pub overlap: Overlap,
    pub dry_run: bool,
}

/// What became of them.
#[derive(Debug, Default)]
pub struct Backfilled {
    pub ticks: usize,
    pub fired: usize,
    pub existing: usize,
    pub skipped: usize,
    /// At most 100.
    pub sample: Vec<JobId>,
    /// Where to go on.
    pub next_ms: Option<i64>,
}

/// What a call does to each of its schedules.
enum Change<'a> {
    /// Answers whether it changed anything.
    Edit(&'a (dyn Fn(&mut Schedule, &Calendar) -> bool + Send + Sync)),
    Delete,
    Count,
}

/// A schedule as it was read.
struct Found {
    id: Name,
    version: u64,
    schedule: Schedule,
}

impl Engine {
    /// Creates or replaces; answers whether it was created. The same thing again changes nothing. `etag`: only if it is
    /// that of what is there.
    pub async fn put_schedule(
        &self,
        id: Name,
        (spec, encoded): (ScheduleSpec, Bytes),
        etag: Option<String>,
        dry_run: bool,
    ) -> Result<(ScheduleView, bool), ScheduleError> {
        self.0.put_schedule(id, &spec, &encoded, etag.as_deref(), dry_run).await
    }

    pub async fn schedule(&self, id: Name) -> Result<ScheduleView, ScheduleError> {
        let found = self.0.find_schedule(&id).await?;
        let mut view = self.0.view(found.id, found.schedule)?;
        if let Some(job) = view.schedule.last_job {
            let record = self.0.store.get(&[job], Parts::META).await?.pop().flatten();
            view.last_state = record.map(|record| record.meta.state);
        }
        Ok(view)
    }

    /// Those that match, by id, after the one named.
    pub async fn schedules(
        &self,
        filter: &Filter,
        after: Option<&str>,
        page: usize,
    ) -> Result<SchedulePage, StoreError> {
        let mut found = self.0.matching_schedules(filter).await?;
        found.retain(|found| after.is_none_or(|after| found.id.as_str() > after));
        let more = found.len() > page;
        found.truncate(page);
        let schedules = found.into_iter().filter_map(|found| self.0.view(found.id, found.schedule).ok()).collect();
        Ok(SchedulePage { schedules, more })
    }

    /// From now on its ticks pass.
    pub async fn pause_schedules(
        &self,
        selector: ScheduleSelector,
        reason: String,
    ) -> Result<ScheduleBulk, StoreError> {
        let now_ms = self.0.store.wall_ms();
        let pause = |schedule: &mut Schedule, _: &Calendar| {
            match &mut schedule.paused {
                Some(paused) if paused.reason == reason => return false,
                Some(paused) => paused.reason.clone_from(&reason),
                None => {
                    schedule.paused = Some(Standstill { reason: reason.clone(), pause_ms: now_ms });
                    // Nothing starts any more, not even what waited.
                    schedule.skipped += u64::from(schedule.waiting_ms.take().is_some());
                }
            }
            schedule.update_ms = now_ms;
            true
        };
        self.0.each_schedule(selector, Change::Edit(&pause)).await
    }

    /// Goes on with the next tick.
    pub async fn resume_schedules(&self, selector: ScheduleSelector) -> Result<ScheduleBulk, StoreError> {
        let now_ms = self.0.store.wall_ms();
        let resume = |schedule: &mut Schedule, calendar: &Calendar| {
            if schedule.paused.take().is_none() {
                return false;
            }
            if let Some(next_ms) = schedule.next_ms.filter(|next_ms| *next_ms <= now_ms) {
                schedule.skipped += calendar.count(next_ms, now_ms + 1);
                schedule.next_ms = calendar.after(now_ms);
            }
            schedule.update_ms = now_ms;
            true
        };
        self.0.each_schedule(selector, Change::Edit(&resume)).await
    }

    /// Its jobs stay. `dry_run` counts.
    pub async fn delete_schedules(
        &self,
        selector: ScheduleSelector,
        dry_run: bool,
    ) -> Result<ScheduleBulk, StoreError> {
        self.0.each_schedule(selector, if dry_run { Change::Count } else { Change::Delete }).await
    }

    /// Runs it once, now, whatever its pause and its overlap policy say: the job's id.
    pub async fn trigger_schedule(&self, id: Name, payload: Option<Payload>) -> Result<JobId, ScheduleError> {
        let inner = &self.0;
        let found = inner.find_schedule(&id).await?;
        let plan = inner.readable(&id, &found.schedule)?;
        let now_ms = inner.store.wall_ms();
        let tick = Some(Tick { schedule: id.clone(), fire_ms: now_ms });
        let mut job = JobSpec { id: Some(clock::uuid()), tick, ..plan.spec.job.clone() };
        job.payload = payload.or(job.payload);
        let enqueued = self.enqueue(vec![job], false).await.pop();
        let enqueued = enqueued.unwrap_or_else(|| Err(StoreError::Closed.into()))?;
        if enqueued.status == Accepted::Created {
            let overlap = plan.spec.overlap;
            let noted = inner.edit_schedule(&id, |schedule| {
                note_runs(schedule, overlap, &[now_ms], &[enqueued.id]);
                true
            });
            match noted.await {
                // The job is there: that its schedule is gone, or does not know of it, is no failure of the call.
                Ok(_) | Err(ScheduleError::NotFound(_)) => {}
                Err(error) => tracing::warn!(schedule = %id, %error, "a triggered run is not counted"),
            }
        }
        Ok(enqueued.id)
    }

    /// The next ticks of a specification, and its cadence in words.
    pub fn preview(
        &self,
        spec: &ScheduleSpec,
        count: usize,
    ) -> Result<(Vec<i64>, String), super::schedule::BadCadence> {
        let now_ms = self.0.store.wall_ms();
        let calendar = Calendar::new(spec, now_ms)?;
        Ok((some_after(&calendar, now_ms, count), calendar.words()))
    }

    /// The next ticks of a schedule, and its cadence in words.
    pub async fn preview_schedule(&self, id: Name, count: usize) -> Result<(Vec<i64>, String), ScheduleError> {
        let found = self.0.find_schedule(&id).await?;
        let plan = self.0.readable(&id, &found.schedule)?;
        let now_ms = self.0.store.wall_ms();
        Ok((some_after(&plan.calendar, now_ms, count), plan.calendar.words()))
    }

    /// Runs ticks that have passed, a bounded number of them.
    pub async fn backfill(&self, id: Name, backfill: Backfill) -> Result<Backfilled, ScheduleError> {
        self.0.backfill(id, backfill).await
    }
}

fn some_after(calendar: &Calendar, ms: i64, count: usize) -> Vec<i64> {
    std::iter::successors(calendar.after(ms), |tick| calendar.after(*tick)).take(count).collect()
}

fn etag(schedule: &Schedule) -> String {
    let mut hash = Xxh3::new();
    hash.update(&schedule.spec);
    hash.update(&schedule.revision.to_le_bytes());
    hash.update(&schedule.create_ms.to_le_bytes());
    format!("{:016x}", hash.digest())
}

impl Inner {
    pub(super) fn shard_of_schedule(&self, id: &Name) -> Shard {
        home(&key(id), self.store.shards()).unwrap_or_default()
    }

    async fn schedule_doc(&self, id: &Name) -> Result<Option<Doc>, StoreError> {
        let shard = self.shard_of_schedule(id);
        self.heard_reading(shard, self.read_doc(shard, key(id)).await)
    }

    async fn find_schedule(&self, id: &Name) -> Result<Found, ScheduleError> {
        let doc = self.schedule_doc(id).await?.ok_or_else(|| ScheduleError::NotFound(id.clone()))?;
        let schedule = Schedule::decode(&doc.value).ok_or_else(|| ScheduleError::Unreadable(id.clone()))?;
        Ok(Found { id: id.clone(), version: doc.version, schedule })
    }

    fn readable(&self, id: &Name, schedule: &Schedule) -> Result<std::sync::Arc<super::ticks::Plan>, ScheduleError> {
        self.plan(&key(id), schedule).ok_or_else(|| ScheduleError::Unreadable(id.clone()))
    }

    /// All that match, by id. Those that cannot be read are left out.
    async fn matching_schedules(&self, filter: &Filter) -> Result<Vec<Found>, StoreError> {
        let mut all = Vec::new();
        for shard in (0..self.store.shards()).map(Shard) {
            for (key, doc) in self.heard_reading(shard, self.store.docs(shard, PREFIX).await)? {
                let read = (id_of(&key), Schedule::decode(&doc.value));
                let (Some(id), Some(schedule)) = read else { continue };
                let Some(plan) = self.plan(&key, &schedule) else { continue };
                if filter.matches(&ScheduleRow { id: &id, schedule: &schedule, spec: &plan.spec }) {
                    all.push(Found { id, version: doc.version, schedule });
                }
            }
        }
        all.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(all)
    }

    fn view(&self, id: Name, schedule: Schedule) -> Result<ScheduleView, ScheduleError> {
        let plan = self.readable(&id, &schedule)?;
        let now_ms = self.store.wall_ms();
        let passing = schedule.next_ms.filter(|_| schedule.paused.is_some());
        let skipped = schedule.skipped + passing.map_or(0, |from_ms| plan.calendar.count(from_ms, now_ms + 1));
        let next_ms = match schedule.next_ms.filter(|_| schedule.paused.is_none()) {
            Some(next_ms) => some_after(&plan.calendar, next_ms - 1, SHOWN),
            None => Vec::new(),
        };
        Ok(ScheduleView { skipped, next_ms, last_state: None, etag: etag(&schedule), id, schedule })
    }

    async fn put_schedule(
        &self,
        id: Name,
        spec: &ScheduleSpec,
        encoded: &Bytes,
        wanted: Option<&str>,
        dry_run: bool,
    ) -> Result<(ScheduleView, bool), ScheduleError> {
        loop {
            let now_ms = self.store.wall_ms();
            let there = match self.find_schedule(&id).await {
                Ok(there) => Some(there),
                Err(ScheduleError::NotFound(_)) => None,
                Err(error) => return Err(error),
            };
            if wanted.is_some_and(|wanted| there.as_ref().is_none_or(|there| etag(&there.schedule) != wanted)) {
                return Err(ScheduleError::EtagMismatch);
            }
            let (created, expect) = (there.is_none(), there.as_ref().map_or(0, |there| there.version));
            let schedule = match there {
                Some(there) if there.schedule.spec == *encoded => {
                    return Ok((self.view(there.id, there.schedule)?, false));
                }
                Some(there) => self.replaced(&id, there.schedule, spec, encoded, now_ms)?,
                None => self.created(&id, spec, encoded, now_ms)?,
            };
            if !dry_run {
                let shard = self.shard_of_schedule(&id);
                let change = document(&id, expect, &schedule, now_ms, Vec::new());
                let done = self.heard(shard, self.store.change_docs(shard, vec![change]).await)?;
                if !matches!(done[..], [Cas::Done { .. }]) {
                    continue;
                }
            }
            return Ok((self.view(id, schedule)?, created));
        }
    }

    fn created(&self, id: &Name, spec: &ScheduleSpec, encoded: &Bytes, now_ms: i64) -> Result<Schedule, ScheduleError> {
        let calendar = Calendar::new(spec, now_ms).map_err(|_| ScheduleError::Unreadable(id.clone()))?;
        Ok(Schedule {
            spec: encoded.clone(),
            revision: 1,
            anchor_ms: now_ms,
            next_ms: calendar.after(now_ms),
            waiting_ms: None,
            paused: None,
            last_fire_ms: 0,
            last_job: None,
            running: Vec::new(),
            fired: 0,
            skipped: 0,
            create_ms: now_ms,
            update_ms: now_ms,
        })
    }

    /// A cadence that has changed counts from now, and fires nothing from the past.
    fn replaced(
        &self,
        id: &Name,
        old: Schedule,
        spec: &ScheduleSpec,
        encoded: &Bytes,
        now_ms: i64,
    ) -> Result<Schedule, ScheduleError> {
        let same_ticks = self.plan(&key(id), &old).is_some_and(|plan| plan.spec.ticks_like(spec));
        let mut schedule = Schedule { spec: encoded.clone(), revision: old.revision + 1, update_ms: now_ms, ..old };
        if !same_ticks {
            let calendar = Calendar::new(spec, now_ms).map_err(|_| ScheduleError::Unreadable(id.clone()))?;
            (schedule.anchor_ms, schedule.next_ms) = (now_ms, calendar.after(now_ms));
        }
        Ok(schedule)
    }

    /// Edits a schedule as it is now; `edit` says whether it changed anything.
    pub(super) async fn edit_schedule(
        &self,
        id: &Name,
        mut edit: impl FnMut(&mut Schedule) -> bool,
    ) -> Result<bool, ScheduleError> {
        let shard = self.shard_of_schedule(id);
        loop {
            let Found { version, mut schedule, .. } = self.find_schedule(id).await?;
            if !edit(&mut schedule) {
                return Ok(false);
            }
            let change = document(id, version, &schedule, self.store.wall_ms(), Vec::new());
            let done = self.heard(shard, self.store.change_docs(shard, vec![change]).await)?;
            if let [Cas::Done { .. }] = done[..] {
                return Ok(true);
            }
        }
    }

    /// Answers whether anything changed.
    async fn change_schedule(&self, id: &Name, change: &Change<'_>) -> Result<bool, ScheduleError> {
        match change {
            Change::Count => self.find_schedule(id).await.map(|_| false),
            Change::Delete => loop {
                let doc = self.schedule_doc(id).await?.ok_or_else(|| ScheduleError::NotFound(id.clone()))?;
                let shard = self.shard_of_schedule(id);
                let gone = self.heard(shard, self.store.doc(shard, key(id), doc.version, None).await)?;
                if let Cas::Done { .. } = gone {
                    return Ok(true);
                }
            },
            Change::Edit(edit) => {
                let mut unreadable = false;
                let changed = self.edit_schedule(id, |schedule| match self.plan(&key(id), schedule) {
                    Some(plan) => edit(schedule, &plan.calendar),
                    None => {
                        unreadable = true;
                        false
                    }
                });
                let changed = changed.await?;
                if unreadable { Err(ScheduleError::Unreadable(id.clone())) } else { Ok(changed) }
            }
        }
    }

    /// Changes each of them, some side by side. One that is not there is an error of its own if it was named.
    async fn each_schedule(&self, selector: ScheduleSelector, change: Change<'_>) -> Result<ScheduleBulk, StoreError> {
        let (ids, named) = match selector {
            ScheduleSelector::Ids(ids) => (ids, true),
            ScheduleSelector::Filter(filter) => {
                let found = self.matching_schedules(&filter).await?;
                (found.into_iter().map(|found| found.id).collect::<Vec<_>>(), false)
            }
        };
        let mut bulk = ScheduleBulk::default();
        for some in ids.chunks(AT_ONCE) {
            let results = join_all(some.iter().map(|id| self.change_schedule(id, &change))).await;
            for (id, result) in some.iter().zip(results) {
                match result {
                    Ok(affected) => bulk.add(id, affected),
                    Err(ScheduleError::Store(error)) => return Err(error),
                    Err(ScheduleError::NotFound(_)) if !named => {}
                    Err(error) if bulk.errors.len() < BULK_SAMPLE => bulk.errors.push((id.clone(), error)),
                    Err(_) => {}
                }
            }
        }
        Ok(bulk)
    }

    async fn backfill(&self, id: Name, asked: Backfill) -> Result<Backfilled, ScheduleError> {
        if !asked.dry_run && self.store.info().await?.full {
            return Err(StoreError::Full("no room for the jobs of a backfill".to_owned()).into());
        }
        let shard = self.shard_of_schedule(&id);
        loop {
            let Found { version, mut schedule, .. } = self.find_schedule(&id).await?;
            let plan = self.readable(&id, &schedule)?;
            let mut ticks: Vec<i64> =
                std::iter::successors(plan.calendar.at_or_after(asked.from_ms), |tick| plan.calendar.after(*tick))
                    .take_while(|tick| *tick <= asked.to_ms)
                    .take(most_at_once(&plan.spec) + 1)
                    .collect();
            let next_ms = if ticks.len() > most_at_once(&plan.spec) { ticks.pop() } else { None };
            let mut done = Backfilled { ticks: ticks.len(), next_ms, ..Backfilled::default() };
            let jobs: Vec<NewJob> = ticks.iter().map(|tick| self.tick_job(&id, &plan.spec, *tick)).collect();
            let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
            let there = self.present(&ids).await?;
            let mut fresh: HashMap<i64, NewJob> =
                ticks.iter().copied().zip(jobs).filter(|(_, job)| !there.contains(&job.id)).collect();
            ticks.retain(|tick| fresh.contains_key(tick));
            done.existing = done.ticks - ticks.len();
            // What waits by the policy of the schedule goes on waiting under one that knows no waiting.
            let keeps = matches!(asked.overlap, Overlap::Allow | Overlap::Skip);
            let waited = schedule.waiting_ms.filter(|_| !keeps);
            let mut busy = false;
            if asked.overlap != Overlap::Allow {
                let mut unfinished = self.unfinished(schedule.running.clone()).await?;
                if asked.overlap == Overlap::CancelPrevious && !ticks.is_empty() && !asked.dry_run {
                    let runs: Vec<&Record> = unfinished.values().collect();
                    if self.cancel_runs(&runs).await? {
                        unfinished = self.unfinished(schedule.running.clone()).await?;
                    }
                }
                schedule.running.retain(|run| unfinished.contains_key(run));
                busy = !schedule.running.is_empty() || (keeps && schedule.waiting_ms.is_some());
            }
            let fired = fire(asked.overlap, waited, &ticks, busy);
            done.skipped = fired.skipped as usize;
            // Besides those of the interval, the one that waited may start now.
            let jobs: Vec<NewJob> = fired
                .now
                .iter()
                .map(|tick| fresh.remove(tick).unwrap_or_else(|| self.tick_job(&id, &plan.spec, *tick)))
                .map(|job| NewJob { start: crate::model::job::Start::Now, ..job })
                .collect();
            let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
            done.fired = ids.len();
            done.sample = ids.iter().copied().take(BULK_SAMPLE).collect();
            if asked.dry_run {
                return Ok(done);
            }
            if !keeps {
                schedule.waiting_ms = fired.waiting;
            }
            schedule.skipped += fired.skipped;
            note_runs(&mut schedule, asked.overlap, &fired.now, &ids);
            let now_ms = self.store.wall_ms();
            let effects = jobs.into_iter().map(Effect::Put).collect();
            let change = document(&id, version, &schedule, now_ms, effects);
            let written = self.heard(shard, self.store.change_docs(shard, vec![change]).await)?;
            if let [Cas::Done { .. }] = written[..] {
                self.meters.fired(plan.spec.job.queue(), &plan.spec.job.kind, done.fired);
                return Ok(done);
            }
        }
    }

    /// Those of the jobs whose record is there.
    async fn present(&self, ids: &[JobId]) -> Result<HashSet<JobId>, StoreError> {
        let mut there = HashSet::new();
        for ids in ids.chunks(STORE_BATCH) {
            let records = self.store.get(ids, Parts::META).await?;
            there.extend(ids.iter().zip(&records).filter(|(_, record)| record.is_some()).map(|(id, _)| *id));
        }
        Ok(there)
    }
}

impl ScheduleBulk {
    fn add(&mut self, id: &Name, affected: bool) {
        self.matched += 1;
        self.affected += usize::from(affected);
        if self.sample.len() < BULK_SAMPLE {
            self.sample.push(id.clone());
        }
    }
}

/// A schedule as filters see it.
struct ScheduleRow<'a> {
    id: &'a Name,
    schedule: &'a Schedule,
    spec: &'a ScheduleSpec,
}

impl Row for ScheduleRow<'_> {
    fn values(&self, field: &str) -> Vec<Value> {
        let text = |text: &str| vec![Value::Text(text.to_owned())];
        match field {
            "id" => text(self.id.as_str()),
            "type" => text(self.spec.job.kind.as_str()),
            "queue" => text(self.spec.job.queue().as_str()),
            "paused" => vec![Value::Bool(self.schedule.paused.is_some())],
            "tag" => self.spec.job.tags.iter().map(|tag| Value::Text(tag.clone())).collect(),
            _ => Vec::new(),
        }
    }
}
