//! Whether the store answers, shard by shard, and what follows from an outage: idempotent calls are repeated, claims wait
//! for outcomes and renewals to get through first, and no lease is taken for run out before its worker had time to be heard
//! again.
//!
//! I23: when the store is back, nothing is executed again because it was away.
use std::{
    ops::Deref,
    sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering::SeqCst},
    time::Duration,
};

use tokio::sync::{Notify, watch};
use tracing::{info, warn};

use super::Inner;
use crate::{model::ids::Shard, store::StoreError};

/// Between two tries of a call: at first, and at most.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MOST: Duration = Duration::from_secs(1);

pub struct Contact {
    shards: Box<[State]>,
    /// Rises when a shard is lost and when it is back.
    changes: watch::Sender<u64>,
    /// Something that waited has got through.
    through: Notify,
    /// Contact that must have lasted before leases run out.
    grace_ms: i64,
}

#[derive(Default)]
struct State {
    lost: AtomicBool,
    lost_ms: AtomicI64,
    reap_from_ms: AtomicI64,
    waiting: AtomicUsize,
}

impl Contact {
    /// `grace_ms`: contact after an outage before a lease is taken for run out.
    pub fn new(shards: u16, grace_ms: i64) -> Self {
        let shards = (0..shards).map(|_| State::default()).collect();
        Self { shards, changes: watch::Sender::new(0), through: Notify::new(), grace_ms }
    }

    fn state(&self, shard: Shard) -> &State {
        // An id that a client made up may name a shard that is not there.
        &self.shards[usize::from(shard.0) % self.shards.len()]
    }

    pub fn is_lost(&self, shard: Shard) -> bool {
        self.state(shard).lost.load(SeqCst)
    }

    pub fn lost(&self) -> impl Iterator<Item = Shard> {
        (0..self.shards.len() as u16).map(Shard).filter(|shard| self.is_lost(*shard))
    }

    /// Sees every time a shard is lost or back.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// How long leases of this shard do not run out yet.
    pub fn grace_left_ms(&self, shard: Shard, now_ms: i64) -> i64 {
        let state = self.state(shard);
        if state.lost.load(SeqCst) { self.grace_ms } else { (state.reap_from_ms.load(SeqCst) - now_ms).max(0) }
    }

    /// Resolves when nothing waits that goes first.
    pub async fn drained(&self, shard: Shard) {
        loop {
            let through = self.through.notified();
            if self.state(shard).waiting.load(SeqCst) == 0 {
                return;
            }
            through.await;
        }
    }

    fn lose(&self, shard: Shard, error: &StoreError, now_ms: i64) {
        let state = self.state(shard);
        if !state.lost.swap(true, SeqCst) {
            state.lost_ms.store(now_ms, SeqCst);
            warn!(shard = shard.0, %error, "the store does not answer");
            self.changes.send_modify(|changes| *changes += 1);
        }
    }

    fn regain(&self, shard: Shard, now_ms: i64) {
        let state = self.state(shard);
        state.reap_from_ms.store(now_ms + self.grace_ms, SeqCst);
        if state.lost.swap(false, SeqCst) {
            let away_ms = now_ms - state.lost_ms.load(SeqCst);
            info!(shard = shard.0, away_ms, "the store answers again");
            self.changes.send_modify(|changes| *changes += 1);
        }
    }
}

impl Inner {
    /// Takes note of how a change went, or a reading.
    pub(super) fn heard<T>(&self, shard: Shard, result: Result<T, StoreError>) -> Result<T, StoreError> {
        match &result {
            // Full and Closed are answers.
            Ok(_) | Err(StoreError::Full(_)) if self.contact.is_lost(shard) => {
                self.contact.regain(shard, self.mono_ms())
            }
            Err(error @ StoreError::Unavailable(_)) => self.contact.lose(shard, error, self.mono_ms()),
            _ => {}
        }
        result
    }

    /// As [`Inner::heard`], of a reading: a store that can be read may still refuse changes, so this proves no contact.
    pub(super) fn heard_reading<T>(&self, shard: Shard, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(error @ StoreError::Unavailable(_)) = &result {
            self.contact.lose(shard, error, self.mono_ms());
        }
        result
    }

    /// Asks a lost shard for a change that changes nothing.
    pub(super) async fn probe(&self, shard: Shard) -> Result<(), StoreError> {
        // There is no such document, so there is nothing to delete.
        let nothing = self.store.doc(shard, "contact".to_owned(), 1, None).await;
        self.heard(shard, nothing).map(drop)
    }
}

/// Repeats an idempotent call until the store answers or closes, less and less often, and at once when it is back.
pub struct Patience<'a> {
    inner: &'a Inner,
    shard: Shard,
    pause: Duration,
    waiting: Option<Waiting<&'a Inner>>,
}

impl<'a> Patience<'a> {
    pub fn new(inner: &'a Inner, shard: Shard) -> Self {
        Self { inner, shard, pause: PAUSE, waiting: None }
    }

    /// Waits a while if the call should be repeated after `error`.
    pub async fn again(&mut self, error: &StoreError) -> bool {
        let passing = matches!(error, StoreError::Unavailable(_) | StoreError::Full(_));
        if !passing || self.inner.stopped.is_cancelled() {
            return false;
        }
        let contact = &self.inner.contact;
        self.waiting.get_or_insert_with(|| Waiting::new(self.inner, self.shard));
        let mut changes = contact.changes();
        let back = async {
            if !contact.is_lost(self.shard) {
                std::future::pending::<()>().await;
            }
            while contact.is_lost(self.shard) && changes.changed().await.is_ok() {}
        };
        tokio::select! {
            () = tokio::time::sleep(self.pause) => self.pause = (self.pause * 2).min(PAUSE_MOST),
            () = back => self.pause = PAUSE,
            () = self.inner.stopped.cancelled() => return false,
        }
        true
    }
}

/// Something that goes to a shard before claims do, once it is back.
pub struct Waiting<I: Deref<Target = Inner>> {
    inner: I,
    shard: Shard,
}

impl<I: Deref<Target = Inner>> Waiting<I> {
    pub fn new(inner: I, shard: Shard) -> Self {
        inner.contact.state(shard).waiting.fetch_add(1, SeqCst);
        Self { inner, shard }
    }
}

impl<I: Deref<Target = Inner>> Drop for Waiting<I> {
    fn drop(&mut self) {
        self.inner.contact.state(self.shard).waiting.fetch_sub(1, SeqCst);
        self.inner.contact.through.notify_waiters();
    }
}
