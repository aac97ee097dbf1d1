//! PURE. What an event means for a job: `(record, event, now) → act`. No I/O, no clock, no async, no randomness.
//!
//! | event | from | becomes |
//! |---|---|---|
//! | the handler succeeded | leased | SUCCEEDED |
//! | it failed | leased | RETRYING, or DEAD / DISCARDED when it is no use |
//! | it snoozed | leased | SCHEDULED, no attempt used |
//! | it gave the job back | leased | READY at the front, no attempt used |
//! | it obeyed a cancel | leased | CANCELLED |
//! | its worker vanished | RUNNING | READY (a crash if it had started), DEAD beyond `max_crashes` |
//! | the grace of a cancel is over | RUNNING | CANCELLED |
//! | the time has come | SCHEDULED, RETRYING | READY |
//! | it expired | waiting | EXPIRED |
//! | it was kept for long enough | ended | gone |
//!
//! Under a cancel request whatever would run the job again ends it as CANCELLED instead.
use super::retry::{Next, after_failure};
use crate::model::{
    job::{Attempt, AttemptResult, Failure, FailureKind, Meta, Outcome, Payload},
    limits::ATTEMPT_MESSAGE_BYTES,
    op::{Act, DueKind, Effect},
    policy::{Policy, TOMBSTONE_MS},
    state::State,
    worker::{Ended, FailureAction},
};

/// A job, as far as a decision needs it.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub meta: &'a Meta,
    pub policy: &'a Policy,
    /// Who holds it, or held it last; empty where that is not known.
    pub worker_id: &'a str,
    pub session_id: &'a str,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A worker reported an outcome.
    Reported { ended: Ended, run_ms: Option<i64>, checkpoint: Option<Payload>, effects: Vec<Effect> },
    /// The worker vanished: the lease ran out, or the worker named it no more.
    Lost { started: bool },
    /// The attempt ran past its timeout and its worker did not end it.
    TimedOut,
    /// Nobody connected here handles the type.
    Unhandled { delay_ms: i64 },
    /// Something is due.
    Due(DueKind),
}

/// What `event` means for `job` at `now_ms` on the wall clock. `share` is a random number from 0 to 1. `None` = nothing:
/// the event does not concern a job in this state.
pub fn decide(job: Subject<'_>, event: Event, now_ms: i64, share: f64) -> Option<Act> {
    let act = match (job.meta.state, event) {
        (State::Running | State::Ready, Event::Reported { ended, run_ms, checkpoint, effects }) => {
            reported(job, ended, Told { run_ms, checkpoint, effects }, now_ms, share)
        }
        (State::Running, Event::Lost { started }) => lost(job, started, now_ms),
        (State::Running, Event::Due(DueKind::Lease)) => lost(job, job.meta.started, now_ms),
        (State::Running, Event::TimedOut) => {
            let failure = Failure::new(FailureKind::Timeout, timeout_message(job.policy.timeout_ms));
            let ended = Ended::Failed { failure, action: FailureAction::Policy, retry_delay_ms: None };
            reported(job, ended, Told::default(), now_ms, share)
        }
        (State::Running, Event::Unhandled { delay_ms }) => Act::Later {
            to: State::Scheduled,
            delay_ms,
            counts: false,
            outcome: None,
            checkpoint: None,
            effects: Vec::new(),
        },
        (State::Running, Event::Due(DueKind::Cancel)) => cancelled(job, None, now_ms),
        (State::Scheduled | State::Retrying, Event::Due(DueKind::Start)) => {
            Act::Ready { front: false, crashed: false, attempt: None, checkpoint: None }
        }
        (State::Scheduled | State::Retrying | State::Blocked | State::Ready, Event::Due(DueKind::Expire)) => {
            let failure = Failure::new(FailureKind::Expired, "not started in time");
            let outcome = Outcome { result: None, failure: Some(failure), last: None };
            finish(job.policy, State::Expired, outcome, Vec::new())
        }
        (
            State::Succeeded | State::Dead | State::Cancelled | State::Expired | State::Discarded,
            Event::Due(DueKind::Trim),
        ) => Act::Delete,
        (State::Running, Event::Due(DueKind::Start | DueKind::Expire | DueKind::Trim))
        | (State::Ready, Event::Due(DueKind::Start | DueKind::Lease | DueKind::Cancel | DueKind::Trim))
        | (State::Ready, Event::Lost { .. } | Event::TimedOut | Event::Unhandled { .. })
        | (
            State::Scheduled | State::Retrying | State::Blocked,
            Event::Reported { .. }
            | Event::Lost { .. }
            | Event::TimedOut
            | Event::Unhandled { .. }
            | Event::Due(DueKind::Lease | DueKind::Cancel | DueKind::Trim),
        )
        | (State::Blocked, Event::Due(DueKind::Start))
        | (
            State::Succeeded | State::Dead | State::Cancelled | State::Expired | State::Discarded,
            Event::Reported { .. }
            | Event::Lost { .. }
            | Event::TimedOut
            | Event::Unhandled { .. }
            | Event::Due(DueKind::Start | DueKind::Lease | DueKind::Cancel | DueKind::Expire),
        ) => return None,
    };
    Some(act)
}

