//! Turns, throttles and deadlines, as a real server keeps them.

use jobwire::prelude::*;
use jobwire::{FailureKind, JobState, Payload, Throttle};
use jobwire_server::testing::{TestServer, server};
use serde_json::json;
use tokio::sync::mpsc;

use crate::script::soon;

async fn connected() -> (TestServer, Client) {
    let server = server().await;
    let client = Client::connect(server.url()).expect("a client");
    (server, client)
}

#[tokio::test]
async fn keys_take_turns() {
    let (_server, client) = connected().await;
    for key in ["a", "a", "a", "a", "b", "b"] {
        client.enqueue_raw("turn", &json!({})).fairness_key(key).await.expect("a job");
    }
    let (ran, mut runs) = mpsc::unbounded_channel();
    let worker = Worker::builder(client).concurrency(1).prefetch(0).handle_raw("turn", move |ctx| {
        let _ = ran.send(ctx.fairness_key().to_owned());
        async { Ok(Payload::default()) }
    });
    let worker = tokio::spawn(worker.run_until(std::future::pending()));
    let mut keys = Vec::new();
    while keys.len() < 6 {
        keys.push(soon("run", runs.recv()).await.expect("a run"));
    }
    let late = keys.iter().rposition(|key| key == "b").expect("two of them");
    assert!(late < 4, "b does not wait for all of a: {keys:?}");
    worker.abort();
}

#[tokio::test]
async fn a_snooze_may_hold_back_the_whole_queue() {
    const PAUSE: std::time::Duration = millis(600);
    let (_server, client) = connected().await;
    let first = client.enqueue_raw("call", &json!({})).priority(4).await.expect("a job");
    let second = client.enqueue_raw("call", &json!({})).await.expect("a job");
    let begun = std::time::Instant::now();
    let id = first.id().to_owned();
    let worker = Worker::builder(client).concurrency(1).prefetch(0).handle_raw("call", move |ctx| {
        let busy = ctx.job_id() == id && ctx.delivery() == 1;
        async move {
            let snooze = || JobError::snooze(PAUSE).throttle(Throttle::Queue).message("429");
            if busy { Err(snooze()) } else { Ok(Payload::json("done")?) }
        }
    });
    let worker = tokio::spawn(worker.run_until(std::future::pending()));
    soon("result", second.result().into_future()).await.expect("done");
    assert!(begun.elapsed() >= PAUSE, "held back with the one that was told to wait");
    soon("result", first.result().into_future()).await.expect("done");
    assert_eq!(first.status().await.expect("a record").attempt, 1, "no attempt used");
    worker.abort();
}

#[tokio::test]
async fn what_is_not_over_in_time_is_ended() {
    let (_server, client) = connected().await;
    let late = client.enqueue_raw("nobody", &json!({})).total_timeout(millis(200)).await.expect("a job");
    let end = soon("end", late.result().into_future()).await.expect_err("out of time");
    assert!(matches!(end, Error::JobExpired { .. }), "{end}");

    let silent = client.enqueue_raw("silent", &json!({})).heartbeat_timeout(secs(1)).retry(1).await.expect("a job");
    let worker = Worker::builder(client).handle_raw("silent", |ctx| async move {
        ctx.cancelled().await;
        Err(JobError::cancelled())
    });
    let worker = tokio::spawn(worker.run_until(std::future::pending()));
    match soon("end", silent.result().into_future()).await.expect_err("it says nothing") {
        Error::JobFailed { state, failure, .. } => {
            assert_eq!((state, failure.kind), (JobState::Dead, FailureKind::Stalled), "{failure}");
        }
        other => panic!("{other}"),
    }
    worker.abort();
}
