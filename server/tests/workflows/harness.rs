//! Servers on a store, and a worker that does what it is told.
use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jobwire_proto::v1::{
    self, JobState, WorkflowState, job_service_client::JobServiceClient, worker_service_client::WorkerServiceClient,
    workflow_service_client::WorkflowServiceClient,
};
use jobwire_redis_rig::Redis as Process;
use jobwire_server::{
    api::{self, ProtoTasks},
    engine::{Engine, EngineConfig, clock::SystemClock},
    listen,
    model::{
        ids::{JobId, Shard},
        job::{Body, Start},
        op::NewJob,
        policy::Policy,
    },
    store::{
        SharedStore,
        conformance::{Harness as _, ManualClock},
        embedded::{EmbeddedStore, Options},
        memory::MemoryStore,
    },
};
use prost::Message as _;
use tempfile::TempDir;
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt as _;

use crate::redis_support::Redis;

/// Runs a scenario on every store, as three tests.
#[macro_export]
macro_rules! on_every_store {
    ($($scenario:ident),+ $(,)?) => { $(
        mod $scenario {
            use super::super::harness::Rig;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn memory() {
                super::$scenario(&mut Rig::memory().await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn embedded() {
                super::$scenario(&mut Rig::embedded().await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn redis() {
                super::$scenario(&mut Rig::redis().await).await;
            }
        }
    )+ };
}

enum Keeper {
    Nothing,
    Directory(TempDir),
    Redis(Box<Redis>),
}

/// A store, and the servers that run on it now.
pub struct Rig {
    store: SharedStore,
    clock: Arc<ManualClock>,
    keeper: Keeper,
    servers: Vec<Server>,
}

struct Server {
    engine: Engine,
    channel: Channel,
    _listener: listen::Running,
}

impl Rig {
    pub async fn memory() -> Self {
        let clock = Arc::new(ManualClock::default());
        Self::over(Arc::new(MemoryStore::new(clock.clone())), clock, Keeper::Nothing).await
    }

    pub async fn embedded() -> Self {
        let clock = Arc::new(ManualClock::default());
        let dir = tempfile::tempdir().expect("a directory");
        Self::over(open(&dir, &clock), clock, Keeper::Directory(dir)).await
    }

    pub async fn redis() -> Self {
        let redis = Redis::at(&Process::shared().url()).await;
        let (store, clock) = (redis.store(), redis.shared_clock());
        Self::over(store, clock, Keeper::Redis(Box::new(redis))).await
    }

    async fn over(store: SharedStore, clock: Arc<ManualClock>, keeper: Keeper) -> Self {
        let mut rig = Self { store, clock, keeper, servers: Vec::new() };
        rig.start().await;
        rig
    }

    async fn start(&mut self) {
        // Only the store's clock is moved: what servers do by their own goes on.
        let clock = Arc::new(SystemClock::default());
        let engine = Engine::start(EngineConfig::default(), self.store.clone(), clock, Arc::new(ProtoTasks));
        let (service, _) = api::services(engine.clone()).await;
        let tcp = listen::bind("127.0.0.1:0".parse().expect("an address")).await.expect("a free port");
        let address = tcp.local_addr().expect("it is bound");
        let settings =
            listen::Settings { max_connections: 100, max_streams: 100, handshake_timeout: Duration::from_secs(5) };
        let listener = listen::grpc(tcp, &settings, String::new(), service);
        let channel = Channel::from_shared(format!("http://{address}")).expect("a URL").connect().await;
        self.servers.push(Server { engine, channel: channel.expect("it answers"), _listener: listener });
    }

    /// Every server ends, the store is closed and opened again where it can be, and a server starts.
    pub async fn restart(&mut self) {
        for server in self.servers.drain(..) {
            server.engine.shutdown(Duration::from_secs(5)).await;
        }
        if let Keeper::Directory(dir) = &self.keeper {
            self.store.close().await;
            self.store = open(dir, &self.clock);
        }
        if let Keeper::Redis(redis) = &mut self.keeper {
            redis.reopen().await;
            self.store = redis.store();
        }
        self.start().await;
        if self.store.is_shared() {
            // What nobody was told of is looked for every few seconds of the store's time.
            self.advance(70_000).await;
        }
    }

    /// The store's time passes, and servers notice: something is put that was due long ago.
    pub async fn advance(&mut self, ms: i64) {
        self.clock.advance(ms);
        for shard in (0..self.store.shards()).map(Shard) {
            let poke = NewJob {
                id: JobId::stamp(uuid::Uuid::now_v7(), shard),
                kind: "poke".parse().expect("a name"),
                queue: "poke".parse().expect("a name"),
                priority: 0,
                start: Start::Now,
                expire_ms: 1,
                create_ms: 1,
                content: 0,
                unique: None,
                idempotency: None,
                overshoots: false,
                blocked: false,
                owner: None,
                deadline_ms: 0,
                fair: Default::default(),
                body: Body { policy: Policy::default(), task: bytes::Bytes::new() }.encode(),
            };
            self.store.put(shard, vec![poke]).await.expect("the store takes it");
        }
    }

    pub async fn recount(&self) {
        assert_eq!(self.store.recount().await.expect("it counts"), Vec::<String>::new());
    }

    fn channel(&self) -> Channel {
        self.servers.last().expect("a server runs").channel.clone()
    }

    pub fn workflows(&self) -> WorkflowServiceClient<Channel> {
        WorkflowServiceClient::new(self.channel()).max_decoding_message_size(64 << 20)
    }

    pub fn jobs(&self) -> JobServiceClient<Channel> {
        JobServiceClient::new(self.channel())
    }

    pub fn workers(&self) -> WorkerServiceClient<Channel> {
        WorkerServiceClient::new(self.channel())
    }

    pub async fn enqueue(&self, job: v1::JobSpec) -> String {
        let request = v1::EnqueueRequest { job: Some(job), ..Default::default() };
        self.jobs().enqueue(request).await.expect("it is taken").into_inner().job_id
    }

    pub async fn job(&self, id: &str) -> v1::Job {
        let request = v1::GetJobRequest { id: id.into(), ..Default::default() };
        self.jobs().get_job(request).await.expect("it is there").into_inner().job.expect("with facts")
    }

    pub async fn until_job(&self, id: &str, state: JobState) -> v1::Job {
        until(&format!("{state:?}"), async || self.job(id).await.state() == state).await;
        self.job(id).await
    }

    pub async fn create(&self, workflow: v1::WorkflowSpec) -> v1::CreateWorkflowResponse {
        let request = v1::CreateWorkflowRequest { workflow: Some(workflow), ..Default::default() };
        self.workflows().create_workflow(request).await.expect("it is taken").into_inner()
    }

    pub async fn add(&self, id: &str, nodes: Vec<v1::WorkflowNode>) -> Result<v1::AddWorkflowNodesResponse, Status> {
        let request = v1::AddWorkflowNodesRequest { workflow_id: id.into(), nodes };
        self.workflows().add_workflow_nodes(request).await.map(tonic::Response::into_inner)
    }

    pub async fn close(&self, id: &str) -> v1::Workflow {
        let request = v1::CloseWorkflowRequest { workflow_id: id.into() };
        let closed = self.workflows().close_workflow(request).await.expect("it closes").into_inner();
        closed.workflow.expect("with facts")
    }

    pub async fn get(&self, id: &str) -> v1::Workflow {
        let request = v1::GetWorkflowRequest { id: id.into() };
        self.workflows().get_workflow(request).await.expect("it is there").into_inner().workflow.expect("with facts")
    }

    pub async fn until(&self, id: &str, state: WorkflowState) -> v1::Workflow {
        until(&format!("{state:?}"), async || self.get(id).await.state() == state).await;
        self.get(id).await
    }

    /// The end of a workflow, waited for as clients do.
    pub async fn ended(&self, id: &str) -> v1::Workflow {
        let timeout = Some(prost_types::Duration { seconds: 20, nanos: 0 });
        let request = v1::WaitWorkflowRequest { id: id.into(), timeout };
        let waited = self.workflows().wait_workflow(request).await.expect("it answers").into_inner();
        assert!(waited.finished, "not within 20 s: {:?}", waited.workflow);
        waited.workflow.expect("with facts")
    }

    /// States of all nodes, by name.
    pub async fn states(&self, id: &str) -> BTreeMap<String, JobState> {
        let request = v1::ListWorkflowNodesRequest { workflow_id: id.into(), page_size: 1_000, ..Default::default() };
        let nodes = self.workflows().list_workflow_nodes(request).await.expect("it lists").into_inner().nodes;
        nodes.into_iter().map(|node| (node.name.clone(), node.state())).collect()
    }

    /// Leases up to `most` jobs of any type but what pokes.
    pub async fn lease_some(&self, most: i32, wait_ms: i64) -> Vec<v1::JobLease> {
        let request = v1::LeaseJobsRequest {
            types: vec!["*".into()],
            subscriptions: vec![v1::Subscription { queue: "w*".into(), ..Default::default() }],
            max_jobs: most,
            wait: Some(prost_types::Duration { seconds: 0, nanos: wait_ms as i32 * 1_000_000 }),
            lease_ttl: Some(prost_types::Duration { seconds: 36_000, nanos: 0 }),
            ..Default::default()
        };
        self.workers().lease_jobs(request).await.expect("it answers").into_inner().jobs
    }

    /// Leases the job of this type, which is to come.
    pub async fn lease(&self, kind: &str) -> v1::JobLease {
        let request = v1::LeaseJobsRequest {
            types: vec![kind.into()],
            lease_ttl: Some(prost_types::Duration { seconds: 36_000, nanos: 0 }),
            ..Default::default()
        };
        let mut jobs = self.workers().lease_jobs(request).await.expect("it answers").into_inner().jobs;
        jobs.pop().unwrap_or_else(|| panic!("no job of {kind}"))
    }

    pub async fn report(&self, lease_token: String, result: v1::outcome::Result) {
        let outcome = v1::Outcome { lease_token, result: Some(result), ..Default::default() };
        let request = v1::ReportJobsRequest { outcomes: vec![outcome], ..Default::default() };
        let answer = self.workers().report_jobs(request).await.expect("it answers").into_inner();
        assert_eq!(answer.rejections, []);
    }

    /// Runs the job of this type, and answers its lease.
    pub async fn succeed(&self, kind: &str) -> v1::JobLease {
        let lease = self.lease(kind).await;
        self.report(lease.lease_token.clone(), success(&format!("\"{kind}\""))).await;
        lease
    }

    pub async fn fail(&self, kind: &str) -> v1::JobLease {
        let lease = self.lease(kind).await;
        self.report(lease.lease_token.clone(), failure()).await;
        lease
    }
}

pub fn success(text: &str) -> v1::outcome::Result {
    v1::outcome::Result::Succeeded(v1::Succeeded { result: Some(payload(text)) })
}

/// For good.
pub fn failure() -> v1::outcome::Result {
    let failure = Some(v1::Failure { message: "no".into(), ..Default::default() });
    let action = v1::FailureAction::Stop.into();
    v1::outcome::Result::Failed(v1::Failed { failure, action, retry_delay: None })
}

pub fn payload(text: &str) -> v1::Payload {
    v1::Payload { body: Some(v1::payload::Body::Text(text.into())), ..Default::default() }
}

pub fn task(lease: &v1::JobLease) -> v1::Task {
    v1::Task::decode(lease.task.clone()).expect("a task")
}

pub fn told(payload: &Option<v1::Payload>) -> &str {
    match payload.as_ref().and_then(|payload| payload.body.as_ref()) {
        Some(v1::payload::Body::Text(text)) => text,
        other => panic!("not a text: {other:?}"),
    }
}

fn open(dir: &TempDir, clock: &Arc<ManualClock>) -> SharedStore {
    let options = Options { ballast_bytes: 0, min_free_bytes: 0, ..Options::default() };
    EmbeddedStore::open(dir.path(), options, clock.clone()).expect("the store opens")
}

pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let patience = tokio::time::Instant::now() + Duration::from_secs(20);
    while !holds().await {
        assert!(tokio::time::Instant::now() < patience, "not within 20 s: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub fn job(kind: &str) -> v1::JobSpec {
    v1::JobSpec { r#type: kind.into(), ..Default::default() }
}

pub fn node(name: &str, after: &[v1::Dependency]) -> v1::WorkflowNode {
    let job = v1::JobSpec { depends_on: after.to_vec(), ..job(name) };
    v1::WorkflowNode { name: name.into(), group: String::new(), job: Some(job) }
}

pub fn in_group(group: &str, node: v1::WorkflowNode) -> v1::WorkflowNode {
    v1::WorkflowNode { group: group.into(), ..node }
}

pub fn on(node: &str) -> v1::Dependency {
    let target = Some(v1::dependency::Target::Node(node.into()));
    v1::Dependency { target, pass_result: true, ..Default::default() }
}

pub fn on_group(group: &str) -> v1::Dependency {
    let target = Some(v1::dependency::Target::Group(group.into()));
    v1::Dependency { target, pass_result: true, ..Default::default() }
}

pub fn on_job(id: &str) -> v1::Dependency {
    let target = Some(v1::dependency::Target::JobId(id.into()));
    v1::Dependency { target, pass_result: true, ..Default::default() }
}

pub fn when(condition: v1::DependencyCondition, dependency: v1::Dependency) -> v1::Dependency {
    v1::Dependency { condition: condition.into(), ..dependency }
}

pub fn flow(nodes: Vec<v1::WorkflowNode>) -> v1::WorkflowSpec {
    v1::WorkflowSpec { id: uuid::Uuid::now_v7().to_string(), nodes, ..Default::default() }
}

pub fn by_ids(ids: &[&str]) -> Option<v1::Selector> {
    Some(v1::Selector { ids: ids.iter().map(ToString::to_string).collect(), filter: String::new() })
}

/// Asserts code, reason and field of a refusal.
#[track_caller]
pub fn refused<T: std::fmt::Debug>(result: Result<T, Status>, code: Code, reason: &str, field: &str) {
    let status = result.expect_err("refused");
    let details = status.get_error_details();
    let found = details.error_info().map(|info| info.reason.clone()).unwrap_or_default();
    let at = details.bad_request().map(|bad| bad.field_violations[0].field.clone()).unwrap_or_default();
    assert_eq!((status.code(), found.as_str(), at.as_str()), (code, reason, field), "{status}");
}
