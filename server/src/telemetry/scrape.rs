//! One scrape: values are added by name, then written as Prometheus text. Names of queues and types are limited, so that
//! a producer that invents them cannot blow up the time series.
use std::{
    collections::{BTreeMap, HashSet},
    sync::Mutex,
};

use prometheus::{
    TextEncoder,
    proto::{Counter, Gauge, LabelPair, Metric as Sample, MetricFamily, MetricType},
};

use super::table::{self, Kind, TABLE};

/// Names of one label that get time series of their own; later ones are `(other)`, which no queue can be called.
pub const NAMES_MAX: usize = 200;
const OTHER: &str = "(other)";

/// Which names have been given a series. Lives as long as the server: a counter must not move between series.
#[derive(Debug, Default)]
pub struct Names {
    queue: Mutex<HashSet<String>>,
    kind: Mutex<HashSet<String>>,
}

impl Names {
    fn admit(&self, label: &str, value: &str) -> String {
        let names = match label {
            "queue" => &self.queue,
            "type" => &self.kind,
            _ => return value.to_owned(),
        };
        let mut names = names.lock().expect("no one panics while holding the names");
        if names.contains(value) || (names.len() < NAMES_MAX && names.insert(value.to_owned())) {
            value.to_owned()
        } else {
            OTHER.to_owned()
        }
    }
}

/// Values gathered for one answer.
pub struct Scrape<'a> {
    names: &'a Names,
    /// By metric, then by label values.
    values: BTreeMap<&'static str, BTreeMap<Vec<String>, f64>>,
}

impl<'a> Scrape<'a> {
    pub fn new(names: &'a Names) -> Self {
        Self { names, values: BTreeMap::new() }
    }

    /// Adds a value. A name that is not in the table, or with other labels, is a mistake of ours and left out.
    pub fn add(&mut self, name: &str, labels: &[&str], value: f64) {
        let metric = match table::find(name) {
            Some(metric) if metric.labels.len() == labels.len() => metric,
            _ => {
                debug_assert!(false, "metric {name} with {} labels is not in the table", labels.len());
                return;
            }
        };
        let labels = metric.labels.iter().zip(labels).map(|(label, value)| self.names.admit(label, value)).collect();
        let slot = self.values.entry(metric.name).or_default().entry(labels).or_insert(0.0);
        *slot = if metric.kind == Kind::Largest { slot.max(value) } else { *slot + value };
    }

    /// The text exposition format, in the order of the table, then what is known of the process.
    pub fn text(self) -> String {
        let mut families = Vec::new();
        for metric in TABLE {
            let Some(values) = self.values.get(metric.name) else { continue };
            let mut family = MetricFamily::default();
            family.set_name(format!("jobwire_{}", metric.name));
            family.set_help(metric.help.to_owned());
            let counter = metric.kind == Kind::Counter;
            family.set_field_type(if counter { MetricType::COUNTER } else { MetricType::GAUGE });
            family.set_metric(
                values.iter().map(|(values, value)| sample(metric.labels, values, *value, counter)).collect(),
            );
            families.push(family);
        }
        families.extend(process());
        TextEncoder::new().encode_to_string(&families).expect("families have names and samples, and a String takes all")
    }
}

fn sample(labels: &[&str], values: &[String], value: f64, counter: bool) -> Sample {
    let pairs = labels.iter().zip(values).map(|(label, value)| {
        let mut pair = LabelPair::default();
        pair.set_name((*label).to_owned());
        pair.set_value(value.clone());
        pair
    });
    let mut sample = Sample::from_label(pairs.collect());
    if counter {
        let mut number = Counter::default();
        number.set_value(value);
        sample.set_counter(number);
    } else {
        let mut number = Gauge::default();
        number.set_value(value);
        sample.set_gauge(number);
    }
    sample
}

/// CPU, memory, descriptors, start time.
#[cfg(target_os = "linux")]
fn process() -> Vec<MetricFamily> {
    use prometheus::{core::Collector as _, process_collector::ProcessCollector};
    // Samples of 0.14 come without the families that need a second reading.
    ProcessCollector::for_self().collect()
}

#[cfg(not(target_os = "linux"))]
fn process() -> Vec<MetricFamily> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_with_name_help_type_and_escaped_labels() {
        let names = Names::default();
        let mut scrape = Scrape::new(&names);
        scrape.add("jobs", &["mail", "ready"], 3.0);
        scrape.add("jobs", &["mail", "ready"], 4.0);
        scrape.add("build_info", &["1.0", "a\"b\\c", "memory"], 1.0);
        let text = scrape.text();
        assert!(text.contains("# HELP jobwire_jobs Jobs in the store\n# TYPE jobwire_jobs gauge\n"), "{text}");
        assert!(text.contains("jobwire_jobs{queue=\"mail\",state=\"ready\"} 7\n"), "{text}");
        assert!(text.contains(r#"commit="a\"b\\c""#), "{text}");
    }

    #[test]
    fn names_beyond_the_limit_share_one_series_and_keep_sharing_it() {
        let names = Names::default();
        for round in 0..2 {
            let mut scrape = Scrape::new(&names);
            for queue in 0..NAMES_MAX + 5 {
                scrape.add("jobs", &[&format!("q{queue}"), "ready"], 1.0);
                scrape.add("queue_latency_seconds", &[&format!("q{queue}")], queue as f64);
            }
            let text = scrape.text();
            assert!(text.contains("jobwire_jobs{queue=\"(other)\",state=\"ready\"} 5\n"), "round {round}");
            assert!(text.contains("jobwire_queue_latency_seconds{queue=\"(other)\"} 204\n"), "round {round}");
            assert_eq!(text.matches("jobwire_jobs{").count(), NAMES_MAX + 1);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_process_is_described() {
        let text = Scrape::new(&Names::default()).text();
        for name in ["process_resident_memory_bytes", "process_open_fds", "process_cpu_seconds_total"] {
            assert!(text.contains(&format!("\n{name} ")), "{name} in {text}");
        }
    }
}
