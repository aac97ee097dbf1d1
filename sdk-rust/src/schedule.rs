//! A schedule: when, and what to enqueue then.

use std::time::{Duration, SystemTime};

use jobwire_proto::v1 as pb;
use pb::schedule_spec::Cadence as Wire;

use crate::convert::{from_duration, from_timestamp, to_duration, to_timestamp};
use crate::draft::Draft;
use crate::errors::Error;
use crate::payload::Payload;
use crate::task_call::IntoTaskCall;
use crate::types::JobState;

/// When jobs are enqueued by the server, and of what: a cron expression or an interval, and a task. Put it with
/// [`client.schedules()`](crate::Client::schedules), or declare it with a worker:
/// [`WorkerBuilder::schedule`](crate::WorkerBuilder::schedule).
///
/// ```
/// # use jobwire::{Overlap, Schedule, Task, secs};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize)] struct Report { kind: String }
/// # impl Task for Report { const TYPE: &'static str = "report.build"; type Output = String; }
/// let nightly = Schedule::cron("30 2 * * 1-5")
///     .time_zone("Europe/Berlin")
///     .overlap(Overlap::Skip)
///     .task(Report { kind: "sales".into() }.s().queue("reports"));
/// let often = Schedule::every(secs(90)).task(Report { kind: "stock".into() });
/// ```
#[derive(Debug, Clone)]
#[must_use = "a schedule does nothing until it is put"]
pub struct Schedule {
    spec: pb::ScheduleSpec,
    job: Option<Draft>,
}

impl Schedule {
    /// At the times of a cron expression: five fields (minute, hour, day of month, month, day of week), six with seconds
    /// first, or `@daily` and the like. At most 256 bytes. One that never fires is refused when it is put.
    pub fn cron(expression: impl Into<String>) -> Self {
        Self::with(Wire::Cron(expression.into()))
    }

    /// Whenever this long has passed, from [`start`](Self::start), else from the moment it was put; the first tick comes
    /// after the first interval. 1 s to 10 years.
    pub fn every(interval: Duration) -> Self {
        Self::with(Wire::Interval(to_duration(interval)))
    }

    fn with(cadence: Wire) -> Self {
        Self { spec: pb::ScheduleSpec { cadence: Some(cadence), ..Default::default() }, job: None }
    }

    /// What to enqueue: a task, or a [`TaskCall`](crate::TaskCall) with options of its own. Required. `delay`, `at` and `id`
    /// are the schedule's business and are refused. Where its uniqueness key is taken the tick is skipped.
    pub fn task(mut self, call: impl IntoTaskCall) -> Self {
        (self.job, self.spec.job) = (Some(call.into_task_call().draft), None);
        self
    }

    /// IANA name of the zone that the cron expression is in, such as "Europe/Berlin". Default UTC. Goes with cron only.
    pub fn time_zone(mut self, zone: impl Into<String>) -> Self {
        self.spec.time_zone = zone.into();
        self
    }

    /// No tick before this.
    pub fn start(mut self, time: SystemTime) -> Self {
        self.spec.start_time = Some(to_timestamp(time));
        self
    }

    /// No tick after this.
    pub fn end(mut self, time: SystemTime) -> Self {
        self.spec.end_time = Some(to_timestamp(time));
        self
    }

    /// Each job starts later than its tick by a part of this that is always the same for that tick. At most 1 day.
    pub fn jitter(mut self, jitter: Duration) -> Self {
        self.spec.jitter = Some(to_duration(jitter));
        self
    }

    /// What a tick does while the run before it is not finished. Default [`Overlap::Allow`].
    pub fn overlap(mut self, overlap: Overlap) -> Self {
        self.spec.overlap = overlap.to_proto() as i32;
        self
    }

    /// What becomes of ticks that were missed, because no server ran. Default [`CatchUp::Last`].
    pub fn catch_up(mut self, catch_up: CatchUp) -> Self {
        self.spec.catch_up = catch_up.to_proto() as i32;
        self
    }

