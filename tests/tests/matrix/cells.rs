//! What is tried with each producer and each worker: the scene, and what has to be seen of it.
use std::time::Duration;

use jobwire_tests::exact::Exact;
use serde_json::json;

use crate::{
    bodies,
    scene::{Enqueued, Error, Options, Progress, Retry, Saw, Scene, Status, Unique},
};

/// One row of the matrix.
pub struct Cell {
    pub name: &'static str,
    /// `place` is unlike that of any other cell; `queue` is the worker's.
    pub scene: fn(place: &str, queue: &'static str) -> Scene,
    /// Panics when something else was seen.
    pub check: fn(&Saw),
    /// The scene has to take so long.
    pub takes: Duration,
}

const AT_ONCE: Duration = Duration::ZERO;
/// Delay that handlers ask for, ms.
const LATER: u64 = 300;
const TOLD_LATER: Duration = Duration::from_millis(LATER);
/// Would show if a handler's own delay were not obeyed.
const SOON: Retry = Retry { max_attempts: 5, initial_delay: "20ms" };

macro_rules! cells {
    ($($name:literal, $takes:expr, $scene:expr, $check:expr;)*) => {
        &[$(Cell { name: $name, takes: $takes, scene: $scene, check: $check }),*]
    };
}

/// All of them.
pub const CELLS: &[Cell] = cells! {
    "ok", AT_ONCE, |_, queue| scene("conf.echo", queue, bodies::PLAIN), |saw| echoed(saw, bodies::PLAIN);
    "retry", AT_ONCE,
        |_, queue| Scene { options: retry(queue), ..scene("conf.fail", queue, r#"{"times": 1, "message": "once"}"#) },
        |saw| succeeded(saw, r#"{"attempt": 2}"#, 2, 2);
    "attempts used up", AT_ONCE,
        |_, queue| Scene {
            options: Options { retry: Some(Retry { max_attempts: 2, ..SOON }), ..on(queue) },
            ..scene("conf.fail", queue, r#"{"message": "as always"}"#)
        },
        |saw| {
            let error = failed(saw, "JobFailed", "dead", 2);
            assert_eq!((&*error.kind, &*error.message), ("application", "as always"));
            assert!(error.r#type.ends_with("ConfError"), "{error:?}");
        };
    "Retry-After", TOLD_LATER,
        |_, queue| Scene { options: retry(queue), ..scene("conf.retry_after", queue, &format!(r#"{{"ms": {LATER}}}"#)) },
        |saw| succeeded(saw, r#"{"attempt": 2}"#, 2, 2);
    "non-retryable", AT_ONCE,
        |_, queue| Scene { options: retry(queue), ..scene("conf.no_retry", queue, "{}") },
        |saw| assert_eq!(failed(saw, "JobFailed", "dead", 1).message, "hopeless");
    "discard", AT_ONCE,
        |_, queue| Scene { options: retry(queue), ..scene("conf.discard", queue, "{}") },
        |saw| assert_eq!(failed(saw, "JobFailed", "discarded", 1).message, "nobody cares");
    "snooze", TOLD_LATER,
        |_, queue| scene("conf.snooze", queue, &format!(r#"{{"ms": {LATER}}}"#)),
        |saw| succeeded(saw, r#"{"delivery": 2}"#, 1, 2);
    "release", AT_ONCE,
        |_, queue| scene("conf.release", queue, "{}"),
        |saw| succeeded(saw, r#"{"delivery": 2}"#, 1, 2);
    "cancel", AT_ONCE,
        |_, queue| Scene { cancel: Some("not wanted any more"), ..scene("conf.wait", queue, "{}") },
        |saw| {
            let error = failed(saw, "JobCancelled", "cancelled", 0);
            assert!(error.message.contains("not wanted any more"), "{error:?}");
            assert!(saw.states.iter().any(|state| state == "running"), "{:?}", saw.states);
        };
    "timeout", AT_ONCE,
        |_, queue| Scene {
            options: Options { timeout: Some("300ms"), retry: Some(Retry { max_attempts: 1, ..SOON }), ..on(queue) },
            ..scene("conf.wait", queue, "{}")
        },
        |saw| assert_eq!(failed(saw, "JobFailed", "dead", 1).kind, "timeout");
    "progress", AT_ONCE, |_, queue| watched("conf.progress", queue), |saw| {
        succeeded(saw, "{}", 1, 1);
        let data = Some(Exact::parse(r#"{"k": 1}"#).expect("JSON"));
        let half = Progress { percent: None, current: 5, total: 10, message: "half".to_owned(), data };
        assert_eq!(saw.progress.last(), Some(&half));
    };
    "logs", AT_ONCE, |_, queue| watched("conf.log", queue), |saw| {
        succeeded(saw, "{}", 1, 1);
        let lines: Vec<_> = saw.logs.iter().map(|(level, line)| (&**level, &**line)).collect();
        assert_eq!(lines, [("info", "one"), ("warn", "two"), ("error", "three")]);
    };
    "checkpoint", AT_ONCE,
        |_, queue| Scene { options: retry(queue), ..scene("conf.checkpoint", queue, "{}") },
        |saw| succeeded(saw, r#"{"checkpoint": {"step": 1}}"#, 2, 2);
    "headers and tags", AT_ONCE,
        |_, queue| {
            let headers = json!({"traceparent": bodies::TRACE, "tenant": "Zoë ☃"});
            let headers = headers.as_object().cloned().unwrap_or_default();
            Scene {
                options: Options { tags: vec!["vip", "π"], headers, ..on(queue) },
                ..scene("conf.context", queue, "{}")
            }
        },
        |saw| {
            let facts = json!({"headers": {"traceparent": bodies::TRACE, "tenant": "Zoë ☃"}, "tags": ["vip", "π"]});
            echoed(saw, &facts.to_string());
        };
    "large payload", AT_ONCE,
        |_, queue| scene("conf.echo", queue, &bodies::large()), |saw| echoed(saw, &bodies::large());
    "Unicode", AT_ONCE,
        |_, queue| scene("conf.copy", queue, &bodies::unicode()), |saw| echoed(saw, &bodies::unicode());
    "keys of every kind", AT_ONCE,
        |_, queue| scene("conf.copy", queue, &bodies::keys()), |saw| echoed(saw, &bodies::keys());
    "integers beyond 2^53", AT_ONCE,
        |_, queue| scene("conf.add", queue, bodies::BEYOND_53),
        |saw| succeeded(saw, bodies::BEYOND_53_AND_ONE, 1, 1);
    "integers beyond 2^64", AT_ONCE,
        |_, queue| scene("conf.add", queue, bodies::BEYOND_64),
        |saw| succeeded(saw, bodies::BEYOND_64_AND_ONE, 1, 1);
    "integers of any size", AT_ONCE,
        |_, queue| scene("conf.echo", queue, &bodies::huge()), |saw| echoed(saw, &bodies::huge());
    "floats", AT_ONCE,
        |_, queue| scene("conf.copy", queue, bodies::FLOATS), |saw| echoed(saw, bodies::FLOATS);
    "deep nesting", AT_ONCE,
        |_, queue| scene("conf.copy", queue, &bodies::deep()), |saw| echoed(saw, &bodies::deep());
    "unique: the first is kept", AT_ONCE, |place, queue| twice(place, queue, "keep"), |saw| {
        assert_eq!(statuses(saw), ["created", "kept"]);
        one_job(saw);
        succeeded(saw, r#"{"n": 1}"#, 1, 1);
    };
    "unique: the second is refused", AT_ONCE, |place, queue| twice(place, queue, "reject"), |saw| {
        assert_eq!(statuses(saw), ["created", "AlreadyExists"]);
        let refused = saw.enqueued[1].error.as_ref().map(|error| &error.job_id);
        assert_eq!(refused, Some(&saw.enqueued[0].id), "it names the job that is in the way");
        succeeded(saw, r#"{"n": 1}"#, 1, 1);
    };
    "unique: the second replaces the first", AT_ONCE, |place, queue| twice(place, queue, "replace"), |saw| {
        assert_eq!(statuses(saw), ["created", "replaced"]);
        succeeded(saw, r#"{"n": 2}"#, 1, 1);
    };
    "idempotency", AT_ONCE,
        |place, queue| {
            let key = format!("order {place}");
            let payloads = vec![Exact::parse(r#"{"n": 1}"#).expect("JSON"); 2];
            Scene { options: Options { idempotency_key: Some(key), ..waiting(queue) }, payloads, ..two_payloads() }
        },
        |saw| {
            assert_eq!(statuses(saw), ["created", "duplicate"]);
            one_job(saw);
            succeeded(saw, r#"{"n": 1}"#, 1, 1);
        };
};

/// A job with a trace, whose handler enqueues another one.
pub fn parent(queue: &'static str, child: &str) -> Scene {
    let traceparent = format!("00-{}-00f067aa0ba902b7-01", bodies::TRACE_ID);
    let headers = json!({"traceparent": traceparent}).as_object().cloned().unwrap_or_default();
    Scene {
        options: Options { headers, ..on(queue) },
        ..scene("conf.enqueue", queue, &json!({"queue": child}).to_string())
    }
}

fn on(queue: &'static str) -> Options {
    Options { queue, ..Options::default() }
}

fn retry(queue: &'static str) -> Options {
    Options { retry: Some(SOON), ..on(queue) }
}

/// Of a job that waits until it is hurried.
fn waiting(queue: &'static str) -> Options {
    Options { delay: Some("10m"), ..on(queue) }
}

fn scene(r#type: &'static str, queue: &'static str, payload: &str) -> Scene {
    let payloads = vec![Exact::parse(payload).expect("JSON")];
    Scene { r#type, payloads, options: on(queue), ..Scene::default() }
}

/// Starts only when the producer is looking.
fn watched(r#type: &'static str, queue: &'static str) -> Scene {
    Scene { options: waiting(queue), hurry: true, ..scene(r#type, queue, "{}") }
}

fn two_payloads() -> Scene {
    let payloads = [r#"{"n": 1}"#, r#"{"n": 2}"#].map(|text| Exact::parse(text).expect("JSON")).into();
    Scene { r#type: "conf.echo", payloads, hurry: true, ..Scene::default() }
}

fn twice(place: &str, queue: &'static str, on_conflict: &'static str) -> Scene {
    let unique = Unique { key: format!("{on_conflict} {place}"), on_conflict };
    Scene { options: Options { unique: Some(unique), ..waiting(queue) }, ..two_payloads() }
}

#[track_caller]
fn succeeded(saw: &Saw, result: &str, attempt: i32, delivery: i32) {
    assert_eq!(saw.error, None);
    assert_eq!(saw.result, Some(Exact::parse(result).expect("JSON")));
    let state = "succeeded".to_owned();
    assert_eq!(saw.status, Some(Status { state, attempt, delivery, crashes: 0 }));
    assert_eq!(saw.states.last().map(String::as_str), Some("succeeded"), "{:?}", saw.states);
}

#[track_caller]
fn echoed(saw: &Saw, body: &str) {
    succeeded(saw, body, 1, 1);
}

#[track_caller]
fn failed<'a>(saw: &'a Saw, class: &str, state: &str, attempt: i32) -> &'a Error {
    let error = saw.error.as_ref().unwrap_or_else(|| panic!("it should have failed: {saw:?}"));
    assert_eq!(error.class, class, "{error:?}");
    // One that is cancelled counts as no attempt.
    let (owned, delivery) = (state.to_owned(), attempt.max(1));
    assert_eq!(saw.status, Some(Status { state: owned, attempt, delivery, crashes: 0 }), "{error:?}");
    assert_eq!(saw.states.last().map(String::as_str), Some(state), "{:?}", saw.states);
    error
}

fn statuses(saw: &Saw) -> Vec<&str> {
    fn word(one: &Enqueued) -> &str {
        one.error.as_ref().map_or(&one.status, |error| &error.class)
    }
    saw.enqueued.iter().map(word).collect()
}

#[track_caller]
fn one_job(saw: &Saw) {
    assert_eq!(saw.enqueued[0].id, saw.enqueued[1].id, "both answers name one job");
}
