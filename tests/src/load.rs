//! Producers and workers of all three SDKs at work on a [`Site`], while something is done to it.
use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    time::{Duration, Instant},
};

use jobwire_proto::v1::{GetJobRequest, JobState};
use serde_json::json;

use crate::{
    ledger::{History, Millis, Produced, Verdict, read::millis},
    producer::Producer,
    random::now,
    site::{Site, Worker},
    wait::{LONG, wait_for},
    worker::Sdk,
};

/// Handlers of each worker, and jobs it has in advance.
const SLOTS: [(&str, &str); 2] = [("CONF_CONCURRENCY", "8"), ("CONF_PREFETCH", "4")];

/// One producer and one worker for each SDK. Each knows every server.
#[derive(Debug)]
pub struct Load {
    /// In the order of [`Sdk::ALL`].
    pub workers: [Worker; 3],
    producers: [Producer; 3],
    began: Instant,
}

impl Load {
    /// Starts all of them and waits until jobs flow.
    pub fn start(site: &Site) -> Self {
        let workers = Sdk::ALL.map(|sdk| site.worker(sdk, sdk.name(), &SLOTS));
        let producers = Sdk::ALL.map(|sdk| Producer::start(sdk, &site.url(), site.dir.path()));
        let load = Self { workers, producers, began: Instant::now() };
        load.flows(site, LONG);
        load
    }

    /// Waits until every producer has had an answer, and every worker has completed a job, to what began after this call;
    /// how long that took.
    ///
    /// # Panics
    /// When it takes longer than `within`.
    #[track_caller]
    pub fn flows(&self, site: &Site, within: Duration) -> Duration {
        let since = now();
        let begun = Instant::now();
        wait_for("jobs flow, in every language", within, || {
            let answers = answers(&site.produced(), since);
            let works = |worker: &Worker| {
                worker
                    .runs()
                    .iter()
                    .any(|run| run.start >= since && run.end.as_ref().is_some_and(|(_, how)| how == "ok"))
            };
            answers.len() == Sdk::ALL.len() && self.workers.iter().all(works)
        });
        begun.elapsed()
    }

    /// When each worker's stream was opened, as the servers see it: to tell whether it stayed open. Servers hear of each
    /// other's sessions a moment later.
    ///
    /// # Panics
    /// When one is not connected for 20 s.
    #[track_caller]
    pub fn streams(&self, site: &Site) -> Vec<Millis> {
        let mut streams = Vec::new();
        wait_for("every worker is seen to be connected", LONG, || {
            let open = |worker: &Worker| worker.session(site).connect_time.as_ref().map(millis);
            streams = self.workers.iter().filter_map(open).collect();
            streams.len() == self.workers.len()
        });
        streams
    }

    /// Stops the producers, waits until every job has ended, and stops the workers.
    ///
    /// # Panics
    /// When that takes longer than `within`.
    #[track_caller]
    pub fn finish(mut self, site: &Site, within: Duration) -> Done {
        self.producers.iter_mut().for_each(Producer::stop);
        let produced = self.began.elapsed();
        site.drained(within);
        let drained = self.began.elapsed();
        self.workers.iter_mut().for_each(Worker::stop);
        let history = site.history();
        let ran = self.workers.iter().map(|worker| (worker.sdk.name(), worker.runs().len())).collect();
        let verdict = history.check();
        Done { verdict, history, ran, produced, drained }
    }
}

/// Answered enqueues of each producer after `since`.
fn answers(produced: &[Produced], since: Millis) -> BTreeMap<String, usize> {
    let mut answers = BTreeMap::new();
    for line in produced {
        if let Produced::Acked { key, at, .. } = line
            && *at >= since
        {
            *answers.entry(key.split('-').next().expect("a name").to_owned()).or_default() += 1;
        }
    }
    answers
}

