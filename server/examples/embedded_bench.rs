//! Measures the embedded store by itself, below the engine: `cargo run --release -p jobwire-server --example
//! embedded_bench -- lives --jobs 1000000 --batch 100`.
//!
//! `latency`: one put at a time. `lives`: put, claim and finish by several tasks at once, finished records trimmed as
//! the engine does. `queued`: memory and disk per queued job, time to open again, then the queue is drained.
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use clap::{Parser, ValueEnum};
use jobwire_server::{
    model::{
        ids::{JobId, QueueName, Shard},
        job::{Attempt, AttemptResult, Body, Outcome, Start},
        op::{Act, Claim, Due, Guard, NewJob, Op, Put, Verdict},
        policy::Policy,
        state::{State, StateSet},
        time::{Clock, Now},
    },
    store::{
        Durability, Store,
        embedded::{EmbeddedStore, Options},
    },
};
use uuid::Uuid;

#[derive(Parser)]
struct Args {
    mode: Mode,
    #[arg(long, default_value_t = 500_000)]
    jobs: u64,
    /// Jobs in one call.
    #[arg(long, default_value_t = 100)]
    batch: u64,
    /// Tasks that put, and as many that claim and finish.
    #[arg(long, default_value_t = 4)]
    tasks: u64,
    #[arg(long, default_value_t = 100)]
    payload_bytes: usize,
    /// Answer before the sync.
    #[arg(long)]
    fast: bool,
    /// Where the store is made, and removed afterwards.
    #[arg(long, default_value = "embedded-bench-data")]
    dir: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum Mode {
    Latency,
    Lives,
    Queued,
}

struct SystemClock(Instant);

impl Clock for SystemClock {
    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        Now { wall_ms: wall.as_millis() as i64, mono_ms: self.0.elapsed().as_millis() as i64 }
    }
}

const SHARD: Shard = Shard(0);

fn main() {
    let args = Args::parse();
    let _ = std::fs::remove_dir_all(&args.dir);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        match args.mode {
            Mode::Latency => latency(&args).await,
            Mode::Lives => lives(&args).await,
            Mode::Queued => queued(&args).await,
        }
    });
    let _ = std::fs::remove_dir_all(&args.dir);
}

fn open(args: &Args) -> Arc<EmbeddedStore> {
    let durability = if args.fast { Durability::EmbeddedFast } else { Durability::EmbeddedFsync };
    let options = Options { durability, ..Options::default() };
    EmbeddedStore::open(&args.dir, options, Arc::new(SystemClock(Instant::now()))).expect("the store opens")
}

fn queue() -> QueueName {
    "bench".parse().expect("a name")
}

fn job(args: &Args) -> NewJob {
    let mut task = vec![b'x'; args.payload_bytes];
    // What the encoded task carries besides: id, type, queue, times.
    task.extend_from_slice(&[b't'; 80]);
    let body = Body { policy: Policy::default(), task: task.into() };
    NewJob {
        id: JobId::stamp(Uuid::now_v7(), SHARD),
        kind: queue(),
        queue: queue(),
        priority: 0,
        start: Start::Now,
        expire_ms: 0,
        deadline_ms: 0,
        create_ms: 0,
        content: 1,
        unique: None,
        idempotency: None,
        fair: 0,
        overshoots: false,
        blocked: false,
        owner: None,
        body: body.encode(),
    }
}

fn finish(id: JobId, secret: u64, delivery: u32) -> Op {
    let last = Attempt {
        attempt: 1,
        delivery,
        worker_id: "worker-1".to_owned(),
        session_id: "0193-session".to_owned(),
        start_ms: 1_700_000_000_000,
        finish_ms: 1_700_000_000_001,
        result: AttemptResult::Succeeded,
        failure: None,
        run_ms: Some(1),
        wait_ms: 1,
    };
    let outcome = Outcome { result: None, failure: None, last: Some(last) };
    let act = Act::Finish { to: State::Succeeded, outcome, retain_ms: 3_600_000, effects: Vec::new() };
    Op { id, guard: Guard::Token(secret), act }
}

async fn put(store: &EmbeddedStore, args: &Args, count: u64) {
    let jobs = (0..count).map(|_| job(args)).collect();
    let answers = store.put(SHARD, jobs).await.expect("the store takes jobs");
    assert!(answers.iter().all(|answer| matches!(answer, Put::Created { .. })));
}

/// Claims up to a batch and finishes it; how many.
async fn work(store: &EmbeddedStore, args: &Args) -> u64 {
    let secrets = (0..args.batch).map(|_| rand::random()).collect();
    let claim = Claim { queue: queue(), secrets, from_bottom: 0, bytes: 1 << 20, lease_ms: 30_000, started: true };
    let claimed = store.claim(SHARD, claim).await.expect("the store lends jobs");
    if claimed.jobs.is_empty() {
        return 0;
    }
    assert!(claimed.jobs.iter().all(|leased| leased.body.is_some()));
    let ops: Vec<Op> =
        claimed.jobs.iter().map(|leased| finish(leased.meta.id, leased.secret, leased.meta.delivery)).collect();
    let done = ops.len() as u64;
    let verdicts = store.apply(SHARD, ops).await.expect("the store takes outcomes");
    assert!(verdicts.iter().all(|verdict| matches!(verdict, Verdict::Done(_))));
    done
}

