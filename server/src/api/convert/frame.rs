//! Frames of workers: the hello, and everything after it.
use jobwire_proto::v1;

use super::{
    Ctx, LABEL_BYTES, Parsed, at_most, choice, count, cut,
    job::measured,
    outcome::{log_report, progress_report, report},
    text, time,
};
use crate::{
    api::status::{ApiError, Reason},
    model::{
        ids::{LeaseToken, Pattern},
        time::{MINUTE, SECOND},
        worker::{Capacity, Heartbeat, Held, Hello, Subscription, WorkerFrame, WorkerInfo, WorkerState},
    },
};

/// Types or subscriptions of one worker.
const PATTERNS: usize = 1_000;
/// A session's id.
const SESSION_BYTES: usize = 64;
/// Labels of a worker; more are dropped.
const LABELS: usize = 64;
/// The revision of the protocol that this server speaks.
pub const REVISION: i32 = 1;

/// A hello, and the tokens it named that are none: they are told back as lost.
pub struct Opening {
    pub hello: Hello,
    pub unknown: Vec<String>,
}

/// Reads the hello of a stream; paths in errors start with `hello`.
pub fn hello(ctx: Ctx<'_>, hello: v1::Hello) -> Parsed<Opening> {
    if hello.revision < 1 {
        let message = format!("revision {} is not spoken here; this server speaks {REVISION}", hello.revision);
        return Err(ApiError::new(Reason::RevisionUnsupported, message).at("hello.revision"));
    }
    hello_of(ctx, hello).map_err(|error| error.within("hello"))
}

fn hello_of(ctx: Ctx<'_>, hello: v1::Hello) -> Parsed<Opening> {
    let session_id = session_id("session_id", hello.session_id)?;
    let (types, subscriptions) = served(hello.types, hello.subscriptions)?;
    let info = worker_info(hello.info.unwrap_or_default());
    let worker_id = match (hello.worker_id.is_empty(), info.hostname.is_empty()) {
        (false, _) => cut(hello.worker_id, LABEL_BYTES),
        (true, false) => format!("{}:{}", info.hostname, info.pid),
        (true, true) => session_id.clone(),
    };
    let mut unknown = Vec::new();
    let mut held = Vec::with_capacity(hello.held.len());
    for lease in hello.held {
        match lease.lease_token.parse() {
            Ok(token) => held.push(Held { token, running_ms: measured(lease.running_for) }),
            Err(_) => unknown.push(cut(lease.lease_token, SESSION_BYTES)),
        }
    }
    let hello = Hello {
        session_id,
        worker_id,
        held,
        types,
        subscriptions,
        capacity: capacity(ctx, hello.capacity.unwrap_or_default())?,
        state: WorkerState::Active,
        info,
        revision: hello.revision,
        lease_ttl_ms: lease_wish(hello.lease_ttl),
    };
    Ok(Opening { hello, unknown })
}

/// A wish: brought into range, never refused.
fn lease_wish(wish: Option<prost_types::Duration>) -> Option<i64> {
    measured(wish).map(|ms| ms.clamp(10 * SECOND, 5 * MINUTE))
}

/// 1 to 64 printable bytes.
pub fn session_id(field: &str, value: String) -> Parsed<String> {
    if value.is_empty() || value.chars().any(char::is_control) {
        return Err(ApiError::field(field, format!("must be 1 to {SESSION_BYTES} printable bytes")));
    }
    at_most(field, value, SESSION_BYTES)
}

/// What a worker serves: its types, and its queues, which are those named like the types when it names none.
pub fn served(types: Vec<String>, subscriptions: Vec<v1::Subscription>) -> Parsed<(Vec<Pattern>, Vec<Subscription>)> {
    if types.is_empty() && subscriptions.is_empty() {
        return Err(ApiError::field("types", "name types, or subscriptions, or both"));
    }
    count("types", types.len(), PATTERNS)?;
    count("subscriptions", subscriptions.len(), PATTERNS)?;
    let types = types
        .iter()
        .enumerate()
        .map(|(i, pattern)| pattern_at(&format!("types[{i}]"), pattern))
        .collect::<Parsed<Vec<_>>>()?;
    let subscriptions = if subscriptions.is_empty() {
        let named_like =
            |queue: &Pattern| Subscription { queue: queue.clone(), weight: 1, strict: false, max_slots: 0 };
        types.iter().map(named_like).collect()
    } else {
        subscriptions
            .into_iter()
            .enumerate()
            .map(|(i, value)| subscription(value).map_err(|error| error.within(format_args!("subscriptions[{i}]"))))
            .collect::<Parsed<_>>()?
    };
    Ok((types, subscriptions))
}

fn pattern_at(field: &str, value: &str) -> Parsed<Pattern> {
    text(field, value)
        .map_err(|_| ApiError::field(field, "must match [A-Za-z0-9_.:/-]{1,128}, with or without a \"*\" at the end"))
}

