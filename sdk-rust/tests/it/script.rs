//! A server on a free port that does what a test tells it: worker streams are handed to the test, calls of producers are
//! answered by functions.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{Stream, StreamExt};
use jobwire_proto::v1 as pb;
use pb::job_service_server::{JobService, JobServiceServer};
use pb::worker_service_server::{WorkerService, WorkerServiceServer};
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tonic::{Request, Response, Status, Streaming};

/// Nothing in a test takes this long.
pub const PATIENCE: Duration = Duration::from_secs(20);

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
type Unary<Q, A> = Box<dyn Fn(Q) -> futures::future::BoxFuture<'static, Result<A, Status>> + Send + Sync>;

pub type Authorize = Box<dyn Fn(&tonic::metadata::MetadataMap) -> Result<(), Status> + Send + Sync>;

/// What a test answers; unset = UNIMPLEMENTED.
#[derive(Default)]
pub struct Answering {
    /// Whether Enqueue may be called at all.
    pub authorize: Option<Authorize>,
    pub enqueue: Option<Unary<pb::EnqueueRequest, pb::EnqueueResponse>>,
    pub enqueue_many: Option<Unary<pb::EnqueueManyRequest, pb::EnqueueManyResponse>>,
    pub get_job: Option<Unary<pb::GetJobRequest, pb::GetJobResponse>>,
    pub cancel_jobs: Option<Unary<pb::CancelJobsRequest, pb::CancelJobsResponse>>,
    pub explain_job: Option<Unary<pb::ExplainJobRequest, pb::ExplainJobResponse>>,
    pub retry_jobs: Option<Unary<pb::RetryJobsRequest, pb::RetryJobsResponse>>,
    pub dependencies: Option<Unary<pb::ListDependencyResultsRequest, pb::ListDependencyResultsResponse>>,
}

/// One open stream, seen from the server.
pub struct Conn<Q, A> {
    pub requests: Streaming<Q>,
    pub metadata: tonic::metadata::MetadataMap,
    answers: mpsc::UnboundedSender<Result<A, Status>>,
}

/// A watcher, seen from the server.
pub struct Watcher {
    pub request: pb::WatchJobRequest,
    pub answers: mpsc::UnboundedSender<Result<pb::WatchJobResponse, Status>>,
}

pub type WorkerConn = Conn<pb::StreamJobsRequest, pb::StreamJobsResponse>;
pub type ResultsConn = Conn<pb::AwaitResultsRequest, pb::AwaitResultsResponse>;
pub type EnqueueConn = Conn<pb::EnqueueStreamRequest, pb::EnqueueStreamResponse>;

pub struct Script {
    pub url: String,
    pub workers: mpsc::UnboundedReceiver<WorkerConn>,
    pub results: mpsc::UnboundedReceiver<ResultsConn>,
    pub watchers: mpsc::UnboundedReceiver<Watcher>,
    pub producers: mpsc::UnboundedReceiver<EnqueueConn>,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Script {
    fn drop(&mut self) {
        self.server.abort();
    }
}

struct Service {
    answering: Answering,
    workers: mpsc::UnboundedSender<WorkerConn>,
    results: mpsc::UnboundedSender<ResultsConn>,
    watchers: mpsc::UnboundedSender<Watcher>,
    producers: mpsc::UnboundedSender<EnqueueConn>,
}

pub async fn serve(answering: Answering) -> Script {
    serve_with(answering, None).await
}

/// With TLS, if it is given.
pub async fn serve_with(answering: Answering, tls: Option<tonic::transport::ServerTlsConfig>) -> Script {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let scheme = if tls.is_some() { "jobwires" } else { "jobwire" };
    let url = format!("{scheme}://{}", listener.local_addr().expect("an address"));
    let (workers, workers_in) = mpsc::unbounded_channel();
    let (results, results_in) = mpsc::unbounded_channel();
    let (watchers, watchers_in) = mpsc::unbounded_channel();
    let (producers, producers_in) = mpsc::unbounded_channel();
    let service = Arc::new(Service { answering, workers, results, watchers, producers });
    let mut builder = tonic::transport::Server::builder();
    if let Some(tls) = tls {
        builder = builder.tls_config(tls).expect("a certificate");
    }
    let server = builder
        .add_service(WorkerServiceServer::from_arc(service.clone()))
        .add_service(JobServiceServer::from_arc(service))
        .serve_with_incoming(TcpListenerStream::new(listener));
    let server = tokio::spawn(async move { server.await.expect("the server runs") });
    Script { url, workers: workers_in, results: results_in, watchers: watchers_in, producers: producers_in, server }
}

/// Waits for something that has to come.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("no {what} within {PATIENCE:?}"))
}

impl<Q, A> Conn<Q, A> {
    /// The next message of the client.
    pub async fn recv(&mut self) -> Q {
        soon("message", self.requests.message()).await.expect("an unbroken stream").expect("an open stream")
    }

