//! The SDKs as users run them, each in programs of its own, and the systems that their users come from: the same work,
//! in turns, on the same kind of store.

mod program;
mod rust;
mod system;
mod table;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use jobwire_redis_rig::Redis;
use serde_json::{Value, json};
use tempfile::TempDir;

pub use rust::run as run_program;
pub use system::{Peer, Role, Sdk};

use crate::{
    Failure,
    figures::Report,
    load,
    phases::{CALLERS, OPEN_LOOP_RATE, QUIET_PATIENCE, Setting},
    server::{self, Place, Server},
    usage::{Meter, quiet},
};
use program::Program;
use system::System;
use table::{Figure, Measured};

/// Longest wait for jobs to get done.
const PATIENCE: Duration = Duration::from_secs(180);
/// The same for both sides, so that counting costs both the same.
const LOOK: Duration = Duration::from_millis(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    One,
    Callers,
    Many,
    Drain,
    EndToEnd,
    Latency,
}

impl Phase {
    const ALL: [Self; 6] = [Self::One, Self::Callers, Self::Many, Self::Drain, Self::EndToEnd, Self::Latency];
}

/// Compares `sdks` with those of the peers that were asked for.
pub async fn run(sdks: &[Sdk], runs: usize, setting: &Setting, report: &mut Report) -> Result<(), Failure> {
    if !setting.peers.is_empty() && setting.place != Place::Redis {
        return Err("peers keep their jobs in Redis: compare with --store redis".into());
    }
    install(&setting.peers).await?;
    let mut systems: Vec<System> = Vec::new();
    for &sdk in sdks {
        systems.push(System::Jobwire(sdk));
        let rivals = table::rivals(sdk).iter().copied().filter(|peer| setting.peers.contains(peer));
        systems.extend(rivals.map(System::Peer));
    }
    let mut measured = Vec::new();
    for round in 0..runs {
        for phase in Phase::ALL {
            for &system in &systems {
                if phase == Phase::Callers && !system.has_callers() {
                    continue;
                }
                report.noise = quiet(QUIET_PATIENCE).await;
                let figures = Arena::open(system, setting).await?.measure(phase).await;
                let figures = figures.map_err(|error| format!("{}, {phase:?}: {error}", system.name()))?;
                for (figure, value, cores, more) in figures {
                    report.line(system.name(), figure.title(), value, cores, more)?;
                    measured.push(Measured { system, round, figure, value, cores });
                }
            }
        }
    }
    table::print(&measured, sdks, &setting.peers);
    Ok(())
}

/// Gets what the peers need, pinned, if it is not there.
pub async fn install(peers: &[Peer]) -> Result<(), Failure> {
    if peers.is_empty() {
        return Ok(());
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/peers/setup.sh");
    let status = tokio::process::Command::new(&script).args(peers.iter().map(|peer| peer.id())).status().await?;
    if status.success() { Ok(()) } else { Err(format!("{} ended with {status}", script.display()).into()) }
}

/// Where that puts packages for Node.
pub fn node_modules() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/peers/node_modules")
}

type Figures = Vec<(Figure, f64, Option<[f64; 3]>, Value)>;

enum Store {
    Jobwire(Server),
    Redis(Redis),
}

/// One system on an empty store, for one phase.
struct Arena<'a> {
    system: System,
    setting: &'a Setting,
    store: Store,
    dir: TempDir,
    producer: Program,
    /// Jobs that were put in.
    jobs: u64,
}

impl<'a> Arena<'a> {
    async fn open(system: System, setting: &'a Setting) -> Result<Self, Failure> {
        let dir = tempfile::Builder::new().prefix("jobwire-bench-").tempdir_in(&setting.dir)?;
        let store = match system {
            System::Jobwire(_) => Store::Jobwire(Server::start(setting).await?),
            System::Peer(_) => Store::Redis(server::redis(setting)),
        };
        let mut producer = start(system, Role::Produce, &store, setting, dir.path())?;
        producer.greeting().await?;
        Ok(Self { system, setting, store, dir, producer, jobs: 0 })
    }

    async fn measure(&mut self, phase: Phase) -> Result<Figures, Failure> {
        match phase {
            Phase::One => self.enqueue(phase, json!({"do": "one"})).await,
            Phase::Callers => self.enqueue(phase, json!({"do": "callers", "callers": CALLERS})).await,
            Phase::Many => self.enqueue(phase, json!({"do": "many"})).await,
            Phase::Drain => self.drain().await,
            Phase::EndToEnd => self.end_to_end().await,
            Phase::Latency => self.latency().await,
        }
    }

    /// A closed loop of so many seconds, after a tenth of it to warm up.
    async fn enqueue(&mut self, phase: Phase, mut command: Value) -> Result<Figures, Failure> {
        let seconds = self.setting.pick(1.5, 4.0);
        command["seconds"] = (seconds / 10.0).into();
        self.ask(command.clone()).await?;
        command["seconds"] = seconds.into();
        let meters = self.meters(None);
        let count = self.ask(command).await?;
        let (cores, elapsed) = read(&meters);
        self.conserved(0).await?;
        Ok(vec![(Figure::Rate(phase), count as f64 / elapsed, Some(cores), json!({"jobs": count}))])
    }

    /// From 5 % done, when the worker has got going, until the last result is kept.
    async fn drain(&mut self) -> Result<Figures, Failure> {
        let count = self.many().await?;
        let worker = self.work()?;
        let before = self.reached(count / 20, &worker).await?;
        let meters = self.meters(Some(&worker));
        self.reached(count, &worker).await?;
        let (cores, elapsed) = read(&meters);
        let rss: u64 = worker.pids().into_iter().map(crate::usage::rss_bytes).sum();
        worker.stop().await?;
        self.conserved(count).await?;
        let rate = (count - before) as f64 / elapsed;
        Ok(vec![
            (Figure::Rate(Phase::Drain), rate, Some(cores), json!({"jobs": count})),
            (Figure::WorkerRss, rss as f64 / 1e6, None, Value::Null),
        ])
    }

