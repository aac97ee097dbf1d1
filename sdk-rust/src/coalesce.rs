//! Concurrent enqueue calls travel together. With nothing in flight a call leaves at once; calls that come meanwhile
//! gather, and leave as one EnqueueMany when it returns, or beside it once 1,000 jobs or 1 MiB are gathered. No timer.
//!
//! Jobs are encoded once, by their callers, and spliced into whatever request carries them.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use jobwire_proto::v1 as pb;
use tokio::sync::oneshot;

use crate::errors::{Code, RpcError};
use crate::transport::{RpcResult, Transport};

pub(crate) const JOBS_MAX: usize = 1_000;
pub(crate) const BYTES_MAX: usize = 1 << 20;

/// `EnqueueRequest` with its job already encoded.
#[derive(Clone, PartialEq, prost::Message)]
struct EnqueueOne {
    #[prost(bytes = "bytes", tag = "1")]
    job: Bytes,
}

/// `EnqueueManyRequest` with its jobs already encoded.
#[derive(Clone, PartialEq, prost::Message)]
struct EnqueueBatch {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    jobs: Vec<Bytes>,
}

#[derive(Debug)]
pub(crate) struct Coalescer {
    transport: Arc<Transport>,
    gathered: Mutex<Gathered>,
}

#[derive(Debug, Default)]
struct Gathered {
    /// Calls on their way.
    in_flight: usize,
    waiting: Batch,
}

#[derive(Debug, Default)]
struct Batch {
    jobs: Vec<Bytes>,
    answers: Vec<oneshot::Sender<RpcResult<pb::EnqueueResult>>>,
    bytes: usize,
    /// The longest of its callers' deadlines.
    deadline: Option<Instant>,
}

impl Coalescer {
    pub fn new(transport: Arc<Transport>) -> Self {
        Self { transport, gathered: Mutex::default() }
    }

    /// Enqueues one encoded job, alone or in company. An item's own refusal is an error here. A caller that gives up
    /// ends nothing but its own wait.
    pub async fn enqueue(self: &Arc<Self>, job: Bytes, deadline: Instant) -> RpcResult<pb::EnqueueResult> {
        if self.transport.is_local() {
            // A handler that runs inside this call may enqueue as well: it must not wait for it.
            return one(&self.transport, job, deadline).await;
        }
        let answer = {
            let mut gathered = self.gathered.lock().expect("no holder panics");
            if gathered.in_flight == 0 {
                gathered.in_flight = 1;
                None
            } else {
                let (sender, answer) = oneshot::channel();
                let waiting = &mut gathered.waiting;
                waiting.bytes += job.len();
                waiting.jobs.push(job.clone());
                waiting.answers.push(sender);
                waiting.deadline = waiting.deadline.max(Some(deadline));
                if waiting.jobs.len() >= JOBS_MAX || waiting.bytes >= BYTES_MAX {
                    let batch = std::mem::take(waiting);
                    gathered.in_flight += 1;
                    tokio::spawn(self.clone().carry(batch));
                }
                Some(answer)
            }
        };
        let Some(answer) = answer else {
            let _next = Next(self);
            // Boxed, so that the many that travel in company do not carry the room for it.
            return Box::pin(one(&self.transport, job, deadline)).await;
        };
        answer.await.unwrap_or_else(|_| {
            Err(Box::new(RpcError::local(Code::Unavailable, "the runtime that carried the call has ended")))
        })
    }

    /// Sends a batch, then whatever has gathered meanwhile, until nothing has.
    async fn carry(self: Arc<Self>, mut batch: Batch) {
        loop {
            self.send(batch).await;
            // The callers that were just answered may have more: they go into the next batch, not after it.
            tokio::task::yield_now().await;
            let mut gathered = self.gathered.lock().expect("no holder panics");
            if gathered.waiting.jobs.is_empty() {
                gathered.in_flight -= 1;
                return;
            }
            batch = std::mem::take(&mut gathered.waiting);
        }
    }

    async fn send(&self, batch: Batch) {
        let deadline = batch.deadline.unwrap_or_else(Instant::now);
        match many(&self.transport, batch.jobs, deadline).await {
            Ok(results) => {
                for (answer, result) in batch.answers.into_iter().zip(results) {
                    let _ = answer.send(result);
                }
            }
            Err(error) => {
                for answer in batch.answers {
                    let _ = answer.send(Err(error.clone()));
                }
            }
        }
    }
}

/// When the call that left alone is back, or given up, the gathered ones leave.
struct Next<'a>(&'a Arc<Coalescer>);

impl Drop for Next<'_> {
    fn drop(&mut self) {
        let mut gathered = self.0.gathered.lock().expect("no holder panics");
        let batch = std::mem::take(&mut gathered.waiting);
        if batch.jobs.is_empty() {
            gathered.in_flight -= 1;
        } else if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(self.0.clone().carry(batch));
        } else {
            gathered.in_flight -= 1; // dropped outside of any runtime: the waiting ones are told, and try again
        }
    }
}

async fn one(transport: &Transport, job: Bytes, deadline: Instant) -> RpcResult<pb::EnqueueResult> {
    let timeout = deadline.saturating_duration_since(Instant::now());
    let path = "/jobwire.v1.JobService/Enqueue";
    let answer: pb::EnqueueResponse = transport.unary(path, EnqueueOne { job }, timeout).await?;
    Ok(pb::EnqueueResult {
        job_id: answer.job_id,
        status: answer.status,
        state: answer.state,
        schedule_time: answer.schedule_time,
        error: None,
    })
}

/// One EnqueueMany; the outer error is the call's, the inner ones are the items'.
pub(crate) async fn many(
    transport: &Transport,
    jobs: Vec<Bytes>,
    deadline: Instant,
) -> RpcResult<Vec<RpcResult<pb::EnqueueResult>>> {
    let count = jobs.len();
    let timeout = deadline.saturating_duration_since(Instant::now());
    let path = "/jobwire.v1.JobService/EnqueueMany";
    let answer: pb::EnqueueManyResponse = transport.unary(path, EnqueueBatch { jobs }, timeout).await?;
    if answer.results.len() != count {
        let message = format!("{} results for {count} jobs", answer.results.len());
        return Err(Box::new(RpcError::local(Code::Internal, message)));
    }
    let result = |mut result: pb::EnqueueResult| match result.error.take() {
        Some(error) => Err(Box::new(RpcError::from_item(error))),
        None => Ok(result),
    };
    Ok(answer.results.into_iter().map(result).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    #[test]
    fn spliced_requests_are_the_contracts_own() {
        let spec = |n: i32| pb::JobSpec { id: n.to_string(), r#type: "t".into(), priority: n, ..Default::default() };
        let encoded: Vec<Bytes> = (1..=2).map(|n| spec(n).encode_to_vec().into()).collect();
        let one = EnqueueOne { job: encoded[0].clone() }.encode_to_vec();
        assert_eq!(pb::EnqueueRequest::decode(&*one).expect("a request").job, Some(spec(1)));
        let batch = EnqueueBatch { jobs: encoded }.encode_to_vec();
        assert_eq!(pb::EnqueueManyRequest::decode(&*batch).expect("a request").jobs, [spec(1), spec(2)]);
    }
}
