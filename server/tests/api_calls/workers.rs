//! The workers' stream and its unary twins.
use jobwire_proto::v1::{self, JobState, RejectionReason};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::harness::{Server, job, refused, seconds, soon, succeeded, text};

/// A worker that speaks by hand.
struct Worker {
    frames: mpsc::Sender<v1::StreamJobsRequest>,
    answers: Streaming<v1::StreamJobsResponse>,
    seq: i64,
}

impl Worker {
    async fn connect(server: &Server) -> Self {
        let (frames, stream) = mpsc::channel(100);
        let call = server.workers().stream_jobs(ReceiverStream::new(stream)).await;
        Self { frames, answers: soon(async { call }).await.unwrap().into_inner(), seq: 0 }
    }

    async fn send(&mut self, frame: v1::StreamJobsRequest) {
        self.seq += 1;
        self.frames.send(v1::StreamJobsRequest { seq: self.seq, ..frame }).await.unwrap();
    }

    async fn hello(&mut self, session: &str, slots: i32) -> v1::Welcome {
        self.send(v1::StreamJobsRequest { hello: Some(hello(session, slots)), ..Default::default() }).await;
        self.until(|frame| frame.welcome).await
    }

    /// Reads until a frame has what is looked for.
    async fn until<T>(&mut self, mut look: impl FnMut(v1::StreamJobsResponse) -> Option<T>) -> T {
        loop {
            let frame = soon(self.answers.message()).await.unwrap().expect("the stream goes on");
            if let Some(found) = look(frame) {
                return found;
            }
        }
    }

    /// Reads to the end: `Ok` is a clean one.
    async fn end(&mut self) -> Result<(), Status> {
        while soon(self.answers.message()).await?.is_some() {}
        Ok(())
    }
}

fn hello(session: &str, slots: i32) -> v1::Hello {
    v1::Hello {
        session_id: session.into(),
        types: vec!["a".into()],
        capacity: Some(v1::Capacity { slots, ..Default::default() }),
        revision: 1,
        ..Default::default()
    }
}

fn only(hello: v1::Hello) -> v1::StreamJobsRequest {
    v1::StreamJobsRequest { hello: Some(hello), ..Default::default() }
}

#[tokio::test]
async fn jobs_go_out_and_outcomes_come_back() {
    let server = Server::start().await;
    let id = server.enqueue(v1::JobSpec { payload: Some(text("{}")), ..job("a") }).await;
    let mut worker = Worker::connect(&server).await;
    let welcome = worker.hello("s1", 5).await;
    assert_eq!((welcome.slots, welcome.revision, welcome.server_version.is_empty()), (5, 1, false));
    let lease = worker.until(|frame| frame.jobs.into_iter().next()).await;
    let task = v1::Task::decode(lease.task.clone()).unwrap();
    assert_eq!((task.id, task.payload), (id.clone(), Some(text("{}"))));
    let list = v1::ListWorkersRequest { filter: "type = a".into(), ..Default::default() };
    let workers = server.admin().list_workers(list).await.unwrap().into_inner().workers;
    assert_eq!(workers[0].session_id, "s1");

    worker
        .send(v1::StreamJobsRequest {
            outcomes: vec![
                succeeded(lease.lease_token.clone(), Some(text("1"))),
                succeeded("garbage".into(), None),
                v1::Outcome { lease_token: lease.lease_token, result: None, ..Default::default() },
            ],
            ..Default::default()
        })
        .await;
    let mut rejections = Vec::new();
    worker
        .until(|frame| {
            rejections.extend(frame.rejections.into_iter().map(|r| r.reason()));
            (frame.acked_seq >= 2).then_some(())
        })
        .await;
    assert!(rejections.contains(&RejectionReason::UnknownLease), "{rejections:?}");
    assert!(rejections.contains(&RejectionReason::Unsupported), "{rejections:?}");
    assert_eq!(server.get(&id).await.state(), JobState::Succeeded);
    let Worker { frames, mut answers, .. } = worker;
    drop(frames);
    while soon(answers.message()).await.expect("a clean end").is_some() {}
}

#[tokio::test]
async fn what_travels_with_the_hello_counts() {
    let server = Server::start().await;
    server.enqueue(job("a")).await;
    let mut first = Worker::connect(&server).await;
    first.hello("s1", 1).await;
    let lease = first.until(|frame| frame.jobs.into_iter().next()).await;
    let mut second = Worker::connect(&server).await;
    let held = |token: &str| v1::HeldLease { lease_token: token.into(), running_for: seconds(1) };
    second
        .send(v1::StreamJobsRequest {
            hello: Some(v1::Hello { held: vec![held(&lease.lease_token), held("garbage")], ..hello("s1", 1) }),
            outcomes: vec![succeeded(lease.lease_token, None)],
            ..Default::default()
        })
        .await;
    refused(first.end().await, Code::Aborted, "SESSION_MOVED", "");
    let (mut lost, mut acked) = (None, false);
    second
        .until(|frame| {
            lost = frame.welcome.map(|welcome| welcome.lost).or(lost.take());
            acked |= frame.acked_seq >= 1;
            (lost.is_some() && acked).then_some(())
        })
        .await;
    assert_eq!(lost.unwrap(), ["garbage"]);
}

