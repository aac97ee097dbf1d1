//! A server, a finished job and a worker beside everything.
use std::time::Duration;

use futures::FutureExt as _;
use jobwire_proto::v1::{self, admin_service_client::AdminServiceClient};
use jobwire_server::{
    config::{Config, StorePlace},
    serve::Server,
};
use prost_reflect::{DescriptorPool, MethodDescriptor};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};

use super::base::{CLOSED, SCHEDULE, WORKFLOW, schedule, workflow};

pub struct Harness {
    pub channel: Channel,
    pub pool: DescriptorPool,
    /// A job that has ended.
    pub job_id: String,
    server: Server,
    bystander: Streaming<v1::StreamJobsResponse>,
    _frames: mpsc::Sender<v1::StreamJobsRequest>,
}

/// The session of the worker that must not be disturbed.
pub const BYSTANDER: &str = "bystander";

/// Fails a test that hangs.
pub async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(10), work).await {
        Ok(done) => done,
        Err(_) => panic!("no answer within 10 s: {what}"),
    }
}

impl Harness {
    pub async fn start() -> Self {
        let mut config = Config::default();
        config.store.place = StorePlace::Memory;
        config.listen.grpc.set_port(0);
        config.listen.http.set_port(0);
        let server = Server::start(&config).await.expect("a server");
        let address = format!("http://{}", server.grpc_address);
        let channel = Channel::from_shared(address).expect("an address").connect().await.expect("a connection");
        let pool = DescriptorPool::decode(jobwire_proto::DESCRIPTOR_SET).expect("a descriptor set");
        let job_id = finished_job(&channel).await;
        let mut schedules = v1::schedule_service_client::ScheduleServiceClient::new(channel.clone());
        let yearly = v1::PutScheduleRequest { id: SCHEDULE.into(), spec: Some(schedule()), ..Default::default() };
        schedules.put_schedule(yearly).await.expect("a schedule");
        let mut workflows = v1::workflow_service_client::WorkflowServiceClient::new(channel.clone());
        for (id, open) in [(WORKFLOW, true), (CLOSED, false)] {
            let workflow = Some(v1::WorkflowSpec { id: id.into(), ..workflow(open) });
            let create = v1::CreateWorkflowRequest { workflow, ..Default::default() };
            workflows.create_workflow(create).await.expect("a workflow");
        }
        let (frames, stream) = mpsc::channel(1);
        let hello = v1::Hello {
            session_id: BYSTANDER.into(),
            types: vec!["bystander".into()],
            revision: 1,
            ..Default::default()
        };
        let first = v1::StreamJobsRequest { seq: 1, hello: Some(hello), ..Default::default() };
        frames.send(first).await.expect("a stream");
        let mut workers = v1::worker_service_client::WorkerServiceClient::new(channel.clone());
        let mut bystander = workers.stream_jobs(ReceiverStream::new(stream)).await.expect("a stream").into_inner();
        let welcome = soon("welcome", bystander.message()).await.expect("a frame").expect("a frame");
        assert!(welcome.welcome.is_some());
        Self { channel, pool, job_id, server, bystander, _frames: frames }
    }

    /// Every call of the contract.
    pub fn methods(&self) -> Vec<MethodDescriptor> {
        let ours = self.pool.services().filter(|service| service.package_name() == "jobwire.v1");
        ours.flat_map(|service| service.methods().collect::<Vec<_>>()).collect()
    }

    /// Jobs in the store, by state.
    pub async fn counts(&self) -> [i64; 7] {
        let mut admin = AdminServiceClient::new(self.channel.clone());
        let stats = soon("GetStats", admin.get_stats(v1::GetStatsRequest::default())).await.expect("an answer");
        let total = stats.into_inner().total.expect("numbers");
        let v1::QueueStats { ready, running, scheduled, retrying, blocked, dead, finished, .. } = total;
        [ready, running, scheduled, retrying, blocked, dead, finished]
    }

    /// The worker beside everything is still connected.
    pub fn bystander_goes_on(&mut self) {
        while let Some(frame) = self.bystander.message().now_or_never() {
            frame.expect("the stream goes on").expect("the stream goes on");
        }
    }

    pub async fn stop(self) {
        let Self { server, channel, bystander, _frames, .. } = self;
        drop((channel, bystander, _frames));
        soon("stop", server.stop()).await;
    }
}

async fn finished_job(channel: &Channel) -> String {
    let mut jobs = v1::job_service_client::JobServiceClient::new(channel.clone());
    let job = v1::JobSpec { r#type: "finished".into(), ..Default::default() };
    let request = v1::EnqueueRequest { job: Some(job), ..Default::default() };
    let job_id = jobs.enqueue(request).await.expect("a job").into_inner().job_id;
    let selector = Some(v1::Selector { ids: vec![job_id.clone()], filter: String::new() });
    let cancel = v1::CancelJobsRequest { selector, ..Default::default() };
    jobs.cancel_jobs(cancel).await.expect("cancelled");
    job_id
}
