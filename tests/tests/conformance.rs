//! The protocol conformance suite. One test per case file and end under test; `cargo test -p jobwire-tests --test
//! conformance -- W2` runs those with W2 in their name.
use std::{
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use jobwire_tests::{
    case::{Against, Case, load},
    cut,
    play::{against_server, against_worker},
    process::root,
    server::{Server, Store},
    worker::Sdk,
};
use libtest_mimic::{Arguments, Trial};
use tokio::runtime::Runtime;

/// Every so many bytes; together with the other store, and with frames of changing length, all of them in the end.
const CUT_STEP: usize = 3;
/// Cases wait most of the time.
const AT_ONCE: usize = 32;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("threads"));

/// The server that most cases on a store share, started by the first of them.
#[derive(Clone)]
struct Shared {
    kind: &'static str,
    dir: Arc<tempfile::TempDir>,
    allowed: Arc<Vec<String>>,
    server: Arc<Mutex<Option<Server>>>,
}

impl Shared {
    fn new(kind: &'static str, cases: &[Case]) -> Self {
        let allowed = cases.iter().flat_map(|case| case.allow_log.clone()).collect();
        let dir = tempfile::tempdir().expect("a directory");
        Self { kind, dir: Arc::new(dir), allowed: Arc::new(allowed), server: Arc::default() }
    }

    fn store(&self, name: &str) -> Store {
        match self.kind {
            "memory" => Store::Memory,
            _ => Store::Embedded(self.dir.path().join(name)),
        }
    }

    fn address(&self) -> SocketAddr {
        // Poisoned: it did not start. The next case says so, too.
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        let server = server.get_or_insert_with(|| {
            let mut server = Server::start(self.store("shared"), &[]);
            self.allowed.iter().for_each(|text| server.allow(text));
            server
        });
        server.address
    }

    fn play(&self, case: &Case) -> Result<(), String> {
        RUNTIME.block_on(against_server::play(case, self.address(), self.store(&case.name)))
    }

    /// What the server logged that it should not, now that all cases are over.
    fn complaints(&self) -> Vec<String> {
        let server = self.server.lock().map(|mut server| server.take()).unwrap_or_default();
        server.map(|mut server| server.bad_lines()).unwrap_or_default()
    }
}

fn trials(shared: &[Shared], server: &[Case], worker: &[Case]) -> Vec<Trial> {
    let mut trials = Vec::new();
    for shared in shared {
        for case in server.iter().filter(|case| case.stores.iter().any(|store| store == shared.kind)) {
            let (shared, case) = (shared.clone(), case.clone());
            let name = format!("server on {}: {}", shared.kind, case.name);
            trials.push(Trial::test(name, move || Ok(shared.play(&case)?)));
        }
        let (shared, name) = (shared.clone(), format!("server on {}: cut_after_every_byte", shared.kind));
        trials.push(Trial::test(name, move || Ok(RUNTIME.block_on(cut::everywhere(shared.address(), CUT_STEP))?)));
    }
    for sdk in Sdk::ALL {
        for case in worker.iter().filter(|case| case.sdks.iter().any(|name| name == sdk.name())) {
            let case = case.clone();
            let name = format!("worker in {}: {}", sdk.name(), case.name);
            trials.push(Trial::test(name, move || Ok(RUNTIME.block_on(against_worker::play(&case, sdk))?)));
        }
    }
    trials
}

fn cases(folder: &str, against: Against) -> Result<Vec<Case>, String> {
    let dir: PathBuf = root().join("tests/conformance").join(folder);
    load(&dir, against)
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_ONCE);
    let (server, worker) = match (cases("server", Against::Server), cases("worker", Against::Worker)) {
        (Ok(server), Ok(worker)) => (server, worker),
        (Err(error), _) | (_, Err(error)) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let shared = [Shared::new("memory", &server), Shared::new("embedded", &server)];
    let conclusion = libtest_mimic::run(&arguments, trials(&shared, &server, &worker));
    let mut clean = true;
    for shared in &shared {
        for line in shared.complaints() {
            eprintln!("the server on {} complained: {line}", shared.kind);
            clean = false;
        }
    }
    if clean { conclusion.exit_code() } else { ExitCode::FAILURE }
}
