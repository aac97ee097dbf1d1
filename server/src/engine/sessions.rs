//! Who is connected: live streams by session id, and what streams that broke were holding, until the worker is back or its
//! leases have run out. In memory only; no correctness depends on it.
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::{
    Inner,
    dispatch::Key,
    session::{Event, Lease},
    settle::Holder,
};
use crate::{
    model::{
        ids::{JobId, Shard},
        job::{Meta, Parts, Record},
        worker::{Directive, Hello, WorkerState, WorkerView},
    },
    store::{Cas, StoreError},
};

/// Numbers that a session task keeps and others read.
#[derive(Default)]
pub struct Stats {
    pub in_flight: AtomicU32,
    pub running: AtomicU32,
    pub slots: AtomicU32,
    pub concurrency: AtomicU32,
    pub succeeded: AtomicU64,
    pub failed: AtomicU64,
    pub last_seen_ms: AtomicI64,
    pub rss_bytes: AtomicI64,
    pub cpu_permille: AtomicU32,
    pub quiet: AtomicBool,
    pub draining: AtomicBool,
}

/// A connected worker.
#[derive(Clone)]
pub struct Live {
    pub key: Key,
    pub events: mpsc::Sender<Event>,
    pub hello: Arc<Hello>,
    pub directive: Option<Directive>,
    pub connect_ms: i64,
    pub stats: Arc<Stats>,
}

/// Leases in the hands of a worker whose stream broke.
pub type Leases = HashMap<JobId, Lease>;

#[derive(Default)]
pub struct Sessions {
    live: Mutex<HashMap<String, Live>>,
    ghosts: Mutex<HashMap<String, (Key, Leases)>>,
}

impl Sessions {
    /// Registers a stream and hands out the one it replaces.
    pub fn enter(&self, id: &str, live: Live) -> Option<Live> {
        self.live.lock().insert(id.to_owned(), live)
    }

    /// Takes a stream off the list, unless another has taken its place.
    pub fn leave(&self, id: &str, key: Key) {
        let mut live = self.live.lock();
        if live.get(id).is_some_and(|session| session.key == key) {
            live.remove(id);
        }
    }

    pub fn all(&self) -> Vec<Live> {
        self.live.lock().values().cloned().collect()
    }

    pub fn haunt(&self, id: &str, key: Key, leases: Leases) {
        self.ghosts.lock().insert(id.to_owned(), (key, leases));
    }

    /// What the broken stream of this session held.
    pub fn exorcise(&self, id: &str) -> Leases {
        self.ghosts.lock().remove(id).map(|(_, leases)| leases).unwrap_or_default()
    }

    fn lost_with(&self, job: JobId) -> Option<Holder> {
        let ghosts = self.ghosts.lock();
        let found = ghosts.iter().find_map(|(id, (_, leases))| leases.get(&job).map(|lease| (lease, id)));
        found.map(|(lease, id)| Holder { worker_id: lease.worker_id.to_string(), session_id: id.clone() })
    }

    fn forget_ghost(&self, id: &str, key: Key) {
        let mut ghosts = self.ghosts.lock();
        if ghosts.get(id).is_some_and(|(ghost, _)| *ghost == key) {
            ghosts.remove(id);
        }
    }
}

