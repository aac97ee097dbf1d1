//! Redis killed with SIGKILL and started again on its data.
use std::{thread, time::Duration};

use jobwire_redis_rig::{Append, Redis, Settings};
use jobwire_tests::{
    load::{Load, serves},
    random::Random,
    wait::LONG,
};

use crate::support::{BACK, DRAIN, site};

const KILLS: usize = 4;
const LIFE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_millis(1_500));
const DEATH: (Duration, Duration) = (Duration::from_millis(200), Duration::from_millis(2_000));

#[test]
fn redis_killed_under_always_loses_nothing() {
    let (mut random, seed) = Random::new();
    println!("redis_killed_always: seed {seed}");
    let redis = Redis::start(Settings::new().append(Append::Always));
    let site = site(&redis);
    let load = Load::start(&site);
    let mut back = Duration::ZERO;
    for _ in 0..KILLS {
        // The moments of the kill and of the return: no condition decides them.
        thread::sleep(random.span(LIFE.0, LIFE.1));
        redis.kill();
        // As above.
        thread::sleep(random.span(DEATH.0, DEATH.1));
        redis.start_again();
        back = back.max(serves(&site, BACK));
    }
    load.flows(&site, LONG);
    let done = load.finish(&site, DRAIN);
    println!("redis_killed_always: {KILLS} kills, back after {back:.1?} at most, {done}");
    done.assert_kept();
    assert_eq!(done.verdict.forgotten.len(), 0, "nothing is forgotten");
}

/// Only what was acknowledged in the last two seconds may be gone; the ledger counts it.
#[test]
fn redis_killed_under_everysec_forgets_two_seconds_at_most() {
    let (mut random, seed) = Random::new();
    println!("redis_killed_everysec: seed {seed}");
    let redis = Redis::start(Settings::new().append(Append::EverySec));
    let mut site = site(&redis);
    let load = Load::start(&site);
    let mut back = Duration::ZERO;
    for _ in 0..KILLS {
        // The moments of the kill and of the return: no condition decides them.
        thread::sleep(random.span(LIFE.0, LIFE.1));
        redis.kill();
        site.rolled_back();
        // As above.
        thread::sleep(random.span(DEATH.0, DEATH.1));
        redis.start_again();
        back = back.max(serves(&site, BACK));
    }
    load.flows(&site, LONG);
    let done = load.finish(&site, DRAIN);
    println!("redis_killed_everysec: {KILLS} kills, back after {back:.1?} at most, {done}");
    done.assert_kept();
}
