//! What the engine asks of a store, and what it answers. A known job changes state only through these.
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    ids::{JobId, QueueName, Shard, TypeName},
    job::{Attempt, Body, CancelRequest, Failure, Meta, Outcome, Payload, Progress, Start},
    state::{Move, State, StateSet},
    worker::DependencyResult,
};

/// A job to record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NewJob {
    pub id: JobId,
    pub kind: TypeName,
    pub queue: QueueName,
    pub priority: i8,
    pub start: Start,
    /// Wall clock; 0 = never. `ttl` has been added to the start by the engine.
    pub expire_ms: i64,
    /// When it has to have ended, wall clock; 0 = no limit.
    pub deadline_ms: i64,
    pub create_ms: i64,
    /// Hash of what the job is, so that a repeat can be told from a conflict.
    pub content: u64,
    /// At most one job at a time holds it.
    pub unique: Option<UniqueKey>,
    /// Names the request: remembered for so many milliseconds even when the job is gone.
    pub idempotency: Option<(KeyHash, i64)>,
    /// Jobs of a queue with different ones take turns.
    pub fair: FairKey,
    /// Recorded even in a queue that is full: work that goes on must not fail for want of room.
    pub overshoots: bool,
    /// Put as BLOCKED: whoever decides on its dependencies makes it READY.
    pub blocked: bool,
    /// The flow that hears of its end: see [`Facts::owners`].
    pub owner: Option<JobId>,
    /// [`Body::encode`]d.
    pub body: Bytes,
}

/// A key of a job: a hash of the queue, the fairness key and the key itself.
pub type KeyHash = [u8; 16];

/// A hash of the key by which jobs of a queue take turns; 0 = the jobs that have none, which are one party among the others.
pub type FairKey = u64;

/// The hash of a fairness key.
pub fn fair_key(key: &str) -> FairKey {
    match key {
        "" => 0,
        key => xxhash_rust::xxh3::xxh3_64(key.as_bytes()).max(1),
    }
}

/// A uniqueness key, and how long its job holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UniqueKey {
    pub hash: KeyHash,
    pub hold: Hold,
}

/// How long a uniqueness key is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hold {
    /// Until the job ends. RetryJobs takes it again.
    UntilFinished,
    /// Until the job is first handed out, and never again.
    UntilStarted,
    /// For so many milliseconds, whatever the job does.
    For(i64),
    /// Until the job ends; and if the key is another's that was handed out, this job waits behind it, BLOCKED, as its
    /// successor: when the holder ends the key is its own, in the same step, and it runs.
    KeepLast,
}

impl NewJob {
    /// As part of another change: recorded even in a full queue, and a conflict of its key drops it.
    pub fn along(self) -> Self {
        let unique = self.unique.map(|unique| match unique.hold {
            Hold::KeepLast => UniqueKey { hold: Hold::UntilFinished, ..unique },
            _ => unique,
        });
        Self { overshoots: true, unique, ..self }
    }
}

/// Which of its keys a job could not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    Unique,
    Idempotency,
}

/// What became of one [`NewJob`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Put {
    Created {
        state: State,
        ready_ms: i64,
    },
    /// The id was there before: nothing changed. `same` tells whether the content was, too.
    Exists {
        state: State,
        ready_ms: i64,
        same: bool,
    },
    /// As many jobs wait in the queue as may: nothing changed.
    QueueFull,
    /// A key that it was to have is another job's: nothing changed. With [`Hold::KeepLast`] `by` is the successor if there
    /// is one.
    Held {
        by: JobId,
        key: KeyKind,
        /// The holder as it is; `None` = it is gone, and the key is still remembered.
        job: Option<HeldBy>,
    },
}

/// The job that holds a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldBy {
    pub state: State,
    pub ready_ms: i64,
    /// Its content is that of the job that wanted the key.
    pub same: bool,
}

/// A request for jobs of one queue.
#[derive(Clone, Debug)]
pub struct Claim {
    pub queue: QueueName,
    /// One random secret per wanted job; as many jobs are taken at most.
    pub secrets: Vec<u64>,
    /// How many of them come from the lowest waiting priority, so that nothing starves.
    pub from_bottom: usize,
    /// Bodies together at most; the first job always fits.
    pub bytes: usize,
    /// Life of the new leases.
    pub lease_ms: i64,
    /// Whether the leases count as started when issued (unary workers).
    pub started: bool,
}

/// A job handed out.
#[derive(Clone, Debug)]
pub struct Leased {
    /// After the claim: RUNNING, `delivery` counted.
    pub meta: Meta,
    pub secret: u64,
    /// `None` when the stored body is damaged: the job must be ended, never run with wrong bytes.
    pub body: Option<Body>,
    pub checkpoint: Option<Payload>,
    pub last_failure: Option<Failure>,
    /// Put in by the engine; stores leave it empty.
    pub passed: Passed,
}

