//! Time and flow control: what limits and fairness keys cost, a great many jobs that are due at once, and thousands of
//! schedules that fire together.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use hdrhistogram::Histogram;
use jobwire::prelude::*;
use jobwire_proto::v1 as pb;
use serde_json::json;
use tokio::{sync::oneshot, task::JoinSet};

use crate::{
    Failure,
    figures::Report,
    load::{self, Jobs, Running, Trace, conserved},
    phases::{self, OPEN_LOOP_RATE, PATIENCE, QUIET_PATIENCE, Setting},
    server::Server,
    usage::{Meter, quiet},
};

/// Fairness keys of the queue that has limits.
const KEYS: u64 = 100;
/// Schedules that fire together.
const SCHEDULES: usize = 10_000;
/// Calls in flight that make them.
const PUTS_IN_FLIGHT: usize = 64;
/// Seconds between their ticks.
const EVERY_S: u64 = 10;
/// Queue and type of jobs that are due at once, and of those of schedules.
const DUE: &str = "bench.due";

/// A drain of a queue without limits, and one of a queue with every kind of limit, none of which holds anything up.
pub async fn limits(setting: &Setting, report: &mut Report) -> Result<(), Failure> {
    let mut rates = [0.0; 2];
    for (rate, limited) in rates.iter_mut().zip([false, true]) {
        report.noise = quiet(QUIET_PATIENCE).await;
        let (server, jobs) = (Server::start(setting).await?, setting.jobs());
        if limited {
            let per = Some(prost_types::Duration { seconds: 1, nanos: 0 });
            let limit = Some(pb::RateLimit { max: 10_000_000, per, burst: 10_000_000 });
            let config = pb::QueueConfig {
                max_running: 1_000_000,
                rate_limit: limit,
                max_running_per_key: 100_000,
                rate_limit_per_key: limit,
                key_weights: [("key-0".to_owned(), 2)].into(),
                ..Default::default()
            };
            let name = load::QUEUE.to_owned();
            let request = pb::PutQueueRequest { name, config: Some(config), ..Default::default() };
            server.queues().put_queue(request).await?;
        }
        let count = setting.pick(150_000, 400_000);
        fill(&server, count, |n| pb::JobSpec {
            fairness_key: if limited { format!("key-{}", n % KEYS) } else { String::new() },
            ..noop(&jobs, n)
        })
        .await?;
        conserved(&server, count, 0, None).await?;
        let (measured, load) = phases::emptied(&server, setting, count).await?;
        *rate = measured as f64 / load.seconds;
        report.add(
            ["drain_plain", "drain_limited"][usize::from(limited)],
            *rate,
            Some(load),
            json!({"jobs": count}),
        )?;
    }
    report.add("limits_share", rates[1] / rates[0], None, json!({"keys": KEYS}))
}

