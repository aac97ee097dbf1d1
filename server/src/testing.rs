//! A server inside a test: real, in memory, on free ports of this machine, gone with its owner. For users' tests, where
//! this crate is a dev-dependency; nothing of the server itself uses it.
use std::{thread::JoinHandle, time::Duration};

use anyhow::{Context as _, Result};
use tokio::sync::oneshot;

use crate::{
    config::{Config, LeaseConfig, ListenConfig, StoreConfig, StorePlace},
    serve::Server,
};

/// A server with its defaults and an empty memory store.
///
/// ```no_run
/// # async fn example() {
/// let server = jobwire_server::testing::server().await;
/// // Client::connect(server.url()), and the rest as in production.
/// # }
/// ```
///
/// # Panics
/// If it cannot be started.
pub async fn server() -> TestServer {
    TestServer::builder().start().await
}

/// A running server. It has a thread and a runtime of its own, so it goes on while a test blocks; dropping it cuts its
/// connections and forgets every job.
#[derive(Debug)]
pub struct TestServer {
    url: String,
    http_url: String,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl TestServer {
    /// A server with other settings.
    pub fn builder() -> Builder {
        Builder { lease_ttl: LeaseConfig::default().ttl, port: 0 }
    }

    /// What clients connect to: `jobwire://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Health and metrics: `http://127.0.0.1:PORT`.
    pub fn http_url(&self) -> &str {
        &self.http_url
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Settings of a [`TestServer`].
#[derive(Clone, Debug)]
#[must_use = "nothing is started before start()"]
pub struct Builder {
    lease_ttl: Duration,
    port: u16,
}

impl Builder {
    /// How long after a worker vanished its jobs run elsewhere, 1 s to 1 h. Default 30 s.
    pub fn lease_ttl(mut self, ttl: Duration) -> Self {
        self.lease_ttl = ttl;
        self
    }

    /// Port for clients, such as that of a server that a test ended. Default: a free one.
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Returns once calls are answered.
    ///
    /// # Panics
    /// If the server cannot be started.
    pub async fn start(self) -> TestServer {
        self.try_start().await.expect("a server can be started on this machine")
    }

    /// As [`start`](Self::start), with the error.
    pub async fn try_start(self) -> Result<TestServer> {
        let config = self.config();
        let (stop, stopped) = oneshot::channel::<()>();
        let (started, addresses) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let run = move || {
            runtime.block_on(async {
                match Server::start(&config).await {
                    Err(error) => drop(started.send(Err(error))),
                    Ok(server) => {
                        if started.send(Ok((server.grpc_address, server.http_address))).is_ok() {
                            let _ = stopped.await;
                        }
                    }
                }
            });
            // What is in memory needs no drain.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("jobwire-test-server".to_owned()).spawn(run)?;
        let (grpc, http) = addresses.await.context("the server's thread ended")??;
        Ok(TestServer {
            url: format!("jobwire://{grpc}"),
            http_url: format!("http://{http}"),
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    fn config(&self) -> Config {
        let default = ListenConfig::default();
        let listen =
            ListenConfig { grpc: ([127, 0, 0, 1], self.port).into(), http: ([127, 0, 0, 1], 0).into(), ..default };
        let store = StoreConfig { place: StorePlace::Memory, ..StoreConfig::default() };
        Config { listen, store, lease: LeaseConfig { ttl: self.lease_ttl }, ..Config::default() }
    }
}
