//! A master of a Cluster dies and its replica takes over; the other shards do not notice.
use std::time::{Duration, Instant};

use jobwire_redis_rig::Cluster;
use jobwire_tests::{
    load::{Load, serves},
    wait::LONG,
};

use crate::support::{DRAIN, site_at};

/// From the death of a master to service by its replica.
const RESUMED: Duration = Duration::from_secs(15);

#[test]
fn every_master_of_a_cluster_may_be_lost_to_its_replica() {
    let cluster = Cluster::start(3, 1);
    let mut site = site_at(&cluster.url());
    let load = Load::start(&site);
    let mut worst = Duration::ZERO;
    for victim in 0..3 {
        let killed = Instant::now();
        cluster.nodes[victim].kill();
        // Redis replicates without waiting: what the replica had not heard of is forgotten.
        site.rolled_back();
        cluster.wait_until_it_serves();
        serves(&site, RESUMED);
        worst = worst.max(killed.elapsed());
        load.flows(&site, LONG);
        cluster.nodes[victim].start_again();
        cluster.nodes[victim].in_sync();
    }
    let done = load.finish(&site, DRAIN);
    println!("cluster_killed: 3 masters, service after {worst:.1?} at most, {done}");
    done.assert_kept();
}
