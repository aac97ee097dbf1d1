//! Records as they are shown: jobs, attempts, failures, progress, log lines.
use jobwire_proto::v1::{self, job_spec};
use prost::Message as _;

use super::{Ctx, Parsed, choice, cut, cut_middle, payload, payload::Format, span, time, to_span, to_time, to_time_if};
use crate::model::{
    ids::JobId,
    job::{Attempt, Failure, FailureKind, LogLine, Meta, Parts, Progress, Record},
    limits::{FAILURE_DEPTH, FAILURE_MESSAGE_BYTES, FAILURE_STACK_BYTES},
    policy::{Exhausted, Policy, RetryPolicy},
    state::State,
};

/// A failure's class name; longer is cut.
const CLASS_BYTES: usize = 256;
/// What the attempts of one answer may take.
const ATTEMPTS_BYTES: usize = 4 << 10;

/// How much of a job is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum View {
    /// Without payload, result, attempts, stack traces.
    Basic,
    #[default]
    Full,
}

impl View {
    pub fn parse(ctx: Ctx<'_>, value: i32, unspecified: Self) -> Parsed<Self> {
        choice(ctx, "view", value, |view| match view {
            v1::JobView::Unspecified => unspecified,
            v1::JobView::Basic => Self::Basic,
            v1::JobView::Full => Self::Full,
        })
    }

    /// What has to be read to show a job like this.
    pub fn parts(self) -> Parts {
        Parts { body: true, outcome: true, progress: true, attempts: self == Self::Full, checkpoint: false }
    }
}

pub fn state(state: State) -> v1::JobState {
    v1::JobState::try_from(state as i32).expect("states have the contract's numbers")
}

/// Shows a record.
pub fn job(record: Record, view: View, format: Format) -> v1::Job {
    let full = view == View::Full;
    let Record { meta, body, outcome, attempts, progress, .. } = record;
    let (task, policy) = match body {
        Some(body) => (v1::Task::decode(body.task).ok(), Some(body.policy)),
        None => (None, None),
    };
    let member = task.as_ref().map(|task| (task.workflow_id.clone(), task.node.clone()));
    let (workflow_id, node) = member.unwrap_or_default();
    let tick = task.as_ref().map(|task| (task.schedule_id.clone(), task.fire_time));
    let (schedule_id, fire_time) = tick.unwrap_or_default();
    let (result, failure, last) = outcome.map_or((None, None, None), |o| (o.result, o.failure, o.last));
    let holder = last.as_ref().or(attempts.first());
    v1::Job {
        id: meta.id.to_string(),
        state: state(meta.state).into(),
        worker_id: holder.map(|a| a.worker_id.clone()).unwrap_or_default(),
        session_id: holder.map(|a| a.session_id.clone()).unwrap_or_default(),
        attempt: meta.attempt() as i32,
        delivery: meta.delivery as i32,
        crashes: meta.crashes as i32,
        create_time: Some(to_time(meta.create_ms)),
        schedule_time: Some(to_time(meta.ready_ms)),
        start_time: to_time_if(meta.start_ms),
        finish_time: to_time_if(meta.finish_ms),
        progress: progress.map(to_progress),
        result: result.filter(|_| full).map(|result| format.write(result)),
        failure: failure.map(|failure| to_failure(failure, view, format)),
        cancel_request_time: meta.cancel.as_ref().map(|cancel| to_time(cancel.request_ms)),
        purge_time: to_time_if(meta.purge_ms),
        attempts: if full { to_attempts(attempts) } else { Vec::new() },
        etag: meta.version.to_string(),
        schedule_id,
        fire_time,
        workflow_id,
        node,
        spec: Some(to_spec(&meta, task.unwrap_or_default(), policy, full.then_some(format))),
        ..Default::default()
    }
}

