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

mod backoff;
pub mod classify;
mod client;
mod coalesce;
mod context;
mod convert;
mod enqueue;
mod enqueue_stream;
pub mod errors;
mod handler;
mod health;
mod job;
mod job_error;
mod lag;
mod link;
mod log;
mod mailbox;
mod options;
mod payload;
mod results;
mod runner;
mod service;
mod session;
mod target;
mod task;
mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
mod transport;
mod types;
mod vitals;
mod worker;

pub use client::{Client, ClientBuilder};
pub use context::{Ctx, Follow, RawCtx};
pub use enqueue::{Enqueue, EnqueueMany, Run};
pub use enqueue_stream::EnqueueStream;
pub use errors::{Code, Error, RpcError};
pub use handler::{Args, BlockingHandler, Handler, State, States};
pub use health::HealthAddr;
pub use job::{Job, JobResult};
pub use job_error::JobError;
pub use log::{JobLogs, job_logs};
pub use options::{Options, Retry, Unique};
pub use payload::Payload;
pub use service::JobService;
pub use task::Task;
pub use telemetry::TraceMode;
pub use types::{
    CancelReason, EnqueueStatus, Explanation, Failure, FailureKind, JobEvent, JobInfo, JobState, LogLevel, LogLine,
    OnConflict, OnExhausted, Progress, Queue, Throttle, UniqueScope,
};
pub use worker::{Worker, WorkerBuilder, shutdown_signal};

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

/// Everything a small program needs, serde's two derives included.
pub mod prelude {
    pub use crate::{Client, Ctx, Error, State, Worker, shutdown_signal};
    pub use crate::{JobError, Options, Retry, Task, days, hours, millis, mins, secs};
    pub use serde::{Deserialize, Serialize};
}
