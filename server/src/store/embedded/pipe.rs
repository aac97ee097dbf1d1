//! The hand-over between the thread that decides and the thread that writes. What is decided while a commit is under way
//! gathers in one group, which is the next commit: the slower the disk, the larger the groups.
use std::time::Instant;

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::{
    model::{
        op::{Put, Verdict},
        queue::QueueFacts,
    },
    store::{Cas, Disagreements, StoreError, memory::write::Write},
};

/// Writes that may gather. Beyond, the deciding thread waits, and so do the callers in front of it.
const WRITES_MOST: usize = 16 * 1024;
const BYTES_MOST: usize = 16 << 20;

/// An answer that may only be given once everything decided before it is kept.
#[derive(Debug)]
pub(crate) enum Answer {
    Put(oneshot::Sender<Vec<Put>>, Vec<Put>),
    Apply(oneshot::Sender<Vec<Verdict>>, Vec<Verdict>),
    Docs(oneshot::Sender<Vec<Cas>>, Vec<Cas>),
    Queue(oneshot::Sender<QueueFacts>, QueueFacts),
    Import(oneshot::Sender<()>),
}

impl Answer {
    /// Whoever does not wait any more does not mind.
    pub fn give(self) {
        match self {
            Self::Put(to, answer) => drop(to.send(answer)),
            Self::Apply(to, answer) => drop(to.send(answer)),
            Self::Docs(to, answer) => drop(to.send(answer)),
            Self::Queue(to, answer) => drop(to.send(answer)),
            Self::Import(to) => drop(to.send(())),
        }
    }
}

/// A request to hold the disk against what the machine says, after everything decided before it.
#[derive(Debug)]
pub(crate) struct Check {
    pub jobs: u64,
    /// What the machine itself found.
    pub found: Disagreements,
    pub reply: oneshot::Sender<Result<Disagreements, StoreError>>,
}

/// What is committed together.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub writes: Vec<Write>,
    pub answers: Vec<Answer>,
    pub check: Option<Check>,
    /// Number of the last batch in it.
    pub batch: u64,
}

/// What the writing thread finds.
#[derive(Debug)]
pub(crate) enum Taken {
    Group(Group),
    /// Nothing came until the deadline.
    Idle,
    /// Nothing will come any more.
    Closed,
    /// Somebody has given up: nothing more is to be kept.
    Broken,
}

/// The store has failed.
#[derive(Debug)]
pub(crate) struct Broken;

#[derive(Debug, Default)]
pub(crate) struct Pipe {
    state: Mutex<State>,
    filled: Condvar,
    taken: Condvar,
}

#[derive(Debug, Default)]
struct State {
    group: Group,
    bytes: usize,
    /// A group has been taken, and its commit has not returned.
    busy: bool,
    closing: bool,
    broken: bool,
}

impl State {
    fn is_empty(&self) -> bool {
        self.group.writes.is_empty() && self.group.answers.is_empty() && self.group.check.is_none()
    }

    fn is_too_full(&self) -> bool {
        self.group.check.is_some() || self.group.writes.len() >= WRITES_MOST || self.bytes >= BYTES_MOST
    }
}

impl Pipe {
    /// Adds a batch to the next group, and leaves it empty. Waits while that is too full. Answers that depend on nothing
    /// that is on its way are given at once.
    pub fn push(&self, batch: &mut Group) -> Result<(), Broken> {
        let bytes: usize = batch.writes.iter().map(bytes_of).sum();
        let mut state = self.state.lock();
        while state.is_too_full() && !state.broken {
            self.taken.wait(&mut state);
        }
        if state.broken {
            return Err(Broken);
        }
        let nothing_pending = state.is_empty() && !state.busy;
        if nothing_pending && batch.writes.is_empty() && batch.check.is_none() {
            drop(state);
            batch.answers.drain(..).for_each(Answer::give);
            return Ok(());
        }
        state.group.writes.append(&mut batch.writes);
        state.group.answers.append(&mut batch.answers);
        state.group.check = batch.check.take();
        state.group.batch = batch.batch;
        state.bytes += bytes;
        if !state.is_empty() {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Waits for a group. To call again means that the one before it has been committed.
    pub fn take(&self, deadline: Option<Instant>) -> Taken {
        let mut state = self.state.lock();
        state.busy = false;
        while state.is_empty() {
            if state.broken {
                return Taken::Broken;
            }
            if state.closing {
                return Taken::Closed;
            }
            match deadline {
                None => self.filled.wait(&mut state),
                Some(deadline) => {
                    let late = self.filled.wait_until(&mut state, deadline).timed_out();
                    if late && state.is_empty() && !state.closing && !state.broken {
                        return Taken::Idle;
                    }
                }
            }
        }
        state.busy = true;
        state.bytes = 0;
        let group = std::mem::take(&mut state.group);
        self.taken.notify_one();
        Taken::Group(group)
    }

    /// Nothing will be pushed any more.
    pub fn close(&self) {
        self.state.lock().closing = true;
        self.filled.notify_one();
    }

    /// Waits until `deadline`, or until the pipe is closed. True = closed.
    pub fn wait_for_close(&self, deadline: Instant) -> bool {
        let mut state = self.state.lock();
        while !state.closing {
            if self.filled.wait_until(&mut state, deadline).timed_out() {
                break;
            }
        }
        state.closing
    }

    /// Nothing more is kept: whoever waits for an answer is told by losing it.
    pub fn give_up(&self) {
        let mut state = self.state.lock();
        state.broken = true;
        let group = std::mem::take(&mut state.group);
        self.taken.notify_all();
        self.filled.notify_all();
        drop(state);
        drop(group);
    }
}

fn bytes_of(write: &Write) -> usize {
    match write {
        Write::Set(_, value) => value.len(),
        Write::Remove(_) | Write::Forget { .. } => 0,
    }
}
