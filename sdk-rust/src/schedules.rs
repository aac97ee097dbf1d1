//! The calls about schedules.

use std::time::SystemTime;

use futures::FutureExt;
use jobwire_proto::v1 as pb;
use serde::Serialize;

use crate::bulk::{BulkResult, Selector};
use crate::calls::awaited;
use crate::client::Client;
use crate::convert::{from_timestamp, to_timestamp};
use crate::errors::Error;
use crate::job::Job;
use crate::listing::Listing;
use crate::payload::Payload;
use crate::schedule::{Overlap, Schedule, ScheduleInfo};

/// Schedules: [`client.schedules()`](Client::schedules). Needs the scope `admin`; to look needs `read` only.
#[derive(Debug, Clone)]
pub struct Schedules {
    client: Client,
}

impl Client {
    /// The calls about schedules.
    ///
    /// ```no_run
    /// # use jobwire::{Schedule, prelude::*};
    /// # #[derive(Serialize, Deserialize)] struct Report { kind: String }
    /// # impl Task for Report { const TYPE: &'static str = "report.build"; type Output = String; }
    /// # async fn example(client: Client) -> Result<(), Error> {
    /// let nightly = Schedule::cron("30 2 * * 1-5").time_zone("Europe/Berlin").task(Report { kind: "sales".into() });
    /// let put = client.schedules().put("nightly", nightly).await?;
    /// println!("created: {}, next at {:?}", put.created, put.schedule.next_fire_times.first());
    /// # Ok(()) }
    /// ```
    pub fn schedules(&self) -> Schedules {
        Schedules { client: self.clone() }
    }
}

impl Schedules {
    /// Creates or replaces the schedule with this id: `[A-Za-z0-9_.:/-]{1,128}`. Putting the same thing again changes
    /// nothing; a changed cadence counts from now and fires nothing from the past; a pause stays. Await it.
    pub fn put(&self, id: impl Into<String>, schedule: Schedule) -> PutSchedule {
        let request = schedule.into_spec().map(|spec| pb::PutScheduleRequest {
            id: id.into(),
            spec: Some(spec),
            ..Default::default()
        });
        PutSchedule { client: self.client.clone(), request }
    }

    /// The schedule as it is.
    pub async fn get(&self, id: impl Into<String>) -> Result<ScheduleInfo, Error> {
        let request = pb::GetScheduleRequest { id: id.into() };
        let answer: pb::GetScheduleResponse =
            self.client.shared().idempotent("/jobwire.v1.ScheduleService/GetSchedule", request).await?;
        Ok(ScheduleInfo::from_proto(answer.schedule.unwrap_or_default()))
    }

    /// Schedules by id, those that `filter` matches: `type = report.build AND paused = false`. Empty = all. Filterable: id,
    /// type, queue, paused, tag.
    pub fn list(&self, filter: impl Into<String>) -> Listing<ScheduleInfo> {
        let (client, filter) = (self.client.clone(), filter.into());
        Listing::new(move |page| {
            let (client, filter) = (client.clone(), filter.clone());
            async move {
                let request = pb::ListSchedulesRequest { filter, page_size: page.size, page_token: page.token };
                let answer: pb::ListSchedulesResponse =
                    client.shared().idempotent("/jobwire.v1.ScheduleService/ListSchedules", request).await?;
                let schedules = answer.schedules.into_iter().map(ScheduleInfo::from_proto).collect();
                Ok((schedules, answer.next_page_token))
            }
            .boxed()
        })
    }

    /// Stands still: ticks pass, and are counted as skipped. `reason` is shown wherever the schedule is; pausing again
    /// replaces it. At most 1 KiB.
    pub async fn pause(&self, which: impl Into<Selector>, reason: impl Into<String>) -> Result<BulkResult, Error> {
        let request = pb::PauseSchedulesRequest { selector: Some(which.into().into_proto()), reason: reason.into() };
        let answer: pb::PauseSchedulesResponse =
            self.client.shared().idempotent("/jobwire.v1.ScheduleService/PauseSchedules", request).await?;
        Ok(BulkResult::from_proto(answer.result))
    }

