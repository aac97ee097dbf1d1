//! The one place that knows every room: opens the store, starts the engine on it, and gathers the services.
use std::{sync::Arc, time::Duration};

use anyhow::Result;
use tokio::sync::watch;
use tonic::service::Routes;

use super::patience::{self, PATIENCE};
use crate::{
    api::{self, Guarded, Health, ProtoTasks},
    config::{Config, StorePlace, Sync},
    engine::{Engine, EngineConfig, clock::SystemClock},
    model::time::Clock,
    store::{
        Durability, SharedStore, StoreError,
        embedded::{EmbeddedStore, Options},
        memory::MemoryStore,
        redis::RedisStore,
    },
};

/// What a server is made of.
pub struct Built {
    pub engine: Engine,
    /// Everything on the gRPC port.
    pub service: Guarded<Routes>,
    health: Health,
    store: SharedStore,
    fatal: watch::Receiver<Option<String>>,
}

impl Built {
    /// Resolves when the store is beyond use. An outage is not: the server waits for its end.
    pub async fn failed(&self) -> StoreError {
        let mut fatal = self.fatal.clone();
        match fatal.wait_for(Option::is_some).await.map(|what| what.clone()) {
            Ok(what) => StoreError::Unavailable(what.unwrap_or_default()),
            // Nobody is left who could say so: this store does not fail.
            Err(_) => std::future::pending().await,
        }
    }

    /// Health checks say so from now on, and calls that wait end.
    pub async fn not_serving(&self) {
        self.health.not_serving().await;
    }

    /// Says goodbye to workers, writes down what was accepted, closes the store.
    pub async fn shutdown(&self, patience: Duration) {
        self.engine.shutdown(patience).await;
        self.store.close().await;
    }
}

/// Opens, starts, gathers.
pub async fn build(config: &Config) -> Result<Built> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let lease_ttl_ms = config.lease.ttl.as_millis() as i64;
    let (failed, fatal) = watch::channel(None);
    let store: SharedStore = match &config.store.place {
        StorePlace::Memory => Arc::new(MemoryStore::new(clock.clone())),
        StorePlace::Embedded(dir) => {
            let options = Options {
                durability: match config.store.sync {
                    Sync::Fsync => Durability::EmbeddedFsync,
                    Sync::Fast => Durability::EmbeddedFast,
                },
                lease_ms: lease_ttl_ms,
                on_fatal: Some(Arc::new(move |what| _ = failed.send(Some(what.to_owned())))),
                ..Options::default()
            };
            let (dir, clock) = (dir.clone(), clock.clone());
            tokio::task::spawn_blocking(move || EmbeddedStore::open(&dir, options, clock)).await??
        }
        StorePlace::Redis(target) => {
            let target =
                config.store.redis_target().unwrap_or_else(|| Ok(target.clone())).map_err(anyhow::Error::msg)?;
            Arc::new(patience::open(PATIENCE, || RedisStore::open(&target)).await?)
        }
    };
    let defaults = EngineConfig::default();
    let engine_config =
        EngineConfig { lease_ttl_ms, delivery_ttl_ms: defaults.delivery_ttl_ms.min(lease_ttl_ms), ..defaults };
    let engine = Engine::start(engine_config, store.clone(), clock, Arc::new(ProtoTasks));
    let (service, health) = api::services(engine.clone()).await;
    Ok(Built { engine, service, health, store, fatal })
}
