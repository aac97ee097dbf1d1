//! Who wants to hear of which job: waits, watches and awaited results. In memory only, and lossy where servers share a
//! store: so whoever listens also looks again from time to time ([`Hub::due_for_a_look`]). Costs two atomic loads per change
//! while nobody listens anywhere.
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::model::{ids::JobId, job::Record};

/// Jobs told to other servers in one message.
pub const TOLD_MOST: usize = 512;

/// What a listener wants to hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// That the job has ended, or is gone.
    End,
    Anything,
}

#[derive(Default)]
pub struct Hub {
    listeners: AtomicUsize,
    jobs: Mutex<HashMap<JobId, Entry>>,
    /// Somebody on another server listens.
    wanted: AtomicBool,
    touched: Mutex<Vec<JobId>>,
    /// A first listener has come, or there is something for other servers.
    stir: Notify,
}

struct Entry {
    changes: watch::Sender<()>,
    /// Listeners that want to hear of anything.
    curious: usize,
}

impl Hub {
    /// Starts listening; changes made after this call are seen by [`Listener::changed`].
    pub fn listen(self: &Arc<Self>, id: JobId, interest: Interest) -> Listener {
        let mut jobs = self.jobs.lock();
        let entry = jobs.entry(id).or_insert_with(|| Entry { changes: watch::Sender::new(()), curious: 0 });
        entry.curious += usize::from(interest == Interest::Anything);
        let changes = entry.changes.subscribe();
        if self.listeners.fetch_add(1, Ordering::SeqCst) == 0 {
            self.stir.notify_one();
        }
        Listener { hub: self.clone(), id, interest, changes }
    }

    pub fn has_listeners(&self) -> bool {
        self.listeners.load(Ordering::SeqCst) > 0
    }

    /// Something about this job changed, by this server's doing.
    pub fn touched(&self, id: JobId) {
        self.touched_elsewhere(id);
        if self.wanted.load(Ordering::Relaxed) {
            let mut touched = self.touched.lock();
            touched.push(id);
            if touched.len() == 1 || touched.len() == TOLD_MOST {
                self.stir.notify_one();
            }
        }
    }

    /// Another server says that it changed.
    pub fn touched_elsewhere(&self, id: JobId) {
        if self.has_listeners()
            && let Some(entry) = self.jobs.lock().get(&id)
        {
            entry.changes.send_replace(());
        }
    }

    /// Whether servers elsewhere are to be told what is touched here.
    pub fn set_wanted(&self, wanted: bool) {
        self.wanted.store(wanted, Ordering::Relaxed);
        if !wanted {
            self.touched.lock().clear();
        }
    }

    /// How many touched jobs nobody elsewhere was told of.
    pub fn untold(&self) -> usize {
        self.touched.lock().len()
    }

    /// What others are to be told, each job once.
    pub fn take_untold(&self) -> Vec<JobId> {
        let mut touched = std::mem::take(&mut *self.touched.lock());
        touched.sort_unstable();
        touched.dedup();
        touched
    }

    /// Resolves when a first listener has come, or there is something to tell.
    pub async fn stirred(&self) {
        self.stir.notified().await;
    }

    /// Jobs that somebody listens to: what was said of them may have been lost.
    pub fn due_for_a_look(&self) -> Vec<JobId> {
        self.jobs.lock().keys().copied().collect()
    }

    /// What a look has found.
    pub fn seen(&self, id: JobId, record: Option<&Record>) {
        let ended = record.is_none_or(|record| record.meta.state.is_terminal());
        if let Some(entry) = self.jobs.lock().get(&id)
            && (ended || entry.curious > 0)
        {
            entry.changes.send_replace(());
        }
    }
}

/// Hears of changes of one job until it is dropped.
pub struct Listener {
    hub: Arc<Hub>,
    id: JobId,
    interest: Interest,
    changes: watch::Receiver<()>,
}

impl Listener {
    /// Resolves after a change since the last call, or since `listen`.
    pub async fn changed(&mut self) {
        self.changes.changed().await.expect("the sender stays while a listener does");
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut jobs = self.hub.jobs.lock();
        self.hub.listeners.fetch_sub(1, Ordering::SeqCst);
        let Some(entry) = jobs.get_mut(&self.id) else { return };
        entry.curious -= usize::from(self.interest == Interest::Anything);
        if entry.changes.receiver_count() == 1 {
            jobs.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::model::ids::Shard;

    fn id() -> JobId {
        JobId::stamp(uuid::Uuid::now_v7(), Shard(0))
    }

    #[tokio::test]
    async fn a_change_is_heard_once_and_the_last_listener_leaves_nothing() {
        let hub = Arc::new(Hub::default());
        let id = id();
        let mut first = hub.listen(id, Interest::End);
        let second = hub.listen(id, Interest::Anything);
        assert!(first.changed().now_or_never().is_none());
        hub.touched(id);
        assert!(first.changed().now_or_never().is_some());
        assert!(first.changed().now_or_never().is_none());
        drop(first);
        assert_eq!(hub.jobs.lock().len(), 1);
        drop(second);
        assert!(hub.jobs.lock().is_empty());
    }

    #[tokio::test]
    async fn a_look_that_finds_a_job_gone_is_news_to_everybody() {
        let hub = Arc::new(Hub::default());
        let id = id();
        let mut listener = hub.listen(id, Interest::End);
        assert_eq!(hub.due_for_a_look(), [id]);
        hub.seen(id, None);
        assert!(listener.changed().now_or_never().is_some());
    }

    #[test]
    fn others_are_told_only_while_somebody_there_listens_and_of_each_job_once() {
        let hub = Hub::default();
        let (one, two) = (id(), id());
        hub.touched(one);
        assert_eq!(hub.untold(), 0);
        hub.set_wanted(true);
        [one, two, one].into_iter().for_each(|id| hub.touched(id));
        hub.touched_elsewhere(id());
        let mut expected = vec![one, two];
        expected.sort_unstable();
        assert_eq!(hub.take_untold(), expected);
        hub.touched(one);
        hub.set_wanted(false);
        assert_eq!(hub.untold(), 0);
    }
}
