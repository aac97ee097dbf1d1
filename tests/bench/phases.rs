//! What is measured: each phase on servers and data of its own, checked for jobs lost or doubled.

use std::{
    path::PathBuf,
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use clap::ValueEnum;
use jobwire_proto::v1 as pb;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    Failure,
    contest::Peer,
    control,
    figures::Report,
    load::{self, Jobs, Running, Trace, conserved, settled},
    redis,
    server::{Place, Server},
    usage::{Load, Meter, quiet},
};

/// Longest wait for jobs to get done.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// Longest wait for other work on the machine to end.
pub const QUIET_PATIENCE: Duration = Duration::from_secs(5);
/// Callers of the concurrent enqueue.
pub const CALLERS: u64 = 256;
/// Rate of the open loop, jobs a second.
pub const OPEN_LOOP_RATE: u32 = 50;
/// Connected workers that have nothing to do.
const IDLE_WORKERS: usize = 100;
/// As many more, for the memory of one.
const MORE_IDLE_WORKERS: usize = 400;

/// What holds for every phase.
#[derive(Clone, Debug)]
pub struct Setting {
    pub program: PathBuf,
    pub dir: PathBuf,
    pub place: Place,
    /// Redis syncs on every write.
    pub always: bool,
    pub peers: Vec<Peer>,
    pub quick: bool,
    pub seed: u64,
    pub concurrency: usize,
    pub depth: u64,
}

impl Setting {
    pub fn pick<T>(&self, quick: T, full: T) -> T {
        if self.quick { quick } else { full }
    }

    /// How long a closed loop runs that goes by time.
    fn span(&self) -> Duration {
        Duration::from_secs(self.pick(2, 6))
    }

    /// Jobs of the calls that are timed one by one.
    fn lone_jobs(&self) -> u64 {
        self.pick(500, 2_000)
    }

    pub fn jobs(&self) -> Jobs {
        Jobs::new(self.seed)
    }
}

/// A phase, in the order they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Phase {
    /// One caller that awaits each enqueue
    EnqueueOne,
    /// 256 callers that do so at once
    #[value(name = "enqueue-256")]
    Enqueue256,
    /// Bulk calls, a few in flight
    EnqueueBulk,
    /// One worker empties a filled queue
    Drain,
    /// Producer and worker at once
    EndToEnd,
    /// Enqueue to handler, at 50 jobs a second
    Latency,
    /// A server that has nothing to do
    Idle,
    /// Script calls and commands in Redis per job
    RedisCalls,
    /// Memory of Redis per waiting job
    RedisWeight,
    /// A drain with every kind of limit and 100 fairness keys, beside one without
    Limits,
    /// A million jobs due in one second, and another queue meanwhile
    Due,
    /// 10,000 schedules that fire together
    Ticks,
    /// A million queued jobs: memory, disk, restart, cost per job
    Deep,
}

impl Phase {
    pub const ALL: [Self; 13] = [
        Self::EnqueueOne,
        Self::Enqueue256,
        Self::EnqueueBulk,
        Self::Drain,
        Self::EndToEnd,
        Self::Latency,
        Self::Idle,
        Self::RedisCalls,
        Self::RedisWeight,
        Self::Limits,
        Self::Due,
        Self::Ticks,
        Self::Deep,
    ];

    /// Whether it has a meaning on that store.
    pub fn fits(self, place: Place) -> bool {
        !matches!(self, Self::RedisCalls | Self::RedisWeight) || place == Place::Redis
    }
}

/// Runs a phase on a machine that is as quiet as it gets.
pub async fn run(phase: Phase, setting: &Setting, report: &mut Report) -> Result<(), Failure> {
    report.noise = quiet(QUIET_PATIENCE).await;
    match phase {
        Phase::EnqueueOne => enqueue_singly("enqueue_one", 1, setting, report).await,
        Phase::Enqueue256 => enqueue_singly("enqueue_256", CALLERS, setting, report).await,
        Phase::EnqueueBulk => enqueue_bulk(setting, report).await,
        Phase::Drain => drain(setting, report).await,
        Phase::EndToEnd => end_to_end(setting, report).await,
        Phase::Latency => latency(setting, report).await,
        Phase::Idle => idle(setting, report).await,
        Phase::RedisCalls => redis::calls(setting, report).await,
        Phase::RedisWeight => redis::weight(setting, report).await,
        Phase::Limits => control::limits(setting, report).await,
        Phase::Due => control::due(setting, report).await,
        Phase::Ticks => control::ticks(setting, report).await,
        Phase::Deep => deep(setting, report).await,
    }
}

