//! Workers: the stream's life, what handlers can say, and how they are told to stop.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jobwire::prelude::*;
use jobwire::{CancelReason, Code, Payload, Progress, RawCtx, Throttle, WorkerBuilder};
use jobwire_proto::v1 as pb;
use pb::outcome::Result as Arm;
use tokio::sync::{mpsc, oneshot};
use tonic::Status;
use tracing_subscriber::prelude::*;

use crate::script::{Answering, Script, WorkerConn, lease, serve, soon, text};

#[derive(Serialize, Deserialize)]
struct Add {
    a: i64,
    b: i64,
}

impl Task for Add {
    const TYPE: &'static str = "math.add";
    type Output = i64;
    fn options() -> Options {
        Options::new().queue("math")
    }
}

async fn add(ctx: Ctx<Add>) -> Result<i64, JobError> {
    Ok(ctx.input().a + ctx.input().b)
}

async fn script() -> Script {
    serve(Answering::default()).await
}

fn builder(server: &Script) -> WorkerBuilder {
    Worker::builder(Client::connect(&server.url).expect("a client"))
}

/// A worker that drains when the sender is used or dropped.
fn run(worker: WorkerBuilder) -> (oneshot::Sender<()>, tokio::task::JoinHandle<Result<(), Error>>) {
    let (stop, stopped) = oneshot::channel();
    (stop, tokio::spawn(worker.run_until(async { drop(stopped.await) })))
}

/// A worker with one raw handler for everything, connected.
async fn raw<F, Fut>(server: &mut Script, handler: F) -> (WorkerConn, oneshot::Sender<()>)
where
    F: Fn(RawCtx) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Payload, JobError>> + Send + 'static,
{
    let (stop, _) = run(builder(server).handle_raw("*", handler));
    let mut conn = stream(server).await;
    conn.welcome(pb::Welcome::default()).await;
    (conn, stop)
}

async fn stream(server: &mut Script) -> WorkerConn {
    soon("stream", server.workers.recv()).await.expect("a stream")
}

fn failed(outcome: &pb::Outcome) -> (&pb::Failed, &pb::Failure) {
    match outcome.result.as_ref().expect("an arm") {
        Arm::Failed(failed) => (failed, failed.failure.as_ref().expect("a failure")),
        other => panic!("expected a failure, got {other:?}"),
    }
}

fn succeeded(outcome: &pb::Outcome) -> &pb::Payload {
    match outcome.result.as_ref().expect("an arm") {
        Arm::Succeeded(succeeded) => succeeded.result.as_ref().expect("a result"),
        other => panic!("expected a success, got {other:?}"),
    }
}

