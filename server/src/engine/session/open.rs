//! Opening a stream: the newest Hello wins, what it names is renewed, what the previous stream held and it does not name
//! goes back at once.
use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use futures::stream::FuturesUnordered;
use hashbrown::HashMap;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::{Event, Lease, Outbox, Renewals, Session, SessionHandle, tick::Agenda};
use crate::{
    engine::{
        Inner, clock,
        dispatch::{self, Joining, Types, Window},
        leases::{Table, freed},
        note::Note,
        sessions::{Leases, Live, Stats},
        settle::{Holder, Known},
        transition::Event as Happened,
    },
    model::{
        ids::{JobId, LeaseToken, Pattern, QueueName},
        job::{Meta, Parts},
        op::{Act, Guard, Op, Verdict},
        state::State,
        time::SECOND,
        worker::{CancelOrder, DirectiveKind, Hello, ServerFrame, Subscription, Welcome, WorkerState},
    },
    store::StoreError,
};

/// Frames on their way to the transport; W1 bounds what is in them.
const OUTBOUND_FRAMES: usize = 4;
/// Events waiting for a session; the dispatcher gives jobs back when it is full.
const INBOX: usize = 1_024;

/// What became of the leases that a Hello named.
#[derive(Default)]
struct Resumed {
    table: Table,
    lost: Vec<LeaseToken>,
    settled: Vec<LeaseToken>,
    cancels: Vec<CancelOrder>,
}

impl Inner {
    /// Opens a worker's stream. The first frame carries the welcome.
    pub async fn open_session(
        self: &Arc<Self>,
        hello: Hello,
        hello_seq: i64,
    ) -> Result<(SessionHandle, mpsc::Receiver<ServerFrame>), StoreError> {
        if self.draining() {
            return Err(StoreError::Closed);
        }
        let key = self.keys.fetch_add(1, Relaxed);
        let (events, inbox) = mpsc::channel(INBOX);
        let (out, frames) = mpsc::channel(OUTBOUND_FRAMES);
        let (end_sender, end) = watch::channel(None);
        let broken = CancellationToken::new();
        let handle = SessionHandle { events: events.clone(), broken: broken.clone(), end };
        let hello = Arc::new(hello);
        let stats = Arc::new(Stats::default());
        let directive = self.read_directive(&hello.session_id).await?;
        let live = Live {
            key,
            events: events.clone(),
            hello: hello.clone(),
            directive: directive.clone(),
            connect_ms: self.wall_ms(),
            stats: stats.clone(),
        };
        let previous = self.take_over(&hello, live).await;
        let holder = Arc::new(Holder { worker_id: hello.worker_id.clone(), session_id: hello.session_id.clone() });
        let worker_id: Arc<str> = hello.worker_id.as_str().into();
        let ttl_ms = hello.lease_ttl_ms.unwrap_or(self.config.lease_ttl_ms).clamp(10 * SECOND, 300 * SECOND);
        let resumed = async {
            let known_queues = self.matching_queues(&hello.subscriptions).await?;
            Ok((self.resume(&hello, &worker_id, ttl_ms, &previous).await?, known_queues))
        };
        let (resumed, known_queues) = match resumed.await {
            Ok(resumed) => resumed,
            Err(error) => {
                self.sessions.leave(&hello.session_id, key);
                // The worker will try again, here or elsewhere.
                self.remember_broken(&hello.session_id, key, previous, ttl_ms);
                return Err(error);
            }
        };
        self.take_back(&holder, previous, &hello).await;
        let held = resumed.table.iter().map(|lease| lease.token().job).collect();
        self.tell_others(&Note::Opened { session_id: hello.session_id.clone(), held }).await;
        if !hello.held.is_empty() {
            self.meters.totals.resumes.fetch_add(1, Relaxed);
        }

        let slots = hello.capacity.slots.min(self.config.limits.slots as u32);
        let now_ms = self.mono_ms();
        let mut outbox = Outbox::default();
        outbox.welcome = Some(Box::new(Welcome {
            lost: resumed.lost,
            settled: resumed.settled,
            cancels: resumed.cancels,
            directive: directive.clone(),
            slots,
            lease_ttl_ms: ttl_ms,
            delivery_ttl_ms: self.config.delivery_ttl_ms.min(ttl_ms),
            heartbeat_ms: ttl_ms / 3,
            revision: 1,
        }));
        outbox.acknowledge(hello_seq);
        let told = matches!(&directive, Some(directive) if directive.kind != DirectiveKind::Run);
        let state = hello.state;
        let joining = Joining {
            key,
            events,
            types: Types::new(&hello.types),
            subscriptions: hello.subscriptions.clone(),
            known_queues,
            window: Window {
                slots,
                max_bytes: hello.capacity.max_bytes,
                concurrency: hello.capacity.concurrency,
                accepting: !told && state == WorkerState::Active,
            },
            held: freed(resumed.table.iter()),
        };
        stats.slots.store(slots, Relaxed);
        stats.concurrency.store(hello.capacity.concurrency, Relaxed);
        stats.last_seen_ms.store(self.wall_ms(), Relaxed);
        let capacity = hello.capacity;
        info!(session = %hello.session_id, worker = %hello.worker_id, sdk = %hello.info.sdk, slots,
            held = resumed.table.len(), "worker connected");
        let session = Session {
            inner: self.clone(),
            key,
            hello,
            holder,
            worker_id,
            ttl_ms,
            stats,
            table: resumed.table,
            outbox,
            answers: FuturesUnordered::new(),
            unsettled: BTreeMap::new(),
            settling: HashMap::new(),
            renewals: Renewals::default(),
            contact: self.contact.changes(),
            last_seq: hello_seq,
            first: true,
            capacity,
            state,
            directive,
            silent: false,
            agenda: Agenda::new(now_ms),
            half_closed: false,
            leaving: false,
            told_to_go: false,
        };
        self.dispatch_event(dispatch::Event::Join(Box::new(joining))).await;
        self.session_tasks.spawn(session.run(inbox, out, broken, end_sender));
        Ok((handle, frames))
    }

