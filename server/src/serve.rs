//! The server from start to end, read as a script: configuration → telemetry → listeners → store → engine → ready line →
//! a signal → drain.
use std::{net::SocketAddr, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use serde_json::json;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::Instant,
};

use crate::{
    config::{Config, Flags, Loaded},
    duration, listen,
    store::{Durability, StoreError},
    telemetry, web,
};

mod build;
pub mod dev;
mod patience;

/// `jobwire serve`.
pub fn main(flags: &Flags) -> ExitCode {
    let Some(loaded) = load(flags) else { return ExitCode::from(2) };
    if flags.print {
        print!("{loaded}");
        return ExitCode::SUCCESS;
    }
    telemetry::init(&loaded.config.log);
    on_runtime(async {
        let mut signals = Signals::new()?;
        // A store that cannot be reached yet is waited for.
        let server = tokio::select! {
            started = Server::start(&loaded.config) => started?,
            signal = signals.next() => {
                tracing::info!(signal, "stopped before it served");
                return Ok(());
            }
        };
        println!("{}", json!({"listening": server.grpc_address.to_string(), "http": server.http_address.to_string()}));
        let fatal = tokio::select! {
            signal = signals.next() => {
                tracing::info!(signal, "draining");
                None
            }
            error = server.failed() => Some(error),
        };
        signals.or_exit(server.stop()).await;
        fatal.map_or(Ok(()), |error| Err(error.into()))
    })
}

/// The configuration, or `None` after saying what is wrong with it.
fn load(flags: &Flags) -> Option<Loaded> {
    // Empty and non-Unicode variables count as absent.
    match Loaded::load(flags, |name| std::env::var(name).ok()) {
        Ok(loaded) => Some(loaded),
        Err(error) => {
            for problem in error.0 {
                eprintln!("jobwire: {problem}");
            }
            None
        }
    }
}

/// Runs to the end and lets nothing that is left hold up the process.
fn on_runtime(work: impl Future<Output = Result<()>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("jobwire: cannot start threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    let done = runtime.block_on(work);
    runtime.shutdown_background();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the server ends");
            eprintln!("jobwire: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Open connections on the HTTP port: probes, scrapers, people.
const HTTP_CONNECTIONS: usize = 1_000;

/// A server at work.
pub struct Server {
    pub grpc_address: SocketAddr,
    pub http_address: SocketAddr,
    /// Name of the level in force.
    pub durability: &'static str,
    grpc: listen::Running,
    http: listen::Running,
    built: build::Built,
    shared: Arc<web::Shared>,
    drain_timeout: Duration,
}

impl Server {
    /// Returns once both ports are open and calls are answered.
    pub async fn start(config: &Config) -> Result<Self> {
        let limits = listen::Settings {
            max_connections: config.listen.max_connections,
            max_streams: config.listen.max_streams,
            handshake_timeout: config.listen.handshake_timeout,
        };
        raise_open_files(&limits);
        // Both ports first: a port that is taken is found before a store is opened.
        let grpc_tcp = listen::bind(config.listen.grpc).await?;
        let http_tcp = listen::bind(config.listen.http).await?;
        let (grpc_address, http_address) = (grpc_tcp.local_addr()?, http_tcp.local_addr()?);

        let shared = Arc::<web::Shared>::default();
        let http_limits = listen::Settings { max_connections: HTTP_CONNECTIONS, ..limits.clone() };
        let http = listen::http(http_tcp, &http_limits, web::router(shared.clone()));

        let built = build::build(config).await?;
        let info = built.engine.store_info().await.context("the store does not answer")?;
        if let Some(wanted) = config.store.require.filter(|wanted| info.durability < *wanted) {
            let remedy = match info.durability {
                Durability::RedisVolatile => "; set appendonly yes in Redis, and appendfsync everysec or always",
                Durability::RedisEverysec => "; set appendfsync always in Redis",
                Durability::RedisReplicated => ", because a failover may lose what was not replicated yet",
                _ => "",
            };
            let (wanted, level) = (wanted.name(), info.durability.name());
            anyhow::bail!("require_durability is {wanted}, but the store gives {level}{remedy}");
        }
        let hint = format!("Health and metrics are on http://{http_address}/.");
        let grpc = listen::grpc(grpc_tcp, &limits, hint, built.service.clone());
        shared.serving(built.engine.clone(), [("grpc", grpc.stats()), ("http", http.stats())]);

        let open = !(grpc_address.ip().is_loopback() && http_address.ip().is_loopback());
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            store = info.kind,
            store_version = info.version,
            warnings = info.warnings.len(),
            durability = info.durability.name(),
            grpc = %grpc_address,
            http = %http_address,
            lease_ttl = duration::format(config.lease.ttl),
            insecure = if open { "no auth, no TLS, reachable from other machines" } else { "no auth, no TLS, this machine only" },
            "jobwire serves"
        );
        let (durability, drain_timeout) = (info.durability.name(), config.listen.drain_timeout);
        Ok(Self { grpc_address, http_address, durability, grpc, http, built, shared, drain_timeout })
    }

    /// Resolves when the server cannot go on.
    pub async fn failed(&self) -> StoreError {
        self.built.failed().await
    }

    /// Drains and closes. Ends within the drain timeout, whatever clients and the store do.
    pub async fn stop(self) {
        let deadline = Instant::now() + self.drain_timeout;
        self.shared.draining();
        self.built.not_serving().await;
        self.grpc.close();
        // The last tenth is for connections that do not end by themselves.
        let engine_deadline = deadline - self.drain_timeout / 10;
        if tokio::time::timeout_at(engine_deadline, self.built.shutdown(self.drain_timeout * 8 / 10)).await.is_err() {
            tracing::warn!("the engine did not finish in time: outcomes not acknowledged will be sent again");
        }
        // The store is closed and every stream ended: what is still open is idle, or does not listen.
        let (grpc, http) = tokio::join!(self.grpc.drain(deadline), self.http.drain(deadline));
        if grpc + http > 0 {
            tracing::warn!(connections = grpc + http, "connections were cut at the end of the drain");
        }
        tracing::info!("stopped");
    }
}

/// Lets the process open as many files as it may, and warns if that is less than the connections it would accept.
fn raise_open_files(limits: &listen::Settings) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    /// The HTTP port's connections, the store's files: more than a server has open besides its gRPC connections.
    const OTHERS: u64 = HTTP_CONNECTIONS as u64 + 100;
    let now = getrlimit(Resource::Nofile);
    if now.current != now.maximum {
        // Refused = as before, and the warning below tells.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum });
    }
    let wanted = limits.max_connections as u64 + OTHERS;
    if let Some(files) = getrlimit(Resource::Nofile).current.filter(|files| *files < wanted) {
        tracing::warn!(
            files,
            wanted,
            "fewer files may be open (ulimit -n) than max_connections needs; new connections will wait"
        );
    }
}

/// SIGTERM and SIGINT.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub fn new() -> Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// The next one's name. Cancel-safe.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// Does the work, unless another signal comes: then the process ends on the spot, as whoever sent two wants it.
    pub async fn or_exit<T>(&mut self, work: impl Future<Output = T>) -> T {
        tokio::select! {
            done = work => done,
            signal = self.next() => {
                tracing::warn!(signal, "a second signal: exiting now");
                std::process::exit(130);
            }
        }
    }
}
