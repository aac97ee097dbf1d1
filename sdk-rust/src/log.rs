//! Captures what handlers log through `tracing`, line by line, into the log of their job.

use std::collections::BTreeMap;
use std::fmt;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::context::running;
use crate::types::LogLevel;

/// A layer that adds every event of a running handler to the job's log; others pass untouched. Takes INFO and above
/// unless told otherwise.
///
/// ```no_run
/// use tracing_subscriber::prelude::*;
/// tracing_subscriber::registry().with(jobwire::job_logs()).init();
/// ```
///
/// Events of tasks and threads that a handler spawns are seen inside [`RawCtx::scope`] only.
pub fn job_logs() -> JobLogs {
    JobLogs { level: Level::INFO }
}

/// See [`job_logs`].
#[derive(Debug, Clone)]
pub struct JobLogs {
    level: Level,
}

impl JobLogs {
    /// Takes events of this level and more severe ones. Default: INFO.
    pub fn level(mut self, level: Level) -> Self {
        self.level = level;
        self
    }
}

impl<S: Subscriber> Layer<S> for JobLogs {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        if *metadata.level() > self.level {
            return;
        }
        let mut line = Line::default();
        event.record(&mut line);
        let level = match *metadata.level() {
            Level::TRACE => LogLevel::Trace,
            Level::DEBUG => LogLevel::Debug,
            Level::INFO => LogLevel::Info,
            Level::WARN => LogLevel::Warn,
            Level::ERROR => LogLevel::Error,
        };
        running(|ctx| ctx.log_with(level, line.message.clone(), line.fields.clone()));
    }
}

#[derive(Default)]
struct Line {
    message: String,
    fields: BTreeMap<String, String>,
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message = value.to_owned();
        } else {
            self.fields.insert(field.name().to_owned(), value.to_owned());
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}
