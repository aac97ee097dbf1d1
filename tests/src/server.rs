//! The real server, in a process of its own.
use std::{
    net::SocketAddr,
    path::PathBuf,
    process::{Command, ExitStatus},
    thread,
};

use serde_json::Value;

use crate::{
    clients::Clients,
    process::{Process, Signal, build_dir},
    wait::LONG,
};

/// Where a server keeps its jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Store {
    /// In memory; gone with the process.
    Memory,
    /// In this directory.
    Embedded(PathBuf),
    /// In the Redis of this URL, under this prefix.
    Redis {
        /// `redis://…`, `redis+sentinel://…` or `redis+cluster://…`.
        url: String,
        /// Begins every key.
        prefix: String,
    },
}

impl Store {
    fn argument(&self) -> String {
        match self {
            Self::Memory => "memory".to_owned(),
            Self::Embedded(dir) => format!("embedded:{}", dir.display()),
            Self::Redis { url, .. } => url.clone(),
        }
    }

    /// In a Redis, under a prefix that nobody else has.
    pub fn redis(url: impl Into<String>) -> Self {
        Self::Redis { url: url.into(), prefix: format!("t{}", uuid::Uuid::new_v4().simple()) }
    }
}

/// A server. When it is dropped it is killed, and a WARN or ERROR in its log that was not allowed fails the test.
#[derive(Debug)]
pub struct Server {
    store: Store,
    args: Vec<String>,
    process: Process,
    /// gRPC.
    pub address: SocketAddr,
    /// HTTP: health and metrics.
    pub http: SocketAddr,
    allowed: Vec<String>,
    bad: Vec<String>,
    checked: bool,
}

impl Server {
    /// Starts a server on free ports and waits until it is ready. `args`: further flags of `jobwire serve`.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(store: Store, args: &[&str]) -> Self {
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        let (process, address, http) = launch(&store, &args, free, free);
        Self { store, args, process, address, http, allowed: Vec::new(), bad: Vec::new(), checked: false }
    }

    /// Lets log lines that contain `text` pass, whatever their level.
    pub fn allow(&mut self, text: &str) {
        self.allowed.push(text.to_owned());
    }

    /// Whether claims are committed by the server itself, so that the latest may be lost with it.
    pub fn keeps_claims_itself(&self) -> bool {
        !matches!(self.store, Store::Redis { .. })
    }

    /// `jobwire://ADDRESS`.
    pub fn url(&self) -> String {
        format!("jobwire://{}", self.address)
    }

    /// Typed clients on a connection of their own, made when first used.
    pub fn clients(&self) -> Clients {
        Clients::to(self.address)
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The process, for its log and for signals.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Ends it the hard way, with SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// SIGTERM: it drains and ends; see [`Server::exited`].
    pub fn terminate(&self) {
        self.process.signal(Signal::TERM);
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it goes on for 20 s.
    #[track_caller]
    pub fn exited(&mut self) -> ExitStatus {
        self.process.wait(LONG)
    }

    /// Starts it again after [`Server::kill`] or [`Server::exited`]: same ports, same store.
    pub fn start_again(&mut self) {
        self.process.kill();
        self.bad.extend(self.process.err.bad(&[]));
        let (process, _, _) = launch(&self.store, &self.args, self.address, self.http);
        self.process = process;
    }

    /// Log lines that nobody allowed, of this process and those before it.
    pub fn bad_lines(&mut self) -> Vec<String> {
        self.checked = true;
        let mut bad = self.process.err.bad(&[]);
        bad.extend(self.bad.iter().cloned());
        bad.retain(|line| !self.allowed.iter().any(|text| line.contains(text)));
        bad
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.checked && !thread::panicking() {
            let bad = self.bad_lines();
            assert!(bad.is_empty(), "the server complained:\n{}", bad.join("\n"));
        }
    }
}

/// The program: `JOBWIRE_BIN`, or the one of this build.
pub fn program() -> PathBuf {
    std::env::var_os("JOBWIRE_BIN").map_or_else(|| build_dir().join("jobwire"), PathBuf::from)
}

fn launch(store: &Store, args: &[String], grpc: SocketAddr, http: SocketAddr) -> (Process, SocketAddr, SocketAddr) {
    let mut command = Command::new(program());
    command.args(["serve", "--log-format", "json", "--store", &store.argument()]);
    command.args(["--listen", &grpc.to_string(), "--http-listen", &http.to_string()]).args(args);
    if let Store::Redis { prefix, .. } = store {
        command.args(["--redis-prefix", prefix]);
    }
    let mut process = Process::start(command);
    let line = process.first_line();
    let ready: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in the ready line {line:?}"));
    let address = |name: &str| ready[name].as_str().and_then(|text| text.parse().ok()).expect("an address");
    (process, address("listening"), address("http"))
}
