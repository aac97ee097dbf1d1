//! No room: new jobs are refused, what is there gets done, and room opens the door again. And no data at all.
use std::{thread, time::Duration};

use jobwire_redis_rig::{Redis, Settings};
use jobwire_tests::{
    load::serves,
    site::Site,
    wait::{LONG, wait_for},
    worker::Sdk,
};
use serde_json::json;
use tonic::Code;

use crate::support::{BACK, site};

const ENV: [(&str, &str); 3] =
    [("CONF_QUEUES", "conf.echo,conf.sleep"), ("CONF_CONCURRENCY", "8"), ("CONF_PREFETCH", "4")];

#[test]
fn a_full_redis_takes_no_jobs_and_finishes_those_it_has() {
    let redis = Redis::start(Settings::new());
    let site = site(&redis);
    let used: u64 = redis.info("memory", "used_memory").and_then(|text| text.parse().ok()).expect("a number");
    redis.configure("maxmemory", &(used + (4 << 20)).to_string());
    let filler = "x".repeat(10_000);
    let mut accepted = Vec::new();
    let refusal = loop {
        match site.try_enqueue(accepted.len() % 2, "conf.echo", &json!({"key": "filler", "x": filler})) {
            Ok(id) => accepted.push(id),
            Err(status) => break status,
        }
        assert!(accepted.len() < 5_000, "it is never full");
    };
    assert_eq!(refusal.code(), Code::ResourceExhausted, "{refusal}");
    assert!(accepted.len() > 50, "{} jobs fit", accepted.len());

    // The door is shut; workers go on, in every language.
    let mut workers = Sdk::ALL.map(|sdk| site.worker(sdk, sdk.name(), &ENV));
    site.drained(2 * LONG);
    let done = site.jobs("state = SUCCEEDED");
    assert_eq!(done.len(), accepted.len(), "what was accepted gets done, and nothing else");
    assert!(done.iter().all(|job| job.delivery == 1 && accepted.contains(&job.id)));

    redis.configure("maxmemory", "0");
    let back = serves(&site, BACK);
    println!("redis_full: {} jobs fit; taking jobs again {back:.1?} after there was room", accepted.len());
    workers.iter_mut().for_each(jobwire_tests::site::Worker::stop);
}

/// Another Redis stands where the old one was, with nothing in it. The jobs are gone, and everybody is told; new ones are
/// taken and run.
#[test]
fn a_redis_that_comes_back_empty_is_a_new_beginning() {
    let redis = Redis::start(Settings::new());
    let site = site(&redis);
    let mut workers = Sdk::ALL.map(|sdk| site.worker(sdk, sdk.name(), &ENV));
    let held: Vec<String> = (0..12).map(|_| site.enqueue("conf.sleep", &json!({"ms": 6_000}))).collect();
    wait_for("all run", LONG, || site.runs().len() == held.len());
    redis.kill();
    redis.start_empty();
    let back = serves(&site, BACK);
    wait_for("every handler has ended", LONG, || site.runs().iter().all(|run| run.end.is_some()));
    for (number, id) in held.iter().enumerate() {
        assert!(site.jobs("").iter().all(|job| job.id != *id), "job {number} is not there any more");
    }
    // Late outcomes were rejected, not kept for ever: no worker holds anything, and each takes new jobs.
    wait_for("nobody holds a job", LONG, || site.sessions().iter().all(|session| session.in_flight == 0));
    let fresh: Vec<String> = (0..30).map(|_| site.enqueue("conf.sleep", &json!({"ms": 300}))).collect();
    site.drained(LONG);
    for worker in &workers {
        let took = worker.runs().iter().filter(|run| fresh.contains(&run.job)).count();
        assert!(took > 0, "the {} worker takes jobs of the new store", worker.sdk.name());
    }
    println!("redis_empty: serving {back:.1?} after the empty one was there");
    workers.iter_mut().for_each(jobwire_tests::site::Worker::stop);
    assert_eq!(held_again(&site, &held), 0, "no job of the old store ran again");
}

fn held_again(site: &Site, held: &[String]) -> usize {
    let runs = site.runs();
    held.iter().filter(|id| runs.iter().filter(|run| run.job == **id).count() > 1).count()
}

/// A worker of each SDK ends well although its outcomes cannot be stored for longer than it likes to wait.
#[test]
fn workers_end_while_redis_is_away() {
    let redis = Redis::start(Settings::new());
    let site = site(&redis);
    let env = [ENV[0], ENV[1], ENV[2], ("CONF_GRACE_MS", "2000")];
    let mut workers = Sdk::ALL.map(|sdk| site.worker(sdk, sdk.name(), &env));
    for _ in 0..12 {
        site.enqueue("conf.sleep", &json!({"ms": 500}));
    }
    wait_for("all run", LONG, || site.runs().len() == 12);
    redis.freeze();
    // Until outcomes have been reported that nobody can store.
    thread::sleep(Duration::from_secs(1));
    workers.iter_mut().for_each(jobwire_tests::site::Worker::stop);
    redis.thaw();
    serves_without_workers(&site);
}

fn serves_without_workers(site: &Site) {
    wait_for("jobs are taken again", BACK, || site.try_enqueue(0, "conf.echo", &json!({"key": "after"})).is_ok());
}