async fn latency(args: &Args) {
    let store = open(args);
    let count = args.jobs.min(20_000);
    let mut times = Vec::new();
    for _ in 0..count {
        let start = Instant::now();
        put(&store, args, 1).await;
        times.push(start.elapsed());
    }
    report("one put", &mut times);
    store.close().await;
}

async fn lives(args: &Args) {
    let store = open(args);
    let (made, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    let args = Arc::new(Args { dir: args.dir.clone(), ..*args });
    for _ in 0..args.tasks {
        let (store, made, args) = (store.clone(), made.clone(), args.clone());
        tasks.spawn(async move {
            let mut times = Vec::new();
            while made.fetch_add(args.batch, Relaxed) < args.jobs {
                let start = Instant::now();
                put(&store, &args, args.batch).await;
                times.push(start.elapsed());
            }
            times
        });
    }
    for _ in 0..args.tasks {
        let (store, done, args) = (store.clone(), done.clone(), args.clone());
        tasks.spawn(async move {
            let mut wakes = store.watch();
            while done.load(Relaxed) < args.jobs {
                let count = work(&store, &args).await;
                done.fetch_add(count, Relaxed);
                if count == 0 {
                    let _ = tokio::time::timeout(Duration::from_millis(5), wakes.recv()).await;
                }
            }
            Vec::new()
        });
    }
    let trimmer = tokio::spawn(trim(store.clone()));
    let mut times = Vec::new();
    while let Some(more) = tasks.join_next().await {
        times.extend(more.expect("no task panics"));
    }
    let rate = done.load(Relaxed) as f64 / start.elapsed().as_secs_f64();
    trimmer.abort();
    let info = store.info().await.expect("the store says how it is");
    println!("{} whole lives: {rate:.0} a second, {} MiB on disk", done.load(Relaxed), info.bytes >> 20);
    report(&format!("put of {}", args.batch), &mut times);
    let found = store.recount().await.expect("the store counts");
    assert!(found.is_empty(), "{found:?}");
    store.close().await;
}

/// Deletes finished records that are too many, as the engine does.
async fn trim(store: Arc<EmbeddedStore>) {
    loop {
        let due = store.due(SHARD, 500).await.expect("the store says what is due");
        let ops: Vec<Op> = due
            .entries
            .into_iter()
            .filter_map(|due| match due {
                Due::Job { kind, meta } => {
                    assert!(StateSet::TERMINAL.has(meta.state));
                    Some(Op { id: meta.id, guard: Guard::Due(kind), act: Act::Delete })
                }
                Due::QueueOpens(_) | Due::Doc { .. } => None,
            })
            .collect();
        if ops.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        } else {
            store.apply(SHARD, ops).await.expect("the store deletes");
        }
    }
}

async fn queued(args: &Args) {
    let store = open(args);
    put(&store, args, 1).await;
    let (rss, start) = (rss_bytes(), Instant::now());
    let mut made = 0;
    while made < args.jobs {
        put(&store, args, args.batch).await;
        made += args.batch;
    }
    let rate = made as f64 / start.elapsed().as_secs_f64();
    let grown = rss_bytes().saturating_sub(rss);
    println!("{made} queued: {rate:.0} a second, RSS +{} B a job", grown / made);
    store.close().await;
    drop(store);
    println!("on disk after closing: {} B a job", disk_bytes(&args.dir) / made);

    let rss = rss_bytes();
    let start = Instant::now();
    let store = open(args);
    println!(
        "opened again in {:.2} s, RSS {} MiB (+{} MiB)",
        start.elapsed().as_secs_f64(),
        rss_bytes() >> 20,
        rss_bytes().saturating_sub(rss) >> 20
    );
    let start = Instant::now();
    let mut done = 0;
    while done < made {
        let (a, b) = tokio::join!(work(&store, args), work(&store, args));
        done += a + b;
    }
    println!("drained: {:.0} a second", done as f64 / start.elapsed().as_secs_f64());
    store.close().await;
}

fn report(what: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!("{what}: p50 {:?}, p99 {:?}, worst {:?} ({} calls)", at(0.5), at(0.99), at(1.0), times.len());
}

fn rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()).unwrap_or(0) << 10
}

fn disk_bytes(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir).expect("the directory is there");
    files
        .filter_map(|file| file.ok())
        .filter(|file| file.file_name() != "ballast")
        .filter_map(|file| file.metadata().ok())
        .map(|file| file.len())
        .sum()
}
