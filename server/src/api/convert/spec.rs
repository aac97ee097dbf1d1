//! What a producer asks for, and the stored form of what a worker gets.
use bytes::{Bytes, BytesMut};
use jobwire_proto::v1::{self, job_spec};
use prost::Message as _;
use uuid::Uuid;

use super::{
    Ctx, Parsed, choice, count, job_id, name, payload::payload, payload::raw, positive_span, span, time, to_time,
    workflow,
};
use crate::{
    api::status::ApiError,
    model::{
        ids::JobId,
        job::{Conflict, Expiry, JobSpec, Meta, Start, Task, TaskCodec, Unique},
        op::Hold,
        policy::{Exhausted, RetrySpec},
        schedule::{ScheduleSpec, Tick},
        workflow::{Member, Target},
    },
};

/// Entries of `delays` and of `non_retryable_types`.
const RETRY_LIST: usize = 100;
/// One entry of `non_retryable_types`.
const FAILURE_TYPE_BYTES: usize = 256;
/// A uniqueness or idempotency key.
const KEY_BYTES: usize = 256;
/// How long an idempotency key is remembered: by default, and at most.
const IDEMPOTENCY_MS: (i64, i64) = (24 * 3_600_000, 30 * 24 * 3_600_000);
/// Keys that begin like this are the server's own.
const RESERVED_HEADERS: &str = "jobwire-";
/// The one of them that builders of workflows write, for the SDKs of workers: docs/sdk-protocol.md.
const BIND_HEADER: &str = "jobwire-bind";

/// Reads the specification of a job that is in no workflow. Paths in errors start inside it.
pub fn job_spec(ctx: Ctx<'_>, spec: v1::JobSpec) -> Parsed<JobSpec> {
    let spec = node_job(ctx, spec)?;
    let place = spec.depends_on.iter().position(|dependency| !matches!(dependency.target, Target::Job(_)));
    match place {
        Some(i) => Err(ApiError::field(format!("depends_on[{i}]"), "must be a job_id: this job is in no workflow")),
        None => Ok(spec),
    }
}

/// The same for a job that waits for nothing, which `why` says.
pub fn free_job(ctx: Ctx<'_>, spec: v1::JobSpec, why: &str) -> Parsed<JobSpec> {
    if spec.depends_on.is_empty() { job_spec(ctx, spec) } else { Err(ApiError::field("depends_on", why)) }
}

