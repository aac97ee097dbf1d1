//! Producers: coalescing, repeats, errors, results, events.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use jobwire::prelude::*;
use jobwire::{Code, EnqueueStatus, JobEvent, JobState, UniqueScope};
use jobwire_proto::v1 as pb;
use tokio::sync::Semaphore;
use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt};

use crate::script::{Answering, Seen, answer, created, serve, soon, text};
use std::sync::Arc;

#[derive(Serialize, Deserialize)]
struct Mail {
    to: String,
}

impl Task for Mail {
    const TYPE: &'static str = "email.send";
    type Output = String;
    fn options() -> Options {
        Options::new().queue("mail").timeout(secs(30)).priority(1)
    }
}

fn mail(to: impl Into<String>) -> Mail {
    Mail { to: to.into() }
}

/// Accepts everything, with the id proposed.
fn accept(spec: &pb::JobSpec) -> pb::EnqueueResponse {
    pb::EnqueueResponse { job_id: spec.id.clone(), status: pb::EnqueueStatus::Created as i32, ..Default::default() }
}

fn accept_all(request: &pb::EnqueueManyRequest) -> pb::EnqueueManyResponse {
    let results = request.jobs.iter().map(|spec| created(&spec.id)).collect();
    pb::EnqueueManyResponse { results, created_count: request.jobs.len() as i32 }
}

