//! One connected worker. A task owns its window, its leases, what it is owed and what it owes; everything else sends it
//! events. It never waits for the store: store calls are futures beside the loop, and their answers are events too.
mod farewell;
pub(super) mod open;
mod outbox;
mod renewals;
mod tick;

use std::{
    collections::{BTreeMap, btree_map},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use hashbrown::{HashMap, HashSet, hash_map};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use self::{outbox::Outbox, renewals::Renewals, tick::Agenda};
pub use super::leases::Lease;
use super::{
    Inner, SessionEnd,
    contact::Patience,
    dispatch::{self, Freed, Key, Window, size},
    leases::{Table, add_freed, freed},
    sessions::{Leases, Stats},
    settle::{Holder, Known, Settled, Settling},
    spread,
    transition::{Event as Happened, allowance_ms, short},
};
use crate::{
    check,
    model::{
        ids::{JobId, LeaseToken, QueueName, Shard},
        job::{CancelRequest, Failure, FailureKind, Parts},
        op::{Leased, Verdict},
        worker::{
            CancelOrder, Capacity, Directive, DirectiveKind, Ended, FailureAction, GoAway, Heartbeat, Hello, JobLease,
            LogReport, Rejection, Report, ServerFrame, WorkerFrame, WorkerState,
        },
    },
    store::StoreError,
};
pub(super) use open::spread_ms;

/// How long a newer stream of the session waits for what the older one has sent to the store.
const TAKEOVER: Duration = Duration::from_secs(1);

/// What a session hears.
pub enum Event {
    Frame(Box<WorkerFrame>),
    HalfClosed,
    Deliver(Vec<Leased>),
    Recall {
        queue: QueueName,
        count: usize,
    },
    Cancelled(Arc<[JobId]>),
    Directive(Directive),
    /// A newer stream of the same session: hand over what is held.
    Takeover(oneshot::Sender<Leases>),
    GoAway(GoAway),
    Inventory(oneshot::Sender<Vec<JobId>>),
    /// Which of these jobs this worker has in hand.
    Holds(Arc<[JobId]>, oneshot::Sender<Vec<JobId>>),
    /// Wakes were lost: any of its jobs may have been asked to stop.
    LookAgain,
}

/// The inbound half of a worker's stream. Dropping it without [`SessionHandle::half_close`] = the stream broke.
pub struct SessionHandle {
    events: mpsc::Sender<Event>,
    broken: CancellationToken,
    end: watch::Receiver<Option<SessionEnd>>,
}

impl SessionHandle {
    /// Takes a frame; never waits for the store. False = the session has ended.
    pub async fn frame(&self, frame: WorkerFrame) -> bool {
        self.events.send(Event::Frame(Box::new(frame))).await.is_ok()
    }

    /// The worker half-closed.
    pub async fn half_close(&self) {
        _ = self.events.send(Event::HalfClosed).await;
    }

    /// Resolves with the reason once the session has ended and its last frame is in the channel.
    pub async fn ended(&self) -> SessionEnd {
        let mut end = self.end.clone();
        let found = end.wait_for(Option::is_some).await.map(|end| end.expect("just checked"));
        found.unwrap_or(SessionEnd::GoAway)
    }
}

impl Drop for SessionHandle {
    fn drop(&mut self) {
        self.broken.cancel();
    }
}

/// An answer of the store.
enum Answer {
    Settled { seq: i64, shard: Shard, result: Result<Settled, StoreError> },
    Renewed { heartbeats: Vec<i64>, tokens: Vec<LeaseToken>, result: Result<Vec<Verdict>, StoreError> },
    Cancels(Vec<(JobId, CancelRequest)>),
    Nothing,
}

struct Session {
    inner: Arc<Inner>,
    key: Key,
    hello: Arc<Hello>,
    holder: Arc<Holder>,
    worker_id: Arc<str>,
    ttl_ms: i64,
    stats: Arc<Stats>,
    table: Table,
    outbox: Outbox,
    answers: FuturesUnordered<BoxFuture<'static, Answer>>,
    /// Request frames whose outcomes are on their way into the store, in so many calls.
    unsettled: BTreeMap<i64, usize>,
    /// How many such calls there are, by shard.
    settling: HashMap<Shard, usize>,
    renewals: Renewals,
    contact: watch::Receiver<u64>,
    last_seq: i64,
    first: bool,
    capacity: Capacity,
    state: WorkerState,
    directive: Option<Directive>,
    /// The worker does not read what it is sent.
    silent: bool,
    agenda: Agenda,
    half_closed: bool,
    /// Takes nothing new, whatever it announces.
    leaving: bool,
    told_to_go: bool,
}

impl Session {
    /// Runs until the stream ends, one way or another.
    async fn run(
        mut self,
        mut events: mpsc::Receiver<Event>,
        out: mpsc::Sender<ServerFrame>,
        broken: CancellationToken,
        end: watch::Sender<Option<SessionEnd>>,
    ) {
        let how = loop {
            let next = self.next_tick();
            tokio::select! {
                permit = out.reserve(), if self.outbox.is_due() => match permit {
                    Ok(permit) => permit.send(self.frame()),
                    Err(_) => break None,
                },
                Some(answer) = self.answers.next(), if !self.answers.is_empty() => self.on_answer(answer),
                event = events.recv() => {
                    let Some(event) = event else { break None };
                    if let Some(how) = self.on_event(event).await {
                        break how;
                    }
                }
                Ok(()) = self.contact.changed() => self.on_contact(),
                () = broken.cancelled() => break None,
                () = tokio::time::sleep(next) => if let Some(how) = self.tick() {
                    break how;
                },
                () = self.inner.stopped.cancelled() => break Some(SessionEnd::GoAway),
            }
            if self.half_closed && self.answers.is_empty() && !self.outbox.is_due() {
                break Some(SessionEnd::Clean);
            }
        };
        self.leave(how, events).await;
        _ = end.send(Some(how.unwrap_or(SessionEnd::GoAway)));
    }

    async fn on_event(&mut self, event: Event) -> Option<Option<SessionEnd>> {
        match event {
            Event::Frame(frame) => {
                if let Err(rule) = self.on_frame(*frame).await {
                    return Some(Some(SessionEnd::Violation(rule)));
                }
            }
            Event::HalfClosed => {
                if self.told_to_go {
                    // It goes on elsewhere: what it holds stays its own.
                    return Some(Some(SessionEnd::GoAway));
                }
                self.half_closed = true;
                self.leaving = true;
            }
            Event::Deliver(jobs) => self.deliver(jobs),
            Event::Recall { queue, count } => self.recall(&queue, count).await,
            Event::Cancelled(ids) => self.look_up_cancels(&ids),
            Event::Directive(directive) => {
                self.outbox.directive = Some(directive.clone());
                self.directive = Some(directive);
                self.announce_window().await;
            }
            Event::Takeover(reply) => {
                // What is on its way into the store is let through first, unless that takes long.
                _ = tokio::time::timeout(TAKEOVER, async {
                    while let Some(answer) = self.answers.next().await {
                        self.on_answer(answer);
                    }
                })
                .await;
                _ = reply.send(self.table.take());
                return Some(Some(SessionEnd::Moved));
            }
            Event::GoAway(go_away) => {
                self.leaving = true;
                self.told_to_go = true;
                self.agenda.end_by(self.inner.mono_ms() + go_away.grace_ms);
                self.outbox.go_away = Some(go_away);
                self.announce_window().await;
            }
            Event::Holds(ids, reply) => {
                let held = |id: &JobId| self.table.by_id(*id).is_some_and(|lease| !lease.revoked);
                _ = reply.send(ids.iter().copied().filter(held).collect());
            }
            Event::LookAgain => {
                let all: Vec<JobId> = self.table.iter().map(|lease| lease.known.meta.id).collect();
                self.look_up_cancels(&all);
            }
            Event::Inventory(reply) => _ = reply.send(self.table.iter().map(|lease| lease.known.meta.id).collect()),
        }
        None
    }

    // What arrives from the worker.

    async fn on_frame(&mut self, frame: WorkerFrame) -> Result<(), &'static str> {
        // The rest of the hello's own frame comes under its number.
        if frame.seq != self.last_seq + 1 && !(frame.seq == self.last_seq && self.first) {
            return Err("seq must rise by one with every frame");
        }
        self.last_seq = frame.seq;
        self.first = false;
        let now_ms = self.inner.mono_ms();
        self.agenda.heard(now_ms);
        self.stats.last_seen_ms.store(self.inner.wall_ms(), Relaxed);
        if frame.received_seq > 0 {
            self.table.received(frame.received_seq, now_ms);
        }
        self.on_started(&frame.started, now_ms);
        // Before the outcomes of the same frame, which end the leases that they belong to.
        self.on_progress(frame.progress, now_ms);
        self.on_logs(frame.logs);
        let mut gone = self.on_outcomes(frame.seq, frame.outcomes, frame.refused);
        if let Some(heartbeat) = frame.heartbeat {
            gone.extend(self.on_heartbeat(frame.seq, heartbeat, now_ms));
        }
        if !gone.is_empty() {
            self.inner.dispatch_event(dispatch::Event::Freed(self.key, gone)).await;
        }
        let was_silent = std::mem::replace(&mut self.silent, false);
        if frame.capacity.is_some() || frame.state.is_some() || was_silent {
            self.capacity = frame.capacity.unwrap_or(self.capacity);
            self.state = frame.state.unwrap_or(self.state);
            self.announce_window().await;
        }
        self.acknowledge();
        self.publish_numbers();
        Ok(())
    }

    fn on_started(&mut self, tokens: &[LeaseToken], now_ms: i64) {
        tokens.iter().for_each(|token| self.table.started(token, now_ms));
    }

    /// Frees the slots of reported leases at once and sends the outcomes on their way. A job that is given back comes before
    /// all others of its priority: its slot is free only when it is there, or one behind it would be taken.
    fn on_outcomes(
        &mut self,
        seq: i64,
        reports: Vec<Report>,
        refused: Vec<(Option<LeaseToken>, Rejection)>,
    ) -> Vec<Freed> {
        for (token, rejection) in refused {
            if let Some(lease) = token.as_ref().and_then(|token| self.table.get_mut(token)) {
                lease.read = false;
            }
            self.inner.meters.rejected(std::slice::from_ref(&rejection));
            self.outbox.reject(rejection, token);
        }
        if reports.is_empty() {
            return Vec::new();
        }
        let (mut done, mut late) = (Vec::new(), Vec::new());
        let mut batch = Vec::with_capacity(reports.len());
        for report in reports {
            let lease = self.table.remove(&report.token);
            let freed = if matches!(report.ended, Ended::Released { .. }) { &mut late } else { &mut done };
            lease.iter().for_each(|lease| add_freed(freed, lease));
            batch.push(Settling { known: lease.map(|lease| lease.known), report });
        }
        self.settle(seq, batch, late);
        done
    }

    /// One call for each shard, so that one that does not answer holds up nobody else's outcomes. `late`: what the first
    /// of them frees.
    fn settle(&mut self, seq: i64, batch: Vec<Settling>, mut late: Vec<Freed>) {
        let shard_of = |item: &Settling| item.report.token.job.shard();
        let calls = match spread::one_call(&batch, shard_of) {
            Some(shard) => vec![(shard, batch)],
            None => spread::by_shard(batch, shard_of),
        };
        *self.unsettled.entry(seq).or_default() += calls.len();
        for (shard, mut batch) in calls {
            *self.settling.entry(shard).or_default() += 1;
            let (inner, holder, key, late) =
                (self.inner.clone(), self.holder.clone(), self.key, std::mem::take(&mut late));
            self.answers.push(Box::pin(async move {
                let mut patience = Patience::new(&inner, shard);
                let result = loop {
                    match inner.settle(&holder, &mut batch).await {
                        Err(error) if patience.again(&error).await => {}
                        result => break result,
                    }
                };
                if !late.is_empty() {
                    inner.dispatch_event(dispatch::Event::Freed(key, late)).await;
                }
                Answer::Settled { seq, shard, result }
            }));
        }
    }

    fn on_heartbeat(&mut self, seq: i64, heartbeat: Heartbeat, now_ms: i64) -> Vec<Freed> {
        self.stats.rss_bytes.store(heartbeat.rss_bytes, Relaxed);
        self.stats.cpu_permille.store((heartbeat.cpu_percent.max(0.0) * 10.0) as u32, Relaxed);
        let named: HashSet<LeaseToken> = heartbeat.held.iter().copied().collect();
        let missing = self.table.unnamed(&named);
        let mut gone = Vec::with_capacity(missing.len());
        let mut back = Vec::new();
        for token in missing {
            let lease = self.table.remove(&token).expect("it is in the table");
            if !lease.revoked {
                let started = self.table.counts_as_started(&lease);
                back.push((token, lease.known.clone(), Happened::Lost { started }));
            }
            gone.push(lease);
        }
        self.give_back(back);

        let mut lost = heartbeat.unknown;
        let mut renew = Vec::with_capacity(heartbeat.held.len());
        for token in heartbeat.held {
            match self.table.get_mut(&token) {
                Some(lease) if !lease.revoked => {
                    lease.read = true;
                    lease.named_ms = now_ms;
                    renew.push(token);
                }
                Some(_) | None => lost.push(token.encode()),
            }
        }
        self.outbox.heartbeat_ack(seq, lost);
        self.renew(Some(seq), renew, now_ms);
        freed(gone.iter())
    }

    fn on_logs(&mut self, reports: Vec<LogReport>) {
        for LogReport { token, mut lines } in reports {
            let Some(lease) = self.table.get_mut(&token) else { continue };
            let (inner, attempt) = (self.inner.clone(), lease.known.meta.failures + 1);
            lines.iter_mut().for_each(|line| line.attempt = attempt);
            self.answers.push(Box::pin(async move {
                let keep = inner.config.limits.log_lines;
                match inner.store.log(token.job, lines, keep).await {
                    Ok(()) => inner.hub.touched(token.job),
                    Err(error) => debug!(%error, "log lines were dropped"),
                }
                Answer::Nothing
            }));
        }
    }

    // What arrives from elsewhere.

    fn deliver(&mut self, jobs: Vec<Leased>) {
        let (now_ms, wall_ms) = (self.inner.mono_ms(), self.inner.wall_ms());
        let mut damaged = Vec::new();
        for job in jobs {
            let bytes = size(&job);
            let Leased { meta, secret, body, checkpoint, last_failure, passed } = job;
            let token = LeaseToken { job: meta.id, secret };
            self.inner.hub.touched(meta.id);
            let Some(body) = body else {
                error!(job = %meta.id, "the stored body is damaged: the job is ended");
                damaged.push(unprocessable(token, Known { meta, policy: Default::default() }));
                continue;
            };
            self.outbox.push_job(JobLease {
                token,
                task: self.inner.codec.complete(&body.task, &meta),
                attempt: meta.failures + 1,
                max_attempts: body.policy.retry.max_attempts,
                delivery: meta.delivery,
                timeout_ms: allowance_ms(&meta, &body.policy, wall_ms),
                heartbeat_ms: body.policy.heartbeat_ms,
                checkpoint,
                last_failure: last_failure.map(|failure| short(&failure)),
                wait_ms: (meta.start_ms - meta.ready_ms).max(0),
                crashes: meta.crashes,
                passed,
            });
            self.table.insert(Lease {
                secret,
                known: Known { meta, policy: body.policy },
                worker_id: self.worker_id.clone(),
                bytes,
                frame: 0,
                read: false,
                started_ms: None,
                heard_ms: now_ms,
                issued_ms: now_ms,
                named_ms: now_ms,
                renewed: false,
                stored_started: false,
                revoked: false,
                ordered: None,
            });
        }
        if !damaged.is_empty() {
            let gone = vec![Freed {
                queue: damaged[0].known.as_ref().expect("known").meta.queue.clone(),
                count: damaged.len() as u32,
                bytes: 0,
            }];
            self.settle(self.last_seq, damaged, Vec::new());
            _ = self.inner.dispatch.try_send(dispatch::Event::Freed(self.key, gone));
        }
        check!(I25, self.table.len() <= self.inner.config.limits.slots, "leases of a stream stay below the cap");
        self.publish_numbers();
    }

    async fn recall(&mut self, queue: &QueueName, count: usize) {
        let waiting = |lease: &&Lease| lease.started_ms.is_none() && !lease.revoked && lease.known.meta.queue == *queue;
        let tokens: Vec<LeaseToken> = self.table.iter().filter(waiting).take(count).map(Lease::token).collect();
        self.inner.meters.totals.recalls.fetch_add(tokens.len() as u64, Relaxed);
        self.outbox.recalls.extend(tokens);
        self.inner.dispatch_event(dispatch::Event::Recalled(self.key)).await;
    }

    /// Reads what is asked of those of `ids` that this worker holds.
    fn look_up_cancels(&mut self, ids: &[JobId]) {
        let held: Vec<JobId> = ids.iter().copied().filter(|id| self.table.by_id(*id).is_some()).collect();
        if held.is_empty() {
            return;
        }
        let inner = self.inner.clone();
        self.answers.push(Box::pin(async move {
            let mut patience = Patience::new(&inner, held[0].shard());
            let records = loop {
                match inner.store.get(&held, Parts::META).await {
                    Err(error) if patience.again(&error).await => {}
                    records => break records,
                }
            };
            let found = records.unwrap_or_default().into_iter().flatten();
            Answer::Cancels(found.filter_map(|r| r.meta.cancel.clone().map(|request| (r.meta.id, request))).collect())
        }));
    }

    fn on_answer(&mut self, answer: Answer) {
        match answer {
            Answer::Settled { seq, shard, result } => {
                match result {
                    Ok(settled) => {
                        self.settled(seq, shard);
                        self.inner.meters.rejected(&settled.rejections);
                        self.stats.succeeded.fetch_add(settled.succeeded, Relaxed);
                        self.stats.failed.fetch_add(settled.failed, Relaxed);
                        for rejection in settled.rejections {
                            self.outbox.reject(rejection, None);
                        }
                        self.acknowledge();
                    }
                    // The server is closing: what is not acknowledged will be sent again, to another one.
                    Err(error) => {
                        debug!(%error, "outcomes stay unacknowledged");
                    }
                }
            }
            Answer::Renewed { heartbeats, tokens, result } => self.on_renewed(heartbeats, tokens, result),
            Answer::Cancels(found) => found.into_iter().for_each(|(id, request)| self.order_cancel(id, request)),
            Answer::Nothing => {}
        }
    }

    /// One call with outcomes of frame `seq` is durable.
    fn settled(&mut self, seq: i64, shard: Shard) {
        if let btree_map::Entry::Occupied(mut calls) = self.unsettled.entry(seq) {
            *calls.get_mut() -= 1;
            if *calls.get() == 0 {
                calls.remove();
            }
        }
        if let hash_map::Entry::Occupied(mut calls) = self.settling.entry(shard) {
            *calls.get_mut() -= 1;
            if *calls.get() == 0 {
                calls.remove();
                self.renew_after_outage(true);
            }
        }
    }

    fn order_cancel(&mut self, id: JobId, request: CancelRequest) {
        let wall_ms = self.inner.wall_ms();
        let Some(lease) = self.table.by_id(id) else { return };
        let known = lease.known.meta.cancel.as_ref();
        if lease.revoked || known == Some(&request) {
            return;
        }
        lease.ordered = Some(crate::model::worker::CancelReason::Requested);
        let token = lease.token();
        self.outbox.cancels.push(CancelOrder::requested(token, &request, wall_ms));
        lease.known.meta.cancel = Some(request);
    }

    // What leaves.

    fn frame(&mut self) -> ServerFrame {
        let frame = self.outbox.build();
        let now_ms = self.inner.mono_ms();
        let mut ids: Vec<JobId> = frame.jobs.iter().map(|job| job.token.job).collect();
        ids.extend(self.outbox.rearmed.drain(..).map(|token| token.job));
        self.table.sent(frame.seq, now_ms, ids);
        self.agenda.sent(now_ms);
        frame
    }

    /// Everything up to the first frame whose outcomes are not durable yet.
    fn acknowledge(&mut self) {
        let upto = self.unsettled.first_key_value().map_or(self.last_seq, |(first, _)| first - 1);
        check!(I1, self.unsettled.range(..=upto).next().is_none(), "nothing is acknowledged before it is durable");
        self.outbox.acknowledge(upto);
    }

    async fn announce_window(&mut self) {
        let quiet = matches!(&self.directive, Some(d) if d.kind != DirectiveKind::Run);
        let accepting = self.state == WorkerState::Active && !quiet && !self.silent && !self.leaving;
        self.stats.quiet.store(self.state == WorkerState::Quiet, Relaxed);
        self.stats.draining.store(self.state == WorkerState::Draining, Relaxed);
        let window = Window {
            slots: self.slots(),
            max_bytes: self.capacity.max_bytes,
            concurrency: self.capacity.concurrency,
            accepting,
        };
        self.stats.slots.store(window.slots, Relaxed);
        self.stats.concurrency.store(window.concurrency, Relaxed);
        self.inner.dispatch_event(dispatch::Event::Window(self.key, window)).await;
    }

    fn slots(&self) -> u32 {
        self.capacity.slots.min(self.inner.config.limits.slots as u32)
    }

    fn publish_numbers(&self) {
        self.stats.in_flight.store(self.table.len() as u32, Relaxed);
        self.stats.running.store(self.table.running() as u32, Relaxed);
    }

    // Calls to the store.

    fn give_back(&mut self, leases: Vec<(LeaseToken, Known, Happened)>) {
        if leases.is_empty() {
            return;
        }
        for (shard, leases) in spread::by_shard(leases, |(token, ..)| token.job.shard()) {
            let (inner, holder) = (self.inner.clone(), self.holder.clone());
            self.answers.push(Box::pin(async move {
                let mut patience = Patience::new(&inner, shard);
                loop {
                    match inner.give_back(&holder, leases.clone()).await {
                        Err(error) if patience.again(&error).await => {}
                        Err(error) => break debug!(%error, "leases come back when they run out"),
                        Ok(()) => break,
                    }
                }
                Answer::Nothing
            }));
        }
    }
}

/// A job that cannot be run, because what it was asked to do is damaged.
fn unprocessable(token: LeaseToken, known: Known) -> Settling {
    let failure = Failure::new(FailureKind::Unprocessable, "the stored job is damaged");
    let ended = Ended::Failed { failure, action: FailureAction::Stop, retry_delay_ms: None };
    Settling {
        known: Some(known),
        report: Report { token, ended, run_ms: None, checkpoint: None, enqueue: Vec::new() },
    }
}
