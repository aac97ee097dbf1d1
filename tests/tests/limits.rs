//! The limit ledger: three servers on one Redis, workers of all three SDKs, and queues with limits. What ran when is read from
//! the records, whose times are the store's: at no moment more than `max_running`, in no window more starts than the burst
//! and what the rate adds; slots of a worker that was killed come back.
use std::{iter, time::Duration};

use jobwire_proto::v1::{
    Attempt, EnqueueManyRequest, Job, JobSpec, Payload, PutQueueRequest, QueueConfig, RateLimit, payload::Body,
};
use jobwire_redis_rig::{Redis, Settings};
use jobwire_tests::{
    ledger::{Millis, read::millis},
    server::Store,
    site::{Site, Worker},
    wait::{LONG, wait_for},
    worker::Sdk,
};
use serde_json::json;

const SERVERS: usize = 3;
/// Handlers of each worker: more than any limit lets run.
const SLOTS: [(&str, &str); 2] = [("CONF_CONCURRENCY", "12"), ("CONF_PREFETCH", "12")];
const JOBS: usize = 150;
const DRAIN: Duration = Duration::from_secs(60);

fn site(redis: &Redis) -> Site {
    Site::on(&Store::redis(redis.url()), SERVERS, &[])
}

fn configure(site: &Site, queue: &str, config: QueueConfig) {
    let request = PutQueueRequest { name: queue.to_owned(), config: Some(config), ..Default::default() };
    let mut clients = site.clients();
    site.runtime.block_on(clients.queues.put_queue(request)).expect("the queue can be configured");
}

