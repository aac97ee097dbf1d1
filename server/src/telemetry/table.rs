//! Every metric, with its labels: what is not here is not shown. Names carry the prefix `jobwire_` outside. Label sets are
//! closed: never an id, a key, a tag or a message.

/// How values add up and what Prometheus is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; counted by this server. Sum over servers.
    Counter,
    /// A number now. What is merged under `(other)` is added.
    Gauge,
    /// As `Gauge`, but of what is merged the largest is shown.
    Largest,
}

/// One metric.
#[derive(Debug)]
pub struct Metric {
    /// Without the prefix.
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

/// By name.
pub fn find(name: &str) -> Option<&'static Metric> {
    TABLE.iter().find(|metric| metric.name == name)
}

const fn metric(name: &'static str, kind: Kind, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind, labels, help }
}

use Kind::{Counter, Gauge, Largest};

/// All of them. Gauges that are read from the store are the same on every server of a deployment: take the max.
pub const TABLE: &[Metric] = &[
    metric("jobs_enqueued_total", Counter, &["queue", "type"], "Jobs accepted"),
    metric("jobs_finished_total", Counter, &["queue", "type", "state"], "Jobs that ended, by how"),
    metric("attempts_total", Counter, &["queue", "type", "result"], "Leases that ended, by how"),
    metric("enqueue_repeats_total", Counter, &["queue", "status"], "Enqueues that met a job that was there before"),
    metric("enqueue_rejected_total", Counter, &["queue", "reason"], "Jobs refused"),
    metric("retries_scheduled_total", Counter, &["queue", "type"], "Failed attempts that will be followed by another"),
    metric("jobs", Gauge, &["queue", "state"], "Jobs in the store"),
    metric("queue_latency_seconds", Largest, &["queue"], "How long the oldest runnable job has waited"),
    metric("queue_paused", Largest, &["queue"], "1 while the queue is paused"),
    metric(
        "unhandled_jobs",
        Gauge,
        &["queue", "type"],
        "Jobs set aside because no connected worker handles their type",
    ),
    metric("workers", Gauge, &["state", "sdk"], "Connected workers"),
    metric("worker_slots", Gauge, &["queue", "state"], "Slots of the workers that serve the queue, free and busy"),
    metric("streams", Gauge, &[], "Open worker streams"),
    metric("stream_resumes_total", Counter, &["result"], "Workers that came back with leases in hand"),
    metric("leases_expired_total", Counter, &["queue", "started"], "Leases taken back from silent workers"),
    metric("lease_renewals_total", Counter, &[], "Leases renewed"),
    metric("recalls_total", Counter, &[], "Unstarted jobs asked back for idle workers"),
    metric("outcomes_rejected_total", Counter, &["reason"], "Outcomes that came too late or could not be applied"),
    metric("cancels_total", Counter, &["reason"], "Orders to stop a running job"),
    metric("store_calls_total", Counter, &["verb"], "Calls to the store"),
    metric("store_errors_total", Counter, &["verb", "kind"], "Calls to the store that failed"),
    metric("store_bytes", Gauge, &[], "Size of the store on disk, or in the memory of Redis"),
    metric("store_full", Gauge, &[], "1 while new jobs are refused for want of room"),
    metric("store_warnings", Gauge, &[], "What someone should look at; the log says what"),
    metric("store_up", Gauge, &[], "1 while the store answers"),
    metric("connections", Gauge, &["listener"], "Open connections"),
    metric("connections_refused_total", Counter, &["listener", "reason"], "Connections that were not served"),
    metric("accept_errors_total", Counter, &["listener"], "Failed accepts, for want of descriptors or memory"),
    metric("invariant_violations_total", Counter, &["id"], "Broken promises of the design; anything above 0 is a bug"),
    metric("durability_info", Gauge, &["level"], "1 for what an acknowledged change survives"),
    metric("build_info", Gauge, &["version", "commit", "store"], "1"),
    metric("ready", Gauge, &[], "1 while the server takes calls and its store answers"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_follow_the_rules_of_prometheus() {
        for (place, metric) in TABLE.iter().enumerate() {
            assert!(TABLE[..place].iter().all(|other| other.name != metric.name), "{} is there twice", metric.name);
            assert!(metric.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{}", metric.name);
            assert_eq!(metric.name.ends_with("_total"), metric.kind == Counter, "{}", metric.name);
            assert!(!metric.help.is_empty() && !metric.help.ends_with('.'), "{}", metric.name);
            assert_eq!(find(metric.name).map(|found| found.name), Some(metric.name));
        }
    }
}
