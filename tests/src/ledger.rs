//! The ledger: what every process wrote down before and after doing something, held against what the server says in
//! the end. Each promise has a list of the jobs that broke it; all lists must be empty.
//!
//! Times are milliseconds of the machine's wall clock: everything runs on one machine.
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
};

pub mod read;
#[cfg(test)]
mod tests;

/// Milliseconds since 1970.
pub type Millis = u64;

/// A claim may be lost with the server when it is not older than this, ms: claims are journaled, but not waited for.
pub const CLAIM_COMMIT: Millis = 50;
/// What the server sent before it was killed is read so much later, and starts at once if a slot is free, ms.
pub const READ: Millis = 100;
/// Both limits where the record itself proves that the claim is not on it: the disk was slow, or the job has waited for
/// a slot, ms.
pub const PROVEN: (Millis, Millis) = (250, 2_000);
/// Time a worker has, once woken, to learn that its leases are gone, ms.
pub const WAKING: Millis = 4_000;
/// How far back a store may be thrown that syncs once a second, ms.
pub const FORGETS: Millis = 2_000;
/// Answers and starts of such a store are read so much later, ms.
const STILL_READ: Millis = 1_000;
/// Two processes that read the clock in turn may seem to overlap by this much, ms.
const GRAIN: Millis = 5;
/// Ends of a handler after which the job is meant to run again.
const RUNS_AGAIN: [&str; 4] = ["ConfError", "RetryAfter", "Snooze", "Release"];

/// What a producer wrote down about one enqueue. `key`: the producer's own name for the job, also in its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Produced {
    /// Before the call.
    Sent {
        /// Which job.
        key: String,
    },
    /// After the call.
    Acked {
        /// Which job.
        key: String,
        /// Its id.
        job: String,
        /// Whether the answer was CREATED: a new job.
        created: bool,
        /// When.
        at: Millis,
    },
    /// The call failed for good: nobody knows whether the job is there.
    Failed {
        /// Which job.
        key: String,
        /// The error.
        how: String,
    },
}

/// One start of a handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The job.
    pub job: String,
    /// Its attempt.
    pub attempt: i32,
    /// Its delivery.
    pub delivery: i32,
    /// The worker's process.
    pub pid: u32,
    /// When.
    pub start: Millis,
    /// When and how it ended: `ok` or the class of the error. None: never.
    pub end: Option<(Millis, String)>,
}

/// What the server says about a job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Its id.
    pub id: String,
    /// The producer's name for it.
    pub key: Option<String>,
    /// Whether it has ended.
    pub terminal: bool,
    /// Whether it has ended well.
    pub succeeded: bool,
    /// Attempts counted.
    pub attempt: i32,
    /// Leases issued.
    pub delivery: i32,
    /// Crashes charged.
    pub crashes: i32,
    /// When it ended.
    pub finish: Option<Millis>,
    /// Deliveries that were accepted as success.
    pub successes: Vec<i32>,
    /// Failures accepted.
    pub failures: i32,
}

/// What was done to a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// SIGKILL.
    Killed {
        /// When.
        at: Millis,
    },
    /// SIGSTOP, then SIGCONT.
    Frozen {
        /// When.
        at: Millis,
        /// When it was woken; None: never.
        until: Option<Millis>,
    },
}

/// Everything that is known about a test.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// By the producers.
    pub produced: Vec<Produced>,
    /// By the workers.
    pub runs: Vec<Run>,
    /// By the server.
    pub jobs: Vec<Recorded>,
    /// When the server was killed.
    pub server_kills: Vec<Millis>,
    /// When the store was killed in such a way that it came back as it had been up to [`FORGETS`] before.
    pub rollbacks: Vec<Millis>,
    /// What was done to which worker.
    pub fates: Vec<(u32, Fate)>,
}

/// Promises broken: lines that name the job and say what happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Acknowledged, and gone or not done (I1).
    pub lost: Vec<String>,
    /// More than one completion, or a record that contradicts the runs (I3, I4, I8).
    pub double: Vec<String>,
    /// Two handlers of one job at the same time, both alive (I5).
    pub overlap: Vec<String>,
    /// Not ended although nothing keeps it (I3).
    pub stuck: Vec<String>,
    /// Run again although its worker lived and held it (I7).
    pub rerun: Vec<String>,
    /// One job acknowledged as new twice, or stored twice (I2).
    pub dup: Vec<String>,
    /// Second runs of jobs whose claim was lost with the server, ms from their start to the kill (negative: they
    /// started after it): the exception of I7.
    pub excused: Vec<i64>,
    /// Jobs, and runs of jobs, that a store may have forgotten since it was thrown back: acknowledged and gone, or run
    /// again.
    pub forgotten: Vec<String>,
    /// Enqueues that nobody got an answer to.
    pub unknown: usize,
}

