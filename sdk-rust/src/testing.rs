//! Tests without a server: of code that enqueues, and of handlers.
//!
//! | | what an enqueue does | for |
//! |---|---|---|
//! | [`fake`] | is recorded; handlers run when the test says so, by a clock that the test moves | what was enqueued, retries, delays |
//! | [`inline`] | runs the handler at once, on the caller's task | code that needs the result |
//! | `jobwire_server::testing::server()` | goes to a real server in this process | everything else |
//!
//! ```
//! use jobwire::prelude::*;
//! use jobwire::testing::fake;
//! # #[derive(Serialize, Deserialize)] struct SendMail { to: String }
//! # impl Task for SendMail { const TYPE: &'static str = "email.send"; type Output = String; }
//! # async fn send_mail(ctx: Ctx<SendMail>) -> Result<String, JobError> { Ok(format!("sent to {}", ctx.input().to)) }
//! # async fn sign_up(client: &Client) -> Result<Job<String>, Error> {
//! #     client.enqueue(SendMail { to: "ada@example.com".into() }).delay(mins(10)).await
//! # }
//! # use jobwire::Job;
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Error> {
//! let jobs = fake().handlers(|worker| worker.handle(send_mail));
//! let job = sign_up(&jobs.client()).await?;               // the code under test, with a client that goes nowhere
//! jobs.assert_enqueued_with(&SendMail { to: "ada@example.com".into() });
//! jobs.advance(mins(10)).await;
//! assert_eq!(job.result().await?, "sent to ada@example.com");
//! # Ok(()) }
//! ```

mod calls;
mod world;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use jobwire_proto::v1 as pb;
use prost::Message;
use tokio::sync::watch;

use crate::client::Client;
use crate::convert::from_timestamp;
use crate::health::Metrics;
use crate::mailbox::{Event, Mailbox};
use crate::options::Options;
use crate::payload::Payload;
use crate::runner::Runner;
use crate::session::{BatchRule, Control, Start, Token};
use crate::task::Task;
use crate::transport::Transport;
use crate::worker::{Worker, WorkerBuilder};
use world::World;

/// Handlers that one call of [`Fake::run`] or [`Fake::advance`] runs at most: jobs that enqueue each other for ever are
/// found out.
const RUNS_MAX: usize = 100_000;

/// Enqueues are recorded and nothing is sent. Due jobs run with [`Fake::run`] and [`Fake::advance`], if handlers were
/// given.
pub fn fake() -> Fake {
    Fake::new(false)
}

/// An enqueue runs its handler at once, whatever its delay, on the caller's task; the handle has the result. There is no
/// clock to wait by, so the first failure is final, and so is a snooze. A type without a handler is refused.
pub fn inline() -> Fake {
    Fake::new(true)
}

/// Stands in for a server. Cheap to clone; clones are the same one.
///
/// Honoured are delay and time, id, idempotency key, unique (all scopes and conflicts), retry (without jitter), ttl,
/// priority, cancel, and jobs enqueued with an outcome. Handlers take no time of its clock, so timeouts of attempts never
/// pass. A batch handler gets what is due together, and inline each job by itself. A handler that awaits another job's result waits for ever, unless [`inline`].
#[derive(Debug, Clone)]
pub struct Fake {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    inline: bool,
    world: Mutex<World>,
    /// Rises with every change, for those who watch.
    changed: watch::Sender<u64>,
    handlers: Mutex<Option<Handlers>>,
}

#[derive(Clone)]
struct Handlers {
    runner: Arc<Runner>,
    batches: HashMap<String, BatchRule>,
    mailbox: Arc<Mailbox>,
}

impl std::fmt::Debug for Handlers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handlers").finish_non_exhaustive()
    }
}

/// A job that was enqueued.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Enqueued {
    /// Its id.
    pub id: String,
    /// Its type.
    pub r#type: String,
    /// The queue it went to.
    pub queue: String,
    /// Its argument.
    pub input: Payload,
    /// Everything else that was said about it; equal to `Options` built the same way, order of calls apart.
    pub options: Options,
    /// When it becomes, or became, runnable for the first time.
    pub due: SystemTime,
}

