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
//! | it expired, or its time from enqueue to the end is over | waiting | EXPIRED |
//! | an attempt failed after that | leased | EXPIRED |
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

/// What an attempt is held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Its own `timeout`.
    Timeout,
    /// `heartbeat_timeout`: it has to show that it is alive.
    Silence,
    /// The job's `total_timeout`.
    Total,
}

impl Bound {
    /// What is said of an attempt that ran past it.
    pub fn message(self, meta: &Meta, policy: &Policy) -> String {
        let seconds = |ms: i64| ms as f64 / 1_000.0;
        match self {
            Self::Timeout => format!("ran longer than its timeout of {} s", seconds(policy.timeout_ms)),
            Self::Silence => {
                format!("no progress for longer than {} s", seconds(policy.heartbeat_ms.unwrap_or_default()))
            }
            Self::Total => {
                format!("not finished within its total_timeout of {} s", seconds(meta.deadline_ms - meta.create_ms))
            }
        }
    }
}

/// What happened.
#[expect(clippy::large_enum_variant, reason = "decided on where it is made; few are alive at a time")]
#[derive(Clone, Debug)]
pub enum Event {
    /// A worker reported an outcome.
    Reported { ended: Ended, run_ms: Option<i64>, checkpoint: Option<Payload>, effects: Vec<Effect> },
    /// The worker vanished: the lease ran out, or the worker named it no more.
    Lost { started: bool },
    /// The attempt ran past this and its worker did not end it.
    Overran(Bound),
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
        (State::Running, Event::Overran(bound)) => {
            let kind = match bound {
                Bound::Timeout | Bound::Total => FailureKind::Timeout,
                Bound::Silence => FailureKind::Stalled,
            };
            let failure = Failure::new(kind, bound.message(job.meta, job.policy));
            let ended = Ended::Failed { failure, action: FailureAction::Policy, retry_delay_ms: None };
            reported(job, ended, Told::default(), now_ms, share)
        }
        (State::Running, Event::Unhandled { delay_ms }) => Act::Later {
            to: State::Scheduled,
            delay_ms,
            counts: false,
            outcome: None,
            checkpoint: None,
            throttle: None,
            effects: Vec::new(),
        },
        (State::Running, Event::Due(DueKind::Cancel)) => cancelled(job, None, now_ms),
        (State::Scheduled | State::Retrying, Event::Due(DueKind::Start)) => {
            Act::Ready { front: false, crashed: false, attempt: None, checkpoint: None }
        }
        (State::Scheduled | State::Retrying | State::Blocked | State::Ready, Event::Due(DueKind::Expire)) => {
            expired(job, now_ms)
        }
        (
            State::Succeeded | State::Dead | State::Cancelled | State::Expired | State::Discarded,
            Event::Due(DueKind::Trim),
        ) => Act::Delete,
        (State::Running, Event::Due(DueKind::Start | DueKind::Expire | DueKind::Trim))
        | (State::Ready, Event::Due(DueKind::Start | DueKind::Lease | DueKind::Cancel | DueKind::Trim))
        | (State::Ready, Event::Lost { .. } | Event::Overran(_) | Event::Unhandled { .. })
        | (
            State::Scheduled | State::Retrying | State::Blocked,
            Event::Reported { .. }
            | Event::Lost { .. }
            | Event::Overran(_)
            | Event::Unhandled { .. }
            | Event::Due(DueKind::Lease | DueKind::Cancel | DueKind::Trim),
        )
        | (State::Blocked, Event::Due(DueKind::Start))
        | (
            State::Succeeded | State::Dead | State::Cancelled | State::Expired | State::Discarded,
            Event::Reported { .. }
            | Event::Lost { .. }
            | Event::Overran(_)
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

/// How long the next attempt may run: its `timeout`, or what `total_timeout` leaves of it.
pub fn allowance_ms(meta: &Meta, policy: &Policy, now_ms: i64) -> i64 {
    match meta.deadline_ms {
        0 => policy.timeout_ms,
        deadline_ms => policy.timeout_ms.min(deadline_ms - now_ms).max(1),
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
                FailureKind::Timeout | FailureKind::Stalled => AttemptResult::TimedOut,
                _ => AttemptResult::Failed,
            };
            let next = after_failure(&job.policy.retry, job.meta.failures + 1, &failure, action, retry_delay_ms, share);
            let last = attempt(job, how, Some(&failure), run_ms, now_ms);
            // An attempt whose time the deadline cut short ends there, and so does one that would be followed by another.
            let cut = job.meta.is_overdue(now_ms)
                && (failure.kind == FailureKind::Timeout || matches!(next, Next::Retry { .. }));
            let outcome = Outcome { result: None, failure: Some(failure), last: Some(last) };
            match next {
                _ if cut => finish(job.policy, State::Expired, outcome, effects),
                Next::Retry { delay_ms } => Act::Later {
                    to: State::Retrying,
                    delay_ms,
                    counts: true,
                    outcome: Some(outcome),
                    checkpoint,
                    throttle: None,
                    effects,
                },
                Next::Dead => finish(job.policy, State::Dead, outcome, effects),
                Next::Discard => finish(job.policy, State::Discarded, outcome, effects),
            }
        }
        Ended::Snoozed { delay_ms, reason, throttle } => {
            let mut last = attempt(job, AttemptResult::Snoozed, None, run_ms, now_ms);
            last.failure = note(reason);
            let outcome = Some(Outcome { result: None, failure: None, last: Some(last) });
            Act::Later { to: State::Scheduled, delay_ms, counts: false, outcome, checkpoint, throttle, effects }
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

/// A job that waited for too long. The latest failure stays, if there is one and the job had its chance.
fn expired(job: Subject<'_>, now_ms: i64) -> Act {
    let message = match job.meta.is_overdue(now_ms) {
        true if job.meta.failures > 0 => None,
        true => Some(Bound::Total.message(job.meta, job.policy)),
        false => Some("not started in time".to_owned()),
    };
    let failure = message.map(|message| Failure::new(FailureKind::Expired, message));
    finish(job.policy, State::Expired, Outcome { result: None, failure, last: None }, Vec::new())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        ids::{JobId, Shard},
        job::CancelRequest,
        policy::RetryPolicy,
    };

    const NOW: i64 = 1_000_000;

    fn meta(state: State) -> Meta {
        Meta {
            id: JobId::stamp(uuid::Uuid::now_v7(), Shard(0)),
            state,
            queue: "q".parse().expect("a name"),
            kind: "t".parse().expect("a name"),
            priority: 0,
            failures: 0,
            crashes: 0,
            delivery: 1,
            started: true,
            create_ms: NOW - 500,
            ready_ms: NOW - 400,
            start_ms: NOW - 100,
            finish_ms: 0,
            expire_ms: 0,
            deadline_ms: 0,
            purge_ms: 0,
            cancel: None,
            version: 2,
            content: 0,
            order: 0,
            watched: false,
        }
    }

    fn act(meta: &Meta, policy: &Policy, event: Event) -> Option<Act> {
        decide(Subject { meta, policy, worker_id: "w", session_id: "s" }, event, NOW, 0.5)
    }

    fn reported(ended: Ended) -> Event {
        Event::Reported { ended, run_ms: Some(90), checkpoint: None, effects: Vec::new() }
    }

    fn failed(message: &str) -> Ended {
        let failure = Failure::new(FailureKind::Application, message);
        Ended::Failed { failure, action: FailureAction::Policy, retry_delay_ms: None }
    }

    fn every_ending() -> Vec<Ended> {
        vec![
            Ended::Succeeded { result: None },
            failed("no"),
            Ended::Snoozed { delay_ms: 5, reason: String::new(), throttle: None },
            Ended::Cancelled { reason: String::new() },
            Ended::Released { reason: String::new() },
        ]
    }

    /// Where an act leads, in a word.
    fn outcome(act: &Option<Act>) -> String {
        match act {
            None => "nothing".to_owned(),
            Some(Act::Finish { to, .. }) => to.name().to_owned(),
            Some(Act::Later { to, counts, .. }) => format!("{}{}", to.name(), if *counts { "+1" } else { "" }),
            Some(Act::Ready { front, crashed, .. }) => {
                format!("READY{}{}", if *front { " front" } else { "" }, if *crashed { " crash" } else { "" })
            }
            Some(Act::Delete) => "gone".to_owned(),
            Some(other) => panic!("not an act of a transition: {other:?}"),
        }
    }

    #[test]
    fn endings_of_a_running_job() {
        let expected = ["SUCCEEDED", "RETRYING+1", "SCHEDULED", "CANCELLED", "READY front"];
        for (ended, expected) in every_ending().into_iter().zip(expected) {
            let found = act(&meta(State::Running), &Policy::default(), reported(ended.clone()));
            assert_eq!(outcome(&found), expected, "{ended:?}");
        }
    }

    #[test]
    fn under_a_cancel_request_only_success_is_not_a_cancel() {
        let request = CancelRequest { reason: "gone".into(), request_ms: NOW, deadline_ms: None };
        let meta = Meta { cancel: Some(request), ..meta(State::Running) };
        for ended in every_ending() {
            let found = outcome(&act(&meta, &Policy::default(), reported(ended.clone())));
            let expected = if matches!(ended, Ended::Succeeded { .. }) { "SUCCEEDED" } else { "CANCELLED" };
            assert_eq!(found, expected, "{ended:?}");
        }
        for event in [Event::Lost { started: false }, Event::Lost { started: true }, Event::Due(DueKind::Lease)] {
            assert_eq!(outcome(&act(&meta, &Policy::default(), event)), "CANCELLED");
        }
    }

    #[test]
    fn the_last_attempt_ends_where_the_policy_says_and_keeps_its_failure() {
        let policy = Policy { retry: RetryPolicy { max_attempts: 1, ..RetryPolicy::default() }, ..Policy::default() };
        let Some(Act::Finish { to, outcome, retain_ms, .. }) =
            act(&meta(State::Running), &policy, reported(failed("no")))
        else {
            panic!("the only attempt is the last")
        };
        assert_eq!((to, retain_ms), (State::Dead, policy.dead_retention_ms));
        let last = outcome.last.expect("the attempt is in the history");
        assert_eq!((last.attempt, last.result, last.run_ms), (1, AttemptResult::Failed, Some(90)));
        assert_eq!((last.wait_ms, last.worker_id.as_str()), (300, "w"));
        assert_eq!(outcome.failure.expect("the failure is kept").message, "no");
    }

    #[test]
    fn crashes_are_counted_only_when_the_handler_had_started_and_poison_dies() {
        let policy = Policy::default();
        let table = [
            (0, false, "READY front"),
            (0, true, "READY front crash"),
            (2, true, "READY front crash"),
            (3, true, "DEAD"),
            (3, false, "READY front"),
        ];
        for (crashes, started, expected) in table {
            let meta = Meta { crashes, ..meta(State::Running) };
            assert_eq!(outcome(&act(&meta, &policy, Event::Lost { started })), expected, "{crashes} {started}");
        }
        let first_is_final =
            Policy { retry: RetryPolicy { max_crashes: 0, ..RetryPolicy::default() }, ..Policy::default() };
        let Some(Act::Finish { to, outcome, .. }) =
            act(&meta(State::Running), &first_is_final, Event::Due(DueKind::Lease))
        else {
            panic!("no crash is forgiven")
        };
        assert_eq!((to, outcome.failure.map(|f| f.kind)), (State::Dead, Some(FailureKind::WorkerLost)));
        let endless = Policy { retry: RetryPolicy { max_crashes: -1, ..RetryPolicy::default() }, ..Policy::default() };
        let worn = Meta { crashes: 1_000, ..meta(State::Running) };
        assert!(matches!(act(&worn, &endless, Event::Lost { started: true }), Some(Act::Ready { .. })));
    }

    #[test]
    fn what_is_due_and_what_is_not() {
        let table = [
            (State::Scheduled, DueKind::Start, "READY"),
            (State::Retrying, DueKind::Start, "READY"),
            (State::Blocked, DueKind::Start, "nothing"),
            (State::Ready, DueKind::Start, "nothing"),
            (State::Running, DueKind::Start, "nothing"),
            (State::Ready, DueKind::Expire, "EXPIRED"),
            (State::Scheduled, DueKind::Expire, "EXPIRED"),
            (State::Running, DueKind::Expire, "nothing"),
            (State::Running, DueKind::Cancel, "CANCELLED"),
            (State::Ready, DueKind::Cancel, "nothing"),
            (State::Ready, DueKind::Lease, "nothing"),
            (State::Running, DueKind::Trim, "nothing"),
            (State::Dead, DueKind::Trim, "gone"),
            (State::Succeeded, DueKind::Trim, "gone"),
            (State::Succeeded, DueKind::Start, "nothing"),
        ];
        for (state, kind, expected) in table {
            assert_eq!(
                outcome(&act(&meta(state), &Policy::default(), Event::Due(kind))),
                expected,
                "{state:?} {kind:?}"
            );
        }
    }

    #[test]
    fn a_timeout_is_a_failure_by_the_policy_and_says_so() {
        let Some(Act::Later { to, counts, outcome, .. }) =
            act(&meta(State::Running), &Policy::default(), Event::Overran(Bound::Timeout))
        else {
            panic!("attempts are left")
        };
        assert_eq!((to, counts), (State::Retrying, true));
        let outcome = outcome.expect("the failure is kept");
        assert_eq!(outcome.last.map(|last| last.result), Some(AttemptResult::TimedOut));
        assert_eq!(outcome.failure.map(|failure| failure.kind), Some(FailureKind::Timeout));
    }

    #[test]
    fn a_silent_handler_fails_as_stalled() {
        let policy = Policy { heartbeat_ms: Some(1_500), ..Policy::default() };
        let Some(Act::Later { outcome, .. }) = act(&meta(State::Running), &policy, Event::Overran(Bound::Silence))
        else {
            panic!("attempts are left")
        };
        let outcome = outcome.expect("the failure is kept");
        assert_eq!(outcome.last.map(|last| last.result), Some(AttemptResult::TimedOut));
        let failure = outcome.failure.expect("with a failure");
        assert_eq!(
            (failure.kind, failure.message.as_str()),
            (FailureKind::Stalled, "no progress for longer than 1.5 s")
        );
    }

    #[test]
    fn past_the_deadline_a_job_ends_as_expired_unless_it_has_ended_better() {
        let overdue = Meta { deadline_ms: NOW, ..meta(State::Running) };
        let table = [
            (reported(failed("no")), "EXPIRED"),
            (Event::Overran(Bound::Total), "EXPIRED"),
            (reported(Ended::Succeeded { result: None }), "SUCCEEDED"),
            (reported(Ended::Cancelled { reason: String::new() }), "CANCELLED"),
        ];
        for (event, expected) in table {
            assert_eq!(outcome(&act(&overdue, &Policy::default(), event.clone())), expected, "{event:?}");
        }
        // The last attempt: a failure of its own is no less the reason, a cut one is the deadline's.
        let once = Policy { retry: RetryPolicy { max_attempts: 1, ..RetryPolicy::default() }, ..Policy::default() };
        assert_eq!(outcome(&act(&overdue, &once, reported(failed("no")))), "DEAD");
        assert_eq!(outcome(&act(&overdue, &once, Event::Overran(Bound::Total))), "EXPIRED");
        let early = Meta { deadline_ms: NOW + 1, ..meta(State::Running) };
        assert_eq!(outcome(&act(&early, &Policy::default(), reported(failed("no")))), "RETRYING+1");
    }

    #[test]
    fn who_waits_past_the_deadline_keeps_the_latest_failure() {
        let expire = |meta: &Meta| match act(meta, &Policy::default(), Event::Due(DueKind::Expire)) {
            Some(Act::Finish { to: State::Expired, outcome, .. }) => outcome.failure.map(|failure| failure.message),
            other => panic!("not expired: {other:?}"),
        };
        let overdue = Meta { deadline_ms: NOW, ..meta(State::Retrying) };
        assert_eq!(expire(&overdue).as_deref(), Some("not finished within its total_timeout of 0.5 s"));
        assert_eq!(expire(&Meta { failures: 1, ..overdue }), None, "what is stored stays");
        assert_eq!(expire(&meta(State::Ready)).as_deref(), Some("not started in time"));
    }

    #[test]
    fn an_attempt_gets_what_the_deadline_leaves() {
        let policy = Policy { timeout_ms: 1_000, ..Policy::default() };
        for (deadline_ms, expected) in [(0, 1_000), (NOW + 5_000, 1_000), (NOW + 400, 400), (NOW - 1, 1)] {
            let meta = Meta { deadline_ms, ..meta(State::Running) };
            assert_eq!(allowance_ms(&meta, &policy, NOW), expected, "{deadline_ms}");
        }
    }

    #[test]
    fn nothing_moves_a_terminal_job_but_its_trimming() {
        for state in crate::model::state::StateSet::TERMINAL.iter() {
            let mut events: Vec<Event> = every_ending().into_iter().map(reported).collect();
            events.extend([Event::Overran(Bound::Timeout), Event::Lost { started: true }, Event::Due(DueKind::Lease)]);
            for event in events {
                assert_eq!(act(&meta(state), &Policy::default(), event.clone()), None, "{state:?} {event:?}");
            }
            assert_eq!(cancel(&meta(state), &Policy::default(), "", None), None);
        }
    }

    #[test]
    fn a_manual_retry_leaves_one_attempt_or_all_of_them() {
        let policy = Policy::default();
        let worn = Meta { failures: 20, ..meta(State::Dead) };
        assert_eq!(failures_after_retry(&worn, &policy, false), 19);
        assert_eq!(failures_after_retry(&worn, &policy, true), 0);
        let fresh = Meta { failures: 3, ..meta(State::Dead) };
        assert_eq!(failures_after_retry(&fresh, &policy, false), 3);
    }

    #[test]
    fn text_is_cut_between_characters() {
        assert_eq!(cut("ünï", 2), "ü");
        assert_eq!(cut("ünï", 1), "");
        assert_eq!(cut("abc", 10), "abc");
    }
}
