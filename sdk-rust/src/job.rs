//! The handle of a job.

use std::collections::VecDeque;
use std::future::IntoFuture;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use jobwire_proto::v1 as pb;
use serde::de::DeserializeOwned;

use crate::backoff::Backoff;
use crate::client::Client;
use crate::convert::to_duration;
use crate::errors::{Code, Error, RpcError};
use crate::payload::Payload;
use crate::transport::Incoming;
use crate::types::{EnqueueStatus, Explanation, Failure, FailureKind, JobEvent, JobInfo, JobState, LogLine, Progress};

/// A job, known by its id, whose result is an `O`. Cheap to clone.
pub struct Job<O> {
    pub(crate) client: Client,
    pub(crate) id: String,
    pub(crate) status: Option<EnqueueStatus>,
    pub(crate) output: PhantomData<fn() -> O>,
}

impl<O> std::fmt::Debug for Job<O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job").field("id", &self.id).field("enqueue_status", &self.status).finish_non_exhaustive()
    }
}

impl<O> Clone for Job<O> {
    fn clone(&self) -> Self {
        Self { client: self.client.clone(), id: self.id.clone(), status: self.status, output: PhantomData }
    }
}

impl<O> Job<O> {
    /// The id, as the server knows it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What the enqueue did: a new job, or one that was there before. None for a handle made from an id.
    pub fn enqueue_status(&self) -> Option<EnqueueStatus> {
        self.status
    }

    /// The same job, its result read as something else.
    pub fn typed<P>(self) -> Job<P> {
        Job { client: self.client, id: self.id, status: self.status, output: PhantomData }
    }

    /// The record now, with payload and result. Needs the scope `read`.
    pub async fn status(&self) -> Result<JobInfo, Error> {
        let request = pb::GetJobRequest {
            id: self.id.clone(),
            view: pb::JobView::Full as i32,
            payload_format: pb::PayloadFormat::Raw as i32,
        };
        let answer: pb::GetJobResponse =
            self.client.shared().idempotent("/jobwire.v1.JobService/GetJob", request).await?;
        Ok(JobInfo::from_proto(answer.job.unwrap_or_default()))
    }

    /// Why the job is not running, for people. Needs the scope `read`.
    pub async fn explain(&self) -> Result<Explanation, Error> {
        let request = pb::ExplainJobRequest { id: self.id.clone() };
        let answer: pb::ExplainJobResponse =
            self.client.shared().idempotent("/jobwire.v1.JobService/ExplainJob", request).await?;
        Ok(Explanation {
            state: JobState::from_proto(answer.state),
            summary: answer.summary,
            reasons: answer.reasons.into_iter().map(|reason| reason.message).collect(),
        })
    }

    /// Asks for the job to be cancelled: a waiting one at once, a running one through its worker. `grace` = how long its
    /// handler may take; None = as long as it takes, zero = now. Needs the scope `admin`.
    pub async fn cancel(&self, reason: impl Into<String>, grace: impl Into<Option<Duration>>) -> Result<(), Error> {
        let request = pb::CancelJobsRequest {
            selector: Some(self.selector()),
            reason: reason.into(),
            grace: grace.into().map(to_duration),
            ..Default::default()
        };
        let answer: pb::CancelJobsResponse =
            self.client.shared().idempotent("/jobwire.v1.JobService/CancelJobs", request).await?;
        self.affected(answer.result)
    }

    /// Runs the job again, now: a terminal one starts over, a waiting one stops waiting. Needs the scope `admin`.
    pub async fn retry(&self) -> Result<(), Error> {
        let request = pb::RetryJobsRequest { selector: Some(self.selector()), ..Default::default() };
        let answer: pb::RetryJobsResponse =
            self.client.shared().once("/jobwire.v1.JobService/RetryJobs", request).await?;
        self.affected(answer.result)
    }

    /// What happens to the job, from now to its end: the record now, then changes, progress and log lines (all that are
    /// kept, then new ones). Goes on after a broken connection. Ends after the terminal state, or after an error. Needs
    /// the scope `read`.
    pub fn events(&self) -> BoxStream<'static, Result<JobEvent, Error>> {
        let watch = Watch {
            client: self.client.clone(),
            id: self.id.clone(),
            answers: None,
            events: VecDeque::new(),
            last_line: 0,
            over: false,
        };
        futures::stream::unfold(watch, |mut watch| async move { watch.next().await.map(|event| (event, watch)) })
            .boxed()
    }

    fn selector(&self) -> pb::Selector {
        pb::Selector { ids: vec![self.id.clone()], filter: String::new() }
    }

    fn affected(&self, result: Option<pb::BulkResult>) -> Result<(), Error> {
        let result = result.unwrap_or_default();
        if let Some(error) = result.errors.into_iter().find_map(|error| error.error) {
            return Err(RpcError::from_item(error).into());
        }
        if result.matched_count == 0 {
            let mut error = RpcError::local(Code::NotFound, format!("there is no job {}", self.id));
            error.reason = "JOB_NOT_FOUND".to_owned();
            return Err(error.into());
        }
        Ok(())
    }
}

