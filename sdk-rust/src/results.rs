//! All the results that a process waits for, over one AwaitResults stream. It opens with the first wait, is opened again
//! when it breaks, and closes when nobody has waited for a while.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use jobwire_proto::v1 as pb;
use tokio::sync::{mpsc, oneshot};

use crate::backoff::Backoff;
use crate::errors::{Code, RpcError};
use crate::transport::{Incoming, RpcResult, Transport};

const PATH: &str = "/jobwire.v1.JobService/AwaitResults";
const IDS_MAX: usize = 1_000;
const IDLE: Duration = Duration::from_secs(30);

type Answer = RpcResult<pb::JobResult>;

#[derive(Debug)]
pub(crate) struct Results {
    transport: Arc<Transport>,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    waiting: HashMap<String, Vec<(u64, oneshot::Sender<Answer>)>>,
    tickets: u64,
    /// To the task that has the stream, while there is one.
    asks: Option<mpsc::UnboundedSender<Ask>>,
    /// Which task that is.
    owner: u64,
}

#[derive(Debug)]
enum Ask {
    Await(String),
    Forget(String),
}

impl Results {
    pub fn new(transport: Arc<Transport>) -> Self {
        Self { transport, table: Mutex::default() }
    }

    /// The result of a job, once it is terminal. Dropped, it is no longer waited for.
    pub async fn wait(self: &Arc<Self>, id: &str) -> Answer {
        loop {
            let (answer, _forget) = self.ask(id);
            // No answer: the runtime that had the stream has ended; ask again, on this one.
            if let Ok(answer) = answer.await {
                return answer;
            }
        }
    }

    fn ask(self: &Arc<Self>, id: &str) -> (oneshot::Receiver<Answer>, Forget) {
        let (sender, answer) = oneshot::channel();
        let mut table = self.table.lock().expect("no holder panics");
        table.tickets += 1;
        let ticket = table.tickets;
        let waiters = table.waiting.entry(id.to_owned()).or_default();
        waiters.push((ticket, sender));
        let first = waiters.len() == 1;
        match &table.asks {
            Some(asks) => {
                if first {
                    let _ = asks.send(Ask::Await(id.to_owned()));
                }
            }
            None => {
                let (asks, receiver) = mpsc::unbounded_channel();
                (table.asks, table.owner) = (Some(asks), ticket);
                tokio::spawn(Task { results: self.clone(), asks: receiver, owner: ticket }.run());
            }
        }
        (answer, Forget { results: self.clone(), id: id.to_owned(), ticket })
    }

    fn deliver(&self, id: &str, answer: Answer) {
        let waiters = self.table.lock().expect("no holder panics").waiting.remove(id).unwrap_or_default();
        for (_, waiter) in waiters {
            let _ = waiter.send(answer.clone());
        }
    }
}

/// Takes one waiter back.
struct Forget {
    results: Arc<Results>,
    id: String,
    ticket: u64,
}

impl Drop for Forget {
    fn drop(&mut self) {
        let mut table = self.results.table.lock().expect("no holder panics");
        let Some(waiters) = table.waiting.get_mut(&self.id) else { return };
        waiters.retain(|(ticket, _)| *ticket != self.ticket);
        if waiters.is_empty() {
            table.waiting.remove(&self.id);
            if let Some(asks) = &table.asks {
                let _ = asks.send(Ask::Forget(std::mem::take(&mut self.id)));
            }
        }
    }
}

/// Has the stream.
struct Task {
    results: Arc<Results>,
    asks: mpsc::UnboundedReceiver<Ask>,
    owner: u64,
}

impl Drop for Task {
    /// Also when its runtime ends: those who still wait are told, by dropping their senders.
    fn drop(&mut self) {
        let mut table = self.results.table.lock().expect("no holder panics");
        if table.owner == self.owner && table.asks.take().is_some() {
            table.waiting.clear();
        }
    }
}

impl Task {
    async fn run(mut self) {
        let mut backoff = Backoff::streams();
        loop {
            let (requests, queued) = mpsc::unbounded_channel();
            let waiting: Vec<String> =
                self.results.table.lock().expect("no holder panics").waiting.keys().cloned().collect();
            for ids in waiting.chunks(IDS_MAX) {
                let _ = requests.send(pb::AwaitResultsRequest { job_ids: ids.to_vec(), ..Default::default() });
            }
            let queued =
                futures::stream::unfold(queued, |mut queued| async { queued.recv().await.map(|q| (q, queued)) });
            let error = match self.results.transport.duplex(PATH, queued).await {
                Ok(answers) => match self.serve(answers, &requests, &mut backoff).await {
                    Some(error) => error,
                    None => return,
                },
                Err(error) => error,
            };
            if error.code != Code::Unavailable {
                let ids: Vec<String> =
                    self.results.table.lock().expect("no holder panics").waiting.keys().cloned().collect();
                for id in ids {
                    self.results.deliver(&id, Err(error.clone()));
                }
            }
            if self.is_idle() {
                return;
            }
            tokio::time::sleep(backoff.delay(&error)).await;
        }
    }

    /// Until the stream breaks; None = nobody waits any more.
    async fn serve(
        &mut self,
        mut answers: Incoming<pb::AwaitResultsResponse>,
        requests: &mpsc::UnboundedSender<pb::AwaitResultsRequest>,
        backoff: &mut Backoff,
    ) -> Option<Box<RpcError>> {
        let mut asked = Vec::new();
        loop {
            tokio::select! {
                answer = answers.next() => match answer {
                    Some(Ok(answer)) => {
                        *backoff = Backoff::streams();
                        for result in answer.results {
                            let id = result.job_id.clone();
                            self.results.deliver(&id, Ok(result));
                        }
                        for id in answer.unknown_ids {
                            let mut error = RpcError::local(Code::NotFound, format!("there is no job {id}"));
                            error.reason = "JOB_NOT_FOUND".to_owned();
                            self.results.deliver(&id, Err(Box::new(error)));
                        }
                    }
                    Some(Err(error)) => return Some(error),
                    None => return Some(Box::new(RpcError::local(Code::Unavailable, "the server ended the stream"))),
                },
                count = self.asks.recv_many(&mut asked, IDS_MAX) => {
                    if count == 0 {
                        return None;
                    }
                    let mut request = pb::AwaitResultsRequest::default();
                    for ask in asked.drain(..) {
                        match ask {
                            Ask::Await(id) => request.job_ids.push(id),
                            Ask::Forget(id) => request.forget_ids.push(id),
                        }
                    }
                    let _ = requests.send(request);
                }
                () = tokio::time::sleep(IDLE) => {
                    if self.is_idle() {
                        return None;
                    }
                }
            }
        }
    }

    /// Whether nobody waits; nobody can begin to without a new task then.
    fn is_idle(&self) -> bool {
        let mut table = self.results.table.lock().expect("no holder panics");
        let idle = table.waiting.is_empty();
        if idle {
            table.asks = None;
        }
        idle
    }
}
