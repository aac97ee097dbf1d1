//! Who wants to hear of which job: waits, watches and awaited results. In memory only; costs one atomic load per change
//! while nobody listens.
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::model::ids::JobId;

#[derive(Default)]
pub struct Hub {
    listeners: AtomicUsize,
    jobs: Mutex<HashMap<JobId, watch::Sender<()>>>,
}

impl Hub {
    /// Starts listening; changes made after this call are seen by [`Listener::changed`].
    pub fn listen(self: &Arc<Self>, id: JobId) -> Listener {
        let mut jobs = self.jobs.lock();
        let changes = jobs.entry(id).or_insert_with(|| watch::Sender::new(())).subscribe();
        self.listeners.fetch_add(1, Ordering::SeqCst);
        Listener { hub: self.clone(), id, changes }
    }

    /// Something about this job changed.
    pub fn touched(&self, id: JobId) {
        if self.listeners.load(Ordering::SeqCst) > 0
            && let Some(sender) = self.jobs.lock().get(&id)
        {
            sender.send_replace(());
        }
    }

    /// Anything may have changed.
    pub fn touched_all(&self) {
        for sender in self.jobs.lock().values() {
            sender.send_replace(());
        }
    }
}

/// Hears of changes of one job until it is dropped.
pub struct Listener {
    hub: Arc<Hub>,
    id: JobId,
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
        if jobs.get(&self.id).is_some_and(|sender| sender.receiver_count() == 1) {
            jobs.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::model::ids::Shard;

    #[tokio::test]
    async fn a_change_is_heard_once_and_the_last_listener_leaves_nothing() {
        let hub = Arc::new(Hub::default());
        let id = JobId::stamp(uuid::Uuid::now_v7(), Shard(0));
        let mut first = hub.listen(id);
        let second = hub.listen(id);
        assert!(first.changed().now_or_never().is_none());
        hub.touched(id);
        assert!(first.changed().now_or_never().is_some());
        assert!(first.changed().now_or_never().is_none());
        drop(first);
        assert_eq!(hub.jobs.lock().len(), 1);
        drop(second);
        assert!(hub.jobs.lock().is_empty());
    }
}
