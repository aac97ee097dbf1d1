//! The worker: handlers, how many at once, and how to stop.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures::FutureExt;
use jobwire_proto::v1 as pb;
use tokio::runtime::Handle;
use tower_layer::Layer;
use tower_service::Service;
use uuid::Uuid;

use crate::batch::{BatchHandler, PrepareBatch, prepare_batch};
use crate::classify::{self, Classifier, Verdict};
use crate::client::Client;
use crate::context::RawCtx;
use crate::convert::to_timestamp;
use crate::errors::{Code, Error};
use crate::handler::{Args, BlockingHandler, Handler, Prepare, States, prepare, prepare_blocking, prepare_raw};
use crate::health::{HealthAddr, Metrics};
use crate::job_error::JobError;
use crate::link::{FirstCall, Link, OnReady};
use crate::mailbox::{Event, Mailbox};
use crate::payload::Payload;
use crate::runner::Runner;
use crate::schedule::Schedule;
use crate::service::{JobService, Wrap, erase, wrap};
use crate::session::{BatchRule, Config, Session};
use crate::task::Task;
use crate::telemetry::TraceMode;
use crate::types::Queue;

/// Below the 30 s that Kubernetes gives.
const GRACE: Duration = Duration::from_secs(25);
const CONCURRENCY: usize = 10;

/// A worker process: takes jobs from a server and runs handlers.
#[derive(Debug)]
pub struct Worker(());

impl Worker {
    /// Begins a worker that uses the client's address and credentials.
    pub fn builder(client: Client) -> WorkerBuilder {
        WorkerBuilder {
            client,
            concurrency: CONCURRENCY,
            prefetch: None,
            grace: GRACE,
            lease_ttl: None,
            queues: Vec::new(),
            default_queues: Vec::new(),
            handlers: Vec::new(),
            batches: Vec::new(),
            states: States::default(),
            wraps: Vec::new(),
            classifiers: Vec::new(),
            http_classifier: true,
            trace_mode: TraceMode::Auto,
            worker_id: None,
            app_version: String::new(),
            on_ready: None,
            health: None,
            labels: Default::default(),
            schedules: Vec::new(),
            put_schedules: true,
        }
    }
}

/// One batch handler.
struct BatchSetup {
    r#type: &'static str,
    /// Where its jobs go when nobody says otherwise.
    queue: String,
    rule: BatchRule,
    prepare: PrepareBatch,
}

/// A worker to be. End with [`run`](Self::run) or [`run_until`](Self::run_until).
#[must_use = "a worker does nothing until it is run"]
pub struct WorkerBuilder {
    client: Client,
    concurrency: usize,
    prefetch: Option<usize>,
    grace: Duration,
    lease_ttl: Option<Duration>,
    queues: Vec<Queue>,
    /// Where the handled tasks go when nobody says otherwise.
    default_queues: Vec<String>,
    handlers: Vec<(String, Prepare)>,
    batches: Vec<BatchSetup>,
    states: States,
    /// First = outermost.
    wraps: Vec<Wrap>,
    classifiers: Vec<Classifier>,
    http_classifier: bool,
    trace_mode: TraceMode,
    worker_id: Option<String>,
    app_version: String,
    on_ready: Option<OnReady>,
    health: Option<HealthAddr>,
    labels: BTreeMap<String, String>,
    schedules: Vec<(String, Schedule)>,
    put_schedules: bool,
}

impl WorkerBuilder {
    /// Handlers that may run at once. Default 10.
    pub fn concurrency(mut self, concurrency: usize) -> Self {
        self.concurrency = concurrency.max(1);
        self
    }

    /// Jobs to hold besides those that run, so that the next one is there when a handler ends. Default
    /// min(concurrency, 16) for handlers that take less than 1 s on average, falling to 0 at 10 s.
    pub fn prefetch(mut self, prefetch: usize) -> Self {
        self.prefetch = Some(prefetch);
        self
    }

    /// Serves a queue: a name, a prefix ending in "*", or a [`Queue`] with weight and limit. May be called repeatedly.
    /// Default: the queues of the handled tasks.
    pub fn queue(mut self, queue: impl Into<Queue>) -> Self {
        self.queues.push(queue.into());
        self
    }

