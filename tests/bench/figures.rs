//! The figures: what each is called, what it should reach, how it is printed and kept.

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

use crate::{
    Failure, load,
    phases::Setting,
    server::{Place, Server},
    usage::{self, Load},
};

/// What a figure should reach.
#[derive(Clone, Copy, Debug)]
enum Target {
    AtLeast(f64),
    AtMost(f64),
    /// Printed for comparison only.
    None,
}

/// One kind of figure.
struct Metric {
    name: &'static str,
    title: &'static str,
    unit: &'static str,
    target: Target,
    /// Where another is to be reached on Redis.
    on_redis: Option<Target>,
}

const fn metric(name: &'static str, title: &'static str, unit: &'static str, target: Target) -> Metric {
    Metric { name, title, unit, target, on_redis: None }
}

impl Metric {
    const fn on_redis(self, target: Target) -> Self {
        Self { on_redis: Some(target), ..self }
    }
}

/// In the order of the table. Targets: two cores with everything on them, durable before the answer.
const METRICS: [Metric; 41] = [
    metric("enqueue_one", "enqueue, one awaited at a time", "jobs/s", Target::AtLeast(4_000.0))
        .on_redis(Target::AtLeast(5_000.0)),
    metric("enqueue_256", "enqueue, 256 callers at once", "jobs/s", Target::AtLeast(40_000.0)),
    metric("enqueue_bulk", "enqueue many, 500 a call", "jobs/s", Target::AtLeast(120_000.0)),
    metric("drain", "drain of a filled queue", "jobs/s", Target::AtLeast(80_000.0)).on_redis(Target::AtLeast(60_000.0)),
    metric("end_to_end", "producer and worker at once", "jobs/s", Target::AtLeast(45_000.0))
        .on_redis(Target::AtLeast(35_000.0)),
    metric("latency_p50", "enqueue to handler, p50", "ms", Target::AtMost(0.6)),
    metric("latency_p99", "enqueue to handler, p99", "ms", Target::AtMost(2.0)),
    metric("latency_p999", "enqueue to handler, p99.9", "ms", Target::None),
    metric("idle_rss", "server at rest, resident", "MB", Target::AtMost(30.0)),
    metric("idle_cpu", "server at rest", "% of a core", Target::AtMost(0.5)),
    metric("idle_cpu_100", "server with 100 idle workers", "% of a core", Target::AtMost(0.5)),
    metric("idle_worker_kib", "memory of an idle worker's connection", "KiB", Target::AtMost(64.0)),
    metric("memory_job", "memory per queued job over its payload", "B", Target::AtMost(200.0)),
    metric("deep_rss", "server with the deep queue, resident", "MB", Target::None),
    metric("disk_job", "disk per queued job, payload included", "B", Target::None),
    metric("restart", "restart after a kill, deep queue", "s", Target::AtMost(2.0)),
    metric("deep_rss_restarted", "server with the deep queue, restarted", "MB", Target::None),
    metric("deep_enqueue", "enqueue p50, deep queue / empty", "ratio", Target::AtMost(1.3)),
    metric("deep_claim", "lease p50, deep queue / empty", "ratio", Target::AtMost(1.3)),
    metric("deep_complete", "completion p50, deep queue / empty", "ratio", Target::AtMost(1.3)),
    metric("deep_cost", "server CPU per job, deep queue / empty", "ratio", Target::AtMost(1.3)),
    metric("deep_time", "time per job, deep queue / empty", "ratio", Target::AtMost(1.3)),
    metric("drain_plain", "drain beside it: no limits, no keys", "jobs/s", Target::None),
    metric("drain_limited", "drain with limits and 100 fairness keys", "jobs/s", Target::None),
    metric("limits_share", "the same, share of the drain without", "ratio", Target::AtLeast(0.7)),
    metric("due_rate", "jobs due in one second, done", "jobs/s", Target::AtLeast(40_000.0))
        .on_redis(Target::AtLeast(20_000.0)),
    metric("due_disorder", "the most by which one of them was overtaken", "ms", Target::AtMost(100.0)),
    metric("due_other_p99", "enqueue to handler of another queue meanwhile, p99", "ms", Target::AtMost(1_000.0)),
    metric("tick_late_p50", "10,000 schedules that fire together, p50", "ms", Target::None),
    metric("tick_late_p99", "tick to handler of 10,000 schedules together, p99", "ms", Target::AtMost(1_000.0)),
    metric("redis_scripts_1", "script calls per job, one at a time", "calls", Target::AtMost(3.5)),
    metric("redis_commands_1", "Redis commands per job, one at a time", "commands", Target::None),
    metric("redis_scripts_10", "script calls per job, batches of 10", "calls", Target::None),
    metric("redis_commands_10", "Redis commands per job, batches of 10", "commands", Target::None),
    metric("redis_scripts_100", "script calls per job, batches of 100", "calls", Target::None),
    metric("redis_commands_100", "Redis commands per job, batches of 100", "commands", Target::None),
    metric("redis_ready_job", "Redis memory per ready job over its payload", "B", Target::AtMost(250.0)),
    metric("redis_scheduled_job", "Redis memory per scheduled job over its payload", "B", Target::AtMost(350.0)),
    metric("bullmq_ready_job", "the same, a waiting job of BullMQ", "B", Target::None),
    metric("bullmq_scheduled_job", "the same, a delayed job of BullMQ", "B", Target::None),
    metric("redis_slow", "scripts over 5 ms, deep queue", "calls", Target::AtMost(0.0)),
];

/// One figure as measured.
struct Figure {
    name: &'static str,
    value: f64,
    load: Option<Load>,
    /// Busy cores just before.
    noise: f64,
}

