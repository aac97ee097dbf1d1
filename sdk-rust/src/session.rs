//! The worker's side of StreamJobs as a pure machine: no clock, no I/O, no async. Frames of the server, events of
//! handlers and `poll(now)` go in; frames to write, handlers to start, commands and the time of the next poll come out.
//! The rules W1 to W8 are those of `worker_service.proto`.
//!
//! ```text
//! idle ──Connect(hello)──▶ opening ──welcome──▶ active ──draining, all acknowledged──▶ closing ──▶ over
//!   ▲                         │                   │
//!   └─────── backoff ─────────┴── stream broke ───┘      leases and outcomes live on from stream to stream
//! ```

mod gathering;
mod inbound;
mod lease;
mod outbound;
mod outbox;
mod reports;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jobwire_proto::v1 as pb;
use prost::Message;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::convert::{from_duration, to_duration};
use crate::errors::{Code, RpcError};
use crate::types::CancelReason;
pub(crate) use gathering::BatchRule;
use gathering::Gathering;
pub(crate) use lease::{Command, Config, Control, Start, Token};
use lease::{Lease, released};
use outbox::{FLUSH_DELAY, FLUSH_OUTCOMES, Outbox};
pub(crate) use reports::News;
use reports::Reports;

/// A receipt is due within a second of reading jobs.
const RECEIPT_DELAY: Duration = Duration::from_millis(900);
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(15);
/// A stream that lived this long starts the backoff afresh.
const SETTLED_AFTER: Duration = Duration::from_secs(1);
/// Cancelled at shutdown, a handler has this long to save a checkpoint; the last acknowledgements have as long.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);
/// Silence of the server beyond two heartbeat intervals that still passes for life.
const SILENCE_MARGIN: Duration = Duration::from_secs(5);
/// A newer stream speaks for this session: it may go on, and nobody should fight for it.
const MOVED_DELAY: Duration = Duration::from_secs(5);
/// Kept free in a message for everything that is not the largest outcome.
const MESSAGE_MARGIN: usize = 256 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Opening,
    Active,
    Closing,
    Over,
}

/// What a poll gives. Frames are to be written before commands are obeyed.
#[derive(Debug, Default)]
pub(crate) struct Output {
    pub frames: Vec<pb::StreamJobsRequest>,
    pub starts: Vec<Start>,
    /// Each to be run in one call.
    pub batches: Vec<Vec<Start>>,
    pub commands: Vec<Command>,
    /// Poll again then, at the latest.
    pub wake: Option<Instant>,
}

/// One worker process, over all its streams.
pub(crate) struct Session {
    config: Config,
    rng: StdRng,
    state: State,
    /// In hand: delivered, and the handler has not ended.
    leases: HashMap<Token, Lease>,
    /// Delivered and not started, in order; may name leases dropped since.
    ready: VecDeque<Token>,
    /// Those of them that wait for others.
    gathering: Gathering,
    /// When the next batch has waited long enough.
    batch_at: Option<Instant>,
    /// Leases that ever arrived.
    arrivals: u64,
    /// Handlers that run; one for each batch.
    running: usize,
    outbox: Outbox,
    reports: Reports,
    commands: Vec<Command>,
    limits: pb::Limits,
    mean_run: Option<Duration>,
    prefetch: usize,
    /// No running handler times out before this.
    deadline_at: Option<Instant>,

    quiet: bool,
    /// When running handlers are cancelled; set = draining.
    drain_at: Option<Instant>,
    /// When they are given up.
    kill_at: Option<Instant>,
    /// When acknowledgements are given up.
    last_ack_at: Option<Instant>,

    connect_at: Instant,
    failures: u32,
    opened_at: Instant,
    last_frame: Instant,
    /// Told to go away: when to drop this stream.
    leave_at: Option<Instant>,
    lease_ttl: Duration,
    delivery_ttl: Duration,
    interval: Duration,
    seq: i64,
    received: i64,
    receipt_at: Option<Instant>,
    /// Handlers started since the last frame.
    started: Vec<Token>,
    heartbeat_at: Option<Instant>,
    /// Heartbeats of this stream that were not acknowledged: number of the frame, and when it was sent.
    heartbeats: VecDeque<(i64, Instant)>,
    /// No lease that a heartbeat has yet to name arrived before this.
    unnamed_since: Option<Instant>,
    say_state: bool,
    say_capacity: bool,
}

