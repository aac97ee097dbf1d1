//! What the SDK itself costs: a worker and producers against a server in the same process that keeps nothing.
//!
//! `cargo bench -p jobwire`. Prints jobs per second and the CPU time of the process per job, server stub included.

use std::pin::Pin;
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt};
use jobwire::{Client, Payload, Worker};
use jobwire_proto::v1 as pb;
use pb::job_service_server::{JobService, JobServiceServer};
use pb::worker_service_server::{WorkerService, WorkerServiceServer};
use prost::Message;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tonic::{Request, Response, Status, Streaming};

const JOBS: usize = 500_000;
const FRAME: usize = 64;
const CALLERS: usize = 256;
const ENQUEUES: usize = 200_000;

fn main() {
    let server = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let user = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let (url, drained) = server.block_on(serve());
    user.block_on(async {
        let client = Client::connect(&url).expect("a client");
        measure("enqueue, 256 callers", ENQUEUES, enqueue(client.clone())).await;
        let (stop, stopped) = oneshot::channel::<()>();
        let worker = Worker::builder(client).concurrency(1_000).prefetch(0);
        let worker = worker.handle_raw("*", |ctx| async move { Ok::<Payload, _>(ctx.payload().clone()) });
        let run = tokio::spawn(worker.run_until(async { drop(stopped.await) }));
        measure("worker", JOBS, async { drained.await.expect("the server lives") }).await;
        drop(stop);
        run.await.expect("no panic").expect("a clean end");
    });
}

async fn measure(what: &str, count: usize, work: impl Future<Output = ()>) {
    let (begun, cpu) = (Instant::now(), cpu());
    work.await;
    let seconds = begun.elapsed().as_secs_f64();
    let each = (self::cpu() - cpu).as_secs_f64() / count as f64;
    println!("{what}: {:.0}/s, {:.2} µs of CPU each", count as f64 / seconds, each * 1e6);
}

/// CPU time of this process, at 100 ticks a second; zero where there is no procfs.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

async fn enqueue(client: Client) {
    let callers = (0..CALLERS).map(|_| {
        let client = client.clone();
        tokio::spawn(async move {
            for n in 0..ENQUEUES / CALLERS {
                client.enqueue_raw("bench", &serde_json::json!({"n": n, "pad": "x".repeat(80)})).await.expect("a job");
            }
        })
    });
    futures::future::join_all(callers).await;
}

async fn serve() -> (String, oneshot::Receiver<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("jobwire://{}", listener.local_addr().expect("an address"));
    let (done, drained) = oneshot::channel();
    let stub = std::sync::Arc::new(Stub(std::sync::Mutex::new(Some(done))));
    let server = tonic::transport::Server::builder()
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .add_service(WorkerServiceServer::from_arc(stub.clone()))
        .add_service(JobServiceServer::from_arc(stub))
        .serve_with_incoming(TcpListenerStream::new(listener).map(|stream| {
            let stream = stream?;
            stream.set_nodelay(true)?;
            Ok::<_, std::io::Error>(stream)
        }));
    tokio::spawn(server);
    (url, drained)
}

