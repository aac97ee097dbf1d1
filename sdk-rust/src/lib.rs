//! Rust SDK for the Jobwire job server: typed background jobs, on tokio.
//!
//! ```no_run
//! use jobwire::prelude::*;
//! #[derive(Serialize, Deserialize)]
//! struct Hello { name: String }
//! impl Task for Hello { const TYPE: &'static str = "hello"; type Output = String; }
//! async fn hello(ctx: Ctx<Hello>) -> Result<String, JobError> { Ok(format!("Hello, {}!", ctx.input().name)) }
//! #[tokio::main]
//! async fn main() -> Result<(), Error> {
//!     let client = Client::from_env()?;
//!     let job = client.enqueue(Hello { name: "Ada".into() }).await?;
//!     tokio::spawn(Worker::builder(client).handle(hello).run());
//!     Ok(println!("{}", job.result().await?))
//! }
//! ```
//!
//! # Words
//! A **task** is a job type declared in code ([`Task`]): name, input, output, default [`Options`]. A **job** is one of
//! them to be done; it waits in a **queue**, and each **attempt** to run it is on **lease** to a worker. A [`Client`]
//! enqueues and gives [`Job`] handles; a [`Worker`] runs handlers, which are functions of a [`Ctx`].
//!
//! # Promise
//! A job runs **at least once**. It runs again when its worker vanished, so handlers should be idempotent, or fence
//! other systems with [`RawCtx::delivery`]. An awaited enqueue is durable, and repeating one with the same id makes no
//! second job.
//!
//! # Features
//! `client` (produce), `worker` (work) and `tls` are on by default. `otel`: spans, metrics and context propagation by
//! OpenTelemetry. `testing`: [`testing`] without a server. `schema`: JSON schemas of tasks. `reqwest`, `sqlx` and
//! `tokio-postgres`: [`classify`] knows their errors. All of them only add. Rust 1.88 or newer.
//!
//! # How a worker lives
//! One stream per process carries jobs, outcomes and heartbeats. It lives on a thread of its own, so that handlers which
//! block the runtime lose no lease. When it breaks, handlers go on, and what they reported unheard is reported again.
//! At SIGTERM the worker takes nothing new, gives back what has not started, lets handlers finish for
//! [`grace`](WorkerBuilder::grace), cancels and releases the rest. A program that may hold blocked threads should end
//! with [`std::process::exit`] after [`WorkerBuilder::run`]: leaving `main` waits for them.
//!
//! # Cancellation
//! Handlers are told to stop, never dropped: by somebody's cancel, a timeout, a lost lease or a shutdown. Await
//! [`RawCtx::cancelled`] beside the work, and return [`JobError::cancelled`].
#![forbid(unsafe_code)]
#![warn(missing_docs)]
// One half uses only part of what both share.
#![cfg_attr(not(all(feature = "client", feature = "worker", feature = "tls")), allow(dead_code, unused_imports))]

mod after;
mod backoff;
#[cfg(feature = "worker")]
mod batch;
mod bind;
#[cfg(feature = "client")]
mod bulk;
mod calls;
#[cfg(feature = "worker")]
pub mod classify;
mod client;
#[cfg(feature = "client")]
mod coalesce;
#[cfg(feature = "worker")]
mod context;
mod convert;
mod draft;
#[cfg(feature = "client")]
mod enqueue;
#[cfg(feature = "client")]
mod enqueue_stream;
pub mod errors;
#[cfg(feature = "client")]
mod flow;
#[cfg(feature = "worker")]
mod handler;
#[cfg(feature = "worker")]
mod health;
#[cfg(feature = "client")]
mod job;
#[cfg(feature = "worker")]
mod job_error;
#[cfg(feature = "client")]
mod jobs;
#[cfg(feature = "worker")]
mod lag;
#[cfg(feature = "worker")]
mod link;
#[cfg(feature = "client")]
mod listing;
#[cfg(feature = "worker")]
mod log;
#[cfg(feature = "worker")]
mod mailbox;
mod options;
mod payload;
#[cfg(feature = "client")]
mod producer;
#[cfg(feature = "client")]
mod queues;
#[cfg(doctest)]
mod refused;
#[cfg(feature = "client")]
mod results;
#[cfg(feature = "worker")]
mod runner;
mod schedule;
#[cfg(feature = "client")]
mod schedules;
#[cfg(feature = "schema")]
pub mod schema;
#[cfg(feature = "worker")]
mod service;
#[cfg(feature = "worker")]
mod session;
mod target;
mod task;
mod task_call;
mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
mod transport;
mod types;
#[cfg(feature = "worker")]
mod vitals;
#[cfg(feature = "worker")]
mod worker;
#[cfg(feature = "client")]
mod workers;
#[cfg(feature = "client")]
mod workflow;

