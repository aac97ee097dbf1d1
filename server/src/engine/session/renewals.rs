//! What keeps leases alive, and what travels with it: starts, progress, checkpoints. While a shard does not answer nothing
//! is sent to it: reports are gathered, and when it is back all leases there are renewed in one go, after the outcomes.
use std::{collections::BTreeMap, sync::Arc};

use hashbrown::HashMap;

use super::{Answer, Session};
use crate::{
    engine::{
        Inner,
        contact::{Patience, Waiting},
        spread,
    },
    model::{
        ids::{JobId, LeaseToken, Shard},
        job::{Payload, Progress},
        op::{Act, Guard, Op, Verdict},
        worker::ProgressReport,
    },
    store::StoreError,
};

/// Renewals on their way.
#[derive(Default)]
pub(super) struct Renewals {
    /// Calls that a heartbeat still waits for before it is answered, by the number of its frame.
    awaited: BTreeMap<i64, usize>,
    /// What waits for shards that were lost.
    parked: HashMap<Shard, Parked>,
}

struct Parked {
    _first: Waiting<Arc<Inner>>,
    /// Heartbeats that wait.
    heartbeats: Vec<i64>,
    /// The latest report of each job.
    reports: HashMap<JobId, (Option<Progress>, Option<Payload>)>,
}

impl Session {
    pub(super) fn on_progress(&mut self, reports: Vec<ProgressReport>, now_ms: i64) {
        let wall_ms = self.inner.wall_ms();
        let mut ops = Vec::with_capacity(reports.len());
        for ProgressReport { token, progress, checkpoint } in reports {
            let ttl_ms = self.ttl_ms;
            let Some(lease) = self.table.get_mut(&token).filter(|lease| !lease.revoked) else { continue };
            lease.named_ms = now_ms;
            lease.heard_ms = now_ms;
            let started = lease.started_ms.is_some();
            lease.renewed = true;
            lease.stored_started |= started;
            let progress = progress.map(|mut progress| {
                progress.update_ms = wall_ms;
                progress
            });
            ops.push(extension(token, ttl_ms, started, progress, checkpoint));
        }
        self.extend(None, ops);
    }

    pub(super) fn renew(&mut self, heartbeat: Option<i64>, tokens: Vec<LeaseToken>, now_ms: i64) {
        let ops = tokens.into_iter().filter_map(|token| self.renewal(token, now_ms, (None, None))).collect();
        self.extend(heartbeat, ops);
    }

    fn renewal(
        &mut self,
        token: LeaseToken,
        now_ms: i64,
        (progress, checkpoint): (Option<Progress>, Option<Payload>),
    ) -> Option<Op> {
        let (ttl_ms, reports_starts) = (self.ttl_ms, self.table.reports_starts);
        let lease = self.table.get_mut(&token)?;
        let started = lease.started_ms.is_some() || (!reports_starts && lease.read);
        let lease_ms = (ttl_ms - (now_ms - lease.named_ms)).max(0);
        let news = started && !lease.stored_started;
        lease.renewed = true;
        lease.stored_started |= started;
        Some(extension(token, lease_ms, news, progress, checkpoint))
    }

    fn extend(&mut self, heartbeat: Option<i64>, ops: Vec<Op>) {
        let shard_of = |op: &Op| op.id.shard();
        let calls = match spread::one_call(&ops, shard_of) {
            Some(shard) => vec![(shard, ops)],
            None => spread::by_shard(ops, shard_of),
        };
        if let Some(seq) = heartbeat {
            if calls.is_empty() {
                self.outbox.renewed(seq);
            } else {
                self.renewals.awaited.insert(seq, calls.len());
            }
        }
        for (shard, ops) in calls {
            if self.inner.contact.is_lost(shard) {
                self.parked(shard).take(heartbeat, ops);
            } else {
                self.send_renewals(shard, heartbeat.into_iter().collect(), ops, None);
            }
        }
    }

    fn parked(&mut self, shard: Shard) -> &mut Parked {
        self.renewals.parked.entry(shard).or_insert_with(|| Parked {
            _first: Waiting::new(self.inner.clone(), shard),
            heartbeats: Vec::new(),
            reports: HashMap::new(),
        })
    }