struct Stub(std::sync::Mutex<Option<oneshot::Sender<()>>>);

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Keeps the window full, acknowledges each frame as it comes, until all jobs are done.
async fn feed(
    mut requests: Streaming<pb::StreamJobsRequest>,
    answers: mpsc::UnboundedSender<Result<pb::StreamJobsResponse, Status>>,
    done: Option<oneshot::Sender<()>>,
) {
    let hello = requests.message().await.ok().flatten().and_then(|frame| frame.hello).expect("a hello");
    let mut free = hello.capacity.map_or(1, |capacity| capacity.slots as usize);
    let (mut sent, mut ended, mut seq, mut done) = (0, 0, 1, done);
    let welcome = Some(pb::Welcome { slots: free as i32, ..Default::default() });
    let _ = answers.send(Ok(pb::StreamJobsResponse { seq, welcome, ..Default::default() }));
    let payload = pb::Payload {
        body: Some(pb::payload::Body::Text(format!(r#"{{"pad":"{}"}}"#, "x".repeat(90)))),
        ..Default::default()
    };
    let task = pb::Task { id: "019ab2c4".into(), r#type: "bench".into(), payload: Some(payload), ..Default::default() };
    let task: bytes::Bytes = task.encode_to_vec().into();
    let mut acked_seq = 0;
    loop {
        while free > 0 && sent < JOBS || acked_seq > 0 {
            let count = free.min(FRAME).min(JOBS - sent);
            let job = |n: usize| pb::JobLease {
                lease_token: format!("token-{:026}", sent + n),
                task: task.clone(),
                attempt: 1,
                delivery: 1,
                timeout: Some(prost_types::Duration { seconds: 1_800, nanos: 0 }),
                ..Default::default()
            };
            seq += 1;
            let jobs = (0..count).map(job).collect();
            let _ = answers.send(Ok(pb::StreamJobsResponse { seq, jobs, acked_seq, ..Default::default() }));
            (sent, free, acked_seq) = (sent + count, free - count, 0);
        }
        let Ok(Some(frame)) = requests.message().await else { return };
        if !frame.outcomes.is_empty() {
            acked_seq = frame.seq;
            ended += frame.outcomes.len();
            free += frame.outcomes.len();
        }
        if ended == JOBS
            && let Some(done) = done.take()
        {
            let _ = done.send(());
        }
    }
}

#[tonic::async_trait]
impl WorkerService for Stub {
    type StreamJobsStream = Answers<pb::StreamJobsResponse>;

    async fn stream_jobs(
        &self,
        request: Request<Streaming<pb::StreamJobsRequest>>,
    ) -> Result<Response<Self::StreamJobsStream>, Status> {
        let (answers, receiver) = mpsc::unbounded_channel();
        let done = self.0.lock().expect("no panic").take();
        tokio::spawn(feed(request.into_inner(), answers, done));
        Ok(Response::new(UnboundedReceiverStream::new(receiver).boxed()))
    }

    async fn lease_jobs(&self, _: Request<pb::LeaseJobsRequest>) -> Result<Response<pb::LeaseJobsResponse>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn report_jobs(&self, _: Request<pb::ReportJobsRequest>) -> Result<Response<pb::ReportJobsResponse>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn extend_leases(
        &self,
        _: Request<pb::ExtendLeasesRequest>,
    ) -> Result<Response<pb::ExtendLeasesResponse>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn list_dependency_results(
        &self,
        _: Request<pb::ListDependencyResultsRequest>,
    ) -> Result<Response<pb::ListDependencyResultsResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

#[tonic::async_trait]
impl JobService for Stub {
    type EnqueueStreamStream = Answers<pb::EnqueueStreamResponse>;
    type WatchJobStream = Answers<pb::WatchJobResponse>;
    type AwaitResultsStream = Answers<pb::AwaitResultsResponse>;

    async fn enqueue(&self, request: Request<pb::EnqueueRequest>) -> Result<Response<pb::EnqueueResponse>, Status> {
        let job_id = request.into_inner().job.unwrap_or_default().id;
        Ok(Response::new(pb::EnqueueResponse { job_id, status: 1, ..Default::default() }))
    }
    async fn enqueue_many(
        &self,
        request: Request<pb::EnqueueManyRequest>,
    ) -> Result<Response<pb::EnqueueManyResponse>, Status> {
        let jobs = request.into_inner().jobs.into_iter();
        let results = jobs.map(|job| pb::EnqueueResult { job_id: job.id, status: 1, ..Default::default() }).collect();
        Ok(Response::new(pb::EnqueueManyResponse { results, created_count: 0 }))
    }
    async fn enqueue_stream(
        &self,
        _: Request<Streaming<pb::EnqueueStreamRequest>>,
    ) -> Result<Response<Self::EnqueueStreamStream>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn watch_job(&self, _: Request<pb::WatchJobRequest>) -> Result<Response<Self::WatchJobStream>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn await_results(
        &self,
        _: Request<Streaming<pb::AwaitResultsRequest>>,
    ) -> Result<Response<Self::AwaitResultsStream>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn get_job(&self, _: Request<pb::GetJobRequest>) -> Result<Response<pb::GetJobResponse>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn cancel_jobs(&self, _: Request<pb::CancelJobsRequest>) -> Result<Response<pb::CancelJobsResponse>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn retry_jobs(&self, _: Request<pb::RetryJobsRequest>) -> Result<Response<pb::RetryJobsResponse>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn list_jobs(&self, _: Request<pb::ListJobsRequest>) -> Result<Response<pb::ListJobsResponse>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn list_job_logs(
        &self,
        _: Request<pb::ListJobLogsRequest>,
    ) -> Result<Response<pb::ListJobLogsResponse>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn explain_job(&self, _: Request<pb::ExplainJobRequest>) -> Result<Response<pb::ExplainJobResponse>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn wait_job(&self, _: Request<pb::WaitJobRequest>) -> Result<Response<pb::WaitJobResponse>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn update_jobs(&self, _: Request<pb::UpdateJobsRequest>) -> Result<Response<pb::UpdateJobsResponse>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn delete_jobs(&self, _: Request<pb::DeleteJobsRequest>) -> Result<Response<pb::DeleteJobsResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}
