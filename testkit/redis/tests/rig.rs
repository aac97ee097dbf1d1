//! The rig does what it says: processes start, die, come back with or without their data, and never outlive the test.
use std::{
    env, fs,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use jobwire_redis_rig::{Append, Cluster, Lossy, Redis, Sentinels, Settings, wait_for};

const LONG: Duration = Duration::from_secs(20);

#[test]
fn a_redis_comes_back_with_its_data_or_without() {
    let redis = Redis::start(Settings::new().append(Append::Always));
    redis.run(&["SET", "key", "value"]);
    let before = redis.pid();
    redis.kill();
    assert!(redis.try_query::<String>(&["GET", "key"]).is_err());
    redis.start_again();
    assert_ne!(redis.pid(), before);
    assert_eq!(redis.query::<String>(&["GET", "key"]), "value");
    redis.terminate();
    redis.start_empty();
    assert_eq!(redis.query::<Option<String>>(&["GET", "key"]), None);
}

#[test]
fn a_frozen_redis_is_silent_until_it_is_thawed() {
    let redis = Redis::start(Settings::new().append(Append::Off));
    redis.freeze();
    let started = Instant::now();
    assert!(redis.try_query::<String>(&["PING"]).is_err());
    assert!(started.elapsed() >= Duration::from_secs(1), "it was silent, not gone");
    redis.thaw();
    redis.wait_until_it_answers();
}

#[test]
fn settings_are_what_redis_has() {
    let redis = Redis::start(Settings::new().password("secret").maxmemory("20mb").user("app", "pw", "~app:* +@all"));
    assert_eq!(redis.url(), format!("redis://:secret@{}", redis.address()));
    assert_eq!(redis.query::<Vec<String>>(&["CONFIG", "GET", "maxmemory"]), ["maxmemory", "20971520"]);
    assert_eq!(redis.query::<Vec<String>>(&["CONFIG", "GET", "maxmemory-policy"])[1], "noeviction");
    redis.settings_from_next_start(|settings| settings.set("maxmemory-policy", "allkeys-lru"));
    redis.kill();
    redis.start_again();
    assert_eq!(redis.query::<Vec<String>>(&["CONFIG", "GET", "maxmemory-policy"])[1], "allkeys-lru");
}

#[test]
fn a_lost_answer_is_a_call_that_was_carried_out() {
    let redis = Redis::start(Settings::new());
    let link = Lossy::to(redis.address());
    let incr = || {
        let client = redis::Client::open(link.url()).expect("a good URL");
        redis::cmd("INCR").arg("n").query::<u32>(&mut client.get_connection()?)
    };
    assert_eq!(incr().expect("nothing is lost yet"), 1);
    link.lose_one_in(4);
    let answered = (0..30).filter(|_| incr().is_ok()).count();
    assert!(answered < 30 && link.lost() > 0);
    assert!(redis.query::<usize>(&["GET", "n"]) > answered + 1, "what was not answered counts, too");
}

#[test]
fn a_cluster_promotes_a_replica() {
    let cluster = Cluster::start(3, 1);
    assert_eq!(cluster.masters(), [0, 1, 2]);
    let dead = cluster.master_of("key");
    cluster.nodes[dead].run(&["SET", "key", "value"]);
    cluster.nodes[dead].run(&["WAIT", "1", "0"]);
    cluster.nodes[dead].kill();
    let heir = cluster.master_of("key");
    assert_ne!(heir, dead);
    cluster.wait_until_it_serves();
    assert_eq!(cluster.nodes[heir].query::<String>(&["GET", "key"]), "value");
    cluster.nodes[dead].start_again();
    cluster.nodes[dead].in_sync();
    cluster.wait_until_it_serves();
}

#[test]
fn sentinels_promote_a_replica() {
    let set = Sentinels::start_with(&Settings::new().password("secret"));
    assert_eq!(set.master(), 0);
    set.nodes[0].kill();
    let heir = set.failed_over_from(0);
    assert_ne!(heir, 0);
    set.nodes[heir].run(&["SET", "key", "value"]);
    set.nodes[0].start_again();
    set.nodes[0].in_sync();
    set.wait_until_complete();
}

/// The test runs itself as a child that dies without a chance to tidy up.
#[test]
fn nothing_outlives_the_test() {
    if env::var_os("RIG_DIES").is_some() {
        let redis = Redis::shared();
        println!("started {} {}", redis.pid(), redis.dir().display());
        std::process::abort();
    }
    let output = Command::new(env::current_exe().expect("its own path"))
        .args(["--exact", "nothing_outlives_the_test", "--nocapture"])
        .env("RIG_DIES", "1")
        .stderr(Stdio::null())
        .output()
        .expect("it runs");
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (_, line) = text.lines().find_map(|line| line.split_once("started ")).expect("what it started");
    let (pid, dir) = line.split_once(' ').expect("pid and directory");
    assert!(pid.parse::<u32>().is_ok() && dir.contains("jobwire-redis-"), "{line}");
    wait_for("its Redis is gone, and its files", LONG, || {
        let stat = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        !stat.contains("redis") && !fs::exists(dir).expect("it can be looked up")
    });
}
