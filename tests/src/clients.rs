//! Typed clients of every service, for tests that are written in Rust.
use std::net::SocketAddr;

use jobwire_proto::v1::{
    admin_service_client::AdminServiceClient, job_service_client::JobServiceClient,
    queue_service_client::QueueServiceClient, worker_service_client::WorkerServiceClient,
};
use tonic::transport::{Channel, Endpoint};

/// One connection, one client per service.
#[derive(Clone, Debug)]
pub struct Clients {
    /// The connection itself.
    pub channel: Channel,
    /// Producers.
    pub jobs: JobServiceClient<Channel>,
    /// Queues.
    pub queues: QueueServiceClient<Channel>,
    /// Workers.
    pub workers: WorkerServiceClient<Channel>,
    /// Operators.
    pub admin: AdminServiceClient<Channel>,
}

impl Clients {
    /// Clients of the server at `address`. Connects with the first call, and again after a break.
    pub fn to(address: SocketAddr) -> Self {
        let channel = channel(address);
        Self {
            jobs: JobServiceClient::new(channel.clone()),
            queues: QueueServiceClient::new(channel.clone()),
            workers: WorkerServiceClient::new(channel.clone()),
            admin: AdminServiceClient::new(channel.clone()),
            channel,
        }
    }
}

/// A connection that is made when it is first used.
pub fn channel(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}"))
        .expect("an address makes a URL")
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .tcp_nodelay(true)
        .connect_lazy()
}
