//! What workers report about jobs they hold. A bad item is refused alone: the stream, or the call, goes on.
use jobwire_proto::v1::{self, outcome::Result as Arm};

use super::{Ctx, NOTE_BYTES, Parsed, choice, count, cut, job, payload::payload, span, spec::free_job};
use crate::{
    api::status::{ApiError, Reason},
    model::{
        ids::LeaseToken,
        job::{Failure, FailureKind},
        op::Throttle,
        worker::{Ended, FailureAction, LogReport, ProgressReport, Rejection, RejectionReason, Report},
    },
};

/// An outcome that cannot be applied: its token, where it decodes, and the answer.
pub type Refused = (Option<LeaseToken>, Rejection);

/// Reads an outcome.
pub fn report(ctx: Ctx<'_>, outcome: v1::Outcome) -> Result<Report, Refused> {
    let refuse = |token, text: String, reason, message: String| {
        // A token is at most 64 characters; what is longer is no token and is not sent back in full.
        (token, Rejection { token: cut(text, 64), reason, message })
    };
    let text = outcome.lease_token.clone();
    let Ok(token) = text.parse::<LeaseToken>() else {
        return Err(refuse(None, text, RejectionReason::UnknownLease, "not a lease token".into()));
    };
    report_of(ctx, token, outcome).map_err(|error| {
        let reason = match error.reason() {
            Reason::FeatureDisabled => RejectionReason::Unsupported,
            _ => RejectionReason::Invalid,
        };
        refuse(Some(token), text, reason, error.message())
    })
}

fn report_of(ctx: Ctx<'_>, token: LeaseToken, outcome: v1::Outcome) -> Parsed<Report> {
    let Some(arm) = outcome.result else {
        return Err(ApiError::new(Reason::FeatureDisabled, "has no arm that this server knows").at("result"));
    };
    count("enqueue", outcome.enqueue.len(), ctx.limits.jobs_per_call)?;
    Ok(Report {
        token,
        ended: ended(ctx, arm)?,
        run_ms: job::measured(outcome.run_duration),
        checkpoint: payload(ctx, "checkpoint", outcome.checkpoint, ctx.limits.checkpoint_bytes)?,
        enqueue: outcome
            .enqueue
            .into_iter()
            .enumerate()
            .map(|(i, spec)| {
                free_job(ctx, spec, "must be empty: what an outcome enqueues waits for nothing")
                    .map_err(|error| error.within(format_args!("enqueue[{i}]")))
            })
            .collect::<Parsed<_>>()?,
    })
}

fn ended(ctx: Ctx<'_>, arm: Arm) -> Parsed<Ended> {
    let delay = |field: &str, value: &prost_types::Duration| span(field, value, ctx.limits.delay_ms);
    Ok(match arm {
        Arm::Succeeded(v1::Succeeded { result }) => {
            Ended::Succeeded { result: payload(ctx, "succeeded.result", result, ctx.limits.result_bytes)? }
        }
        Arm::Failed(v1::Failed { failure, action, retry_delay }) => Ended::Failed {
            failure: match failure {
                Some(failure) => job::failure(ctx, failure).map_err(|error| error.within("failed.failure"))?,
                None => Failure::new(FailureKind::Application, ""),
            },
            // Whatever a newer worker asks for, it failed: the policy decides.
            action: choice(Ctx { strict: false, ..ctx }, "failed.action", action, |action| match action {
                v1::FailureAction::Unspecified => FailureAction::Policy,
                v1::FailureAction::Retry => FailureAction::Retry,
                v1::FailureAction::Stop => FailureAction::Stop,
                v1::FailureAction::Discard => FailureAction::Discard,
            })?,
            retry_delay_ms: retry_delay.map(|value| delay("failed.retry_delay", &value)).transpose()?,
        },
        Arm::Snoozed(v1::Snoozed { delay: wait, reason, throttle }) => {
            // Whatever a newer worker would hold back, its own job waits.
            let throttle = choice(Ctx { strict: false, ..ctx }, "snoozed.throttle", throttle, |scope| match scope {
                v1::ThrottleScope::Unspecified => None,
                v1::ThrottleScope::Key => Some(Throttle::Key),
                v1::ThrottleScope::Queue => Some(Throttle::Queue),
            })?;
            Ended::Snoozed {
                throttle,
                delay_ms: delay("snoozed.delay", &wait.unwrap_or_default())?,
                reason: cut(reason, NOTE_BYTES),
            }
        }
        Arm::Cancelled(v1::Cancelled { reason }) => Ended::Cancelled { reason: cut(reason, NOTE_BYTES) },
        Arm::Released(v1::Released { reason }) => Ended::Released { reason: cut(reason, NOTE_BYTES) },
    })
}

/// Reads a progress report; `None` when it is dropped: unknown token, nonsense, too large.
pub fn progress_report(ctx: Ctx<'_>, report: v1::ProgressReport) -> Option<ProgressReport> {
    let token = report.lease_token.parse().ok()?;
    let progress = report.progress.and_then(|progress| job::progress(ctx, progress));
    let checkpoint = payload(ctx, "checkpoint", report.checkpoint, ctx.limits.checkpoint_bytes).ok().flatten();
    (progress.is_some() || checkpoint.is_some()).then_some(ProgressReport { token, progress, checkpoint })
}

