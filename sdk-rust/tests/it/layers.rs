//! Layers around handlers, and classifiers of their errors.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jobwire::classify::{self, HttpError, Verdict};
use jobwire::prelude::*;
use jobwire::{JobService, Payload, RawCtx, WorkerBuilder};
use jobwire_proto::v1 as pb;
use pb::outcome::Result as Arm;
use tokio::sync::oneshot;

use crate::script::{Answering, Script, WorkerConn, serve, soon, text};

async fn connected(worker: impl FnOnce(WorkerBuilder) -> WorkerBuilder) -> (Script, WorkerConn, oneshot::Sender<()>) {
    let mut server = serve(Answering::default()).await;
    let builder = Worker::builder(Client::connect(&server.url).expect("a client"));
    let (stop, stopped) = oneshot::channel::<()>();
    tokio::spawn(worker(builder).run_until(async { drop(stopped.await) }));
    let mut conn = soon("stream", server.workers.recv()).await.expect("a stream");
    conn.welcome(pb::Welcome::default()).await;
    (server, conn, stop)
}

fn failed(outcome: pb::Outcome) -> (pb::Failed, pb::Failure) {
    match outcome.result.expect("an arm") {
        Arm::Failed(mut failed) => {
            let failure = failed.failure.take().expect("a failure");
            (failed, failure)
        }
        other => panic!("expected a failure, got {other:?}"),
    }
}

