//! The calls about connected workers.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use futures::FutureExt;
use jobwire_proto::v1 as pb;

use crate::bulk::{BulkResult, Selector};
use crate::calls::awaited;
use crate::client::Client;
use crate::convert::{from_timestamp, to_duration};
use crate::errors::Error;
use crate::listing::Listing;
use crate::types::JobInfo;

/// Connected workers, on all servers: [`client.workers()`](Client::workers). To look needs the scope `read`, the rest
/// `admin`.
#[derive(Debug, Clone)]
pub struct Workers {
    client: Client,
}

impl Client {
    /// The calls about connected workers.
    ///
    /// ```no_run
    /// # use jobwire::{Selector, prelude::*};
    /// # async fn example(client: Client) -> Result<(), Error> {
    /// let old = Selector::filter("label.region = eu");
    /// client.workers().terminate(old).grace(mins(1)).reason("a new release").await?;
    /// # Ok(()) }
    /// ```
    pub fn workers(&self) -> Workers {
        Workers { client: self.clone() }
    }
}

impl Workers {
    /// A worker by the id of its session, with what it holds: 100 jobs at most.
    pub async fn get(&self, id: impl Into<String>) -> Result<WorkerInfo, Error> {
        let request = pb::GetWorkerRequest { session_id: id.into() };
        let answer: pb::GetWorkerResponse =
            self.client.shared().idempotent("/jobwire.v1.AdminService/GetWorker", request).await?;
        let worker = WorkerInfo::from_proto(answer.worker.unwrap_or_default());
        Ok(WorkerInfo { jobs: answer.jobs.into_iter().map(JobInfo::from_proto).collect(), ..worker })
    }

    /// The workers that a filter matches; empty = all. Filterable: session_id, worker_id, state, queue, type, hostname, sdk,
    /// label.{key}.
    pub fn list(&self, filter: impl Into<String>) -> Listing<WorkerInfo> {
        let (client, filter) = (self.client.clone(), filter.into());
        Listing::new(move |page| {
            let (client, filter) = (client.clone(), filter.clone());
            async move {
                let request = pb::ListWorkersRequest { filter, page_size: page.size, page_token: page.token };
                let answer: pb::ListWorkersResponse =
                    client.shared().idempotent("/jobwire.v1.AdminService/ListWorkers", request).await?;
                Ok((answer.workers.into_iter().map(WorkerInfo::from_proto).collect(), answer.next_page_token))
            }
            .boxed()
        })
    }

    /// Tells workers to take nothing new, and to stay. Await it.
    pub fn quiet(&self, which: impl Into<Selector>) -> SignalWorkers {
        self.signal(which, pb::DirectiveKind::Quiet)
    }

    /// Tells workers to take jobs again. Await it.
    pub fn resume(&self, which: impl Into<Selector>) -> SignalWorkers {
        self.signal(which, pb::DirectiveKind::Run)
    }

    /// Tells workers to drain and exit. Await it.
    pub fn terminate(&self, which: impl Into<Selector>) -> SignalWorkers {
        self.signal(which, pb::DirectiveKind::Terminate)
    }

    fn signal(&self, which: impl Into<Selector>, directive: pb::DirectiveKind) -> SignalWorkers {
        let request = pb::SignalWorkersRequest {
            selector: Some(which.into().into_proto()),
            directive: directive as i32,
            ..Default::default()
        };
        SignalWorkers { client: self.client.clone(), request }
    }
}

/// Workers about to be told something. Await it.
#[must_use = "nothing is said until this is awaited"]
#[derive(Debug)]
pub struct SignalWorkers {
    client: Client,
    request: pb::SignalWorkersRequest,
}

impl SignalWorkers {
    /// With terminate: what still runs after this long is released. Default: the worker's own grace.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.request.grace = Some(to_duration(grace));
        self
    }

    /// Why, for people.
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.request.reason = reason.into();
        self
    }

    async fn send(self) -> Result<BulkResult, Error> {
        let answer: pb::SignalWorkersResponse =
            self.client.shared().idempotent("/jobwire.v1.AdminService/SignalWorkers", self.request).await?;
        Ok(BulkResult::from_proto(answer.result))
    }
}

awaited!(SignalWorkers => BulkResult);

/// What a worker says it is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WorkerState {
    /// Taking jobs.
    Active,
    /// Taking nothing new, staying connected.
    Quiet,
    /// Taking nothing new, about to end.
    Draining,
    /// A state this version of the SDK does not know.
    Unknown,
}

/// A connected worker; a few seconds old at most.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct WorkerInfo {
    /// Of its session.
    pub id: String,
    /// For people: "{hostname}:{pid}", or what it was given.
    pub worker_id: String,
    /// What it does.
    pub state: WorkerState,
    /// Where it runs.
    pub hostname: String,
    /// Its process.
    pub pid: i32,
    /// "rust", "python", "node".
    pub sdk: String,
    /// Which of them.
    pub sdk_version: String,
    /// The application's own build.
    pub app_version: String,
    /// Given by [`label`](crate::WorkerBuilder::label).
    pub labels: BTreeMap<String, String>,
    /// Types that it handles.
    pub types: Vec<String>,
    /// Queues that it serves.
    pub queues: Vec<String>,
    /// Leases it may hold.
    pub slots: i32,
    /// Handlers it runs at once.
    pub concurrency: i32,
    /// Leases it holds.
    pub in_flight: i32,
    /// How many of those have started.
    pub running: i32,
    /// When it connected.
    pub connect_time: Option<SystemTime>,
    /// When it was last heard of.
    pub last_seen_time: Option<SystemTime>,
    /// Since it connected.
    pub succeeded_count: i64,
    /// Since it connected.
    pub failed_count: i64,
    /// Resident memory.
    pub rss_bytes: i64,
    /// 100 = one core.
    pub cpu_percent: f64,
    /// The server that its stream is on.
    pub server_id: String,
    /// What it holds, at most 100; of [`get`](Workers::get) only.
    pub jobs: Vec<JobInfo>,
}

impl WorkerInfo {
    fn from_proto(worker: pb::Worker) -> Self {
        let info = worker.info.unwrap_or_default();
        Self {
            state: match pb::WorkerState::try_from(worker.state) {
                Ok(pb::WorkerState::Active) => WorkerState::Active,
                Ok(pb::WorkerState::Quiet) => WorkerState::Quiet,
                Ok(pb::WorkerState::Draining) => WorkerState::Draining,
                Ok(pb::WorkerState::Unspecified) | Err(_) => WorkerState::Unknown,
            },
            id: worker.session_id,
            worker_id: worker.worker_id,
            hostname: info.hostname,
            pid: info.pid,
            sdk: info.sdk,
            sdk_version: info.sdk_version,
            app_version: info.app_version,
            labels: info.labels,
            types: worker.types,
            queues: worker.subscriptions.into_iter().map(|subscription| subscription.queue).collect(),
            slots: worker.slots,
            concurrency: worker.concurrency,
            in_flight: worker.in_flight,
            running: worker.running,
            connect_time: worker.connect_time.as_ref().and_then(from_timestamp),
            last_seen_time: worker.last_seen_time.as_ref().and_then(from_timestamp),
            succeeded_count: worker.succeeded_count,
            failed_count: worker.failed_count,
            rss_bytes: worker.rss_bytes,
            cpu_percent: worker.cpu_percent,
            server_id: worker.server_id,
            jobs: Vec::new(),
        }
    }
}