/// Results of the jobs that a job waited for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Passed {
    pub results: Vec<DependencyResult>,
    /// There are more, to be asked for.
    pub truncated: bool,
}

/// The answer to a [`Claim`].
#[derive(Clone, Debug, Default)]
pub struct Claimed {
    pub jobs: Vec<Leased>,
    /// The queue may have more that could be claimed now. False proves that the next push, or the next slot that becomes
    /// free in a queue that is at its limit, will raise a wake.
    pub more: bool,
    /// A rate or a throttle, of the queue or of all keys that have jobs, let no more through: the first does again after so
    /// long. Nothing wakes for that.
    pub opens_in_ms: Option<i64>,
}

/// Kinds of things that become due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DueKind {
    /// SCHEDULED or RETRYING, and the time has come.
    Start,
    /// RUNNING, and the lease has run out.
    Lease,
    /// RUNNING, asked to stop, and the grace is over.
    Cancel,
    /// Waiting, and expired or past its deadline.
    Expire,
    /// Ended, and kept for long enough; or more are kept than should be.
    Trim,
}

/// The condition under which an act may happen; checked in the same step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// The secret is that of the job's latest lease, no outcome was applied under it, and the job is not terminal.
    /// Whatever ends the lease under this guard (Finish, Later, Ready, Requeue) settles it, and takes a crash off that was
    /// charged to it: who speaks had not crashed. Nothing settles a lease under another guard.
    Token(u64),
    /// The job's entry of this kind is at or before the store's now.
    Due(DueKind),
    In(StateSet),
    /// The record has not changed since it was read.
    Version(u32),
}

/// A change of one job.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// The lease ends so long from now, never earlier than it did. Takes a lapsed lease back: READY → RUNNING again,
    /// the crash taken off.
    Extend { lease_ms: i64, started: bool, progress: Option<Progress>, checkpoint: Option<Payload> },
    /// Ends the job. Raises `failures` when `outcome.last` tells of a failure or a timeout, `crashes` when it tells of a
    /// lost lease. An outcome that says nothing leaves the stored one as it is, unless the job succeeded.
    Finish { to: State, outcome: Outcome, retain_ms: i64, effects: Vec<Effect> },
    /// Waits for `delay_ms`, as SCHEDULED (snoozed) or RETRYING (failed; `counts` raises `failures`). An outcome without
    /// result and failure only adds its attempt to the history: the failure stored before stays.
    Later {
        to: State,
        delay_ms: i64,
        counts: bool,
        outcome: Option<Outcome>,
        checkpoint: Option<Payload>,
        /// Nothing of the same fairness key, or of the whole queue, is handed out for `delay_ms` either. Of several such
        /// times the latest holds.
        throttle: Option<Throttle>,
        effects: Vec<Effect>,
    },
    /// READY: promoted, given back (`front`: before all of its priority), or its lease ran out (`crashed` raises
    /// `crashes`). A BLOCKED job whose start lies ahead becomes SCHEDULED.
    Ready { front: bool, crashed: bool, attempt: Option<Attempt>, checkpoint: Option<Payload> },
    /// RetryJobs: runs again after `delay_ms`, in `queue` if given; counters start from `failures` and 0 crashes. `keep`
    /// goes into the history. A job that had ended expires no more and has no deadline; a lease that is not settled is cut off.
    Requeue { failures: u32, delay_ms: i64, queue: Option<QueueName>, body: Option<Bytes>, keep: Option<Attempt> },
    /// Asks a running job to stop; any server finishes it after the grace. `None` = as long as it takes. Asking again
    /// keeps the first request and can only shorten the grace.
    RequestCancel { reason: String, grace_ms: Option<i64> },
    /// UpdateJobs. What is `None` stays. A READY job keeps its place unless its queue or priority changes.
    Patch {
        queue: Option<QueueName>,
        priority: Option<i8>,
        start: Option<Start>,
        body: Option<Bytes>,
        content: Option<u64>,
    },
    /// Waits for dependencies again: CANCELLED because of one of them, which is tried once more.
    Block,
    /// This flow hears of the job's end from now on, or (`off`) does so no more. A job that is watched is not trimmed; once
    /// nobody watches it, it is kept until `retain_ms` after its end.
    Watch { owner: JobId, off: bool, retain_ms: i64 },
    /// Forgets the job and all that belongs to it.
    Delete,
}