#[tokio::test]
async fn a_job_runs_and_the_worker_drains() {
    let mut server = script().await;
    let (ready, is_ready) = oneshot::channel();
    let worker = builder(&server)
        .concurrency(3)
        .prefetch(2)
        .handle(add)
        .on_ready(move || ready.send(()).expect("the test listens"));
    let (stop, end) = run(worker);
    let mut conn = stream(&mut server).await;
    let hello = conn.welcome(pb::Welcome::default()).await;
    soon("ready", is_ready).await.expect("connected");
    assert_eq!(hello.types, ["math.add"]);
    assert_eq!(hello.subscriptions[0].queue, "math", "the task's queue");
    assert_eq!(hello.capacity.map(|capacity| (capacity.slots, capacity.concurrency)), Some((5, 3)));
    let info = hello.info.expect("who it is");
    assert_eq!((info.sdk.as_str(), info.pid), ("rust", std::process::id() as i32));
    conn.deliver(2, "t1", "math.add", r#"{"a":40,"b":2}"#);
    let outcome = conn.outcome("t1").await;
    assert_eq!(succeeded(&outcome), &text("42"));
    assert!(outcome.run_duration.is_some());
    stop.send(()).expect("it runs");
    conn.until("DRAINING", |frame| (frame.state == pb::WorkerState::Draining as i32).then_some(())).await;
    conn.half_closed().await;
    conn.end(None);
    soon("end", end).await.expect("no panic").expect("a clean end");
}

#[tokio::test]
async fn handlers_outlive_a_broken_stream_and_unacknowledged_outcomes_are_resent() {
    let mut server = script().await;
    let runs = Arc::new(AtomicUsize::new(0));
    let (go, gate) = tokio::sync::watch::channel(false);
    let handler = {
        let runs = runs.clone();
        move |ctx: RawCtx| {
            runs.fetch_add(1, Ordering::SeqCst);
            let mut gate = gate.clone();
            async move {
                if ctx.job_type() == "slow" {
                    gate.wait_for(|open| *open).await?;
                }
                Ok(Payload::json_text("1"))
            }
        }
    };
    let (mut conn, _stop) = raw(&mut server, handler).await;
    let jobs = vec![lease("t1", "fast", "{}"), lease("t2", "slow", "{}")];
    conn.send(pb::StreamJobsResponse { seq: 2, jobs, ..Default::default() });
    conn.until("t1", |frame| frame.outcomes.iter().any(|outcome| outcome.lease_token == "t1").then_some(())).await;
    conn.end(Some(Status::unavailable("restart")));

    let mut conn = stream(&mut server).await;
    let mut held = conn.welcome(pb::Welcome::default()).await.held;
    held.sort_by(|a, b| a.lease_token.cmp(&b.lease_token));
    assert_eq!(held.iter().map(|held| held.lease_token.as_str()).collect::<Vec<_>>(), ["t1", "t2"]);
    assert!(held[1].running_for.is_some());
    conn.outcome("t1").await;
    go.send(true).expect("it waits");
    conn.outcome("t2").await;
    assert_eq!(runs.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn after_go_away_the_stream_is_cut_but_not_half_closed() {
    let mut server = script().await;
    let (conn, _stop) = raw(&mut server, |_| async { std::future::pending().await }).await;
    conn.deliver(2, "t1", "any", "{}");
    conn.send(pb::StreamJobsResponse { seq: 3, go_away: Some(pb::GoAway::default()), ..Default::default() });
    let mut requests = conn.requests;
    let end = soon("end of the old stream", async {
        loop {
            match requests.message().await {
                Ok(Some(_)) => {}
                end => return end,
            }
        }
    })
    .await;
    assert!(end.is_err(), "a clean end would give the leases back");
    let mut conn = stream(&mut server).await;
    assert_eq!(conn.welcome(pb::Welcome::default()).await.held[0].lease_token, "t1");
}

#[tokio::test]
async fn a_refused_worker_stops_loudly() {
    let mut server = script().await;
    let (_stop, end) = run(builder(&server).handle(add));
    let mut conn = stream(&mut server).await;
    conn.recv().await;
    conn.end(Some(Status::failed_precondition("revision too old")));
    let error = soon("end", end).await.expect("no panic").expect_err("refused");
    assert_eq!(error.code(), Some(Code::FailedPrecondition));
}

#[tokio::test]
async fn dropping_the_run_cuts_the_stream() {
    let mut server = script().await;
    let run = tokio::spawn(builder(&server).handle(add).run_until(std::future::pending()));
    let mut conn = stream(&mut server).await;
    conn.welcome(pb::Welcome::default()).await;
    run.abort();
    assert!(soon("end", conn.requests.message()).await.is_err());
}

#[tokio::test]
async fn errors_say_what_happens_next() {
    let mut server = script().await;
    let handler = |ctx: RawCtx| async move {
        match ctx.job_type() {
            "io" => Err(std::io::Error::other("disk"))?,
            "panic" => panic!("bug {}", ctx.attempt()),
            "later" => Err(JobError::retry_after(secs(9), "busy")),
            "stop" => Err(JobError::non_retryable("hopeless").kind("BadAddress")),
            "snooze" => Err(JobError::snooze(secs(5)).throttle(Throttle::Queue)),
            "release" => Err(JobError::release("not here")),
            _ => Ok(Payload::default()),
        }
    };
    let (mut conn, _stop) = raw(&mut server, handler).await;
    let mut seq = 1;
    let mut ends = async |r#type: &str| {
        seq += 1;
        conn.deliver(seq, r#type, r#type, "{}");
        conn.outcome(r#type).await
    };
    let outcome = ends("io").await;
    assert_eq!(failed(&outcome).1.r#type, std::any::type_name::<std::io::Error>());
    let outcome = ends("panic").await;
    assert_eq!((failed(&outcome).1.r#type.as_str(), failed(&outcome).1.message.as_str()), ("panic", "bug 1"));
    let outcome = ends("later").await;
    assert_eq!(failed(&outcome).0.retry_delay.map(|delay| delay.seconds), Some(9));
    let outcome = ends("stop").await;
    assert_eq!(failed(&outcome).0.action, pb::FailureAction::Stop as i32);
    assert_eq!(failed(&outcome).1.r#type, "BadAddress");
    assert!(matches!(ends("snooze").await.result, Some(Arm::Snoozed(snoozed)) if snoozed.throttle == 2));
    assert!(matches!(ends("release").await.result, Some(Arm::Released(_))));
    assert_eq!(ends("nothing").await.result, Some(Arm::Succeeded(pb::Succeeded { result: None })));
}

#[tokio::test]
async fn a_payload_that_does_not_fit_is_unprocessable() {
    let mut server = script().await;
    let (_stop, _) = run(builder(&server).handle(add));
    let mut conn = stream(&mut server).await;
    conn.welcome(pb::Welcome::default()).await;
    conn.deliver(2, "t1", "math.add", r#"{"a":1}"#);
    let outcome = conn.outcome("t1").await;
    let (failed, failure) = failed(&outcome);
    assert_eq!((failed.action, failure.kind), (pb::FailureAction::Stop as i32, pb::FailureKind::Unprocessable as i32));
    assert!(failure.message.contains("math.add") && failure.message.contains("`b`"), "{}", failure.message);
}

#[tokio::test]
async fn cancels_end_as_their_reason_says() {
    let mut server = script().await;
    let reasons = Arc::new(Mutex::new(Vec::new()));
    let log = reasons.clone();
    let (mut conn, stop) = raw(&mut server, move |ctx: RawCtx| {
        let log = log.clone();
        async move {
            ctx.cancelled().await;
            log.lock().expect("no panic").push(ctx.cancel_reason().expect("a reason"));
            ctx.check_cancelled()?;
            Ok(Payload::default())
        }
    })
    .await;
    let timeout = Some(prost_types::Duration { seconds: 0, nanos: 20_000_000 });
    conn.deliver_lease(2, pb::JobLease { timeout, ..lease("timeout", "any", "{}") });
    let outcome = conn.outcome("timeout").await;
    assert_eq!(failed(&outcome).1.kind, pb::FailureKind::Timeout as i32);

    conn.deliver(3, "asked", "any", "{}");
    conn.started("asked").await;
    let order = pb::CancelOrder { lease_token: "asked".into(), reason: 1, message: "left".into(), grace: None };
    conn.send(pb::StreamJobsResponse { seq: 4, cancels: vec![order], ..Default::default() });
    let cancelled = Arm::Cancelled(pb::Cancelled { reason: "left".into() });
    assert_eq!(conn.outcome("asked").await.result, Some(cancelled));

    conn.deliver(5, "stays", "any", "{}");
    conn.started("stays").await;
    let directive = pb::Directive {
        kind: pb::DirectiveKind::Terminate as i32,
        grace: Some(prost_types::Duration { seconds: 0, nanos: 1_000_000 }),
        ..Default::default()
    };
    conn.send(pb::StreamJobsResponse { seq: 6, directive: Some(directive), ..Default::default() });
    assert!(matches!(conn.outcome("stays").await.result, Some(Arm::Released(_))));
    conn.half_closed().await;
    let expected = [CancelReason::Timeout, CancelReason::Requested, CancelReason::Shutdown];
    assert_eq!(*reasons.lock().expect("no panic"), expected);
    drop(stop);
}

#[tokio::test]
async fn a_lost_lease_stops_the_handler_and_nothing_is_reported() {
    let mut server = script().await;
    let (ended, mut endings) = mpsc::unbounded_channel();
    let (mut conn, _stop) = raw(&mut server, move |ctx: RawCtx| {
        let ended = ended.clone();
        async move {
            ctx.cancelled().await;
            ended.send(ctx.cancel_reason()).expect("the test listens");
            Ok(Payload::default())
        }
    })
    .await;
    conn.deliver(2, "t1", "any", "{}");
    conn.started("t1").await;
    let lost = pb::HeartbeatAck { lost: vec!["t1".into()], ..Default::default() };
    conn.send(pb::StreamJobsResponse { seq: 3, heartbeat_ack: Some(lost), ..Default::default() });
    assert_eq!(soon("cancel", endings.recv()).await, Some(Some(CancelReason::LeaseLost)));
    conn.deliver(4, "t2", "any", "{}");
    let order = pb::CancelOrder { lease_token: "t2".into(), ..Default::default() };
    conn.send(pb::StreamJobsResponse { seq: 5, cancels: vec![order], ..Default::default() });
    let find = |frame: &pb::StreamJobsRequest| frame.outcomes.first().map(|outcome| outcome.lease_token.clone());
    assert_eq!(conn.until("an outcome", find).await, "t2", "nothing of t1");
}

#[tokio::test]
async fn progress_logs_checkpoints_and_followers_travel() {
    let mut server = script().await;
    let _logs = tracing::subscriber::set_default(tracing_subscriber::registry().with(jobwire::job_logs()));
    let handler = |ctx: RawCtx| async move {
        if ctx.attempt() == 2 {
            return Ok(Payload::json(&ctx.checkpoint::<Vec<i32>>()?)?);
        }
        tracing::info!(user = 7, "one");
        tracing::debug!("below the level");
        ctx.report(Progress::counts(5, 10).message("half").data(serde_json::json!({"k": 1})));
        ctx.save_checkpoint(&[1, 2])?;
        ctx.enqueue(Add { a: 1, b: 2 }).priority(2).on_success()?;
        ctx.enqueue(Add { a: 3, b: 4 }).always()?;
        Err(JobError::new("again"))
    };
    let (mut conn, _stop) = raw(&mut server, handler).await;
    conn.deliver(2, "t1", "any", "{}");
    let (mut progress, mut logs) = (Vec::new(), Vec::new());
    let outcome = conn
        .until("outcome", |frame| {
            progress.extend(frame.progress.clone());
            logs.extend(frame.logs.iter().flat_map(|report| report.lines.clone()));
            frame.outcomes.first().cloned()
        })
        .await;
    // The checkpoint may travel in a report of its own.
    let progress = progress.into_iter().filter_map(|report| report.progress).next_back().expect("progress");
    assert_eq!((progress.current, progress.total, progress.message.as_str()), (5, 10, "half"));
    assert_eq!(logs.len(), 1);
    assert_eq!((logs[0].message.as_str(), logs[0].level, logs[0].fields["user"].as_str()), ("one", 9, "7"));
    assert_eq!(outcome.checkpoint, Some(text("[1,2]")));
    assert_eq!(outcome.enqueue.len(), 1, "the other one waits for a success");
    assert_eq!((outcome.enqueue[0].r#type.as_str(), outcome.enqueue[0].queue.as_str()), ("math.add", "math"));
    let again = pb::JobLease { attempt: 2, checkpoint: Some(text("[1,2]")), ..lease("t2", "any", "{}") };
    conn.deliver_lease(3, again);
    assert_eq!(succeeded(&conn.outcome("t2").await), &text("[1,2]"));
}

#[tokio::test]
async fn states_are_given_to_handlers_and_missed_before_the_first_job() {
    async fn counted(
        ctx: Ctx<Add>,
        State(count): State<Arc<AtomicUsize>>,
        State(name): State<&'static str>,
    ) -> Result<i64, JobError> {
        assert_eq!(name, "pool");
        count.fetch_add(1, Ordering::SeqCst);
        Ok(ctx.input().a)
    }
    let mut server = script().await;
    let count = Arc::new(AtomicUsize::new(0));
    let error = builder(&server).state(count.clone()).handle(counted).run().await.expect_err("no name");
    assert!(error.to_string().contains("&str"), "{error}");
    let (_stop, _) = run(builder(&server).handle(counted).state(count.clone()).state("pool"));
    let mut conn = stream(&mut server).await;
    conn.welcome(pb::Welcome::default()).await;
    conn.deliver(2, "t1", "math.add", r#"{"a":40,"b":2}"#);
    conn.outcome("t1").await;
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn blocking_handlers_know_their_job_and_may_panic() {
    fn slow(ctx: Ctx<Add>) -> Result<i64, JobError> {
        assert_eq!(RawCtx::current().expect("a job").job_id(), ctx.job_id());
        if ctx.input().b == 0 {
            panic!("zero");
        }
        Ok(ctx.input().a / ctx.input().b)
    }
    let mut server = script().await;
    let (_stop, _) = run(builder(&server).handle_blocking(slow));
    let mut conn = stream(&mut server).await;
    conn.welcome(pb::Welcome::default()).await;
    conn.deliver(2, "t1", "math.add", r#"{"a":84,"b":2}"#);
    assert_eq!(succeeded(&conn.outcome("t1").await), &text("42"));
    conn.deliver(3, "t2", "math.add", r#"{"a":84,"b":0}"#);
    assert_eq!(failed(&conn.outcome("t2").await).1.message, "zero");
}

#[tokio::test]
async fn a_blocked_runtime_keeps_its_leases_and_drains() {
    let mut server = script().await;
    let (release, blocked) = std::sync::mpsc::channel::<()>();
    let blocked = Arc::new(Mutex::new(blocked));
    let (stop, stopped) = oneshot::channel::<()>();
    let worker = builder(&server).grace(Duration::from_millis(1)).handle_raw("*", move |_| {
        let blocked = blocked.clone();
        async move {
            blocked.lock().expect("no panic").recv().expect("released");
            Ok(Payload::default())
        }
    });
    // The whole runtime of the user is one thread, and the handler holds it.
    let user = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(worker.run_until(async { drop(stopped.await) }))
    });
    let mut conn = stream(&mut server).await;
    let interval = Some(prost_types::Duration { seconds: 0, nanos: 50_000_000 });
    conn.welcome(pb::Welcome { heartbeat_interval: interval, ..Default::default() }).await;
    conn.deliver(2, "t1", "any", "{}");
    for _ in 0..3 {
        let beat = |frame: &pb::StreamJobsRequest| {
            frame.heartbeat.as_ref().filter(|beat| beat.running == 1).map(|beat| beat.held.clone())
        };
        assert_eq!(conn.until("heartbeat", beat).await, ["t1"]);
    }
    stop.send(()).expect("it runs");
    assert!(matches!(conn.outcome("t1").await.result, Some(Arm::Released(_))));
    conn.half_closed().await;
    conn.end(None);
    release.send(()).expect("it blocks");
    let end = soon("end", tokio::task::spawn_blocking(move || user.join())).await.expect("no panic");
    end.expect("no panic").expect("a clean end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_jobs_each_get_their_own_outcome() {
    const JOBS: usize = 5_000;
    let mut server = script().await;
    let (_stop, _) = run(builder(&server).concurrency(500).prefetch(500).handle(add));
    let mut conn = stream(&mut server).await;
    conn.welcome(pb::Welcome::default()).await;
    let (mut sent, mut seen, mut seq) = (0, std::collections::HashMap::new(), 1);
    let mut free = 1_000;
    while seen.len() < JOBS {
        if free > 0 && sent < JOBS {
            let count = free.min(JOBS - sent);
            let job = |n: usize| lease(&n.to_string(), "math.add", &format!(r#"{{"a":{n},"b":1}}"#));
            seq += 1;
            let jobs = (sent..sent + count).map(job).collect();
            conn.send(pb::StreamJobsResponse { seq, jobs, ..Default::default() });
            (sent, free) = (sent + count, 0);
        }
        let frame = conn.recv().await;
        free += frame.outcomes.len();
        for outcome in &frame.outcomes {
            let again = seen.insert(outcome.lease_token.clone(), succeeded(outcome).clone());
            assert!(again.is_none(), "{} twice", outcome.lease_token);
        }
        if !frame.outcomes.is_empty() {
            seq += 1;
            conn.send(pb::StreamJobsResponse { seq, acked_seq: frame.seq, ..Default::default() });
        }
    }
    for n in 0..JOBS {
        assert_eq!(seen[&n.to_string()], text(&(n + 1).to_string()));
    }
}