async fn enqueue_singly(
    name: &'static str,
    callers: u64,
    setting: &Setting,
    report: &mut Report,
) -> Result<(), Failure> {
    let (server, jobs) = (Server::start(setting).await?, setting.jobs());
    let client = server.client()?;
    let warm_up = Instant::now() + setting.span() / 10;
    let before = load::enqueue_singly(&client, &jobs, callers, warm_up).await?;
    let meter = Meter::start(server.pids());
    let count = load::enqueue_singly(&client, &jobs, callers, Instant::now() + setting.span()).await?;
    let load = meter.read();
    conserved(&server, before + count, 0, None).await?;
    report.add(name, count as f64 / load.seconds, Some(load), json!({"jobs": count, "callers": callers}))
}

async fn enqueue_bulk(setting: &Setting, report: &mut Report) -> Result<(), Failure> {
    let (server, jobs) = (Server::start(setting).await?, setting.jobs());
    let client = server.client()?;
    let warm_up = Instant::now() + setting.span() / 10;
    let before = load::enqueue_bulk(&client, &jobs, Some(warm_up), u64::MAX).await?;
    let meter = Meter::start(server.pids());
    let count = load::enqueue_bulk(&client, &jobs, Some(Instant::now() + setting.span()), u64::MAX).await?;
    let load = meter.read();
    conserved(&server, before + count, 0, None).await?;
    report.add("enqueue_bulk", count as f64 / load.seconds, Some(load), json!({"jobs": count}))
}

/// From 5 % done, when the worker has got going, until the server has kept the last outcome.
async fn drain(setting: &Setting, report: &mut Report) -> Result<(), Failure> {
    let (server, jobs) = (Server::start(setting).await?, setting.jobs());
    let count = setting.pick(150_000, 400_000);
    load::enqueue_bulk(&server.client()?, &jobs, None, count).await?;
    conserved(&server, count, 0, None).await?;
    report.noise = quiet(QUIET_PATIENCE).await;
    let (measured, load) = emptied(&server, setting, count).await?;
    report.add("drain", measured as f64 / load.seconds, Some(load), json!({"jobs": measured}))
}

/// One worker does the `count` jobs that wait: how many of them were measured, and what that took.
pub async fn emptied(server: &Server, setting: &Setting, count: u64) -> Result<(u64, Load), Failure> {
    let trace = Trace::counting();
    let worker = Running::start(server, trace.clone(), setting.concurrency).await?;
    trace.reached(count / 20, PATIENCE).await?;
    let (meter, before) = (Meter::start(server.pids()), trace.done.load(Relaxed));
    trace.reached(count, PATIENCE).await?;
    settled(server, 0, PATIENCE).await?;
    let load = meter.read();
    worker.stop().await?;
    conserved(server, count, count, Some(trace.done.load(Relaxed))).await?;
    Ok((count - before, load))
}

/// From the first enqueue until the server has kept the last outcome.
async fn end_to_end(setting: &Setting, report: &mut Report) -> Result<(), Failure> {
    let (server, jobs) = (Server::start(setting).await?, setting.jobs());
    let client = server.client()?;
    let count = setting.pick(150_000, 400_000);
    let trace = Trace::counting();
    let worker = Running::start(&server, trace.clone(), setting.concurrency).await?;
    // A first call opens the connection.
    let before = load::enqueue_bulk(&client, &jobs, None, load::BULK).await?;
    trace.reached(before, PATIENCE).await?;
    let meter = Meter::start(server.pids());
    load::enqueue_bulk(&client, &jobs, None, count).await?;
    trace.reached(before + count, PATIENCE).await?;
    settled(&server, 0, PATIENCE).await?;
    let load = meter.read();
    worker.stop().await?;
    conserved(&server, before + count, before + count, Some(trace.done.load(Relaxed))).await?;
    report.add("end_to_end", count as f64 / load.seconds, Some(load), json!({"jobs": count}))
}

