//! Three servers on one Redis, none of them special: killed, frozen and rolled one by one under load from all three SDKs.
//! No caller sees an error, no job is lost, none is completed twice.
//!
//! `JOBWIRE_SEED` repeats the moments of a run; `JOBWIRE_SOAK=MINUTES` repeats the kills for so long, and freezes for 60 s
//! under the lease that servers have by default.
use std::{
    thread,
    time::{Duration, Instant},
};

use jobwire_redis_rig::{Redis, Settings};
use jobwire_tests::{
    load::{Load, serves},
    random::Random,
    server::Store,
    site::Site,
    wait::LONG,
};

const SERVERS: usize = 3;
const KILLS: usize = 8;
/// From all three at work to the next kill.
const LIFE: (Duration, Duration) = (Duration::from_millis(300), Duration::from_millis(1_500));
/// How long a server that was killed stays away.
const DEATH: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(1_000));
/// What was claimed and never delivered comes back within one lease.
const DRAIN: Duration = Duration::from_secs(60);

/// How long the soak goes on; 0 = one round.
fn soak() -> Duration {
    let minutes = std::env::var("JOBWIRE_SOAK").map_or(0, |text| text.parse().expect("a number of minutes"));
    Duration::from_secs(60 * minutes)
}

fn site(redis: &Redis, args: &[&str]) -> Site {
    Site::on(&Store::redis(redis.url()), SERVERS, args)
}

#[test]
fn servers_killed_one_after_the_other_are_not_missed() {
    let (mut random, seed) = Random::new();
    println!("replicas_killed: seed {seed}");
    let started = Instant::now();
    loop {
        let redis = Redis::start(Settings::new());
        let mut site = site(&redis, &[]);
        let load = Load::start(&site);
        for _ in 0..KILLS {
            // The moments of the kill and of the return: no condition decides them.
            thread::sleep(random.span(LIFE.0, LIFE.1));
            let victim = usize::try_from(random.below(SERVERS as u64)).expect("a small number");
            site.kill_server(victim);
            // As above.
            thread::sleep(random.span(DEATH.0, DEATH.1));
            site.start_server_again(victim);
        }
        load.flows(&site, LONG);
        let done = load.finish(&site, DRAIN);
        println!("replicas_killed: {KILLS} kills, {done}");
        done.assert_kept();
        if started.elapsed() >= soak() {
            return;
        }
    }
}

#[test]
fn a_frozen_server_is_not_missed_and_does_no_harm_when_it_wakes() {
    let (frozen, args): (Duration, &[&str]) = match soak() {
        Duration::ZERO => (Duration::from_secs(20), &[]),
        _ => (Duration::from_secs(60), &["--lease-ttl", "30s"]),
    };
    let redis = Redis::start(Settings::new());
    let mut site = site(&redis, args);
    let load = Load::start(&site);
    for victim in 0..2 {
        site.freeze_server(victim);
        let until = Instant::now() + frozen;
        // The length of the freeze is what is tested; jobs have to flow for all of it.
        while Instant::now() < until {
            load.flows(&site, LONG);
        }
        site.thaw_server(victim);
        serves(&site, LONG);
    }
    let mut done = load.finish(&site, DRAIN);
    println!("replicas_frozen: twice {frozen:?}, {done}");
    // A worker needs some seconds to see that its server is silent. What it finished in between runs again when that is
    // longer than what was left of the lease: at least once, and one completion.
    done.verdict.rerun.clear();
    done.assert_kept();
}

#[test]
fn servers_rolled_one_by_one_run_every_job_once() {
    let redis = Redis::start(Settings::new());
    let mut site = site(&redis, &[]);
    let load = Load::start(&site);
    for victim in (0..SERVERS).chain(0..SERVERS) {
        load.flows(&site, LONG);
        site.end_server(victim);
        site.start_server_again(victim);
    }
    load.flows(&site, LONG);
    let done = load.finish(&site, DRAIN);
    println!("replicas_rolled: {} restarts, {done}", 2 * SERVERS);
    done.assert_kept();
    done.assert_each_ran_once();
}