fn subscription(value: v1::Subscription) -> Parsed<Subscription> {
    let positive =
        |field: &str, value: i32| u32::try_from(value).map_err(|_| ApiError::field(field, "must not be negative"));
    Ok(Subscription {
        queue: pattern_at("queue", &value.queue)?,
        weight: positive("weight", value.weight)?.clamp(1, 1_000),
        strict: value.strict,
        max_slots: positive("max_slots", value.max_slots)?,
    })
}

/// Reads a window. More slots than the server grants are cut.
fn capacity(ctx: Ctx<'_>, value: v1::Capacity) -> Parsed<Capacity> {
    let positive = |field: &str, value: i64| {
        u64::try_from(value).map_err(|_| ApiError::field(field, "must not be negative").within("capacity"))
    };
    let slots = positive("slots", value.slots.into())?;
    Ok(Capacity {
        slots: slots.min(ctx.limits.slots as u64) as u32,
        max_bytes: positive("max_bytes", value.max_bytes)?,
        concurrency: positive("concurrency", value.concurrency.into())? as u32,
    })
}

fn worker_info(info: v1::WorkerInfo) -> WorkerInfo {
    let label = |text| cut(text, LABEL_BYTES);
    WorkerInfo {
        hostname: label(info.hostname),
        pid: info.pid,
        sdk: label(info.sdk),
        sdk_version: label(info.sdk_version),
        runtime: label(info.runtime),
        app_version: label(info.app_version),
        labels: info.labels.into_iter().take(LABELS).map(|(key, value)| (label(key), label(value))).collect(),
        start_ms: info.start_time.and_then(|at| time("start_time", &at).ok()),
    }
}

/// Reads a frame after the hello, or what else travelled in the frame of the hello. Bad items are refused one by one; an
/// error ends the stream.
pub fn frame(ctx: Ctx<'_>, frame: v1::StreamJobsRequest) -> Parsed<WorkerFrame> {
    count("outcomes", frame.outcomes.len(), ctx.limits.outcomes)?;
    if frame.received_seq < 0 {
        return Err(ApiError::new(Reason::ProtocolViolation, "must not be negative").at("received_seq"));
    }
    let mut outcomes = Vec::with_capacity(frame.outcomes.len());
    let mut refused = Vec::new();
    for outcome in frame.outcomes {
        match report(ctx, outcome) {
            Ok(report) => outcomes.push(report),
            Err(refusal) => refused.push(refusal),
        }
    }
    Ok(WorkerFrame {
        seq: frame.seq,
        outcomes,
        refused,
        started: frame.started.iter().filter_map(|token| token.parse().ok()).collect(),
        received_seq: frame.received_seq,
        heartbeat: frame.heartbeat.map(heartbeat),
        progress: frame.progress.into_iter().filter_map(|report| progress_report(ctx, report)).collect(),
        logs: frame.logs.into_iter().filter_map(|report| log_report(ctx, report)).collect(),
        capacity: frame.capacity.map(|value| capacity(ctx, value)).transpose()?,
        state: choice(ctx, "state", frame.state, |state| match state {
            v1::WorkerState::Unspecified => None,
            v1::WorkerState::Active => Some(WorkerState::Active),
            v1::WorkerState::Quiet => Some(WorkerState::Quiet),
            v1::WorkerState::Draining => Some(WorkerState::Draining),
        })?,
    })
}

fn heartbeat(beat: v1::Heartbeat) -> Heartbeat {
    let (held, unknown) = tokens(beat.held);
    Heartbeat {
        held,
        unknown,
        running: u32::try_from(beat.running).unwrap_or_default(),
        rss_bytes: beat.rss_bytes.max(0),
        cpu_percent: if beat.cpu_percent.is_finite() { beat.cpu_percent.max(0.0) } else { 0.0 },
    }
}

