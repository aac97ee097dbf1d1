//! The calls of the contract that a client makes, answered by the fake.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use jobwire_proto::v1 as pb;
use prost::Message;

use super::Shared;
use super::world::item_error;
use crate::errors::{Code, RpcError};
use crate::transport::{Incoming, Local, RpcResult};

impl Local for Shared {
    fn unary(self: Arc<Self>, path: &'static str, request: Bytes) -> BoxFuture<'static, RpcResult<Bytes>> {
        async move {
            match path.rsplit('/').next().unwrap_or_default() {
                "Enqueue" => {
                    let request: pb::EnqueueRequest = read(request)?;
                    let result = self.put(request.job.unwrap_or_default()).await?;
                    Ok(written(pb::EnqueueResponse {
                        job_id: result.job_id,
                        status: result.status,
                        state: result.state,
                        schedule_time: result.schedule_time,
                        ..Default::default()
                    }))
                }
                "EnqueueMany" => {
                    let mut results = Vec::new();
                    for spec in read::<pb::EnqueueManyRequest>(request)?.jobs {
                        results.push(self.put(spec).await.unwrap_or_else(|error| pb::EnqueueResult {
                            error: Some(item_error(*error)),
                            ..Default::default()
                        }));
                    }
                    Ok(written(pb::EnqueueManyResponse { results, ..Default::default() }))
                }
                "GetJob" => {
                    let id = read::<pb::GetJobRequest>(request)?.id;
                    let job = self.world().record(&id).ok_or_else(|| unknown(&id))?;
                    Ok(written(pb::GetJobResponse { job: Some(job) }))
                }
                "ExplainJob" => {
                    let id = read::<pb::ExplainJobRequest>(request)?.id;
                    let job = self.world().record(&id).ok_or_else(|| unknown(&id))?;
                    let state = crate::types::JobState::from_proto(job.state);
                    let summary = format!("{} in a fake, which runs jobs when a test says so.", state.name());
                    Ok(written(pb::ExplainJobResponse { state: job.state, summary, ..Default::default() }))
                }
                "CancelJobs" => {
                    let request: pb::CancelJobsRequest = read(request)?;
                    let ids = request.selector.unwrap_or_default().ids;
                    let found = ids.iter().filter(|id| self.world().cancel(id, &request.reason)).count();
                    self.changed();
                    Ok(written(pb::CancelJobsResponse { result: Some(affected(found)) }))
                }
                "RetryJobs" => {
                    let ids = read::<pb::RetryJobsRequest>(request)?.selector.unwrap_or_default().ids;
                    let found = ids.iter().filter(|id| self.world().retry(id)).count();
                    self.changed();
                    Ok(written(pb::RetryJobsResponse { result: Some(affected(found)) }))
                }
                _ => Err(absent(path)),
            }
        }
        .boxed()
    }

    fn stream(self: Arc<Self>, path: &'static str, requests: BoxStream<'static, Bytes>) -> Incoming<Bytes> {
        match path.rsplit('/').next().unwrap_or_default() {
            "AwaitResults" => self.await_results(requests),
            "EnqueueStream" => self.enqueue_stream(requests),
            "WatchJob" => self.watch_job(requests),
            _ => futures::stream::iter([Err(absent(path))]).boxed(),
        }
    }
}

impl Shared {
    async fn put(&self, spec: pb::JobSpec) -> RpcResult<pb::EnqueueResult> {
        let r#type = spec.r#type.clone();
        if self.inline && !self.handlers().is_some_and(|handlers| handlers.runner.handles(&r#type)) {
            let message = format!("inline() has no handler for {type:?}: give it one with .handlers(…)");
            return Err(Box::new(RpcError::local(Code::FailedPrecondition, message)));
        }
        let mut result = self.world().put(spec, None)?;
        self.changed();
        if self.inline && result.status() == pb::EnqueueStatus::Created {
            let mut open = vec![result.job_id.clone()];
            while let Some(id) = open.pop() {
                Box::pin(self.run(&id)).await;
                let world = self.world();
                open.extend(
                    world.jobs().filter(|job| job.parent_id == id && job.delivery == 0).map(|job| job.spec.id.clone()),
                );
            }
            result.state = self.world().get(&result.job_id).map_or(result.state, |job| job.state as i32);
        }
        Ok(result)
    }

    fn await_results(self: Arc<Self>, requests: BoxStream<'static, Bytes>) -> Incoming<Bytes> {
        let changes = self.changed.subscribe();
        let state = (self, requests, changes, Vec::<String>::new());
        futures::stream::unfold(state, |(shared, mut requests, mut changes, mut waiting)| async move {
            loop {
                let mut answer = pb::AwaitResultsResponse::default();
                {
                    let world = shared.world();
                    waiting.retain(|id| {
                        if world.get(id).is_none() {
                            answer.unknown_ids.push(id.clone());
                        }
                        answer.results.extend(world.result(id));
                        world.get(id).is_some_and(|job| !job.is_terminal())
                    });
                }
                if !answer.results.is_empty() || !answer.unknown_ids.is_empty() {
                    return Some((Ok(written(answer)), (shared, requests, changes, waiting)));
                }
                tokio::select! {
                    request = requests.next() => match read::<pb::AwaitResultsRequest>(request?) {
                        Ok(request) => {
                            waiting.extend(request.job_ids);
                            waiting.retain(|id| !request.forget_ids.contains(id));
                        }
                        Err(error) => return Some((Err(error), (shared, requests, changes, waiting))),
                    },
                    changed = changes.changed() => changed.ok()?,
                }
            }
        })
        .boxed()
    }

    fn enqueue_stream(self: Arc<Self>, requests: BoxStream<'static, Bytes>) -> Incoming<Bytes> {
        let greeting = written(pb::EnqueueStreamResponse { max_unacked: 64, ..Default::default() });
        let answers = requests.then(move |request| {
            let shared = self.clone();
            async move {
                let frame: pb::EnqueueStreamRequest = read(request)?;
                let mut answer = pb::EnqueueStreamResponse { acked_seq: frame.seq, ..Default::default() };
                for (index, spec) in (0..).zip(frame.jobs) {
                    let (id, error) = match shared.put(spec).await {
                        Ok(result) => (result.job_id, None),
                        Err(error) => (String::new(), Some(item_error(*error))),
                    };
                    answer.job_ids.push(id);
                    if error.is_some() {
                        answer.errors.push(pb::EnqueueStreamError { seq: frame.seq, index, error });
                    }
                }
                Ok(written(answer))
            }
        });
        futures::stream::iter([Ok(greeting)]).chain(answers).boxed()
    }

    fn watch_job(self: Arc<Self>, requests: BoxStream<'static, Bytes>) -> Incoming<Bytes> {
        let mut changes = self.changed.subscribe();
        changes.mark_changed();
        let first = pb::Job { state: -1, ..Default::default() };
        let watch = (self, requests, changes, None::<pb::WatchJobRequest>, first);
        futures::stream::unfold(watch, |(shared, mut requests, mut changes, mut asked, mut seen)| async move {
            if asked.is_none() {
                asked = Some(read(requests.next().await?).ok()?);
            }
            loop {
                changes.changed().await.ok()?;
                let request = asked.as_mut()?;
                let mut answer = pb::WatchJobResponse::default();
                let Some(job) = shared.world().record(&request.id) else {
                    let error = Err(unknown(&request.id));
                    return Some((error, (shared, requests, changes, asked, seen)));
                };
                if let Some(known) = shared.world().get(&request.id) {
                    let after = request.logs_after.unwrap_or(0).max(0) as usize;
                    answer.lines = known.lines.iter().skip(after).cloned().collect();
                    request.logs_after = Some(known.lines.len() as i64);
                }
                answer.progress = job.progress.clone().filter(|progress| seen.progress.as_ref() != Some(progress));
                if (job.state, job.delivery) != (seen.state, seen.delivery) {
                    answer.job = Some(job.clone());
                }
                seen = job;
                if answer != pb::WatchJobResponse::default() {
                    return Some((Ok(written(answer)), (shared, requests, changes, asked, seen)));
                }
            }
        })
        .boxed()
    }
}

fn read<M: Message + Default>(request: Bytes) -> RpcResult<M> {
    M::decode(request).map_err(|error| Box::new(RpcError::local(Code::Internal, error.to_string())))
}

fn written(answer: impl Message) -> Bytes {
    answer.encode_to_vec().into()
}

fn affected(count: usize) -> pb::BulkResult {
    let count = count as i64;
    pb::BulkResult { matched_count: count as _, affected_count: count as _, ..Default::default() }
}

fn unknown(id: &str) -> Box<RpcError> {
    let mut error = RpcError::local(Code::NotFound, format!("there is no job {id}"));
    error.reason = "JOB_NOT_FOUND".to_owned();
    Box::new(error)
}

fn absent(path: &str) -> Box<RpcError> {
    let message = format!("the fake does not answer {path}: use a real server, jobwire_server::testing");
    Box::new(RpcError::local(Code::Unimplemented, message))
}
