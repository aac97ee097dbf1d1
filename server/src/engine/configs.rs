//! What users have set of their queues, as this server knows it. The store holds queues to their bounds itself; what is read
//! here are the defaults of jobs that do not say, and whether starts are limited. A change elsewhere is known here within
//! milliseconds.
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use hashbrown::HashMap;
use parking_lot::RwLock;
use tokio::sync::{
    Mutex,
    broadcast::{Receiver, error::RecvError},
};

use super::{Engine, Inner};
use crate::{
    model::{
        ids::QueueName,
        op::Wake,
        queue::{QueueChange, QueueConfig, QueueFacts},
    },
    store::StoreError,
};

/// Until what could not be read is read again.
const AGAIN: Duration = Duration::from_secs(1);
/// How often a change that is decided on what another one has just replaced is tried again.
const ROUNDS: usize = 5;

/// Why a queue was not configured.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ConfigureError<E> {
    /// The configuration is not the one that the caller has seen.
    #[error("the queue has changed since it was read")]
    EtagMismatch,
    /// The caller's own objection to what it would become.
    #[error("refused")]
    Refused(E),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The configured queues.
#[derive(Debug, Default)]
pub struct Configs {
    known: RwLock<HashMap<QueueName, Arc<QueueConfig>>>,
    loaded: AtomicBool,
    /// One reader at a time, so that an older answer does not come after a newer one.
    reading: Mutex<()>,
}

impl Configs {
    /// `None` = nothing is set.
    pub fn get(&self, queue: &QueueName) -> Option<Arc<QueueConfig>> {
        self.known.read().get(queue).cloned()
    }

    /// Whether a lease in this queue is a start that counts.
    pub fn limits_starts(&self, queue: &QueueName) -> bool {
        self.known.read().get(queue).is_some_and(|config| config.bounds.limits_starts())
    }

    fn set(&self, queue: QueueName, config: Option<QueueConfig>) {
        match config {
            Some(config) => self.known.write().insert(queue, Arc::new(config)),
            None => self.known.write().remove(&queue),
        };
    }
}

impl Inner {
    /// Reads all configurations once; until that has worked, nobody may act on defaults.
    pub(super) async fn configured(&self) -> Result<(), StoreError> {
        if self.configs.loaded.load(Relaxed) { Ok(()) } else { self.read_configs().await }
    }

    async fn read_configs(&self) -> Result<(), StoreError> {
        let _reading = self.configs.reading.lock().await;
        let all = self.store.configs().await?;
        *self.configs.known.write() = all.into_iter().map(|(queue, config)| (queue, Arc::new(config))).collect();
        self.configs.loaded.store(true, Relaxed);
        Ok(())
    }

    async fn read_config(&self, queue: QueueName) -> Result<(), StoreError> {
        let _reading = self.configs.reading.lock().await;
        let facts = self.store.queues(Some(std::slice::from_ref(&queue))).await?.pop();
        self.configs.set(queue, facts.and_then(|facts| facts.config).map(|configured| *configured.config));
        Ok(())
    }
}

/// Follows changes until the engine stops. What cannot be read stays as it was known, and is read again.
pub async fn run(inner: Arc<Inner>, mut wakes: Receiver<Wake>) {
    let mut stale = inner.configured().await.is_err();
    loop {
        let read = tokio::select! {
            wake = wakes.recv() => match wake {
                Ok(Wake::Queue(queue)) if !stale => inner.read_config(queue).await,
                Ok(Wake::Queue(_) | Wake::Reset) | Err(RecvError::Lagged(_)) => inner.read_configs().await,
                Ok(_) => continue,
                Err(RecvError::Closed) => return,
            },
            () = tokio::time::sleep(AGAIN), if stale => inner.read_configs().await,
            () = inner.stopped.cancelled() => return,
        };
        stale = read.is_err();
    }
}

impl Engine {
    /// Changes the configuration of a queue, making the queue if need be: `change` gets what is set now and answers what
    /// shall be. `seen` = the version that the caller has seen, if it minds. In force when answered.
    pub async fn configure<E>(
        &self,
        name: &QueueName,
        seen: Option<u64>,
        change: impl Fn(QueueConfig) -> Result<QueueConfig, E>,
    ) -> Result<(), ConfigureError<E>> {
        let store = &self.0.store;
        for _ in 0..ROUNDS {
            let facts = store.queues(Some(std::slice::from_ref(name))).await?.pop();
            let version = facts.as_ref().map_or(0, QueueFacts::version);
            if seen.is_some_and(|seen| seen != version) {
                return Err(ConfigureError::EtagMismatch);
            }
            let old = facts.and_then(|facts| facts.config).map(|configured| *configured.config);
            let new = change(old.clone().unwrap_or_default()).map_err(ConfigureError::Refused)?;
            if old.as_ref() == Some(&new) || old.is_none() && new == QueueConfig::default() {
                return Ok(());
            }
            let facts =
                store.set_queue(name.clone(), QueueChange::Configure(version, Some(Box::new(new.clone())))).await?;
            if facts.version() == version + 1 && facts.is_configured(Some(&new)) {
                self.0.read_config(name.clone()).await?;
                return Ok(());
            }
        }
        Err(ConfigureError::Store(StoreError::Unavailable(format!(
            "the configuration of {name} changes over and over"
        ))))
    }
}
