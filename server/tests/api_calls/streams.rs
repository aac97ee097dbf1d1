//! EnqueueStream, AwaitResults, WatchJob.
use jobwire_proto::v1::{self, JobState};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use uuid::Uuid;

use super::harness::{Server, job, refused, soon};

fn with_id(kind: &str) -> v1::JobSpec {
    v1::JobSpec { id: Uuid::now_v7().to_string(), ..job(kind) }
}

/// A request stream that is fed by hand; dropping the sender half-closes it.
fn feed<T: Send + 'static>() -> (mpsc::Sender<T>, ReceiverStream<T>) {
    let (tx, rx) = mpsc::channel(100);
    (tx, ReceiverStream::new(rx))
}

#[tokio::test]
async fn frames_are_acknowledged_in_order_with_their_ids() {
    let server = Server::start().await;
    let (frames, stream) = feed();
    let mut answers = server.jobs().enqueue_stream(stream).await.unwrap().into_inner();
    assert_eq!(soon(answers.message()).await.unwrap().unwrap().max_unacked, 64);
    let bad = v1::JobSpec { r#type: String::new(), ..with_id("a") };
    let without_id = job("a");
    for (seq, jobs) in [(1, vec![with_id("a"), bad]), (2, vec![]), (3, vec![without_id, with_id("b")])] {
        frames.send(v1::EnqueueStreamRequest { seq, jobs }).await.unwrap();
    }
    let (mut acked, mut ids, mut errors) = (0, Vec::new(), Vec::new());
    while acked < 3 {
        let answer = soon(answers.message()).await.unwrap().unwrap();
        assert!(answer.acked_seq > acked, "acks rise");
        acked = answer.acked_seq;
        ids.extend(answer.job_ids);
        errors.extend(answer.errors.into_iter().map(|e| (e.seq, e.index, e.error.unwrap().field)));
    }
    assert_eq!(ids.iter().map(String::is_empty).collect::<Vec<_>>(), [false, true, true, false]);
    assert_eq!(errors, [(1, 1, "jobs[1].type".into()), (3, 0, "jobs[0].id".into())]);
    assert_eq!(server.get(&ids[3]).await.state(), JobState::Ready);
    drop(frames);
    assert!(soon(answers.message()).await.unwrap().is_none(), "a clean end");
}

#[tokio::test]
async fn a_gap_ends_the_stream_after_what_came_before_is_acknowledged() {
    let server = Server::start().await;
    let (frames, stream) = feed();
    let mut answers = server.jobs().enqueue_stream(stream).await.unwrap().into_inner();
    frames.send(v1::EnqueueStreamRequest { seq: 1, jobs: vec![with_id("a")] }).await.unwrap();
    frames.send(v1::EnqueueStreamRequest { seq: 3, jobs: vec![] }).await.unwrap();
    let mut acked = 0;
    let end = loop {
        match soon(answers.message()).await {
            Ok(answer) => acked = answer.expect("an error at the end").acked_seq,
            Err(status) => break status,
        }
    };
    assert_eq!(acked, 1);
    refused::<()>(Err(end), Code::InvalidArgument, "PROTOCOL_VIOLATION", "seq");
}

#[tokio::test]
async fn one_stream_brings_all_results() {
    let server = Server::start().await;
    let ids = [server.enqueue(job("a")).await, server.enqueue(job("a")).await, server.enqueue(job("never")).await];
    let unknown = Uuid::now_v7().to_string();
    let (asks, stream) = feed();
    let mut answers = server.jobs().await_results(stream).await.unwrap().into_inner();
    let mut job_ids = ids.to_vec();
    job_ids.extend([unknown.clone(), "garbage".into()]);
    asks.send(v1::AwaitResultsRequest { job_ids, forget_ids: vec![] }).await.unwrap();
    server.work("a").await;
    server.work("a").await;
    let (mut results, mut unknown_ids) = (Vec::new(), Vec::new());
    while results.len() < 2 || unknown_ids.len() < 2 {
        let answer = soon(answers.message()).await.unwrap().unwrap();
        results.extend(answer.results);
        unknown_ids.extend(answer.unknown_ids);
    }
    unknown_ids.sort();
    let mut expected = vec![unknown, "garbage".to_owned()];
    expected.sort();
    assert_eq!(unknown_ids, expected);
    assert!(results.iter().all(|r| r.state() == JobState::Succeeded && ids[..2].contains(&r.job_id)));
    assert!(matches!(results[0].result.clone().unwrap().body, Some(v1::payload::Body::Text(_))), "as stored");
    asks.send(v1::AwaitResultsRequest { job_ids: vec![], forget_ids: vec![ids[2].clone()] }).await.unwrap();
    drop(asks);
    assert!(soon(answers.message()).await.unwrap().is_none(), "nothing is awaited any more");
}

#[tokio::test]
async fn a_watch_ends_with_the_full_record() {
    let server = Server::start().await;
    let id = server.enqueue(job("a")).await;
    let watch = v1::WatchJobRequest { id: id.clone(), logs_after: Some(0), ..Default::default() };
    let mut events = server.jobs().watch_job(watch).await.unwrap().into_inner();
    let first = soon(events.message()).await.unwrap().unwrap().job.unwrap();
    assert_eq!(first.state(), JobState::Ready);
    let lease = server.lease("a").await;
    let report = v1::ReportJobsRequest {
        progress: vec![v1::ProgressReport {
            lease_token: lease.lease_token.clone(),
            progress: Some(v1::Progress { percent: Some(50.0), ..Default::default() }),
            checkpoint: None,
        }],
        logs: vec![v1::LogReport {
            lease_token: lease.lease_token.clone(),
            lines: vec![v1::LogLine { message: "half".into(), level: 9, ..Default::default() }],
        }],
        outcomes: vec![],
    };
    server.workers().report_jobs(report).await.unwrap();
    let (mut progress, mut lines) = (None, Vec::new());
    while progress.is_none() || lines.is_empty() {
        let event = soon(events.message()).await.unwrap().unwrap();
        progress = event.progress.or(progress);
        lines.extend(event.lines);
    }
    assert_eq!((progress.unwrap().percent, lines[0].message.as_str()), (Some(50.0), "half"));
    server.report(super::harness::succeeded(lease.lease_token, Some(super::harness::text("1")))).await;
    let mut last = None;
    while let Some(event) = soon(events.message()).await.unwrap() {
        last = event.job.or(last);
    }
    let last = last.unwrap();
    assert!(last.state() == JobState::Succeeded && last.result.is_some() && !last.attempts.is_empty());

    let logs = v1::ListJobLogsRequest { id, min_level: 9, ..Default::default() };
    assert_eq!(server.jobs().list_job_logs(logs).await.unwrap().into_inner().lines[0].message, "half");
}

#[tokio::test]
async fn whoever_waits_is_sent_elsewhere_when_the_server_stops() {
    let server = Server::start().await;
    let id = server.enqueue(job("never")).await;
    let (frames, stream) = feed();
    let mut acks = server.jobs().enqueue_stream(stream).await.unwrap().into_inner();
    frames.send(v1::EnqueueStreamRequest { seq: 1, jobs: vec![with_id("a")] }).await.unwrap();
    while soon(acks.message()).await.unwrap().unwrap().acked_seq < 1 {}
    let (asks, stream) = feed();
    let mut results = server.jobs().await_results(stream).await.unwrap().into_inner();
    asks.send(v1::AwaitResultsRequest { job_ids: vec![id.clone()], forget_ids: vec![] }).await.unwrap();
    let watch = v1::WatchJobRequest { id: id.clone(), ..Default::default() };
    let mut events = server.jobs().watch_job(watch).await.unwrap().into_inner();
    soon(events.message()).await.unwrap().expect("the record as it is");

    let wait = v1::WaitJobRequest { id, ..Default::default() };
    let enqueue =
        v1::EnqueueRequest { job: Some(job("never")), wait: super::harness::seconds(60), ..Default::default() };
    let (mut waiter, mut producer) = (server.jobs(), server.jobs());
    let (waited, enqueued, ()) =
        soon(async { tokio::join!(waiter.wait_job(wait), producer.enqueue(enqueue), server.health.not_serving()) })
            .await;
    refused(waited, Code::Unavailable, "SHUTTING_DOWN", "");
    assert_eq!(enqueued.unwrap().into_inner().result, None, "the job is in");
    assert!(soon(acks.message()).await.unwrap().unwrap().reconnect_delay.is_some());
    refused(soon(acks.message()).await, Code::Unavailable, "SHUTTING_DOWN", "");
    refused(soon(results.message()).await, Code::Unavailable, "SHUTTING_DOWN", "");
    refused(soon(events.message()).await, Code::Unavailable, "SHUTTING_DOWN", "");
}
