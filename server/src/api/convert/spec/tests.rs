//! Every option of a job at its edges, and the stored task.
use prost_types::{Duration, Timestamp};

use super::*;
use crate::model::{
    job::{BodyKind, Payload},
    limits::Limits,
    time::DAY,
};

const NOW: i64 = 1_800_000_000_000;

fn read(change: impl FnOnce(&mut v1::JobSpec)) -> Parsed<JobSpec> {
    let mut spec = v1::JobSpec { r#type: "mail.send".into(), ..Default::default() };
    change(&mut spec);
    job_spec(Ctx { limits: &Limits::default(), now_ms: NOW, strict: true }, spec)
}

fn good(change: impl FnOnce(&mut v1::JobSpec)) -> JobSpec {
    read(change).unwrap_or_else(|error| panic!("{error}"))
}

/// The field that a refusal names.
fn refused(change: impl FnOnce(&mut v1::JobSpec)) -> String {
    let item = read(change).expect_err("refused").into_item();
    assert_eq!(item.reason, "INVALID_FIELD", "{item:?}");
    item.field
}

fn retry(change: impl FnOnce(&mut v1::RetryPolicy)) -> impl FnOnce(&mut v1::JobSpec) {
    |spec| change(spec.retry.get_or_insert_default())
}

fn seconds(seconds: i64) -> Duration {
    Duration { seconds, nanos: 0 }
}

#[test]
fn a_type_is_all_it_takes() {
    let spec = good(|_| ());
    assert_eq!(spec.kind.as_str(), "mail.send");
    assert_eq!((spec.queue, spec.id, spec.start, spec.timeout_ms), (None, None, Start::Now, None));
    assert_eq!(spec.retry, RetrySpec::default());
}

#[test]
fn names_and_ids() {
    assert_eq!(refused(|s| s.r#type.clear()), "type");
    for bad in ["a b", "a\0", "a\r\n", "{a}", "a*", "ä", "\u{202e}a", &"x".repeat(129)] {
        assert_eq!(refused(|s| s.queue = bad.into()), "queue", "{bad:?}");
    }
    good(|s| s.queue = "x".repeat(128));
    good(|s| s.queue = "a/../b:c.d".into());
    assert_eq!(refused(|s| s.id = "7".into()), "id");
    assert_eq!(refused(|s| s.parent_id = "7".into()), "parent_id");
}

#[test]
fn numbers() {
    for bad in [-5, 5, i32::MIN, i32::MAX] {
        assert_eq!(refused(|s| s.priority = bad), "priority");
    }
    assert_eq!(good(|s| s.priority = -4).priority, -4);
    assert_eq!(refused(retry(|r| r.max_attempts = -2)), "retry.max_attempts");
    assert_eq!(good(retry(|r| r.max_attempts = -1)).retry.max_attempts, Some(-1));
    for bad in [0.9, -1.0, f64::NAN, f64::INFINITY] {
        assert_eq!(refused(retry(|r| r.multiplier = bad)), "retry.multiplier", "{bad}");
    }
    for bad in [-0.1, 1.1, f64::NAN] {
        assert_eq!(refused(retry(|r| r.jitter = Some(bad))), "retry.jitter", "{bad}");
    }
    assert_eq!(refused(retry(|r| r.max_crashes = Some(-2))), "retry.max_crashes");
    assert_eq!(refused(retry(|r| r.on_exhausted = 9)), "retry.on_exhausted");
}

#[test]
fn spans_and_times() {
    assert_eq!(refused(|s| s.timeout = Some(seconds(0))), "timeout");
    assert_eq!(refused(|s| s.timeout = Some(seconds(30 * 86_400 + 1))), "timeout");
    assert_eq!(good(|s| s.timeout = Some(seconds(30 * 86_400))).timeout_ms, Some(30 * DAY));
    assert_eq!(refused(|s| s.start = Some(job_spec::Start::Delay(seconds(-1)))), "delay");
    assert_eq!(refused(|s| s.start = Some(job_spec::Start::Delay(seconds(3_654 * 86_400)))), "delay");
    let at = |seconds| Some(job_spec::Start::ScheduleTime(Timestamp { seconds, nanos: 0 }));
    assert_eq!(refused(|s| s.start = at(NOW / 1_000 + 3_654 * 86_400)), "schedule_time");
    assert_eq!(refused(|s| s.start = at(-62_135_596_801)), "schedule_time");
    assert_eq!(good(|s| s.start = at(1)).start, Start::At(1_000));
    let ttl = |s| Some(job_spec::Expiration::Ttl(seconds(s)));
    assert_eq!(refused(|s| s.expiration = ttl(0)), "ttl");
    let expire = |ms: i64| Some(job_spec::Expiration::ExpireTime(to_time(ms)));
    assert_eq!(refused(|s| s.expiration = expire(NOW)), "expire_time");
    assert_eq!(
        refused(|s| {
            s.start = Some(job_spec::Start::Delay(seconds(10)));
            s.expiration = expire(NOW + 10_000);
        }),
        "expire_time"
    );
    assert_eq!(good(|s| s.expiration = expire(NOW + 1)).expiry, Some(Expiry::At(NOW + 1)));
    assert_eq!(good(|s| s.retention = Some(seconds(0))).retention_ms, Some(0));
    assert_eq!(refused(|s| s.dead_retention = Some(seconds(-1))), "dead_retention");
    assert_eq!(refused(retry(|r| r.delays = vec![seconds(1), seconds(-1)])), "retry.delays[1]");
    assert_eq!(
        refused(retry(|r| {
            r.initial_delay = Some(seconds(2));
            r.max_delay = Some(seconds(1));
        })),
        "retry.max_delay"
    );
}

#[test]
fn headers_tags_and_payload() {
    let header = |key: &str, value: &str| {
        let pair = (key.to_owned(), value.to_owned());
        move |s: &mut v1::JobSpec| drop(s.headers.insert(pair.0, pair.1))
    };
    assert_eq!(refused(header("Upper", "x")), "headers");
    assert_eq!(refused(header("", "x")), "headers");
    assert_eq!(refused(header("jobwire-x", "x")), "headers[\"jobwire-x\"]");
    assert_eq!(refused(header("x", &"y".repeat(8 << 10))), "headers");
    assert_eq!(refused(|s| s.headers = (0..65).map(|i| (i.to_string(), String::new())).collect()), "headers");
    good(header("traceparent", "not a trace parent: carried unread"));
    good(header("jobwire-bind", "read by the SDKs of workers"));
    assert_eq!(refused(|s| s.tags = vec!["a".into(); 17]), "tags");
    assert_eq!(refused(|s| s.tags = vec!["a".into(), "x".repeat(65)]), "tags[1]");
    let body =
        |n: usize| Some(v1::Payload { body: Some(v1::payload::Body::Text("x".repeat(n))), ..Default::default() });
    good(|s| s.payload = body(1 << 20));
    assert_eq!(refused(|s| s.payload = body((1 << 20) + 1)), "payload");
}

#[test]
fn keys() {
    let unique =
        |change: fn(&mut v1::Unique)| move |spec: &mut v1::JobSpec| change(spec.unique.get_or_insert_default());
    let whole = good(unique(|_| ())).unique.expect("it is asked for");
    assert_eq!(
        whole,
        Unique { key: String::new(), hold: Hold::UntilFinished, conflict: Conflict::Keep, within_ms: None }
    );
    let asked = good(unique(|u| {
        u.key = "x".repeat(256);
        u.set_scope(v1::UniqueScope::ForTtl);
        u.ttl = Some(seconds(5));
        u.set_on_conflict(v1::UniqueConflict::Replace);
    }));
    let asked = asked.unique.expect("it is asked for");
    assert_eq!((asked.hold, asked.conflict), (Hold::For(5_000), Conflict::Replace));
    assert_eq!(refused(unique(|u| u.key = "x".repeat(257))), "unique.key");
    assert_eq!(refused(unique(|u| u.scope = 9)), "unique.scope");
    assert_eq!(refused(unique(|u| u.on_conflict = 9)), "unique.on_conflict");
    assert_eq!(refused(unique(|u| u.ttl = Some(seconds(1)))), "unique.ttl");
    assert_eq!(refused(unique(|u| u.set_scope(v1::UniqueScope::ForTtl))), "unique.ttl");
    let debounce = good(unique(|u| {
        u.ttl = Some(seconds(5));
        u.set_on_conflict(v1::UniqueConflict::Debounce);
    }));
    let debounce = debounce.unique.expect("it is asked for");
    assert_eq!((debounce.hold, debounce.within_ms), (Hold::UntilFinished, Some(5_000)));
    let last = good(unique(|u| u.set_on_conflict(v1::UniqueConflict::KeepLast))).unique.expect("it is asked for");
    assert_eq!((last.hold, last.conflict), (Hold::KeepLast, Conflict::KeepLast));
    let with_scope = |spec: &mut v1::JobSpec| {
        let unique = spec.unique.get_or_insert_default();
        unique.set_on_conflict(v1::UniqueConflict::KeepLast);
        unique.set_scope(v1::UniqueScope::UntilStarted);
    };
    assert_eq!(refused(with_scope), "unique.scope");
    let with_ttl = |spec: &mut v1::JobSpec| {
        let unique = spec.unique.get_or_insert_default();
        unique.set_on_conflict(v1::UniqueConflict::KeepLast);
        unique.ttl = Some(seconds(5));
    };
    assert_eq!(refused(with_ttl), "unique.ttl");

    assert_eq!(good(|s| s.idempotency_key = "a".into()).idempotency, Some(("a".into(), DAY)));
    assert_eq!(refused(|s| s.idempotency_key = "x".repeat(257)), "idempotency_key");
    assert_eq!(refused(|s| s.idempotency_ttl = Some(seconds(1))), "idempotency_ttl");
    for bad in [0, -1, 31 * 86_400] {
        let change = |s: &mut v1::JobSpec| {
            (s.idempotency_key, s.idempotency_ttl) = ("a".into(), Some(seconds(bad)));
        };
        assert_eq!(refused(change), "idempotency_ttl", "{bad}");
    }
}

#[test]
fn times_of_an_attempt_and_of_a_life_are_bounded() {
    let spec = good(|s| (s.heartbeat_timeout, s.total_timeout) = (Some(seconds(5)), Some(seconds(60))));
    assert_eq!((spec.heartbeat_ms, spec.total_ms), (Some(5_000), Some(60_000)));
    for bad in [0, -1, 31 * 86_400] {
        assert_eq!(refused(|s| s.heartbeat_timeout = Some(seconds(bad))), "heartbeat_timeout", "{bad}");
    }
    for bad in [0, -1, 11 * 366 * 86_400] {
        assert_eq!(refused(|s| s.total_timeout = Some(seconds(bad))), "total_timeout", "{bad}");
    }
}

#[test]
fn on_streams_unknown_enum_values_mean_nothing() {
    let spec = v1::JobSpec {
        r#type: "a".into(),
        retry: Some(v1::RetryPolicy { on_exhausted: 9, ..Default::default() }),
        ..Default::default()
    };
    let ctx = Ctx { limits: &Limits::default(), now_ms: NOW, strict: false };
    assert_eq!(job_spec(ctx, spec).expect("valid").retry.on_exhausted, None);
}

#[test]
fn a_stored_task_reads_back() {
    let task = Task {
        kind: "a".parse().expect("a name"),
        queue: "b".parse().expect("a name"),
        payload: Some(Payload {
            kind: BodyKind::Text,
            bytes: "{}".into(),
            content_type: "application/json".into(),
            content_encoding: String::new(),
        }),
        headers: vec![("traceparent".into(), "00".into())],
        tags: vec!["t".into()],
        parent: Some(JobId::from_bytes([8; 16])),
        fairness_key: "tenant-7".to_owned(),
        tick: Some(Tick { schedule: "nightly".parse().expect("a name"), fire_ms: NOW }),
        depends_on: Vec::new(),
        member: None,
    };
    assert_eq!(ProtoTasks.decode(&ProtoTasks.encode(task.clone())), Some(task.clone()));
    assert_eq!(ProtoTasks.decode(&Bytes::from_static(b"\xff")), None);
    // What the record says is not stored a second time.
    let alone = Task {
        queue: task.kind.clone(),
        payload: None,
        headers: vec![],
        tags: vec![],
        parent: None,
        fairness_key: String::new(),
        tick: None,
        ..task
    };
    let encoded = ProtoTasks.encode(alone.clone());
    assert_eq!(encoded.len(), 3, "the type alone");
    assert_eq!(ProtoTasks.decode(&encoded), Some(alone));
}

#[test]
fn a_worker_gets_the_task_with_what_the_record_says() {
    let meta = Meta { priority: -3, create_ms: NOW, ..meta() };
    // As it was stored by a version that kept all of it.
    let stored = v1::Task { id: "old".into(), r#type: "a".into(), queue: "old".into(), ..Default::default() };
    let task = ProtoTasks.complete(&stored.encode_to_vec().into(), &meta);
    let task = v1::Task::decode(task).expect("a task");
    assert_eq!((task.id, task.r#type, task.queue), (meta.id.to_string(), "a".into(), "q".into()));
    assert_eq!((task.priority, task.create_time), (-3, Some(to_time(NOW))));
}

fn meta() -> Meta {
    Meta {
        id: JobId::from_bytes([9; 16]),
        state: crate::model::state::State::Running,
        queue: "q".parse().expect("a name"),
        kind: "a".parse().expect("a name"),
        priority: 0,
        failures: 0,
        crashes: 0,
        delivery: 1,
        started: false,
        create_ms: 0,
        ready_ms: 0,
        start_ms: 0,
        finish_ms: 0,
        expire_ms: 0,
        deadline_ms: 0,
        purge_ms: 0,
        cancel: None,
        version: 1,
        content: 0,
        order: 0,
        watched: false,
    }
}
