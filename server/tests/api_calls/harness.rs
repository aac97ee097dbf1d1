//! A server on a free port, and clients of it.
use std::{sync::Arc, time::Duration};

use jobwire_proto::v1::{
    self, admin_service_client::AdminServiceClient, job_service_client::JobServiceClient,
    queue_service_client::QueueServiceClient, worker_service_client::WorkerServiceClient,
};
use jobwire_server::{
    api::{self, ProtoTasks},
    engine::{Engine, EngineConfig, clock::SystemClock},
    listen,
    store::memory::MemoryStore,
};
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt as _;

pub struct Server {
    pub channel: Channel,
    pub health: api::Health,
    _listener: listen::Running,
}

impl Server {
    pub async fn start() -> Self {
        let clock = Arc::new(SystemClock::default());
        let store = Arc::new(MemoryStore::new(clock.clone()));
        let engine = Engine::start(EngineConfig::default(), store, clock, Arc::new(ProtoTasks));
        let (service, health) = api::services(engine).await;
        let tcp = listen::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = tcp.local_addr().unwrap();
        let settings =
            listen::Settings { max_connections: 100, max_streams: 100, handshake_timeout: Duration::from_secs(5) };
        let listener = listen::grpc(tcp, &settings, String::new(), service);
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        Self { channel, health, _listener: listener }
    }

    pub fn jobs(&self) -> JobServiceClient<Channel> {
        JobServiceClient::new(self.channel.clone())
    }

    pub fn workers(&self) -> WorkerServiceClient<Channel> {
        WorkerServiceClient::new(self.channel.clone())
    }

    pub fn queues(&self) -> QueueServiceClient<Channel> {
        QueueServiceClient::new(self.channel.clone())
    }

    pub fn admin(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.channel.clone())
    }

    /// Enqueues a job and returns its id.
    pub async fn enqueue(&self, job: v1::JobSpec) -> String {
        let request = v1::EnqueueRequest { job: Some(job), ..Default::default() };
        self.jobs().enqueue(request).await.unwrap().into_inner().job_id
    }

    pub async fn get(&self, id: &str) -> v1::Job {
        let request = v1::GetJobRequest { id: id.into(), ..Default::default() };
        self.jobs().get_job(request).await.unwrap().into_inner().job.unwrap()
    }

    /// Leases one job of the type.
    pub async fn lease(&self, kind: &str) -> v1::JobLease {
        let request = v1::LeaseJobsRequest { types: vec![kind.into()], ..Default::default() };
        self.workers().lease_jobs(request).await.unwrap().into_inner().jobs.remove(0)
    }

    /// Reports one outcome; it must be applied.
    pub async fn report(&self, outcome: v1::Outcome) {
        let request = v1::ReportJobsRequest { outcomes: vec![outcome], ..Default::default() };
        let rejections = self.workers().report_jobs(request).await.unwrap().into_inner().rejections;
        assert_eq!(rejections, []);
    }

    /// Leases one job of the type and reports a success.
    pub async fn work(&self, kind: &str) {
        let lease = self.lease(kind).await;
        self.report(succeeded(lease.lease_token, Some(text("\"done\"")))).await;
    }
}

pub fn job(kind: &str) -> v1::JobSpec {
    v1::JobSpec { r#type: kind.into(), ..Default::default() }
}

pub fn text(text: &str) -> v1::Payload {
    v1::Payload { body: Some(v1::payload::Body::Text(text.into())), ..Default::default() }
}

pub fn succeeded(lease_token: String, result: Option<v1::Payload>) -> v1::Outcome {
    let result = Some(v1::outcome::Result::Succeeded(v1::Succeeded { result }));
    v1::Outcome { lease_token, result, ..Default::default() }
}

pub fn by_ids(ids: &[&str]) -> Option<v1::Selector> {
    Some(v1::Selector { ids: ids.iter().map(ToString::to_string).collect(), filter: String::new() })
}

pub fn by_filter(filter: &str) -> Option<v1::Selector> {
    Some(v1::Selector { ids: Vec::new(), filter: filter.into() })
}

pub fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

/// Code, reason and field of a refusal.
pub fn facts(status: &Status) -> (Code, String, String) {
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| info.reason.clone()).unwrap_or_default();
    let field = details.bad_request().map(|bad| bad.field_violations[0].field.clone()).unwrap_or_default();
    (status.code(), reason, field)
}

/// Asserts the code, reason and field of a refusal.
#[track_caller]
pub fn refused<T: std::fmt::Debug>(result: Result<T, Status>, code: Code, reason: &str, field: &str) {
    let status = result.expect_err("refused");
    assert_eq!(facts(&status), (code, reason.to_owned(), field.to_owned()), "{status}");
}

/// Fails a test that hangs.
pub async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), work).await.expect("done within 10 s")
}
