//! The rules W1 to W8 as the worker sees them, driven with a clock of our own.

use super::*;
use crate::{millis, secs};

mod batches;
mod drain;
mod leases;
mod outcomes;
mod stream;

struct Bench {
    session: Session,
    t0: Instant,
    now: Instant,
    server_seq: i64,
    frames: Vec<pb::StreamJobsRequest>,
    starts: Vec<Start>,
    batches: Vec<Vec<Start>>,
    commands: Vec<Command>,
    wake: Option<Instant>,
}

impl Bench {
    fn new(concurrency: usize, prefetch: usize) -> Self {
        Self::with(concurrency, prefetch, HashMap::new())
    }

    fn with(concurrency: usize, prefetch: usize, batches: HashMap<String, BatchRule>) -> Self {
        let config = Config {
            session_id: "s".into(),
            worker_id: "w".into(),
            types: vec!["t".into()],
            subscriptions: Vec::new(),
            concurrency,
            prefetch: Some(prefetch),
            grace: secs(25),
            lease_ttl: None,
            batches,
            info: pb::WorkerInfo::default(),
        };
        let t0 = Instant::now();
        let session = Session::new(config, 7, t0);
        Self {
            session,
            t0,
            now: t0,
            server_seq: 0,
            frames: vec![],
            starts: vec![],
            batches: vec![],
            commands: vec![],
            wake: None,
        }
    }

    /// Connected and welcomed.
    fn active(concurrency: usize, prefetch: usize) -> Self {
        let mut bench = Self::new(concurrency, prefetch);
        bench.connect();
        bench.welcome(pb::Welcome::default());
        bench
    }

    fn poll(&mut self) {
        let mut output = Output::default();
        self.session.poll(self.now, &mut output);
        self.frames = output.frames;
        self.starts = output.starts;
        self.batches = output.batches;
        self.commands = output.commands;
        self.wake = output.wake;
    }

    fn connect(&mut self) -> pb::Hello {
        self.poll();
        self.server_seq = 0;
        let hello = self.commands.iter().find_map(|command| match command {
            Command::Connect(frame) => frame.hello.clone(),
            _ => None,
        });
        hello.expect("a Connect")
    }

    fn welcome(&mut self, welcome: pb::Welcome) {
        self.receive(pb::StreamJobsResponse { welcome: Some(welcome), ..Default::default() });
    }

    fn receive(&mut self, mut frame: pb::StreamJobsResponse) {
        self.server_seq += 1;
        frame.seq = self.server_seq;
        self.session.received(frame, self.now);
        self.poll();
    }

    fn deliver(&mut self, tokens: &[&str]) {
        let jobs = tokens.iter().map(|token| job(token)).collect();
        self.receive(pb::StreamJobsResponse { jobs, ..Default::default() });
    }

    fn ack(&mut self, acked_seq: i64) {
        self.receive(pb::StreamJobsResponse { acked_seq, ..Default::default() });
    }

    fn finish(&mut self, token: &str) {
        let result = Some(pb::outcome::Result::Succeeded(pb::Succeeded::default()));
        let outcome = pb::Outcome { result, ..Default::default() };
        self.session.finished(token, Some(Box::new(outcome)), millis(5), self.now);
        self.poll();
    }

    fn pass(&mut self, span: Duration) {
        self.now += span;
        self.poll();
    }

    fn breaks(&mut self) {
        self.session.disconnected(Some(Box::new(RpcError::local(Code::Unavailable, "gone"))), self.now);
        self.poll();
        self.now = self.wake.expect("a reconnect").max(self.now);
    }

    /// Every outcome in the frames of the last poll, as (token, arm).
    fn outcomes(&self) -> Vec<(String, &'static str)> {
        let outcomes = self.frames.iter().flat_map(|frame| &frame.outcomes);
        outcomes.map(|outcome| (outcome.lease_token.clone(), arm(outcome))).collect()
    }

    fn started(&self) -> Vec<&str> {
        self.starts.iter().map(|start| &*start.token).collect()
    }

    fn cancelled(&self) -> Vec<CancelReason> {
        let reason = |command: &Command| match command {
            Command::Cancel(_, reason, _) => Some(*reason),
            _ => None,
        };
        self.commands.iter().filter_map(reason).collect()
    }

    fn exited(&self) -> Option<bool> {
        self.commands.iter().find_map(|command| match command {
            Command::Exit(end) => Some(end.is_ok()),
            _ => None,
        })
    }
}

fn job(token: &str) -> pb::JobLease {
    pb::JobLease { lease_token: token.to_owned(), attempt: 1, delivery: 1, ..Default::default() }
}

fn arm(outcome: &pb::Outcome) -> &'static str {
    match outcome.result.as_ref().expect("an arm") {
        pb::outcome::Result::Succeeded(_) => "succeeded",
        pb::outcome::Result::Failed(_) => "failed",
        pb::outcome::Result::Snoozed(_) => "snoozed",
        pb::outcome::Result::Cancelled(_) => "cancelled",
        pb::outcome::Result::Released(_) => "released",
    }
}

fn named(hello: &pb::Hello) -> Vec<&str> {
    let mut tokens: Vec<_> = hello.held.iter().map(|held| held.lease_token.as_str()).collect();
    tokens.sort_unstable();
    tokens
}

fn outcome_of(result: pb::outcome::Result) -> pb::Outcome {
    pb::Outcome { result: Some(result), ..Default::default() }
}
