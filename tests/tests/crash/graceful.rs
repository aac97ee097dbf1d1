//! Servers and workers that are told to stop: nothing runs twice, nothing uses an attempt.
use std::{thread, time::Duration};

use jobwire_proto::v1::{Job, JobState};
use jobwire_tests::{
    process::Signal,
    site::{Site, Worker, assert_clean, record},
    wait::{LONG, wait_for},
    worker::Sdk,
};
use serde_json::json;

const RESTARTS: usize = 3;
const JOBS: usize = 120;

#[test]
fn a_server_restarted_under_running_handlers_runs_every_job_once() {
    let mut site = Site::open();
    let env = [("CONF_QUEUES", "conf.sleep"), ("CONF_CONCURRENCY", "8"), ("CONF_PREFETCH", "4")];
    let mut workers = Sdk::ALL.map(|sdk| site.worker(sdk, sdk.name(), &env));
    for number in 0..JOBS {
        site.enqueue("conf.sleep", &json!({"ms": 1_000 + number * 83 % 3_000}));
    }
    for _ in 0..RESTARTS {
        wait_for("every worker is connected and at work", LONG, || {
            workers
                .iter()
                .all(|worker| worker.session(&site).running > 0 && worker.runs().iter().any(|run| run.end.is_none()))
        });
        site.end_server(0);
        site.start_server_again(0);
    }
    site.drained(2 * LONG);
    workers.iter_mut().for_each(Worker::stop);
    let history = site.history();
    assert_clean(&history);
    assert_eq!((history.jobs.len(), history.runs.len()), (JOBS, JOBS), "executions = jobs");
    assert!(history.jobs.iter().all(|job| job.attempt == 1 && job.crashes == 0), "{:?}", history.jobs);
    println!("graceful_server: {JOBS} jobs, {RESTARTS} restarts, {} runs", history.runs.len());
}

#[test]
fn a_worker_told_to_stop_finishes_what_runs_and_gives_back_the_rest() {
    thread::scope(|scope| {
        let scenes = Sdk::ALL.map(|sdk| scope.spawn(move || (drain(sdk), give_up(sdk), hurry(sdk))));
        for (sdk, scene) in Sdk::ALL.into_iter().zip(scenes) {
            let (drained, given_up, hurried) = scene.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            println!("graceful_worker: {}, {drained}; {given_up}; {hurried}", sdk.name());
        }
    });
}

/// SIGTERM with time enough.
fn drain(sdk: Sdk) -> String {
    let site = Site::open();
    let (mut worker, ids) = busy(&site, sdk, 2_000, "25000");
    worker.process.signal(Signal::TERM);
    worker.ended();
    let (finished, given_back): (Vec<Job>, Vec<Job>) =
        site.jobs("").into_iter().partition(|job| job.state() == JobState::Succeeded);
    assert_eq!((finished.len(), given_back.len()), (4, 4), "{sdk:?}: the running ones finish");
    assert_eq!(worker.runs().len(), 4, "{sdk:?}: nothing starts after the signal");
    untouched(sdk, &given_back);
    finish_elsewhere(&site, sdk, &ids);
    "4 finished and 4 given back".to_owned()
}

/// SIGTERM with handlers that take longer than the grace.
fn give_up(sdk: Sdk) -> String {
    let site = Site::open();
    let (mut worker, ids) = busy(&site, sdk, 600_000, "300");
    worker.process.signal(Signal::TERM);
    worker.ended();
    let jobs = site.jobs("");
    untouched(sdk, &jobs);
    assert!(worker.runs().iter().all(|run| run.end.is_some()), "{sdk:?}: handlers are told");
    for id in &ids {
        assert_eq!(record(&jobs, id).delivery, 1, "{sdk:?}");
    }
    "8 given back after the grace".to_owned()
}

/// A second SIGTERM in a grace that would outlast the test.
fn hurry(sdk: Sdk) -> String {
    let site = Site::open();
    let (mut worker, _) = busy(&site, sdk, 600_000, "600000");
    worker.process.signal(Signal::TERM);
    wait_for("what has not begun is back", LONG, || site.jobs("state = READY").len() == 4);
    assert!(worker.process.ended().is_none(), "{sdk:?}: it waits for its handlers");
    worker.process.signal(Signal::TERM);
    worker.ended();
    untouched(sdk, &site.jobs(""));
    "8 given back at the second signal".to_owned()
}

/// A worker with four handlers at work and four more jobs in hand, each of `ms`; the jobs.
fn busy(site: &Site, sdk: Sdk, ms: u64, grace: &str) -> (Worker, Vec<String>) {
    let env =
        [("CONF_QUEUES", "conf.sleep"), ("CONF_CONCURRENCY", "4"), ("CONF_PREFETCH", "4"), ("CONF_GRACE_MS", grace)];
    let worker = site.worker(sdk, "told", &env);
    let ids: Vec<String> = (0..8).map(|_| site.enqueue("conf.sleep", &json!({"ms": ms}))).collect();
    wait_for("four run and four wait in the worker", LONG, || {
        worker.runs().len() == 4 && site.jobs("state = RUNNING").len() == 8 && worker.session(site).running == 4
    });
    (worker, ids)
}

/// Given back in time: ready at once, and nothing charged.
fn untouched(sdk: Sdk, jobs: &[Job]) {
    for job in jobs {
        assert_eq!(job.state(), JobState::Ready, "{sdk:?}: {job:?}");
        assert_eq!((job.attempt, job.crashes, job.failure.is_some()), (0, 0, false), "{sdk:?}: {job:?}");
    }
}

fn finish_elsewhere(site: &Site, sdk: Sdk, ids: &[String]) {
    let mut other = site.worker(sdk, "other", &[("CONF_QUEUES", "conf.sleep"), ("CONF_CONCURRENCY", "8")]);
    site.drained(Duration::from_secs(15));
    let jobs = site.jobs("");
    for id in ids {
        assert_eq!(record(&jobs, id).attempt, 1, "{sdk:?}: no attempt was used");
    }
    other.stop();
    let history = site.history();
    assert_clean(&history);
    assert_eq!(history.runs.len(), ids.len(), "{sdk:?}: executions = jobs");
}