impl Verdict {
    /// The lists by name.
    pub fn lists(&self) -> [(&'static str, &[String]); 6] {
        [
            ("lost", &self.lost),
            ("double", &self.double),
            ("overlap", &self.overlap),
            ("stuck", &self.stuck),
            ("rerun", &self.rerun),
            ("dup", &self.dup),
        ]
    }

    /// Whether every promise was kept.
    pub fn clean(&self) -> bool {
        self.lists().iter().all(|(_, list)| list.is_empty())
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, list) in self.lists().into_iter().filter(|(_, list)| !list.is_empty()) {
            writeln!(out, "{name}: {}", list.len())?;
            for line in list.iter().take(10) {
                writeln!(out, "  {line}")?;
            }
        }
        Ok(())
    }
}

impl History {
    /// Holds everything against everything.
    pub fn check(&self) -> Verdict {
        let mut verdict = Verdict::default();
        let records: HashMap<&str, &Recorded> = self.jobs.iter().map(|job| (job.id.as_str(), job)).collect();
        let mut runs: BTreeMap<&str, Vec<&Run>> = BTreeMap::new();
        for run in &self.runs {
            runs.entry(&run.job).or_default().push(run);
        }
        self.check_answers(&records, &mut verdict);
        for job in &self.jobs {
            if !job.terminal {
                verdict.stuck.push(format!("{} has not ended", job.id));
            }
            self.check_record(job, runs.get(job.id.as_str()).map_or(&[], Vec::as_slice), &mut verdict);
        }
        for (job, runs) in &mut runs {
            runs.sort_by_key(|run| (run.start, run.delivery));
            let excused = |run: &&Run| self.claim_lost(run, Millis::MAX, PROVEN).is_some() || self.forgotten(run);
            if !records.contains_key(job) && !runs.iter().all(excused) {
                verdict.lost.push(format!("{job} ran, and is not there"));
            }
            for (place, earlier) in runs.iter().enumerate() {
                for (distance, later) in runs[place + 1..].iter().enumerate() {
                    self.check_pair(earlier, later, distance == 0, &mut verdict);
                }
            }
        }
        verdict
    }

    fn check_answers(&self, records: &HashMap<&str, &Recorded>, verdict: &mut Verdict) {
        let mut created: HashMap<&str, usize> = HashMap::new();
        let mut ids: BTreeMap<&str, HashSet<&str>> = BTreeMap::new();
        let mut open: HashSet<&str> = HashSet::new();
        for line in &self.produced {
            match line {
                Produced::Sent { key } | Produced::Failed { key, .. } => {
                    open.insert(key);
                }
                Produced::Acked { key, job, created: new, at } => {
                    *created.entry(job).or_default() += usize::from(*new && !self.forgets(*at));
                    ids.entry(key).or_default().insert(job);
                    match records.get(job.as_str()) {
                        None if self.forgets(*at) => {
                            verdict
                                .forgotten
                                .push(format!("{key} was acknowledged as {job} at {at}, and is not there"));
                        }
                        None => verdict.lost.push(format!("{key} was acknowledged as {job}, which is not there")),
                        Some(record) if record.terminal && !record.succeeded => {
                            verdict.lost.push(format!("{key} ({job}) has not succeeded"));
                        }
                        Some(_) => {}
                    }
                }
            }
        }
        verdict.unknown = open.iter().filter(|key| !ids.contains_key(*key)).count();
        for (job, times) in created {
            if times > 1 {
                verdict.dup.push(format!("{job} was acknowledged as new {times} times"));
            }
        }
        for job in &self.jobs {
            if let Some(key) = &job.key {
                ids.entry(key).or_default().insert(&job.id);
            }
        }
        for (key, ids) in ids {
            if ids.len() > 1 {
                verdict.dup.push(format!("{key} became several jobs: {ids:?}"));
            }
        }
    }

    /// The record of one job against its runs.
    fn check_record(&self, job: &Recorded, runs: &[&Run], verdict: &mut Verdict) {
        let mut wrong = |what: String| verdict.double.push(format!("{} {what}", job.id));
        if job.successes.len() > 1 {
            wrong(format!("succeeded in deliveries {:?}", job.successes));
        }
        for delivery in &job.successes {
            let reported =
                |run: &&&Run| run.delivery == *delivery && run.end.as_ref().is_some_and(|(_, how)| how == "ok");
            if runs.iter().find(reported).is_none() {
                wrong(format!("succeeded in delivery {delivery}, which no handler completed"));
            }
        }
        if job.succeeded && job.attempt != job.failures + 1 {
            wrong(format!("is at attempt {} after {} failures", job.attempt, job.failures));
        }
        let unissued = |run: &&&Run| {
            let lost = self.claim_lost(run, Millis::MAX, PROVEN).is_some() || self.forgotten(run);
            run.delivery > job.delivery && !lost
        };
        if let Some(run) = runs.iter().find(unissued) {
            wrong(format!("ran in delivery {} of {}", run.delivery, job.delivery));
        }
        if let Some(run) = runs.iter().find(|run| job.finish.is_some_and(|finish| run.start > finish + GRAIN)) {
            wrong(format!("started at {} though it had ended at {:?}", run.start, job.finish));
        }
        let gone = runs.iter().filter(|run| self.fates(run.pid).next().is_some()).count();
        if usize::try_from(job.crashes).is_ok_and(|crashes| crashes > gone) {
            wrong(format!("is charged with {} crashes, and {gone} workers vanished with it", job.crashes));
        }
    }

