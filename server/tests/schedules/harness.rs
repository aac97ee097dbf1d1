//! A store whose clock is moved by hand, and servers on it.
use std::{sync::Arc, time::Duration};

use jobwire_proto::v1::{
    self, job_service_client::JobServiceClient, schedule_service_client::ScheduleServiceClient,
    worker_service_client::WorkerServiceClient,
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
use prost_types::{Duration as Span, Timestamp};
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

/// The store's clock at the start: a whole hour.
pub const T0: i64 = 1_750_000_000_000 - 1_750_000_000_000 % 3_600_000;
pub const MINUTE: i64 = 60_000;
pub const HOUR: i64 = 60 * MINUTE;

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
        use jobwire_server::model::time::Clock as _;
        clock.step_wall(T0 - clock.now().wall_ms);
        let mut rig = Self { store, clock, keeper, servers: Vec::new() };
        rig.start().await;
        rig
    }

    /// One more server.
    pub async fn start(&mut self) {
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

    /// All servers end. The store stays.
    pub async fn stop(&mut self) {
        for server in self.servers.drain(..) {
            server.engine.shutdown(Duration::from_secs(5)).await;
        }
    }

    /// Every server ends, the store is closed and opened again where it can be, and a server starts.
    pub async fn restart(&mut self) {
        self.stop().await;
        if let Keeper::Directory(dir) = &self.keeper {
            self.store.close().await;
            self.store = open(dir, &self.clock);
        }
        if let Keeper::Redis(redis) = &mut self.keeper {
            redis.reopen().await;
            self.store = redis.store();
        }
        self.start().await;
    }

    /// Time passes, and servers notice: something is put that was due long ago.
    pub async fn advance(&mut self, ms: i64) {
        self.clock.advance(ms);
        let id = JobId::stamp(uuid::Uuid::now_v7(), Shard(0));
        let poke = NewJob {
            id,
            kind: "poke".parse().expect("a name"),
            queue: "poke".parse().expect("a name"),
            priority: 0,
            start: Start::Now,
            expire_ms: 1,
            deadline_ms: 0,
            create_ms: 1,
            content: 0,
            unique: None,
            idempotency: None,
            fair: 0,
            overshoots: false,
            blocked: false,
            owner: None,
            body: Body { policy: Policy::default(), task: bytes::Bytes::new() }.encode(),
        };
        self.store.put(Shard(0), vec![poke]).await.expect("the store takes it");
    }

    /// Somebody sets the store's wall clock.
    pub async fn step_clock(&mut self, ms: i64) {
        self.clock.step_wall(ms);
        self.advance(0).await;
    }

    fn channel(&self) -> Channel {
        self.servers.last().expect("a server runs").channel.clone()
    }

    pub fn schedules(&self) -> ScheduleServiceClient<Channel> {
        ScheduleServiceClient::new(self.channel())
    }

    pub fn jobs(&self) -> JobServiceClient<Channel> {
        JobServiceClient::new(self.channel())
    }

    pub fn workers(&self) -> WorkerServiceClient<Channel> {
        WorkerServiceClient::new(self.channel())
    }

    pub async fn put(&self, id: &str, spec: v1::ScheduleSpec) -> v1::PutScheduleResponse {
        let request = v1::PutScheduleRequest { id: id.into(), spec: Some(spec), ..Default::default() };
        self.schedules().put_schedule(request).await.expect("it is taken").into_inner()
    }

    pub async fn get(&self, id: &str) -> v1::Schedule {
        let request = v1::GetScheduleRequest { id: id.into() };
        self.schedules().get_schedule(request).await.expect("it is there").into_inner().schedule.expect("with facts")
    }

    /// Jobs of a schedule, by the tick that they stand for.
    pub async fn fired(&self, id: &str) -> Vec<v1::Job> {
        let filter = format!("schedule_id = \"{id}\"");
        let request = v1::ListJobsRequest { filter, page_size: 1_000, ..Default::default() };
        let mut jobs = self.jobs().list_jobs(request).await.expect("it lists").into_inner().jobs;
        jobs.sort_by_key(|job| job.fire_time.as_ref().map(|at| (at.seconds, at.nanos)));
        jobs
    }

    /// The ticks of a schedule that have jobs, in minutes from T0; waits until there are so many.
    pub async fn ticks(&self, id: &str, count: usize) -> Vec<i64> {
        let what = format!("{count} jobs of {id}");
        until(&what, async || self.fired(id).await.len() >= count).await;
        self.fired(id).await.iter().map(|job| minutes(job.fire_time.as_ref().expect("a tick"))).collect()
    }

    /// Waits until a schedule is as it should be.
    pub async fn until_schedule(&self, id: &str, what: &str, holds: impl Fn(&v1::Schedule) -> bool) -> v1::Schedule {
        until(what, async || holds(&self.get(id).await)).await;
        self.get(id).await
    }

    /// Leases one job of the type, for longer than any test moves the time.
    pub async fn lease(&self, kind: &str) -> v1::JobLease {
        let request =
            v1::LeaseJobsRequest { types: vec![kind.into()], lease_ttl: span(10 * HOUR), ..Default::default() };
        let mut jobs = self.workers().lease_jobs(request).await.expect("it answers").into_inner().jobs;
        jobs.pop().unwrap_or_else(|| panic!("no job of {kind}"))
    }

    pub async fn succeed(&self, lease: v1::JobLease) {
        let result = Some(v1::outcome::Result::Succeeded(v1::Succeeded::default()));
        let outcome = v1::Outcome { lease_token: lease.lease_token, result, ..Default::default() };
        let request = v1::ReportJobsRequest { outcomes: vec![outcome], ..Default::default() };
        let answer = self.workers().report_jobs(request).await.expect("it answers").into_inner();
        assert_eq!(answer.rejections, []);
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

pub fn minutes(at: &Timestamp) -> i64 {
    (at.seconds * 1_000 - T0) / MINUTE
}

pub fn time(ms: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds: ms.div_euclid(1_000), nanos: (ms.rem_euclid(1_000) * 1_000_000) as i32 })
}

pub fn span(ms: i64) -> Option<Span> {
    Some(Span { seconds: ms / 1_000, nanos: (ms % 1_000) as i32 * 1_000_000 })
}

pub fn cron(text: &str, kind: &str) -> v1::ScheduleSpec {
    v1::ScheduleSpec {
        cadence: Some(v1::schedule_spec::Cadence::Cron(text.into())),
        job: Some(v1::JobSpec { r#type: kind.into(), ..Default::default() }),
        ..Default::default()
    }
}

pub fn every_minute(kind: &str) -> v1::ScheduleSpec {
    cron("* * * * *", kind)
}

pub fn by_ids(ids: &[&str]) -> Option<v1::Selector> {
    Some(v1::Selector { ids: ids.iter().map(ToString::to_string).collect(), filter: String::new() })
}

pub fn by_filter(filter: &str) -> Option<v1::Selector> {
    Some(v1::Selector { ids: Vec::new(), filter: filter.into() })
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
