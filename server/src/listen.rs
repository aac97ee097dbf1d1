//! The accept loop of both listeners: connection cap, handshake deadline, back-off when the machine runs out of
//! descriptors, and a drain that ends when it is told to, whatever the clients do. What is spoken on a connection is in
//! `grpc.rs` and `http.rs`.
//!
//! tonic's and axum's own loops are not used: they wait for every connection without a limit (one that never said
//! anything would hold up a shutdown for ever), and set no deadline for the first bytes.
use std::{
    future::Future,
    io::{self, Write as _},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

mod grpc;
mod http;

pub use grpc::grpc;
pub use http::http;

/// Limits of one listener.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Open connections; the next one is refused.
    pub max_connections: usize,
    /// Streams open at once on one HTTP/2 connection.
    pub max_streams: u32,
    /// Time for a new connection to send its preface (HTTP/2) or a request's headers (HTTP/1).
    pub handshake_timeout: Duration,
}

/// What a listener counted since it started.
#[derive(Debug, Default)]
pub struct Stats {
    open: AtomicU64,
    accept_errors: AtomicU64,
    refused: [AtomicU64; Refused::ALL.len()],
}

/// Why a connection was not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// `max_connections` are open.
    Limit,
    /// It did not start to speak in time, or left before.
    Handshake,
    /// It speaks something else: HTTP/1, TLS.
    Protocol,
}

impl Refused {
    pub const ALL: [Self; 3] = [Self::Limit, Self::Handshake, Self::Protocol];

    /// Label in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::Handshake => "handshake",
            Self::Protocol => "protocol",
        }
    }
}

impl Stats {
    /// Connections open now.
    pub fn open(&self) -> u64 {
        self.open.load(Relaxed)
    }

    pub fn refused(&self, why: Refused) -> u64 {
        self.refused[why as usize].load(Relaxed)
    }

    /// Times that accept failed, for want of descriptors or memory.
    pub fn accept_errors(&self) -> u64 {
        self.accept_errors.load(Relaxed)
    }

    fn refuse(&self, why: Refused) {
        self.refused[why as usize].fetch_add(1, Relaxed);
    }
}

/// Binds the address. Errors name it and say what to do.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => {
                "; another program, perhaps another Jobwire, has it: stop it or choose another port"
            }
            io::ErrorKind::PermissionDenied => "; ports below 1024 need privileges: choose another port",
            io::ErrorKind::AddrNotAvailable => "; this machine has no such address",
            _ => "",
        };
        io::Error::new(error.kind(), format!("cannot listen on {address}: {error}{hint}"))
    })
}

/// What a connection is told, in this order.
#[derive(Clone, Default)]
struct Signals {
    /// Accept no more.
    close: CancellationToken,
    /// Finish what is open.
    drain: CancellationToken,
    /// Drop the connection.
    cut: CancellationToken,
}

/// A listener at work. Dropping it lets it work on; [`Running::drain`] ends it.
pub struct Running {
    signals: Signals,
    tasks: TaskTracker,
    stats: Arc<Stats>,
}

impl Running {
    pub fn stats(&self) -> Arc<Stats> {
        self.stats.clone()
    }

    /// Stops accepting at once: the port is free, what is open goes on.
    pub fn close(&self) {
        self.signals.close.cancel();
    }

    /// Lets open connections finish until `deadline`, then drops them. Answers how many were dropped. Returns at the
    /// deadline at the latest, give or take a scheduler's tick.
    pub async fn drain(&self, deadline: Instant) -> u64 {
        self.close();
        self.signals.drain.cancel();
        self.tasks.close();
        if tokio::time::timeout_at(deadline, self.tasks.wait()).await.is_ok() {
            return 0;
        }
        let cut = self.stats.open();
        self.signals.cut.cancel();
        // Each task ends when it is next polled; a second is for a starved runtime.
        let _ = tokio::time::timeout(Duration::from_secs(1), self.tasks.wait()).await;
        cut
    }
}

/// Starts to accept. `serve` speaks on one connection until it ends or a signal says so; `refusal` is written to
/// connections beyond the cap.
fn run<F, Fut>(tcp: TcpListener, settings: &Settings, refusal: &'static [u8], serve: F) -> Running
where
    F: Fn(TcpStream, SocketAddr, Signals, Arc<Stats>) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let running = Running { signals: Signals::default(), tasks: TaskTracker::new(), stats: Arc::default() };
    let (signals, tasks, stats) = (running.signals.clone(), running.tasks.clone(), running.stats.clone());
    let max = settings.max_connections;
    running.tasks.spawn(async move {
        let room = Arc::new(Semaphore::new(max));
        let mut accept = Accept { tcp, stats: stats.clone(), pause: Duration::ZERO };
        let mut full = false;
        loop {
            let (stream, peer) = tokio::select! {
                biased;
                () = signals.close.cancelled() => return,
                accepted = accept.next() => accepted,
            };
            let Ok(permit) = room.clone().try_acquire_owned() else {
                stats.refuse(Refused::Limit);
                if !std::mem::replace(&mut full, true) {
                    tracing::warn!(max_connections = max, "connections are refused: the limit is reached");
                }
                refuse(stream, refusal);
                continue;
            };
            full = false;
            if stream.set_nodelay(true).is_err() {
                continue;
            }
            let open = Open::new(stats.clone());
            let served = serve(stream, peer, signals.clone(), stats.clone());
            tasks.spawn(async move {
                served.await;
                drop((open, permit));
            });
        }
    });
    running
}

/// Counts one connection for as long as it lives, whichever way it ends.
struct Open(Arc<Stats>);

impl Open {
    fn new(stats: Arc<Stats>) -> Self {
        stats.open.fetch_add(1, Relaxed);
        Self(stats)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

/// Says why and hangs up, without waiting for anything.
fn refuse(stream: TcpStream, why: &[u8]) {
    if let Ok(mut stream) = stream.into_std() {
        // Best effort: the socket's buffer is empty, so this does not block; the peer may be gone.
        let _ = stream.write(why);
    }
}

/// A listener whose errors do not end it and do not make it spin.
struct Accept {
    tcp: TcpListener,
    stats: Arc<Stats>,
    /// Last pause; zero while all is well.
    pause: Duration,
}

impl Accept {
    const FIRST_PAUSE: Duration = Duration::from_millis(20);
    const LONGEST_PAUSE: Duration = Duration::from_secs(1);

    /// The next connection. Cancel-safe: at most a pause is cut short.
    async fn next(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            match self.tcp.accept().await {
                Ok(accepted) => {
                    if !self.pause.is_zero() {
                        self.pause = Duration::ZERO;
                        tracing::info!("connections are accepted again");
                    }
                    return accepted;
                }
                Err(error) if is_of_the_peer(&error) => {}
                Err(error) => {
                    self.stats.accept_errors.fetch_add(1, Relaxed);
                    // Out of descriptors or memory: the connection stays in the backlog, so accept would fail again at
                    // once. Wait for others to end.
                    if self.pause.is_zero() {
                        tracing::warn!(%error, "connections wait: accept fails; raise the limit of open files (ulimit -n)");
                    }
                    self.pause = (self.pause * 2).clamp(Self::FIRST_PAUSE, Self::LONGEST_PAUSE);
                    tokio::time::sleep(self.pause).await;
                }
            }
        }
    }
}

/// The connection ended before it was accepted; the next one may be fine.
fn is_of_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