/// An open loop: each job is enqueued at its time, whatever became of those before it, and its delay counts from that
/// time on.
async fn latency(setting: &Setting, report: &mut Report) -> Result<(), Failure> {
    let (server, jobs) = (Server::start(setting).await?, setting.jobs());
    let interval = Duration::from_secs(1) / OPEN_LOOP_RATE;
    let warm_up = u64::from(OPEN_LOOP_RATE);
    let count = warm_up + u64::from(OPEN_LOOP_RATE) * setting.pick(10, 60);
    let epoch = Instant::now() + Duration::from_millis(200);
    let trace = Trace::delays(epoch, interval, warm_up);
    let worker = Running::start(&server, trace.clone(), 10).await?;
    let meter = Meter::start(server.pids());
    open_loop(&server, &jobs, epoch, interval, count).await?;
    trace.reached(count, PATIENCE).await?;
    settled(&server, 0, PATIENCE).await?;
    let load = meter.read();
    worker.stop().await?;
    conserved(&server, count, count, Some(trace.done.load(Relaxed))).await?;
    let delays = trace.histogram();
    let ms = |quantile: f64| delays.value_at_quantile(quantile) as f64 / 1e6;
    let more = || json!({"jobs": delays.len(), "rate": OPEN_LOOP_RATE, "max_ms": delays.max() as f64 / 1e6});
    report.add("latency_p50", ms(0.5), Some(load), more())?;
    report.add("latency_p99", ms(0.99), Some(load), more())?;
    report.add("latency_p999", ms(0.999), Some(load), more())
}

/// Enqueues so many jobs, each at its time, whatever became of those before it.
pub async fn open_loop(
    server: &Server,
    jobs: &Jobs,
    epoch: Instant,
    interval: Duration,
    count: u64,
) -> Result<(), Failure> {
    // A thread of its own, because the runtime's timers tick in milliseconds.
    let (runtime, client, jobs) = (tokio::runtime::Handle::current(), server.client()?, jobs.clone());
    let pacer = std::thread::spawn(move || {
        let mut calls = JoinSet::new();
        for n in 0..count {
            std::thread::sleep((epoch + interval * n as u32).saturating_duration_since(Instant::now()));
            let (client, job) = (client.clone(), jobs.job(n));
            calls.spawn_on(async move { client.enqueue(job).await.map(drop) }, &runtime);
        }
        calls
    });
    let calls = tokio::task::spawn_blocking(move || pacer.join()).await?.map_err(|_| "the pacer panicked")?;
    for call in calls.join_all().await {
        call?;
    }
    Ok(())
}

async fn idle(setting: &Setting, report: &mut Report) -> Result<(), Failure> {
    let server = Server::start(setting).await?;
    let span = Duration::from_secs(setting.pick(5, 10));
    let percent = |load: Load| load.server / load.seconds * 100.0;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let alone = at_rest(&server, span).await;
    report.add("idle_rss", server.rss_bytes() as f64 / 1e6, None, Value::Null)?;
    report.add("idle_cpu", percent(alone), Some(alone), Value::Null)?;
    let mut workers = Vec::with_capacity(IDLE_WORKERS + MORE_IDLE_WORKERS);
    for _ in 0..IDLE_WORKERS {
        workers.push(Running::start(&server, Trace::counting(), 10).await?);
    }
    let connected = at_rest(&server, span).await;
    report.add("idle_cpu_100", percent(connected), Some(connected), json!({"workers": IDLE_WORKERS}))?;
    // What the first ones took is there for good; what more of them add is what one costs.
    let before = server.rss_bytes();
    for _ in 0..MORE_IDLE_WORKERS {
        workers.push(Running::start(&server, Trace::counting(), 10).await?);
    }
    let growth = server.rss_bytes().saturating_sub(before) as f64 / MORE_IDLE_WORKERS as f64;
    report.add("idle_worker_kib", growth / 1024.0, None, json!({"workers": IDLE_WORKERS + MORE_IDLE_WORKERS}))?;
    for worker in workers {
        worker.stop().await?;
    }
    Ok(())
}

async fn at_rest(server: &Server, span: Duration) -> Load {
    let meter = Meter::start(server.pids());
    tokio::time::sleep(span).await;
    meter.read()
}

