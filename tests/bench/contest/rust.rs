//! The Rust SDK under load, in programs of its own like those of the others: see `tests/bench/lines.py`.

use std::{
    fs::OpenOptions,
    io::Write as _,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use jobwire::prelude::*;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, stdin},
    task::JoinSet,
};

use super::system::Role;
use crate::{
    Failure,
    load::{BULK, BULKS_IN_FLIGHT, PAYLOAD_BYTES, QUEUE},
};

/// A job of 100 bytes. `t`: when it was enqueued, µs of the system's monotonic clock, if somebody wants to know.
#[derive(Debug, Serialize, Deserialize)]
struct Noop {
    t: u64,
    pad: String,
}

impl Task for Noop {
    const TYPE: &'static str = QUEUE;
    type Output = String;
}

fn clock() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1_000
}

fn job(t: u64) -> Noop {
    let digits = t.checked_ilog10().unwrap_or(0) as usize + 1;
    let pad = variable("BENCH_PAD").unwrap_or_default();
    Noop { t, pad: pad[..PAYLOAD_BYTES - r#"{"t":,"pad":""}"#.len() - digits].to_owned() }
}

fn variable(name: &str) -> Result<String, Failure> {
    std::env::var(name).map_err(|_| format!("{name} is not set: this is a program of the benchmark").into())
}

/// Runs until the driver has had enough.
pub async fn run(role: Role) -> Result<(), Failure> {
    let client = Client::connect(variable("BENCH_URL")?)?;
    match role {
        Role::Produce => produce(&client).await,
        Role::Work => work(client).await,
    }
}

async fn produce(client: &Client) -> Result<(), Failure> {
    println!("{}", json!({"runtime": "Rust"}));
    let mut commands = BufReader::new(stdin()).lines();
    while let Some(line) = commands.next_line().await? {
        let command: Value = serde_json::from_str(&line)?;
        let number = |name: &str| command[name].as_u64();
        let end = command["seconds"].as_f64().map(|seconds| Instant::now() + Duration::from_secs_f64(seconds));
        let jobs = match command["do"].as_str().unwrap_or_default() {
            "many" => closed(client, BULKS_IN_FLIGHT, BULK, end, number("jobs").unwrap_or(u64::MAX)).await?,
            "paced" => paced(client, number("rate").unwrap_or(1), number("jobs").unwrap_or(0)).await?,
            _ => closed(client, number("callers").unwrap_or(1), 1, end, u64::MAX).await?,
        };
        println!("{}", json!({"jobs": jobs}));
    }
    Ok(())
}

/// So many callers put jobs in, `step` a call, until there is no time, or nothing to make, any more.
async fn closed(client: &Client, callers: u64, step: u64, end: Option<Instant>, jobs: u64) -> Result<u64, Failure> {
    let made = std::sync::Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let (client, made) = (client.clone(), made.clone());
        tasks.spawn(async move {
            let mut done = 0;
            loop {
                let first = made.fetch_add(step, Relaxed);
                if first >= jobs || end.is_some_and(|end| Instant::now() >= end) {
                    return Ok::<u64, Error>(done);
                }
                let count = step.min(jobs - first);
                if step == 1 {
                    client.enqueue(job(0)).await?;
                } else {
                    for answer in client.enqueue_many((0..count).map(|_| job(0))).await {
                        answer?;
                    }
                }
                done += count;
            }
        });
    }
    let mut total = 0;
    while let Some(done) = tasks.join_next().await {
        total += done??;
    }
    Ok(total)
}

/// An open loop: each job at its time, whatever became of those before it.
async fn paced(client: &Client, rate: u64, jobs: u64) -> Result<u64, Failure> {
    let (begun, mut calls) = (Instant::now(), JoinSet::new());
    for n in 0..jobs {
        let at = begun + Duration::from_secs(1) * n as u32 / rate as u32;
        tokio::time::sleep_until(at.into()).await;
        let client = client.clone();
        calls.spawn(async move { client.enqueue(job(clock())).await.map(drop) });
    }
    while let Some(done) = calls.join_next().await {
        done??;
    }
    Ok(jobs)
}

async fn noop(ctx: Ctx<Noop>) -> Result<String, JobError> {
    let t = ctx.input().t;
    if t > 0 {
        let delay = clock() - t;
        let delays = variable("BENCH_DELAYS").unwrap_or_default();
        let mut file = OpenOptions::new().create(true).append(true).open(delays)?;
        writeln!(file, "{delay}")?;
    }
    Ok("ok".to_owned())
}

async fn work(client: Client) -> Result<(), Failure> {
    let concurrency = variable("BENCH_CONCURRENCY")?.parse()?;
    let worker = Worker::builder(client).concurrency(concurrency).prefetch(concurrency).handle(noop);
    worker.run_until(jobwire::shutdown_signal()).await?;
    Ok(())
}