/// Reads the specification of a job of a workflow. Paths in errors start inside it.
pub fn node_job(ctx: Ctx<'_>, spec: v1::JobSpec) -> Parsed<JobSpec> {
    let kind = name("type", &spec.r#type)?;
    let queue = optional_name("queue", &spec.queue)?;
    let start = match spec.start {
        None => Start::Now,
        Some(job_spec::Start::ScheduleTime(at)) => Start::At(start_time(ctx, "schedule_time", &at)?),
        Some(job_spec::Start::Delay(delay)) => Start::In(span("delay", &delay, ctx.limits.delay_ms)?),
    };
    let expiry = match spec.expiration {
        None => None,
        Some(job_spec::Expiration::Ttl(ttl)) => {
            Some(Expiry::AfterStart(positive_span("ttl", &ttl, ctx.limits.delay_ms)?))
        }
        Some(job_spec::Expiration::ExpireTime(at)) => Some(Expiry::At(expire_time(ctx, start, &at)?)),
    };
    let keeps_last = |unique: &v1::Unique| unique.on_conflict == v1::UniqueConflict::KeepLast as i32;
    if spec.unique.as_ref().is_some_and(keeps_last) && !spec.depends_on.is_empty() {
        return Err(ApiError::field("depends_on", "does not go with UNIQUE_CONFLICT_KEEP_LAST"));
    }
    Ok(JobSpec {
        id: match spec.id.as_str() {
            "" => None,
            id => Some(Uuid::try_parse(id).map_err(|_| ApiError::field("id", "must be a UUID"))?),
        },
        kind,
        queue,
        payload: payload(ctx, "payload", spec.payload, ctx.limits.payload_bytes)?,
        headers: headers(ctx, spec.headers)?,
        priority: priority("priority", spec.priority)?,
        start,
        expiry,
        timeout_ms: timeout(ctx, "timeout", spec.timeout.as_ref())?,
        heartbeat_ms: timeout(ctx, "heartbeat_timeout", spec.heartbeat_timeout.as_ref())?,
        total_ms: spec
            .total_timeout
            .map(|total| positive_span("total_timeout", &total, ctx.limits.delay_ms))
            .transpose()?,
        retry: spec
            .retry
            .map(|retry| retry_spec(ctx, retry))
            .transpose()
            .map_err(|e| e.within("retry"))?
            .unwrap_or_default(),
        tags: tags(ctx, spec.tags)?,
        retention_ms: retention(ctx, "retention", spec.retention.as_ref())?,
        dead_retention_ms: retention(ctx, "dead_retention", spec.dead_retention.as_ref())?,
        parent: match spec.parent_id.as_str() {
            "" => None,
            id => Some(job_id("parent_id", id)?),
        },
        fairness_key: {
            key("fairness_key", &spec.fairness_key)?;
            spec.fairness_key
        },
        unique: spec.unique.map(|asked| unique(ctx, asked)).transpose().map_err(|e| e.within("unique"))?,
        idempotency: idempotency(spec.idempotency_key, spec.idempotency_ttl.as_ref())?,
        tick: None,
        depends_on: workflow::dependencies(ctx, spec.depends_on)?,
        member: None,
    })
}

fn unique(ctx: Ctx<'_>, asked: v1::Unique) -> Parsed<Unique> {
    key("key", &asked.key)?;
    let scope = choice(ctx, "scope", asked.scope, |scope: v1::UniqueScope| scope)?;
    let conflict = choice(ctx, "on_conflict", asked.on_conflict, |conflict| match conflict {
        v1::UniqueConflict::Unspecified | v1::UniqueConflict::Keep => Conflict::Keep,
        v1::UniqueConflict::Reject => Conflict::Reject,
        v1::UniqueConflict::Replace => Conflict::Replace,
        v1::UniqueConflict::Debounce => Conflict::Debounce,
        v1::UniqueConflict::KeepLast => Conflict::KeepLast,
    })?;
    let ttl_ms = asked.ttl.map(|ttl| positive_span("ttl", &ttl, ctx.limits.delay_ms)).transpose()?;
    let hold = match (scope, ttl_ms, conflict) {
        (v1::UniqueScope::ForTtl, None, _) => {
            return Err(ApiError::field("ttl", "is required with UNIQUE_SCOPE_FOR_TTL"));
        }
        (v1::UniqueScope::ForTtl | v1::UniqueScope::UntilStarted, _, Conflict::KeepLast) => {
            return Err(ApiError::field("scope", "must be UNIQUE_SCOPE_UNTIL_FINISHED with UNIQUE_CONFLICT_KEEP_LAST"));
        }
        (v1::UniqueScope::ForTtl, Some(ttl_ms), _) => Hold::For(ttl_ms),
        (_, Some(_), Conflict::Keep | Conflict::Reject | Conflict::Replace | Conflict::KeepLast) => {
            return Err(ApiError::field("ttl", "goes with UNIQUE_SCOPE_FOR_TTL or UNIQUE_CONFLICT_DEBOUNCE only"));
        }
        (v1::UniqueScope::Unspecified | v1::UniqueScope::UntilFinished, _, Conflict::KeepLast) => Hold::KeepLast,
        (v1::UniqueScope::Unspecified | v1::UniqueScope::UntilFinished, _, _) => Hold::UntilFinished,
        (v1::UniqueScope::UntilStarted, _, _) => Hold::UntilStarted,
    };
    let within_ms = ttl_ms.filter(|_| conflict == Conflict::Debounce);
    Ok(Unique { key: asked.key, hold, conflict, within_ms })
}

fn idempotency(named: String, ttl: Option<&prost_types::Duration>) -> Parsed<Option<(String, i64)>> {
    key("idempotency_key", &named)?;
    let keep_ms = ttl.map(|ttl| positive_span("idempotency_ttl", ttl, IDEMPOTENCY_MS.1)).transpose()?;
    match (named.is_empty(), keep_ms) {
        (true, None) => Ok(None),
        (true, Some(_)) => Err(ApiError::field("idempotency_ttl", "goes with idempotency_key only")),
        (false, keep_ms) => Ok(Some((named, keep_ms.unwrap_or(IDEMPOTENCY_MS.0)))),
    }
}

pub fn key(field: &str, key: &str) -> Parsed<()> {
    if key.len() <= KEY_BYTES {
        Ok(())
    } else {
        Err(ApiError::field(field, format!("must have at most {KEY_BYTES} bytes")))
    }
}

pub fn optional_name(field: &str, value: &str) -> Parsed<Option<crate::model::ids::Name>> {
    if value.is_empty() { Ok(None) } else { name(field, value).map(Some) }
}

/// −4 to 4.
pub fn priority(field: &str, value: i32) -> Parsed<i8> {
    match i8::try_from(value) {
        Ok(priority @ -4..=4) => Ok(priority),
        _ => Err(ApiError::field(field, "must be -4 to 4")),
    }
}

/// A start that does not lie too far ahead; one in the past means now.
pub fn start_time(ctx: Ctx<'_>, field: &str, at: &prost_types::Timestamp) -> Parsed<i64> {
    let at = time(field, at)?;
    if at.saturating_sub(ctx.now_ms) > ctx.limits.delay_ms {
        return Err(ApiError::field(field, format!("must be at most {} s ahead", ctx.limits.delay_ms / 1_000)));
    }
    Ok(at)
}

fn expire_time(ctx: Ctx<'_>, start: Start, at: &prost_types::Timestamp) -> Parsed<i64> {
    let at = time("expire_time", at)?;
    let start = match start {
        Start::Now => ctx.now_ms,
        Start::At(start) => start.max(ctx.now_ms),
        Start::In(delay) => ctx.now_ms.saturating_add(delay),
    };
    if at <= start {
        return Err(ApiError::field("expire_time", "must be after the start"));
    }
    Ok(at)
}

/// Longest run, or silence, of an attempt: more than 0, at most 30 days.
pub fn timeout(ctx: Ctx<'_>, field: &str, value: Option<&prost_types::Duration>) -> Parsed<Option<i64>> {
    value.map(|value| positive_span(field, value, ctx.limits.timeout_ms)).transpose()
}

pub fn retention(ctx: Ctx<'_>, field: &str, value: Option<&prost_types::Duration>) -> Parsed<Option<i64>> {
    value.map(|value| span(field, value, ctx.limits.delay_ms)).transpose()
}

fn headers(ctx: Ctx<'_>, headers: std::collections::BTreeMap<String, String>) -> Parsed<Vec<(String, String)>> {
    count("headers", headers.len(), ctx.limits.headers)?;
    let bytes: usize = headers.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > ctx.limits.headers_bytes {
        let most = ctx.limits.headers_bytes;
        return Err(ApiError::field(
            "headers",
            format!("keys and values are {bytes} bytes; at most {most} are allowed"),
        ));
    }
    for key in headers.keys() {
        let plain = |b: u8| b.is_ascii_graphic() && !b.is_ascii_uppercase();
        if key.is_empty() || !key.bytes().all(plain) {
            return Err(ApiError::field("headers", "keys must be lower-case ASCII without blanks"));
        }
        if key.starts_with(RESERVED_HEADERS) && key != BIND_HEADER {
            return Err(ApiError::field(format!("headers[\"{key}\"]"), "keys starting with \"jobwire-\" are reserved"));
        }
    }
    Ok(headers.into_iter().collect())
}

pub fn tags(ctx: Ctx<'_>, tags: Vec<String>) -> Parsed<Vec<String>> {
    count("tags", tags.len(), ctx.limits.tags)?;
    for (i, tag) in tags.iter().enumerate() {
        if tag.is_empty() || tag.len() > ctx.limits.tag_bytes || tag.chars().any(char::is_control) {
            let most = ctx.limits.tag_bytes;
            return Err(ApiError::field(format!("tags[{i}]"), format!("must be 1 to {most} printable bytes")));
        }
    }
    Ok(tags)
}

/// Reads a retry policy; what is unset stays unset.
pub fn retry_spec(ctx: Ctx<'_>, retry: v1::RetryPolicy) -> Parsed<RetrySpec> {
    let delay = |field: &str, value: &Option<prost_types::Duration>| {
        value.as_ref().map(|value| span(field, value, ctx.limits.delay_ms)).transpose()
    };
    let max_attempts = match retry.max_attempts {
        0 => None,
        n if n >= -1 => Some(n),
        _ => return Err(ApiError::field("max_attempts", "must be -1 (no limit), or at least 1")),
    };
    if retry.multiplier != 0.0 && !(1.0..f64::INFINITY).contains(&retry.multiplier) {
        return Err(ApiError::field("multiplier", "must be a finite number of at least 1"));
    }
    if retry.jitter.is_some_and(|jitter| !(0.0..=1.0).contains(&jitter)) {
        return Err(ApiError::field("jitter", "must be 0 to 1"));
    }
    if retry.max_crashes.is_some_and(|n| n < -1) {
        return Err(ApiError::field("max_crashes", "must be -1 (no limit), or at least 0"));
    }
    let initial_delay_ms = delay("initial_delay", &retry.initial_delay)?;
    let max_delay_ms = delay("max_delay", &retry.max_delay)?;
    if let (Some(first), Some(most)) = (initial_delay_ms, max_delay_ms)
        && most < first
    {
        return Err(ApiError::field("max_delay", "must be at least initial_delay"));
    }
    count("delays", retry.delays.len(), RETRY_LIST)?;
    count("non_retryable_types", retry.non_retryable_types.len(), RETRY_LIST)?;
    for (i, kind) in retry.non_retryable_types.iter().enumerate() {
        if kind.is_empty() || kind.len() > FAILURE_TYPE_BYTES {
            let field = format!("non_retryable_types[{i}]");
            return Err(ApiError::field(field, format!("must be 1 to {FAILURE_TYPE_BYTES} bytes")));
        }
    }
    Ok(RetrySpec {
        max_attempts,
        initial_delay_ms,
        multiplier: (retry.multiplier != 0.0).then_some(retry.multiplier),
        max_delay_ms,
        jitter: retry.jitter,
        delays_ms: retry
            .delays
            .iter()
            .enumerate()
            .map(|(i, value)| span(&format!("delays[{i}]"), value, ctx.limits.delay_ms))
            .collect::<Parsed<_>>()?,
        non_retryable_types: retry.non_retryable_types,
        max_crashes: retry.max_crashes,
        on_exhausted: choice(ctx, "on_exhausted", retry.on_exhausted, |action| match action {
            v1::ExhaustedAction::Unspecified => None,
            v1::ExhaustedAction::Dead => Some(Exhausted::Dead),
            v1::ExhaustedAction::Discard => Some(Exhausted::Discard),
        })?,
    })
}

/// The stored form of a [`Task`]: the contract's message `Task`, spliced into each lease as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProtoTasks;

impl TaskCodec for ProtoTasks {
    fn encode(&self, task: Task) -> Bytes {
        // Id, priority and time are in the record, and so is the queue; but a queue that is not named like the type is kept, so
        // that the job could be put right if the names of queues were lost.
        let queue = if task.queue == task.kind { String::new() } else { task.queue.to_string() };
        v1::Task {
            r#type: task.kind.to_string(),
            payload: task.payload.map(raw),
            headers: task.headers.into_iter().collect(),
            queue,
            tags: task.tags,
            fairness_key: task.fairness_key,
            parent_id: task.parent.map(|id| id.to_string()).unwrap_or_default(),
            fire_time: task.tick.as_ref().map(|tick| to_time(tick.fire_ms)),
            schedule_id: task.tick.map(|tick| tick.schedule.to_string()).unwrap_or_default(),
            workflow_id: task.member.as_ref().map(|member| member.workflow.to_string()).unwrap_or_default(),
            node: task.member.and_then(|member| member.node).map(|node| node.to_string()).unwrap_or_default(),
            depends_on: task.depends_on.into_iter().map(workflow::to_dependency).collect(),
            ..Default::default()
        }
        .encode_to_vec()
        .into()
    }

    fn decode(&self, bytes: &Bytes) -> Option<Task> {
        let task = v1::Task::decode(bytes.clone()).ok()?;
        Some(Task {
            queue: if task.queue.is_empty() { &task.r#type } else { &task.queue }.parse().ok()?,
            kind: task.r#type.parse().ok()?,
            payload: task.payload.and_then(stored_payload),
            headers: task.headers.into_iter().collect(),
            tags: task.tags,
            fairness_key: task.fairness_key,
            parent: task.parent_id.parse::<JobId>().ok(),
            tick: match task.fire_time {
                Some(at) => {
                    Some(Tick { schedule: task.schedule_id.parse().ok()?, fire_ms: time("fire_time", &at).ok()? })
                }
                None => None,
            },
            depends_on: task.depends_on.into_iter().map(workflow::stored_dependency).collect::<Option<_>>()?,
            member: match task.workflow_id.as_str() {
                "" => None,
                id => Some(Member { workflow: id.parse().ok()?, node: task.node.parse().ok() }),
            },
        })
    }

    fn schedule(&self, encoded: &Bytes) -> Option<ScheduleSpec> {
        super::schedule::stored(encoded)
    }

    /// One message after the other is both in one; of a field that is in both the later counts.
    fn complete(&self, encoded: &Bytes, meta: &Meta) -> Bytes {
        let rest = v1::Task {
            id: meta.id.to_string(),
            queue: meta.queue.to_string(),
            priority: meta.priority.into(),
            create_time: Some(to_time(meta.create_ms)),
            ..Default::default()
        };
        let mut task = BytesMut::with_capacity(encoded.len() + rest.encoded_len());
        task.extend_from_slice(encoded);
        rest.encode(&mut task).expect("there is room");
        task.freeze()
    }
}

fn stored_payload(payload: v1::Payload) -> Option<crate::model::job::Payload> {
    use crate::model::job::{BodyKind, Payload};
    let (kind, bytes) = match payload.body? {
        v1::payload::Body::Text(text) => (BodyKind::Text, text.into()),
        v1::payload::Body::Data(bytes) => (BodyKind::Data, bytes),
        // Written down as text before it is stored.
        v1::payload::Body::Json(_) => return None,
    };
    Some(Payload { kind, bytes, content_type: payload.content_type, content_encoding: payload.content_encoding })
}

#[cfg(test)]
mod tests;