/// The specification as accepted: defaults filled in, spans resolved to times. `payload`: whether and how to show it.
fn to_spec(meta: &Meta, task: v1::Task, policy: Option<Policy>, payload: Option<Format>) -> v1::JobSpec {
    let scheduled = meta.delivery == 0 && meta.ready_ms > meta.create_ms;
    let mut spec = v1::JobSpec {
        id: meta.id.to_string(),
        r#type: meta.kind.to_string(),
        queue: meta.queue.to_string(),
        payload: payload.and_then(|format| task.payload.map(|body| format.rewrite(body))),
        headers: task.headers,
        priority: meta.priority.into(),
        start: scheduled.then(|| job_spec::Start::ScheduleTime(to_time(meta.ready_ms))),
        tags: task.tags,
        fairness_key: task.fairness_key,
        expiration: to_time_if(meta.expire_ms).map(job_spec::Expiration::ExpireTime),
        total_timeout: (meta.deadline_ms != 0).then(|| to_span(meta.deadline_ms - meta.create_ms)),
        parent_id: task.parent_id,
        depends_on: task.depends_on,
        ..Default::default()
    };
    if let Some(policy) = policy {
        spec.timeout = Some(to_span(policy.timeout_ms));
        spec.heartbeat_timeout = policy.heartbeat_ms.map(to_span);
        spec.retention = Some(to_span(policy.retention_ms));
        spec.dead_retention = Some(to_span(policy.dead_retention_ms));
        spec.retry = Some(to_retry(policy.retry));
    }
    spec
}

fn to_retry(retry: RetryPolicy) -> v1::RetryPolicy {
    v1::RetryPolicy {
        max_attempts: retry.max_attempts,
        initial_delay: Some(to_span(retry.initial_delay_ms)),
        multiplier: retry.multiplier,
        max_delay: Some(to_span(retry.max_delay_ms)),
        jitter: Some(retry.jitter),
        delays: retry.delays_ms.into_iter().map(to_span).collect(),
        non_retryable_types: retry.non_retryable_types,
        max_crashes: Some(retry.max_crashes),
        on_exhausted: match retry.on_exhausted {
            Exhausted::Dead => v1::ExhaustedAction::Dead,
            Exhausted::Discard => v1::ExhaustedAction::Discard,
        }
        .into(),
    }
}

/// A terminal job, in short. `None` while it is not.
pub fn job_result(record: Record, format: Format) -> Option<v1::JobResult> {
    let Record { meta, outcome, .. } = record;
    let outcome = outcome.unwrap_or_default();
    meta.state.is_terminal().then(|| v1::JobResult {
        job_id: meta.id.to_string(),
        state: state(meta.state).into(),
        result: outcome.result.map(|result| format.write(result)),
        failure: outcome.failure.map(|failure| to_failure(failure, View::Full, format)),
        finish_time: to_time_if(meta.finish_ms),
    })
}

fn to_attempts(attempts: Vec<Attempt>) -> Vec<v1::Attempt> {
    let mut left = ATTEMPTS_BYTES;
    attempts
        .into_iter()
        .map(to_attempt)
        .take_while(|attempt| {
            let size = attempt.encoded_len();
            let fits = size <= left;
            left = left.saturating_sub(size);
            fits
        })
        .collect()
}

fn to_attempt(attempt: Attempt) -> v1::Attempt {
    v1::Attempt {
        attempt: attempt.attempt as i32,
        delivery: attempt.delivery as i32,
        worker_id: attempt.worker_id,
        start_time: to_time_if(attempt.start_ms),
        finish_time: to_time_if(attempt.finish_ms),
        result: attempt.result as i32,
        failure: attempt.failure.map(|failure| to_failure(failure, View::Basic, Format::Omit)),
        run_duration: attempt.run_ms.map(to_span),
        wait_duration: Some(to_span(attempt.wait_ms.max(0))),
    }
}

/// Shows a failure; BASIC without stack traces and details.
pub fn to_failure(failure: Failure, view: View, format: Format) -> v1::Failure {
    let full = view == View::Full;
    v1::Failure {
        kind: failure.kind as i32,
        r#type: failure.class,
        message: failure.message,
        stack_trace: if full { failure.stack_trace } else { String::new() },
        details: failure.details.filter(|_| full).map(|details| format.write(details)),
        cause: failure.cause.map(|cause| Box::new(to_failure(*cause, view, format))),
    }
}

/// Reads a failure. Text that is too long is cut, causes that are too deep are dropped; only `details` can be refused.
pub fn failure(ctx: Ctx<'_>, value: v1::Failure) -> Parsed<Failure> {
    failure_at(ctx, value, FAILURE_DEPTH)
}

