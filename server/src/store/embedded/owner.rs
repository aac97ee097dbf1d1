//! The thread that decides: runs the machine, call after call. Reads and claims are answered at once; what has to be
//! kept goes to the writing thread, with the answers that wait for it.
use std::sync::Arc;

use tokio::sync::{broadcast, mpsc, oneshot};

use super::{
    pipe::{Answer, Broken, Check, Group, Pipe},
    sides::SideCache,
    writer::Alarm,
};
use crate::{
    model::{
        ids::{JobId, QueueName},
        job::{LogLine, Meta},
        op::{Act, Claim, DocChange, DueList, ListQuery, NewJob, Op, Put, Verdict, Wake},
        queue::{QueueChange, QueueFacts},
        time::{Clock, Now},
    },
    store::{
        Cas, Disagreements, Doc, Mark, StoreError, Whole,
        memory::{
            claim::Handed,
            export::Page,
            machine::{Corrupt, Found, Machine},
            write::Output,
        },
    },
};

/// Calls taken in one go.
const CALLS: usize = 500;
/// Writes after which a batch is handed over before more calls are served, so that the writing thread has work early.
const WRITES: usize = 2_000;

/// A call, and where its answer goes.
pub(crate) enum Request {
    Put {
        jobs: Vec<NewJob>,
        reply: oneshot::Sender<Vec<Put>>,
    },
    Claim {
        claim: Claim,
        reply: oneshot::Sender<Handed>,
    },
    Apply {
        ops: Vec<Op>,
        reply: oneshot::Sender<Vec<Verdict>>,
    },
    ChangeDocs {
        changes: Vec<DocChange>,
        reply: oneshot::Sender<Vec<Cas>>,
    },
    Docs {
        prefix: String,
        reply: oneshot::Sender<Vec<(String, Doc)>>,
    },
    Due {
        limit: usize,
        reply: oneshot::Sender<DueList>,
    },
    Find {
        ids: Vec<JobId>,
        reply: oneshot::Sender<Vec<Option<Found>>>,
    },
    List {
        query: ListQuery,
        reply: oneshot::Sender<Vec<Meta>>,
    },
    Queues {
        names: Option<Vec<QueueName>>,
        reply: oneshot::Sender<Vec<QueueFacts>>,
    },
    SetQueue {
        name: QueueName,
        change: QueueChange,
        reply: oneshot::Sender<QueueFacts>,
    },
    Log {
        id: JobId,
        lines: Vec<LogLine>,
        keep: usize,
    },
    LogRange {
        id: JobId,
        reply: oneshot::Sender<Option<(u64, u64, u64)>>,
    },
    Recount {
        reply: oneshot::Sender<Result<Disagreements, StoreError>>,
    },
    Export {
        from: Option<Mark>,
        limit: usize,
        reply: oneshot::Sender<Result<Page, Corrupt>>,
    },
    Import {
        things: Vec<Whole>,
        lease_ms: i64,
        reply: oneshot::Sender<()>,
    },
    /// The last one.
    Close,
}

pub(crate) struct Owner {
    pub machine: Machine,
    pub clock: Arc<dyn Clock>,
    pub pipe: Arc<Pipe>,
    pub sides: Arc<SideCache>,
    pub wakes: broadcast::Sender<Wake>,
    /// Goes off when this thread panics.
    pub _alarm: Alarm,
}

impl Owner {
    pub fn run(mut self, mut calls: mpsc::Receiver<Request>) {
        let mut taken = Vec::with_capacity(CALLS);
        let mut batch = Group { batch: 1, ..Group::default() };
        while calls.blocking_recv_many(&mut taken, CALLS) > 0 {
            for request in taken.drain(..) {
                if matches!(request, Request::Close) {
                    calls.close();
                }
                self.serve(request, &mut batch);
                if (batch.writes.len() >= WRITES || batch.check.is_some()) && self.hand_over(&mut batch).is_err() {
                    return;
                }
            }
            if self.hand_over(&mut batch).is_err() {
                return;
            }
        }
        self.pipe.close();
    }

    fn hand_over(&self, batch: &mut Group) -> Result<(), Broken> {
        self.pipe.push(batch)?;
        batch.batch += 1;
        Ok(())
    }

    fn serve(&mut self, request: Request, batch: &mut Group) {
        match request {
            Request::Put { jobs, reply } => {
                let answer = self.change(batch, |machine, now, out| machine.put(now, jobs, out));
                batch.answers.push(Answer::Put(reply, answer));
            }
            Request::Claim { claim, reply } => {
                let answer = self.change(batch, |machine, now, out| machine.claim(now, &claim, out));
                let _ = reply.send(answer);
            }
            Request::Apply { ops, reply } => {
                let waits = !ops.iter().all(|op| matches!(op.act, Act::Extend { .. }));
                let answer = self.change(batch, |machine, now, out| machine.apply(now, ops, out));
                if waits {
                    batch.answers.push(Answer::Apply(reply, answer));
                } else {
                    let _ = reply.send(answer);
                }
            }
            Request::ChangeDocs { changes, reply } => {
                let answer = self.change(batch, |machine, now, out| machine.change_docs(now, changes, out));
                batch.answers.push(Answer::Docs(reply, answer));
            }
            Request::SetQueue { name, change, reply } => {
                let answer = self.change(batch, |machine, now, out| machine.set_queue(now, &name, change, out));
                batch.answers.push(Answer::Queue(reply, answer));
            }
            Request::Log { id, lines, keep } => {
                self.change(batch, |machine, _, out| machine.log(id, lines, keep, out));
            }
            Request::Recount { reply } => {
                let jobs = self.machine.queues(None).iter().flat_map(|queue| queue.counts).sum();
                batch.check = Some(Check { jobs, found: self.machine.recount(), reply });
            }
            Request::Import { things, lease_ms, reply } => {
                self.change(batch, |machine, now, out| machine.import(now, things, lease_ms, out));
                batch.answers.push(Answer::Import(reply));
            }
            Request::Export { from, limit, reply } => drop(reply.send(self.machine.export(from.as_ref(), limit))),
            Request::Docs { prefix, reply } => drop(reply.send(self.machine.docs(&prefix))),
            Request::Due { limit, reply } => {
                let due = self.machine.due(self.clock.now(), limit);
                let _ = reply.send(due);
            }
            Request::Find { ids, reply } => {
                let _ = reply.send(ids.into_iter().map(|id| self.machine.find(id)).collect());
            }
            Request::List { query, reply } => drop(reply.send(self.machine.list(&query))),
            Request::Queues { names, reply } => drop(reply.send(self.machine.queues(names.as_deref()))),
            Request::LogRange { id, reply } => drop(reply.send(self.machine.log_range(id))),
            Request::Close => {}
        }
    }

    /// Runs a call that may change something, and sees to all that follows but the answer.
    fn change<T>(&mut self, batch: &mut Group, call: impl FnOnce(&mut Machine, Now, &mut Output) -> T) -> T {
        let start = batch.writes.len();
        let mut out = Output { writes: std::mem::take(&mut batch.writes), wakes: Vec::new() };
        let answer = call(&mut self.machine, self.clock.now(), &mut out);
        batch.writes = out.writes;
        self.sides.absorb(&batch.writes[start..], batch.batch);
        for wake in out.wakes {
            // Nobody listens: nobody has to be woken.
            let _ = self.wakes.send(wake);
        }
        answer
    }
}