impl Inner {
    /// Remembers what a broken stream held for as long as its leases can last.
    pub fn remember_broken(self: &Arc<Self>, id: &str, key: Key, leases: Leases, ttl_ms: i64) {
        if leases.is_empty() {
            return;
        }
        self.sessions.haunt(id, key, leases);
        let (inner, id) = (self.clone(), id.to_owned());
        tokio::spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(ttl_ms as u64 + 1_000)) => {}
                () = inner.stopped.cancelled() => {}
            }
            inner.sessions.forget_ghost(&id, key);
        });
    }

    /// Who has a running job in hand, or lost it with its stream, as far as this server knows.
    pub async fn holder_of(&self, meta: &Meta) -> Option<Holder> {
        let lost = self.sessions.lost_with(meta.id);
        if lost.is_some() {
            return lost;
        }
        for live in self.sessions.all() {
            let serves = live.hello.subscriptions.iter().any(|s| s.queue.matches(meta.queue.as_str()));
            let (reply, answer) = oneshot::channel();
            if serves && live.events.send(Event::Holds(meta.id, reply)).await.is_ok() && answer.await.unwrap_or(false) {
                let hello = &live.hello;
                return Some(Holder { worker_id: hello.worker_id.clone(), session_id: hello.session_id.clone() });
            }
        }
        None
    }

    pub fn worker_views(&self) -> Vec<WorkerView> {
        let mut views: Vec<WorkerView> = self.sessions.all().iter().map(view).collect();
        views.sort_by(|a, b| a.session_id.cmp(&b.session_id));
        views
    }

    pub async fn held_by(&self, session_id: &str, limit: usize) -> Result<Vec<Record>, StoreError> {
        let live = self.sessions.live.lock().get(session_id).cloned();
        let Some(live) = live else { return Ok(Vec::new()) };
        let (reply, held) = oneshot::channel();
        if live.events.send(Event::Inventory(reply)).await.is_err() {
            return Ok(Vec::new());
        }
        let mut ids = held.await.unwrap_or_default();
        ids.truncate(limit);
        Ok(self.store.get(&ids, Parts::BODY).await?.into_iter().flatten().collect())
    }

    /// Sets the wanted state of connected sessions; answers which were known. Kept as documents, so that whichever server
    /// a worker comes back to repeats it (W7).
    pub async fn direct(&self, session_ids: Vec<String>, directive: Directive) -> Result<Vec<String>, StoreError> {
        let mut known = Vec::new();
        for id in session_ids {
            let found = self.sessions.live.lock().get(&id).cloned();
            let Some(live) = found else { continue };
            self.write_directive(&id, &directive).await?;
            if let Some(live) = self.sessions.live.lock().get_mut(&id) {
                live.directive = Some(directive.clone());
            }
            _ = live.events.send(Event::Directive(directive.clone())).await;
            known.push(id);
        }
        Ok(known)
    }

    async fn write_directive(&self, session_id: &str, directive: &Directive) -> Result<(), StoreError> {
        let value = postcard::to_stdvec(directive).expect("a directive always encodes");
        let mut expect = 0;
        // The newest order wins: on a conflict write over what is there.
        while let Cas::Conflict(doc) =
            self.store.doc(Shard(0), directive_key(session_id), expect, Some(value.clone().into())).await?
        {
            expect = doc.map_or(0, |doc| doc.version);
        }
        Ok(())
    }

    /// The wanted state of a session, from a time before this stream.
    pub async fn read_directive(&self, session_id: &str) -> Result<Option<Directive>, StoreError> {
        let key = directive_key(session_id);
        let docs = self.store.docs(Shard(0), &key).await?;
        let doc = docs.into_iter().find(|(found, _)| *found == key);
        Ok(doc.and_then(|(_, doc)| postcard::from_bytes(&doc.value).ok()))
    }

    /// A session that ended for good needs its directive no more.
    pub async fn drop_directive(&self, session_id: &str) -> Result<(), StoreError> {
        let key = directive_key(session_id);
        for (found, doc) in self.store.docs(Shard(0), &key).await? {
            if found == key {
                self.store.doc(Shard(0), found, doc.version, None).await?;
            }
        }
        Ok(())
    }
}

fn directive_key(session_id: &str) -> String {
    format!("directive/{session_id}")
}

fn view(live: &Live) -> WorkerView {
    let stats = &live.stats;
    let state = if stats.draining.load(Relaxed) {
        WorkerState::Draining
    } else if stats.quiet.load(Relaxed) {
        WorkerState::Quiet
    } else {
        WorkerState::Active
    };
    WorkerView {
        session_id: live.hello.session_id.clone(),
        worker_id: live.hello.worker_id.clone(),
        state,
        directive: live.directive.clone(),
        info: live.hello.info.clone(),
        types: live.hello.types.clone(),
        subscriptions: live.hello.subscriptions.clone(),
        slots: stats.slots.load(Relaxed),
        concurrency: stats.concurrency.load(Relaxed),
        in_flight: stats.in_flight.load(Relaxed),
        running: stats.running.load(Relaxed),
        connect_ms: live.connect_ms,
        last_seen_ms: stats.last_seen_ms.load(Relaxed),
        succeeded: stats.succeeded.load(Relaxed),
        failed: stats.failed.load(Relaxed),
        rss_bytes: stats.rss_bytes.load(Relaxed),
        cpu_percent: f64::from(stats.cpu_permille.load(Relaxed)) / 10.0,
    }
}