pub use after::{After, DependencyResult};
#[cfg(feature = "worker")]
pub use batch::{Batch, BatchHandler, BatchJob, BatchOutput};
#[cfg(feature = "client")]
pub use bulk::{BulkError, BulkResult, Selector};
pub use client::{Client, ClientBuilder};
#[cfg(feature = "worker")]
pub use context::{Ctx, Follow, RawCtx};
#[cfg(feature = "client")]
pub use enqueue::{Enqueue, EnqueueMany, Run};
#[cfg(feature = "client")]
pub use enqueue_stream::EnqueueStream;
pub use errors::{Code, Error, RpcError};
#[cfg(feature = "client")]
pub use flow::{Chain, Flow, Group, IntoFlow, Node, NodeGroup, OnNodeFailure, chain, chord, group};
#[cfg(feature = "worker")]
pub use handler::{Args, BlockingHandler, Handler, State, States};
#[cfg(feature = "worker")]
pub use health::HealthAddr;
#[cfg(feature = "client")]
pub use job::{Job, JobResult};
#[cfg(feature = "worker")]
pub use job_error::JobError;
#[cfg(feature = "client")]
pub use jobs::{CancelJobs, DeleteJobs, Jobs, RetryJobs, UpdateJobs};
#[cfg(feature = "client")]
pub use listing::Listing;
#[cfg(feature = "worker")]
pub use log::{JobLogs, job_logs};
pub use options::{Options, Retry, Unique};
pub use payload::Payload;
#[cfg(feature = "client")]
pub use queues::{PauseQueues, PurgeQueue, PutQueue, QueueConfig, QueueInfo, QueueStats, Queues};
pub use schedule::{Cadence, CatchUp, Fold, Gap, Overlap, Schedule, ScheduleInfo};
#[cfg(feature = "client")]
pub use schedules::{
    Backfill, BackfillSchedule, DeleteSchedules, Preview, PutSchedule, SchedulePut, Schedules, TriggerSchedule,
};
#[cfg(feature = "worker")]
pub use service::JobService;
pub use task::Task;
pub use task_call::{IntoTaskCall, TaskCall};
pub use telemetry::TraceMode;
pub use types::{
    CancelReason, EnqueueStatus, Explanation, Failure, FailureKind, JobEvent, JobInfo, JobState, LogLevel, LogLine,
    OnConflict, OnExhausted, Progress, Queue, Throttle, UniqueScope,
};
#[cfg(feature = "worker")]
pub use worker::{Worker, WorkerBuilder, shutdown_signal};
#[cfg(feature = "client")]
pub use workers::{SignalWorkers, WorkerInfo, WorkerState, Workers};
#[cfg(feature = "client")]
pub use workflow::{NodeInfo, Workflow, WorkflowInfo, WorkflowState};

use std::time::Duration;

/// So many milliseconds.
pub const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// So many seconds.
pub const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// So many minutes.
pub const fn mins(count: u64) -> Duration {
    Duration::from_secs(count * 60)
}

/// So many hours.
pub const fn hours(count: u64) -> Duration {
    Duration::from_secs(count * 3_600)
}

/// So many days of 24 hours.
pub const fn days(count: u64) -> Duration {
    Duration::from_secs(count * 86_400)
}

/// Everything a small program needs. The derives of serde among it need `serde` in the program's own manifest.
pub mod prelude {
    pub use crate::{Client, Error, Options, Retry, Schedule, Task, days, hours, millis, mins, secs};
    #[cfg(feature = "worker")]
    pub use crate::{Ctx, JobError, State, Worker, shutdown_signal};
    pub use serde::{Deserialize, Serialize};
}
