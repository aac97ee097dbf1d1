//! The server is killed again and again while producers and workers of all languages are at work.
use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use jobwire_tests::{
    ledger::Produced,
    producer::Producer,
    random::Random,
    site::{Site, Worker, assert_clean},
    worker::Sdk,
};

const KILLS: usize = 20;
/// From a server that is ready to its end.
const LIFE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_millis(1_600));
/// After the last kill what was claimed and never delivered comes back within one lease.
const DRAIN: Duration = Duration::from_secs(60);

#[test]
fn a_server_killed_twenty_times_loses_nothing_and_runs_nothing_twice() {
    let soak = std::env::var("JOBWIRE_SOAK")
        .map_or(0, |minutes| minutes.parse().expect("JOBWIRE_SOAK is a number of minutes"));
    let (mut random, seed) = Random::new();
    println!("crash_server: seed {seed}");
    let started = Instant::now();
    loop {
        println!("crash_server: {}", round(&mut random));
        if started.elapsed() >= Duration::from_secs(60 * soak) {
            return;
        }
    }
}

/// One server's life and deaths; a line that sums it up.
fn round(random: &mut Random) -> String {
    let began = Instant::now();
    let mut site = Site::open();
    let env = [("CONF_CONCURRENCY", "8"), ("CONF_PREFETCH", "4")];
    let mut workers = Sdk::ALL.map(|sdk| site.worker(sdk, sdk.name(), &env));
    let mut producers = Sdk::ALL.map(|sdk| Producer::start(sdk, &site.url(), site.dir.path()));
    for _ in 0..KILLS {
        // The moment of the kill: no condition decides it.
        thread::sleep(random.span(LIFE.0, LIFE.1));
        site.kill_server(0);
        site.start_server_again(0);
    }
    producers.iter_mut().for_each(Producer::stop);
    let produced = began.elapsed();
    site.drained(DRAIN);
    workers.iter_mut().for_each(Worker::stop);

    let history = site.history();
    let verdict = assert_clean(&history);
    let failed: Vec<_> = history.produced.iter().filter(|line| matches!(line, Produced::Failed { .. })).collect();
    assert!(failed.is_empty(), "the SDKs did not outlast the restarts: {failed:?}");
    let mut acked: BTreeMap<&str, usize> = BTreeMap::new();
    for line in &history.produced {
        if let Produced::Acked { key, .. } = line {
            *acked.entry(key.split('-').next().expect("a name")).or_default() += 1;
        }
    }
    let ran = workers.iter().map(|worker| (worker.sdk.name(), worker.runs().len())).collect::<Vec<_>>();
    assert!(acked.len() == 3 && acked.values().all(|&count| count >= 100), "too little was enqueued: {acked:?}");
    assert!(ran.iter().all(|&(_, count)| count >= 100), "too little was run: {ran:?}");
    format!(
        "{} jobs, {KILLS} kills, {} runs {ran:?}, acknowledged {acked:?}; second runs of claims that died with the server: {}, \
         started at most {} ms before; produced for {produced:.1?}, drained after {:.1?}",
        history.jobs.len(),
        history.runs.len(),
        verdict.excused.len(),
        verdict.excused.iter().max().unwrap_or(&0),
        began.elapsed(),
    )
}
