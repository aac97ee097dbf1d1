//! What the crash tests share.
use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    path::PathBuf,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jobwire_proto::v1::{
    EnqueueRequest, GetWorkerRequest, Job, JobSpec, ListJobsRequest, ListWorkersRequest, Payload, Worker as Session,
    payload::Body,
};
use jobwire_tests::{
    clients::Clients,
    ledger::{
        Fate, History, Millis, Run, Verdict,
        read::{self, files, jobs, recorded},
    },
    process::{Process, Signal},
    server::{Server, Store},
    wait::{LONG, wait_for},
    worker::Sdk,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Lease of the servers under test; workers that are gone lose their jobs at most a second later.
pub const LEASE_TTL: Duration = Duration::from_secs(10);
/// What servers complain about with reason: what was claimed when they were killed, or by a worker that was.
const EXPECTED: [&str; 1] = ["a lease ran out"];

pub fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    u64::try_from(since.as_millis()).expect("before the year 584,000,000")
}

/// splitmix64: the same moments for the same seed.
pub struct Random(u64);

impl Random {
    /// By `JOBWIRE_SEED`, or by the time of day.
    pub fn new() -> (Self, u64) {
        let seed = std::env::var("JOBWIRE_SEED")
            .map_or_else(|_| now(), |seed| seed.parse().expect("JOBWIRE_SEED is a number"));
        (Self(seed), seed)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

/// A server on the embedded store, and what everybody who worked with it wrote down.
pub struct Site {
    pub server: Server,
    pub dir: TempDir,
    pub runtime: Runtime,
    clients: Clients,
    server_kills: Vec<Millis>,
    fates: Vec<(u32, Fate)>,
}

impl Site {
    pub fn open() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let ttl = format!("{}s", LEASE_TTL.as_secs());
        let mut server = Server::start(Store::Embedded(dir.path().join("data")), &["--lease-ttl", &ttl]);
        for text in EXPECTED {
            server.allow(text);
        }
        let runtime = Runtime::new().expect("a runtime");
        let clients = runtime.block_on(async { server.clients() });
        Self { server, dir, runtime, clients, server_kills: Vec::new(), fates: Vec::new() }
    }

    /// Starts a worker and waits until it is connected.
    pub fn worker(&self, sdk: Sdk, name: &str, env: &[(&str, &str)]) -> Worker {
        Worker::start(sdk, name, self, env)
    }

    /// SIGKILL, and up again.
    pub fn kill_server(&mut self) {
        self.server_kills.push(now());
        self.server.kill();
        self.start_server_again();
    }

    /// SIGTERM, a good end, and up again.
    pub fn restart_server(&mut self) {
        self.server.terminate();
        let end = self.server.exited();
        assert!(end.success(), "the server ended with {end}");
        self.start_server_again();
    }

    fn start_server_again(&mut self) {
        self.keep_log();
        self.server.start_again();
        self.clients = self.runtime.block_on(async { self.server.clients() });
    }

    /// Adds what the server has said to `server.log`.
    fn keep_log(&mut self) {
        let path = self.dir.path().join("server.log");
        let mut file = OpenOptions::new().create(true).append(true).open(path).expect("a file");
        for line in self.server.process().err.lines() {
            writeln!(file, "{line}").expect("it can be written");
        }
    }

    pub fn kill(&mut self, worker: &mut Worker) -> Millis {
        let at = now();
        self.fates.push((worker.process.id(), Fate::Killed { at }));
        worker.process.kill();
        at
    }

    pub fn freeze(&mut self, worker: &Worker) -> Millis {
        let at = now();
        self.fates.push((worker.process.id(), Fate::Frozen { at, until: None }));
        worker.process.signal(Signal::STOP);
        at
    }

    pub fn wake(&mut self, worker: &Worker) {
        worker.process.signal(Signal::CONT);
        let frozen = self.fates.iter_mut().find_map(|(pid, fate)| match fate {
            Fate::Frozen { until, .. } if *pid == worker.process.id() => Some(until),
            _ => None,
        });
        *frozen.expect("it was frozen") = Some(now());
    }

    /// Enqueues a job of `type`; its id.
    pub fn enqueue(&self, r#type: &str, payload: &Value) -> String {
        let payload = Payload { body: Some(Body::Text(payload.to_string())), ..Default::default() };
        let job = JobSpec { r#type: r#type.to_owned(), payload: Some(payload), ..Default::default() };
        let request = EnqueueRequest { job: Some(job), ..Default::default() };
        let mut clients = self.clients.clone();
        self.runtime.block_on(clients.jobs.enqueue(request)).expect("it is accepted").into_inner().job_id
    }

    /// Records that `filter` lets through.
    pub fn jobs(&self, filter: &str) -> Vec<Job> {
        self.runtime.block_on(jobs(&self.clients, filter))
    }

    /// Workers that are connected.
    pub fn sessions(&self) -> Vec<Session> {
        let mut clients = self.clients.clone();
        let answer = self.runtime.block_on(clients.admin.list_workers(ListWorkersRequest::default()));
        answer.expect("workers can be listed").into_inner().workers
    }

    /// Waits until `count` jobs have ended and no other is there.
    #[track_caller]
    pub fn drained(&self, within: Duration) {
        wait_for("every job has ended", within, || OPEN.iter().all(|state| self.none(state)));
    }

    /// Whether no job is in `state`.
    fn none(&self, state: &str) -> bool {
        let request = ListJobsRequest { filter: format!("state = {state}"), page_size: 1, ..Default::default() };
        let mut clients = self.clients.clone();
        let answer = self.runtime.block_on(clients.jobs.list_jobs(request));
        answer.is_ok_and(|page| page.into_inner().jobs.is_empty())
    }

    /// Handler starts so far.
    pub fn runs(&self) -> Vec<Run> {
        files(self.dir.path(), "worker").iter().flat_map(|path| read::runs(path)).collect()
    }

    /// Everything written down, and everything the server says now.
    pub fn history(&self) -> History {
        History {
            produced: files(self.dir.path(), "producer").iter().flat_map(|path| read::produced(path)).collect(),
            runs: self.runs(),
            jobs: self.jobs("").iter().map(recorded).collect(),
            server_kills: self.server_kills.clone(),
            fates: self.fates.clone(),
        }
    }
}

impl Drop for Site {
    /// After a failure everything stays for the reader: who wrote what, the server's log, its store.
    fn drop(&mut self) {
        if thread::panicking() {
            self.keep_log();
            self.dir.disable_cleanup(true);
            let kills = self.server_kills.iter().map(|at| format!("kill {at}\n")).collect::<String>();
            let _ = fs::write(self.dir.path().join("kills"), kills + &format!("{:?}\n", self.fates));
            eprintln!("everything written down is in {}", self.dir.path().display());
        }
    }
}

/// States of jobs that have not ended.
const OPEN: [&str; 4] = ["READY", "RUNNING", "RETRYING", "SCHEDULED"];

/// A conformance worker, and the file it writes its starts and ends to.
pub struct Worker {
    pub sdk: Sdk,
    pub process: Process,
    log: PathBuf,
}

impl Worker {
    fn start(sdk: Sdk, name: &str, site: &Site, env: &[(&str, &str)]) -> Self {
        let log = site.dir.path().join(format!("{name}.worker"));
        let path = log.to_str().expect("a plain path").to_owned();
        let env = env.iter().copied().chain([("CONF_LOG", path.as_str())]);
        let mut process = sdk.start(site.server.address, env);
        assert_eq!(process.first_line(), "ready", "{sdk:?}: {}", process.err.lines().join("\n"));
        Self { sdk, process, log }
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// What it ran.
    pub fn runs(&self) -> Vec<Run> {
        read::runs(&self.log)
    }

    /// Its session, as the server sees it.
    pub fn session(&self, site: &Site) -> Session {
        let pid = i32::try_from(self.pid()).expect("a small number");
        let mut found =
            site.sessions().into_iter().filter(|session| session.info.as_ref().is_some_and(|info| info.pid == pid));
        found.next().unwrap_or_default()
    }

    /// Ids of the jobs it holds, as the server sees it.
    pub fn held(&self, site: &Site) -> Vec<String> {
        let request = GetWorkerRequest { session_id: self.session(site).session_id };
        let mut clients = site.clients.clone();
        let answer = site.runtime.block_on(clients.admin.get_worker(request)).expect("it is connected");
        answer.into_inner().jobs.into_iter().map(|job| job.id).collect()
    }

    /// SIGTERM, and an end with status 0 within `LONG`.
    #[track_caller]
    pub fn stop(&mut self) {
        self.process.signal(Signal::TERM);
        self.ended();
    }

    /// Its end, with status 0.
    #[track_caller]
    pub fn ended(&mut self) {
        let end = self.process.wait(LONG);
        assert!(
            end.success(),
            "the {} worker ended with {end}: {}",
            self.sdk.name(),
            self.process.err.lines().join("\n")
        );
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if thread::panicking() {
            let _ = fs::write(self.log.with_extension("err"), self.process.err.lines().join("\n"));
        }
    }
}

/// The record of `id` among `jobs`.
pub fn record<'a>(jobs: &'a [Job], id: &str) -> &'a Job {
    jobs.iter().find(|job| job.id == id).unwrap_or_else(|| panic!("{id} is not there"))
}

/// Asserts that the ledger is clean.
#[track_caller]
pub fn assert_clean(history: &History) -> Verdict {
    let verdict = history.check();
    assert!(verdict.clean(), "promises broken:\n{verdict}");
    verdict
}
