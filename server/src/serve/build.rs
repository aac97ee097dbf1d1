//! The one place that knows every room: opens the store, starts the engine on it, and gathers the services.
use anyhow::Result;
use tonic::service::Routes;

use crate::{config::Config, engine::Engine, store::StoreError};

/// Full names of the services, for grpc.health.v1.
pub const SERVICES: &[&str] = &[
    "jobwire.v1.JobService",
    "jobwire.v1.QueueService",
    "jobwire.v1.WorkerService",
    "jobwire.v1.AdminService",
];

/// What a server is made of.
pub struct Built {
    pub engine: Engine,
    /// Everything on the gRPC port but grpc.health.v1.
    pub routes: Routes,
}

impl Built {
    /// Resolves when the store is beyond use. An outage is not: the server waits for its end.
    pub async fn failed(&self) -> StoreError {
        std::future::pending().await
    }

    /// Says goodbye to workers, writes down what was accepted, closes the store.
    pub async fn shutdown(&self) {}
}

/// Opens, starts, gathers. ARCHITECT: finish on merge (Engine::start, store by `config.store`, api::routes).
pub async fn build(_config: &Config) -> Result<Built> {
    let mut routes = Routes::builder();
    let descriptors = jobwire_proto::DESCRIPTOR_SET;
    routes
        .add_service(
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(descriptors)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                .build_v1()?,
        )
        .add_service(
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(descriptors)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                .build_v1alpha()?,
        );
    Ok(Built { engine: Engine {}, routes: routes.routes() })
}