    /// A value for every handler that asks for `State<S>`. One per type; a second one replaces the first.
    pub fn state<S: Clone + Send + Sync + 'static>(mut self, state: S) -> Self {
        self.states.insert(state);
        self
    }

    /// Handles a task with an async function of its [`Ctx`](crate::Ctx) and up to three [`State`](crate::State)s.
    pub fn handle<T: Task, A: Args>(self, handler: impl Handler<T, A>) -> Self {
        self.typed::<T>(prepare(handler))
    }

    /// Handles a task with a function that blocks or computes, each call on a thread of the runtime's blocking pool.
    pub fn handle_blocking<T: Task, A: Args>(self, handler: impl BlockingHandler<T, A>) -> Self {
        self.typed::<T>(prepare_blocking(handler))
    }

    /// Handles a task several jobs at a time: a function of a [`Batch`](crate::Batch) and up to three
    /// [`State`](crate::State)s. Each call gets up to `max_size` jobs (1 to 1,000), or what came within `linger` of the first
    /// (at most 1 min; zero: what came with it). A call is one of the `concurrency` handlers, and its jobs take a slot each: as
    /// many as the largest batch needs are asked for. A job with which a worker has vanished before runs alone. Layers are not
    /// asked.
    pub fn handle_batch<T: Task, A: Args>(
        self,
        max_size: usize,
        linger: Duration,
        handler: impl BatchHandler<T, A>,
    ) -> Self {
        self.batch::<T>(BatchRule { max_size, linger, by_key: false }, prepare_batch(handler))
    }

    /// As [`handle_batch`](Self::handle_batch), with jobs of one fairness key in a call: one tenant, one account.
    pub fn handle_batch_by_key<T: Task, A: Args>(
        self,
        max_size: usize,
        linger: Duration,
        handler: impl BatchHandler<T, A>,
    ) -> Self {
        self.batch::<T>(BatchRule { max_size, linger, by_key: true }, prepare_batch(handler))
    }

    /// Handles jobs of a type, or of every type with a prefix when it ends in "*", without a [`Task`]: for generic
    /// workers.
    pub fn handle_raw<F, Fut>(mut self, r#type: impl Into<String>, handler: F) -> Self
    where
        F: Fn(RawCtx) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Payload, JobError>> + Send + 'static,
    {
        let r#type = r#type.into();
        self.default_queues.push(r#type.clone());
        self.handlers.push((r#type, prepare_raw(handler)));
        self
    }

    /// Handles jobs of a type (or prefix, as in [`handle_raw`](Self::handle_raw)) with a tower service.
    pub fn handle_service<S>(mut self, r#type: impl Into<String>, service: S) -> Self
    where
        S: Service<RawCtx, Response = Payload, Future: Send> + Clone + Send + Sync + 'static,
        S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let r#type = r#type.into();
        self.default_queues.push(r#type.clone());
        self.handlers.push((r#type, Box::new(move |_| Ok(erase(service)))));
        self
    }

    /// Wraps every handler of this worker, whether added before or after, in a tower layer: metrics, tracing, limits.
    /// The first one added is outermost. Each handler is wrapped once; its jobs use clones of the service. A layer's own
    /// error (a timeout, say) is a failure like any other, retried by the job's policy; a layer that drops the handler's
    /// future ends it at its next `await`, with no chance to clean up.
    pub fn layer<L, S>(mut self, layer: L) -> Self
    where
        L: Layer<JobService, Service = S> + Send + 'static,
        S: Service<RawCtx, Response = Payload, Future: Send> + Clone + Send + Sync + 'static,
        S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.wraps.push(wrap(layer));
        self
    }

    /// Lets a function say what errors mean that handlers return through `?`; see [`classify`](crate::classify). Asked in
    /// the order they were added.
    pub fn classify<F>(mut self, classifier: F) -> Self
    where
        F: Fn(&(dyn std::error::Error + 'static)) -> Option<Verdict> + Send + Sync + 'static,
    {
        self.classifiers.push(Box::new(classifier));
        self
    }

    /// Errors of this type, anywhere among an error's causes, are final.
    pub fn no_retry_on<E: std::error::Error + 'static>(self) -> Self {
        self.classify(|error| error.is::<E>().then_some(Verdict::NonRetryable))
    }

    /// Whether [`classify::http`](crate::classify::http()) is asked last. Default true.
    pub fn http_classifier(mut self, on: bool) -> Self {
        self.http_classifier = on;
        self
    }

    /// How the span of an attempt hangs together with the producer's. Default [`TraceMode::Auto`]. Without the feature
    /// `otel` there are no spans.
    pub fn trace_mode(mut self, mode: TraceMode) -> Self {
        self.trace_mode = mode;
        self
    }

    /// How long running handlers may go on once the worker drains. Then they are cancelled, with 2 s to save a
    /// checkpoint, and their jobs released. Default 25 s.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Wish for the length of a lease: how long after this process vanished its jobs run elsewhere. 10 s to 5 min,
    /// default 30 s; the server has the last word.
    pub fn lease_ttl(mut self, ttl: Duration) -> Self {
        self.lease_ttl = Some(ttl);
        self
    }

    /// Name for people, such as the pod's. Default "{hostname}:{pid}".
    pub fn worker_id(mut self, id: impl Into<String>) -> Self {
        self.worker_id = Some(id.into());
        self
    }

    /// The application's own build, for "which deploy is failing".
    pub fn app_version(mut self, version: impl Into<String>) -> Self {
        self.app_version = version.into();
        self
    }

    /// Adds a label for operators, such as a region: `label.{key}` in filters of workers.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// Declares a schedule in code: put when the worker starts, before it takes its first job. Needs the scope `admin`; a
    /// refusal ends [`run`](Self::run). Every process of a deployment may declare the same. One that is no longer declared
    /// stays on the server: delete it with [`client.schedules()`](Client::schedules).
    pub fn schedule(mut self, id: impl Into<String>, schedule: Schedule) -> Self {
        self.schedules.push((id.into(), schedule));
        self
    }

    /// Whether declared schedules are put. Default true; false for workers whose credentials do not allow it, where somebody
    /// else puts them.
    pub fn put_schedules(mut self, on: bool) -> Self {
        self.put_schedules = on;
        self
    }

    /// Called once, when the server has first accepted the worker.
    pub fn on_ready(mut self, ready: impl FnOnce() + Send + 'static) -> Self {
        self.on_ready = Some(Box::new(ready));
        self
    }

    /// Answers probes over HTTP: `/livez` (the process runs), `/readyz` (connected and not draining) and `/metrics`
    /// (Prometheus text). A port alone is one of 127.0.0.1; `"0.0.0.0:9000"` is for everybody. Default: no endpoint. A port
    /// in use ends [`run`](Self::run) at once with [`Error::Config`].
    pub fn health(mut self, address: impl Into<HealthAddr>) -> Self {
        self.health = Some(address.into());
        self
    }

    /// Runs until SIGTERM or SIGINT; see [`run_until`](Self::run_until).
    pub async fn run(self) -> Result<(), Error> {
        self.run_until(shutdown_signal()).await
    }

    /// Runs until `shutdown` resolves (or the server says TERMINATE), then drains: takes nothing new, gives back what has
    /// not started, lets handlers finish for the grace, cancels the rest. SIGTERM or SIGINT during the drain end it at
    /// once. Handlers run on the runtime this is called on; the stream lives on a thread of its own, where `shutdown` is
    /// polled as well.
    ///
    /// Reconnects for ever. Fails when a handler's state is missing, when a declared schedule is refused, and when the server
    /// refuses this worker for good (FAILED_PRECONDITION, INVALID_ARGUMENT, PERMISSION_DENIED). Dropping the future cuts the connection: the jobs run
    /// elsewhere when their leases run out.
    pub async fn run_until(mut self, shutdown: impl Future<Output = ()> + Send + 'static) -> Result<(), Error> {
        self.check_batches()?;
        let mailbox = Arc::new(Mailbox::default());
        let config = self.config();
        let metrics = Arc::new(Metrics::new(self.concurrency));
        let runner = self.runner(mailbox.clone(), metrics.clone())?;
        let first = self.first_call()?;
        let health = self.health.take().map(HealthAddr::bind).transpose()?;
        let link = Link {
            session: Session::new(config, rand::random(), Instant::now()),
            transport: self.client.transport(),
            mailbox: mailbox.clone(),
            runner: Arc::new(runner),
            user: Handle::current(),
            shutdown: Box::pin(shutdown),
            on_ready: self.on_ready,
            metrics,
            health,
            first,
        };
        let done = link.spawn()?;
        let _abandon = AbandonOnDrop(mailbox);
        done.await.unwrap_or_else(|_| Err(Error::Config("the session thread panicked; this is a bug".into())))
    }

    /// Puts the schedules; None when there are none.
    fn first_call(&mut self) -> Result<Option<FirstCall>, Error> {
        let mut puts: Vec<pb::PutScheduleRequest> = Vec::new();
        for (id, schedule) in std::mem::take(&mut self.schedules) {
            let spec = schedule.into_spec().map_err(|error| error.about(&format!("schedule {id}")))?;
            if puts.iter().any(|put| put.id == id) {
                return Err(Error::Config(format!("the worker declares the schedule {id} twice")));
            }
            puts.push(pb::PutScheduleRequest { id, spec: Some(spec), ..Default::default() });
        }
        let client = self.client.clone();
        Ok((self.put_schedules && !puts.is_empty()).then(|| put_all(client, puts).boxed()))
    }

    /// Makes the handlers, with states and layers.
    pub(crate) fn runner(&mut self, mailbox: Arc<Mailbox>, metrics: Arc<Metrics>) -> Result<Runner, Error> {
        let mut handlers = Vec::with_capacity(self.handlers.len());
        for (r#type, prepare) in std::mem::take(&mut self.handlers) {
            let handler = prepare(&self.states)?;
            handlers.push((r#type, self.wraps.iter().rev().fold(handler, |handler, wrap| wrap(handler))));
        }
        let mut batches = HashMap::new();
        for batch in std::mem::take(&mut self.batches) {
            batches.insert(batch.r#type.to_owned(), (batch.prepare)(&self.states)?);
        }
        if handlers.is_empty() && batches.is_empty() {
            return Err(Error::Config("a worker needs a handler: add .handle(…)".into()));
        }
        let mut runner = Runner::new(handlers, mailbox, metrics);
        runner.client = Some(self.client.clone());
        runner.batches = batches;
        runner.trace_mode = self.trace_mode;
        runner.classifiers = std::mem::take(&mut self.classifiers);
        if self.http_classifier {
            runner.classifiers.push(Box::new(classify::http));
        }
        Ok(runner)
    }

    fn typed<T: Task>(mut self, prepare: Prepare) -> Self {
        self.default_queues.push(T::options().queue_or(T::TYPE).to_owned());
        self.handlers.push((T::TYPE.to_owned(), prepare));
        self
    }

    fn batch<T: Task>(mut self, rule: BatchRule, prepare: PrepareBatch) -> Self {
        let queue = T::options().queue_or(T::TYPE).to_owned();
        self.default_queues.push(queue.clone());
        self.batches.push(BatchSetup { r#type: T::TYPE, queue, rule, prepare });
        self
    }

    /// Batches that could never be full, and rules that make no sense.
    fn check_batches(&self) -> Result<(), Error> {
        const SIZE_MAX: usize = 1_000;
        const LINGER_MAX: Duration = Duration::from_secs(60);
        let slots = self.prefetch.map(|prefetch| self.concurrency + prefetch);
        for BatchSetup { r#type, queue, rule: BatchRule { max_size, linger, .. }, .. } in &self.batches {
            let served = self.queues.iter().find(|served| served.subscription.queue == *queue);
            let wrong = if self.handlers.iter().any(|(handled, _)| handled == r#type) {
                "has a handler for single jobs as well: choose one".to_owned()
            } else if !(1..=SIZE_MAX).contains(max_size) {
                format!("max_size is {max_size}, it must be 1 to {SIZE_MAX}")
            } else if *linger > LINGER_MAX {
                format!("linger is {linger:?}, at most {LINGER_MAX:?}")
            } else if let Some(slots) = slots.filter(|slots| slots < max_size) {
                format!(
                    "takes up to {max_size} jobs in one call, and this worker holds {slots} (concurrency + prefetch): leave \
                     prefetch out, or set it to {} or more",
                    max_size - self.concurrency
                )
            } else if served.is_some_and(|served| served.holds_less_than(*max_size)) {
                format!("takes up to {max_size} jobs in one call, and max_slots of queue {queue} is less")
            } else {
                continue;
            };
            return Err(Error::Config(format!("the batch handler of {type} {wrong}")));
        }
        Ok(())
    }

    pub(crate) fn batch_rules(&self) -> HashMap<String, BatchRule> {
        self.batches.iter().map(|batch| (batch.r#type.to_owned(), batch.rule)).collect()
    }

    fn config(&self) -> Config {
        let hostname = hostname();
        let pid = std::process::id();
        let mut queues = self.queues.clone();
        if queues.is_empty() {
            for queue in &self.default_queues {
                if !queues.iter().any(|known| known.subscription.queue == *queue) {
                    queues.push(Queue::new(queue));
                }
            }
        }
        let singles = self.handlers.iter().map(|(r#type, _)| r#type.clone());
        let batched = self.batches.iter().map(|batch| batch.r#type.to_owned());
        Config {
            session_id: Uuid::new_v4().to_string(),
            worker_id: self.worker_id.clone().unwrap_or_else(|| format!("{hostname}:{pid}")),
            types: singles.chain(batched).collect(),
            batches: self.batch_rules(),
            subscriptions: queues.into_iter().map(|queue| queue.subscription).collect(),
            concurrency: self.concurrency,
            prefetch: self.prefetch,
            grace: self.grace,
            lease_ttl: self.lease_ttl,
            info: pb::WorkerInfo {
                hostname,
                pid: i32::try_from(pid).unwrap_or(0),
                sdk: "rust".to_owned(),
                sdk_version: env!("CARGO_PKG_VERSION").to_owned(),
                runtime: "tokio".to_owned(),
                app_version: self.app_version.clone(),
                labels: self.labels.clone(),
                start_time: Some(to_timestamp(SystemTime::now())),
            },
        }
    }
}

/// Puts schedules one after the other, for as long as there is no server.
async fn put_all(client: Client, puts: Vec<pb::PutScheduleRequest>) -> Result<(), Error> {
    for put in puts {
        let id = put.id.clone();
        loop {
            let call = client.shared().idempotent("/jobwire.v1.ScheduleService/PutSchedule", put.clone()).await;
            match call.map(|_: pb::PutScheduleResponse| ()) {
                Ok(()) => break,
                Err(error) if error.code() == Some(Code::Unavailable) => {
                    tracing::warn!(%error, schedule = id, "the schedule is not put yet");
                }
                Err(error) => return Err(error.about(&format!("schedule {id}"))),
            }
        }
    }
    Ok(())
}

/// Ends the session thread with the future that waits for it.
struct AbandonOnDrop(Arc<Mailbox>);

impl Drop for AbandonOnDrop {
    fn drop(&mut self) {
        self.0.push(Event::Abandon);
    }
}

/// Resolves at SIGTERM or SIGINT (Ctrl-C).
pub async fn shutdown_signal() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => {
                tokio::select! {
                    _ = tokio::signal::ctrl_c() => {}
                    _ = terminate.recv() => {}
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot listen to SIGTERM");
                let _ = tokio::signal::ctrl_c().await;
            }
        }
    }
    #[cfg(not(unix))]
    {
        let _ = tokio::signal::ctrl_c().await;
    }
}

fn hostname() -> String {
    let named = std::env::var("HOSTNAME").ok().filter(|name| !name.is_empty());
    named
        .or_else(|| std::fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_owned()))
        .unwrap_or_else(|| "localhost".to_owned())
}
