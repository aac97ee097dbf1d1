//! The jobs, the producers and the worker that load a server.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use jobwire::prelude::*;
use jobwire_proto::v1::QueueStats;
use tokio::{
    sync::{Notify, oneshot},
    task::{JoinHandle, JoinSet},
};

use crate::{Failure, server::Server};

/// The queue that all jobs go to: the one of their type.
pub const QUEUE: &str = "bench.noop";
/// Jobs of one bulk call.
pub const BULK: u64 = 500;
/// Bulk calls in flight.
pub const BULKS_IN_FLIGHT: u64 = 4;
/// Finished jobs of a queue that a server remembers for longer than a minute.
const KEPT: u64 = 100_000;
/// Longer delays count as that.
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// Bytes of a payload.
pub const PAYLOAD_BYTES: usize = 100;

/// A job of 100 bytes of JSON whose result, `null`, is kept.
#[derive(Debug, Serialize, Deserialize)]
pub struct Noop {
    n: u64,
    pad: String,
}

impl Task for Noop {
    const TYPE: &'static str = QUEUE;
    type Output = ();
}

/// Makes jobs, the same ones for the same seed.
#[derive(Clone, Debug)]
pub struct Jobs {
    pad: Arc<str>,
}

impl Jobs {
    pub fn new(seed: u64) -> Self {
        let mut state = seed.wrapping_mul(2).wrapping_add(1);
        let letter = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b'a' + (state >> 40) as u8 % 26)
        };
        Self { pad: std::iter::repeat_with(letter).take(PAYLOAD_BYTES).collect::<String>().into() }
    }

    /// What fills payloads.
    pub fn pad(&self) -> &str {
        &self.pad
    }

    pub fn job(&self, n: u64) -> Noop {
        let digits = n.checked_ilog10().unwrap_or(0) as usize + 1;
        let braces = r#"{"n":,"pad":""}"#.len();
        Noop { n, pad: self.pad[..PAYLOAD_BYTES - braces - digits].to_owned() }
    }

    fn batch(&self, first: u64, count: u64) -> impl Iterator<Item = Noop> {
        (first..first + count).map(|n| self.job(n))
    }
}

/// Enqueues one at a time until `until`, each after the answer to the one before, with so many callers; the jobs in.
pub async fn enqueue_singly(client: &Client, jobs: &Jobs, callers: u64, until: Instant) -> Result<u64, Failure> {
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let (client, jobs) = (client.clone(), jobs.clone());
        tasks.spawn(async move {
            let mut done = 0;
            while Instant::now() < until {
                client.enqueue(jobs.job(done)).await?;
                done += 1;
            }
            Ok::<u64, Error>(done)
        });
    }
    sum(tasks).await
}

/// Enqueues in bulk until `until`, or until there are `most`; the jobs in.
pub async fn enqueue_bulk(client: &Client, jobs: &Jobs, until: Option<Instant>, most: u64) -> Result<u64, Failure> {
    let next = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..BULKS_IN_FLIGHT {
        let (client, jobs, next) = (client.clone(), jobs.clone(), next.clone());
        tasks.spawn(async move {
            let mut done = 0;
            loop {
                let first = next.fetch_add(BULK, Relaxed);
                if first >= most || until.is_some_and(|until| Instant::now() >= until) {
                    return Ok::<u64, Error>(done);
                }
                for answer in client.enqueue_many(jobs.batch(first, BULK.min(most - first))).await {
                    answer?;
                    done += 1;
                }
            }
        });
    }
    sum(tasks).await
}

async fn sum(mut tasks: JoinSet<Result<u64, Error>>) -> Result<u64, Failure> {
    let mut total = 0;
    while let Some(done) = tasks.join_next().await {
        total += done??;
    }
    Ok(total)
}

/// What the handler leaves behind.
#[derive(Debug)]
pub struct Trace {
    pub done: AtomicU64,
    /// When job `n` was meant to be enqueued is `epoch + n · interval`; the delay to its handler goes in here.
    open_loop: Option<OpenLoop>,
}

#[derive(Debug)]
struct OpenLoop {
    epoch: Instant,
    interval: Duration,
    /// Jobs before this one warm up.
    first: u64,
    delays: Mutex<Histogram<u64>>,
}

