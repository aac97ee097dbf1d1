//! Servers on one store, the workers and producers that use them, and what everybody wrote down.
use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    thread,
    time::Duration,
};

use jobwire_proto::v1::{
    EnqueueRequest, Job, JobSpec, ListJobsRequest, ListWorkersRequest, Payload, Worker as Session, payload::Body,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tonic::Status;

use crate::{
    clients::Clients,
    ledger::{
        Fate, History, Millis, Produced, Run, Verdict,
        read::{self, files, jobs, recorded},
    },
    process::Signal,
    random::now,
    server::{Server, Store},
    wait::wait_for,
    worker::Sdk,
};

mod worker;

pub use worker::Worker;

/// Lease of the servers under test; workers that are gone lose their jobs at most a second later.
pub const LEASE_TTL: Duration = Duration::from_secs(10);
/// What servers complain about with reason: what was claimed when they were killed, or by a worker that was.
const EXPECTED: [&str; 1] = ["a lease ran out"];
/// States of jobs that have not ended.
const OPEN: [&str; 4] = ["READY", "RUNNING", "RETRYING", "SCHEDULED"];

/// Servers on one store, and what everybody who worked with them wrote down.
#[derive(Debug)]
pub struct Site {
    /// The servers.
    pub servers: Vec<Server>,
    /// Files of producers and workers, logs, the embedded store.
    pub dir: TempDir,
    /// For those who want to await.
    pub runtime: Runtime,
    clients: Vec<Clients>,
    /// Servers that do not answer, because they are dead or frozen.
    away: Vec<bool>,
    /// When a server was killed whose claims may be lost with it.
    server_kills: Vec<Millis>,
    rollbacks: Vec<Millis>,
    fates: Vec<(u32, Fate)>,
}

impl Site {
    /// One server on the embedded store.
    pub fn open() -> Self {
        Self::start(1, |dir| Store::Embedded(dir.path().join("data")), &[])
    }

    /// So many servers on one store. `args`: further flags of `jobwire serve`, by which the lease may become another.
    pub fn on(store: &Store, count: usize, args: &[&str]) -> Self {
        Self::start(count, |_| store.clone(), args)
    }

    fn start(count: usize, store: impl Fn(&TempDir) -> Store, args: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let ttl = format!("{}s", LEASE_TTL.as_secs());
        let mut all = vec!["--lease-ttl", &ttl];
        if args.contains(&"--lease-ttl") {
            all.clear();
        }
        all.extend(args);
        let mut servers: Vec<Server> = (0..count).map(|_| Server::start(store(&dir), &all)).collect();
        servers.iter_mut().for_each(|server| EXPECTED.iter().for_each(|text| server.allow(text)));
        let runtime = Runtime::new().expect("a runtime");
        let clients = runtime.block_on(async { servers.iter().map(Server::clients).collect() });
        let away = vec![false; count];
        Self { servers, dir, runtime, clients, away, server_kills: vec![], rollbacks: vec![], fates: vec![] }
    }

    /// Lets log lines of every server that contain `text` pass.
    pub fn allow(&mut self, text: &str) {
        self.servers.iter_mut().for_each(|server| server.allow(text));
    }

    /// Every server, as SDKs take it: `jobwire://A,jobwire://B`.
    pub fn url(&self) -> String {
        self.servers.iter().map(Server::url).collect::<Vec<_>>().join(",")
    }

    /// Clients of a server that answers.
    ///
    /// # Panics
    /// When none does.
    pub fn clients(&self) -> Clients {
        let there = self.away.iter().position(|away| !away).expect("a server answers");
        self.clients[there].clone()
    }

    /// Clients of one server.
    pub fn clients_of(&self, number: usize) -> Clients {
        self.clients[number].clone()
    }

    /// Starts a worker that knows every server, and waits until it is connected.
    pub fn worker(&self, sdk: Sdk, name: &str, env: &[(&str, &str)]) -> Worker {
        Worker::start(sdk, name, self, env)
    }

    /// SIGKILL.
    pub fn kill_server(&mut self, number: usize) {
        if self.servers[number].keeps_claims_itself() {
            self.server_kills.push(now());
        }
        self.away[number] = true;
        self.servers[number].kill();
    }

    /// SIGTERM and a good end.
    ///
    /// # Panics
    /// When it does not end well, or not within 20 s.
    pub fn end_server(&mut self, number: usize) {
        self.away[number] = true;
        self.servers[number].terminate();
        let end = self.servers[number].exited();
        assert!(end.success(), "server {number} ended with {end}");
    }

    /// Up again, on the same ports.
    pub fn start_server_again(&mut self, number: usize) {
        self.keep_log(number);
        self.servers[number].start_again();
        self.clients[number] = self.runtime.block_on(async { self.servers[number].clients() });
        self.away[number] = false;
    }

    /// SIGSTOP. What it asked its store just before is too late when it wakes, and it says so.
    pub fn freeze_server(&mut self, number: usize) {
        self.away[number] = true;
        self.servers[number].allow("no answer in time");
        self.servers[number].process().signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn thaw_server(&mut self, number: usize) {
        self.servers[number].process().signal(Signal::CONT);
        self.away[number] = false;
    }

    /// Notes that the store went back by up to two seconds just now.
    pub fn rolled_back(&mut self) {
        self.rollbacks.push(now());
    }

    /// Adds what a server has said to its log in the directory.
    fn keep_log(&mut self, number: usize) {
        let path = self.dir.path().join(format!("server{number}.log"));
        let mut file = OpenOptions::new().create(true).append(true).open(path).expect("a file");
        for line in self.servers[number].process().err.lines() {
            writeln!(file, "{line}").expect("it can be written");
        }
    }

    /// SIGKILL to a worker; when.
    pub fn kill(&mut self, worker: &mut Worker) -> Millis {
        let at = now();
        self.fates.push((worker.process.id(), Fate::Killed { at }));
        worker.process.kill();
        at
    }

    /// SIGSTOP to a worker; when.
    pub fn freeze(&mut self, worker: &Worker) -> Millis {
        let at = now();
        self.fates.push((worker.process.id(), Fate::Frozen { at, until: None }));
        worker.process.signal(Signal::STOP);
        at
    }

    /// SIGCONT to a worker.
    ///
    /// # Panics
    /// When it was not frozen.
    pub fn wake(&mut self, worker: &Worker) {
        worker.process.signal(Signal::CONT);
        let frozen = self.fates.iter_mut().find_map(|(pid, fate)| match fate {
            Fate::Frozen { until, .. } if *pid == worker.process.id() => Some(until),
            _ => None,
        });
        *frozen.expect("it was frozen") = Some(now());
    }

    /// Enqueues a job of `type`; its id.
    ///
    /// # Panics
    /// When it is refused.
    pub fn enqueue(&self, r#type: &str, payload: &Value) -> String {
        self.try_enqueue(0, r#type, payload).expect("it is accepted")
    }

    /// Asks one server to enqueue a job, without retrying.
    ///
    /// # Errors
    /// What the server says.
    pub fn try_enqueue(&self, number: usize, r#type: &str, payload: &Value) -> Result<String, Status> {
        let payload = Payload { body: Some(Body::Text(payload.to_string())), ..Default::default() };
        let job = JobSpec { r#type: r#type.to_owned(), payload: Some(payload), ..Default::default() };
        let request = EnqueueRequest { job: Some(job), ..Default::default() };
        let mut clients = self.clients_of(number);
        self.runtime.block_on(clients.jobs.enqueue(request)).map(|answer| answer.into_inner().job_id)
    }

    /// Records that `filter` lets through.
    pub fn jobs(&self, filter: &str) -> Vec<Job> {
        self.runtime.block_on(jobs(&self.clients(), filter))
    }

    /// Workers that are connected.
    ///
    /// # Panics
    /// When the server does not answer.
    pub fn sessions(&self) -> Vec<Session> {
        let mut clients = self.clients();
        let answer = self.runtime.block_on(clients.admin.list_workers(ListWorkersRequest::default()));
        answer.expect("workers can be listed").into_inner().workers
    }

    /// Waits until every job has ended.
    ///
    /// # Panics
    /// When it takes longer.
    #[track_caller]
    pub fn drained(&self, within: Duration) {
        wait_for("every job has ended", within, || OPEN.iter().all(|state| self.none(state)));
    }

    /// Whether no job is in `state`.
    fn none(&self, state: &str) -> bool {
        let request = ListJobsRequest { filter: format!("state = {state}"), page_size: 1, ..Default::default() };
        let mut clients = self.clients();
        let answer = self.runtime.block_on(clients.jobs.list_jobs(request));
        answer.is_ok_and(|page| page.into_inner().jobs.is_empty())
    }

    /// Handler starts so far.
    pub fn runs(&self) -> Vec<Run> {
        files(self.dir.path(), "worker").iter().flat_map(|path| read::runs(path)).collect()
    }

    /// What producers wrote down so far.
    pub fn produced(&self) -> Vec<Produced> {
        files(self.dir.path(), "producer").iter().flat_map(|path| read::produced(path)).collect()
    }

    /// Everything written down, and everything the server says now.
    pub fn history(&self) -> History {
        History {
            produced: self.produced(),
            runs: self.runs(),
            jobs: self.jobs("").iter().map(recorded).collect(),
            server_kills: self.server_kills.clone(),
            rollbacks: self.rollbacks.clone(),
            fates: self.fates.clone(),
        }
    }
}

impl Drop for Site {
    /// After a failure everything stays for the reader: who wrote what, the servers' logs, their store.
    fn drop(&mut self) {
        if thread::panicking() {
            (0..self.servers.len()).for_each(|number| self.keep_log(number));
            self.dir.disable_cleanup(true);
            let kills = self.server_kills.iter().map(|at| format!("kill {at}\n"));
            let rollbacks = self.rollbacks.iter().map(|at| format!("rollback {at}\n"));
            let lines: String = kills.chain(rollbacks).collect();
            let _ = fs::write(self.dir.path().join("kills"), lines + &format!("{:?}\n", self.fates));
            eprintln!("everything written down is in {}", self.dir.path().display());
        }
    }
}

/// The record of `id` among `jobs`.
///
/// # Panics
/// When it is not there.
#[track_caller]
pub fn record<'a>(jobs: &'a [Job], id: &str) -> &'a Job {
    jobs.iter().find(|job| job.id == id).unwrap_or_else(|| panic!("{id} is not there"))
}

/// Asserts that the ledger is clean.
///
/// # Panics
/// When it is not, naming what was broken.
#[track_caller]
pub fn assert_clean(history: &History) -> Verdict {
    let verdict = history.check();
    assert!(verdict.clean(), "promises broken:\n{verdict}");
    verdict
}