    /// Two runs of one job; `next`: nothing ran in between.
    fn check_pair(&self, earlier: &Run, later: &Run, next: bool, verdict: &mut Verdict) {
        // That the number was given out again proves that the earlier claim was not on record.
        let limits = if later.delivery <= earlier.delivery { PROVEN } else { (CLAIM_COMMIT, READ) };
        if let Some(before_kill) = self.claim_lost(earlier, later.start, limits) {
            if next {
                verdict.excused.push(before_kill);
            }
            return;
        }
        let pair = || {
            let end = earlier.end.as_ref().map_or("never ended".to_owned(), |(at, how)| format!("{how} at {at}"));
            format!(
                "{}: delivery {} by {} at {} ({end}), delivery {} by {} at {}",
                later.job, earlier.delivery, earlier.pid, earlier.start, later.delivery, later.pid, later.start
            )
        };
        let meant = earlier
            .end
            .as_ref()
            .is_some_and(|(at, how)| *at <= later.start + GRAIN && RUNS_AGAIN.contains(&how.as_str()));
        let vanished = self.fates(earlier.pid).any(|fate| {
            let (Fate::Killed { at } | Fate::Frozen { at, .. }) = fate;
            *at <= later.start
        });
        if self.forgotten(earlier) {
            if next && !meant && !vanished {
                verdict.forgotten.push(pair());
            }
            return;
        }
        if earlier.delivery >= later.delivery {
            verdict.double.push(pair());
        }
        let end = self.end(earlier).min(self.end(later));
        if end > later.start + GRAIN && !self.excused_by_freeze(earlier, later.start, end) {
            verdict.overlap.push(pair());
        }
        if next && !meant && !vanished {
            verdict.rerun.push(pair());
        }
    }

    /// Whether the store may have been thrown back to before what was answered at `at`.
    fn forgets(&self, at: Millis) -> bool {
        self.rollbacks.iter().any(|kill| (kill.saturating_sub(FORGETS)..=kill + STILL_READ).contains(&at))
    }

    /// Whether the store may have forgotten the claim or the outcome of `run`.
    fn forgotten(&self, run: &Run) -> bool {
        self.forgets(run.start) || run.end.as_ref().is_some_and(|(at, _)| self.forgets(*at))
    }

    /// Whether the claim of `run` may have died with the server: ms from its start to the kill, which was `before`. The
    /// start was at most as `early` as that, or as `late`: the worker reads what was sent, though nobody is there any more.
    fn claim_lost(&self, run: &Run, before: Millis, (early, late): (Millis, Millis)) -> Option<i64> {
        let near = |kill: &&Millis| (kill.saturating_sub(early)..=**kill + late).contains(&run.start);
        let kills = self.server_kills.iter().filter(|kill| **kill <= before).filter(near);
        kills.map(|&kill| kill as i64 - run.start as i64).min_by_key(|distance| distance.abs())
    }

    /// When a run was over: by itself, or with its process.
    fn end(&self, run: &Run) -> Millis {
        let killed = self.fates(run.pid).filter_map(|fate| match fate {
            Fate::Killed { at } => Some(*at),
            Fate::Frozen { .. } => None,
        });
        let own = run.end.as_ref().map(|(at, _)| *at);
        killed.chain(own).min().unwrap_or(Millis::MAX)
    }

    /// Whether `run` went on from `from` to `to` only because its process was frozen, or had not yet heard.
    fn excused_by_freeze(&self, run: &Run, from: Millis, to: Millis) -> bool {
        self.fates(run.pid).any(|fate| match fate {
            Fate::Killed { .. } => false,
            Fate::Frozen { at, until: None } => *at <= from,
            Fate::Frozen { at, until: Some(woken) } => *at <= from && to <= woken + WAKING,
        })
    }

    fn fates(&self, pid: u32) -> impl Iterator<Item = &Fate> {
        self.fates.iter().filter(move |(other, _)| *other == pid).map(|(_, fate)| fate)
    }
}