impl Trace {
    pub fn counting() -> Arc<Self> {
        Arc::new(Self { done: AtomicU64::new(0), open_loop: None })
    }

    pub fn delays(epoch: Instant, interval: Duration, first: u64) -> Arc<Self> {
        let delays =
            Histogram::new_with_bounds(1, LONGEST_DELAY.as_nanos() as u64, 3).expect("these bounds are allowed");
        let delays = Mutex::new(delays);
        Arc::new(Self { done: AtomicU64::new(0), open_loop: Some(OpenLoop { epoch, interval, first, delays }) })
    }

    /// Nanoseconds from the intended enqueue to the handler's first line.
    pub fn histogram(&self) -> Histogram<u64> {
        let open_loop = self.open_loop.as_ref().expect("made for delays");
        open_loop.delays.lock().expect("no holder panics").clone()
    }

    /// Waits until `count` handlers have ended.
    pub async fn reached(&self, count: u64, patience: Duration) -> Result<Instant, Failure> {
        let begun = Instant::now();
        while self.done.load(Relaxed) < count {
            if begun.elapsed() > patience {
                return Err(format!("{} of {count} jobs were done in {patience:?}", self.done.load(Relaxed)).into());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(Instant::now())
    }
}

async fn noop(ctx: Ctx<Noop>, State(trace): State<Arc<Trace>>) -> Result<(), JobError> {
    if let Some(open_loop) = &trace.open_loop {
        let now = Instant::now();
        let n = ctx.input().n;
        if n >= open_loop.first {
            let delay = now.saturating_duration_since(open_loop.epoch + open_loop.interval * n as u32);
            open_loop.delays.lock().expect("no holder panics").saturating_record(delay.as_nanos() as u64);
        }
    }
    trace.done.fetch_add(1, Relaxed);
    Ok(())
}

/// A connected worker.
pub struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), Error>>,
}

impl Running {
    /// Starts a worker and waits until the server has accepted it.
    pub async fn start(server: &Server, trace: Arc<Trace>, concurrency: usize) -> Result<Self, Failure> {
        let (stop, stopped) = oneshot::channel::<()>();
        let ready = Arc::new(Notify::new());
        let told = ready.clone();
        let worker = Worker::builder(server.client()?).concurrency(concurrency).prefetch(concurrency).state(trace);
        let worker = worker.handle(noop).on_ready(move || told.notify_one());
        let task = tokio::spawn(worker.run_until(async move { drop(stopped.await) }));
        tokio::time::timeout(Duration::from_secs(10), ready.notified()).await.map_err(|_| "no welcome within 10 s")?;
        Ok(Self { stop, task })
    }

    pub async fn stop(self) -> Result<(), Failure> {
        drop(self.stop);
        Ok(self.task.await??)
    }
}

/// Waits until no more than `waiting` jobs are unfinished, durably; the time when that was so.
pub async fn settled(server: &Server, waiting: u64, patience: Duration) -> Result<Instant, Failure> {
    let begun = Instant::now();
    loop {
        let left = unfinished(&server.queue(QUEUE).await?);
        if left <= waiting {
            return Ok(Instant::now());
        }
        if begun.elapsed() > patience {
            return Err(format!("{left} jobs, not {waiting}, are unfinished after {patience:?}").into());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Jobs that are still to be done.
pub fn unfinished(stats: &QueueStats) -> u64 {
    (stats.ready + stats.running + stats.scheduled + stats.retrying + stats.blocked) as u64
}

/// Fails unless jobs are conserved: `done` of the `enqueued` are finished, each run once, and the rest wait.
pub async fn conserved(server: &Server, enqueued: u64, done: u64, handled: Option<u64>) -> Result<(), Failure> {
    let stats = server.queue(QUEUE).await?;
    let (waiting, finished) = (unfinished(&stats), stats.finished as u64);
    // After a minute the server forgets what is finished beyond that number.
    let remembered = done.min(KEPT)..=done;
    if waiting != enqueued - done
        || !remembered.contains(&finished)
        || stats.dead != 0
        || handled.is_some_and(|n| n != done)
    {
        return Err(format!(
            "jobs are not conserved: {enqueued} went in and {done} are to be done; {finished} are finished, {waiting} \
             wait, {} are dead, handlers ran {handled:?} times",
            stats.dead
        )
        .into());
    }
    Ok(())
}