impl Act {
    /// The column of the state table.
    pub fn kind(&self) -> Move {
        match self {
            Self::Extend { .. } => Move::Extend,
            Self::Finish { to, .. } => Move::Finish(*to),
            Self::Later { to, .. } => Move::Later(*to),
            Self::Ready { .. } => Move::Ready,
            Self::Requeue { .. } => Move::Requeue,
            Self::RequestCancel { .. } => Move::RequestCancel,
            Self::Patch { .. } => Move::Patch,
            Self::Block => Move::Block,
            Self::Watch { .. } => Move::Watch,
            Self::Delete => Move::Delete,
        }
    }
}

/// What else a job that must wait holds back. Numbers are those of the contract's `ThrottleScope`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Throttle {
    /// Jobs of its queue with its fairness key.
    Key = 1,
    /// All jobs of its queue.
    Queue = 2,
}

/// Something that happens elsewhere because of a change, recorded in the same step and done exactly once.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Record this job; nothing if its id is there.
    Put(NewJob),
}

/// A small versioned record: directives, schedules, workflows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doc {
    /// From 1; changes with every write.
    pub version: u64,
    /// When it comes up in what is due, wall clock; 0 = never.
    pub due_ms: i64,
    pub value: Bytes,
}

/// A change of one document.
#[derive(Clone, Debug, PartialEq)]
pub struct DocChange {
    pub key: String,
    /// The version that is there; 0 = none is.
    pub expect: u64,
    /// `None` = it goes.
    pub value: Option<Bytes>,
    /// 0 = never.
    pub due_ms: i64,
    /// Happen if the change does.
    pub effects: Vec<Effect>,
}

/// One guarded change.
#[derive(Clone, Debug, PartialEq)]
pub struct Op {
    pub id: JobId,
    pub guard: Guard,
    pub act: Act,
}

/// What the caller of an applied [`Op`] must know.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// Where the job is now; where it was, when it was deleted.
    pub state: State,
    /// Set while a running job has been asked to stop.
    pub cancel: Option<CancelRequest>,
    /// The flows that watch the job, when this change ended it, deleted it or took it out of an end.
    pub owners: Vec<JobId>,
}

/// What became of one [`Op`].
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    Done(Facts),
    /// The lease named by `Token` is the latest and was settled before: nothing to do, all is well.
    Already(State),
    /// `Token`: another lease was issued since. `Due`: not due (any more). `Version`: changed since.
    Stale,
    /// The move does not start from this state, or `In` does not contain it, or the job under `Token` ended by another way.
    Conflict(State),
    /// Not done: the job has been asked to stop, and this act (Later, Ready) would run it again.
    CancelRequested(CancelRequest),
    NotFound,
    /// Not done: the uniqueness key that the job would hold again is this one's.
    KeyTaken(JobId),
}

/// Something due.
#[derive(Clone, Debug)]
pub enum Due {
    Job {
        kind: DueKind,
        meta: Meta,
    },
    /// A pause of this queue has ended by itself.
    QueueOpens(QueueName),
    /// This document's time has come: it stays due until it is changed.
    Doc {
        key: String,
        doc: Doc,
    },
}

/// The answer to `due`.
#[derive(Clone, Debug, Default)]
pub struct DueList {
    pub entries: Vec<Due>,
    /// Milliseconds until the next entry that is not in this list; 0 = there are more now; `None` = nothing waits.
    pub next_in_ms: Option<i64>,
}

/// A push from the store. Lossy: whoever falls behind is told to look again.
#[derive(Clone, Debug, PartialEq)]
pub enum Wake {
    /// The queue was empty, or closed, and is not any more.
    Ready(QueueName),
    /// Something is due in this shard earlier than any `due` answer has said.
    Timer(Shard),
    /// These running jobs have been asked to stop.
    Cancel(Vec<JobId>),
    /// A queue was paused, resumed or configured.
    Queue(QueueName),
    /// This document was written or deleted. Shared stores only.
    Doc(String),
    /// Another server of the same store says this: see [`Store::tell`](crate::store::Store::tell).
    Told(Bytes),
    /// Messages were lost: assume anything.
    Reset,
}

/// One page of a list.
#[derive(Clone, Debug)]
pub struct ListQuery {
    pub queue: QueueName,
    pub state: State,
    /// Go on after this place; `None` = from the start.
    pub after: Option<Place>,
    pub limit: usize,
}

/// A place in a list of one queue and state: READY by priority and arrival, SCHEDULED and RETRYING by due time,
/// RUNNING by start, terminal ones newest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Place {
    pub priority: i8,
    pub order: i64,
    pub id: JobId,
}

impl Meta {
    /// Its place in the list of its queue and state.
    pub fn place(&self) -> Place {
        Place { priority: self.priority, order: self.order, id: self.id }
    }
}
