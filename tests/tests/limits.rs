//! The limit ledger: three servers on one Redis, workers of all three SDKs, and queues with limits. What ran when is read from
//! the records, whose times are the store's: at no moment more than `max_running`, in no window more starts than the burst
//! and what the rate adds; slots of a worker that was killed come back.
use std::{iter, time::Duration};

use jobwire_proto::v1::{Attempt, Job, PutQueueRequest, QueueConfig, RateLimit};
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

/// Every attempt of the jobs of a queue, as from when to when it had a lease; an attempt that has not ended goes on.
fn leases(site: &Site, queue: &str) -> Vec<(Millis, Millis)> {
    let jobs: Vec<Job> = site.jobs(&format!("queue = \"{queue}\""));
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