/// Takes figures in, writes each down at once, and prints them all at the end.
pub struct Report {
    file: File,
    figures: Vec<Figure>,
    on_redis: bool,
    /// Busy cores before the phase that runs.
    pub noise: f64,
}

impl Report {
    /// Begins a file of results and prints what is measured, and on what.
    pub async fn create(dir: &Path, setting: &Setting) -> Result<Self, Failure> {
        fs::create_dir_all(dir)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let path = dir.join(format!("{now}.json"));
        let mut file = File::create(&path)?;
        let server = Server::start(setting).await?;
        let info = server.info().await?;
        let sync = usage::sync_time(&setting.dir)?;
        let head = json!({
            "run": now,
            "server": info.version,
            "store": info.store,
            "durability": info.durability,
            "sdk": format!("jobwire {} (Rust)", env!("CARGO_PKG_VERSION")),
            "cores": std::thread::available_parallelism()?.get(),
            "kernel": fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim(),
            "file_system": usage::file_system(&setting.dir),
            "sync_ms": sync.as_secs_f64() * 1e3,
            "seed": setting.seed,
            "quick": setting.quick,
            "bulk": load::BULK,
            "bulks_in_flight": load::BULKS_IN_FLIGHT,
            "worker_concurrency": setting.concurrency,
            "depth": setting.depth,
        });
        writeln!(file, "{head}")?;
        println!(
            "jobwire {} on {} ({}), {} cores, {}; a synced write takes {:.2} ms; seed {}; results in {}",
            info.version,
            info.store,
            info.durability,
            head["cores"],
            head["file_system"].as_str().unwrap_or_default(),
            sync.as_secs_f64() * 1e3,
            setting.seed,
            path.display(),
        );
        if head["file_system"] == "tmpfs" {
            println!("WARNING: the data is in memory, not on a disk: choose another folder with --dir");
        }
        Ok(Self { file, figures: Vec::new(), on_redis: setting.place == Place::Redis, noise: 0.0 })
    }

    /// A figure with whatever else belongs to it.
    pub fn add(&mut self, name: &'static str, value: f64, load: Option<Load>, more: Value) -> Result<(), Failure> {
        let known = METRICS.iter().find(|metric| metric.name == name).expect("every figure is in the table");
        let mut line = json!({"metric": name, "value": value, "unit": known.unit, "noise_cores": self.noise});
        if let Some(load) = load {
            line["seconds"] = load.seconds.into();
            line["server_cpu_s"] = load.server.into();
            line["generator_cpu_s"] = load.generator.into();
            line["others_cpu_s"] = load.others.into();
        }
        if let Value::Object(more) = more {
            line.as_object_mut().expect("it is one").extend(more);
        }
        writeln!(self.file, "{line}")?;
        println!("{:<40} {:>12} {}", known.title, number(value), known.unit);
        self.figures.push(Figure { name, value, load, noise: self.noise });
        Ok(())
    }

    /// A figure of a program that is compared with others.
    pub fn line(
        &mut self,
        system: &str,
        title: &str,
        value: f64,
        cores: Option<[f64; 3]>,
        more: Value,
    ) -> Result<(), Failure> {
        let mut line = json!({"system": system, "metric": title, "value": value, "noise_cores": self.noise});
        if let Some([producer, worker, store]) = cores {
            line["cores"] = json!({"producer": producer, "worker": worker, "store": store});
        }
        if let Value::Object(more) = more {
            line.as_object_mut().expect("it is one").extend(more);
        }
        writeln!(self.file, "{line}")?;
        println!("{system:<12} {title:<42} {:>12}", number(value));
        Ok(())
    }

    /// Medians of all figures beside what they should reach.
    pub fn table(&self) {
        println!();
        println!(
            "| figure | target | median | lowest – highest | ratio | server cores | generator cores | others |\n\
             |---|---|---|---|---|---|---|---|"
        );
        for metric in &METRICS {
            let mut found: Vec<&Figure> = self.figures.iter().filter(|figure| figure.name == metric.name).collect();
            if found.is_empty() {
                continue;
            }
            found.sort_by(|a, b| a.value.total_cmp(&b.value));
            let middle = found[found.len() / 2];
            let (lowest, highest) = (found[0].value, found[found.len() - 1].value);
            let target = metric.on_redis.filter(|_| self.on_redis).unwrap_or(metric.target);
            let (target, ratio) = match target {
                Target::AtLeast(least) => (format!("≥ {}", number(least)), format!("{:.2}", middle.value / least)),
                Target::AtMost(0.0) => ("0".to_owned(), if middle.value > 0.0 { "0" } else { "1" }.to_owned()),
                Target::AtMost(most) => {
                    (format!("≤ {}", number(most)), format!("{:.2}", most / middle.value.max(most / 100.0)))
                }
                Target::None => (String::new(), String::new()),
            };
            let cores = middle.load.map_or_else(
                || format!(" | | {:.2}", middle.noise),
                |load| {
                    let [server, generator, others] =
                        [load.server, load.generator, load.others].map(|s| s / load.seconds);
                    format!("{server:.2} | {generator:.2} | {others:.2}")
                },
            );
            println!(
                "| {} ({}) | {target} | {} | {} – {} | {ratio} | {cores} |",
                metric.title,
                metric.unit,
                number(middle.value),
                number(lowest),
                number(highest),
            );
        }
        println!(
            "\nratio: 1 or more = reached. cores: CPU seconds per second; others: before the phase, where no rate is."
        );
    }
}

/// Thousands separated; three digits that count below.
pub fn number(value: f64) -> String {
    if value < 10.0 {
        return format!("{value:.2}");
    }
    if value < 1_000.0 {
        return format!("{value:.0}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