fn enqueue(site: &Site, r#type: &str, jobs: usize) {
    for n in 0..jobs {
        let payload = json!({"key": format!("limits-{n}"), "ms": 20 + n % 60});
        site.try_enqueue(n % SERVERS, r#type, &payload).expect("it is accepted");
    }
}

/// Every attempt of the jobs of a queue.
fn leases(site: &Site, queue: &str) -> Vec<(Millis, Millis)> {
    spans(&site.jobs(&format!("queue = \"{queue}\"")))
}

/// Every attempt, as from when to when it had a lease; one that has not ended goes on.
fn spans(jobs: &[Job]) -> Vec<(Millis, Millis)> {
    let span = |attempt: &Attempt| {
        let start = attempt.start_time.as_ref().map(millis).expect("it began");
        (start, attempt.finish_time.as_ref().map_or(Millis::MAX, millis))
    };
    jobs.iter().flat_map(|job| job.attempts.iter().map(span)).collect()
}

/// The most leases at one moment. One that ends in the millisecond in which another begins does not meet it.
fn most_at_once(leases: &[(Millis, Millis)]) -> usize {
    let starts = leases.iter().map(|(start, _)| (*start, 1_i64));
    let ends = leases.iter().map(|(_, end)| (*end, -1));
    let mut changes: Vec<_> = starts.chain(ends).collect();
    changes.sort_unstable();
    let running = changes.iter().scan(0, |running, (_, change)| {
        *running += change;
        Some(*running)
    });
    usize::try_from(running.max().unwrap_or(0)).expect("no more end than begin")
}

#[test]
fn no_more_jobs_run_than_may_over_three_servers_and_three_languages() {
    const MOST: usize = 5;
    let redis = Redis::start(Settings::new());
    let mut site = site(&redis);
    configure(&site, "conf.sleep", QueueConfig { max_running: MOST as i32, ..Default::default() });
    let mut workers = Sdk::ALL.map(|sdk| site.worker(sdk, sdk.name(), &SLOTS));
    enqueue(&site, "conf.sleep", JOBS);
    wait_for("some have run in every language", LONG, || workers.iter().all(|worker| worker.runs().len() > 3));
    // Slots of a worker that is gone come back with its leases.
    site.kill(&mut workers[0]);
    // No more at all for a while, then more than before: a change is in force at once.
    configure(&site, "conf.sleep", QueueConfig { max_running: 1, ..Default::default() });
    configure(&site, "conf.sleep", QueueConfig { max_running: MOST as i32, ..Default::default() });
    site.drained(DRAIN);
    let leases = leases(&site, "conf.sleep");
    let most = most_at_once(&leases);
    println!("limits: {JOBS} jobs, {} leases, at most {most} at once of {MOST} allowed", leases.len());
    assert!(leases.len() >= JOBS);
    assert_eq!(most, MOST, "the limit is kept, and used");
    workers.iter_mut().skip(1).for_each(Worker::stop);
}

#[test]
fn no_window_has_more_starts_than_the_rate_allows_over_three_servers_and_three_languages() {
    const RATE: u64 = 50;
    const BURST: u64 = 10;
    let redis = Redis::start(Settings::new());
    let site = site(&redis);
    let per = Some(prost_types::Duration { seconds: 1, nanos: 0 });
    let rate_limit = Some(RateLimit { max: RATE as i32, per, burst: BURST as i32 });
    configure(&site, "conf.echo", QueueConfig { rate_limit, ..Default::default() });
    let mut workers = Sdk::ALL.map(|sdk| site.worker(sdk, sdk.name(), &SLOTS));
    enqueue(&site, "conf.echo", JOBS);
    site.drained(DRAIN);
    let mut starts: Vec<Millis> = leases(&site, "conf.echo").iter().map(|(start, _)| *start).collect();
    starts.sort_unstable();
    assert_eq!(starts.len(), JOBS);
    for (i, from) in starts.iter().enumerate() {
        for (count, to) in iter::zip(1_u64.., &starts[i..]) {
            // A millisecond is as fine as the records are.
            let most = BURST + (to - from + 1) * RATE / 1_000 + 1;
            assert!(count <= most, "{count} starts within {} ms", to - from);
        }
    }
    let took = starts[JOBS - 1] - starts[0];
    println!("limits: {JOBS} starts in {took} ms at {RATE}/s with a burst of {BURST}");
    let least = (JOBS as u64 - BURST) * 1_000 / RATE;
    assert!(took < least * 3 / 2, "{took} ms where {least} would do: the rate is used");
    workers.iter_mut().for_each(Worker::stop);
}

#[test]
fn a_loaded_key_takes_no_more_turns_than_the_others_over_three_servers_and_three_languages() {
    const LIGHT: usize = 9;
    const EACH: usize = 20;
    const LOADED: usize = 100 * EACH;
    /// More, all keys together, than there are handlers: so it is turns that decide.
    const MOST: usize = 5;
    let redis = Redis::start(Settings::new());
    let site = site(&redis);
    configure(&site, "conf.sleep", QueueConfig { max_running_per_key: MOST as i32, ..Default::default() });
    let job = |key: usize, n: usize| JobSpec {
        r#type: "conf.sleep".to_owned(),
        fairness_key: format!("tenant-{key}"),
        payload: Some(Payload {
            body: Some(Body::Text(json!({"key": format!("fair-{key}-{n}"), "ms": 15 + n % 20}).to_string())),
            ..Default::default()
        }),
        ..Default::default()
    };
    let loaded = (0..LOADED).map(|n| job(0, n));
    let light = (0..EACH).flat_map(|n| (1..=LIGHT).map(move |key| (key, n))).map(|(key, n)| job(key, n));
    let all: Vec<JobSpec> = loaded.chain(light).collect();
    for (number, jobs) in all.chunks(500).enumerate() {
        let mut clients = site.clients_of(number % SERVERS);
        let request = EnqueueManyRequest { jobs: jobs.to_vec() };
        let answer = site.runtime.block_on(clients.jobs.enqueue_many(request)).expect("they are accepted");
        assert!(answer.into_inner().results.iter().all(|result| result.error.is_none()));
    }
    let mut workers = Sdk::ALL.map(|sdk| site.worker(sdk, sdk.name(), &SLOTS));
    let started = |key: usize| {
        let filter = format!("queue = conf.sleep AND fairness_key = \"tenant-{key}\" AND attempt > 0");
        let mut jobs = site.jobs(&filter);
        jobs.retain(|job| job.start_time.is_some());
        jobs
    };
    wait_for("the others are done", DRAIN, || {
        (1..=LIGHT).all(|key| started(key).iter().filter(|job| job.finish_time.is_some()).count() == EACH)
    });
    let jobs: Vec<Vec<Job>> = (0..=LIGHT).map(started).collect();
    workers.iter_mut().for_each(Worker::stop);
    let leases: Vec<Vec<(Millis, Millis)>> = jobs.iter().map(|jobs| spans(jobs)).collect();
    for (key, leases) in leases.iter().enumerate() {
        let most = most_at_once(leases);
        assert!(most <= MOST, "{most} of key {key} ran at once");
    }
    // While all of them wait: until the first of the others has had its last turn.
    let last = |leases: &Vec<(Millis, Millis)>| leases.iter().map(|(start, _)| *start).max().expect("it has some");
    let until = leases[1..].iter().map(last).min().expect("there are others");
    let turns: Vec<usize> =
        leases.iter().map(|leases| leases.iter().filter(|(start, _)| *start <= until).count()).collect();
    println!("limits: turns of a key with {LOADED} jobs and of {LIGHT} with {EACH}: {turns:?}");
    let share = turns.iter().sum::<usize>() as f64 / turns.len() as f64;
    for turns in &turns {
        assert!((*turns as f64 - share).abs() <= share / 10.0, "{turns} of {share} turns");
    }
}