    /// From the first enqueue until the last result is kept, after a few jobs that say that the worker is there.
    async fn end_to_end(&mut self) -> Result<Figures, Failure> {
        let worker = self.work()?;
        self.ask(json!({"do": "many", "jobs": 100})).await?;
        self.reached(100, &worker).await?;
        let meters = self.meters(Some(&worker));
        let count = self.many().await?;
        self.reached(self.jobs, &worker).await?;
        let (cores, elapsed) = read(&meters);
        worker.stop().await?;
        self.conserved(self.jobs).await?;
        let rate = count as f64 / elapsed;
        Ok(vec![(Figure::Rate(Phase::EndToEnd), rate, Some(cores), json!({"jobs": count}))])
    }

    /// An open loop into an idle queue: from just before each call to the first line of its handler.
    async fn latency(&mut self) -> Result<Figures, Failure> {
        let worker = self.work()?;
        let pace = |seconds: u32| json!({"do": "paced", "rate": OPEN_LOOP_RATE, "jobs": OPEN_LOOP_RATE * seconds});
        self.ask(pace(1)).await?;
        self.reached(self.jobs, &worker).await?;
        let delays = program::delays(self.dir.path());
        std::fs::remove_file(&delays)?;
        let meters = self.meters(Some(&worker));
        let count = self.ask(pace(self.setting.pick(6, 20))).await?;
        self.reached(self.jobs, &worker).await?;
        let (cores, _) = read(&meters);
        worker.stop().await?;
        self.conserved(self.jobs).await?;
        let text = std::fs::read_to_string(delays)?;
        let mut millis =
            text.lines().map(|line| Ok(line.parse::<f64>()? / 1e3)).collect::<Result<Vec<f64>, Failure>>()?;
        if millis.len() as u64 != count {
            return Err(format!("{} handlers ran for {count} jobs", millis.len()).into());
        }
        millis.sort_by(f64::total_cmp);
        let at = |share: f64| millis[(millis.len() as f64 * share) as usize];
        Ok(vec![
            (Figure::P50, at(0.5), Some(cores), json!({"jobs": count})),
            (Figure::P99, at(0.99), Some(cores), json!({"jobs": count})),
        ])
    }

    async fn many(&mut self) -> Result<u64, Failure> {
        let jobs = self.system.jobs() / self.setting.pick(2, 1);
        self.ask(json!({"do": "many", "jobs": jobs})).await
    }

    async fn ask(&mut self, command: Value) -> Result<u64, Failure> {
        let count = self.producer.ask(command).await?;
        self.jobs += count;
        Ok(count)
    }

    fn work(&self) -> Result<Program, Failure> {
        start(self.system, Role::Work, &self.store, self.setting, self.dir.path())
    }

    fn meters(&self, worker: Option<&Program>) -> [Meter; 3] {
        let store = match &self.store {
            Store::Jobwire(server) => server.pids(),
            Store::Redis(redis) => vec![redis.pid()],
        };
        [self.producer.pids(), worker.map(Program::pids).unwrap_or_default(), store].map(Meter::start)
    }

    /// Jobs that have ended well, and jobs that have not.
    async fn done_and_left(&self) -> Result<(u64, u64), Failure> {
        match (&self.store, self.system) {
            (Store::Redis(redis), System::Peer(peer)) => Ok(peer.done_and_left(redis)),
            (Store::Jobwire(server), _) => {
                let left = load::unfinished(&server.queue(load::QUEUE).await?);
                Ok((self.jobs.saturating_sub(left), left))
            }
            (Store::Redis(_), System::Jobwire(_)) => unreachable!("Jobwire has a server"),
        }
    }

    /// Waits until so many jobs are done; how many there are then.
    async fn reached(&self, jobs: u64, worker: &Program) -> Result<u64, Failure> {
        let begun = Instant::now();
        loop {
            let (done, _) = self.done_and_left().await?;
            if done >= jobs {
                return Ok(done);
            }
            if begun.elapsed() > PATIENCE {
                return Err(format!("{done} of {jobs} jobs were done in {PATIENCE:?}; {}", worker.complaint()).into());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Fails unless `done` of the jobs have ended well and the others wait.
    async fn conserved(&self, done: u64) -> Result<(), Failure> {
        match (&self.store, self.system) {
            (Store::Jobwire(server), _) => load::conserved(server, self.jobs, done, None).await,
            (Store::Redis(_), _) if done == 0 => Ok(()),
            (Store::Redis(_), _) => match self.done_and_left().await? {
                (finished, 0) if finished == done => Ok(()),
                (finished, left) => Err(format!(
                    "jobs are not conserved: {} went in, {finished} are done and {left} are not",
                    self.jobs
                )
                .into()),
            },
        }
    }
}

fn start(system: System, role: Role, store: &Store, setting: &Setting, dir: &Path) -> Result<Program, Failure> {
    let url = match store {
        Store::Jobwire(server) => format!("jobwire://{}", server.address),
        Store::Redis(redis) => redis.url(),
    };
    Program::start(system, role, &url, setting.jobs().pad(), dir)
}

/// Cores that producer, worker and store have used, and the seconds.
fn read(meters: &[Meter; 3]) -> ([f64; 3], f64) {
    let loads = [meters[0].read(), meters[1].read(), meters[2].read()];
    (loads.map(|load| load.server / load.seconds), loads[0].seconds)
}
