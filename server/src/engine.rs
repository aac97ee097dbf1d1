//! `Engine`: the only type that api, web and serve see. Policy lives in the pure files below it (`transition`, `admit`,
//! `retry`, `order`), effects in the tasks (`dispatch`, `session`, `timers`) and in the calls (`jobs`, `bulk`, `unary`).
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use serde::{Deserialize, Serialize};

use crate::{
    model::{
        filter::Filter,
        ids::{JobId, Pattern, QueueName},
        job::{LogLine, Payload, Progress, Record, Start, Task, TaskCodec},
        limits::Limits,
        op::{Op, Place, Verdict},
        policy::RetrySpec,
        queue::QueueFacts,
        state::State,
        time::Clock,
        worker::{Directive, GoAway, GoAwayReason, Hello, ServerFrame, Subscription, WorkerView},
    },
    store::SharedStore,
};

pub mod admit;
mod bulk;
pub mod clock;
mod configs;
mod contact;
mod dispatch;
mod enqueue;
mod flows;
mod hub;
pub mod invariants;
mod jobs;
mod leases;
pub mod meters;
mod note;
pub mod order;
mod peers;
mod queues;
pub mod retry;
pub mod roster;
pub mod schedule;
mod schedules;
mod session;
mod sessions;
mod settle;
mod spread;
#[cfg(test)]
mod tests;
mod ticks;
mod timers;
pub mod transition;
mod unary;
pub mod workflow;

pub use configs::ConfigureError;
pub use flows::{Created, FlowBulk, FlowError, FlowSelector, FlowView, NodeView};
pub use schedule::{BadCadence, Calendar};
pub use schedules::{Backfill, Backfilled, ScheduleBulk, ScheduleError, SchedulePage, ScheduleSelector, ScheduleView};
pub use session::SessionHandle;
pub use workflow::BadGraph;

pub use crate::store::{Durability, StoreError, StoreInfo};

/// How an enqueue was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    Created,
    /// The id, or the idempotency key, was there before with the same content: the first job stands.
    Duplicate,
    /// The uniqueness key is another job's, which stands.
    Kept,
    /// The uniqueness key is another job's, which was changed.
    Replaced,
}

/// What became of one enqueue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enqueued {
    pub id: JobId,
    pub status: Accepted,
    pub state: State,
    /// When it becomes, or became, runnable.
    pub ready_ms: i64,
}

