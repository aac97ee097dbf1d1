//! The master of a Sentinel set dies, or is moved by its operator; another takes over.
use std::time::{Duration, Instant};

use jobwire_redis_rig::Sentinels;
use jobwire_tests::{
    load::{Load, serves},
    site::Site,
    wait::LONG,
};

use crate::support::{BACK, DRAIN, site_at};

/// From the death of the master to service by the next.
const RESUMED: Duration = Duration::from_secs(15);

/// Service is back in time, nothing is completed twice, and what is there can be accounted for.
fn settled(site: &Site, load: Load, name: &str, took: Duration) {
    load.flows(site, LONG);
    let done = load.finish(site, DRAIN);
    println!("{name}: service after {took:.1?}, {done}");
    done.assert_kept();
}

#[test]
fn the_next_master_serves_within_fifteen_seconds() {
    let set = Sentinels::start();
    let mut site = site_at(&set.url());
    let load = Load::start(&site);
    let old = set.master();
    let killed = Instant::now();
    set.nodes[old].kill();
    // Redis replicates without waiting: what the replicas had not heard of is forgotten.
    site.rolled_back();
    serves(&site, RESUMED);
    settled(&site, load, "sentinel_killed", killed.elapsed());
    assert_ne!(set.master(), old);
}

#[test]
fn a_failover_by_hand_is_hardly_noticed() {
    let set = Sentinels::start();
    let mut site = site_at(&set.url());
    let load = Load::start(&site);
    let began = Instant::now();
    site.rolled_back();
    set.failover();
    serves(&site, BACK);
    site.rolled_back();
    settled(&site, load, "sentinel_failover", began.elapsed());
}