/// A layer by hand: notes who came by, before and after.
#[derive(Clone)]
struct Noting(&'static str, Arc<Mutex<Vec<String>>>);

#[derive(Clone)]
struct Noted<S>(Noting, S);

impl<S> tower::Layer<S> for Noting {
    type Service = Noted<S>;
    fn layer(&self, inner: S) -> Noted<S> {
        Noted(self.clone(), inner)
    }
}

impl<S> tower::Service<RawCtx> for Noted<S>
where
    S: tower::Service<RawCtx, Response = Payload, Error = JobError>,
    S::Future: Send + 'static,
{
    type Response = Payload;
    type Error = JobError;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Payload, JobError>> + Send>>;
    fn poll_ready(&mut self, context: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), JobError>> {
        self.1.poll_ready(context)
    }
    fn call(&mut self, ctx: RawCtx) -> Self::Future {
        let Noting(name, notes) = self.0.clone();
        let id = ctx.job_id().to_owned();
        let inner = self.1.call(ctx);
        Box::pin(async move {
            notes.lock().expect("no panic").push(format!("{name} {id}"));
            let ended = inner.await;
            notes.lock().expect("no panic").push(format!("{name} {}", if ended.is_ok() { "ok" } else { "failed" }));
            ended
        })
    }
}

#[tokio::test]
async fn the_first_layer_is_outermost_and_all_handlers_are_wrapped() {
    let notes = Arc::new(Mutex::new(Vec::new()));
    let (_server, mut conn, _stop) = connected(|builder| {
        builder
            .handle_raw("early", |_| async { Ok(Payload::json_text("1")) })
            .layer(Noting("outer", notes.clone()))
            .layer(Noting("inner", notes.clone()))
            .handle_raw("late", |_| async { Err(JobError::discard("no")) })
    })
    .await;
    conn.deliver(2, "t1", "early", "{}");
    conn.outcome("t1").await;
    assert_eq!(*notes.lock().expect("no panic"), ["outer job-t1", "inner job-t1", "inner ok", "outer ok"]);
    conn.deliver(3, "t2", "late", "{}");
    let (outcome, _) = failed(conn.outcome("t2").await);
    assert_eq!(outcome.action, pb::FailureAction::Discard as i32, "an error goes through layers as it is");
    assert_eq!(notes.lock().expect("no panic").len(), 8);
}

#[tokio::test]
async fn layers_of_tower_fit() {
    let running = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let (counting, seen) = (running.clone(), most.clone());
    let handler = move |ctx: RawCtx| {
        let (running, most) = (counting.clone(), seen.clone());
        async move {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            if ctx.job_type() == "hang" {
                std::future::pending::<()>().await;
            }
            tokio::task::yield_now().await;
            running.fetch_sub(1, Ordering::SeqCst);
            Ok(Payload::json_text("1"))
        }
    };
    let (_server, mut conn, _stop) = connected(|builder| {
        builder
            .handle_raw("*", handler)
            .layer(tower::limit::ConcurrencyLimitLayer::new(1))
            .layer(tower::timeout::TimeoutLayer::new(Duration::from_millis(50)))
    })
    .await;
    for n in 0..5 {
        conn.deliver(2 + n, &format!("t{n}"), "quick", "{}");
    }
    let mut done = 0;
    conn.until("five outcomes", |frame| {
        done += frame.outcomes.len();
        (done == 5).then_some(())
    })
    .await;
    assert_eq!(most.load(Ordering::SeqCst), 1);
    conn.deliver(7, "slow", "hang", "{}");
    let (outcome, failure) = failed(conn.outcome("slow").await);
    assert_eq!(outcome.action, pb::FailureAction::Unspecified as i32, "retried by the policy");
    assert_eq!((failure.r#type.as_str(), failure.message.as_str()), ("Error", "request timed out"));
}

#[tokio::test]
async fn a_tower_service_is_a_handler() {
    let service = tower::service_fn(|ctx: RawCtx| async move {
        Ok::<_, std::io::Error>(Payload::json_text(format!("{:?}", ctx.job_type())))
    });
    let (_server, mut conn, _stop) = connected(|builder| builder.handle_service("served", service)).await;
    conn.deliver(2, "t1", "served", "{}");
    let result = conn.outcome("t1").await.result;
    assert!(matches!(result, Some(Arm::Succeeded(done)) if done.result == Some(text(r#""served""#))));
    // What a layer wraps can be named.
    fn _named<L: tower::Layer<JobService>>(_: L) {}
}

#[tokio::test]
async fn errors_are_classified_on_their_way_out() {
    let handler = |ctx: RawCtx| async move {
        let mut headers = http::HeaderMap::new();
        headers.insert("retry-after", "7".parse()?);
        match ctx.job_type() {
            "busy" => HttpError::check(http::StatusCode::TOO_MANY_REQUESTS, &headers)?,
            "gone" => HttpError::check(http::StatusCode::GONE, &headers)?,
            "number" => drop("x".parse::<i32>()?),
            "mine" => Err(std::io::Error::from(std::io::ErrorKind::StorageFull))?,
            _ => Err(JobError::retry_after(secs(1), "said"))?,
        }
        Ok(Payload::default())
    };
    let full = |error: &(dyn std::error::Error + 'static)| {
        let error = error.downcast_ref::<std::io::Error>()?;
        let full = error.kind() == std::io::ErrorKind::StorageFull;
        full.then_some(Verdict::Snooze(secs(60), jobwire::Throttle::Queue))
    };
    let (_server, mut conn, _stop) = connected(|builder| {
        builder
            .handle_raw("*", handler)
            .classify(classify::http_strict)
            .classify(classify::database)
            .classify(full)
            .no_retry_on::<std::num::ParseIntError>()
    })
    .await;
    let mut seq = 1;
    let mut outcome = async |r#type: &str| {
        seq += 1;
        conn.deliver(seq, r#type, r#type, "{}");
        conn.outcome(r#type).await
    };
    let (busy, failure) = failed(outcome("busy").await);
    assert_eq!((busy.action, busy.retry_delay.map(|delay| delay.seconds)), (pb::FailureAction::Retry as i32, Some(7)));
    assert_eq!(
        (failure.r#type.as_str(), failure.message.as_str()),
        ("jobwire::classify::HttpError", "HTTP status 429")
    );
    assert_eq!(failed(outcome("gone").await).0.action, pb::FailureAction::Stop as i32);
    assert_eq!(failed(outcome("number").await).0.action, pb::FailureAction::Stop as i32);
    match outcome("mine").await.result {
        Some(Arm::Snoozed(snoozed)) => assert_eq!(snoozed.throttle, pb::ThrottleScope::Queue as i32),
        other => panic!("{other:?}"),
    }
    let (said, _) = failed(outcome("said").await);
    assert_eq!(said.retry_delay.map(|delay| delay.seconds), Some(1), "the handler's own word");
}
