//! The workers of all servers: each server of a shared store keeps one document with those connected to it, and reads
//! those of the others. A view, a few seconds old; no correctness depends on it.
use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{sync::Mutex, time::Instant};
use tracing::debug;

use super::{Inner, note::Note, sessions::DIRECTIVE};
use crate::{
    model::{ids::Shard, time::SECOND, worker::WorkerView},
    store::{Cas, StoreError},
};

/// Documents of servers begin with this.
pub const PREFIX: &str = "server/";
const VERSION: u8 = 1;
/// A server that has not written for so long is gone; who sees its document removes it.
pub const GONE_MS: i64 = 45 * SECOND;

/// A session that is connected nowhere for so long is over.
const ORPHANED: Duration = Duration::from_secs(3_600);
/// What was read of the others serves for so long.
const FRESH: Duration = Duration::from_millis(500);

/// What a server shows of itself.
#[derive(Debug, Serialize, Deserialize)]
struct Presence {
    /// When it was written, on the wall clock.
    wall_ms: i64,
    workers: Vec<WorkerView>,
}

/// This server's own document, and what the others' said lately.
#[derive(Default)]
pub struct Roster {
    own: Mutex<Own>,
    read: Mutex<Option<(Instant, Vec<WorkerView>)>>,
}

#[derive(Default)]
struct Own {
    version: u64,
    /// The server stops: nothing is written any more.
    retired: bool,
    /// Directives of sessions that are connected nowhere, and since when.
    orphans: HashMap<String, Instant>,
}

impl Inner {
    fn presence_key(&self) -> String {
        format!("{PREFIX}{}", self.server_id)
    }

    /// Writes down who is connected here, and takes note of the other servers.
    pub(super) async fn beat(&self) {
        if let Err(error) = self.show_workers().await {
            debug!(%error, "the other servers do not see this one's workers");
        }
        if let Err(error) = self.others().await {
            debug!(%error, "the other servers are not seen");
        }
        if let Err(error) = self.forget_directives().await {
            debug!(%error, "directives of sessions that are gone stay for now");
        }
    }

    /// A session that has not been seen for an hour does not come back: its directive goes. One server looks after that.
    async fn forget_directives(&self) -> Result<(), StoreError> {
        if !self.peers.is_first(Shard(0)) {
            return Ok(());
        }
        let docs = self.store.docs(Shard(0), DIRECTIVE).await?;
        let connected: HashSet<String> = self.workers_everywhere().await.into_iter().map(|w| w.session_id).collect();
        let gone = |key: &str| !connected.contains(&key[DIRECTIVE.len()..]);
        let mut own = self.roster.own.lock().await;
        own.orphans.retain(|key, _| gone(key) && docs.iter().any(|(found, _)| found == key));
        for (key, doc) in docs.into_iter().filter(|(key, _)| gone(key)) {
            let since = *own.orphans.entry(key.clone()).or_insert_with(Instant::now);
            if since.elapsed() >= ORPHANED {
                self.store.doc(Shard(0), key, doc.version, None).await?;
            }
        }
        Ok(())
    }

    async fn show_workers(&self) -> Result<(), StoreError> {
        let mut own = self.roster.own.lock().await;
        if own.retired {
            return Ok(());
        }
        let presence = Presence { wall_ms: self.wall_ms(), workers: self.worker_views() };
        let value = postcard::to_extend(&presence, vec![VERSION]).expect("a presence always encodes");
        loop {
            let written = self.store.doc(Shard(0), self.presence_key(), own.version, Some(value.clone().into())).await;
            match self.heard(Shard(0), written)? {
                Cas::Done { version } => {
                    own.version = version;
                    return Ok(());
                }
                Cas::Conflict(found) => own.version = found.map_or(0, |doc| doc.version),
            }
        }
    }

    /// Takes this server off the roster.
    pub(super) async fn retire(&self) -> Result<(), StoreError> {
        let mut own = self.roster.own.lock().await;
        if std::mem::replace(&mut own.retired, true) || own.version == 0 {
            return Ok(());
        }
        self.store.doc(Shard(0), self.presence_key(), own.version, None).await?;
        self.tell_others(&Note::Stopped).await;
        Ok(())
    }

