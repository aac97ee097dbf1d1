//! The one place that knows every room: opens the store, starts the engine on it, and gathers the services.
use std::{sync::Arc, time::Duration};

use anyhow::Result;
use tonic::service::Routes;

use crate::{
    api::{self, Guarded, Health, ProtoTasks},
    config::{Config, StorePlace},
    engine::{Engine, EngineConfig, clock::SystemClock},
    model::time::Clock,
    store::{SharedStore, StoreError, memory::MemoryStore},
};

/// What a server is made of.
pub struct Built {
    pub engine: Engine,
    /// Everything on the gRPC port.
    pub service: Guarded<Routes>,
    health: Health,
    store: SharedStore,
}

impl Built {
    /// Resolves when the store is beyond use. An outage is not: the server waits for its end.
    pub async fn failed(&self) -> StoreError {
        std::future::pending().await
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
    let store: SharedStore = match &config.store.place {
        StorePlace::Memory => Arc::new(MemoryStore::new(clock.clone())),
        StorePlace::Embedded(_) => anyhow::bail!("the embedded store is not built yet"),
    };
    let lease_ttl_ms = config.lease.ttl.as_millis() as i64;
    let defaults = EngineConfig::default();
    let engine_config =
        EngineConfig { lease_ttl_ms, delivery_ttl_ms: defaults.delivery_ttl_ms.min(lease_ttl_ms), ..defaults };
    let engine = Engine::start(engine_config, store.clone(), clock, Arc::new(ProtoTasks));
    let (service, health) = api::services(engine.clone()).await;
    Ok(Built { engine, service, health, store })
}