    /// Ticks missed longer ago than this are forgotten. Default 1 h.
    pub fn catch_up_window(mut self, window: Duration) -> Self {
        self.spec.catch_up_window = Some(to_duration(window));
        self
    }

    /// What becomes of a fixed local time that a change of clocks skips. Default [`Gap::After`].
    pub fn gap(mut self, gap: Gap) -> Self {
        self.spec.gap = gap.to_proto() as i32;
        self
    }

    /// What becomes of a fixed local time that a change of clocks repeats. Default [`Fold::First`].
    pub fn fold(mut self, fold: Fold) -> Self {
        self.spec.fold = fold.to_proto() as i32;
        self
    }

    /// For people. At most 1 KiB.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.spec.note = note.into();
        self
    }

    /// As it is put. Refused here is what needs no server to be wrong.
    pub(crate) fn into_spec(self) -> Result<pb::ScheduleSpec, Error> {
        let spec = self.into_cadence()?;
        if spec.job.is_none() {
            return Err(Error::invalid("spec.job", "a schedule needs something to enqueue: add .task(…)"));
        }
        Ok(spec)
    }

    /// The same, when nothing is to be enqueued.
    pub(crate) fn into_cadence(self) -> Result<pb::ScheduleSpec, Error> {
        let mut spec = self.spec;
        if let Some(draft) = self.job {
            spec.job = Some(draft.into_template()?);
        }
        Ok(spec)
    }
}

/// What a tick does while the run before it is not finished. Waiting and retrying runs are not finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Overlap {
    /// Runs beside it.
    #[default]
    Allow,
    /// Is skipped, and counted.
    Skip,
    /// Waits for its end; while one waits, further ones are skipped.
    BufferOne,
    /// Cancels it, with 30 s of grace, and waits for its end; a newer tick takes the place of the one that waits.
    CancelPrevious,
}

/// What becomes of missed ticks: those that are handled more than a minute late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum CatchUp {
    /// The newest of them fires; none, if one that is on time comes with it.
    #[default]
    Last,
    /// Each of them fires, the oldest first.
    All,
    /// None fires.
    None,
}

/// What becomes of a fixed local time that does not exist on a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Gap {
    /// Fires at the first instant after the gap.
    #[default]
    After,
    /// Does not fire that day.
    Skip,
}

/// What becomes of a fixed local time that exists twice on a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Fold {
    /// Fires the first time.
    #[default]
    First,
    /// Fires both times.
    Both,
}

/// Words that are the same here and in the contract, both ways; what a newer server says reads as the default.
macro_rules! words {
    ($($name:ident = $wire:ident { $($word:ident),* })*) => {$(
        impl $name {
            pub(crate) fn to_proto(self) -> pb::$wire {
                match self { $(Self::$word => pb::$wire::$word),* }
            }

            fn from_proto(word: i32) -> Self {
                match pb::$wire::try_from(word) {
                    $(Ok(pb::$wire::$word) => Self::$word,)*
                    Ok(pb::$wire::Unspecified) | Err(_) => Self::default(),
                }
            }
        }
    )*};
}

words! {
    Overlap = OverlapPolicy { Allow, Skip, BufferOne, CancelPrevious }
    CatchUp = CatchUpPolicy { Last, All, None }
    Gap = GapPolicy { After, Skip }
    Fold = FoldPolicy { First, Both }
}

/// When a schedule fires.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cadence {
    /// At the times of an expression, in the schedule's zone.
    Cron(String),
    /// Whenever so much time has passed.
    Every(Duration),
}

