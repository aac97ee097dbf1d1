//! Who is connected: live streams by session id, and what streams that broke were holding, until the worker is back or its
//! leases have run out. In memory only; no correctness depends on it.
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use hashbrown::{HashMap, HashSet};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};

use super::{
    Inner,
    dispatch::Key,
    note::{Question, Reply},
    session::{Event, Lease},
    settle::Holder,
};
use crate::{
    model::{
        ids::{JobId, QueueName, Shard},
        job::{Meta, Parts, Record},
        worker::{Directive, Hello, WorkerState, WorkerView},
    },
    store::{Cas, Doc, StoreError},
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
    changes: Notify,
}

impl Sessions {
    /// Registers a stream and hands out the one it replaces.
    pub fn enter(&self, id: &str, live: Live) -> Option<Live> {
        self.changes.notify_one();
        self.live.lock().insert(id.to_owned(), live)
    }

    pub fn get(&self, id: &str) -> Option<Live> {
        self.live.lock().get(id).cloned()
    }

    /// Resolves when sessions have come or gone, or were given another directive.
    pub async fn changed(&self) {
        self.changes.notified().await;
    }

    /// Takes a stream off the list, unless another has taken its place.
    pub fn leave(&self, id: &str, key: Key) {
        let mut live = self.live.lock();
        if live.get(id).is_some_and(|session| session.key == key) {
            live.remove(id);
            self.changes.notify_one();
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

    /// Who has these running jobs in hand, or lost them with its stream. Asks the other servers for those that nobody has
    /// here, and waits a moment for their answers.
    pub async fn holders_of(&self, metas: &[&Meta]) -> HashMap<JobId, Holder> {
        let jobs: Vec<(JobId, QueueName)> = metas.iter().map(|meta| (meta.id, meta.queue.clone())).collect();
        let mut found = self.holders_here(&jobs).await;
        let missing: Vec<_> = jobs.into_iter().filter(|(id, _)| !found.contains_key(id)).collect();
        if !missing.is_empty() {
            let wanted = found.len() + missing.len();
            let enough = |reply: Reply| {
                if let Reply::Holders(holders) = reply {
                    found.extend(holders);
                }
                found.len() >= wanted
            };
            self.ask(Question::Holders(missing), enough).await;
        }
        found
    }

    pub async fn holders_here(&self, jobs: &[(JobId, QueueName)]) -> HashMap<JobId, Holder> {
        let lost = jobs.iter().filter_map(|(id, _)| Some((*id, self.sessions.lost_with(*id)?)));
        let mut found: HashMap<JobId, Holder> = lost.collect();
        let ids: Arc<[JobId]> = jobs.iter().map(|(id, _)| *id).filter(|id| !found.contains_key(id)).collect();
        for live in self.sessions.all() {
            if found.len() == jobs.len() {
                break;
            }
            let subscriptions = &live.hello.subscriptions;
            let serves = jobs.iter().any(|(_, queue)| subscriptions.iter().any(|s| s.queue.matches(queue.as_str())));
            let (reply, held) = oneshot::channel();
            if serves && live.events.send(Event::Holds(ids.clone(), reply)).await.is_ok() {
                let hello = &live.hello;
                let holder = Holder { worker_id: hello.worker_id.clone(), session_id: hello.session_id.clone() };
                found.extend(held.await.unwrap_or_default().into_iter().map(|id| (id, holder.clone())));
            }
        }
        found
    }

    pub fn worker_views(&self) -> Vec<WorkerView> {
        let mut views: Vec<WorkerView> = self.sessions.all().iter().map(|live| view(live, &self.server_id)).collect();
        views.sort_by(|a, b| a.session_id.cmp(&b.session_id));
        views
    }

    /// What a session holds, wherever it is connected.
    pub async fn held_by(&self, session_id: &str, limit: usize) -> Result<Vec<Record>, StoreError> {
        let mut held = self.held_here(session_id).await;
        if held.is_none() {
            let found = |reply: Reply| match reply {
                Reply::Held(ids) => {
                    held = Some(ids);
                    true
                }
                Reply::Holders(_) => false,
            };
            self.ask(Question::Held { session_id: session_id.to_owned(), limit }, found).await;
        }
        let mut ids = held.unwrap_or_default();
        ids.truncate(limit);
        Ok(self.store.get(&ids, Parts::BODY).await?.into_iter().flatten().collect())
    }

    /// `None`: it is not connected here.
    pub async fn held_here(&self, session_id: &str) -> Option<Vec<JobId>> {
        let live = self.sessions.get(session_id)?;
        let (reply, held) = oneshot::channel();
        live.events.send(Event::Inventory(reply)).await.ok()?;
        held.await.ok()
    }

    /// Sets the wanted state of sessions that are connected to any server; answers which were known. Kept as documents, so
    /// that whichever server a worker comes back to repeats it (W7).
    pub async fn direct(&self, session_ids: Vec<String>, directive: Directive) -> Result<Vec<String>, StoreError> {
        let views = self.workers_everywhere().await;
        let connected: HashSet<&str> = views.iter().map(|view| view.session_id.as_str()).collect();
        let mut known = Vec::new();
        for id in session_ids.into_iter().filter(|id| connected.contains(id.as_str())) {
            self.write_directive(&id, &directive).await?;
            self.obey(&id, directive.clone()).await;
            known.push(id);
        }
        Ok(known)
    }

    /// Hands a directive to a session that is connected here and does not know it yet.
    pub async fn obey(&self, session_id: &str, directive: Directive) {
        let events = {
            let mut live = self.sessions.live.lock();
            let Some(live) = live.get_mut(session_id) else { return };
            if live.directive.as_ref() == Some(&directive) {
                return;
            }
            live.directive = Some(directive.clone());
            live.events.clone()
        };
        self.sessions.changes.notify_one();
        _ = events.send(Event::Directive(directive)).await;
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
        let doc = self.read_doc(Shard(0), directive_key(session_id)).await?;
        Ok(doc.and_then(|doc| postcard::from_bytes(&doc.value).ok()))
    }

    /// A session that ended for good needs its directive no more.
    pub async fn drop_directive(&self, session_id: &str) -> Result<(), StoreError> {
        let key = directive_key(session_id);
        if let Some(doc) = self.read_doc(Shard(0), key.clone()).await? {
            self.store.doc(Shard(0), key, doc.version, None).await?;
        }
        Ok(())
    }

    /// One document: what a write tells that expects a version which never is.
    pub(super) async fn read_doc(&self, shard: Shard, key: String) -> Result<Option<Doc>, StoreError> {
        match self.store.doc(shard, key, NO_VERSION, None).await? {
            Cas::Conflict(doc) => Ok(doc),
            Cas::Done { .. } => Ok(None),
        }
    }
}

/// A version that no document reaches.
const NO_VERSION: u64 = (1 << 48) - 1;

/// What the keys of directives open with; the session follows.
pub const DIRECTIVE: &str = "directive/";

fn directive_key(session_id: &str) -> String {
    format!("{DIRECTIVE}{session_id}")
}

/// The session whose directive a document is.
pub fn session_of_directive(key: &str) -> Option<&str> {
    key.strip_prefix(DIRECTIVE)
}

fn view(live: &Live, server_id: &str) -> WorkerView {
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
        server_id: server_id.to_owned(),
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