fn failure_at(ctx: Ctx<'_>, value: v1::Failure, depth: usize) -> Parsed<Failure> {
    let cause = match value.cause {
        Some(cause) if depth > 0 => Some(failure_at(ctx, *cause, depth - 1).map_err(|e| e.within("cause"))?.into()),
        _ => None,
    };
    Ok(Failure {
        kind: failure_kind(value.kind),
        class: cut(value.r#type, CLASS_BYTES),
        message: cut(value.message, FAILURE_MESSAGE_BYTES),
        stack_trace: cut_middle(value.stack_trace, FAILURE_STACK_BYTES),
        details: payload::payload(ctx, "details", value.details, ctx.limits.result_bytes)?,
        cause,
    })
}

fn failure_kind(value: i32) -> FailureKind {
    match v1::FailureKind::try_from(value).unwrap_or_default() {
        v1::FailureKind::Unspecified | v1::FailureKind::Application => FailureKind::Application,
        v1::FailureKind::Timeout => FailureKind::Timeout,
        v1::FailureKind::Stalled => FailureKind::Stalled,
        v1::FailureKind::WorkerLost => FailureKind::WorkerLost,
        v1::FailureKind::Cancelled => FailureKind::Cancelled,
        v1::FailureKind::Expired => FailureKind::Expired,
        v1::FailureKind::Dependency => FailureKind::Dependency,
        v1::FailureKind::Unprocessable => FailureKind::Unprocessable,
    }
}

pub fn to_progress(progress: Progress) -> v1::Progress {
    v1::Progress {
        percent: progress.percent,
        current: progress.current,
        total: progress.total,
        message: progress.message,
        data: (!progress.data.is_empty()).then(|| prost_types::Struct::decode(progress.data).unwrap_or_default()),
        update_time: to_time_if(progress.update_ms),
    }
}

/// Reads a report of progress; `None` when it makes no sense or is too large. Progress is a view, not a promise: a bad
/// report is dropped.
pub fn progress(ctx: Ctx<'_>, value: v1::Progress) -> Option<Progress> {
    let sound = value.percent.is_none_or(|percent| (0.0..=100.0).contains(&percent))
        && value.current >= 0
        && value.total >= 0
        && value.encoded_len() <= ctx.limits.progress_bytes;
    sound.then(|| Progress {
        percent: value.percent,
        current: value.current,
        total: value.total,
        message: value.message,
        data: value.data.map(|data| data.encode_to_vec().into()).unwrap_or_default(),
        update_ms: ctx.now_ms,
    })
}

pub fn to_log_line(line: LogLine) -> v1::LogLine {
    v1::LogLine {
        index: line.index as i64,
        time: Some(to_time(line.time_ms)),
        level: line.level.into(),
        message: line.message,
        fields: line.fields.into_iter().collect(),
        attempt: line.attempt as i32,
    }
}

/// Reads a log line; what is too long is cut.
pub fn log_line(ctx: Ctx<'_>, line: v1::LogLine) -> LogLine {
    let mut left = ctx.limits.log_line_bytes;
    let message = cut(line.message, left);
    left -= message.len();
    let fields = line
        .fields
        .into_iter()
        .take_while(|(key, value)| {
            let size = key.len() + value.len();
            let fits = size <= left;
            left = left.saturating_sub(size);
            fits
        })
        .collect();
    LogLine {
        index: 0,
        time_ms: line.time.and_then(|at| time("time", &at).ok()).unwrap_or(ctx.now_ms),
        level: u8::try_from(line.level).ok().filter(|level| *level <= 24).unwrap_or_default(),
        message,
        fields,
        attempt: 0,
    }
}

/// The least severe level to show, as a number of OpenTelemetry.
pub fn min_level(ctx: Ctx<'_>, value: i32) -> Parsed<u8> {
    choice(ctx, "min_level", value, |level: v1::LogLevel| level as u8)
}

/// An informational span: dropped when it makes no sense.
pub fn measured(value: Option<prost_types::Duration>) -> Option<i64> {
    value.and_then(|value| span("", &value, i64::MAX / 1_000_000).ok())
}

/// Ids of a list, each named by its place.
pub fn job_ids(field: &str, ids: &[String]) -> Parsed<Vec<JobId>> {
    ids.iter().enumerate().map(|(i, id)| super::job_id(&format!("{field}[{i}]"), id)).collect()
}
