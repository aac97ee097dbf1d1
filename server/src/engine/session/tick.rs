//! What a session does because time passes: keep-alives, first renewals, timeouts that the worker did not enforce, silence,
//! old age. Once a second while leases are held, else when the next frame is due.
use std::time::Duration;

use hashbrown::HashMap;

use super::{Session, SessionEnd};
use crate::{
    engine::{
        clock, dispatch,
        transition::{Bound, Event as Happened},
    },
    model::{
        ids::LeaseToken,
        time::{MINUTE, SECOND},
        worker::{CancelOrder, CancelReason, GoAway, GoAwayReason, OVERRUN_ORDER_MS, OVERRUN_SETTLE_MS},
    },
};

/// A lease that no heartbeat has named is renewed by its server at this age; a shorter job costs no renewal.
const RENEW_AT_MS: i64 = 5 * SECOND;
/// A worker that leaves a delivery unread for so long gets no more; receipts are due within a second.
const SILENCE_MS: i64 = 3 * SECOND;
/// A stream lives so long, give or take a fifth; then its worker is asked to reconnect, so that load spreads again.
const STREAM_AGE_MS: i64 = 30 * MINUTE;

/// When things are to happen, on the monotonic clock.
pub(super) struct Agenda {
    heard_ms: i64,
    sent_ms: i64,
    old_at_ms: i64,
    end_ms: Option<i64>,
}

impl Agenda {
    pub fn new(now_ms: i64) -> Self {
        let age_ms = STREAM_AGE_MS as f64 * (0.8 + 0.4 * clock::share());
        Self { heard_ms: now_ms, sent_ms: now_ms, old_at_ms: now_ms + age_ms as i64, end_ms: None }
    }

    pub fn heard(&mut self, now_ms: i64) {
        self.heard_ms = now_ms;
    }

    pub fn sent(&mut self, now_ms: i64) {
        self.sent_ms = now_ms;
    }

    pub fn end_by(&mut self, at_ms: i64) {
        self.end_ms = Some(self.end_ms.map_or(at_ms, |end_ms| end_ms.min(at_ms)));
    }
}

impl Session {
    /// How long there is until [`Session::tick`] has something to do.
    pub(super) fn next_tick(&self) -> Duration {
        let now_ms = self.inner.mono_ms();
        let agenda = &self.agenda;
        let mut at_ms = (agenda.sent_ms + self.heartbeat_ms()).min(agenda.old_at_ms);
        at_ms = at_ms.min(agenda.heard_ms + self.deaf_ms());
        if let Some(end_ms) = agenda.end_ms {
            at_ms = at_ms.min(end_ms);
        }
        if !self.table.is_empty() {
            at_ms = at_ms.min(now_ms + SECOND);
        }
        Duration::from_millis((at_ms - now_ms).max(1) as u64)
    }

    pub(super) fn tick(&mut self) -> Option<Option<SessionEnd>> {
        let now_ms = self.inner.mono_ms();
        if self.agenda.end_ms.is_some_and(|end_ms| now_ms >= end_ms) {
            return Some(Some(SessionEnd::GoAway));
        }
        if now_ms - self.agenda.heard_ms >= self.deaf_ms() {
            return Some(None);
        }
        if now_ms - self.agenda.sent_ms >= self.heartbeat_ms() {
            self.outbox.keep_alive();
        }
        if now_ms >= self.agenda.old_at_ms {
            self.agenda.old_at_ms = i64::MAX;
            self.rebalance(now_ms);
        }
        self.notice_silence(now_ms);
        self.renew_after_outage(false);
        self.renew_aged(now_ms);
        self.enforce_bounds();
        None
    }

    pub(super) fn heartbeat_ms(&self) -> i64 {
        self.ttl_ms / 3
    }

    /// A worker that has said nothing for so long is gone: its leases have run out.
    fn deaf_ms(&self) -> i64 {
        self.ttl_ms + 5 * SECOND
    }

    fn rebalance(&mut self, now_ms: i64) {
        let grace_ms = 5 * SECOND;
        self.outbox.go_away = Some(GoAway {
            reason: GoAwayReason::Rebalance,
            reconnect_ms: (clock::share() * 1_000.0) as i64,
            grace_ms,
            message: "the stream has reached its age".to_owned(),
        });
        self.agenda.end_by(now_ms + grace_ms);
        self.leaving = true;
        self.told_to_go = true;
        self.window_later();
    }

    fn notice_silence(&mut self, now_ms: i64) {
        let unread_ms = self.table.unread_since().map_or(0, |since_ms| now_ms - since_ms);
        if !self.silent && unread_ms >= SILENCE_MS {
            self.silent = true;
            self.window_later();
        }
    }

    /// Tells the dispatcher of the window from a place that cannot wait; if its inbox is full the next frame does.
    fn window_later(&mut self) {
        let window = dispatch::Window {
            slots: self.slots(),
            max_bytes: self.capacity.max_bytes,
            concurrency: self.capacity.concurrency,
            accepting: false,
        };
        _ = self.inner.dispatch.try_send(dispatch::Event::Window(self.key, window));
    }

    fn renew_aged(&mut self, now_ms: i64) {
        let aged = self
            .table
            .iter()
            .filter(|lease| lease.read && !lease.renewed && !lease.revoked && now_ms - lease.issued_ms >= RENEW_AT_MS);
        let tokens: Vec<LeaseToken> = aged.map(|lease| lease.token()).collect();
        if !tokens.is_empty() {
            self.renew(None, tokens, now_ms);
        }
    }

    /// The worker ends its attempts itself. One that does not is told to; then the server settles the attempt.
    fn enforce_bounds(&mut self) {
        let now = self.inner.clock.now();
        let mut overdue: HashMap<LeaseToken, (Bound, bool)> = HashMap::new();
        for lease in self.table.iter_mut().filter(|lease| !lease.revoked) {
            let Some((bound, over_ms)) = lease.overran(now) else { continue };
            if over_ms >= OVERRUN_SETTLE_MS {
                overdue.insert(lease.token(), (bound, true));
            } else if over_ms >= OVERRUN_ORDER_MS && lease.ordered != Some(CancelReason::Timeout) {
                lease.ordered = Some(CancelReason::Timeout);
                overdue.insert(lease.token(), (bound, false));
            }
        }
        let mut settled = Vec::new();
        for (token, (bound, settle)) in overdue {
            let lease = self.table.get_mut(&token).expect("it was in the table a moment ago");
            if settle {
                lease.revoked = true;
                settled.push((token, lease.known.clone(), Happened::Overran(bound)));
                self.outbox.lost(&token);
            } else {
                self.outbox
                    .cancels
                    .push(CancelOrder::overran(token, bound.message(&lease.known.meta, &lease.known.policy)));
            }
        }
        self.give_back(settled);
    }
}