    pub fn send(&self, answer: A) {
        self.answers.send(Ok(answer)).expect("somebody listens");
    }

    /// Ends the stream; an error breaks it.
    pub fn end(self, error: Option<Status>) -> Streaming<Q> {
        if let Some(error) = error {
            let _ = self.answers.send(Err(error));
        }
        self.requests
    }
}

impl WorkerConn {
    /// Reads the hello and welcomes the worker.
    pub async fn welcome(&mut self, welcome: pb::Welcome) -> pb::Hello {
        let hello = self.recv().await.hello.expect("a hello");
        self.send(pb::StreamJobsResponse { seq: 1, welcome: Some(welcome), ..Default::default() });
        hello
    }

    /// Reads frames until one is what the test waits for.
    pub async fn until<T>(&mut self, what: &str, mut find: impl FnMut(&pb::StreamJobsRequest) -> Option<T>) -> T {
        soon(what, async {
            loop {
                if let Some(found) = find(&self.recv().await) {
                    return found;
                }
            }
        })
        .await
    }

    /// Reads frames until the worker ends its side of the stream, cleanly.
    pub async fn half_closed(&mut self) {
        let end = async { while self.requests.message().await.expect("a clean end").is_some() {} };
        soon("half-close", end).await;
    }

    /// Reads frames until a handler has started.
    pub async fn started(&mut self, token: &str) {
        self.until(token, |frame| frame.started.iter().any(|started| started == token).then_some(())).await;
    }

    /// Reads frames until the outcome of a lease, and acknowledges it.
    pub async fn outcome(&mut self, token: &str) -> pb::Outcome {
        let find = |frame: &pb::StreamJobsRequest| {
            let outcome = frame.outcomes.iter().find(|outcome| outcome.lease_token == token)?;
            Some((frame.seq, outcome.clone()))
        };
        let (acked_seq, outcome) = self.until(token, find).await;
        self.send(pb::StreamJobsResponse { seq: 100 + acked_seq, acked_seq, ..Default::default() });
        outcome
    }