/// A schedule as the server has it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ScheduleInfo {
    /// Its id.
    pub id: String,
    /// When it fires.
    pub cadence: Cadence,
    /// The zone of a cron expression.
    pub time_zone: String,
    /// Type of the jobs it makes.
    pub r#type: String,
    /// Their queue.
    pub queue: String,
    /// Their argument.
    pub payload: Payload,
    /// No tick before this.
    pub start: Option<SystemTime>,
    /// No tick after this.
    pub end: Option<SystemTime>,
    /// How far starts are spread.
    pub jitter: Duration,
    /// What a tick does while the run before it is not finished.
    pub overlap: Overlap,
    /// What becomes of missed ticks.
    pub catch_up: CatchUp,
    /// How long a missed tick is remembered.
    pub catch_up_window: Duration,
    /// What becomes of skipped local times.
    pub gap: Gap,
    /// What becomes of repeated local times.
    pub fold: Fold,
    /// For people.
    pub note: String,
    /// Whether it stands still.
    pub paused: bool,
    /// Why.
    pub pause_reason: String,
    /// The next five ticks, jitter not among them; none while it is paused.
    pub next_fire_times: Vec<SystemTime>,
    /// A tick that waits for the end of the run before it.
    pub waiting_fire_time: Option<SystemTime>,
    /// The tick of the latest run.
    pub last_fire_time: Option<SystemTime>,
    /// The job of the latest run, or empty.
    pub last_job_id: String,
    /// Where that job is; None when its record is gone, and in lists.
    pub last_job_state: Option<JobState>,
    /// Jobs enqueued, triggers and backfills included.
    pub fired_count: i64,
    /// Ticks without a job.
    pub skipped_count: i64,
    /// When it was first put.
    pub create_time: Option<SystemTime>,
    /// When specification or pause changed.
    pub update_time: Option<SystemTime>,
    /// Changes with the specification, not with ticks and pauses.
    pub etag: String,
    spec: pb::ScheduleSpec,
}

impl ScheduleInfo {
    /// What was put, to be changed and put again.
    pub fn schedule(&self) -> Schedule {
        Schedule { spec: self.spec.clone(), job: None }
    }

    pub(crate) fn from_proto(schedule: pb::Schedule) -> Self {
        let time = |time: &Option<prost_types::Timestamp>| time.as_ref().and_then(from_timestamp);
        let span = |span: &Option<prost_types::Duration>| span.as_ref().map(from_duration).unwrap_or_default();
        let spec = schedule.spec.unwrap_or_default();
        let job = spec.job.clone().unwrap_or_default();
        Self {
            cadence: match &spec.cadence {
                Some(Wire::Interval(interval)) => Cadence::Every(from_duration(interval)),
                Some(Wire::Cron(expression)) => Cadence::Cron(expression.clone()),
                None => Cadence::Cron(String::new()),
            },
            time_zone: spec.time_zone.clone(),
            queue: if job.queue.is_empty() { job.r#type.clone() } else { job.queue },
            r#type: job.r#type,
            payload: job.payload.map(Payload::from_proto).unwrap_or_default(),
            start: time(&spec.start_time),
            end: time(&spec.end_time),
            jitter: span(&spec.jitter),
            overlap: Overlap::from_proto(spec.overlap),
            catch_up: CatchUp::from_proto(spec.catch_up),
            catch_up_window: span(&spec.catch_up_window),
            gap: Gap::from_proto(spec.gap),
            fold: Fold::from_proto(spec.fold),
            note: spec.note.clone(),
            paused: schedule.paused,
            pause_reason: schedule.pause_reason,
            next_fire_times: schedule.next_fire_times.iter().filter_map(from_timestamp).collect(),
            waiting_fire_time: time(&schedule.waiting_fire_time),
            last_fire_time: time(&schedule.last_fire_time),
            last_job_id: schedule.last_job_id,
            last_job_state: Some(schedule.last_job_state).filter(|state| *state != 0).map(JobState::from_proto),
            fired_count: schedule.fired_count,
            skipped_count: schedule.skipped_count,
            create_time: time(&schedule.create_time),
            update_time: time(&schedule.update_time),
            etag: schedule.etag,
            id: schedule.id,
            spec,
        }
    }
}