/// A million jobs whose times lie in one second, while another queue is used as ever.
pub async fn due(setting: &Setting, report: &mut Report) -> Result<(), Failure> {
    let (server, jobs) = (Server::start(setting).await?, setting.jobs());
    let count = setting.pick(200_000, 1_000_000);
    let (lead, span) = (Duration::from_secs(setting.pick(8, 40)), Duration::from_secs(setting.pick(4, 16)));
    let (due, due_at) = (SystemTime::now() + lead, Instant::now() + lead);
    // Their times in no order.
    fill(&server, count, |n| {
        let at = due + Duration::from_millis(offset_ms(n));
        pb::JobSpec { r#type: DUE.into(), start: Some(pb::job_spec::Start::ScheduleTime(at.into())), ..noop(&jobs, n) }
    })
    .await?;
    let early = due_at.checked_duration_since(Instant::now()).ok_or("they were due before all of them were in")?;
    report.noise = quiet(early.mul_f64(0.5)).await;

    let seen = Arc::new(Seen::default());
    let worker = Worker::builder(server.client()?).concurrency(setting.concurrency).prefetch(setting.concurrency);
    let worker = worker.state(seen.clone()).handle(order);
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(worker.run_until(async move { drop(stopped.await) }));
    let interval = Duration::from_secs(1) / OPEN_LOOP_RATE;
    let epoch = due_at - Duration::from_secs(1);
    let trace = Trace::delays(epoch, interval, OPEN_LOOP_RATE.into());
    let other = Running::start(&server, trace.clone(), 10).await?;
    let others = u64::from(OPEN_LOOP_RATE) * (1 + span.as_secs());
    let pacer = phases::open_loop(&server, &jobs, epoch, interval, others);
    let drained = async {
        tokio::time::sleep_until(due_at.into()).await;
        let meter = Meter::start(server.pids());
        while seen.count.load(Relaxed) < count {
            if due_at.elapsed() > PATIENCE {
                return Err(format!("{} of {count} jobs were done in {PATIENCE:?}", seen.count.load(Relaxed)));
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(meter.read())
    };
    let (paced, load) = tokio::join!(pacer, drained);
    paced?;
    let load = load?;
    trace.reached(others, PATIENCE).await?;
    drop(stop);
    task.await??;
    other.stop().await?;
    let runs = seen.count.load(Relaxed);
    if runs != count {
        return Err(format!("{count} jobs ran {runs} times").into());
    }
    let delays = trace.histogram();
    report.add("due_rate", count as f64 / load.seconds, Some(load), json!({"jobs": count}))?;
    report.add("due_disorder", f64::from(seen.disorder()), None, json!({"jobs": count}))?;
    report.add("due_other_p99", delays.value_at_quantile(0.99) as f64 / 1e6, None, json!({"jobs": delays.len()}))
}

/// Schedules that all fire in the same second: from the tick to the handler.
pub async fn ticks(setting: &Setting, report: &mut Report) -> Result<(), Failure> {
    let server = Server::start(setting).await?;
    let rounds = setting.pick(2, 6);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let first = (now + setting.pick(20, 20)).next_multiple_of(EVERY_S);
    let at = |seconds: u64| Some(prost_types::Timestamp { seconds: seconds as i64, nanos: 0 });
    let spec = pb::ScheduleSpec {
        cadence: Some(pb::schedule_spec::Cadence::Cron(format!("*/{EVERY_S} * * * * *"))),
        job: Some(pb::JobSpec { r#type: DUE.into(), ..Default::default() }),
        start_time: at(first),
        end_time: at(first + EVERY_S * (rounds - 1) + 1),
        ..Default::default()
    };
    let mut puts = JoinSet::new();
    for part in 0..PUTS_IN_FLIGHT {
        let (mut schedules, spec) = (server.schedules(), spec.clone());
        puts.spawn(async move {
            for n in (part..SCHEDULES).step_by(PUTS_IN_FLIGHT) {
                let request =
                    pb::PutScheduleRequest { id: format!("s-{n}"), spec: Some(spec.clone()), ..Default::default() };
                schedules.put_schedule(request).await?;
            }
            Ok::<_, tonic::Status>(())
        });
    }
    for put in puts.join_all().await {
        put?;
    }
    if SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs() >= first {
        return Err("the schedules were not made in time for their first tick".into());
    }
    let late = Arc::new(Late::default());
    let worker = Worker::builder(server.client()?).concurrency(setting.concurrency).prefetch(setting.concurrency);
    let worker = worker.state(late.clone()).handle(lateness);
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(worker.run_until(async move { drop(stopped.await) }));
    let meter = Meter::start(server.pids());
    let count = SCHEDULES as u64 * rounds;
    let begun = Instant::now();
    while late.count() < count {
        if begun.elapsed() > PATIENCE {
            return Err(format!("{} of {count} ticks were run", late.count()).into());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let load = meter.read();
    drop(stop);
    task.await??;
    let delays = late.0.lock().expect("no holder panics");
    let ms = |quantile: f64| delays.value_at_quantile(quantile) as f64;
    let more = || json!({"schedules": SCHEDULES, "rounds": rounds, "max_ms": delays.max()});
    report.add("tick_late_p50", ms(0.5), Some(load), more())?;
    report.add("tick_late_p99", ms(0.99), Some(load), more())
}

fn noop(jobs: &Jobs, n: u64) -> pb::JobSpec {
    let text = serde_json::to_string(&jobs.job(n)).expect("it is plain data");
    let payload = pb::Payload { body: Some(pb::payload::Body::Text(text)), ..Default::default() };
    pb::JobSpec { r#type: load::QUEUE.into(), payload: Some(payload), ..Default::default() }
}

/// Where in its second job `n` is due.
fn offset_ms(n: u64) -> u64 {
    n * 7_919 % 1_000
}

/// Enqueues in bulk, as [`load::enqueue_bulk`], jobs that are made one by one.
async fn fill(server: &Server, count: u64, spec: impl Fn(u64) -> pb::JobSpec) -> Result<(), Failure> {
    let mut calls = JoinSet::new();
    for first in (0..count).step_by(load::BULK as usize) {
        while calls.len() as u64 >= load::BULKS_IN_FLIGHT {
            calls.join_next().await.expect("some are in flight")??;
        }
        let jobs = (first..count.min(first + load::BULK)).map(&spec).collect();
        let mut client = server.jobs();
        calls.spawn(async move {
            let answer = client.enqueue_many(pb::EnqueueManyRequest { jobs }).await?.into_inner();
            match answer.results.into_iter().find_map(|result| result.error) {
                None => Ok(()),
                Some(error) => Err(tonic::Status::internal(error.message)),
            }
        });
    }
    for call in calls.join_all().await {
        call?;
    }
    Ok(())
}

/// A job that is due at its part of a second.
#[derive(Debug, Deserialize, Serialize)]
struct Due {
    #[serde(default)]
    n: u64,
}

impl Task for Due {
    const TYPE: &'static str = DUE;
    type Output = ();
}

/// In which order jobs were started.
#[derive(Default)]
struct Seen {
    count: AtomicU64,
    order: Mutex<Vec<u16>>,
}

impl Seen {
    /// By how many milliseconds a job was overtaken at most.
    fn disorder(&self) -> u16 {
        let order = self.order.lock().expect("no holder panics");
        let mut latest = 0;
        order.iter().fold(0, |most, ms| {
            latest = latest.max(*ms);
            most.max(latest - ms)
        })
    }
}

async fn order(ctx: Ctx<Due>, State(seen): State<Arc<Seen>>) -> Result<(), JobError> {
    seen.order.lock().expect("no holder panics").push(offset_ms(ctx.input().n) as u16);
    seen.count.fetch_add(1, Relaxed);
    Ok(())
}

/// Milliseconds from ticks to handlers.
struct Late(Mutex<Histogram<u64>>);

impl Default for Late {
    fn default() -> Self {
        Self(Mutex::new(Histogram::new_with_bounds(1, 600_000, 3).expect("these bounds are allowed")))
    }
}

impl Late {
    fn count(&self) -> u64 {
        self.0.lock().expect("no holder panics").len()
    }
}

async fn lateness(ctx: Ctx<Due>, State(late): State<Arc<Late>>) -> Result<(), JobError> {
    let tick = ctx.fire_time().ok_or_else(|| JobError::non_retryable("it has no tick"))?;
    let ms = SystemTime::now().duration_since(tick).unwrap_or_default().as_millis() as u64;
    late.0.lock().expect("no holder panics").saturating_record(ms);
    Ok(())
}