impl Session {
    pub fn new(config: Config, seed: u64, now: Instant) -> Self {
        let mut session = Self {
            rng: StdRng::seed_from_u64(seed),
            state: State::Idle,
            leases: HashMap::new(),
            ready: VecDeque::new(),
            gathering: Gathering::new(config.batches.clone()),
            batch_at: None,
            arrivals: 0,
            running: 0,
            outbox: Outbox::default(),
            reports: Reports::default(),
            commands: Vec::new(),
            limits: pb::Limits { max_result_bytes: 1 << 20, max_message_bytes: 3 << 20, ..Default::default() },
            mean_run: None,
            prefetch: 0,
            deadline_at: None,
            quiet: false,
            drain_at: None,
            kill_at: None,
            last_ack_at: None,
            connect_at: now,
            failures: 0,
            opened_at: now,
            last_frame: now,
            leave_at: None,
            lease_ttl: Duration::from_secs(30),
            delivery_ttl: Duration::from_secs(10),
            interval: Duration::from_secs(10),
            seq: 0,
            received: 0,
            receipt_at: None,
            started: Vec::new(),
            heartbeat_at: None,
            heartbeats: VecDeque::new(),
            unnamed_since: None,
            say_state: false,
            say_capacity: false,
            config,
        };
        session.prefetch = session.wanted_prefetch();
        session
    }

    // --- events of handlers ---

    /// The handler of `token` ended. No outcome, or a lost lease: nothing is reported.
    pub fn finished(&mut self, token: &str, outcome: Option<Box<pb::Outcome>>, run: Duration, now: Instant) {
        let Some(lease) = self.leases.remove(token) else {
            return; // given up during a drain
        };
        self.stopped(&lease);
        self.mean_run = Some(self.mean_run.map_or(run, |mean| mean.mul_f64(0.95) + run.mul_f64(0.05)));
        match outcome {
            Some(mut outcome) if !lease.lost => {
                outcome.run_duration = Some(to_duration(run));
                self.report(token, lease, *outcome, now);
            }
            _ => self.reports.forget(token),
        }
    }

    /// Progress, a checkpoint or log lines of a running handler.
    pub fn reported(&mut self, token: &Token, news: News, now: Instant) {
        if self.leases.contains_key(token) {
            self.reports.add(token, news, now);
        }
    }

    /// Take nothing new, give back what has not started, end within the grace. A second call gives up at once.
    pub fn drain(&mut self, grace: Option<Duration>, now: Instant) {
        if self.drain_at.is_some() {
            (self.drain_at, self.kill_at) = (Some(now), Some(now));
            return;
        }
        self.drain_at = Some(now + grace.unwrap_or(self.config.grace));
        self.say_state = true;
        self.batch_at = None;
        for token in std::mem::take(&mut self.ready).into_iter().chain(self.gathering.clear()) {
            self.give_back(&token, "worker is shutting down", now);
        }
    }

    /// Handlers that run.
    pub fn running(&self) -> usize {
        self.running
    }

    /// Connected, and taking jobs.
    pub fn is_ready(&self) -> bool {
        self.state == State::Active && self.drain_at.is_none()
    }

