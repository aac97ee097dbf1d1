//! JobService: putting jobs in, looking at them, waiting for them, repairing them.
use jobwire_proto::v1::{self, job_service_server::JobService};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Streaming};

use super::{
    Answer, answer,
    convert::{
        Ctx, Parsed, bulk, count,
        job::{self, View},
        job_id,
        payload::Format,
        size, span_between,
        spec::job_spec,
        to_time, token,
    },
    status::ApiError,
    stream::{self, Outbound},
    unary,
};
use crate::{
    engine::{Accepted, Engine, EnqueueError, Enqueued},
    model::{
        filter::JOB_FIELDS,
        ids::JobId,
        job::{Parts, Record},
        time::{MINUTE, SECOND},
    },
};

mod await_results;
mod change;
mod enqueue_stream;
mod watch;

/// Longest wait for a job in one call, and the default of WaitJob.
const MAX_WAIT: i64 = 5 * MINUTE;
const DEFAULT_WAIT: i64 = 30 * SECOND;
/// Items of a page when the request does not say.
const PAGE: usize = 50;
/// What the frame of an answer, beyond its items, may take.
const ENVELOPE: usize = 64 << 10;

pub struct Jobs {
    engine: Engine,
    /// Cancelled when the server is about to stop: whoever waits is sent elsewhere.
    draining: CancellationToken,
}

impl Jobs {
    pub fn new(engine: Engine, draining: CancellationToken) -> Self {
        Self { engine, draining }
    }

    async fn put(&self, request: v1::EnqueueRequest) -> Parsed<v1::EnqueueResponse> {
        let ctx = unary(&self.engine);
        let format = Format::parse(ctx, request.payload_format)?;
        let wait = span_between("wait", request.wait.as_ref(), 0, MAX_WAIT)?;
        let spec = request.job.ok_or_else(|| ApiError::field("job", "is required"))?;
        let spec = job_spec(ctx, spec).map_err(|error| error.within("job"))?;
        let mut answers = self.engine.enqueue(vec![spec], request.validate_only).await;
        let done = answers.pop().ok_or_else(|| ApiError::bug("an enqueue without an answer"))?;
        let done = done.map_err(|error| match error {
            error @ EnqueueError::NoJob(..) => ApiError::from(error).within("job"),
            error => error.into(),
        })?;
        let mut response = v1::EnqueueResponse {
            job_id: done.id.to_string(),
            status: status(&done).into(),
            state: job::state(done.state).into(),
            schedule_time: Some(to_time(done.ready_ms)),
            result: None,
        };
        if let Some(wait) = wait.filter(|_| !request.validate_only) {
            let record = match self.until_ended(done.id, wait, View::Full.parts()).await? {
                Some(record) => record,
                // The job is in: not having waited to the end is no error.
                None => self.engine.get(done.id, View::Full.parts()).await?,
            };
            response.state = job::state(record.meta.state).into();
            response.result = job::job_result(record, format);
        }
        Ok(response)
    }

    async fn put_many(&self, request: v1::EnqueueManyRequest) -> Parsed<v1::EnqueueManyResponse> {
        let ctx = unary(&self.engine);
        if request.jobs.is_empty() {
            return Err(ApiError::field("jobs", "must not be empty"));
        }
        count("jobs", request.jobs.len(), ctx.limits.jobs_per_call)?;
        let outcomes = enqueue_each(&self.engine, ctx, request.jobs).await;
        let results: Vec<_> = outcomes.into_iter().map(enqueue_result).collect();
        let created = results.iter().filter(|r| r.status() == v1::EnqueueStatus::Created).count();
        Ok(v1::EnqueueManyResponse { results, created_count: created as i32 })
    }

    async fn get(&self, request: v1::GetJobRequest) -> Parsed<v1::GetJobResponse> {
        let ctx = unary(&self.engine);
        let id = job_id("id", &request.id)?;
        let view = View::parse(ctx, request.view, View::Full)?;
        let format = Format::parse(ctx, request.payload_format)?;
        let record = self.engine.get(id, view.parts()).await?;
        let holder = self.engine.holder(&record).await;
        let mut job = job::job(record, view, format);
        if let Some((worker_id, session_id)) = holder {
            (job.worker_id, job.session_id) = (worker_id, session_id);
        }
        Ok(v1::GetJobResponse { job: Some(job) })
    }