impl<O: DeserializeOwned + 'static> Job<O> {
    /// Waits for the job's end; await it for the result, or for why there is none: [`Error::JobFailed`],
    /// [`Error::JobCancelled`], [`Error::JobExpired`]. Waits for ever unless told otherwise; all waits of a process
    /// share one stream. Needs the scope `enqueue` only.
    pub fn result(&self) -> JobResult<O> {
        JobResult { job: self.clone(), timeout: None }
    }
}

/// A result about to be awaited.
#[must_use = "nothing is awaited until this is"]
#[derive(Debug)]
pub struct JobResult<O> {
    job: Job<O>,
    timeout: Option<Duration>,
}

impl<O: DeserializeOwned + 'static> JobResult<O> {
    /// Gives up with [`Error::Timeout`] after this long; the job goes on.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    async fn get(self) -> Result<O, Error> {
        let waiting = self.job.client.shared().results.wait(&self.job.id);
        let result = match self.timeout {
            None => waiting.await?,
            Some(timeout) => tokio::time::timeout(timeout, waiting)
                .await
                .map_err(|_| Error::Timeout { what: format!("the result of job {}", self.job.id), after: timeout })??,
        };
        read(result)
    }
}

impl<O: DeserializeOwned + 'static> IntoFuture for JobResult<O> {
    type Output = Result<O, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        self.get().boxed()
    }
}

fn read<O: DeserializeOwned>(result: pb::JobResult) -> Result<O, Error> {
    let failure = result.failure.map(Failure::from_proto);
    let message = |failure: Option<Failure>| failure.map(|failure| failure.message).unwrap_or_default();
    let (job_id, state) = (result.job_id, JobState::from_proto(result.state));
    match state {
        JobState::Succeeded => {
            let payload = result.result.map(Payload::from_proto).unwrap_or_default();
            payload.to().map_err(|error| match error {
                Error::Codec { message, .. } => Error::Codec { what: format!("result of job {job_id}"), message },
                error => error,
            })
        }
        JobState::Cancelled => Err(Error::JobCancelled { job_id, message: message(failure) }),
        JobState::Expired => Err(Error::JobExpired { job_id, message: message(failure) }),
        _ => Err(Error::JobFailed {
            job_id,
            state,
            failure: Box::new(failure.unwrap_or(Failure {
                kind: FailureKind::Unknown,
                r#type: String::new(),
                message: format!("the job is {state}"),
                stack_trace: String::new(),
                details: None,
                cause: None,
            })),
        }),
    }
}

/// WatchJob, resumed when it breaks.
struct Watch {
    client: Client,
    id: String,
    answers: Option<Incoming<pb::WatchJobResponse>>,
    events: VecDeque<JobEvent>,
    /// Index of the last log line seen.
    last_line: i64,
    over: bool,
}

impl Watch {
    async fn next(&mut self) -> Option<Result<JobEvent, Error>> {
        let (mut backoff, mut deadline) = (Backoff::streams(), self.client.shared().deadline());
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(Ok(event));
            }
            if self.over {
                return None;
            }
            let error = match self.step().await {
                Ok(true) => {
                    (backoff, deadline) = (Backoff::streams(), self.client.shared().deadline());
                    continue;
                }
                Ok(false) => Box::new(RpcError::local(Code::Unavailable, "the server ended the stream")),
                Err(error) => error,
            };
            self.answers = None;
            if let Err(error) = backoff.pause(error, deadline.max(Instant::now())).await {
                self.over = true;
                return Some(Err(error.into()));
            }
        }
    }

    /// Reads one message; false = the stream ended.
    async fn step(&mut self) -> Result<bool, Box<RpcError>> {
        if self.answers.is_none() {
            let request = pb::WatchJobRequest {
                id: self.id.clone(),
                logs_after: Some(self.last_line),
                payload_format: pb::PayloadFormat::Raw as i32,
            };
            let path = "/jobwire.v1.JobService/WatchJob";
            self.answers = Some(self.client.shared().transport.server_stream(path, request).await?);
        }
        let Some(answers) = &mut self.answers else { return Ok(false) };
        let Some(answer) = answers.next().await.transpose()? else { return Ok(false) };
        for line in answer.lines {
            self.last_line = self.last_line.max(line.index);
            self.events.push_back(JobEvent::Log(LogLine::from_proto(line)));
        }
        if let Some(progress) = answer.progress {
            self.events.push_back(JobEvent::Progress(Progress::from_proto(progress)));
        }
        if let Some(job) = answer.job {
            let job = JobInfo::from_proto(job);
            self.over = job.state.is_terminal();
            self.events.push_back(JobEvent::State(Box::new(job)));
        }
        Ok(true)
    }
}
