//! The builders that `client.enqueue(…)`, `client.run(…)` and `client.enqueue_many(…)` give: options, then `.await`.

use std::future::IntoFuture;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use jobwire_proto::v1 as pb;
use serde::de::DeserializeOwned;

use crate::client::Client;
use crate::coalesce::{BYTES_MAX, JOBS_MAX};
use crate::draft::Draft;
use crate::errors::Error;
use crate::job::Job;
use crate::options::{Options, option_setters};
use crate::telemetry::{Sending, hand_on_current};
use crate::types::EnqueueStatus;

/// A job about to be enqueued. Await it.
#[must_use = "nothing is enqueued until this is awaited"]
#[derive(Debug)]
pub struct Enqueue<O> {
    client: Client,
    draft: Draft,
    output: PhantomData<fn() -> O>,
}

impl<O> Enqueue<O> {
    option_setters!();

    /// Proposes the job's id, a UUID. Default: a fresh UUIDv7. The server marks it with the job's place; the id of the
    /// returned [`Job`] is the one to use.
    pub fn id(self, id: impl Into<String>) -> Self {
        let id = id.into();
        self.edit(|options| options.spec.id.clone_from(&id))
    }

    /// Replaces all options, the task's own included.
    pub fn options(mut self, options: Options) -> Self {
        self.draft.replace_options(options);
        self
    }

    pub(crate) fn new(client: Client, draft: Draft) -> Self {
        Self { client, draft, output: PhantomData }
    }

    fn edit(mut self, change: impl Fn(&mut Options)) -> Self {
        change(&mut self.draft.options);
        self
    }

    async fn send(self) -> Result<Job<O>, Error> {
        let mut spec = self.draft.into_spec()?;
        let sending = Sending::one(&mut spec);
        hand_on_current(&mut spec);
        let result = self.client.shared().enqueue(&spec).await;
        sending.end(result.as_ref().map(|result| result.job_id.as_str()));
        Ok(job(self.client, result?))
    }
}

impl<O: 'static> IntoFuture for Enqueue<O> {
    type Output = Result<Job<O>, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        self.send().boxed()
    }
}

/// A job about to be enqueued and waited for. Await it for the output.
#[must_use = "nothing is enqueued until this is awaited"]
#[derive(Debug)]
pub struct Run<O> {
    enqueue: Enqueue<O>,
    wait: Option<Duration>,
}

impl<O> Run<O> {
    option_setters!();

    /// Gives up with [`Error::Timeout`] after this long, the enqueue included; the job goes on. Default: waits for ever.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = Some(wait);
        self
    }

    /// Proposes the job's id; see [`Enqueue::id`].
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.enqueue = self.enqueue.id(id);
        self
    }

    pub(crate) fn new(enqueue: Enqueue<O>) -> Self {
        Self { enqueue, wait: None }
    }

    fn edit(mut self, change: impl Fn(&mut Options)) -> Self {
        change(&mut self.enqueue.draft.options);
        self
    }
}

impl<O: DeserializeOwned + 'static> Run<O> {
    async fn send(self) -> Result<O, Error> {
        let Some(wait) = self.wait else { return self.enqueue.send().await?.result().await };
        let begun = Instant::now();
        let r#type = self.enqueue.draft.options.spec.r#type.clone();
        let late = |_| Error::Timeout { what: format!("the enqueue of {}", r#type), after: wait };
        let job = tokio::time::timeout(wait, self.enqueue.send()).await.map_err(late)??;
        job.result().timeout(wait.saturating_sub(begun.elapsed())).await
    }
}

impl<O: DeserializeOwned + 'static> IntoFuture for Run<O> {
    type Output = Result<O, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        self.send().boxed()
    }
}

/// Many jobs about to be enqueued. Await it for one answer per item. Options set here are those of every item.
#[must_use = "nothing is enqueued until this is awaited"]
#[derive(Debug)]
pub struct EnqueueMany<O> {
    client: Client,
    drafts: Vec<Draft>,
    output: PhantomData<fn() -> O>,
}

impl<O> EnqueueMany<O> {
    option_setters!();

    pub(crate) fn new(client: Client, drafts: Vec<Draft>) -> Self {
        Self { client, drafts, output: PhantomData }
    }

    fn edit(mut self, change: impl Fn(&mut Options)) -> Self {
        for draft in &mut self.drafts {
            change(&mut draft.options);
        }
        self
    }

    async fn send(mut self) -> Vec<Result<Job<O>, Error>> {
        let sending = Sending::many(self.drafts.iter_mut().map(|draft| &mut *draft.options.spec));
        self.drafts.iter_mut().for_each(|draft| hand_on_current(&mut draft.options.spec));
        let count = self.drafts.len();
        let mut answers: Vec<Option<Result<Job<O>, Error>>> = (0..count).map(|_| None).collect();
        let (mut batch, mut places, mut bytes) = (Vec::new(), Vec::new(), 0);
        for (place, draft) in self.drafts.into_iter().enumerate() {
            match draft.into_bytes() {
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
                    answers[place] = Some(result.map(|result| job(self.client.clone(), result)).map_err(Error::from));
                }
                bytes = 0;
            }
        }
        let answers: Vec<_> = answers.into_iter().flatten().collect();
        sending.end(answers.iter().find_map(|answer| answer.as_ref().err()).map_or(Ok(""), Err));
        answers
    }
}

impl<O: 'static> IntoFuture for EnqueueMany<O> {
    type Output = Vec<Result<Job<O>, Error>>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        self.send().boxed()
    }
}

fn job<O>(client: Client, result: pb::EnqueueResult) -> Job<O> {
    let status = Some(EnqueueStatus::from_proto(result.status));
    Job { client, id: result.job_id, status, output: PhantomData }
}
