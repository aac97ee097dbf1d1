//! Deadlines, as a real server keeps them.

use jobwire::prelude::*;
use jobwire::{FailureKind, JobState};
use jobwire_server::testing::{TestServer, server};
use serde_json::json;

use crate::script::soon;

async fn connected() -> (TestServer, Client) {
    let server = server().await;
    let client = Client::connect(server.url()).expect("a client");
    (server, client)
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
            assert_eq!((state, failure.kind), (JobState::Dead, FailureKind::Timeout), "it obeyed the order: {failure}");
            assert!(failure.message.contains("no progress"), "{failure}");
        }
        other => panic!("{other}"),
    }
    worker.abort();
}