/// Reads log lines; `None` when the token is none.
pub fn log_report(ctx: Ctx<'_>, report: v1::LogReport) -> Option<LogReport> {
    let token = report.lease_token.parse().ok()?;
    Some(LogReport { token, lines: report.lines.into_iter().map(|line| job::log_line(ctx, line)).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ids::JobId, limits::Limits};

    fn token() -> LeaseToken {
        LeaseToken { job: JobId::from_bytes([1; 16]), secret: 7 }
    }

    fn read(change: impl FnOnce(&mut v1::Outcome)) -> Result<Report, Refused> {
        let mut outcome = v1::Outcome {
            lease_token: token().encode(),
            result: Some(Arm::Succeeded(v1::Succeeded::default())),
            ..Default::default()
        };
        change(&mut outcome);
        report(Ctx { limits: &Limits::default(), now_ms: 0, strict: false }, outcome)
    }

    /// The reason, and the start of the message: the field.
    fn refused(change: impl FnOnce(&mut v1::Outcome)) -> (RejectionReason, String) {
        let (held, rejection) = read(change).expect_err("refused");
        assert_eq!(held, Some(token()));
        (rejection.reason, rejection.message.split(": ").next().unwrap_or_default().to_owned())
    }

    fn text(bytes: usize) -> Option<v1::Payload> {
        Some(v1::Payload { body: Some(v1::payload::Body::Text("x".repeat(bytes))), ..Default::default() })
    }

    fn failed(change: impl FnOnce(&mut v1::Failed)) -> impl FnOnce(&mut v1::Outcome) {
        |outcome| {
            let mut failed = v1::Failed::default();
            change(&mut failed);
            outcome.result = Some(Arm::Failed(failed));
        }
    }

    #[test]
    fn what_is_no_token_is_unknown() {
        let (held, rejection) = read(|o| o.lease_token = "x".repeat(100)).expect_err("refused");
        assert_eq!((held, rejection.reason), (None, RejectionReason::UnknownLease));
        assert_eq!(rejection.token.len(), 64);
    }

    #[test]
    fn what_breaks_a_rule_is_invalid_and_what_is_to_come_unsupported() {
        use RejectionReason::{Invalid, Unsupported};
        let second = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        let result = |result| move |o: &mut v1::Outcome| o.result = Some(Arm::Succeeded(v1::Succeeded { result }));
        assert_eq!(refused(result(text((1 << 20) + 1))), (Invalid, "succeeded.result".into()));
        let json =
            v1::Payload { body: Some(v1::payload::Body::Json(prost_types::Value::default())), ..Default::default() };
        assert_eq!(refused(result(Some(json))), (Invalid, "succeeded.result.json".into()));
        assert_eq!(refused(|o| o.checkpoint = text((64 << 10) + 1)), (Invalid, "checkpoint".into()));
        for bad in [-1, 100 * 366 * 86_400] {
            assert_eq!(refused(failed(|f| f.retry_delay = second(bad))), (Invalid, "failed.retry_delay".into()));
        }
        assert_eq!(refused(|o| o.enqueue = vec![v1::JobSpec::default()]), (Invalid, "enqueue[0].type".into()));
        let later =
            v1::JobSpec { r#type: "a".into(), depends_on: vec![v1::Dependency::default()], ..Default::default() };
        assert_eq!(refused(|o| o.enqueue = vec![later]), (Invalid, "enqueue[0].depends_on".into()));
        assert_eq!(refused(|o| o.result = None), (Unsupported, "result".into()));
    }

    #[test]
    fn failures_are_cut_not_refused() {
        let mut failure = v1::Failure { message: "m".repeat(1 << 20), ..Default::default() };
        failure.stack_trace = "s".repeat(2 << 20);
        for _ in 0..6 {
            failure =
                v1::Failure { cause: Some(Box::new(failure)), message: "é".repeat(4 << 10), ..Default::default() };
        }
        let report = read(failed(|f| {
            f.failure = Some(failure);
            f.action = 77;
        }));
        let Ended::Failed { failure, action, .. } = report.expect("applied").ended else { panic!("a failure") };
        assert_eq!(action, FailureAction::Policy);
        let causes = std::iter::successors(Some(&failure), |f| f.cause.as_deref()).collect::<Vec<_>>();
        assert_eq!(causes.len(), 6, "itself and 5 causes");
        assert!(causes.iter().all(|f| f.message.len() <= 4 << 10 && f.stack_trace.len() <= 32 << 10));
    }

    #[test]
    fn nonsense_progress_is_dropped_and_long_lines_are_cut() {
        let ctx = Ctx { limits: &Limits::default(), now_ms: 5, strict: false };
        let progress = |progress| {
            let lease_token = token().encode();
            progress_report(ctx, v1::ProgressReport { lease_token, progress: Some(progress), checkpoint: None })
        };
        for percent in [-1.0, 101.0, f64::NAN] {
            assert_eq!(progress(v1::Progress { percent: Some(percent), ..Default::default() }), None);
        }
        assert_eq!(progress(v1::Progress { message: "x".repeat(4 << 10), ..Default::default() }), None);
        let kept = progress(v1::Progress { percent: Some(50.0), ..Default::default() }).expect("kept");
        assert_eq!(kept.progress.expect("progress").update_ms, 5);
        let line = v1::LogLine { message: "x".repeat(9 << 10), level: 99, ..Default::default() };
        let line = job::log_line(ctx, line);
        assert_eq!((line.message.len(), line.level, line.time_ms), (8 << 10, 0, 5));
    }
}