impl Enqueued {
    /// The argument as its task.
    ///
    /// # Panics
    /// If it is none of `T`.
    pub fn input<T: Task>(&self) -> T {
        self.input.to().unwrap_or_else(|error| panic!("{} is no {}: {error}", self.r#type, T::TYPE))
    }
}

impl Fake {
    fn new(inline: bool) -> Self {
        let (changed, _) = watch::channel(0);
        let world = Mutex::new(World::new(SystemTime::now()));
        Self { shared: Arc::new(Shared { inline, world, changed, handlers: Mutex::default() }) }
    }

    /// A client whose calls come here. Clone it, give it to the code under test.
    pub fn client(&self) -> Client {
        Client::over(Transport::local(self.shared.clone()))
    }

    /// Gives it handlers, with the states, layers and classifiers of a worker: the same function as in production fits.
    /// Replaces those given before.
    ///
    /// # Panics
    /// If a handler's state is missing.
    pub fn handlers(self, worker: impl FnOnce(WorkerBuilder) -> WorkerBuilder) -> Self {
        let mailbox = Arc::new(Mailbox::default());
        let mut builder = worker(Worker::builder(self.client()));
        let batches = builder.batch_rules();
        let runner = builder.runner(mailbox.clone(), Arc::new(Metrics::default()));
        let runner = Arc::new(runner.unwrap_or_else(|error| panic!("{error}")));
        *self.shared.handlers.lock().expect("no holder panics") = Some(Handlers { runner, batches, mailbox });
        self
    }

    /// The time here. Begins with the real one, and moves only with [`advance`](Self::advance).
    pub fn now(&self) -> SystemTime {
        self.shared.world().now()
    }

    /// The jobs that were enqueued, in order, those by handlers included; repeats and kept ones are none.
    pub fn enqueued(&self) -> Vec<Enqueued> {
        self.shared.world().jobs().map(enqueued).collect()
    }

    /// Forgets all jobs and keys. The clock stays.
    pub fn clear(&self) {
        self.shared.world().clear();
        self.shared.changed();
    }

    /// Runs what is due now, in order of time, priority and arrival, and what comes of it. Jobs without a handler stay
    /// where they are.
    pub async fn run(&self) {
        self.advance(Duration::ZERO).await;
    }

    /// Moves the clock, and runs what came due on the way, each job at its own time: delays, retries, snoozes.
    ///
    /// # Panics
    /// After 100,000 runs of handlers: jobs that make each other run for ever.
    pub async fn advance(&self, span: Duration) {
        let target = self.now() + span;
        for _ in 0..RUNS_MAX {
            let next = {
                let handlers = self.shared.handlers();
                let mut world = self.shared.world();
                world.next(target, |r#type| handlers.as_ref().is_some_and(|handlers| handlers.runner.handles(r#type)))
            };
            let Some(id) = next else {
                self.shared.world().move_to(target);
                return self.shared.changed();
            };
            self.shared.run(&id).await;
        }
        panic!("{RUNS_MAX} handlers ran: these jobs never come to an end");
    }

    /// Jobs of this type that were enqueued, at least one.
    ///
    /// # Panics
    /// If there are none.
    #[track_caller]
    pub fn assert_enqueued<T: Task>(&self) -> Vec<Enqueued> {
        let found = self.of::<T>();
        assert!(!found.is_empty(), "no {} was enqueued, but {}", T::TYPE, self.names());
        found
    }

    /// As [`assert_enqueued`](Self::assert_enqueued), with this very input.
    ///
    /// # Panics
    /// If there are none.
    #[track_caller]
    pub fn assert_enqueued_with<T: Task>(&self, task: &T) -> Vec<Enqueued> {
        let wanted = serde_json::to_value(task).expect("the task is JSON");
        let all = self.of::<T>();
        let inputs: Vec<_> = all.iter().filter_map(|job| job.input.as_text()).collect();
        let message = format!("no {} was enqueued with {wanted}, but with {inputs:?}", T::TYPE);
        let same = |job: &Enqueued| job.input.to::<serde_json::Value>().is_ok_and(|input| input == wanted);
        let found: Vec<_> = all.into_iter().filter(same).collect();
        assert!(!found.is_empty(), "{message}");
        found
    }

    /// Exactly so many jobs of this type were enqueued.
    ///
    /// # Panics
    /// If there are more or fewer.
    #[track_caller]
    pub fn assert_enqueued_times<T: Task>(&self, times: usize) {
        let found = self.of::<T>().len();
        assert!(found == times, "{found} {} were enqueued, not {times}; in all {}", T::TYPE, self.names());
    }

    fn of<T: Task>(&self) -> Vec<Enqueued> {
        self.enqueued().into_iter().filter(|job| job.r#type == T::TYPE).collect()
    }

    fn names(&self) -> String {
        let names: Vec<_> = self.enqueued().into_iter().map(|job| job.r#type).collect();
        if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
    }
}

impl Shared {
    fn world(&self) -> std::sync::MutexGuard<'_, World> {
        self.world.lock().expect("no holder panics")
    }

    fn handlers(&self) -> Option<Handlers> {
        self.handlers.lock().expect("no holder panics").clone()
    }

    fn changed(&self) {
        self.changed.send_modify(|version| *version += 1);
    }

    /// Runs one job's handler, or that of a batch which begins with it, and does what the outcomes say.
    async fn run(&self, id: &str) {
        let Some(handlers) = self.handlers() else { return };
        let rule = self.world().get(id).and_then(|job| handlers.batches.get(&job.spec.r#type)).copied();
        let ids = match rule {
            // Inline nobody else is there yet.
            Some(rule) if !self.inline => self.world().batch(id, rule.max_size, rule.by_key),
            _ => vec![id.to_owned()],
        };
        let mut starts = Vec::with_capacity(ids.len());
        for id in &ids {
            let control = Arc::new(Control::default());
            let Some(lease) = self.world().start(id, control.clone()) else { continue };
            starts.push(Start { token: Token::from(id.as_str()), job: Box::new(lease), control, deadline: None });
        }
        self.changed();
        let begun = Instant::now();
        let mut outcomes = Vec::with_capacity(starts.len());
        if rule.is_some() {
            outcomes = handlers.runner.execute_batch(starts).await;
        } else {
            for start in starts {
                outcomes.push((start.token.clone(), handlers.runner.execute(start).await));
            }
        }
        let mut events = Vec::new();
        handlers.mailbox.take(&mut events);
        {
            let mut world = self.world();
            for event in events {
                if let Event::News(ctx) = event {
                    world.told(ctx.job_id(), ctx.take_news());
                }
            }
            for (id, outcome) in outcomes {
                world.finish(&id, outcome, begun.elapsed(), self.inline);
            }
        }
        self.changed();
    }
}

fn enqueued(job: &world::Job) -> Enqueued {
    let mut spec = Box::new(job.spec.clone());
    let input = spec.payload.take().map(Payload::from_proto).unwrap_or_default();
    let r#type = std::mem::take(&mut spec.r#type);
    let id = std::mem::take(&mut spec.id);
    let queue = if spec.queue.is_empty() { r#type.clone() } else { spec.queue.clone() };
    Enqueued { id, r#type, queue, input, options: Options { spec, ..Options::default() }, due: job.first_due }
}

/// A job as its worker gets it.
fn lease(job: &world::Job, now: SystemTime) -> pb::JobLease {
    let spec = job.spec.clone();
    let task = pb::Task {
        queue: if spec.queue.is_empty() { spec.r#type.clone() } else { spec.queue },
        id: spec.id,
        r#type: spec.r#type,
        payload: spec.payload,
        headers: spec.headers,
        tags: spec.tags,
        priority: spec.priority,
        create_time: Some(job.created.into()),
        parent_id: job.parent_id.clone(),
        fairness_key: spec.fairness_key,
        ..Default::default()
    };
    let waited = now.duration_since(job.due).unwrap_or_default();
    pb::JobLease {
        lease_token: task.id.clone(),
        task: task.encode_to_vec().into(),
        attempt: job.failures + 1,
        max_attempts: job.policy().max_attempts,
        delivery: job.delivery,
        last_failure: job.failure.clone(),
        checkpoint: job.checkpoint.clone(),
        wait_duration: Some(crate::convert::to_duration(waited)),
        ..Default::default()
    }
}

/// A moment of the contract; None when it is absent or beyond the clock.
fn moment(time: Option<&prost_types::Timestamp>) -> Option<SystemTime> {
    time.and_then(from_timestamp)
}