#[tokio::test]
async fn broken_rules_end_the_stream_with_their_name() {
    let server = Server::start().await;
    let no_hello = v1::StreamJobsRequest::default();
    let invalid = |field: &'static str| (Code::InvalidArgument, "INVALID_FIELD", field);
    let violation = |field: &'static str| (Code::InvalidArgument, "PROTOCOL_VIOLATION", field);
    for (frame, (code, reason, field)) in [
        (no_hello, violation("hello")),
        (only(hello("", 1)), invalid("hello.session_id")),
        (only(v1::Hello { types: vec![], ..hello("s", 1) }), invalid("hello.types")),
        (only(hello("s", -1)), invalid("hello.capacity.slots")),
        (
            only(v1::Hello { revision: 0, ..hello("s", 1) }),
            (Code::FailedPrecondition, "REVISION_UNSUPPORTED", "hello.revision"),
        ),
    ] {
        let mut worker = Worker::connect(&server).await;
        worker.send(frame).await;
        refused(worker.end().await, code, reason, field);
    }
    for (frame, field) in [
        (v1::StreamJobsRequest { seq: 3, ..Default::default() }, "seq"),
        (v1::StreamJobsRequest { seq: 1, ..Default::default() }, "seq"),
        (v1::StreamJobsRequest { seq: 2, hello: Some(hello("s", 1)), ..Default::default() }, "hello"),
        (v1::StreamJobsRequest { seq: 2, received_seq: -1, ..Default::default() }, "received_seq"),
        (v1::StreamJobsRequest { seq: 2, received_seq: 1_000, ..Default::default() }, "received_seq"),
    ] {
        let mut worker = Worker::connect(&server).await;
        worker.hello("s", 1).await;
        worker.frames.send(frame).await.unwrap();
        refused(worker.end().await, Code::InvalidArgument, "PROTOCOL_VIOLATION", field);
    }
    let (frames, stream) = mpsc::channel::<v1::StreamJobsRequest>(1);
    drop(frames);
    let mut answers = server.workers().stream_jobs(ReceiverStream::new(stream)).await.unwrap().into_inner();
    assert!(soon(answers.message()).await.expect("a clean end").is_none(), "nothing said, nothing answered");
}

#[tokio::test]
async fn the_unary_twins_do_the_same() {
    let server = Server::start().await;
    server.enqueue(v1::JobSpec { payload: Some(text("{\"n\":1}")), ..job("a") }).await;
    let lease = server.lease("a").await;
    let payload = v1::Task::decode(lease.task.clone()).unwrap().payload.unwrap();
    assert!(matches!(payload.body, Some(v1::payload::Body::Json(_))), "people get JSON");
    let extend = v1::ExtendLeasesRequest {
        lease_tokens: vec![lease.lease_token.clone(), "garbage".into()],
        lease_ttl: seconds(30),
    };
    let extended = server.workers().extend_leases(extend).await.unwrap().into_inner();
    assert_eq!((extended.lost, extended.lease_ttl), (vec!["garbage".to_owned()], seconds(30)));
    server.report(succeeded(lease.lease_token.clone(), None)).await;
    // The same again is acknowledged and ignored.
    server.report(succeeded(lease.lease_token, None)).await;
    let empty = v1::LeaseJobsRequest { types: vec!["a".into()], wait: seconds(0), ..Default::default() };
    assert!(soon(server.workers().lease_jobs(empty)).await.unwrap().into_inner().jobs.is_empty());
}

#[tokio::test]
async fn workers_are_told_what_to_do() {
    let server = Server::start().await;
    let mut worker = Worker::connect(&server).await;
    worker.hello("s1", 1).await;
    let signal = |selector, directive: v1::DirectiveKind| v1::SignalWorkersRequest {
        selector,
        directive: directive.into(),
        ..Default::default()
    };
    let by_filter = super::harness::by_filter("state = ACTIVE");
    let done = server.admin().signal_workers(signal(by_filter, v1::DirectiveKind::Quiet)).await.unwrap().into_inner();
    assert_eq!(done.result.unwrap().affected_count, 1);
    let directive = worker.until(|frame| frame.directive).await;
    assert_eq!(directive.kind(), v1::DirectiveKind::Quiet);
    let nothing = signal(super::harness::by_ids(&["s1"]), v1::DirectiveKind::Unspecified);
    refused(server.admin().signal_workers(nothing).await, Code::InvalidArgument, "INVALID_FIELD", "directive");
    let got = server.admin().get_worker(v1::GetWorkerRequest { session_id: "s1".into() }).await.unwrap().into_inner();
    assert_eq!(got.worker.unwrap().directive(), v1::DirectiveKind::Quiet);
    let unknown = server.admin().get_worker(v1::GetWorkerRequest { session_id: "s2".into() }).await;
    refused(unknown, Code::NotFound, "WORKER_NOT_FOUND", "");
}