/// What CancelJobs means for a job in `state`: ended at once while it waits, asked to stop while it runs.
pub fn cancel(meta: &Meta, policy: &Policy, reason: &str, grace_ms: Option<i64>) -> Option<Act> {
    match meta.state {
        State::Scheduled | State::Retrying | State::Blocked | State::Ready => {
            let failure = Failure::new(FailureKind::Cancelled, cancel_message(reason));
            let outcome = Outcome { result: None, failure: Some(failure), last: None };
            Some(finish(policy, State::Cancelled, outcome, Vec::new()))
        }
        State::Running => Some(Act::RequestCancel { reason: reason.to_owned(), grace_ms }),
        State::Succeeded | State::Dead | State::Cancelled | State::Expired | State::Discarded => None,
    }
}

/// What RetryJobs sets `failures` to: 0, or so that one attempt is left.
pub fn failures_after_retry(meta: &Meta, policy: &Policy, reset: bool) -> u32 {
    if reset {
        return 0;
    }
    match policy.retry.max_attempts {
        most if most > 0 => meta.failures.min(most as u32 - 1),
        _ => meta.failures,
    }
}

/// The parts of a report beside how it ended.
#[derive(Default)]
struct Told {
    run_ms: Option<i64>,
    checkpoint: Option<Payload>,
    effects: Vec<Effect>,
}

fn reported(job: Subject<'_>, ended: Ended, told: Told, now_ms: i64, share: f64) -> Act {
    let Told { run_ms, checkpoint, effects } = told;
    let stopping = job.meta.cancel.is_some();
    match ended {
        Ended::Succeeded { result } => {
            let last = attempt(job, AttemptResult::Succeeded, None, run_ms, now_ms);
            let outcome = Outcome { result, failure: None, last: Some(last) };
            finish(job.policy, State::Succeeded, outcome, effects)
        }
        Ended::Cancelled { .. } => cancelled(job, run_ms, now_ms),
        Ended::Failed { .. } | Ended::Snoozed { .. } | Ended::Released { .. } if stopping => {
            cancelled(job, run_ms, now_ms)
        }
        Ended::Failed { failure, action, retry_delay_ms } => {
            let how = match failure.kind {
                FailureKind::Timeout => AttemptResult::TimedOut,
                _ => AttemptResult::Failed,
            };
            let next = after_failure(&job.policy.retry, job.meta.failures + 1, &failure, action, retry_delay_ms, share);
            let last = attempt(job, how, Some(&failure), run_ms, now_ms);
            let outcome = Outcome { result: None, failure: Some(failure), last: Some(last) };
            match next {
                Next::Retry { delay_ms } => Act::Later {
                    to: State::Retrying,
                    delay_ms,
                    counts: true,
                    outcome: Some(outcome),
                    checkpoint,
                    effects,
                },
                Next::Dead => finish(job.policy, State::Dead, outcome, effects),
                Next::Discard => finish(job.policy, State::Discarded, outcome, effects),
            }
        }
        Ended::Snoozed { delay_ms, reason } => {
            let mut last = attempt(job, AttemptResult::Snoozed, None, run_ms, now_ms);
            last.failure = note(reason);
            let outcome = Some(Outcome { result: None, failure: None, last: Some(last) });
            Act::Later { to: State::Scheduled, delay_ms, counts: false, outcome, checkpoint, effects }
        }
        Ended::Released { reason } => {
            let mut last = attempt(job, AttemptResult::Released, None, run_ms, now_ms);
            last.failure = note(reason);
            Act::Ready { front: true, crashed: false, attempt: Some(last), checkpoint }
        }
    }
}