#[tokio::test]
async fn options_of_the_call_win_over_those_of_the_task() {
    let seen: Seen<pb::JobSpec> = Seen::default();
    let log = seen.clone();
    let server = serve(Answering {
        enqueue: answer(move |request: pb::EnqueueRequest| {
            let spec = request.job.expect("a job");
            log.lock().expect("no panic").push(spec.clone());
            async move { Ok(pb::EnqueueResponse { status: pb::EnqueueStatus::Kept as i32, ..accept(&spec) }) }
        }),
        ..Default::default()
    })
    .await;
    let client = Client::connect(&server.url).expect("a client");
    let job = client
        .enqueue(mail("ada"))
        .priority(3)
        .delay(mins(1))
        .unique(jobwire::Unique::key("k").scope(UniqueScope::For(secs(9))))
        .retry(8)
        .tag("vip")
        .header("traceparent", "x")
        .await
        .expect("a job");
    assert_eq!(job.enqueue_status(), Some(EnqueueStatus::Kept));
    let spec = seen.lock().expect("no panic")[0].clone();
    assert_eq!(spec.id, job.id());
    assert_eq!(uuid::Uuid::parse_str(&spec.id).expect("a UUID").get_version_num(), 7);
    assert_eq!((spec.r#type.as_str(), spec.queue.as_str(), spec.priority), ("email.send", "mail", 3));
    assert_eq!(spec.timeout.map(|timeout| timeout.seconds), Some(30), "from the task");
    assert_eq!(spec.payload, Some(text(r#"{"to":"ada"}"#)));
    assert_eq!(spec.retry.map(|retry| retry.max_attempts), Some(8));
    assert_eq!(spec.start, Some(pb::job_spec::Start::Delay(prost_types::Duration { seconds: 60, nanos: 0 })));
    let unique = spec.unique.expect("a key");
    assert_eq!((unique.scope, unique.ttl.map(|ttl| ttl.seconds)), (pb::UniqueScope::ForTtl as i32, Some(9)));
    assert_eq!((spec.tags, spec.headers["traceparent"].as_str()), (vec!["vip".to_owned()], "x"));
}

/// A server that holds Enqueue and EnqueueMany until the test lets them go, and refuses the address "bad".
async fn gated() -> (crate::script::Script, Arc<Semaphore>, Seen<usize>) {
    let gate = Arc::new(Semaphore::new(0));
    let sizes: Seen<usize> = Seen::default();
    let (one_gate, many_gate, one_sizes, many_sizes) = (gate.clone(), gate.clone(), sizes.clone(), sizes.clone());
    let server = serve(Answering {
        enqueue: answer(move |request: pb::EnqueueRequest| {
            one_sizes.lock().expect("no panic").push(1);
            let gate = one_gate.clone();
            async move {
                gate.acquire().await.expect("open").forget();
                Ok(accept(&request.job.expect("a job")))
            }
        }),
        enqueue_many: answer(move |request: pb::EnqueueManyRequest| {
            many_sizes.lock().expect("no panic").push(request.jobs.len());
            let gate = many_gate.clone();
            async move {
                gate.acquire().await.expect("open").forget();
                let mut answer = accept_all(&request);
                for (result, spec) in answer.results.iter_mut().zip(&request.jobs) {
                    if spec.payload == Some(text(r#"{"to":"bad"}"#)) {
                        result.error = Some(pb::ItemError {
                            code: 3,
                            reason: "INVALID_FIELD".into(),
                            field: "payload".into(),
                            ..Default::default()
                        });
                    }
                }
                Ok(answer)
            }
        }),
        ..Default::default()
    })
    .await;
    (server, gate, sizes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_call_leaves_at_once_and_those_that_come_meanwhile_travel_together() {
    let (server, gate, sizes) = gated().await;
    let client = Client::connect(&server.url).expect("a client");
    let first = tokio::spawn({
        let client = client.clone();
        async move { client.enqueue(mail("first")).await }
    });
    soon("first call", async {
        while sizes.lock().expect("no panic").is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let rest: Vec<_> = (0..255)
        .map(|n| {
            let client = client.clone();
            let to = if n == 100 { "bad".to_owned() } else { n.to_string() };
            tokio::spawn(async move { client.enqueue(mail(to)).await })
        })
        .collect();
    // One more caller, which gives up: that ends nothing for the others.
    let dropped = tokio::spawn({
        let client = client.clone();
        async move { client.enqueue(mail("dropped")).await }
    });
    tokio::task::yield_now().await;
    dropped.abort();
    gate.add_permits(100);
    let first = soon("first", first).await.expect("no panic").expect("a job");
    let mut ids = HashSet::from([first.id().to_owned()]);
    for (n, answer) in soon("answers", join_all(rest)).await.into_iter().enumerate() {
        match answer.expect("no panic") {
            Ok(job) => assert!(ids.insert(job.id().to_owned()) && n != 100),
            Err(error) => assert_eq!((n, error.reason(), error.field()), (100, "INVALID_FIELD", "payload")),
        }
    }
    assert_eq!(ids.len(), 255);
    let sizes = sizes.lock().expect("no panic").clone();
    assert_eq!(sizes[0], 1);
    assert!(sizes.len() < 20, "{sizes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_gathered_jobs_do_not_wait_for_the_call_in_flight() {
    let (server, gate, sizes) = gated().await;
    let client = Client::connect(&server.url).expect("a client");
    let calls: Vec<_> = (0..1_002)
        .map(|n| {
            let client = client.clone();
            tokio::spawn(async move { client.enqueue(mail(n.to_string())).await })
        })
        .collect();
    soon("batch of 1,000 beside the first call", async {
        while !sizes.lock().expect("no panic").contains(&1_000) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    gate.add_permits(100);
    assert!(soon("answers", join_all(calls)).await.into_iter().all(|answer| answer.expect("no panic").is_ok()));
}

#[tokio::test]
async fn unavailable_is_tried_again_with_the_same_id() {
    let seen: Seen<String> = Seen::default();
    let log = seen.clone();
    let server = serve(Answering {
        enqueue: answer(move |request: pb::EnqueueRequest| {
            let spec = request.job.expect("a job");
            let mut log = log.lock().expect("no panic");
            log.push(spec.id.clone());
            let refused = log.len() < 3;
            async move { if refused { Err(Status::unavailable("store is down")) } else { Ok(accept(&spec)) } }
        }),
        ..Default::default()
    })
    .await;
    let client = Client::connect(&server.url).expect("a client");
    let job = soon("job", client.enqueue(mail("ada")).into_future()).await.expect("a job");
    assert_eq!(*seen.lock().expect("no panic"), vec![job.id().to_owned(); 3]);
}

#[tokio::test]
async fn enqueue_many_answers_per_item_and_repeats_only_what_was_unavailable() {
    let seen: Seen<usize> = Seen::default();
    let log = seen.clone();
    let server = serve(Answering {
        enqueue_many: answer(move |request: pb::EnqueueManyRequest| {
            let mut log = log.lock().expect("no panic");
            log.push(request.jobs.len());
            let mut answer = accept_all(&request);
            if log.len() == 1 {
                answer.results[0].error =
                    Some(pb::ItemError { code: 14, reason: "STORE_UNAVAILABLE".into(), ..Default::default() });
                answer.results[1].error =
                    Some(pb::ItemError { code: 6, reason: "UNIQUE_CONFLICT".into(), ..Default::default() });
            }
            async move { Ok(answer) }
        }),
        ..Default::default()
    })
    .await;
    let client = Client::connect(&server.url).expect("a client");
    let tasks = (0..1_500).map(|n| mail(n.to_string()));
    let answers = soon("answers", client.enqueue_many(tasks).into_future()).await;
    assert_eq!(*seen.lock().expect("no panic"), [1_000, 1, 500]);
    assert_eq!(answers.len(), 1_500);
    for (n, answer) in answers.iter().enumerate() {
        assert_eq!(answer.is_ok(), n != 1, "{n}");
    }
    assert_eq!(answers[1].as_ref().expect_err("a conflict").code(), Some(Code::AlreadyExists));
}

#[tokio::test]
async fn refusals_keep_what_the_server_said() {
    let server = serve(Answering {
        enqueue: answer(|_: pb::EnqueueRequest| async {
            let mut details = ErrorDetails::new();
            let metadata = HashMap::from([("job_id".to_owned(), "j1".to_owned())]);
            details.set_error_info("UNIQUE_CONFLICT", "jobwire.dev", metadata);
            details.set_retry_info(Some(Duration::from_secs(7)));
            Err(Status::with_error_details(tonic::Code::AlreadyExists, "taken", details))
        }),
        ..Default::default()
    })
    .await;
    let client = Client::connect(&server.url).expect("a client");
    let error = client.enqueue(mail("ada")).await.expect_err("a conflict");
    assert_eq!((error.code(), error.reason()), (Some(Code::AlreadyExists), "UNIQUE_CONFLICT"));
    assert_eq!((error.existing_job_id(), error.retry_delay()), (Some("j1"), Some(secs(7))));
    assert!(!error.retryable());
}

#[tokio::test]
async fn no_server_says_how_to_start_one() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    let url = format!("jobwire://127.0.0.1:{port}");
    let client = Client::builder().url(&url).timeout(millis(200)).build().expect("a client");
    let error = client.enqueue(mail("ada")).await.expect_err("nobody there");
    assert_eq!(error.code(), Some(Code::Unavailable));
    let message = error.to_string();
    assert!(message.contains(&format!("127.0.0.1:{port}")) && message.contains("jobwire dev"), "{message}");
}

#[tokio::test]
async fn a_token_is_shown_and_read_again_when_refused() {
    let file = std::env::temp_dir().join(format!("jobwire-token-{}", uuid::Uuid::new_v4()));
    std::fs::write(&file, "second\n").expect("a file");
    let mut server = serve(Answering::default()).await;
    let client = Client::builder().url(&server.url).token_file(&file).build().expect("a client");
    let job = client.job("j");
    let waiting = tokio::spawn(async move { job.result().await });
    let conn = soon("stream", server.results.recv()).await.expect("a stream");
    assert_eq!(conn.metadata.get("authorization").expect("a token"), "Bearer second");
    std::fs::write(&file, "third").expect("a file");
    conn.end(Some(Status::unavailable("restart")));
    let conn = soon("stream", server.results.recv()).await.expect("a stream");
    assert_eq!(conn.metadata.get("authorization").expect("a token"), "Bearer third");
    waiting.abort();
    std::fs::remove_file(file).expect("the file");
}

#[tokio::test]
async fn all_results_share_one_stream_which_is_resumed() {
    let mut server = serve(Answering::default()).await;
    let client = Client::connect(&server.url).expect("a client");
    let wait = |id: &str| {
        let job = client.job(id);
        tokio::spawn(async move { job.result().await })
    };
    let (a, b, c, d) = (wait("a"), wait("b"), wait("c"), wait("d"));
    let mut conn = soon("stream", server.results.recv()).await.expect("a stream");
    let mut asked = HashSet::new();
    while asked.len() < 4 {
        asked.extend(conn.recv().await.job_ids);
    }
    let done =
        |id: &str, state: pb::JobState| pb::JobResult { job_id: id.into(), state: state as i32, ..Default::default() };
    let succeeded = pb::JobResult { result: Some(text(r#"{"n":1}"#)), ..done("a", pb::JobState::Succeeded) };
    conn.send(pb::AwaitResultsResponse { results: vec![succeeded], ..Default::default() });
    assert_eq!(soon("a", a).await.expect("no panic").expect("a result"), serde_json::json!({"n": 1}));
    conn.end(Some(Status::unavailable("restart")));

    let mut conn = soon("stream", server.results.recv()).await.expect("a stream");
    let again: HashSet<String> = conn.recv().await.job_ids.into_iter().collect();
    assert_eq!(again, HashSet::from(["b".to_owned(), "c".to_owned(), "d".to_owned()]));
    let failure = pb::Failure { r#type: "ValueError".into(), message: "no".into(), ..Default::default() };
    let dead = pb::JobResult { failure: Some(failure), ..done("b", pb::JobState::Dead) };
    let results = vec![dead, done("c", pb::JobState::Cancelled)];
    conn.send(pb::AwaitResultsResponse { results, unknown_ids: vec!["d".into()] });
    match soon("b", b).await.expect("no panic").expect_err("dead") {
        Error::JobFailed { state, failure, .. } => {
            assert_eq!((state, failure.to_string()), (JobState::Dead, "ValueError: no".into()));
        }
        other => panic!("{other}"),
    }
    assert!(matches!(soon("c", c).await.expect("no panic"), Err(Error::JobCancelled { .. })));
    assert_eq!(soon("d", d).await.expect("no panic").expect_err("unknown").reason(), "JOB_NOT_FOUND");
}

#[tokio::test]
async fn who_no_longer_waits_is_forgotten() {
    let mut server = serve(Answering::default()).await;
    let client = Client::connect(&server.url).expect("a client");
    let job = client.job("a");
    let error = job.result().timeout(millis(50)).await.expect_err("nobody answers");
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    let mut conn = soon("stream", server.results.recv()).await.expect("a stream");
    let mut forgotten = false;
    while !forgotten {
        forgotten = conn.recv().await.forget_ids == ["a"];
    }
}

#[tokio::test]
async fn events_go_on_where_the_stream_broke() {
    let mut server = serve(Answering::default()).await;
    let client = Client::connect(&server.url).expect("a client");
    let mut events = client.job("a").events();
    let reading = tokio::spawn(async move {
        let mut seen = Vec::new();
        while let Some(event) = events.next().await {
            seen.push(match event.expect("no error") {
                JobEvent::State(job) => job.state.name().to_owned(),
                JobEvent::Progress(progress) => format!("{:?}", progress.percent),
                JobEvent::Log(line) => line.message,
                _ => "?".to_owned(),
            });
        }
        seen
    });
    let state = |state: pb::JobState| Some(pb::Job { state: state as i32, ..Default::default() });
    let line = pb::LogLine { index: 7, message: "line".into(), ..Default::default() };
    let watcher = soon("watcher", server.watchers.recv()).await.expect("a watcher");
    assert_eq!((watcher.request.id.as_str(), watcher.request.logs_after), ("a", Some(0)));
    let send = |watcher: &crate::script::Watcher, answer| watcher.answers.send(Ok(answer)).expect("somebody listens");
    send(&watcher, pb::WatchJobResponse { job: state(pb::JobState::Running), ..Default::default() });
    send(&watcher, pb::WatchJobResponse { lines: vec![line], ..Default::default() });
    watcher.answers.send(Err(Status::unavailable("restart"))).expect("somebody listens");
    let watcher = soon("watcher", server.watchers.recv()).await.expect("a watcher");
    assert_eq!(watcher.request.logs_after, Some(7));
    let progress = Some(pb::Progress { percent: Some(50.0), ..Default::default() });
    send(&watcher, pb::WatchJobResponse { progress, ..Default::default() });
    send(&watcher, pb::WatchJobResponse { job: state(pb::JobState::Succeeded), ..Default::default() });
    assert_eq!(soon("end", reading).await.expect("no panic"), ["RUNNING", "line", "Some(50.0)", "SUCCEEDED"]);
}

#[tokio::test]
async fn status_explain_cancel_and_retry_name_the_job() {
    let bulk =
        |matched_count| Some(pb::BulkResult { matched_count, affected_count: matched_count, ..Default::default() });
    let server = serve(Answering {
        get_job: answer(|request: pb::GetJobRequest| async move {
            let spec = pb::JobSpec { r#type: "t".into(), ..Default::default() };
            let job = pb::Job { id: request.id, state: 7, spec: Some(spec), attempt: 3, ..Default::default() };
            Ok(pb::GetJobResponse { job: Some(job) })
        }),
        explain_job: answer(|_: pb::ExplainJobRequest| async {
            let reason = pb::WaitReason { message: "paused".into(), ..Default::default() };
            let state = pb::JobState::Ready as i32;
            Ok(pb::ExplainJobResponse { state, summary: "READY".into(), reasons: vec![reason] })
        }),
        cancel_jobs: answer(move |request: pb::CancelJobsRequest| async move {
            assert_eq!((request.reason.as_str(), request.grace.map(|grace| grace.seconds)), ("left", Some(30)));
            let ids = request.selector.expect("a selector").ids;
            Ok(pb::CancelJobsResponse { result: bulk(i32::from(ids == ["a"])) })
        }),
        retry_jobs: answer(|request: pb::RetryJobsRequest| async move {
            let error = pb::ItemError { code: 9, reason: "JOB_RUNNING".into(), ..Default::default() };
            let error = pb::BulkError { id: request.selector.expect("a selector").ids.remove(0), error: Some(error) };
            let result = pb::BulkResult { matched_count: 1, errors: vec![error], ..Default::default() };
            Ok(pb::RetryJobsResponse { result: Some(result) })
        }),
        ..Default::default()
    })
    .await;
    let client = Client::connect(&server.url).expect("a client");
    let job = client.job("a");
    let why = job.explain().await.expect("an explanation");
    assert_eq!(
        (why.state, why.summary.as_str(), &why.reasons[..]),
        (JobState::Ready, "READY", &["paused".to_owned()][..])
    );
    let info = job.status().await.expect("a record");
    assert_eq!((info.id.as_str(), info.state, info.queue.as_str(), info.attempt), ("a", JobState::Dead, "t", 3));
    job.cancel("left", secs(30)).await.expect("cancelled");
    let unknown = client.job("b").cancel("left", secs(30)).await.expect_err("unknown");
    assert_eq!(unknown.reason(), "JOB_NOT_FOUND");
    assert_eq!(job.retry().await.expect_err("running").reason(), "JOB_RUNNING");
}
