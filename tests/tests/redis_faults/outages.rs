//! Redis there but of no use for a while: streams stay open, nothing runs twice, and service is back at once.
use std::{
    thread,
    time::{Duration, Instant},
};

use jobwire_redis_rig::{Redis, Settings, wait_for};
use jobwire_tests::{
    load::{Load, serves},
    site::Site,
    wait::LONG,
};

use crate::support::{BACK, DRAIN, site};

/// A load during which `outage` happens and ends; then service is back, every stream is the one it was, and every job has
/// run once.
fn survives(name: &str, outage: impl FnOnce(&Redis, &Site)) {
    let redis = Redis::start(Settings::new());
    let site = site(&redis);
    let load = Load::start(&site);
    let streams = load.streams(&site);
    outage(&redis, &site);
    let back = serves(&site, BACK);
    let flows = load.flows(&site, LONG);
    assert_eq!(load.streams(&site), streams, "every stream stayed open");
    let done = load.finish(&site, DRAIN);
    println!("{name}: back after {back:.1?}, SDKs after {flows:.1?}, {done}");
    done.assert_kept();
    done.assert_each_ran_once();
}

#[test]
fn redis_frozen_for_ten_seconds() {
    survives("redis_frozen", |redis, _| {
        redis.freeze();
        // The length of the freeze is what is tested.
        thread::sleep(Duration::from_secs(10));
        redis.thaw();
    });
}

#[test]
fn redis_read_only_for_a_while() {
    survives("redis_read_only", |redis, site| {
        redis.run(&["REPLICAOF", "127.0.0.1", "1"]);
        refused(site);
        redis.run(&["REPLICAOF", "NO", "ONE"]);
    });
}

#[test]
fn redis_loading_for_a_while() {
    survives("redis_loading", |redis, site| {
        // Keys of a snapshot take their time, microseconds each, and in between it says that it is loading.
        redis.settings_from_next_start(|settings| {
            settings.set("key-load-delay", "50").set("loading-process-events-interval-bytes", "1024")
        });
        redis.run(&["DEBUG", "POPULATE", "200000", "filler", "64"]);
        redis.run(&["BGREWRITEAOF"]);
        wait_for("a snapshot is written", LONG, || {
            redis.info("persistence", "aof_rewrite_in_progress").is_some_and(|doing| doing == "0")
        });
        redis.terminate();
        redis.launch();
        wait_for("Redis is loading", LONG, || {
            redis.try_query::<String>(&["PING"]).is_err_and(|error| error.to_string().contains("loading"))
        });
        refused(site);
        redis.configure("key-load-delay", "0");
        redis.wait_until_it_answers();
    });
}

#[test]
fn scripts_flushed_again_and_again() {
    survives("scripts_flushed", |redis, _| {
        let until = Instant::now() + Duration::from_secs(3);
        while Instant::now() < until {
            redis.run(&["SCRIPT", "FLUSH"]);
            thread::sleep(Duration::from_millis(20));
        }
    });
}

/// Both servers say UNAVAILABLE, and stay.
fn refused(site: &Site) {
    for number in 0..site.servers.len() {
        wait_for("a server refuses", LONG, || {
            let answer = site.try_enqueue(number, "conf.echo", &serde_json::json!({"key": "nobody"}));
            answer.is_err_and(|status| {
                assert_eq!(status.code(), tonic::Code::Unavailable, "{status}");
                true
            })
        });
    }
}
