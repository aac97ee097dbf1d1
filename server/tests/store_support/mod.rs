//! Random calls for the model test. Weights lean towards lives that go somewhere: put, claim, act under the latest lease.
// Each test binary uses its part.
#![allow(dead_code)]
use jobwire_server::{
    model::op::Throttle,
    store::conformance::{
        Harness, Kit,
        lockstep::{self, ActPick, Call, GuardPick},
    },
};
use proptest::{option, prelude::*};

pub mod twice;

pub fn calls() -> impl Strategy<Value = Vec<Call>> {
    proptest::collection::vec(call(Just(0)), 1..60)
}

/// With fairness keys, bounds for each and throttles, for stores that forget nothing of them when they open again.
pub fn keyed_calls() -> impl Strategy<Value = Vec<Call>> {
    let rate = option::weighted(0.4, (any::<u8>(), any::<u8>()));
    let configure = (any::<u8>(), any::<u8>(), rate, any::<bool>())
        .prop_map(|(queue, max_running, rate, weighs)| Call::Configure { queue, max_running, rate, weighs });
    let snooze = (any::<u16>(), 1i64..9_000, any::<bool>()).prop_map(|(job, delay_ms, all)| Call::Act {
        job,
        guard: GuardPick::Latest,
        act: ActPick::Later {
            retrying: false,
            delay_ms,
            counts: false,
            spoken: false,
            checkpoint: false,
            throttle: Some(if all { Throttle::Queue } else { Throttle::Key }),
        },
    });
    proptest::collection::vec(prop_oneof![20 => call(0u8..6), 1 => configure, 3 => snooze], 1..80)
}

fn delay() -> impl Strategy<Value = i64> {
    prop_oneof![Just(0), -5i64..50, 1_000i64..20_000]
}

/// Of a start, or of a whole life.
fn bound() -> impl Strategy<Value = Option<i64>> {
    option::weighted(0.2, 0i64..30_000)
}

/// Which of two uniqueness keys, and whether the last is kept.
fn unique() -> impl Strategy<Value = Option<(bool, bool)>> {
    option::weighted(0.3, any::<(bool, bool)>())
}

fn call(fair: impl Strategy<Value = u8> + 'static) -> impl Strategy<Value = Call> {
    prop_oneof![
        6 => (any::<u8>(), -4i8..=4, option::weighted(0.3, delay()), bound(), bound(), (fair, unique()), any::<u8>())
            .prop_map(|(queue, priority, start, expire_ms, total_ms, (fair, unique), n)| {
                Call::Put { queue, priority, start, expire_ms, total_ms, fair, unique, n }
            }),
        1 => (any::<u16>(), any::<bool>()).prop_map(|(job, same)| Call::Repeat { job, same }),
        7 => (any::<u8>(), any::<u8>(), any::<u8>(), option::weighted(0.2, 0u16..200), 1i64..10_000, any::<bool>())
            .prop_map(|(queue, want, from_bottom, bytes, lease_ms, started)| {
                Call::Claim { queue, want, from_bottom, bytes, lease_ms, started }
            }),
        14 => (any::<u16>(), guard(), act()).prop_map(|(job, guard, act)| Call::Act { job, guard, act }),
        4 => (1u8..20).prop_map(|limit| Call::Sweep { limit }),
        1 => (any::<u16>(), any::<u8>(), any::<u8>()).prop_map(|(job, lines, keep)| Call::Log { job, lines, keep }),
        2 => (0u8..3, any::<bool>(), option::weighted(0.7, any::<u8>()), option::weighted(0.5, -100i64..20_000))
            .prop_map(|(key, right, value, due_ms)| Call::Doc { key, right, value, due_ms }),
        1 => (any::<u8>(), option::of(0i64..20_000)).prop_map(|(queue, lasts_ms)| Call::Pause { queue, lasts_ms }),
        2 => (any::<u8>(), any::<bool>()).prop_map(|(queue, if_due)| Call::Resume { queue, if_due }),
        5 => prop_oneof![0i64..100, 1_000i64..12_000, Just(61_000)].prop_map(|ms| Call::Advance { ms }),
        2 => Just(Call::Reopen),
    ]
}

fn guard() -> impl Strategy<Value = GuardPick> {
    prop_oneof![
        8 => Just(GuardPick::Latest),
        1 => Just(GuardPick::Wrong),
        3 => any::<u8>().prop_map(GuardPick::Due),
        1 => any::<u8>().prop_map(GuardPick::In),
        2 => Just(GuardPick::Waiting),
        1 => Just(GuardPick::Terminal),
        3 => Just(GuardPick::Any),
        1 => Just(GuardPick::Version),
    ]
}

fn act() -> impl Strategy<Value = ActPick> {
    let flag = any::<bool>;
    prop_oneof![
        4 => (delay(), flag(), flag(), flag()).prop_map(|(lease_ms, started, progress, checkpoint)| {
            ActPick::Extend { lease_ms, started, progress, checkpoint }
        }),
        4 => (any::<u8>(), delay(), flag(), flag())
            .prop_map(|(to, retain_ms, effect, spoken)| ActPick::Finish { to, retain_ms, effect, spoken }),
        3 => (flag(), delay(), flag(), flag(), flag()).prop_map(|(retrying, delay_ms, counts, spoken, checkpoint)| {
            ActPick::Later { retrying, delay_ms, counts, spoken, checkpoint, throttle: None }
        }),
        3 => (flag(), flag(), flag()).prop_map(|(front, crashed, attempt)| ActPick::Ready { front, crashed, attempt }),
        2 => (any::<u8>(), delay(), option::of(any::<u8>()), flag(), flag()).prop_map(
            |(failures, delay_ms, queue, body, keep)| ActPick::Requeue { failures, delay_ms, queue, body, keep }
        ),
        2 => option::of(delay()).prop_map(|grace_ms| ActPick::RequestCancel { grace_ms }),
        2 => (option::of(any::<u8>()), option::of(-4i8..=4), option::of(delay()), flag())
            .prop_map(|(queue, priority, start, body)| ActPick::Patch { queue, priority, start, body }),
        1 => Just(ActPick::Delete),
    ]
}

/// Runs one sequence on a model and a subject, which are made fresh in the runtime that they are used in.
pub fn run<M: Harness + 'static, S: Harness + 'static>(calls: &[Call], fresh: impl AsyncFnOnce() -> (M, S)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    runtime.block_on(async {
        let (model, subject) = fresh().await;
        let (mut model, mut subject) = (Kit::new(Box::new(model)), Kit::new(Box::new(subject)));
        lockstep::run(calls, &mut model, &mut subject).await;
        subject.check().await;
    });
}