    async fn list(&self, request: v1::ListJobsRequest) -> Parsed<v1::ListJobsResponse> {
        let ctx = unary(&self.engine);
        let view = View::parse(ctx, request.view, View::Basic)?;
        let format = Format::parse(ctx, request.payload_format)?;
        let filter = bulk::filter(ctx.limits, request.filter, JOB_FIELDS)?;
        let mut page_size = size("page_size", request.page_size, PAGE, ctx.limits.page_size)?;
        let question = token::question(&["ListJobs", &filter.to_string()]);
        let cursor = token::cursor("page_token", question, &request.page_token)?;
        loop {
            let page = self.engine.list(&filter, cursor.clone(), page_size, view.parts()).await?;
            let found = page.jobs.len();
            let jobs =
                fitting(ctx.limits.message_bytes, page.jobs.into_iter().map(|record| job::job(record, view, format)));
            // A page that is too large for a message is read again, shorter, so that its token names the right place.
            if jobs.len() < found && !jobs.is_empty() {
                page_size = jobs.len();
                continue;
            }
            return Ok(v1::ListJobsResponse { jobs, next_page_token: token::write(question, page.next) });
        }
    }

    async fn list_logs(&self, request: v1::ListJobLogsRequest) -> Parsed<v1::ListJobLogsResponse> {
        let ctx = unary(&self.engine);
        let id = job_id("id", &request.id)?;
        let min_level = job::min_level(ctx, request.min_level)?;
        let page_size = size("page_size", request.page_size, PAGE, ctx.limits.page_size)?;
        let question = token::question(&["ListJobLogs", &id.to_string(), &min_level.to_string()]);
        let after = token::read::<u64>("page_token", question, &request.page_token)?.unwrap_or_default();
        let found = self.engine.logs(id, after, min_level, page_size).await?;
        let (count, full) = (found.len(), found.len() == page_size);
        let lines = fitting(ctx.limits.message_bytes, found.into_iter().map(job::to_log_line));
        let next = lines.last().filter(|_| full || lines.len() < count).map(|line| line.index as u64);
        Ok(v1::ListJobLogsResponse { next_page_token: token::write(question, next), lines })
    }

    async fn wait(&self, request: v1::WaitJobRequest) -> Parsed<v1::WaitJobResponse> {
        let ctx = unary(&self.engine);
        let id = job_id("id", &request.id)?;
        let view = View::parse(ctx, request.view, View::Full)?;
        let format = Format::parse(ctx, request.payload_format)?;
        let timeout = span_between("timeout", request.timeout.as_ref(), 0, MAX_WAIT)?.unwrap_or(DEFAULT_WAIT);
        let record = self.until_ended(id, timeout, view.parts()).await?.ok_or_else(ApiError::shutting_down)?;
        let finished = record.meta.state.is_terminal();
        Ok(v1::WaitJobResponse { job: Some(job::job(record, view, format)), finished })
    }
}

impl Jobs {
    /// The record when it is terminal or the time is up; `None` when the server stops before.
    async fn until_ended(&self, id: JobId, timeout_ms: i64, parts: Parts) -> Parsed<Option<Record>> {
        tokio::select! {
            record = self.engine.wait(id, timeout_ms, parts) => Ok(Some(record?)),
            () = self.draining.cancelled() => Ok(None),
        }
    }
}

/// The first items that fit in one message together, and at least one.
fn fitting<T: prost::Message>(message_bytes: usize, items: impl Iterator<Item = T>) -> Vec<T> {
    let mut left = message_bytes.saturating_sub(ENVELOPE);
    let mut kept = Vec::new();
    for item in items {
        // The item, its tag and its length.
        let size = item.encoded_len() + 6;
        if size > left && !kept.is_empty() {
            break;
        }
        left = left.saturating_sub(size);
        kept.push(item);
    }
    kept
}

/// Enqueues the jobs that can be read; one answer per job, in order. Errors name `jobs[n]`.
async fn enqueue_each(engine: &Engine, ctx: Ctx<'_>, specs: Vec<v1::JobSpec>) -> Vec<Parsed<Enqueued>> {
    let read: Vec<Parsed<_>> = specs
        .into_iter()
        .enumerate()
        .map(|(i, spec)| job_spec(ctx, spec).map_err(|error| error.within(format_args!("jobs[{i}]"))))
        .collect();
    enqueue_read(engine, read).await
}

/// Enqueues what could be read; keeps the errors of the rest in their places.
async fn enqueue_read(engine: &Engine, read: Vec<Parsed<crate::model::job::JobSpec>>) -> Vec<Parsed<Enqueued>> {
    let mut good = Vec::with_capacity(read.len());
    let places: Vec<Parsed<()>> = read.into_iter().map(|spec| spec.map(|spec| good.push(spec))).collect();
    let mut answers = if good.is_empty() { Vec::new() } else { engine.enqueue(good, false).await }.into_iter();
    places
        .into_iter()
        .map(|place| {
            place?;
            let answer = answers.next().ok_or_else(|| ApiError::bug("an enqueue without an answer"))?;
            Ok(answer?)
        })
        .collect()
}