    /// Takes the place of an older stream of the session, and what it or a broken one held.
    async fn take_over(&self, hello: &Hello, live: Live) -> Leases {
        let mut previous = self.sessions.exorcise(&hello.session_id);
        if let Some(older) = self.sessions.enter(&hello.session_id, live) {
            let (reply, leases) = oneshot::channel();
            debug!(session = %hello.session_id, "a newer stream takes over");
            if older.events.send(Event::Takeover(reply)).await.is_ok() {
                previous.extend(leases.await.unwrap_or_default());
            } else {
                // It was ending already; what it held is remembered by now.
                previous.extend(self.sessions.exorcise(&hello.session_id));
            }
        }
        previous
    }

    async fn resume(
        self: &Arc<Self>,
        hello: &Hello,
        worker_id: &Arc<str>,
        ttl_ms: i64,
        previous: &Leases,
    ) -> Result<Resumed, StoreError> {
        let mut resumed = Resumed::default();
        let renewals = hello.held.iter().map(|held| Op {
            id: held.token.job,
            guard: Guard::Token(held.token.secret),
            act: Act::Extend { lease_ms: ttl_ms, started: held.running_ms.is_some(), progress: None, checkpoint: None },
        });
        let verdicts = self.apply(renewals.collect()).await?;
        let (now_ms, wall_ms) = (self.mono_ms(), self.wall_ms());
        let mut alive = Vec::new();
        for (held, verdict) in hello.held.iter().zip(verdicts) {
            match verdict {
                Verdict::Done(facts) => {
                    if let Some(request) = &facts.cancel {
                        resumed.cancels.push(CancelOrder::requested(held.token, request, wall_ms));
                    }
                    alive.push(held);
                }
                Verdict::Already(_) => resumed.settled.push(held.token),
                Verdict::Stale
                | Verdict::Conflict(_)
                | Verdict::CancelRequested(_)
                | Verdict::NotFound
                | Verdict::KeyTaken(_) => {
                    resumed.lost.push(held.token);
                }
            }
        }
        let ids: Vec<JobId> = alive.iter().map(|held| held.token.job).collect();
        let records = self.store.get(&ids, Parts::BODY).await?;
        for (held, record) in alive.into_iter().zip(records) {
            let Some(record) = record else { continue };
            let before = previous.get(&held.token.job);
            let bytes = record.body.as_ref().map_or(0, |body| body.task.len() as u64);
            resumed.table.reports_starts |= held.running_ms.is_some();
            resumed.table.insert(Lease {
                secret: held.token.secret,
                known: Known {
                    meta: Meta { state: State::Running, ..record.meta },
                    policy: record.body.map(|body| body.policy).unwrap_or_default(),
                },
                worker_id: worker_id.clone(),
                bytes,
                frame: 0,
                read: true,
                started_ms: held.running_ms.map(|ms| now_ms - ms),
                heard_ms: before.map_or(now_ms, |lease| lease.heard_ms),
                issued_ms: before.map_or(now_ms, |lease| lease.issued_ms),
                named_ms: now_ms,
                renewed: true,
                stored_started: held.running_ms.is_some(),
                revoked: false,
                ordered: None,
            });
        }
        Ok(resumed)
    }

    /// What the previous stream held and this Hello does not name is lost, by the worker's own word.
    async fn take_back(&self, holder: &Holder, previous: Leases, hello: &Hello) {
        let named: HashMap<JobId, u64> = hello.held.iter().map(|held| (held.token.job, held.token.secret)).collect();
        let gone = previous.into_values().filter(|lease| named.get(&lease.known.meta.id) != Some(&lease.secret));
        self.give_back_lost(holder, gone).await;
    }

    /// Gives back what a worker holds no more. What cannot be given back runs out by itself.
    pub(in crate::engine) async fn give_back_lost(&self, holder: &Holder, leases: impl Iterator<Item = Lease>) {
        let lost = |lease: Lease| {
            let started = lease.started_ms.is_some() || lease.stored_started;
            (lease.token(), lease.known, Happened::Lost { started })
        };
        let lost = leases.filter(|lease| !lease.revoked).map(lost).collect();
        if let Err(error) = self.give_back(holder, lost).await {
            debug!(%error, "leases come back when they run out");
        }
    }

    /// Queues that exist and match a prefix that the worker subscribed to.
    pub(in crate::engine) async fn matching_queues(
        &self,
        subscriptions: &[Subscription],
    ) -> Result<Vec<QueueName>, StoreError> {
        let prefixes: Vec<&Pattern> = subscriptions
            .iter()
            .map(|subscription| &subscription.queue)
            .filter(|pattern| matches!(pattern, Pattern::Prefix(_)))
            .collect();
        if prefixes.is_empty() {
            return Ok(Vec::new());
        }
        let facts = self.store.queues(None).await?;
        let names = facts.into_iter().map(|facts| facts.name);
        Ok(names.filter(|name| prefixes.iter().any(|prefix| prefix.matches(name.as_str()))).collect())
    }
}

/// A share of two seconds: servers that restart do not get everybody back at once.
pub(in crate::engine) fn spread_ms() -> i64 {
    (clock::share() * 2_000.0) as i64
}
