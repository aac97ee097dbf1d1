//! PURE. Whether a failed attempt is followed by another one, and when.
//!
//! I9: retries are exact.
use crate::model::{
    job::Failure,
    policy::{Exhausted, RetryPolicy},
    worker::FailureAction,
};

/// What follows a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Retry { delay_ms: i64 },
    Dead,
    Discard,
}

/// Decides after failure number `failures` (this one included). `share` is a random number from 0 to 1.
///
/// DISCARD discards; STOP, a listed type and the last attempt go where `on_exhausted` says; RETRY overrules the list, never
/// `max_attempts`. A `retry_delay` is a floor: jitter is added to it and `max_delay` does not cut it.
pub fn after_failure(
    policy: &RetryPolicy,
    failures: u32,
    failure: &Failure,
    action: FailureAction,
    retry_delay_ms: Option<i64>,
    share: f64,
) -> Next {
    let exhausted = match policy.on_exhausted {
        Exhausted::Dead => Next::Dead,
        Exhausted::Discard => Next::Discard,
    };
    let listed = policy.non_retryable_types.iter().any(|pattern| matches(pattern, &failure.class));
    match action {
        FailureAction::Discard => return Next::Discard,
        FailureAction::Stop => return exhausted,
        FailureAction::Policy if listed => return exhausted,
        FailureAction::Policy | FailureAction::Retry => {}
    }
    if policy.max_attempts >= 0 && failures >= policy.max_attempts as u32 {
        return exhausted;
    }
    let delay_ms = match (action, retry_delay_ms) {
        (FailureAction::Retry, Some(floor)) => floor.saturating_add((floor as f64 * policy.jitter * share) as i64),
        _ => computed(policy, failures, share),
    };
    Next::Retry { delay_ms: delay_ms.max(0) }
}

fn matches(pattern: &str, class: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => class.starts_with(prefix),
        None => pattern == class,
    }
}

/// The delay before attempt `failures` + 1.
fn computed(policy: &RetryPolicy, failures: u32, share: f64) -> i64 {
    let n = failures.max(1) - 1;
    let base = match policy.delays_ms.as_slice() {
        [] => {
            let grown = policy.initial_delay_ms as f64 * policy.multiplier.powi(n.min(i32::MAX as u32) as i32);
            grown.min(policy.max_delay_ms as f64)
        }
        delays => delays[(n as usize).min(delays.len() - 1)] as f64,
    };
    (base * (1.0 - policy.jitter + policy.jitter * share)) as i64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::job::FailureKind;

    fn failure(class: &str) -> Failure {
        Failure { class: class.into(), ..Failure::new(FailureKind::Application, "no") }
    }

    fn next(policy: &RetryPolicy, failures: u32) -> Next {
        after_failure(policy, failures, &failure("E"), FailureAction::Policy, None, 1.0)
    }

    #[test]
    fn the_default_doubles_from_one_second_to_an_hour_and_gives_up_after_twenty() {
        let policy = RetryPolicy::default();
        assert_eq!(next(&policy, 1), Next::Retry { delay_ms: 1_000 });
        assert_eq!(next(&policy, 2), Next::Retry { delay_ms: 2_000 });
        assert_eq!(next(&policy, 19), Next::Retry { delay_ms: 3_600_000 });
        assert_eq!(next(&policy, 20), Next::Dead);
    }

    #[test]
    fn explicit_delays_replace_the_curve_and_the_last_one_repeats() {
        let policy = RetryPolicy { delays_ms: vec![5, 70], jitter: 0.0, ..RetryPolicy::default() };
        assert_eq!(next(&policy, 1), Next::Retry { delay_ms: 5 });
        assert_eq!(next(&policy, 2), Next::Retry { delay_ms: 70 });
        assert_eq!(next(&policy, 9), Next::Retry { delay_ms: 70 });
    }

    #[test]
    fn actions_and_lists_overrule_each_other_as_documented() {
        let policy = RetryPolicy {
            non_retryable_types: vec!["Bad*".into(), "Worse".into()],
            on_exhausted: Exhausted::Discard,
            max_attempts: 3,
            ..RetryPolicy::default()
        };
        let ask = |class: &str, action, failures| after_failure(&policy, failures, &failure(class), action, None, 0.0);
        assert_eq!(ask("BadAddress", FailureAction::Policy, 1), Next::Discard);
        assert_eq!(ask("Worse", FailureAction::Policy, 1), Next::Discard);
        assert_eq!(ask("Worst", FailureAction::Policy, 1), Next::Retry { delay_ms: 800 });
        assert_eq!(ask("Worse", FailureAction::Retry, 1), Next::Retry { delay_ms: 800 });
        assert_eq!(ask("Worse", FailureAction::Retry, 3), Next::Discard);
        assert_eq!(ask("Fine", FailureAction::Stop, 1), Next::Discard);
        assert_eq!(ask("Fine", FailureAction::Discard, 1), Next::Discard);
    }

    #[test]
    fn no_limit_means_no_limit_and_one_means_never_again() {
        let endless = RetryPolicy { max_attempts: -1, ..RetryPolicy::default() };
        assert!(matches!(next(&endless, u32::MAX), Next::Retry { .. }));
        let once = RetryPolicy { max_attempts: 1, ..RetryPolicy::default() };
        assert_eq!(next(&once, 1), Next::Dead);
    }

    proptest! {
        #[test]
        fn a_delay_stays_inside_the_policy(
            initial in 0i64..10_000_000, multiplier in 1.0f64..10.0, most in 0i64..100_000_000,
            jitter in 0.0f64..=1.0, share in 0.0f64..=1.0, failures in 1u32..10_000,
        ) {
            let policy = RetryPolicy { initial_delay_ms: initial, multiplier, max_delay_ms: most, jitter,
                max_attempts: -1, ..RetryPolicy::default() };
            let Next::Retry { delay_ms } = after_failure(&policy, failures, &failure("E"), FailureAction::Policy, None, share)
                else { panic!("an endless policy retries") };
            prop_assert!((0..=most).contains(&delay_ms));
        }

        #[test]
        fn retry_after_is_a_floor(floor in 0i64..100_000_000, jitter in 0.0f64..=1.0, share in 0.0f64..=1.0) {
            let policy = RetryPolicy { jitter, max_delay_ms: 1, ..RetryPolicy::default() };
            let Next::Retry { delay_ms } =
                after_failure(&policy, 1, &failure("E"), FailureAction::Retry, Some(floor), share)
                else { panic!("attempts are left") };
            prop_assert!(delay_ms >= floor && delay_ms <= floor * 2 + 1);
        }
    }
}
