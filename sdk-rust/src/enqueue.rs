//! The builders that `client.enqueue(…)` and `client.enqueue_many(…)` give: options, then `.await`.

use std::future::IntoFuture;
use std::marker::PhantomData;

use futures::FutureExt;
use futures::future::BoxFuture;
use jobwire_proto::v1 as pb;
use uuid::Uuid;

use crate::client::{Client, encoded};
use crate::coalesce::{BYTES_MAX, JOBS_MAX};
use crate::errors::Error;
use crate::job::Job;
use crate::options::{Options, option_setters};
use crate::payload::Payload;
use crate::types::EnqueueStatus;

/// A job about to be enqueued. Await it.
#[must_use = "nothing is enqueued until this is awaited"]
#[derive(Debug)]
pub struct Enqueue<O> {
    client: Client,
    options: Options,
    payload: Result<Payload, Error>,
    output: PhantomData<fn() -> O>,
}

impl<O> Enqueue<O> {
    option_setters!(options);

    /// Proposes the job's id, a UUID. Default: a fresh UUIDv7. The server marks it with the job's place; the id of the
    /// returned [`Job`] is the one to use.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.options.spec.id = id.into();
        self
    }

    /// Replaces all options, the task's own included.
    pub fn options(mut self, options: Options) -> Self {
        let r#type = std::mem::take(&mut self.options.spec.r#type);
        self.options = options;
        self.options.spec.r#type = r#type;
        self
    }

    pub(crate) fn new(client: Client, r#type: String, mut options: Options, payload: Result<Payload, Error>) -> Self {
        options.spec.r#type = r#type;
        Self { client, options, payload, output: PhantomData }
    }

    async fn send(self) -> Result<Job<O>, Error> {
        let mut spec = *self.options.spec;
        spec.payload = Some(self.payload?.into_proto());
        if spec.id.is_empty() {
            spec.id = Uuid::now_v7().to_string();
        }
        let result = self.client.shared().enqueue(&spec).await?;
        Ok(job(self.client, result))
    }
}

impl<O: 'static> IntoFuture for Enqueue<O> {
    type Output = Result<Job<O>, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        self.send().boxed()
    }
}

/// Many jobs about to be enqueued. Await it for one answer per item.
#[must_use = "nothing is enqueued until this is awaited"]
#[derive(Debug)]
pub struct EnqueueMany<O> {
    client: Client,
    options: Options,
    payloads: Vec<Result<Payload, Error>>,
    output: PhantomData<fn() -> O>,
}

impl<O> EnqueueMany<O> {
    option_setters!(options);

    pub(crate) fn new(
        client: Client,
        r#type: String,
        mut options: Options,
        payloads: Vec<Result<Payload, Error>>,
    ) -> Self {
        options.spec.r#type = r#type;
        Self { client, options, payloads, output: PhantomData }
    }

    async fn send(self) -> Vec<Result<Job<O>, Error>> {
        let count = self.payloads.len();
        let mut answers: Vec<Option<Result<Job<O>, Error>>> = (0..count).map(|_| None).collect();
        let mut spec: pb::JobSpec = *self.options.spec;
        let (mut batch, mut places, mut bytes) = (Vec::new(), Vec::new(), 0);
        for (place, payload) in self.payloads.into_iter().enumerate() {
            let job = payload.and_then(|payload| {
                spec.payload = Some(payload.into_proto());
                spec.id = Uuid::now_v7().to_string();
                encoded(&spec)
            });
            match job {
                Ok(job) => {
                    bytes += job.len();
                    batch.push(job);
                    places.push(place);
                }
                Err(error) => answers[place] = Some(Err(error)),
            }
            if !batch.is_empty() && (batch.len() >= JOBS_MAX || bytes >= BYTES_MAX || place + 1 == count) {
                let results = self.client.shared().enqueue_many(std::mem::take(&mut batch)).await;
                for (place, result) in places.drain(..).zip(results) {
                    let result = result.map(|result| job_of(&self.client, result)).map_err(Error::from);
                    answers[place] = Some(result);
                }
                bytes = 0;
            }
        }
        answers.into_iter().flatten().collect()
    }
}

impl<O: 'static> IntoFuture for EnqueueMany<O> {
    type Output = Vec<Result<Job<O>, Error>>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        self.send().boxed()
    }
}

fn job_of<O>(client: &Client, result: pb::EnqueueResult) -> Job<O> {
    job(client.clone(), result)
}

fn job<O>(client: Client, result: pb::EnqueueResult) -> Job<O> {
    let status = Some(EnqueueStatus::from_proto(result.status));
    Job { client, id: result.job_id, status, output: PhantomData }
}
