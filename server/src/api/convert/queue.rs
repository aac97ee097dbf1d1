//! Queues and their numbers as they are shown and filtered.
use jobwire_proto::v1;

use super::{config, to_span, to_time};
use crate::{
    engine::{Percentiles, QueueView, Rates},
    model::{
        filter::{Row, Value},
        state::State,
    },
};

pub fn queue(now_ms: i64, view: QueueView) -> v1::Queue {
    let stats = stats(now_ms, &view);
    let set = view.facts.config.as_ref().map(|configured| &*configured.config);
    let (config, etag) = (config::to_config(set, view.shards), config::etag(&view));
    let throttled = view.facts.throttled_ms.filter(|at| *at > now_ms);
    let pause = view.facts.pause;
    v1::Queue {
        name: view.facts.name.to_string(),
        config: Some(config),
        stats: Some(stats),
        paused: pause.is_some(),
        pause_time: pause.as_ref().map(|pause| to_time(pause.pause_ms)),
        resume_time: pause.as_ref().map_or(throttled, |pause| pause.resume_ms).map(to_time),
        pause_actor: pause.as_ref().map(|pause| pause.actor.clone()).unwrap_or_default(),
        pause_reason: pause.map(|pause| pause.reason).unwrap_or_default(),
        etag,
    }
}

pub fn stats(now_ms: i64, view: &QueueView) -> v1::QueueStats {
    let count = |state| view.facts.count(state) as i64;
    let Rates { enqueued, started, succeeded, failed, wait, run } = view.rates;
    v1::QueueStats {
        ready: count(State::Ready),
        running: count(State::Running),
        scheduled: count(State::Scheduled),
        retrying: count(State::Retrying),
        blocked: count(State::Blocked),
        dead: count(State::Dead),
        finished: view.facts.finished() as i64,
        latency: view.facts.oldest_ready_ms.map(|since| to_span((now_ms - since).max(0))),
        enqueued_per_second: enqueued,
        started_per_second: started,
        succeeded_per_second: succeeded,
        failed_per_second: failed,
        wait: Some(summary(wait)),
        run: Some(summary(run)),
        workers: view.workers as i32,
        slots: view.slots as i32,
        slots_busy: view.slots_busy as i32,
        unhandled_types: view.unhandled.iter().map(|(kind, jobs)| (kind.clone(), *jobs as i64)).collect(),
    }
}

fn summary(percentiles: Percentiles) -> v1::DurationSummary {
    let span = |ms: f64| {
        let nanos = (ms.max(0.0) * 1e6) as i64;
        Some(prost_types::Duration { seconds: nanos / 1_000_000_000, nanos: (nanos % 1_000_000_000) as i32 })
    };
    let Percentiles { p50, p95, p99, max } = percentiles;
    v1::DurationSummary { p50: span(p50), p95: span(p95), p99: span(p99), max: span(max) }
}

/// Adds the numbers of a queue to a total. Percentiles cannot be added: the total has the worst queue's. Workers and
/// slots serve several queues and are left alone.
pub fn add(total: &mut v1::QueueStats, one: v1::QueueStats) {
    total.ready += one.ready;
    total.running += one.running;
    total.scheduled += one.scheduled;
    total.retrying += one.retrying;
    total.blocked += one.blocked;
    total.dead += one.dead;
    total.finished += one.finished;
    total.latency = longer(total.latency, one.latency);
    total.enqueued_per_second += one.enqueued_per_second;
    total.started_per_second += one.started_per_second;
    total.succeeded_per_second += one.succeeded_per_second;
    total.failed_per_second += one.failed_per_second;
    total.wait = Some(worse(total.wait.take().unwrap_or_default(), one.wait.unwrap_or_default()));
    total.run = Some(worse(total.run.take().unwrap_or_default(), one.run.unwrap_or_default()));
    for (kind, jobs) in one.unhandled_types {
        *total.unhandled_types.entry(kind).or_default() += jobs;
    }
}

fn worse(a: v1::DurationSummary, b: v1::DurationSummary) -> v1::DurationSummary {
    v1::DurationSummary {
        p50: longer(a.p50, b.p50),
        p95: longer(a.p95, b.p95),
        p99: longer(a.p99, b.p99),
        max: longer(a.max, b.max),
    }
}

fn longer(a: Option<prost_types::Duration>, b: Option<prost_types::Duration>) -> Option<prost_types::Duration> {
    a.into_iter().chain(b).max_by_key(|span| (span.seconds, span.nanos))
}

impl Row for QueueView {
    fn values(&self, field: &str) -> Vec<Value> {
        match field {
            "name" => vec![Value::Text(self.facts.name.to_string())],
            "paused" => vec![Value::Bool(self.facts.pause.is_some())],
            _ => Vec::new(),
        }
    }
}
