//! Handlers as tower services: what a layer wraps, and how a wrapped one is called.

use std::error::Error;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::BoxFuture;
use tower_layer::Layer;
use tower_service::Service;

use crate::context::RawCtx;
use crate::handler::Erased;
use crate::job_error::JobError;
use crate::payload::Payload;

/// A handler as a tower service: what [`WorkerBuilder::layer`](crate::WorkerBuilder::layer) gives a layer to wrap. Takes
/// the context of a job, gives its result. Always ready: how many run at once is the worker's concurrency.
#[derive(Clone)]
pub struct JobService(Erased);

impl Service<RawCtx> for JobService {
    type Response = Payload;
    type Error = JobError;
    type Future = BoxFuture<'static, Result<Payload, JobError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), JobError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, ctx: RawCtx) -> Self::Future {
        (self.0)(ctx)
    }
}

impl std::fmt::Debug for JobService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JobService").finish_non_exhaustive()
    }
}

/// Wraps a handler, once for all its jobs.
pub(crate) type Wrap = Box<dyn Fn(Erased) -> Erased + Send>;

pub(crate) fn wrap<L, S>(layer: L) -> Wrap
where
    L: Layer<JobService, Service = S> + Send + 'static,
    S: Service<RawCtx, Response = Payload, Future: Send> + Clone + Send + Sync + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
{
    Box::new(move |handler| erase(layer.layer(JobService(handler))))
}

/// A service as a handler. Each job gets a clone, which is awaited to be ready.
pub(crate) fn erase<S>(service: S) -> Erased
where
    S: Service<RawCtx, Response = Payload, Future: Send> + Clone + Send + Sync + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
{
    Arc::new(move |ctx| {
        let mut service = service.clone();
        async move {
            let ready = std::future::poll_fn(|context| service.poll_ready(context)).await;
            ready.map_err(JobError::boxed)?;
            service.call(ctx).await.map_err(JobError::boxed)
        }
        .boxed()
    })
}
