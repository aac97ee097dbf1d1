//! A worker for the language-neutral conformance suite: every way a handler can end, written with the public API.
//!
//! Environment: JOBWIRE_URL, CONF_QUEUES, CONF_CONCURRENCY (4), CONF_PREFETCH (0), CONF_GRACE_MS (25000),
//! CONF_LEASE_TTL_MS, CONF_LOG (a file that gets a line when a handler starts and ends). Prints `ready` once connected.

use std::io::Write;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jobwire::prelude::*;
use jobwire::{CancelReason, LogLevel, Payload, Progress, RawCtx};
use serde_json::{Value, json};
use tracing_subscriber::prelude::*;

const TYPES: [&str; 23] = [
    "conf.echo",
    "conf.copy",
    "conf.add",
    "conf.context",
    "conf.sleep",
    "conf.block",
    "conf.wait",
    "conf.hang",
    "conf.fail",
    "conf.no_retry",
    "conf.discard",
    "conf.retry_after",
    "conf.snooze",
    "conf.release",
    "conf.progress",
    "conf.log",
    "conf.checkpoint",
    "conf.crash",
    "conf.big",
    "conf.enqueue",
    "conf.end",
    "conf.leave",
    "conf.at_risk",
];

#[tokio::main]
async fn main() -> Result<(), Error> {
    tracing_subscriber::registry().with(jobwire::job_logs()).init();
    let ledger = Arc::new(Ledger::open());
    let mut worker = Worker::builder(Client::from_env()?)
        .concurrency(var("CONF_CONCURRENCY").unwrap_or(4))
        .prefetch(var("CONF_PREFETCH").unwrap_or(0))
        .grace(millis(var("CONF_GRACE_MS").unwrap_or(25_000)))
        .on_ready(|| println!("ready"));
    if let Some(ttl) = var("CONF_LEASE_TTL_MS") {
        worker = worker.lease_ttl(millis(ttl));
    }
    for queue in var::<String>("CONF_QUEUES").iter().flat_map(|queues| queues.split(',')) {
        worker = worker.queue(queue);
    }
    for r#type in TYPES {
        let ledger = ledger.clone();
        worker = worker.handle_raw(r#type, move |ctx| {
            let ledger = ledger.clone();
            async move {
                ledger.write("start", &ctx, "");
                let ended = handle(&ctx).await;
                let how = ended.as_ref().map_or_else(class, |_| "ok".to_owned());
                ledger.write("end", &ctx, &format!(" {how}"));
                ended
            }
        });
    }
    let end = worker.handle(typed).run().await;
    if let Err(error) = &end {
        eprintln!("{error}");
    }
    // Does not wait for a handler that blocks a thread of the runtime.
    std::process::exit(i32::from(end.is_err()));
}

/// Input and output of `conf.typed`, whose payload the SDK reads.
#[derive(serde::Serialize, serde::Deserialize)]
struct Typed {
    n: i64,
}

impl Task for Typed {
    const TYPE: &'static str = "conf.typed";
    type Output = Typed;
}

async fn typed(ctx: Ctx<Typed>) -> Result<Typed, JobError> {
    Ok(Typed { n: ctx.input().n })
}

/// What `conf.enqueue` enqueues.
#[derive(serde::Serialize, serde::Deserialize)]
struct Child {
    parent: String,
}

impl Task for Child {
    const TYPE: &'static str = "conf.context";
    type Output = Value;
}

/// Input of `conf.add`: integers beyond 64 bits.
#[derive(serde::Deserialize)]
struct Add {
    numbers: Vec<i128>,
    plus: i128,
}

#[derive(serde::Serialize)]
struct Sums {
    numbers: Vec<i128>,
}