/// Why a job was not enqueued.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EnqueueError {
    #[error("job {0} exists with another type or payload")]
    IdConflict(JobId),
    #[error("job {0} has the uniqueness key")]
    UniqueConflict(JobId),
    #[error("as many jobs wait in queue {0} as may")]
    QueueFull(QueueName),
    /// Its dependency of this number is on a job that is not there.
    #[error("no job {1}")]
    NoJob(usize, JobId),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a call about one job, or one item of a bulk call, failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum JobError {
    #[error("no job {0}")]
    NotFound(JobId),
    #[error("the job is running")]
    Running,
    #[error("the job is terminal: {}", .0.name())]
    Terminal(State),
    #[error("the job is {} and not in a state that this call changes", .0.name())]
    WrongState(State),
    /// The etag is of an older record.
    #[error("the record has changed since it was read")]
    EtagMismatch,
    /// The job would need its uniqueness key again.
    #[error("job {0} has the uniqueness key")]
    UniqueConflict(JobId),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Where a list or a bulk call goes on. Opaque to clients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cursor {
    pub queue: QueueName,
    pub state: State,
    pub after: Option<Place>,
    /// When the first call was made: what changes meanwhile is not caught twice.
    pub since_ms: i64,
}

/// One page of jobs. `next` set = there may be more, even when `jobs` is short or empty.
#[derive(Debug, Default)]
pub struct JobPage {
    pub jobs: Vec<Record>,
    pub next: Option<Cursor>,
}

/// Which jobs a bulk call is about.
#[derive(Debug)]
pub enum Selector {
    Ids(Vec<JobId>),
    Filter(Filter),
}

/// A bounded bulk call.
#[derive(Debug)]
pub struct Bulk {
    pub selector: Selector,
    /// Changed items at most.
    pub limit: usize,
    pub cursor: Option<Cursor>,
    pub dry_run: bool,
}

/// What a bulk call did.
#[derive(Debug, Default)]
pub struct BulkDone {
    pub matched: usize,
    pub affected: usize,
    /// At most 100.
    pub sample: Vec<JobId>,
    /// At most 100.
    pub errors: Vec<(JobId, JobError)>,
    pub next: Option<Cursor>,
}

/// CancelJobs.
#[derive(Clone, Debug, Default)]
pub struct Cancel {
    pub reason: String,
    /// For running ones; `None` = as long as it takes.
    pub grace_ms: Option<i64>,
}

/// RetryJobs.
#[derive(Clone, Debug, Default)]
pub struct Retry {
    pub reset_attempts: bool,
    pub spread_ms: i64,
    pub queue: Option<QueueName>,
}

/// UpdateJobs. What is `None` stays.
#[derive(Clone, Debug, Default)]
pub struct Patch {
    pub priority: Option<i8>,
    pub queue: Option<QueueName>,
    pub start: Option<Start>,
    pub retry: Option<RetrySpec>,
    pub timeout_ms: Option<i64>,
    pub payload: Option<Payload>,
}

/// What happened to a watched job.
#[derive(Debug)]
pub enum JobEvent {
    /// The record changed. Boxed: FULL once it is terminal, then nothing follows.
    Record(Box<Record>),
    Progress(Progress),
    Lines(Vec<LogLine>),
}

/// Numbers of one queue or of all, beyond what the store counts.
#[derive(Clone, Debug)]
pub struct QueueView {
    pub facts: QueueFacts,
    /// Shards of the store that its new jobs are spread over.
    pub shards: u16,
    pub rates: Rates,
    pub workers: u32,
    pub slots: u32,
    pub slots_busy: u32,
    pub unhandled: Vec<(String, u64)>,
}

/// Per second, over the last minute, on this server; and percentiles of the same minute.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rates {
    pub enqueued: f64,
    pub started: f64,
    pub succeeded: f64,
    pub failed: f64,
    pub wait: Percentiles,
    pub run: Percentiles,
}

/// Milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Percentiles {
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
    pub max: f64,
}

/// One number that only rises.
#[derive(Clone, Debug)]
pub struct Counter {
    pub name: &'static str,
    /// Values, in the order of the metrics table.
    pub labels: Vec<String>,
    pub value: u64,
}

/// Unary LeaseJobs.
#[derive(Clone, Debug)]
pub struct LeaseRequest {
    pub types: Vec<Pattern>,
    pub subscriptions: Vec<Subscription>,
    pub max_jobs: usize,
    pub wait_ms: i64,
    pub lease_ms: i64,
    pub worker_id: String,
}

/// How an engine is set up.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    pub limits: Limits,
    /// Life of a lease after it was last named. Default 30 s, 10 s to 5 min; a worker may wish its own.
    pub lease_ttl_ms: i64,
    /// Life of a lease that was never named. Default 10 s.
    pub delivery_ttl_ms: i64,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self { limits: Limits::default(), lease_ttl_ms: 30_000, delivery_ttl_ms: 10_000 }
    }
}

/// Everything the server can do. Cheap to clone.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

pub(crate) struct Inner {
    config: EngineConfig,
    store: SharedStore,
    clock: Arc<dyn Clock>,
    codec: Arc<dyn TaskCodec>,
    dispatch: mpsc::Sender<dispatch::Event>,
    sessions: sessions::Sessions,
    hub: Arc<hub::Hub>,
    contact: contact::Contact,
    configs: configs::Configs,
    peers: peers::Peers,
    roster: roster::Roster,
    plans: ticks::Plans,
    flows: flows::Flows,
    meters: meters::Meters,
    server_id: String,
    start_ms: i64,
    keys: AtomicU64,
    draining: AtomicBool,
    /// Cancelled when everything has to end.
    stopped: CancellationToken,
    session_tasks: TaskTracker,
}

