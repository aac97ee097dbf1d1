//! Rust SDK for the Jobwire job server.
//!
//! ```no_run
//! use jobwire::prelude::*;
//!
//! #[derive(Serialize, Deserialize)]
//! struct Hello { name: String }
//! impl Task for Hello { const TYPE: &'static str = "hello"; type Output = String; }
//! ```
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod client;
mod context;
mod convert;
pub mod errors;
mod handler;
mod job_error;
mod link;
mod log;
mod mailbox;
mod options;
mod payload;
mod runner;
mod session;
mod target;
mod task;
mod transport;
mod types;
mod vitals;
mod worker;

pub use client::Client;
pub use context::{Ctx, Follow, RawCtx};
pub use errors::{Code, Error, RpcError};
pub use handler::{Args, BlockingHandler, Handler, State, States};
pub use job_error::JobError;
pub use log::{JobLogs, job_logs};
pub use options::{Options, Retry, Unique};
pub use payload::Payload;
pub use task::Task;
pub use types::{
    Affected, CancelReason, EnqueueStatus, Failure, FailureKind, JobEvent, JobInfo, JobState, LogLevel, LogLine,
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
