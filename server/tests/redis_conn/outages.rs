//! One Redis that goes away, hangs, fills, forgets, and comes back.
use std::time::Duration;

use jobwire_redis_rig::{Redis, Settings};
use jobwire_server::store::StoreError;
use tokio::time::Instant;

use super::harness::{echo, echo_again, open, target, unavailable, until};

/// Promise: service returns within this of Redis returning.
const BACK_WITHIN: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_calls_fail_as_outages_and_work_soon_after_the_restart() {
    let redis = Redis::start(Settings::new());
    let conn = open(&redis.url()).await;
    echo(&conn, "k", "v").await.expect("written");
    redis.kill();
    let error = echo(&conn, "k", "v").await.expect_err("gone");
    let place = redis.address().to_string();
    assert!(matches!(&error, StoreError::Unavailable(text) if text.contains(&place)), "{error:?}");
    assert!(matches!(conn.health().await, Err(StoreError::Unavailable(_))));
    redis.start_again();
    let took = echo_again(&conn, "k").await;
    assert!(took < BACK_WITHIN, "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_outage_between_calls_is_not_noticed() {
    let redis = Redis::start(Settings::new());
    let conn = open(&redis.url()).await;
    redis.kill();
    redis.start_again();
    // The connection that broke was opened again before, or while, this call waited for it.
    echo(&conn, "k", "v").await.expect("written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_redis_is_an_outage_after_two_seconds_and_comes_back_when_it_thaws() {
    let redis = Redis::start(Settings::new());
    let conn = open(&redis.url()).await;
    redis.freeze();
    let start = Instant::now();
    let error = echo(&conn, "k", "v").await.expect_err("frozen");
    let took = start.elapsed();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    assert!(took >= Duration::from_millis(1_900) && took < Duration::from_secs(4), "{took:?}");
    unavailable(&redis.url()).await;
    redis.thaw();
    let took = echo_again(&conn, "k").await;
    assert!(took < BACK_WITHIN, "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_cut_is_opened_again() {
    let redis = Redis::start(Settings::new());
    let conn = open(&redis.url()).await;
    for _ in 0..5 {
        redis.run(&["CLIENT", "KILL", "TYPE", "normal"]);
        echo_again(&conn, "k").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_that_were_flushed_are_loaded_again() {
    let redis = Redis::start(Settings::new());
    let conn = open(&redis.url()).await;
    for _ in 0..3 {
        redis.run(&["SCRIPT", "FLUSH"]);
        echo(&conn, "k", "v").await.expect("written");
    }
    let evals = redis.info("commandstats", "cmdstat_eval").expect("EVAL was used");
    assert!(evals.starts_with("calls=3,"), "{evals}");
    echo(&conn, "k", "v").await.expect("written");
    assert_eq!(redis.info("commandstats", "cmdstat_eval").map(|now| now.starts_with("calls=3,")), Some(true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_becomes_a_replica_is_an_outage_until_it_is_a_master_again() {
    let other = Redis::start(Settings::new());
    let redis = Redis::start(Settings::new());
    let conn = open(&redis.url()).await;
    redis.run(&["REPLICAOF", "127.0.0.1", &other.address().port().to_string()]);
    let error = echo(&conn, "k", "v").await.expect_err("read-only");
    assert!(matches!(&error, StoreError::Unavailable(text) if text.contains("READONLY")), "{error:?}");
    redis.run(&["REPLICAOF", "NO", "ONE"]);
    let took = echo_again(&conn, "k").await;
    assert!(took < BACK_WITHIN, "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_redis_is_full_and_says_so() {
    let redis = Redis::start(Settings::new().maxmemory("10mb"));
    let conn = open(&redis.url()).await;
    redis.configure("maxmemory", "1");
    let error = echo(&conn, "k", "v").await.expect_err("no room");
    assert!(matches!(error, StoreError::Full(_)), "{error:?}");
    assert!(conn.health().await.expect("health").full);
    redis.configure("maxmemory", "0");
    echo(&conn, "k", "v").await.expect("room");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_reads_its_data_is_waited_for() {
    let redis = Redis::start(Settings::new().set("rdbcompression", "no"));
    for n in 0..20 {
        redis.run(&["SET", &format!("key-{n}"), &"x".repeat(10_000)]);
    }
    let conn = open(&redis.url()).await;
    // It takes 0.2 s for each key, and serves nobody meanwhile.
    redis.run(&["BGREWRITEAOF"]);
    until("the file is written", async || {
        redis.info("persistence", "aof_rewrite_in_progress").is_some_and(|busy| busy == "0")
            && redis.info("persistence", "aof_rewrite_scheduled").is_some_and(|busy| busy == "0")
    })
    .await;
    redis.terminate();
    redis.settings_from_next_start(|settings| {
        settings.set("key-load-delay", "200000").set("loading-process-events-interval-bytes", "1024")
    });
    redis.launch();
    until("it reads its data", async || redis.info("persistence", "loading").is_some_and(|loading| loading == "1"))
        .await;
    let error = unavailable(&redis.url()).await;
    assert!(error.contains("LOADING it is reading its data"), "{error}");
    assert!(matches!(echo(&conn, "k", "v").await, Err(StoreError::Unavailable(_))));
    redis.wait_until_it_answers();
    let took = echo_again(&conn, "k").await;
    assert!(took < BACK_WITHIN, "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_is_an_outage_and_not_a_refusal() {
    let redis = Redis::start(Settings::new());
    redis.kill();
    let error = unavailable(&redis.url()).await;
    assert!(error.contains("no connection"), "{error}");
    let error = unavailable("redis://no-such-host.invalid").await;
    assert!(error.contains("no-such-host.invalid:6379"), "{error}");
    assert!(target("redis://no-such-host.invalid").password.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_one_command_fails_the_call_and_no_other() {
    let redis = Redis::shared();
    let conn = open(&redis.url()).await;
    let mut commands = redis::pipe();
    commands.cmd("SET").arg("{one}a").arg("text").cmd("LPUSH").arg("{one}a").arg("x").cmd("GET").arg("{one}a");
    let error = conn.run(b"{one}a", commands).await.expect_err("a wrong type");
    assert!(error.to_string().contains("WRONGTYPE"), "{error}");
    let mut commands = redis::pipe();
    commands.cmd("GET").arg("{one}a").cmd("EXISTS").arg("{one}b");
    let values = conn.run(b"{one}a", commands).await.expect("two values");
    assert_eq!(values, [redis::Value::BulkString("text".into()), redis::Value::Int(0)]);
    assert_eq!(conn.run(b"{one}a", redis::pipe()).await.expect("nothing"), []);
}