fn lost(job: Subject<'_>, started: bool, now_ms: i64) -> Act {
    if job.meta.cancel.is_some() {
        return cancelled(job, None, now_ms);
    }
    if !started {
        return Act::Ready { front: true, crashed: false, attempt: None, checkpoint: None };
    }
    let crashes = job.meta.crashes + 1;
    let most = job.policy.retry.max_crashes;
    let message = format!("the worker vanished, {crashes} time{} so far", if crashes == 1 { "" } else { "s" });
    let failure = Failure::new(FailureKind::WorkerLost, message);
    let last = attempt(job, AttemptResult::Lost, Some(&failure), None, now_ms);
    if most >= 0 && crashes > most as u32 {
        let outcome = Outcome { result: None, failure: Some(failure), last: Some(last) };
        return finish(job.policy, State::Dead, outcome, Vec::new());
    }
    Act::Ready { front: true, crashed: true, attempt: Some(last), checkpoint: None }
}

fn cancelled(job: Subject<'_>, run_ms: Option<i64>, now_ms: i64) -> Act {
    let reason = job.meta.cancel.as_ref().map_or("", |request| request.reason.as_str());
    let failure = Failure::new(FailureKind::Cancelled, cancel_message(reason));
    let last = attempt(job, AttemptResult::Cancelled, None, run_ms, now_ms);
    let outcome = Outcome { result: None, failure: Some(failure), last: Some(last) };
    finish(job.policy, State::Cancelled, outcome, Vec::new())
}

fn finish(policy: &Policy, to: State, outcome: Outcome, effects: Vec<Effect>) -> Act {
    let kept = if to == State::Dead { policy.dead_retention_ms } else { policy.retention_ms };
    Act::Finish { to, outcome, retain_ms: kept.max(TOMBSTONE_MS), effects }
}

fn attempt(
    job: Subject<'_>,
    result: AttemptResult,
    failure: Option<&Failure>,
    run_ms: Option<i64>,
    now_ms: i64,
) -> Attempt {
    Attempt {
        attempt: job.meta.failures + 1,
        delivery: job.meta.delivery,
        worker_id: job.worker_id.to_owned(),
        session_id: job.session_id.to_owned(),
        start_ms: job.meta.start_ms,
        finish_ms: now_ms,
        result,
        failure: failure.map(short),
        run_ms,
        wait_ms: (job.meta.start_ms - job.meta.ready_ms).max(0),
    }
}

/// Kind, class and message only, cut for the history.
pub fn short(failure: &Failure) -> Failure {
    Failure {
        class: cut(&failure.class, ATTEMPT_MESSAGE_BYTES).to_owned(),
        ..Failure::new(failure.kind, cut(&failure.message, ATTEMPT_MESSAGE_BYTES))
    }
}

fn note(reason: String) -> Option<Failure> {
    (!reason.is_empty()).then(|| Failure::new(FailureKind::Application, cut(&reason, ATTEMPT_MESSAGE_BYTES)))
}

/// The longest prefix of at most `most` bytes that ends between characters.
pub fn cut(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

fn cancel_message(reason: &str) -> String {
    if reason.is_empty() { "cancelled".to_owned() } else { format!("cancelled: {reason}") }
}

fn timeout_message(timeout_ms: i64) -> String {
    format!("ran longer than its timeout of {} s", timeout_ms as f64 / 1_000.0)
}