    /// Delivers one job: its token is `token`, its id "job-{token}".
    pub fn deliver(&self, seq: i64, token: &str, r#type: &str, payload: &str) {
        self.deliver_lease(seq, lease(token, r#type, payload));
    }

    pub fn deliver_lease(&self, seq: i64, lease: pb::JobLease) {
        self.send(pb::StreamJobsResponse { seq, jobs: vec![lease], ..Default::default() });
    }
}

pub fn lease(token: &str, r#type: &str, payload: &str) -> pb::JobLease {
    let task = pb::Task {
        id: format!("job-{token}"),
        r#type: r#type.to_owned(),
        queue: r#type.to_owned(),
        payload: Some(text(payload)),
        ..Default::default()
    };
    pb::JobLease {
        lease_token: token.to_owned(),
        task: task.encode_to_vec().into(),
        attempt: 1,
        max_attempts: 20,
        delivery: 1,
        ..Default::default()
    }
}

pub fn text(json: &str) -> pb::Payload {
    pb::Payload { body: Some(pb::payload::Body::Text(json.to_owned())), ..Default::default() }
}

pub fn created(id: &str) -> pb::EnqueueResult {
    pb::EnqueueResult {
        job_id: id.to_owned(),
        status: pb::EnqueueStatus::Created as i32,
        state: pb::JobState::Ready as i32,
        ..Default::default()
    }
}

/// Answers by a function of the request.
pub fn answer<Q, A, F, Fut>(call: F) -> Option<Unary<Q, A>>
where
    F: Fn(Q) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<A, Status>> + Send + 'static,
{
    Some(Box::new(move |request| Box::pin(call(request))))
}

/// A list that answers add to and tests read.
pub type Seen<T> = Arc<Mutex<Vec<T>>>;

async fn unary<Q, A>(call: &Option<Unary<Q, A>>, request: Request<Q>) -> Result<Response<A>, Status> {
    match call {
        Some(call) => call(request.into_inner()).await.map(Response::new),
        None => Err(Status::unimplemented("not in this script")),
    }
}

#[tonic::async_trait]
impl WorkerService for Service {
    type StreamJobsStream = Answers<pb::StreamJobsResponse>;

    async fn stream_jobs(
        &self,
        request: Request<Streaming<pb::StreamJobsRequest>>,
    ) -> Result<Response<Self::StreamJobsStream>, Status> {
        let (answers, receiver) = mpsc::unbounded_channel();
        let metadata = request.metadata().clone();
        let _ = self.workers.send(Conn { requests: request.into_inner(), metadata, answers });
        Ok(Response::new(UnboundedReceiverStream::new(receiver).boxed()))
    }

    async fn lease_jobs(&self, _: Request<pb::LeaseJobsRequest>) -> Result<Response<pb::LeaseJobsResponse>, Status> {
        Err(Status::unimplemented("not in this script"))
    }

    async fn report_jobs(&self, _: Request<pb::ReportJobsRequest>) -> Result<Response<pb::ReportJobsResponse>, Status> {
        Err(Status::unimplemented("not in this script"))
    }

    async fn extend_leases(
        &self,
        _: Request<pb::ExtendLeasesRequest>,
    ) -> Result<Response<pb::ExtendLeasesResponse>, Status> {
        Err(Status::unimplemented("not in this script"))
    }

    async fn list_dependency_results(
        &self,
        request: Request<pb::ListDependencyResultsRequest>,
    ) -> Result<Response<pb::ListDependencyResultsResponse>, Status> {
        unary(&self.answering.dependencies, request).await
    }
}

#[tonic::async_trait]
impl JobService for Service {
    type EnqueueStreamStream = Answers<pb::EnqueueStreamResponse>;
    type WatchJobStream = Answers<pb::WatchJobResponse>;
    type AwaitResultsStream = Answers<pb::AwaitResultsResponse>;

    async fn enqueue(&self, request: Request<pb::EnqueueRequest>) -> Result<Response<pb::EnqueueResponse>, Status> {
        if let Some(authorize) = &self.answering.authorize {
            authorize(request.metadata())?;
        }
        unary(&self.answering.enqueue, request).await
    }

    async fn enqueue_many(
        &self,
        request: Request<pb::EnqueueManyRequest>,
    ) -> Result<Response<pb::EnqueueManyResponse>, Status> {
        unary(&self.answering.enqueue_many, request).await
    }

    async fn enqueue_stream(
        &self,
        request: Request<Streaming<pb::EnqueueStreamRequest>>,
    ) -> Result<Response<Self::EnqueueStreamStream>, Status> {
        let (answers, receiver) = mpsc::unbounded_channel();
        let metadata = request.metadata().clone();
        let _ = self.producers.send(Conn { requests: request.into_inner(), metadata, answers });
        Ok(Response::new(UnboundedReceiverStream::new(receiver).boxed()))
    }

    async fn get_job(&self, request: Request<pb::GetJobRequest>) -> Result<Response<pb::GetJobResponse>, Status> {
        unary(&self.answering.get_job, request).await
    }

    async fn cancel_jobs(
        &self,
        request: Request<pb::CancelJobsRequest>,
    ) -> Result<Response<pb::CancelJobsResponse>, Status> {
        unary(&self.answering.cancel_jobs, request).await
    }

    async fn retry_jobs(
        &self,
        request: Request<pb::RetryJobsRequest>,
    ) -> Result<Response<pb::RetryJobsResponse>, Status> {
        unary(&self.answering.retry_jobs, request).await
    }

    async fn watch_job(&self, request: Request<pb::WatchJobRequest>) -> Result<Response<Self::WatchJobStream>, Status> {
        let (answers, receiver) = mpsc::unbounded_channel();
        let _ = self.watchers.send(Watcher { request: request.into_inner(), answers });
        Ok(Response::new(UnboundedReceiverStream::new(receiver).boxed()))
    }

    async fn await_results(
        &self,
        request: Request<Streaming<pb::AwaitResultsRequest>>,
    ) -> Result<Response<Self::AwaitResultsStream>, Status> {
        let (answers, receiver) = mpsc::unbounded_channel();
        let metadata = request.metadata().clone();
        let _ = self.results.send(Conn { requests: request.into_inner(), metadata, answers });
        Ok(Response::new(UnboundedReceiverStream::new(receiver).boxed()))
    }

    async fn list_jobs(&self, _: Request<pb::ListJobsRequest>) -> Result<Response<pb::ListJobsResponse>, Status> {
        Err(Status::unimplemented("not in this script"))
    }

    async fn list_job_logs(
        &self,
        _: Request<pb::ListJobLogsRequest>,
    ) -> Result<Response<pb::ListJobLogsResponse>, Status> {
        Err(Status::unimplemented("not in this script"))
    }

    async fn explain_job(
        &self,
        request: Request<pb::ExplainJobRequest>,
    ) -> Result<Response<pb::ExplainJobResponse>, Status> {
        unary(&self.answering.explain_job, request).await
    }

    async fn wait_job(&self, _: Request<pb::WaitJobRequest>) -> Result<Response<pb::WaitJobResponse>, Status> {
        Err(Status::unimplemented("not in this script"))
    }

    async fn update_jobs(&self, _: Request<pb::UpdateJobsRequest>) -> Result<Response<pb::UpdateJobsResponse>, Status> {
        Err(Status::unimplemented("not in this script"))
    }

    async fn delete_jobs(&self, _: Request<pb::DeleteJobsRequest>) -> Result<Response<pb::DeleteJobsResponse>, Status> {
        Err(Status::unimplemented("not in this script"))
    }
}
