//! The calls about many jobs, for operators.

use std::time::{Duration, SystemTime};

use futures::FutureExt;
use jobwire_proto::v1 as pb;
use serde::Serialize;

use crate::bulk::{Selector, bulk_call};
use crate::client::Client;
use crate::convert::{to_duration, to_timestamp};
use crate::errors::Error;
use crate::listing::Listing;
use crate::options::Retry;
use crate::payload::Payload;
use crate::types::{Explanation, JobInfo, LogLevel, LogLine};

/// Jobs, by the many: [`client.jobs()`](Client::jobs). To look needs the scope `read`, the rest `admin`.
#[derive(Debug, Clone)]
pub struct Jobs {
    client: Client,
}

impl Client {
    /// The calls about many jobs; one has its own in [`Job`](crate::Job).
    ///
    /// ```no_run
    /// # use futures::TryStreamExt;
    /// # use jobwire::{Selector, prelude::*};
    /// # async fn example(client: Client) -> Result<(), Error> {
    /// let mut dead = client.jobs().list("state = DEAD AND queue = mail");
    /// while let Some(job) = dead.try_next().await? {
    ///     println!("{} {}", job.id, job.failure.map(|failure| failure.message).unwrap_or_default());
    /// }
    /// let dead = Selector::filter("state = DEAD AND queue = mail");
    /// let retried = client.jobs().retry(dead).spread(mins(10)).await?;
    /// println!("{} of {}", retried.affected, retried.matched);
    /// # Ok(()) }
    /// ```
    pub fn jobs(&self) -> Jobs {
        Jobs { client: self.clone() }
    }
}

impl Jobs {
    /// The record of a job, with payload and result.
    pub async fn get(&self, id: impl Into<String>) -> Result<JobInfo, Error> {
        self.client.job(id).status().await
    }

    /// The jobs that a filter matches; empty = all. Filterable: id, queue, state (these are indexed), type, tag, priority,
    /// fairness_key, workflow_id, schedule_id, parent_id, worker_id, failure.type, attempt, create_time, schedule_time,
    /// start_time, finish_time. Without payload and result, unless [`full`](Listing::full) is said.
    pub fn list(&self, filter: impl Into<String>) -> Listing<JobInfo> {
        let (client, filter) = (self.client.clone(), filter.into());
        Listing::new(move |page| {
            let (client, filter) = (client.clone(), filter.clone());
            async move {
                let view = if page.full { pb::JobView::Full } else { pb::JobView::Basic };
                let request = pb::ListJobsRequest {
                    filter,
                    page_size: page.size,
                    page_token: page.token,
                    view: view as i32,
                    payload_format: pb::PayloadFormat::Raw as i32,
                };
                let answer: pb::ListJobsResponse =
                    client.shared().idempotent("/jobwire.v1.JobService/ListJobs", request).await?;
                Ok((answer.jobs.into_iter().map(JobInfo::from_proto).collect(), answer.next_page_token))
            }
            .boxed()
        })
    }

    /// What the handler of a job logged, of this level and more severe ones: what is kept of it now.
    pub fn logs(&self, id: impl Into<String>, min_level: LogLevel) -> Listing<LogLine> {
        let (client, id) = (self.client.clone(), id.into());
        Listing::new(move |page| {
            let (client, id) = (client.clone(), id.clone());
            async move {
                let request = pb::ListJobLogsRequest {
                    id,
                    page_size: page.size,
                    page_token: page.token,
                    min_level: min_level.to_proto() as i32,
                };
                let answer: pb::ListJobLogsResponse =
                    client.shared().idempotent("/jobwire.v1.JobService/ListJobLogs", request).await?;
                Ok((answer.lines.into_iter().map(LogLine::from_proto).collect(), answer.next_page_token))
            }
            .boxed()
        })
    }

    /// Why a job is not running, for people.
    pub async fn explain(&self, id: impl Into<String>) -> Result<Explanation, Error> {
        self.client.job(id).explain().await
    }

    /// Stops jobs: waiting ones at once, running ones through their workers.
    pub fn cancel(&self, which: impl Into<Selector>) -> CancelJobs {
        let request = pb::CancelJobsRequest { selector: Some(which.into().into_proto()), ..Default::default() };
        CancelJobs { client: self.client.clone(), request: Ok(request), limit: None }
    }

    /// Runs jobs again, now: ended ones start over, waiting ones stop waiting. Succeeded ones only by id.
    pub fn retry(&self, which: impl Into<Selector>) -> RetryJobs {
        let request = pb::RetryJobsRequest { selector: Some(which.into().into_proto()), ..Default::default() };
        RetryJobs { client: self.client.clone(), request: Ok(request), limit: None }
    }

    /// Moves, reprioritises, reschedules or edits jobs that neither run nor have ended. What is not said stays.
    pub fn update(&self, which: impl Into<Selector>) -> UpdateJobs {
        let request = pb::UpdateJobsRequest { selector: Some(which.into().into_proto()), ..Default::default() };
        UpdateJobs { client: self.client.clone(), request: Ok(request), limit: None }
    }