    /// Goes on with the next tick. Nothing is caught up; [`backfill`](Self::backfill) does that.
    pub async fn resume(&self, which: impl Into<Selector>) -> Result<BulkResult, Error> {
        let request = pb::ResumeSchedulesRequest { selector: Some(which.into().into_proto()) };
        let answer: pb::ResumeSchedulesResponse =
            self.client.shared().idempotent("/jobwire.v1.ScheduleService/ResumeSchedules", request).await?;
        Ok(BulkResult::from_proto(answer.result))
    }

    /// Runs it once, now, whatever its pause and overlap policy say; moves no tick. Await it for the job.
    pub fn trigger(&self, id: impl Into<String>) -> TriggerSchedule {
        let request = pb::TriggerScheduleRequest { id: id.into(), payload: None };
        TriggerSchedule { client: self.client.clone(), request: Ok(request) }
    }

    /// Deletes schedules; their jobs stay. Await it. By filter it only counts, unless [`force`](DeleteSchedules::force)
    /// is said.
    pub fn delete(&self, which: impl Into<Selector>) -> DeleteSchedules {
        let request = pb::DeleteSchedulesRequest { selector: Some(which.into().into_proto()), force: false };
        DeleteSchedules { client: self.client.clone(), request }
    }

    /// The next `count` fire times of a schedule that is there, at most 100.
    pub async fn preview(&self, id: impl Into<String>, count: i32) -> Result<Preview, Error> {
        self.ask(pb::PreviewScheduleRequest { id: id.into(), spec: None, count }).await
    }

    /// The next `count` fire times of a schedule that is not put; it needs no task.
    pub async fn preview_of(&self, schedule: Schedule, count: i32) -> Result<Preview, Error> {
        let spec = Some(schedule.into_cadence()?);
        self.ask(pb::PreviewScheduleRequest { id: String::new(), spec, count }).await
    }

    async fn ask(&self, request: pb::PreviewScheduleRequest) -> Result<Preview, Error> {
        let answer: pb::PreviewScheduleResponse =
            self.client.shared().idempotent("/jobwire.v1.ScheduleService/PreviewSchedule", request).await?;
        let fire_times = answer.fire_times.iter().filter_map(from_timestamp).collect();
        Ok(Preview { fire_times, description: answer.description })
    }

    /// Runs the ticks of a past interval that have no job, both ends included, paused or not, by the specification as it
    /// is now. Await it.
    pub fn backfill(&self, id: impl Into<String>, from: SystemTime, to: SystemTime) -> BackfillSchedule {
        let request = pb::BackfillScheduleRequest {
            id: id.into(),
            from: Some(to_timestamp(from)),
            to: Some(to_timestamp(to)),
            ..Default::default()
        };
        BackfillSchedule { client: self.client.clone(), request }
    }
}

/// A schedule about to be put. Await it.
#[must_use = "nothing is put until this is awaited"]
#[derive(Debug)]
pub struct PutSchedule {
    client: Client,
    request: Result<pb::PutScheduleRequest, Error>,
}

impl PutSchedule {
    /// Refuses (ABORTED / ETAG_MISMATCH) unless the stored one has this etag.
    pub fn etag(mut self, etag: impl Into<String>) -> Self {
        if let Ok(request) = &mut self.request {
            request.etag = etag.into();
        }
        self
    }

    /// Checks, and answers what would be stored, without storing it.
    pub fn validate_only(mut self) -> Self {
        if let Ok(request) = &mut self.request {
            request.validate_only = true;
        }
        self
    }

    async fn send(self) -> Result<SchedulePut, Error> {
        let answer: pb::PutScheduleResponse =
            self.client.shared().idempotent("/jobwire.v1.ScheduleService/PutSchedule", self.request?).await?;
        let schedule = ScheduleInfo::from_proto(answer.schedule.unwrap_or_default());
        Ok(SchedulePut { created: answer.created, schedule })
    }
}

awaited!(PutSchedule => SchedulePut);