/// Tokens, and what is none.
pub fn tokens(texts: Vec<String>) -> (Vec<LeaseToken>, Vec<String>) {
    let (mut tokens, mut unknown) = (Vec::with_capacity(texts.len()), Vec::new());
    for text in texts {
        match text.parse() {
            Ok(token) => tokens.push(token),
            Err(_) => unknown.push(cut(text, SESSION_BYTES)),
        }
    }
    (tokens, unknown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ids::JobId, limits::Limits};

    fn ctx(limits: &Limits) -> Ctx<'_> {
        Ctx { limits, now_ms: 0, strict: false }
    }

    fn read(change: impl FnOnce(&mut v1::Hello)) -> Parsed<Opening> {
        let mut value = v1::Hello {
            session_id: "s".into(),
            types: vec!["mail.*".into(), "sms".into()],
            revision: 1,
            ..Default::default()
        };
        change(&mut value);
        hello(ctx(&Limits::default()), value)
    }

    fn good(change: impl FnOnce(&mut v1::Hello)) -> Opening {
        read(change).unwrap_or_else(|error| panic!("{error}"))
    }

    fn refused(change: impl FnOnce(&mut v1::Hello)) -> String {
        read(change).map(|_| ()).expect_err("refused").into_item().field
    }

    #[test]
    fn queues_are_named_like_types_unless_said_otherwise() {
        let hello = good(|_| ()).hello;
        let queues: Vec<String> = hello.subscriptions.iter().map(|s| s.queue.to_string()).collect();
        assert_eq!(queues, ["mail.*", "sms"]);
        let other = v1::Subscription { queue: "q".into(), ..Default::default() };
        let hello = good(|h| h.subscriptions = vec![other]).hello;
        assert_eq!((hello.subscriptions.len(), hello.subscriptions[0].weight, hello.types.len()), (1, 1, 2));
    }

    #[test]
    fn what_a_hello_must_have() {
        assert_eq!(refused(|h| h.session_id.clear()), "hello.session_id");
        assert_eq!(refused(|h| h.session_id = "x".repeat(65)), "hello.session_id");
        assert_eq!(refused(|h| h.types.clear()), "hello.types");
        assert_eq!(refused(|h| h.types = vec!["a".into(); 1_001]), "hello.types");
        assert_eq!(refused(|h| h.types = vec!["a".into(), "a*b".into()]), "hello.types[1]");
        let slots = |slots| move |h: &mut v1::Hello| h.capacity = Some(v1::Capacity { slots, ..Default::default() });
        assert_eq!(refused(slots(-1)), "hello.capacity.slots");
        assert_eq!(good(slots(i32::MAX)).hello.capacity.slots, 10_000);
        let bytes = v1::Capacity { max_bytes: -1, ..Default::default() };
        assert_eq!(refused(|h| h.capacity = Some(bytes)), "hello.capacity.max_bytes");
        let unsupported = read(|h| h.revision = 0).map(|_| ()).expect_err("too old");
        assert_eq!(unsupported.reason(), Reason::RevisionUnsupported);
        assert_eq!(good(|h| h.revision = 9).hello.revision, 9);
    }

    #[test]
    fn wishes_and_names_are_brought_into_range() {
        let wish = |s| Some(prost_types::Duration { seconds: s, nanos: 0 });
        assert_eq!(good(|h| h.lease_ttl = wish(1)).hello.lease_ttl_ms, Some(10_000));
        assert_eq!(good(|h| h.lease_ttl = wish(1_000)).hello.lease_ttl_ms, Some(300_000));
        assert_eq!(good(|h| h.worker_id = "x".repeat(1_000)).hello.worker_id.len(), 256);
        let held = |token: &str| v1::HeldLease { lease_token: token.into(), running_for: None };
        let opening = good(|h| h.held = vec![held("garbage")]);
        assert_eq!((opening.hello.held.len(), opening.unknown), (0, vec!["garbage".to_owned()]));
    }

    #[test]
    fn a_frame_sorts_its_items() {
        let limits = Limits::default();
        let token = LeaseToken { job: JobId::from_bytes([1; 16]), secret: 7 };
        let outcome = |lease_token: String, result| v1::Outcome { lease_token, result, ..Default::default() };
        let done = || Some(v1::outcome::Result::Succeeded(v1::Succeeded::default()));
        let read = frame(
            ctx(&limits),
            v1::StreamJobsRequest {
                seq: 2,
                outcomes: vec![
                    outcome(token.encode(), done()),
                    outcome("?".into(), done()),
                    outcome(token.encode(), None),
                ],
                started: vec![token.encode(), "?".into()],
                heartbeat: Some(v1::Heartbeat {
                    held: vec![token.encode(), "?".into()],
                    cpu_percent: f64::NAN,
                    ..Default::default()
                }),
                state: 77,
                ..Default::default()
            },
        )
        .expect("a frame");
        assert_eq!((read.outcomes.len(), read.refused.len(), read.started.len(), read.state), (1, 2, 1, None));
        let beat = read.heartbeat.expect("a heartbeat");
        assert_eq!((beat.held, beat.unknown, beat.cpu_percent), (vec![token], vec!["?".to_owned()], 0.0));

        let many = v1::StreamJobsRequest { outcomes: vec![v1::Outcome::default(); 1_001], ..Default::default() };
        assert_eq!(frame(ctx(&limits), many).expect_err("too many").into_item().field, "outcomes");
        let negative = v1::Capacity { slots: -1, ..Default::default() };
        let shrunk = v1::StreamJobsRequest { capacity: Some(negative), ..Default::default() };
        assert_eq!(frame(ctx(&limits), shrunk).expect_err("negative").into_item().field, "capacity.slots");
    }
}
