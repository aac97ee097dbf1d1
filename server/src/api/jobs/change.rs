//! CancelJobs, RetryJobs, UpdateJobs, DeleteJobs.
use jobwire_proto::v1::{self, job_patch};

use crate::{
    api::{
        convert::{
            NOTE_BYTES, Parsed, at_most, bulk,
            bulk::{JobBulk, JobBulkRequest},
            etag, name,
            payload::payload,
            span, span_between, spec,
        },
        status::{ApiError, Reason},
        unary,
    },
    engine::{Cancel, Engine, JobError, Patch, Retry},
    model::{job::Start, state::State},
};

pub async fn cancel(engine: &Engine, request: v1::CancelJobsRequest) -> Parsed<v1::CancelJobsResponse> {
    let limits = engine.limits();
    let JobBulk { bulk, question } = JobBulkRequest {
        call: "CancelJobs",
        selector: request.selector,
        limit: request.limit,
        continue_token: request.continue_token,
        dry_run: request.dry_run,
    }
    .parse(limits)?;
    let cancel = Cancel {
        reason: at_most("reason", request.reason, NOTE_BYTES)?,
        grace_ms: span_between("grace", request.grace.as_ref(), 0, limits.delay_ms)?,
    };
    let mut done = engine.cancel(bulk, cancel).await?;
    // Cancelling twice is no error.
    done.errors.retain(|(_, error)| !matches!(error, JobError::Terminal(State::Cancelled)));
    Ok(v1::CancelJobsResponse { result: Some(bulk::to_result(question, done)) })
}

pub async fn retry(engine: &Engine, request: v1::RetryJobsRequest) -> Parsed<v1::RetryJobsResponse> {
    let limits = engine.limits();
    let JobBulk { bulk, question } = JobBulkRequest {
        call: "RetryJobs",
        selector: request.selector,
        limit: request.limit,
        continue_token: request.continue_token,
        dry_run: request.dry_run,
    }
    .parse(limits)?;
    let retry = Retry {
        reset_attempts: request.reset_attempts,
        spread_ms: span_between("spread", request.spread.as_ref(), 0, limits.delay_ms)?.unwrap_or_default(),
        queue: spec::optional_name("queue", &request.queue)?,
    };
    let mut done = engine.retry(bulk, retry).await?;
    // What is about to run anyway needs nothing.
    done.errors.retain(|(_, error)| !matches!(error, JobError::WrongState(State::Ready)));
    Ok(v1::RetryJobsResponse { result: Some(bulk::to_result(question, done)) })
}

pub async fn update(engine: &Engine, request: v1::UpdateJobsRequest) -> Parsed<v1::UpdateJobsResponse> {
    let job_bulk = JobBulkRequest {
        call: "UpdateJobs",
        selector: request.selector,
        limit: request.limit,
        continue_token: request.continue_token,
        dry_run: request.dry_run,
    }
    .parse(engine.limits())?;
    let single = job_bulk.is_single();
    let version = etag("etag", &request.etag)?;
    if version.is_some() && !single {
        return Err(ApiError::field("etag", "goes with a single id only"));
    }
    let patch = request.patch.ok_or_else(|| ApiError::field("patch", "is required"))?;
    let patch = self::patch(engine, patch, single).map_err(|error| error.within("patch"))?;
    let JobBulk { bulk, question } = job_bulk;
    let done = engine.update(bulk, patch, version).await?;
    if done.errors.iter().any(|(_, error)| matches!(error, JobError::EtagMismatch)) {
        return Err(ApiError::new(Reason::EtagMismatch, "the record has changed since it was read").at("etag"));
    }
    Ok(v1::UpdateJobsResponse { result: Some(bulk::to_result(question, done)) })
}

fn patch(engine: &Engine, patch: v1::JobPatch, single: bool) -> Parsed<Patch> {
    if patch == v1::JobPatch::default() {
        return Err(ApiError::field("", "must change something"));
    }
    if patch.payload.is_some() && !single {
        return Err(ApiError::field("payload", "goes with a single id only"));
    }
    let ctx = unary(engine);
    Ok(Patch {
        priority: patch.priority.map(|value| spec::priority("priority", value)).transpose()?,
        queue: patch.queue.map(|value| name("queue", &value)).transpose()?,
        start: match patch.start {
            None => None,
            Some(job_patch::Start::ScheduleTime(at)) => Some(Start::At(spec::start_time(ctx, "schedule_time", &at)?)),
            Some(job_patch::Start::Delay(delay)) => Some(Start::In(span("delay", &delay, ctx.limits.delay_ms)?)),
        },
        retry: patch.retry.map(|retry| spec::retry_spec(ctx, retry)).transpose().map_err(|e| e.within("retry"))?,
        timeout_ms: spec::timeout(ctx, "timeout", patch.timeout.as_ref())?,
        payload: payload(ctx, "payload", patch.payload, ctx.limits.payload_bytes)?,
    })
}

pub async fn delete(engine: &Engine, request: v1::DeleteJobsRequest) -> Parsed<v1::DeleteJobsResponse> {
    let job_bulk = JobBulkRequest {
        call: "DeleteJobs",
        selector: request.selector,
        limit: request.limit,
        continue_token: request.continue_token,
        dry_run: false,
    }
    .parse(engine.limits())?;
    // By filter, without `force`, the call counts what it would delete with it.
    let only_count = job_bulk.is_filter() && !request.force;
    let JobBulk { mut bulk, question } = job_bulk;
    bulk.dry_run = only_count;
    let mut done = engine.delete(bulk, request.force || only_count).await?;
    if !request.force {
        // Counted, and left alone.
        done.errors.retain(|(_, error)| !matches!(error, JobError::Running | JobError::WrongState(_)));
    }
    Ok(v1::DeleteJobsResponse { result: Some(bulk::to_result(question, done)) })
}