/// Fills a queue, restarts the server on it, and compares what a job costs there and on an empty queue.
async fn deep(setting: &Setting, report: &mut Report) -> Result<(), Failure> {
    let server = Server::start(setting).await?;
    let lone_empty = lone_jobs(&server, setting).await?;
    let done = setting.lone_jobs();
    let empty = in_and_out(&server, setting, 0, done).await?;
    drop(server);

    let (server, jobs, depth) = (Server::start(setting).await?, setting.jobs(), setting.depth);
    let client = server.client()?;
    // The caches fill with the first part; what the rest adds is what a job costs.
    let first = depth / 5;
    load::enqueue_bulk(&client, &jobs, None, first).await?;
    let (rss_first, begun) = (server.rss_bytes(), Instant::now());
    load::enqueue_bulk(&client, &jobs, None, depth - first).await?;
    let fill_rate = (depth - first) as f64 / begun.elapsed().as_secs_f64();
    let rss = server.rss_bytes();
    conserved(&server, depth, 0, None).await?;
    let per_job = |bytes: u64, jobs: u64| bytes as f64 / jobs as f64;
    let memory = per_job(rss.saturating_sub(rss_first), depth - first) - load::PAYLOAD_BYTES as f64;
    if setting.place == Place::Embedded {
        report.add("memory_job", memory, None, json!({"depth": depth, "fill_rate": fill_rate}))?;
        report.add("disk_job", per_job(server.disk_bytes()?, depth), None, json!({"depth": depth}))?;
    }
    report.add("deep_rss", rss as f64 / 1e6, None, json!({"depth": depth, "fill_rate": fill_rate}))?;

    let server = if setting.place == Place::Memory { server } else { server.kill_and_start().await? };
    if setting.place != Place::Memory {
        report.add("restart", server.start_time.as_secs_f64(), None, json!({"depth": depth}))?;
        conserved(&server, depth, 0, None).await?;
        report.add("deep_rss_restarted", server.rss_bytes() as f64 / 1e6, None, json!({"depth": depth}))?;
    }

    report.noise = quiet(QUIET_PATIENCE).await;
    let lone_deep = lone_jobs(&server, setting).await?;
    for (at, name) in ["deep_enqueue", "deep_claim", "deep_complete"].into_iter().enumerate() {
        let (deep, empty) = (lone_deep[at], lone_empty[at]);
        let more = json!({"depth": depth, "p50_us": deep * 1e6, "p50_us_empty": empty * 1e6});
        report.add(name, deep / empty, None, more)?;
    }
    let deep = in_and_out(&server, setting, depth, done).await?;
    if let Some(redis) = server.redis() {
        redis::slow(redis, report)?;
    }
    report.add("deep_cost", deep.server / empty.server, Some(deep), json!({"depth": depth}))?;
    report.add("deep_time", deep.seconds / empty.seconds, Some(deep), json!({"depth": depth}))
}

/// One job after the other is enqueued, leased and completed, each call awaited: the median of each call, s. What is
/// leased is the front of the queue.
async fn lone_jobs(server: &Server, setting: &Setting) -> Result<[f64; 3], Failure> {
    let (client, jobs, mut workers) = (server.client()?, setting.jobs(), server.workers());
    let mut times: [Vec<f64>; 3] = Default::default();
    for n in 0..setting.lone_jobs() {
        let begun = Instant::now();
        client.enqueue(jobs.job(n)).await?;
        times[0].push(begun.elapsed().as_secs_f64());
        let begun = Instant::now();
        let lease = pb::LeaseJobsRequest {
            types: vec![load::QUEUE.to_owned()],
            max_jobs: 1,
            wait: Some(prost_types::Duration { seconds: 5, nanos: 0 }),
            ..Default::default()
        };
        let lease = workers.lease_jobs(lease).await?.into_inner().jobs.pop().ok_or("no job was leased")?;
        times[1].push(begun.elapsed().as_secs_f64());
        let begun = Instant::now();
        let outcome = pb::Outcome {
            lease_token: lease.lease_token,
            result: Some(pb::outcome::Result::Succeeded(pb::Succeeded::default())),
            ..Default::default()
        };
        let report = pb::ReportJobsRequest { outcomes: vec![outcome], ..Default::default() };
        if let Some(rejection) = workers.report_jobs(report).await?.into_inner().rejections.pop() {
            return Err(format!("an outcome was rejected: {rejection:?}").into());
        }
        times[2].push(begun.elapsed().as_secs_f64());
    }
    Ok(times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    }))
}

/// Puts so many jobs in behind the `waiting` ones, then has as many done from the front. `before`: done already.
async fn in_and_out(server: &Server, setting: &Setting, waiting: u64, before: u64) -> Result<Load, Failure> {
    let (client, jobs) = (server.client()?, setting.jobs());
    let count = setting.pick(150_000, 300_000);
    let meter = Meter::start(server.pids());
    load::enqueue_bulk(&client, &jobs, None, count).await?;
    let trace = Trace::counting();
    let worker = Running::start(server, trace.clone(), setting.concurrency).await?;
    trace.reached(count, PATIENCE).await?;
    settled(server, waiting, PATIENCE).await?;
    let load = meter.read();
    worker.stop().await?;
    let done = trace.done.load(Relaxed);
    conserved(server, before + waiting + count, before + done, Some(before + done)).await?;
    Ok(load)
}
