//! Connected workers as they are shown and filtered.
use jobwire_proto::v1;

use super::{lease::directive_kind, to_time};
use crate::model::{
    filter::{Row, Value},
    worker::{Subscription, WorkerInfo, WorkerState, WorkerView},
};

pub fn worker(view: WorkerView) -> v1::Worker {
    v1::Worker {
        session_id: view.session_id,
        worker_id: view.worker_id,
        state: match view.state {
            WorkerState::Active => v1::WorkerState::Active,
            WorkerState::Quiet => v1::WorkerState::Quiet,
            WorkerState::Draining => v1::WorkerState::Draining,
        }
        .into(),
        directive: view.directive.map(|d| directive_kind(d.kind)).unwrap_or_default().into(),
        info: Some(info(view.info)),
        types: view.types.iter().map(ToString::to_string).collect(),
        subscriptions: view.subscriptions.into_iter().map(subscription).collect(),
        slots: view.slots as i32,
        concurrency: view.concurrency as i32,
        in_flight: view.in_flight as i32,
        running: view.running as i32,
        connect_time: Some(to_time(view.connect_ms)),
        last_seen_time: Some(to_time(view.last_seen_ms)),
        succeeded_count: view.succeeded as i64,
        failed_count: view.failed as i64,
        rss_bytes: view.rss_bytes,
        cpu_percent: view.cpu_percent,
        server_id: view.server_id,
    }
}

fn info(info: WorkerInfo) -> v1::WorkerInfo {
    v1::WorkerInfo {
        hostname: info.hostname,
        pid: info.pid,
        sdk: info.sdk,
        sdk_version: info.sdk_version,
        runtime: info.runtime,
        app_version: info.app_version,
        labels: info.labels.into_iter().collect(),
        start_time: info.start_ms.map(to_time),
    }
}

fn subscription(value: Subscription) -> v1::Subscription {
    v1::Subscription {
        queue: value.queue.to_string(),
        weight: value.weight as i32,
        strict: value.strict,
        max_slots: value.max_slots as i32,
    }
}

impl Row for WorkerView {
    fn values(&self, field: &str) -> Vec<Value> {
        let text = |text: &str| Value::Text(text.to_owned());
        match field {
            "session_id" => vec![text(&self.session_id)],
            "worker_id" => vec![text(&self.worker_id)],
            "state" => vec![text(match self.state {
                WorkerState::Active => "ACTIVE",
                WorkerState::Quiet => "QUIET",
                WorkerState::Draining => "DRAINING",
            })],
            "queue" => self.subscriptions.iter().map(|s| Value::Text(s.queue.to_string())).collect(),
            "type" => self.types.iter().map(|t| Value::Text(t.to_string())).collect(),
            "hostname" => vec![text(&self.info.hostname)],
            "sdk" => vec![text(&self.info.sdk)],
            _ => {
                let key = field.strip_prefix("label.").unwrap_or_default();
                self.info.labels.iter().filter(|(name, _)| name == key).map(|(_, value)| text(value)).collect()
            }
        }
    }
}
