//! Handlers: functions of a context and, optionally, of the worker's states. Everything is resolved once, before the
//! first job: per job there is a call and a boxed future.

use std::any::{Any, TypeId, type_name};
use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::batch::{Batch, BatchHandler, BatchOutput};
use crate::context::{Ctx, RawCtx};
use crate::errors::Error;
use crate::job_error::JobError;
use crate::payload::Payload;
use crate::task::Task;
use crate::telemetry::Current;

/// A handler without its types.
pub(crate) type Erased = Arc<dyn Fn(RawCtx) -> BoxFuture<'static, Result<Payload, JobError>> + Send + Sync>;

/// Makes a handler once all states are known.
pub(crate) type Prepare = Box<dyn FnOnce(&States) -> Result<Erased, Error> + Send>;

/// A value shared with every handler that asks for it: `async fn handler(ctx: Ctx<SendMail>, State(db): State<Db>)`.
///
/// Cloned for each job: use an `Arc`, a pool or a client.
#[derive(Debug, Clone)]
pub struct State<S>(pub S);

/// Values given by [`WorkerBuilder::state`](crate::WorkerBuilder::state), one per type.
#[derive(Default)]
pub struct States(HashMap<TypeId, Box<dyn Any + Send + Sync>>);

impl States {
    pub(crate) fn insert<S: Send + Sync + 'static>(&mut self, state: S) {
        self.0.insert(TypeId::of::<S>(), Box::new(state));
    }

    fn get<S: Clone + 'static>(&self) -> Result<State<S>, Error> {
        let state = self.0.get(&TypeId::of::<S>()).and_then(|state| state.downcast_ref::<S>()).cloned();
        state.map(State).ok_or_else(|| {
            let name = type_name::<S>();
            Error::Config(format!("a handler asks for State<{name}>, but the worker was given none: add .state(…)"))
        })
    }
}

/// What a handler asks for besides its context: up to three [`State`]s.
pub trait Args: Clone + Send + Sync + Sized + 'static {
    #[doc(hidden)]
    fn from_states(states: &States) -> Result<Self, Error>;
}

/// An async function of a [`Ctx`] and up to three [`State`]s that gives the task's output or a [`JobError`].
pub trait Handler<T: Task, A: Args>: Send + Sync + 'static {
    #[doc(hidden)]
    fn call(&self, ctx: Ctx<T>, args: A) -> impl Future<Output = Result<T::Output, JobError>> + Send + 'static;
}

/// The same as [`Handler`], but not async: for work that blocks or computes. Runs on a thread of its own.
pub trait BlockingHandler<T: Task, A: Args>: Send + Sync + 'static {
    #[doc(hidden)]
    fn call(&self, ctx: Ctx<T>, args: A) -> Result<T::Output, JobError>;
}

macro_rules! arities {
    ($(($($state:ident),*))*) => {$(
        #[allow(non_snake_case, unused_variables)]
        impl<$($state: Clone + Send + Sync + 'static),*> Args for ($(State<$state>,)*) {
            fn from_states(states: &States) -> Result<Self, Error> {
                Ok(($(states.get::<$state>()?,)*))
            }
        }

        #[allow(non_snake_case)]
        impl<T: Task, F, Fut, $($state: Clone + Send + Sync + 'static),*> Handler<T, ($(State<$state>,)*)> for F
        where
            F: Fn(Ctx<T>, $(State<$state>),*) -> Fut + Send + Sync + 'static,
            Fut: Future<Output = Result<T::Output, JobError>> + Send + 'static,
        {
            fn call(
                &self,
                ctx: Ctx<T>,
                ($($state,)*): ($(State<$state>,)*),
            ) -> impl Future<Output = Result<T::Output, JobError>> + Send + 'static {
                self(ctx, $($state),*)
            }
        }

        #[allow(non_snake_case)]
        impl<T: Task, R, F, Fut, $($state: Clone + Send + Sync + 'static),*> BatchHandler<T, ($(State<$state>,)*)> for F
        where
            R: BatchOutput<T>,
            F: Fn(Batch<T>, $(State<$state>),*) -> Fut + Send + Sync + 'static,
            Fut: Future<Output = Result<R, JobError>> + Send + 'static,
        {
            fn call(
                &self,
                batch: Batch<T>,
                ($($state,)*): ($(State<$state>,)*),
            ) -> impl Future<Output = Result<Option<Vec<T::Output>>, JobError>> + Send + 'static {
                let ended = self(batch, $($state),*);
                async move { Ok(ended.await?.results()) }
            }
        }

        #[allow(non_snake_case)]
        impl<T: Task, F, $($state: Clone + Send + Sync + 'static),*> BlockingHandler<T, ($(State<$state>,)*)> for F
        where
            F: Fn(Ctx<T>, $(State<$state>),*) -> Result<T::Output, JobError> + Send + Sync + 'static,
        {
            fn call(&self, ctx: Ctx<T>, ($($state,)*): ($(State<$state>,)*)) -> Result<T::Output, JobError> {
                self(ctx, $($state),*)
            }
        }
    )*};
}

arities! { () (S1) (S1, S2) (S1, S2, S3) }

pub(crate) fn prepare<T: Task, A: Args>(handler: impl Handler<T, A>) -> Prepare {
    let handler = Arc::new(handler);
    Box::new(move |states| {
        let args = A::from_states(states)?;
        Ok(Arc::new(move |raw| {
            let (handler, args) = (handler.clone(), args.clone());
            async move { written(handler.call(Ctx::read(raw)?, args).await?) }.boxed()
        }))
    })
}

pub(crate) fn prepare_blocking<T: Task, A: Args>(handler: impl BlockingHandler<T, A>) -> Prepare {
    let handler = Arc::new(handler);
    Box::new(move |states| {
        let args = A::from_states(states)?;
        Ok(Arc::new(move |raw| {
            let (handler, args) = (handler.clone(), args.clone());
            async move {
                let ctx = Ctx::read(raw.clone())?;
                let current = Current::get();
                let run = move || current.scope(|| raw.sync_scope(|| handler.call(ctx, args)));
                match tokio::task::spawn_blocking(run).await {
                    Ok(output) => written(output?),
                    Err(error) => match error.try_into_panic() {
                        Ok(panic) => std::panic::resume_unwind(panic),
                        Err(_) => Err(JobError::release("the runtime shut down")),
                    },
                }
            }
            .boxed()
        }))
    })
}

pub(crate) fn prepare_raw<F, Fut>(handler: F) -> Prepare
where
    F: Fn(RawCtx) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Payload, JobError>> + Send + 'static,
{
    Box::new(move |_| Ok(Arc::new(move |raw| handler(raw).boxed())))
}

pub(crate) fn written<O: serde::Serialize>(output: O) -> Result<Payload, JobError> {
    Payload::json(&output).map_err(|error| JobError::unprocessable(format!("the result is no JSON: {error}")))
}
