//! Handlers that block whatever runs handlers, for longer than a lease: nobody else gets their jobs.
use std::thread;

use jobwire_proto::v1::JobState;
use jobwire_tests::{
    site::{LEASE_TTL, Site, Worker, assert_clean, record},
    wait::{LONG, wait_for},
    worker::Sdk,
};
use serde_json::json;

/// Longer than a lease and the second that servers add to it.
const BLOCKED: u64 = LEASE_TTL.as_millis() as u64 + 3_000;

#[test]
fn a_blocked_handler_keeps_its_lease_and_runs_once() {
    thread::scope(|scope| {
        let scenes = Sdk::ALL.map(|sdk| scope.spawn(move || scene(sdk)));
        for scene in scenes {
            scene.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    });
}

fn scene(sdk: Sdk) {
    // One blocks the event loop of Python and Node; the runtime of Rust has a thread for each core.
    let blockers = if sdk == Sdk::Rust { thread::available_parallelism().map_or(1, usize::from) } else { 1 };
    let site = Site::open();
    let handlers = blockers.to_string();
    let env = [("CONF_QUEUES", "conf.block"), ("CONF_CONCURRENCY", &*handlers)];
    let mut blocked = site.worker(sdk, "blocked", &env);
    let ids: Vec<String> = (0..blockers).map(|_| site.enqueue("conf.block", &json!({"ms": BLOCKED}))).collect();
    wait_for("every handler has begun", LONG, || blocked.runs().len() == blockers);

    // Idle, and on the same queue: it would get what the server takes away.
    let mut heir = site.worker(sdk, "heir", &[("CONF_QUEUES", "conf.block")]);
    site.drained(LEASE_TTL + LONG);
    let jobs = site.jobs("");
    for id in &ids {
        let job = record(&jobs, id);
        let told = (job.state(), job.attempt, job.delivery, job.crashes);
        assert_eq!(told, (JobState::Succeeded, 1, 1, 0), "{sdk:?}: {job:?}");
    }
    assert!(heir.runs().is_empty(), "{sdk:?}: {:?}", heir.runs());
    assert!(blocked.runs().iter().all(|run| run.end.as_ref().is_some_and(|(end, _)| end - run.start >= BLOCKED)));
    [&mut blocked, &mut heir].into_iter().for_each(Worker::stop);
    assert_clean(&site.history());
    println!("blocked: {}, {blockers} for {BLOCKED} ms each", sdk.name());
}
