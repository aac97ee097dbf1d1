//! What a client does for producers: enqueue, wait, and the calls behind the handles of jobs.

use std::marker::PhantomData;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use jobwire_proto::v1 as pb;
use serde::Serialize;

use crate::backoff::Backoff;
use crate::client::{Client, Shared};
use crate::coalesce;
use crate::draft::{Draft, encoded};
use crate::enqueue::{Enqueue, EnqueueMany, Run};
use crate::enqueue_stream::EnqueueStream;
use crate::errors::{Code, Error};
use crate::job::Job;
use crate::options::Options;
use crate::payload::Payload;
use crate::task::Task;
use crate::transport::RpcResult;

/// Producing.
impl Client {
    /// Enqueues a task; await it for the [`Job`]. Options set here win over the task's own.
    ///
    /// ```no_run
    /// # use jobwire::prelude::*;
    /// # #[derive(Serialize, Deserialize)] struct SendMail { to: String }
    /// # impl Task for SendMail { const TYPE: &'static str = "email.send"; type Output = String; }
    /// # async fn example(client: Client) -> Result<(), Error> {
    /// let job = client.enqueue(SendMail { to: "ada@example.com".into() }).delay(mins(10)).priority(2).await?;
    /// let receipt: String = job.result().timeout(secs(20)).await?;
    /// # Ok(()) }
    /// ```
    pub fn enqueue<T: Task>(&self, task: T) -> Enqueue<T::Output> {
        Enqueue::new(self.clone(), Draft::task(&task))
    }

    /// Enqueues a task and waits for its output: a call across the queue. Await it; options and
    /// [`wait`](Run::wait) go before.
    ///
    /// ```no_run
    /// # use jobwire::prelude::*;
    /// # #[derive(Serialize, Deserialize)] struct Resize { path: String }
    /// # impl Task for Resize { const TYPE: &'static str = "img.resize"; type Output = String; }
    /// # async fn example(client: Client) -> Result<(), Error> {
    /// let path = client.run(Resize { path: "a.png".into() }).priority(4).wait(secs(20)).await?;
    /// # Ok(()) }
    /// ```
    pub fn run<T: Task>(&self, task: T) -> Run<T::Output> {
        Run::new(self.enqueue(task))
    }

    /// Enqueues a job of any type with any JSON: for generic producers. The result is read as JSON.
    pub fn enqueue_raw<P: Serialize + ?Sized>(
        &self,
        r#type: impl Into<String>,
        payload: &P,
    ) -> Enqueue<serde_json::Value> {
        Enqueue::new(self.clone(), Draft::new(r#type.into(), Options::new(), Payload::json(payload)))
    }

    /// Enqueues a job of any type with a payload of any form.
    pub fn enqueue_payload(&self, r#type: impl Into<String>, payload: Payload) -> Enqueue<serde_json::Value> {
        Enqueue::new(self.clone(), Draft::new(r#type.into(), Options::new(), Ok(payload)))
    }

    /// Enqueues many tasks; await it for one answer per item, in order. Each stands alone: a refused one does not hold
    /// back the others. Sent in order, up to 1,000 jobs or 1 MiB a request.
    pub fn enqueue_many<T: Task>(&self, tasks: impl IntoIterator<Item = T>) -> EnqueueMany<T::Output> {
        EnqueueMany::new(self.clone(), tasks.into_iter().map(|task| Draft::task(&task)).collect())
    }

    /// Enqueues many jobs of any type with any JSON; see [`enqueue_many`](Self::enqueue_many).
    pub fn enqueue_many_raw<P: Serialize>(
        &self,
        r#type: impl Into<String>,
        payloads: impl IntoIterator<Item = P>,
    ) -> EnqueueMany<serde_json::Value> {
        let r#type = r#type.into();
        let draft = |payload| Draft::new(r#type.clone(), Options::new(), Payload::json(&payload));
        EnqueueMany::new(self.clone(), payloads.into_iter().map(draft).collect())
    }

    /// Enqueues tasks as they come, for producers that never stop; gives one answer per task, in order. What is ready
    /// travels together, with as many requests on their way as the server lets (64); what a broken connection leaves
    /// unanswered is sent again with the same ids. A task that got no answer within the client's timeout is answered
    /// with the error, and later ones are tried afresh. The jobs' [`enqueue_status`](Job::enqueue_status) is not told.
    ///
    /// ```no_run
    /// # use jobwire::prelude::*;
    /// # use futures::{Stream, StreamExt};
    /// # #[derive(Serialize, Deserialize)] struct Index { url: String }
    /// # impl Task for Index { const TYPE: &'static str = "index"; type Output = (); }
    /// # async fn example(client: Client, urls: impl Stream<Item = String> + Send + 'static) -> Result<(), Error> {
    /// let mut jobs = client.enqueue_stream(urls.map(|url| Index { url })).priority(-1);
    /// while let Some(job) = jobs.next().await {
    ///     println!("{}", job?.id());
    /// }
    /// # Ok(()) }
    /// ```
    pub fn enqueue_stream<T: Task>(&self, tasks: impl Stream<Item = T> + Send + 'static) -> EnqueueStream<T::Output> {
        EnqueueStream::new(self.clone(), tasks.map(|task| Draft::task(&task)))
    }

    /// A handle of a job known by its id. Nothing is asked of the server. Its result is read as JSON; see
    /// [`Job::typed`].
    pub fn job(&self, id: impl Into<String>) -> Job<serde_json::Value> {
        Job { client: self.clone(), id: id.into(), status: None, output: PhantomData }
    }
}

impl Shared {
    /// Enqueues one job, in company if there is any; repeats with the same id while the server is unavailable.
    pub async fn enqueue(&self, spec: &pb::JobSpec) -> Result<pb::EnqueueResult, Error> {
        let job = encoded(spec)?;
        let deadline = self.deadline();
        let mut backoff = Backoff::calls();
        loop {
            match self.coalescer.enqueue(job.clone(), deadline).await {
                Ok(result) => return Ok(result),
                Err(error) => Box::pin(backoff.pause(error, deadline)).await?,
            }
        }
    }

    /// Enqueues many jobs; those that the server could not take for now are repeated with the same id.
    pub async fn enqueue_many(&self, jobs: Vec<Bytes>) -> Vec<RpcResult<pb::EnqueueResult>> {
        let mut results: Vec<Option<RpcResult<pb::EnqueueResult>>> = jobs.iter().map(|_| None).collect();
        let mut open: Vec<usize> = (0..jobs.len()).collect();
        let deadline = self.deadline();
        let mut backoff = Backoff::calls();
        while !open.is_empty() {
            let sent = open.iter().map(|&index| jobs[index].clone()).collect();
            let answers = match coalesce::many(&self.transport, sent, deadline).await {
                Ok(answers) => answers,
                Err(error) => open.iter().map(|_| Err(error.clone())).collect(),
            };
            let mut unavailable = None;
            for (index, answer) in std::mem::take(&mut open).into_iter().zip(answers) {
                if let Err(error) = &answer
                    && error.code == Code::Unavailable
                {
                    unavailable = Some(error.clone());
                    open.push(index);
                }
                results[index] = Some(answer);
            }
            if let Some(error) = unavailable
                && backoff.pause(error, deadline).await.is_err()
            {
                break;
            }
        }
        results.into_iter().flatten().collect()
    }
}