fn status(done: &Enqueued) -> v1::EnqueueStatus {
    match done.status {
        Accepted::Created => v1::EnqueueStatus::Created,
        Accepted::Duplicate => v1::EnqueueStatus::Duplicate,
        Accepted::Kept => v1::EnqueueStatus::Kept,
        Accepted::Replaced => v1::EnqueueStatus::Replaced,
    }
}

fn enqueue_result(outcome: Parsed<Enqueued>) -> v1::EnqueueResult {
    match outcome {
        Ok(done) => v1::EnqueueResult {
            job_id: done.id.to_string(),
            status: status(&done).into(),
            state: job::state(done.state).into(),
            schedule_time: Some(to_time(done.ready_ms)),
            error: None,
        },
        Err(error) => v1::EnqueueResult { error: Some(error.into_item()), ..Default::default() },
    }
}

#[tonic::async_trait]
impl JobService for Jobs {
    async fn enqueue(&self, request: Request<v1::EnqueueRequest>) -> Answer<v1::EnqueueResponse> {
        answer(self.put(request.into_inner()).await)
    }

    async fn enqueue_many(&self, request: Request<v1::EnqueueManyRequest>) -> Answer<v1::EnqueueManyResponse> {
        answer(self.put_many(request.into_inner()).await)
    }

    type EnqueueStreamStream = Outbound<v1::EnqueueStreamResponse>;

    async fn enqueue_stream(
        &self,
        request: Request<Streaming<v1::EnqueueStreamRequest>>,
    ) -> Answer<Self::EnqueueStreamStream> {
        let (engine, draining) = (self.engine.clone(), self.draining.clone());
        answer(Ok(stream::spawn(|out| enqueue_stream::run(engine, draining, request.into_inner(), out))))
    }

    async fn get_job(&self, request: Request<v1::GetJobRequest>) -> Answer<v1::GetJobResponse> {
        answer(self.get(request.into_inner()).await)
    }

    async fn list_jobs(&self, request: Request<v1::ListJobsRequest>) -> Answer<v1::ListJobsResponse> {
        answer(self.list(request.into_inner()).await)
    }

    async fn list_job_logs(&self, request: Request<v1::ListJobLogsRequest>) -> Answer<v1::ListJobLogsResponse> {
        answer(self.list_logs(request.into_inner()).await)
    }

    async fn explain_job(&self, _: Request<v1::ExplainJobRequest>) -> Answer<v1::ExplainJobResponse> {
        answer(Err(ApiError::disabled("ExplainJob")))
    }

    async fn wait_job(&self, request: Request<v1::WaitJobRequest>) -> Answer<v1::WaitJobResponse> {
        answer(self.wait(request.into_inner()).await)
    }

    type WatchJobStream = Outbound<v1::WatchJobResponse>;

    async fn watch_job(&self, request: Request<v1::WatchJobRequest>) -> Answer<Self::WatchJobStream> {
        answer(watch::start(&self.engine, self.draining.clone(), request.into_inner()).await)
    }

    type AwaitResultsStream = Outbound<v1::AwaitResultsResponse>;

    async fn await_results(
        &self,
        request: Request<Streaming<v1::AwaitResultsRequest>>,
    ) -> Answer<Self::AwaitResultsStream> {
        let (engine, draining) = (self.engine.clone(), self.draining.clone());
        answer(Ok(stream::spawn(|out| await_results::run(engine, draining, request.into_inner(), out))))
    }

    async fn cancel_jobs(&self, request: Request<v1::CancelJobsRequest>) -> Answer<v1::CancelJobsResponse> {
        answer(change::cancel(&self.engine, request.into_inner()).await)
    }

    async fn retry_jobs(&self, request: Request<v1::RetryJobsRequest>) -> Answer<v1::RetryJobsResponse> {
        answer(change::retry(&self.engine, request.into_inner()).await)
    }

    async fn update_jobs(&self, request: Request<v1::UpdateJobsRequest>) -> Answer<v1::UpdateJobsResponse> {
        answer(change::update(&self.engine, request.into_inner()).await)
    }

    async fn delete_jobs(&self, request: Request<v1::DeleteJobsRequest>) -> Answer<v1::DeleteJobsResponse> {
        answer(change::delete(&self.engine, request.into_inner()).await)
    }
}
