//! Workers killed and frozen: their jobs, and only theirs, run elsewhere within lease_ttl + 1 s.
use std::thread;

use jobwire_proto::v1::{AttemptResult, Job, JobState};
use jobwire_tests::{
    ledger::Millis,
    site::{LEASE_TTL, Site, Worker, assert_clean, record},
    wait::{LONG, wait_for},
    worker::Sdk,
};
use serde_json::json;

/// Handlers of each worker, and jobs it has in advance.
const HANDLERS: usize = 4;
/// How long each job takes, ms: the victims must not be done before they are struck.
const WORK: u64 = 8_000;
/// Redelivery at the latest after the last heartbeat that named the lease, which is no later than the blow, ms.
const REDELIVERY: u64 = LEASE_TTL.as_millis() as u64 + 1_000;

#[test]
fn jobs_of_a_worker_that_dies_or_freezes_run_elsewhere_in_time_and_no_others() {
    thread::scope(|scope| {
        let scenes = Sdk::ALL.map(|sdk| scope.spawn(move || scene(sdk)));
        for scene in scenes {
            println!("crash_worker: {}", scene.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
    });
}

/// One server; two workers of `sdk` as victims, one to be killed and one to be frozen; a neighbour and, afterwards, a
/// heir of other languages.
fn scene(sdk: Sdk) -> String {
    let mut site = Site::open();
    let others: Vec<Sdk> = Sdk::ALL.into_iter().filter(|other| *other != sdk).collect();
    let (four, eight) = (HANDLERS.to_string(), (2 * HANDLERS).to_string());
    let ahead = [("CONF_QUEUES", "conf.sleep"), ("CONF_CONCURRENCY", &*four), ("CONF_PREFETCH", &*four)];
    let all_at_once = [("CONF_QUEUES", "conf.sleep"), ("CONF_CONCURRENCY", &*eight), ("CONF_PREFETCH", "0")];
    let mut killed = site.worker(sdk, "killed", &ahead);
    let mut frozen = site.worker(sdk, "frozen", &ahead);
    // Has no leases in advance: nothing for the server to call back for the heir, which is idle at first.
    let mut neighbour = site.worker(others[0], "neighbour", &all_at_once);
    for _ in 0..6 * HANDLERS {
        site.enqueue("conf.sleep", &json!({"ms": WORK}));
    }
    let slots = 2 * HANDLERS as i32;
    for (worker, handlers) in [(&killed, HANDLERS), (&frozen, HANDLERS), (&neighbour, 2 * HANDLERS)] {
        wait_for("the server has heard of every start", LONG, || {
            let session = worker.session(&site);
            (session.in_flight, session.running) == (slots, handlers as i32) && worker.runs().len() == handlers
        });
    }
    let victims = [(killed.held(&site), killed.runs()), (frozen.held(&site), frozen.runs())];
    let spared = neighbour.held(&site);
    assert_eq!(victims.each_ref().map(|(jobs, _)| jobs.len()), [2 * HANDLERS; 2]);
    assert_eq!(spared.len(), 2 * HANDLERS);
    // More than one delivery already where a job was called back for a worker that was idle while the jobs came in.
    let before = site.jobs("");

    let blows = [site.kill(&mut killed), site.freeze(&frozen)];
    let mut heir = site.worker(others[1], "heir", &[("CONF_QUEUES", "conf.sleep"), ("CONF_CONCURRENCY", "16")]);
    let elsewhere = |id: &str, neighbour: &Worker, heir: &Worker| -> Vec<Millis> {
        let runs = neighbour.runs().into_iter().chain(heir.runs());
        runs.filter(|run| run.job == id).map(|run| run.start).collect()
    };
    wait_for("the jobs of both run elsewhere", LEASE_TTL + LONG, || {
        victims.iter().flat_map(|(taken, _)| taken).all(|id| !elsewhere(id, &neighbour, &heir).is_empty())
    });
    site.wake(&frozen);
    site.drained(LONG);
    wait_for("the woken worker has heard that its leases are gone", LONG, || frozen.session(&site).in_flight == 0);

    let jobs = site.jobs("");
    let mut latest = [0; 2];
    for ((taken, started), (blow, latest)) in victims.iter().zip(blows.iter().zip(&mut latest)) {
        for id in taken {
            let job = record(&jobs, id);
            let had_started = started.iter().any(|run| run.job == *id);
            let delivery = record(&before, id).delivery + 1;
            assert_eq!(
                (job.state(), job.attempt, job.delivery),
                (JobState::Succeeded, 1, delivery),
                "{sdk:?}: {job:?}"
            );
            assert_eq!(job.crashes, i32::from(had_started), "{sdk:?}: charged only if it had started: {job:?}");
            assert_eq!(lease(job, delivery), AttemptResult::Succeeded, "{job:?}");
            let again = elsewhere(id, &neighbour, &heir);
            let [again] = again[..] else { panic!("{sdk:?}: {id} ran elsewhere at {again:?}") };
            *latest = again.saturating_sub(*blow).max(*latest);
        }
    }
    assert!(latest.iter().all(|&late| late <= REDELIVERY), "{sdk:?}: elsewhere only after {latest:?} ms");
    for id in &spared {
        let job = record(&jobs, id);
        let untouched = (record(&before, id).delivery, 0, 1);
        assert_eq!((job.delivery, job.crashes, job.attempt), untouched, "{sdk:?}: nobody touched its worker: {job:?}");
    }
    assert_clean(&site.history());

    // The woken worker is as good as new.
    [&mut neighbour, &mut heir].into_iter().for_each(Worker::stop);
    let woken = site.enqueue("conf.sleep", &json!({"ms": 1}));
    site.drained(LONG);
    assert!(frozen.runs().iter().any(|run| run.job == woken), "{sdk:?}: it works again");
    frozen.stop();
    let stale = frozen.runs().len() - HANDLERS - 1;
    format!(
        "{}, {} jobs: elsewhere {:.1} s after SIGKILL, {:.1} s after SIGSTOP (at most {} s); started in vain after waking: {stale}",
        sdk.name(),
        jobs.len(),
        latest[0] as f64 / 1_000.0,
        latest[1] as f64 / 1_000.0,
        REDELIVERY / 1_000,
    )
}

/// How the lease of `delivery` ended.
fn lease(job: &Job, delivery: i32) -> AttemptResult {
    let found = job.attempts.iter().find(|lease| lease.delivery == delivery);
    found.unwrap_or_else(|| panic!("no delivery {delivery} in {job:?}")).result()
}