    /// Workers of the other servers, as read a moment ago: dashboards ask for them all the time.
    async fn others_lately(&self) -> Result<Vec<WorkerView>, StoreError> {
        let mut read = self.roster.read.lock().await;
        if let Some((at, workers)) = &*read
            && at.elapsed() < FRESH
        {
            return Ok(workers.clone());
        }
        let workers = self.others().await?;
        *read = Some((Instant::now(), workers.clone()));
        Ok(workers)
    }

    /// Workers of the other servers.
    async fn others(&self) -> Result<Vec<WorkerView>, StoreError> {
        let (own, now_ms) = (self.presence_key(), self.wall_ms());
        let mut workers = Vec::new();
        for (key, doc) in self.store.docs(Shard(0), PREFIX).await? {
            if key == own {
                continue;
            }
            let Some(presence) = read(&doc.value) else { continue };
            if now_ms - presence.wall_ms > GONE_MS {
                self.store.doc(Shard(0), key, doc.version, None).await?;
                continue;
            }
            if let Ok(server) = key[PREFIX.len()..].parse::<uuid::Uuid>() {
                let ago = Duration::from_millis((now_ms - presence.wall_ms).max(0) as u64);
                self.peers.saw(server.into_bytes(), ago);
            }
            workers.extend(presence.workers);
        }
        Ok(workers)
    }

    /// Workers connected to any server, by session id. Those of this one alone while the store does not answer.
    pub(super) async fn workers_everywhere(&self) -> Vec<WorkerView> {
        let here = self.worker_views();
        if !self.shared() {
            return here;
        }
        let others = self.others_lately().await.unwrap_or_else(|error| {
            debug!(%error, "only the workers of this server are known");
            Vec::new()
        });
        merged(here, others)
    }
}

/// A session that moved may be on two lists: here is where it is, else where it was seen last.
fn merged(here: Vec<WorkerView>, others: Vec<WorkerView>) -> Vec<WorkerView> {
    let mut views: HashMap<String, WorkerView> = HashMap::new();
    for view in others {
        match views.get(&view.session_id) {
            Some(known) if known.last_seen_ms >= view.last_seen_ms => {}
            _ => _ = views.insert(view.session_id.clone(), view),
        }
    }
    views.extend(here.into_iter().map(|view| (view.session_id.clone(), view)));
    let mut views: Vec<WorkerView> = views.into_values().collect();
    views.sort_by(|a, b| a.session_id.cmp(&b.session_id));
    views
}

/// When a server wrote this document, on the wall clock. `None`: a later release wrote it, or it is damaged.
pub fn written_ms(value: &[u8]) -> Option<i64> {
    read(value).map(|presence| presence.wall_ms)
}

/// `None`: written by a later release, or damaged.
fn read(value: &[u8]) -> Option<Presence> {
    let (version, rest) = value.split_first()?;
    (*version == VERSION).then_some(())?;
    postcard::from_bytes(rest).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::worker::{WorkerInfo, WorkerState};

    fn view(session_id: &str, server_id: &str, last_seen_ms: i64) -> WorkerView {
        WorkerView {
            session_id: session_id.into(),
            server_id: server_id.into(),
            worker_id: "w".into(),
            state: WorkerState::Active,
            directive: None,
            info: WorkerInfo::default(),
            types: vec!["mail*".parse().expect("a pattern")],
            subscriptions: Vec::new(),
            slots: 1,
            concurrency: 0,
            in_flight: 0,
            running: 0,
            connect_ms: 0,
            last_seen_ms,
            succeeded: 0,
            failed: 0,
            rss_bytes: 0,
            cpu_percent: 0.0,
        }
    }

    #[test]
    fn a_session_that_moved_is_listed_once() {
        let others = vec![view("b", "old", 1), view("a", "x", 9), view("b", "new", 2), view("c", "x", 5)];
        let views = merged(vec![view("c", "here", 1)], others);
        let where_to: Vec<_> = views.iter().map(|view| (view.session_id.as_str(), view.server_id.as_str())).collect();
        assert_eq!(where_to, [("a", "x"), ("b", "new"), ("c", "here")]);
    }

    #[test]
    fn what_is_shown_reads_back_and_a_later_version_is_ignored() {
        let presence = Presence { wall_ms: 7, workers: vec![view("a", "x", 1)] };
        let mut value = postcard::to_extend(&presence, vec![VERSION]).expect("encodes");
        let back = read(&value).expect("reads back");
        assert_eq!((back.wall_ms, back.workers[0].types[0].to_string()), (7, "mail*".to_owned()));
        value[0] += 1;
        assert!(read(&value).is_none());
    }
}