/// What became of a load.
#[derive(Debug)]
pub struct Done {
    /// Everything written down.
    pub history: History,
    /// What the ledger says to it.
    pub verdict: Verdict,
    ran: Vec<(&'static str, usize)>,
    produced: Duration,
    drained: Duration,
}

impl Done {
    /// Every promise was kept: nothing lost, one completion a job, no run that need not have been; and no caller of an
    /// SDK saw an error.
    ///
    /// # Panics
    /// When not, naming what was broken.
    #[track_caller]
    pub fn assert_kept(&self) {
        assert!(self.verdict.clean(), "promises broken:\n{}", self.verdict);
        self.assert_no_errors();
    }

    /// No caller of an SDK saw an error.
    ///
    /// # Panics
    /// When one did.
    #[track_caller]
    pub fn assert_no_errors(&self) {
        let failed: Vec<_> =
            self.history.produced.iter().filter(|line| matches!(line, Produced::Failed { .. })).collect();
        assert!(failed.is_empty(), "{} calls failed, such as {:?}", failed.len(), &failed[..failed.len().min(5)]);
        assert!(self.enough(), "too little was done: {self}");
    }

    /// Every job ran once for each attempt that its handler used up: nothing ran in vain.
    ///
    /// # Panics
    /// When not, naming jobs.
    #[track_caller]
    pub fn assert_each_ran_once(&self) {
        let again = self.runs_again();
        assert!(again.is_empty(), "{} jobs ran again, such as {:?}", again.len(), &again[..again.len().min(5)]);
        assert!(self.history.jobs.iter().all(|job| job.crashes == 0), "a job is charged with a crash");
    }

    /// Jobs that ran more often than their attempts tell, each with its runs.
    pub fn runs_again(&self) -> Vec<String> {
        let mut runs: HashMap<&str, Vec<_>> = HashMap::new();
        for run in &self.history.runs {
            runs.entry(&run.job).or_default().push(run);
        }
        let attempts: HashMap<&str, usize> = self
            .history
            .jobs
            .iter()
            .map(|job| (job.id.as_str(), usize::try_from(job.attempt).expect("not negative")))
            .collect();
        let again = runs.into_iter().filter(|(job, runs)| attempts.get(job).is_some_and(|count| runs.len() > *count));
        again.map(|(job, runs)| format!("{job}: {runs:?}")).collect()
    }

    /// Whether each language has done a fair share.
    fn enough(&self) -> bool {
        let answers = answers(&self.history.produced, 0);
        answers.len() == 3 && answers.values().all(|count| *count >= 10) && self.ran.iter().all(|(_, runs)| *runs >= 10)
    }
}

impl fmt::Display for Done {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{} jobs, {} runs {:?}, acknowledged {:?}; ran again: {}, forgotten: {}; produced for {:.1?}, drained after {:.1?}",
            self.history.jobs.len(),
            self.history.runs.len(),
            self.ran,
            answers(&self.history.produced, 0),
            self.runs_again().len(),
            self.verdict.forgotten.len(),
            self.produced,
            self.drained,
        )
    }
}

/// Waits until every server takes a job, and it gets done: asked directly, without an SDK that repeats; the longest time
/// that one of them took, from this call on.
///
/// # Panics
/// When it takes longer than `within`.
#[track_caller]
pub fn serves(site: &Site, within: Duration) -> Duration {
    let begun = Instant::now();
    let mut ids: Vec<Option<String>> = vec![None; site.servers.len()];
    wait_for("every server serves", within, || {
        for (number, id) in ids.iter_mut().enumerate().filter(|(_, id)| id.is_none()) {
            *id = site.try_enqueue(number, "conf.echo", &json!({"key": format!("probe-{number}-{}", now())})).ok();
        }
        ids.iter().enumerate().all(|(number, id)| id.as_ref().is_some_and(|id| succeeded(site, number, id)))
    });
    begun.elapsed()
}

fn succeeded(site: &Site, number: usize, id: &str) -> bool {
    let mut clients = site.clients_of(number);
    let request = GetJobRequest { id: id.to_owned(), ..Default::default() };
    let answer = site.runtime.block_on(clients.jobs.get_job(request));
    answer.is_ok_and(|answer| answer.into_inner().job.is_some_and(|job| job.state() == JobState::Succeeded))
}
