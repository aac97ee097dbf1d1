//! The values that the session machine takes and gives.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use jobwire_proto::v1 as pb;
use tokio_util::sync::CancellationToken;

use super::gathering::BatchRule;
use crate::errors::RpcError;
use crate::types::CancelReason;

/// Names a lease on the wire. Never shown to anybody.
pub(crate) type Token = Arc<str>;

/// What a session needs to know about its worker; does not change.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub session_id: String,
    pub worker_id: String,
    pub types: Vec<String>,
    pub subscriptions: Vec<pb::Subscription>,
    /// Handlers that may run at once.
    pub concurrency: usize,
    /// Jobs to hold besides; None = min(concurrency, 16), fewer when handlers run long.
    pub prefetch: Option<usize>,
    /// How long handlers may go on in a drain.
    pub grace: Duration,
    pub lease_ttl: Option<Duration>,
    /// By type, for those whose handlers take several jobs in one call.
    pub batches: HashMap<String, BatchRule>,
    pub info: pb::WorkerInfo,
}

/// The line from the session to one running handler: tells it to stop, and why.
#[derive(Debug, Default)]
pub(crate) struct Control {
    cancel: CancellationToken,
    order: OnceLock<(CancelReason, String)>,
    lost: OnceLock<()>,
    /// Until then nobody else has the job, by our own clock.
    trusted_until: Mutex<Option<Instant>>,
}

impl Control {
    fn trusted(until: Instant) -> Arc<Self> {
        let control = Self::default();
        control.trust(until);
        Arc::new(control)
    }

    pub fn trust(&self, until: Instant) {
        *self.trusted_until.lock().expect("no holder panics") = Some(until);
    }

    pub fn at_risk(&self, now: Instant) -> bool {
        self.trusted_until.lock().expect("no holder panics").is_some_and(|until| now >= until)
    }

    pub fn cancel(&self, reason: CancelReason, message: String) {
        if reason == CancelReason::LeaseLost {
            let _ = self.lost.set(());
        }
        let _ = self.order.set((reason, message));
        self.cancel.cancel();
    }

    pub fn token(&self) -> &CancellationToken {
        &self.cancel
    }

    /// Why it was told to stop; a lost lease trumps what was said before.
    pub fn reason(&self) -> Option<CancelReason> {
        if self.lost.get().is_some() {
            return Some(CancelReason::LeaseLost);
        }
        self.order.get().map(|(reason, _)| *reason)
    }

    pub fn message(&self) -> &str {
        self.order.get().map_or("", |(_, message)| message)
    }
}

/// A handler to run.
#[derive(Debug)]
pub(crate) struct Start {
    pub token: Token,
    pub job: Box<pb::JobLease>,
    pub control: Arc<Control>,
    pub deadline: Option<Instant>,
}

/// What the driver has to do, besides writing frames and starting handlers.
#[derive(Debug)]
pub(crate) enum Command {
    /// Open a new stream, on a new connection, with this frame first.
    Connect(Box<pb::StreamJobsRequest>),
    /// Cut the stream. Not a half-close: the leases go on.
    Disconnect(&'static str),
    /// Everything is acknowledged: end the stream cleanly.
    HalfClose,
    Cancel(Arc<Control>, CancelReason, String),
    /// The server has accepted the stream.
    Welcomed,
    /// Something an operator should see.
    Warn(String),
    /// Over. Nothing comes after it.
    Exit(Result<(), Box<RpcError>>),
}

/// A lease in hand: delivered, and its handler has not ended.
#[derive(Debug)]
pub(super) struct Lease {
    /// Taken by the start.
    pub job: Option<Box<pb::JobLease>>,
    /// Kept to name the job in warnings.
    pub task: Bytes,
    pub control: Arc<Control>,
    /// Rises from lease to lease.
    pub number: u64,
    pub arrived: Instant,
    /// Until then nobody else has the job, by our own clock.
    pub trusted_until: Instant,
    /// Some heartbeat has named it.
    pub named: bool,
    pub started: Option<Instant>,
    /// Shared by those that run in one call; None = it runs alone.
    pub call: Option<Arc<()>>,
    pub deadline: Option<Instant>,
    pub cancelled: Option<CancelReason>,
    /// Gone: the handler is being stopped, its outcome will be dropped.
    pub lost: bool,
}

impl Lease {
    /// A job that arrives `now`, on a lease of `ttl` until a heartbeat names it.
    pub fn new(job: pb::JobLease, number: u64, now: Instant, ttl: Duration) -> Self {
        Self {
            task: job.task.clone(),
            job: Some(Box::new(job)),
            control: Control::trusted(now + ttl),
            number,
            arrived: now,
            trusted_until: now + ttl,
            named: false,
            started: None,
            call: None,
            deadline: None,
            cancelled: None,
            lost: false,
        }
    }
}

/// An outcome on its way to durability.
#[derive(Debug)]
pub(super) struct Report {
    pub outcome: pb::Outcome,
    pub task: Bytes,
    pub bytes: usize,
    /// The frame that carried it on the current stream.
    pub seq: i64,
    /// Replaces one that the server refused; refused again it is dropped.
    pub rearmed: bool,
}

pub(super) fn released(reason: &str) -> pb::outcome::Result {
    pb::outcome::Result::Released(pb::Released { reason: reason.to_owned() })
}

pub(super) fn unprocessable(message: String) -> pb::outcome::Result {
    pb::outcome::Result::Failed(pb::Failed {
        failure: Some(pb::Failure {
            kind: pb::FailureKind::Unprocessable as i32,
            r#type: "Unprocessable".to_owned(),
            message,
            ..Default::default()
        }),
        action: pb::FailureAction::Stop as i32,
        retry_delay: None,
    })
}