    /// The types of the jobs whose handlers run, for people.
    pub fn running_types(&self) -> Vec<String> {
        let running = self.leases.values().filter(|lease| lease.started.is_some());
        let types = running.filter_map(|lease| pb::Task::decode(lease.task.clone()).ok()).map(|task| task.r#type);
        types.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// How many more handlers may end before the next poll has something to do, besides what `wake` says.
    pub fn patience(&self) -> usize {
        let flushing = self.outbox.has_waiting() && self.state == State::Active;
        let waiting = !(self.ready.is_empty() && self.gathering.is_empty());
        if flushing && !waiting && self.drain_at.is_none() {
            FLUSH_OUTCOMES.saturating_sub(self.outbox.waiting_len()).max(1)
        } else {
            1
        }
    }

    // --- events of the stream ---

    /// The current stream ended; None = cleanly. Leases, outcomes and handlers are kept for the next one.
    pub fn disconnected(&mut self, error: Option<Box<RpcError>>, now: Instant) {
        if matches!(self.state, State::Idle | State::Over) {
            return;
        }
        if self.state == State::Closing {
            return self.exit(Ok(()));
        }
        let code = error.as_ref().map(|error| error.code);
        match (code, error) {
            (Some(Code::FailedPrecondition | Code::InvalidArgument | Code::PermissionDenied), Some(error)) => {
                self.cancel_all(&error.to_string());
                self.exit(Err(error));
            }
            (_, error) => {
                let mut delay = self.backoff(now);
                if let Some(error) = error {
                    delay = delay.max(error.retry_delay.unwrap_or_default());
                    if error.reason == "SESSION_MOVED" {
                        delay += MOVED_DELAY;
                    }
                }
                self.go_idle((now + delay).max(self.leave_at.unwrap_or(now)));
            }
        }
    }

    // --- polling ---

    /// Does what is due at `now`.
    pub fn poll(&mut self, now: Instant, output: &mut Output) {
        self.time_out(now);
        if self.drain_at.is_some() {
            self.drain_on(now);
        }
        if matches!(self.state, State::Opening | State::Active | State::Closing) {
            self.watch_stream(now);
        }
        if self.state == State::Active {
            self.start_ready(now, output);
            self.compose(now, &mut output.frames);
        }
        if self.drain_at.is_some() {
            self.close_when_done(now);
        }
        if self.state == State::Idle && now >= self.connect_at {
            let hello = self.hello(now);
            self.commands.push(Command::Connect(Box::new(hello)));
        }
        output.commands.append(&mut self.commands);
        output.wake = self.wake();
    }

    fn wake(&self) -> Option<Instant> {
        let mut times = [None; 9];
        times[0] = self.deadline_at;
        if self.drain_at.is_some() && self.state != State::Over {
            times[1] = if self.leases.is_empty() { self.last_ack_at } else { self.kill_at.or(self.drain_at) };
        }
        match self.state {
            State::Idle => times[2] = Some(self.connect_at),
            State::Opening | State::Active | State::Closing => {
                times[2] = Some(self.silent_at());
                times[3] = self.leave_at;
            }
            State::Over => {}
        }
        if self.state == State::Active {
            times[4] = self.outbox.flush_at;
            times[5] = self.receipt_at;
            times[6] = self.next_heartbeat();
            times[7] = self.reports.next_at();
            times[8] = self.batch_at;
        }
        times.into_iter().flatten().min()
    }

    fn silent_at(&self) -> Instant {
        self.last_frame + 2 * self.interval + SILENCE_MARGIN
    }

    fn watch_stream(&mut self, now: Instant) {
        if self.leave_at.is_some_and(|at| at <= now) {
            self.commands.push(Command::Disconnect("the server asked to go"));
            self.go_idle(now);
        } else if now >= self.silent_at() {
            self.abandon("no frame for two heartbeat intervals and 5 s", now);
        }
    }

    /// Starts what may start, in order of arrival. Of a batch that is who came first.
    fn start_ready(&mut self, now: Instant, output: &mut Output) {
        self.batch_at = None;
        if self.drain_at.is_some() || self.outbox.is_full() {
            return;
        }
        while self.running < self.config.concurrency {
            while self.ready.front().is_some_and(|token| !self.leases.contains_key(token)) {
                self.ready.pop_front();
            }
            let single = self.ready.front().and_then(|token| self.leases.get_key_value(token));
            let single = single.map(|(token, lease)| (lease.number, token.clone()));
            let batch = self.gathering.first(now);
            let started = match (single, batch) {
                (None, None) => break,
                (Some((number, token)), batch) if batch.is_none_or(|first| number < first) => {
                    self.start_one(token, now, output)
                }
                (_, batch) => batch.is_some_and(|first| self.start_batch(first, now, output)),
            };
            if !started {
                // Somebody else may have it by now; the next acknowledged heartbeat or Welcome tells.
                break;
            }
        }
        if self.running < self.config.concurrency {
            self.batch_at = self.gathering.next_at(now);
        }
        if !self.started.is_empty() {
            self.outbox.flush_by(now + FLUSH_DELAY);
        }
    }

    fn start_one(&mut self, token: Token, now: Instant, output: &mut Output) -> bool {
        let trusted = self.leases.get(&token).filter(|lease| now < lease.trusted_until);
        let Some(lease) = trusted else { return false };
        let timeout = lease.job.as_ref().and_then(|job| job.timeout.as_ref().map(from_duration));
        self.ready.pop_front();
        self.running += 1;
        output.starts.extend(self.start(token, timeout, None, now));
        true
    }

    /// All of them or none, under the shortest of their timeouts.
    fn start_batch(&mut self, first: u64, now: Instant, output: &mut Output) -> bool {
        let tokens = self.gathering.batch(first);
        let leases = tokens.iter().filter_map(|token| self.leases.get(token));
        if leases.clone().any(|lease| now >= lease.trusted_until) {
            return false;
        }
        let jobs = leases.filter_map(|lease| lease.job.as_ref());
        let timeout = jobs.filter_map(|job| job.timeout.as_ref().map(from_duration)).min();
        self.gathering.take(first);
        self.running += 1;
        let call = Arc::new(());
        let starts = tokens.into_iter().filter_map(|token| self.start(token, timeout, Some(call.clone()), now));
        output.batches.push(starts.collect());
        true
    }

    fn start(&mut self, token: Token, timeout: Option<Duration>, call: Option<Arc<()>>, now: Instant) -> Option<Start> {
        let lease = self.leases.get_mut(&token)?;
        let job = lease.job.take()?;
        (lease.started, lease.call) = (Some(now), call);
        lease.deadline = timeout.map(|timeout| now + timeout);
        self.deadline_at = [self.deadline_at, lease.deadline].into_iter().flatten().min();
        self.started.push(token.clone());
        Some(Start { token, job, control: lease.control.clone(), deadline: lease.deadline })
    }

    /// A handler has ended, if this was the last lease of its call.
    fn stopped(&mut self, lease: &Lease) {
        let last = lease.call.as_ref().is_none_or(|call| Arc::strong_count(call) == 1);
        self.running -= usize::from(lease.started.is_some() && last);
    }

    /// A lease that goes without having started.
    fn drop_unstarted(&mut self, token: &str) -> Option<Lease> {
        if !self.gathering.is_empty() {
            self.gathering.forget(token);
        }
        self.leases.remove(token)
    }

    /// Cancels what ran past its timeout. Looks at every lease, but only when one may be due.
    fn time_out(&mut self, now: Instant) {
        if self.deadline_at.is_none_or(|at| now < at) {
            return;
        }
        self.deadline_at = None;
        for lease in self.leases.values_mut() {
            match lease.deadline {
                Some(at) if at <= now => {
                    lease.deadline = None;
                    cancel(lease, CancelReason::Timeout, "the attempt ran past its timeout", &mut self.commands);
                }
                Some(at) => self.deadline_at = Some(self.deadline_at.map_or(at, |earlier| earlier.min(at))),
                None => {}
            }
        }
    }

    // --- draining ---

    fn drain_on(&mut self, now: Instant) {
        if self.drain_at.is_some_and(|at| at <= now) && self.kill_at.is_none() && self.running > 0 {
            self.cancel_all("worker is shutting down");
            self.kill_at = Some(now + SHUTDOWN_GRACE);
        }
        if self.kill_at.is_some_and(|at| at <= now) && !self.leases.is_empty() {
            self.cancel_all("worker is shutting down");
            for (token, lease) in std::mem::take(&mut self.leases) {
                self.stopped(&lease);
                if lease.lost {
                    self.reports.forget(&token);
                } else {
                    let outcome = pb::Outcome { result: Some(released("worker shut down")), ..Default::default() };
                    self.report(&token, lease, outcome, now);
                }
            }
        }
    }

    fn cancel_all(&mut self, message: &str) {
        for lease in self.leases.values_mut() {
            cancel(lease, CancelReason::Shutdown, message, &mut self.commands);
        }
    }

    /// Half-closes once nothing is in hand and everything is acknowledged.
    fn close_when_done(&mut self, now: Instant) {
        match self.state {
            State::Over => {}
            State::Closing => {
                if self.last_ack_at.is_some_and(|at| at <= now) {
                    self.exit(Ok(()));
                }
            }
            _ if !self.leases.is_empty() => {}
            State::Active if self.outbox.is_empty() => {
                self.commands.push(Command::HalfClose);
                self.state = State::Closing;
                self.last_ack_at = Some(now + SHUTDOWN_GRACE);
            }
            _ if self.outbox.is_empty() => self.exit(Ok(())),
            _ => match self.last_ack_at {
                None => {
                    // Without a stream there is hope for one until the grace is over.
                    let hopeful = self.state != State::Active && self.kill_at.is_none();
                    let from = if hopeful { self.drain_at.unwrap_or(now).max(now) } else { now };
                    self.last_ack_at = Some(from + SHUTDOWN_GRACE);
                }
                Some(at) if at <= now => {
                    let count = self.outbox.len();
                    let warning = format!("{count} outcomes were not acknowledged; those jobs may run again");
                    self.commands.push(Command::Warn(warning));
                    self.exit(Ok(()));
                }
                Some(_) => {}
            },
        }
    }

    fn exit(&mut self, end: Result<(), Box<RpcError>>) {
        if self.state != State::Over {
            self.state = State::Over;
            self.commands.push(Command::Exit(end));
        }
    }

    // --- the stream's life ---

    fn hello(&mut self, now: Instant) -> pb::StreamJobsRequest {
        self.outbox.resend();
        self.started.clear(); // `running_for` says it
        self.heartbeats.clear();
        (self.seq, self.received) = (1, 0);
        (self.receipt_at, self.heartbeat_at, self.unnamed_since, self.leave_at) = (None, None, None, None);
        self.say_state = self.quiet || self.drain_at.is_some();
        self.say_capacity = false;
        (self.state, self.opened_at, self.last_frame) = (State::Opening, now, now);
        let mut held = Vec::with_capacity(self.leases.len() + self.outbox.len());
        for (token, lease) in &mut self.leases {
            lease.named = true;
            held.push(pb::HeldLease {
                lease_token: token.to_string(),
                running_for: lease.started.map(|started| to_duration(now - started)),
            });
        }
        held.extend(self.outbox.iter().map(|report| pb::HeldLease {
            lease_token: report.outcome.lease_token.clone(),
            running_for: report.outcome.run_duration,
        }));
        pb::StreamJobsRequest {
            seq: 1,
            hello: Some(pb::Hello {
                session_id: self.config.session_id.clone(),
                worker_id: self.config.worker_id.clone(),
                held,
                types: self.config.types.clone(),
                subscriptions: self.config.subscriptions.clone(),
                capacity: Some(self.capacity()),
                info: Some(self.config.info.clone()),
                revision: 1,
                features: Vec::new(),
                lease_ttl: self.config.lease_ttl.map(to_duration),
            }),
            ..Default::default()
        }
    }

    fn backoff(&mut self, now: Instant) -> Duration {
        if self.state == State::Active && now >= self.opened_at + SETTLED_AFTER {
            self.failures = 0;
        }
        // With jobs in hand the next try comes while their leases still run.
        let held = !self.leases.is_empty() || !self.outbox.is_empty();
        let max = if held { BACKOFF_MAX.min(self.lease_ttl / 3) } else { BACKOFF_MAX };
        let ceiling = max.min(BACKOFF_FIRST * 2_u32.pow(self.failures.min(16)));
        self.failures += 1;
        ceiling.mul_f64(self.rng.random::<f64>())
    }

    fn abandon(&mut self, why: &'static str, now: Instant) {
        self.commands.push(Command::Disconnect(why));
        if self.state == State::Closing {
            self.exit(Ok(()));
        } else {
            let delay = self.backoff(now);
            self.go_idle(now + delay);
        }
    }

    fn go_idle(&mut self, connect_at: Instant) {
        (self.state, self.connect_at, self.leave_at) = (State::Idle, connect_at, None);
    }
}

/// Tells a running handler to stop, once per reason; nothing overrules a lost lease.
fn cancel(lease: &mut Lease, reason: CancelReason, message: &str, commands: &mut Vec<Command>) {
    if lease.started.is_none() || lease.cancelled == Some(reason) || lease.cancelled == Some(CancelReason::LeaseLost) {
        return;
    }
    lease.cancelled = Some(reason);
    commands.push(Command::Cancel(Arc::clone(&lease.control), reason, message.to_owned()));
}