/// Events waiting for the dispatcher.
const DISPATCH_INBOX: usize = 4_096;

impl Engine {
    /// Starts the tasks around a store. Needs a tokio runtime.
    pub fn start(config: EngineConfig, store: SharedStore, clock: Arc<dyn Clock>, codec: Arc<dyn TaskCodec>) -> Self {
        let (dispatch, inbox) = mpsc::channel(DISPATCH_INBOX);
        let server = clock::uuid();
        // Two heartbeat intervals, which are a third of a lease.
        let grace_ms = config.lease_ttl_ms * 2 / 3;
        let inner = Arc::new(Inner {
            contact: contact::Contact::new(store.shards(), grace_ms),
            configs: configs::Configs::default(),
            peers: peers::Peers::new(server.into_bytes()),
            roster: roster::Roster::default(),
            plans: ticks::Plans::default(),
            flows: flows::Flows::default(),
            config,
            start_ms: clock.now().mono_ms,
            meters: meters::Meters::new(clock.clone()),
            store,
            clock,
            codec,
            dispatch,
            sessions: sessions::Sessions::default(),
            hub: Arc::default(),
            server_id: server.to_string(),
            keys: AtomicU64::new(1),
            draining: AtomicBool::new(false),
            stopped: CancellationToken::new(),
            session_tasks: TaskTracker::new(),
        });
        tokio::spawn(dispatch::run(inner.clone(), inbox, inner.store.watch()));
        tokio::spawn(timers::run(inner.clone(), inner.store.watch()));
        tokio::spawn(peers::run(inner.clone(), inner.store.watch()));
        tokio::spawn(configs::run(inner.clone(), inner.store.watch()));
        tokio::spawn(flows::run(inner.clone()));
        Self(inner)
    }

    /// Stops in an orderly way, within `patience`: no more claims, workers sent away, outcomes that were read made durable
    /// and acknowledged. Leases outlive it. The store stays open: whoever opened it closes it.
    pub async fn shutdown(&self, patience: Duration) {
        self.0.draining.store(true, Relaxed);
        self.0.dispatch_event(dispatch::Event::Stop).await;
        for live in self.0.sessions.all() {
            let go_away = GoAway {
                reason: GoAwayReason::Shutdown,
                reconnect_ms: session::spread_ms(),
                grace_ms: 5_000.min(patience.as_millis() as i64),
                message: "the server shuts down".to_owned(),
            };
            _ = live.events.send(session::Event::GoAway(go_away)).await;
        }
        self.0.session_tasks.close();
        let sessions = tokio::time::timeout(patience, self.0.session_tasks.wait());
        let retired = tokio::time::timeout(patience, self.0.retire());
        if !matches!(tokio::join!(sessions, retired), (_, Ok(Ok(())))) {
            tracing::debug!("the other servers count on this one for a while yet");
        }
        self.0.stopped.cancel();
        _ = tokio::time::timeout(Duration::from_secs(1), self.0.session_tasks.wait()).await;
    }

    pub fn limits(&self) -> &Limits {
        &self.0.config.limits
    }

    /// Wall clock of the server, milliseconds.
    pub fn wall_ms(&self) -> i64 {
        self.0.wall_ms()
    }

    pub fn server_id(&self) -> &str {
        &self.0.server_id
    }

    /// Milliseconds since the server started.
    pub fn uptime_ms(&self) -> i64 {
        self.0.mono_ms() - self.0.start_ms
    }

    /// Decodes the task of a record's body.
    pub fn task(&self, record: &Record) -> Option<Task> {
        self.0.codec.decode(&record.body.as_ref()?.task)
    }

    pub async fn store_info(&self) -> Result<StoreInfo, StoreError> {
        self.0.store.info().await
    }