    /// Deletes records. By filter, and of jobs that have not ended, it only counts unless [`force`](DeleteJobs::force) is
    /// said.
    pub fn delete(&self, which: impl Into<Selector>) -> DeleteJobs {
        let request = pb::DeleteJobsRequest { selector: Some(which.into().into_proto()), ..Default::default() };
        DeleteJobs { client: self.client.clone(), request: Ok(request), limit: None }
    }
}

impl Listing<JobInfo> {
    /// With payloads, results and stack traces.
    pub fn full(self) -> Self {
        self.edit(|page| page.full = true)
    }
}

bulk_call! {
    /// Jobs about to be cancelled. Await it.
    CancelJobs: CancelJobsRequest -> CancelJobsResponse, idempotent "/jobwire.v1.JobService/CancelJobs"
}

impl CancelJobs {
    /// Why, for people and for the handlers.
    pub fn reason(self, reason: impl Into<String>) -> Self {
        self.edit(|request| request.reason = reason.into())
    }

    /// How long running handlers may take to stop. Default: as long as it takes; zero = the server ends them now.
    pub fn grace(self, grace: Duration) -> Self {
        self.edit(|request| request.grace = Some(to_duration(grace)))
    }

    /// Counts, changes nothing.
    pub fn dry_run(self) -> Self {
        self.edit(|request| request.dry_run = true)
    }
}

bulk_call! {
    /// Jobs about to run again. Await it.
    RetryJobs: RetryJobsRequest -> RetryJobsResponse, once "/jobwire.v1.JobService/RetryJobs"
}

impl RetryJobs {
    /// Counts attempts afresh. Default: one more is granted.
    pub fn reset_attempts(self) -> Self {
        self.edit(|request| request.reset_attempts = true)
    }

    /// Spreads the restarts evenly over this long.
    pub fn spread(self, span: Duration) -> Self {
        self.edit(|request| request.spread = Some(to_duration(span)))
    }

    /// Moves them to another queue on the way.
    pub fn queue(self, queue: impl Into<String>) -> Self {
        self.edit(|request| request.queue = queue.into())
    }

    /// Counts, changes nothing.
    pub fn dry_run(self) -> Self {
        self.edit(|request| request.dry_run = true)
    }
}

bulk_call! {
    /// Jobs about to be changed. Await it.
    UpdateJobs: UpdateJobsRequest -> UpdateJobsResponse, idempotent "/jobwire.v1.JobService/UpdateJobs"
}

impl UpdateJobs {
    /// -4 (last) to 4 (first).
    pub fn priority(self, priority: i32) -> Self {
        self.patch(|patch| patch.priority = Some(priority))
    }

    /// Another queue.
    pub fn queue(self, queue: impl Into<String>) -> Self {
        self.patch(|patch| patch.queue = Some(queue.into()))
    }

    /// Start this long after the call. Replaces [`at`](Self::at).
    pub fn delay(self, delay: Duration) -> Self {
        self.patch(|patch| patch.start = Some(pb::job_patch::Start::Delay(to_duration(delay))))
    }

    /// Start at this moment. Replaces [`delay`](Self::delay).
    pub fn at(self, time: SystemTime) -> Self {
        self.patch(|patch| patch.start = Some(pb::job_patch::Start::ScheduleTime(to_timestamp(time))))
    }

    /// Another retry policy.
    pub fn retry(mut self, retry: impl Into<Retry>) -> Self {
        let mut options = crate::Options::new();
        options.set_retry(&retry.into());
        if let Err(error) = options.check() {
            self.request = Err(error);
        }
        self.patch(|patch| patch.retry = options.spec.retry)
    }

    /// Longest one attempt may run.
    pub fn timeout(self, timeout: Duration) -> Self {
        self.patch(|patch| patch.timeout = Some(to_duration(timeout)))
    }

    /// Another input. Of a single job, by its id.
    pub fn input<T: Serialize + ?Sized>(mut self, input: &T) -> Self {
        match Payload::json(input) {
            Ok(payload) => self.patch(|patch| patch.payload = Some(payload.into_proto())),
            Err(error) => {
                self.request = Err(error);
                self
            }
        }
    }

    /// Refuses (ABORTED / ETAG_MISMATCH) if the record has changed since. Of a single job, by its id.
    pub fn etag(self, etag: impl Into<String>) -> Self {
        self.edit(|request| request.etag = etag.into())
    }

    /// Counts, changes nothing.
    pub fn dry_run(self) -> Self {
        self.edit(|request| request.dry_run = true)
    }

    fn patch(self, change: impl FnOnce(&mut pb::JobPatch)) -> Self {
        self.edit(|request| change(request.patch.get_or_insert_default()))
    }
}

bulk_call! {
    /// Records about to be deleted. Await it.
    DeleteJobs: DeleteJobsRequest -> DeleteJobsResponse, idempotent "/jobwire.v1.JobService/DeleteJobs"
}

impl DeleteJobs {
    /// Deletes what a filter matches, and jobs that have not ended; a running one is then gone for its worker as well.
    pub fn force(self) -> Self {
        self.edit(|request| request.force = true)
    }
}