async fn handle(ctx: &RawCtx) -> Result<Payload, JobError> {
    match ctx.job_type() {
        "conf.echo" => return Ok(ctx.payload().clone()),
        "conf.add" => {
            let Add { numbers, plus } = ctx.payload().to()?;
            return Ok(Payload::json(&Sums { numbers: numbers.iter().map(|number| number + plus).collect() })?);
        }
        _ => {}
    }
    let input: Value = if ctx.payload().is_empty() { json!({}) } else { ctx.payload().to()? };
    let number = |key: &str| input[key].as_u64().unwrap_or(0);
    let span = millis(number("ms"));
    let result = match ctx.job_type() {
        "conf.copy" => input,
        "conf.context" => json!({"headers": ctx.headers(), "tags": ctx.tags()}),
        "conf.sleep" => {
            tokio::select! {
                () = tokio::time::sleep(span) => json!({"slept": number("ms")}),
                () = ctx.cancelled() => return Err(JobError::cancelled()),
            }
        }
        "conf.block" => {
            std::thread::sleep(span);
            json!({"blocked": number("ms")})
        }
        "conf.wait" => {
            ctx.cancelled().await;
            return Err(JobError::cancelled());
        }
        "conf.hang" => {
            tokio::time::sleep(span).await;
            json!({"hung": number("ms")})
        }
        "conf.fail" => {
            let failing = input["times"].as_i64().is_none_or(|times| i64::from(ctx.attempt()) <= times);
            if failing {
                return Err(conf_error(input["message"].as_str().unwrap_or("failed")));
            }
            json!({"attempt": ctx.attempt()})
        }
        "conf.no_retry" => return Err(JobError::non_retryable("hopeless")),
        "conf.discard" => return Err(JobError::discard("nobody cares")),
        "conf.retry_after" if ctx.attempt() == 1 => return Err(JobError::retry_after(span, "later")),
        "conf.retry_after" => json!({"attempt": ctx.attempt()}),
        "conf.snooze" if ctx.delivery() == 1 => return Err(JobError::snooze(span)),
        "conf.release" if ctx.delivery() == 1 => return Err(JobError::release("not here")),
        "conf.snooze" | "conf.release" => json!({"delivery": ctx.delivery()}),
        "conf.progress" => {
            ctx.progress(10.0, "");
            ctx.report(Progress::counts(5, 10).message("half").data(json!({"k": 1})));
            json!({})
        }
        "conf.log" => {
            tracing::info!("one");
            tracing::warn!("two");
            tracing::error!("three");
            json!({})
        }
        "conf.checkpoint" if ctx.attempt() == 1 => {
            ctx.save_checkpoint(&json!({"step": 1}))?;
            return Err(conf_error("checkpoint saved"));
        }
        "conf.checkpoint" => json!({"checkpoint": ctx.checkpoint::<Value>()?}),
        "conf.crash" => {
            let pid = std::process::id().to_string();
            let _ = std::process::Command::new("kill").args(["-9", &pid]).status();
            std::process::abort();
        }
        "conf.big" => json!({"data": "x".repeat(usize::try_from(number("bytes"))?)}),
        "conf.enqueue" => {
            let mut child = ctx.enqueue(Child { parent: ctx.job_id().to_owned() });
            if let Some(queue) = input["queue"].as_str() {
                child = child.queue(queue);
            }
            if input["always"] == true {
                child.always()?
            } else {
                child.on_success()?
            }
            if input["fail"] == true {
                return Err(conf_error("after all"));
            }
            json!({})
        }
        "conf.end" => {
            ctx.save_checkpoint(&json!({"step": 1}))?;
            match input["how"].as_str() {
                Some("fail") => return Err(conf_error("as told")),
                Some("no_retry") => return Err(JobError::non_retryable("as told")),
                Some("discard") => return Err(JobError::discard("as told")),
                Some("retry_after") => return Err(JobError::retry_after(millis(30_000), "as told")),
                Some("snooze") => return Err(JobError::snooze(millis(30_000))),
                Some("release") => return Err(JobError::release("as told")),
                _ => json!({}),
            }
        }
        "conf.leave" => {
            ctx.progress(1.0, "");
            ctx.cancelled().await;
            let reason = match ctx.cancel_reason() {
                Some(CancelReason::Requested) => "requested",
                Some(CancelReason::Timeout) => "timeout",
                Some(CancelReason::Workflow) => "workflow",
                Some(CancelReason::LeaseLost) => "lease_lost",
                Some(CancelReason::Shutdown) => "shutdown",
                _ => "unknown",
            };
            eprintln!("told to stop: {reason}");
            ctx.save_checkpoint(&json!({"reason": reason}))?;
            return Err(JobError::cancelled());
        }
        "conf.at_risk" => {
            while !ctx.lease_at_risk() {
                tokio::time::sleep(millis(20)).await;
            }
            json!({"at_risk": true})
        }
        other => {
            ctx.log(LogLevel::Error, format!("no behaviour for {other}"));
            return Err(JobError::non_retryable(format!("no behaviour for {other}")));
        }
    };
    Ok(result.into())
}

fn conf_error(message: &str) -> JobError {
    JobError::new(message).kind("ConfError")
}

/// Name of an error's class: what stands before its message.
fn class(error: &JobError) -> String {
    error.to_string().split(':').next().unwrap_or_default().to_owned()
}

fn var<T: FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok().filter(|value| !value.is_empty()).and_then(|value| value.parse().ok())
}

/// What was run, where and when, as lines appended with one write each.
struct Ledger(Option<std::fs::File>);

impl Ledger {
    fn open() -> Self {
        Self(var::<String>("CONF_LOG").map(|path| {
            std::fs::OpenOptions::new().create(true).append(true).open(path).expect("CONF_LOG can be opened")
        }))
    }

    fn write(&self, what: &str, ctx: &RawCtx, how: &str) {
        let Some(mut file) = self.0.as_ref() else { return };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis();
        let (id, attempt, delivery, pid) = (ctx.job_id(), ctx.attempt(), ctx.delivery(), std::process::id());
        let line = format!("{what} {id} {attempt} {delivery} {pid} {now}{how}\n");
        file.write_all(line.as_bytes()).expect("CONF_LOG can be written");
    }
}