    /// What was counted here since the start.
    pub fn meters(&self) -> &meters::Meters {
        &self.0.meters
    }

    /// What was counted here since the start, for metrics. Names without their prefix.
    pub fn counters(&self) -> Vec<Counter> {
        self.0.meters.counters()
    }

    /// Workers connected to this server, by session id.
    pub fn workers(&self) -> Vec<WorkerView> {
        self.0.worker_views()
    }

    /// Workers connected to any server of the store, by session id; those of others as they were some seconds ago.
    pub async fn all_workers(&self) -> Vec<WorkerView> {
        self.0.workers_everywhere().await
    }

    /// What a session holds, at most `limit`.
    pub async fn held_jobs(&self, session_id: &str, limit: usize) -> Result<Vec<Record>, StoreError> {
        self.0.held_by(session_id, limit).await
    }

    /// Worker and session that have a running job in hand, if they are connected to any server that answers in time.
    pub async fn holder(&self, record: &Record) -> Option<(String, String)> {
        if record.meta.state != State::Running {
            return None;
        }
        let found = self.0.holders_of(&[&record.meta]).await.remove(&record.meta.id);
        found.map(|holder| (holder.worker_id, holder.session_id))
    }

    /// Sets the wanted state of these sessions; answers which of them are known.
    pub async fn signal(&self, session_ids: Vec<String>, directive: Directive) -> Result<Vec<String>, StoreError> {
        self.0.direct(session_ids, directive).await
    }

    /// Opens a worker's stream: what to send frames into, and the frames to write. The first frame carries the welcome.
    pub async fn open_session(
        &self,
        hello: Hello,
        hello_seq: i64,
    ) -> Result<(SessionHandle, mpsc::Receiver<ServerFrame>), StoreError> {
        self.0.open_session(hello, hello_seq).await
    }
}

impl Inner {
    fn wall_ms(&self) -> i64 {
        self.clock.now().wall_ms
    }

    fn mono_ms(&self) -> i64 {
        self.clock.now().mono_ms
    }

    fn draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    /// Other servers work on the same store.
    fn shared(&self) -> bool {
        self.store.is_shared()
    }

    async fn dispatch_event(&self, event: dispatch::Event) {
        _ = self.dispatch.send(event).await;
    }

    /// Applies ops of any shards and tells who listens. All calls that change known jobs go through here. An error may
    /// stand for a part of the ops only: what is repeated then has no second effect.
    async fn apply(&self, ops: Vec<Op>) -> Result<Vec<Verdict>, StoreError> {
        if ops.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<JobId> = ops.iter().map(|op| op.id).collect();
        let shard_of = |op: &Op| op.id.shard();
        if let Some(shard) = spread::one_call(&ops, shard_of) {
            let verdicts = self.heard(shard, self.store.apply(shard, ops).await)?;
            ids.into_iter().zip(&verdicts).for_each(|(id, verdict)| self.tell(id, verdict));
            return Ok(verdicts);
        }
        let call = |shard, ops| async move { self.heard(shard, self.store.apply(shard, ops).await) };
        let verdicts = spread::spread(ops, shard_of, call).await;
        for (id, verdict) in ids.into_iter().zip(&verdicts) {
            verdict.iter().for_each(|verdict| self.tell(id, verdict));
        }
        verdicts.into_iter().collect()
    }

    fn tell(&self, id: JobId, verdict: &Verdict) {
        if let Verdict::Done(facts) = verdict {
            self.hub.touched(id);
            facts.owners.iter().for_each(|flow| self.flows.hint(*flow, Some(id)));
        }
    }
}

/// How a worker's stream ended, seen from the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEnd {
    /// Everything is acknowledged and the worker half-closed.
    Clean,
    /// A newer stream of the same session took over.
    Moved,
    /// The server shuts down or wants the worker elsewhere.
    GoAway,
    /// The worker broke a rule of the stream: gap in `seq`. Says which.
    Violation(&'static str),
}