/// What a put did.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SchedulePut {
    /// Whether there was none before.
    pub created: bool,
    /// The schedule as it is now.
    pub schedule: ScheduleInfo,
}

/// A run about to be triggered. Await it.
#[must_use = "nothing runs until this is awaited"]
#[derive(Debug)]
pub struct TriggerSchedule {
    client: Client,
    request: Result<pb::TriggerScheduleRequest, Error>,
}

impl TriggerSchedule {
    /// Another input than the schedule's.
    pub fn input<T: Serialize + ?Sized>(mut self, input: &T) -> Self {
        self.request = self.request.and_then(|request| {
            let payload = Some(Payload::json(input)?.into_proto());
            Ok(pb::TriggerScheduleRequest { payload, ..request })
        });
        self
    }

    async fn send(self) -> Result<Job<serde_json::Value>, Error> {
        let answer: pb::TriggerScheduleResponse =
            self.client.shared().once("/jobwire.v1.ScheduleService/TriggerSchedule", self.request?).await?;
        Ok(self.client.job(answer.job_id))
    }
}

awaited!(TriggerSchedule => Job<serde_json::Value>);

/// Schedules about to be deleted. Await it.
#[must_use = "nothing is deleted until this is awaited"]
#[derive(Debug)]
pub struct DeleteSchedules {
    client: Client,
    request: pb::DeleteSchedulesRequest,
}

impl DeleteSchedules {
    /// Deletes what a filter matches, too.
    pub fn force(mut self) -> Self {
        self.request.force = true;
        self
    }

    async fn send(self) -> Result<BulkResult, Error> {
        let answer: pb::DeleteSchedulesResponse =
            self.client.shared().idempotent("/jobwire.v1.ScheduleService/DeleteSchedules", self.request).await?;
        Ok(BulkResult::from_proto(answer.result))
    }
}

awaited!(DeleteSchedules => BulkResult);

/// What a schedule will do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Preview {
    /// Its next ticks.
    pub fire_times: Vec<SystemTime>,
    /// In words: "At 02:30, Monday to Friday, Europe/Berlin".
    pub description: String,
}

/// Ticks about to be run. Await it; works through the interval 1,000 ticks a call.
#[must_use = "nothing runs until this is awaited"]
#[derive(Debug)]
pub struct BackfillSchedule {
    client: Client,
    request: pb::BackfillScheduleRequest,
}

impl BackfillSchedule {
    /// Instead of the schedule's own policy. Default [`Overlap::Allow`]: all of them at once.
    pub fn overlap(mut self, overlap: Overlap) -> Self {
        self.request.overlap = overlap.to_proto() as i32;
        self
    }

    /// Counts, changes nothing.
    pub fn dry_run(mut self) -> Self {
        self.request.dry_run = true;
        self
    }

    async fn send(mut self) -> Result<Backfill, Error> {
        let mut done = Backfill::default();
        loop {
            let answer: pb::BackfillScheduleResponse = self
                .client
                .shared()
                .idempotent("/jobwire.v1.ScheduleService/BackfillSchedule", self.request.clone())
                .await?;
            let add = |sum: &mut u64, count: i32| *sum += u64::try_from(count).unwrap_or(0);
            add(&mut done.ticks, answer.tick_count);
            add(&mut done.fired, answer.fired_count);
            add(&mut done.existing, answer.existing_count);
            add(&mut done.skipped, answer.skipped_count);
            done.sample_ids.extend(answer.sample_ids);
            if answer.continue_token.is_empty() {
                return Ok(done);
            }
            self.request.continue_token = answer.continue_token;
        }
    }
}

awaited!(BackfillSchedule => Backfill);

/// What a backfill did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Backfill {
    /// Ticks in the interval.
    pub ticks: u64,
    /// Jobs enqueued, or that would be.
    pub fired: u64,
    /// Ticks whose job was there already.
    pub existing: u64,
    /// Ticks that the overlap policy kept from running.
    pub skipped: u64,
    /// Some of the jobs: up to 100 of each 1,000 ticks.
    pub sample_ids: Vec<String>,
}