    fn send_renewals(&mut self, shard: Shard, heartbeats: Vec<i64>, ops: Vec<Op>, first: Option<Waiting<Arc<Inner>>>) {
        let tokens = ops.iter().map(token_of).collect();
        let inner = self.inner.clone();
        self.answers.push(Box::pin(async move {
            let mut patience = Patience::new(&inner, shard);
            let result = loop {
                match inner.apply(ops.clone()).await {
                    Err(error) if patience.again(&error).await => {}
                    result => break result,
                }
            };
            drop(first);
            Answer::Renewed { heartbeats, tokens, result }
        }));
    }

    /// Shards were lost or are back.
    pub(super) fn on_contact(&mut self) {
        let inner = self.inner.clone();
        for shard in inner.contact.lost() {
            self.parked(shard);
        }
        self.renew_after_outage(true);
    }

    /// Renews all leases in shards that are back; `outcomes_first`: unless outcomes of this worker are still on their way
    /// there.
    pub(super) fn renew_after_outage(&mut self, outcomes_first: bool) {
        if self.renewals.parked.is_empty() {
            return;
        }
        let waits =
            |shard: Shard| self.inner.contact.is_lost(shard) || (outcomes_first && self.settling.contains_key(&shard));
        let back: Vec<Shard> = self.renewals.parked.keys().copied().filter(|shard| !waits(*shard)).collect();
        let now_ms = self.inner.mono_ms();
        for shard in back {
            let Some(parked) = self.renewals.parked.remove(&shard) else { continue };
            let Parked { _first: first, heartbeats, mut reports } = parked;
            let mut tokens = Vec::new();
            for lease in self.table.iter_mut() {
                if lease.read && !lease.revoked && lease.token().job.shard() == shard {
                    // What was not sent was not stored.
                    lease.stored_started = false;
                    tokens.push(lease.token());
                }
            }
            let renewal = |token: LeaseToken| {
                let report = reports.remove(&token.job).unwrap_or_default();
                self.renewal(token, now_ms, report)
            };
            let ops: Vec<Op> = tokens.into_iter().filter_map(renewal).collect();
            self.send_renewals(shard, heartbeats, ops, Some(first));
        }
    }

    pub(super) fn on_renewed(
        &mut self,
        heartbeats: Vec<i64>,
        tokens: Vec<LeaseToken>,
        result: Result<Vec<Verdict>, StoreError>,
    ) {
        let Ok(verdicts) = result else { return };
        for (token, verdict) in tokens.into_iter().zip(verdicts) {
            match verdict {
                Verdict::Done(facts) => {
                    if let Some(request) = facts.cancel {
                        self.order_cancel(token.job, request);
                    }
                }
                // Named, and gone: it takes up a slot until the worker lets go of it.
                Verdict::Already(_)
                | Verdict::Stale
                | Verdict::Conflict(_)
                | Verdict::CancelRequested(_)
                | Verdict::NotFound
                | Verdict::KeyTaken(_) => {
                    if let Some(lease) = self.table.get_mut(&token) {
                        lease.revoked = true;
                        self.outbox.lost(&token);
                    }
                }
            }
        }
        for seq in heartbeats {
            self.renewals.awaited.entry(seq).and_modify(|calls| *calls -= 1);
            if self.renewals.awaited.get(&seq) == Some(&0) {
                self.renewals.awaited.remove(&seq);
                self.outbox.renewed(seq);
            }
        }
    }
}

impl Parked {
    /// Lease times are worked out anew when they are sent.
    fn take(&mut self, heartbeat: Option<i64>, ops: Vec<Op>) {
        self.heartbeats.extend(heartbeat);
        for op in ops {
            if let Act::Extend { progress, checkpoint, .. } = op.act
                && (progress.is_some() || checkpoint.is_some())
            {
                let report = self.reports.entry(op.id).or_default();
                report.0 = progress.or(report.0.take());
                report.1 = checkpoint.or(report.1.take());
            }
        }
    }
}

fn extension(
    token: LeaseToken,
    lease_ms: i64,
    started: bool,
    progress: Option<Progress>,
    checkpoint: Option<Payload>,
) -> Op {
    let act = Act::Extend { lease_ms, started, progress, checkpoint };
    Op { id: token.job, guard: Guard::Token(token.secret), act }
}

fn token_of(op: &Op) -> LeaseToken {
    match op.guard {
        Guard::Token(secret) => LeaseToken { job: op.id, secret },
        Guard::Due(_) | Guard::In(_) | Guard::Version(_) => unreachable!("renewals are guarded by their token"),
    }
}
