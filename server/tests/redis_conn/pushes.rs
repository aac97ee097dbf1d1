//! Channels: messages arrive, and what may have been missed is said.
use jobwire_redis_rig::{Redis, Settings};
use jobwire_server::store::redis::push::Push;

use super::harness::{echo_again, next, open, publish, says_and_hears, until};

fn message(channel: &str, payload: &str) -> Push {
    Push::Message { channel: channel.to_owned().into(), payload: payload.to_owned().into() }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_all_channels_come_in_order_and_those_of_others_do_not() {
    let redis = Redis::start(Settings::new());
    let conn = open(&redis.url()).await;
    let mut pushes = conn.subscribe(vec![b"{1}w".to_vec(), b"{2}w".to_vec()]);
    assert_eq!(next(&mut pushes).await, Push::Lost);
    for (channel, payload) in [("{1}w", "a"), ("{2}w", "b"), ("{3}w", "c"), ("{1}w", "d")] {
        publish(&conn, channel, payload).await;
    }
    for (channel, payload) in [("{1}w", "a"), ("{2}w", "b"), ("{1}w", "d")] {
        assert_eq!(next(&mut pushes).await, message(channel, payload));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_subscription_comes_back_and_says_that_something_may_be_missing() {
    let redis = Redis::start(Settings::new());
    let conn = open(&redis.url()).await;
    let mut pushes = conn.subscribe(vec![b"{1}w".to_vec()]);
    assert_eq!(next(&mut pushes).await, Push::Lost);
    for _ in 0..3 {
        redis.run(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        assert_eq!(next(&mut pushes).await, Push::Lost);
        publish(&conn, "{1}w", "again").await;
        assert_eq!(next(&mut pushes).await, message("{1}w", "again"));
    }
    redis.kill();
    redis.start_again();
    assert_eq!(next(&mut pushes).await, Push::Lost);
    echo_again(&conn, "k").await;
    says_and_hears(&conn, &mut pushes, "{1}w", "after the restart").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_was_slow_hears_that_it_missed_something() {
    const MANY: usize = 20_000;
    let redis = Redis::start(Settings::new());
    let conn = open(&redis.url()).await;
    let mut pushes = conn.subscribe(vec![b"{1}w".to_vec()]);
    assert_eq!(next(&mut pushes).await, Push::Lost);
    for _ in 0..MANY / 1_000 {
        let mut commands = redis::pipe();
        for _ in 0..1_000 {
            commands.cmd("SPUBLISH").arg("{1}w").arg("x");
        }
        conn.run(b"{1}w", commands).await.expect("published");
    }
    let mut heard = 0;
    while next(&mut pushes).await != Push::Lost {
        heard += 1;
    }
    assert!(heard < MANY, "{heard}");
    says_and_hears(&conn, &mut pushes, "{1}w", "later").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_ends_with_its_receiver_and_connections_with_the_last_clone() {
    let redis = Redis::start(Settings::new());
    let conn = open(&redis.url()).await;
    let mut pushes = conn.subscribe(vec![b"{1}w".to_vec()]);
    next(&mut pushes).await;
    let clients =
        || redis.query::<String>(&["CLIENT", "LIST"]).lines().filter(|line| line.contains("name=jobwire")).count();
    assert_eq!(clients(), 2);
    drop(pushes);
    until("the listening connection is closed", async || clients() == 1).await;
    let clone = conn.clone();
    drop(conn);
    echo_again(&clone, "k").await;
    drop(clone);
    until("the last connection is closed", async || clients() == 0).await;
}
