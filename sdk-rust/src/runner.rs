//! Runs one delivered job: decodes it, finds its handler, turns what the handler returns into an outcome.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt;
use jobwire_proto::v1 as pb;
use prost::Message;
use tokio::runtime::Handle;

use crate::batch::ErasedBatch;
use crate::bind;
use crate::classify::Classifier;
use crate::client::Client;
use crate::context::RawCtx;
use crate::errors::Error;
use crate::handler::Erased;
use crate::health::Metrics;
use crate::job_error::{Action, JobError, panicked};
use crate::mailbox::{Event, Mailbox};
use crate::payload::Payload;
use crate::session::{Start, Token};
use crate::telemetry::{Process, TraceMode};
use crate::types::CancelReason;

pub(crate) struct Runner {
    exact: HashMap<String, Erased>,
    /// Types that end in "*", without it; longest first.
    prefixes: Vec<(String, Erased)>,
    pub batches: HashMap<String, ErasedBatch>,
    /// Who has the results that were too many to come with a job.
    pub client: Option<Client>,
    pub classifiers: Vec<Classifier>,
    pub trace_mode: TraceMode,
    mailbox: Arc<Mailbox>,
    metrics: Arc<Metrics>,
}

impl Runner {
    pub fn new(handlers: Vec<(String, Erased)>, mailbox: Arc<Mailbox>, metrics: Arc<Metrics>) -> Self {
        let (mut exact, mut prefixes) = (HashMap::new(), Vec::new());
        for (r#type, handler) in handlers {
            match r#type.strip_suffix('*') {
                Some(prefix) => prefixes.push((prefix.to_owned(), handler)),
                None => drop(exact.insert(r#type, handler)),
            }
        }
        prefixes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        Self {
            exact,
            prefixes,
            batches: HashMap::new(),
            client: None,
            classifiers: Vec::new(),
            trace_mode: TraceMode::default(),
            mailbox,
            metrics,
        }
    }

    /// Starts handlers on the user's runtime. Several cross to it as one task, which spawns them there.
    pub fn start(self: &Arc<Self>, starts: Vec<Start>, user: &Handle) {
        let runner = self.clone();
        if let [_] = &starts[..] {
            user.spawn(async move {
                for start in starts {
                    runner.run(start).await;
                }
            });
        } else {
            user.spawn(async move {
                for start in starts {
                    let runner = runner.clone();
                    tokio::spawn(async move { runner.run(start).await });
                }
            });
        }
    }

    /// Starts a batch handler on the user's runtime.
    pub fn start_batch(self: &Arc<Self>, starts: Vec<Start>, user: &Handle) {
        let runner = self.clone();
        user.spawn(async move {
            let begun = Instant::now();
            for (token, outcome) in runner.execute_batch(starts).await {
                runner.mailbox.push(Event::Finished { token, outcome: outcome.map(Box::new), run: begun.elapsed() });
            }
        });
    }

    async fn run(&self, start: Start) {
        let begun = Instant::now();
        let token = start.token.clone();
        let outcome = self.execute(start).await;
        self.mailbox.push(Event::Finished { token, outcome: outcome.map(Box::new), run: begun.elapsed() });
    }

    /// Runs one job to its end; None = nothing is to be reported.
    pub async fn execute(&self, start: Start) -> Option<pb::Outcome> {
        let task = match pb::Task::decode(start.job.task.clone()) {
            Ok(task) => task,
            Err(error) => {
                let error = JobError::unprocessable(format!("the task cannot be decoded: {error}"));
                return Some(pb::Outcome { result: Some(error.into_result()), ..Default::default() });
            }
        };
        let (start, task) = match self.bound(start, task).await {
            Ok(bound) => bound,
            Err(error) => return Some(pb::Outcome { result: Some(error.into_result()), ..Default::default() }),
        };
        let (name, handler) = self.find(&task.r#type).unzip();
        let ctx = RawCtx::new(start, task, self.mailbox.clone());
        let process = Process::start(&ctx, self.trace_mode);
        let ended = match handler {
            None => Err(JobError::release(format!("no handler for {}", ctx.job_type()))),
            Some(handler) => {
                // The call itself may panic as well, so it happens inside.
                let call = async { handler(ctx.clone()).await };
                let job = AssertUnwindSafe(ctx.clone().scope(call));
                process.run(job.catch_unwind()).await.unwrap_or_else(|panic| Err(panicked(&*panic)))
            }
        };
        let outcome = outcome(&ctx, ended.map_err(|error| error.classified(&self.classifiers)));
        let word = outcome.as_ref().map_or("dropped", word);
        process.end(outcome.as_ref(), word);
        self.metrics.ended(name.as_deref().unwrap_or("?"), word);
        outcome
    }

    /// The job with the results of other nodes where its header says.
    async fn bound(&self, mut start: Start, mut task: pb::Task) -> Result<(Start, pb::Task), JobError> {
        if start.job.dependencies_truncated
            && let Some(client) = &self.client
        {
            start.job.dependencies = dependencies(client, &task.id).await?;
            start.job.dependencies_truncated = false;
        }
        if let Some(header) = task.headers.get(bind::HEADER) {
            let payload = task.payload.take().map(Payload::from_proto).unwrap_or_default();
            let mut results = Vec::with_capacity(start.job.dependencies.len());
            for parent in &start.job.dependencies {
                let result = parent.result.clone().map(Payload::from_proto).unwrap_or_default();
                results.push((parent.alias.clone(), unprocessable(result.to())?));
            }
            let input = bind::bound(unprocessable(payload.to())?, header, &results);
            task.payload = Some(Payload::from(input.map_err(JobError::unprocessable)?).into_proto());
        }
        Ok((start, task))
    }

    /// Runs jobs of one type in one call, each to its own end.
    pub async fn execute_batch(&self, starts: Vec<Start>) -> Vec<(Token, Option<pb::Outcome>)> {
        let mut jobs = Vec::with_capacity(starts.len());
        let mut outcomes = Vec::with_capacity(starts.len());
        for start in starts {
            // The session has read it to know its type.
            let task = pb::Task::decode(start.job.task.clone()).unwrap_or_default();
            let token = start.token.clone();
            let (start, task) = match self.bound(start, task).await {
                Ok(bound) => bound,
                Err(error) => {
                    let result = Some(error.into_result());
                    outcomes.push((token, Some(pb::Outcome { result, ..Default::default() })));
                    continue;
                }
            };
            jobs.push(RawCtx::new(start, task, self.mailbox.clone()));
        }
        if jobs.is_empty() {
            return outcomes;
        }
        let name = jobs.first().map_or_else(String::new, |ctx| ctx.job_type().to_owned());
        let spans: Vec<_> = jobs.iter().map(|ctx| Process::start(ctx, self.trace_mode)).collect();
        let ends = match self.batches.get(&name) {
            Some(handler) => handler(jobs.clone()).await.each(|error| error.classified(&self.classifiers)),
            None => jobs.iter().map(|_| Err(JobError::release(format!("no handler for {name}")))).collect(),
        };
        for ((ctx, end), process) in jobs.into_iter().zip(ends).zip(spans) {
            let outcome = outcome(&ctx, end);
            let word = outcome.as_ref().map_or("dropped", word);
            process.end(outcome.as_ref(), word);
            self.metrics.ended(&name, word);
            outcomes.push((ctx.token().clone(), outcome));
        }
        outcomes
    }

    /// Whether there is a handler for a type.
    #[cfg(feature = "testing")]
    pub fn handles(&self, r#type: &str) -> bool {
        self.batches.contains_key(r#type) || self.find(r#type).is_some()
    }

    /// The handler of a type, and the name that it was registered by.
    fn find(&self, r#type: &str) -> Option<(String, Erased)> {
        if let Some(handler) = self.exact.get(r#type) {
            return Some((r#type.to_owned(), handler.clone()));
        }
        let found = self.prefixes.iter().find(|(prefix, _)| r#type.starts_with(prefix));
        found.map(|(prefix, handler)| (format!("{prefix}*"), handler.clone()))
    }
}

/// All the results that a job depends on.
async fn dependencies(client: &Client, job_id: &str) -> Result<Vec<pb::DependencyResult>, JobError> {
    let mut request = pb::ListDependencyResultsRequest { job_id: job_id.to_owned(), ..Default::default() };
    let mut all = Vec::new();
    loop {
        let answer: pb::ListDependencyResultsResponse =
            client.shared().idempotent("/jobwire.v1.WorkerService/ListDependencyResults", request.clone()).await?;
        all.extend(answer.results);
        if answer.next_page_token.is_empty() {
            return Ok(all);
        }
        request.page_token = answer.next_page_token;
    }
}

fn unprocessable<T>(read: Result<T, Error>) -> Result<T, JobError> {
    read.map_err(|error| JobError::unprocessable(error.to_string()))
}

/// An outcome in one word.
fn word(outcome: &pb::Outcome) -> &'static str {
    match &outcome.result {
        Some(pb::outcome::Result::Succeeded(_)) => "succeeded",
        Some(pb::outcome::Result::Failed(_)) => "failed",
        Some(pb::outcome::Result::Snoozed(_)) => "snoozed",
        Some(pb::outcome::Result::Released(_)) => "released",
        Some(pb::outcome::Result::Cancelled(_)) => "cancelled",
        None => "dropped",
    }
}

/// What to report; None = nothing, because the lease is lost.
fn outcome(ctx: &RawCtx, ended: Result<Payload, JobError>) -> Option<pb::Outcome> {
    let reason = ctx.cancel_reason();
    let result = match ended {
        _ if reason == Some(CancelReason::LeaseLost) => return None,
        Ok(result) => {
            let result = Some(result).filter(|result| !result.is_empty()).map(Payload::into_proto);
            pb::outcome::Result::Succeeded(pb::Succeeded { result })
        }
        Err(error) if *error.action() == Action::Cancelled => match reason {
            Some(CancelReason::Timeout) => timed_out(ctx.cancel_message()),
            Some(CancelReason::Shutdown) => JobError::release("worker is shutting down").into_result(),
            _ => JobError::cancelled().message(ctx.cancel_message()).into_result(),
        },
        Err(error) => error.into_result(),
    };
    let mut outcome = pb::Outcome { result: Some(result), ..Default::default() };
    ctx.complete(&mut outcome);
    Some(outcome)
}

/// `message` says which of its limits it ran past.
fn timed_out(message: &str) -> pb::outcome::Result {
    pb::outcome::Result::Failed(pb::Failed {
        failure: Some(pb::Failure {
            kind: pb::FailureKind::Timeout as i32,
            r#type: "Timeout".to_owned(),
            message: message.to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    })
}
