//! Masters that change: a Sentinel set, a Cluster.
use std::time::Duration;

use jobwire_redis_rig::{Cluster, Redis, Sentinels, Settings, wait_for};
use jobwire_server::store::{Durability, StoreError, redis::conn::slot_of};

use tokio::time::Instant;

use super::harness::{LONG, echo, echo_again, next, open, refused, says_and_hears, target, until};

/// Promise: service returns within this of a failover.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_of_the_sentinels_is_followed() {
    let set = Sentinels::start();
    let conn = open(&set.url()).await;
    assert_eq!(conn.masters(), 1);
    assert_eq!(conn.health().await.expect("health").durability, Durability::RedisReplicated);
    let mut pushes = conn.subscribe(vec![b"{w}".to_vec()]);
    next(&mut pushes).await;
    echo(&conn, "k", "v").await.expect("written");

    let first = set.master();
    set.nodes[first].kill();
    let second = set.failed_over_from(first);
    let took = echo_again(&conn, "k").await;
    assert!(took < FOLLOWED_WITHIN, "{took:?}");
    assert_eq!(set.nodes[second].query::<String>(&["GET", "k"]), "again");
    // Channels have moved too, and it was said that something may be missing.
    assert_eq!(next(&mut pushes).await, jobwire_server::store::redis::push::Push::Lost);
    says_and_hears(&conn, &mut pushes, "{w}", "from the second").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planned_failover_is_followed_while_the_old_master_lives() {
    let set = Sentinels::start();
    let conn = open(&set.url()).await;
    let mut pushes = conn.subscribe(vec![b"{w}".to_vec()]);
    next(&mut pushes).await;
    let second = set.failover();
    // The old master takes writes until it hears of it.
    let start = Instant::now();
    until("writes go to the new master", async || {
        echo_again(&conn, "k").await;
        set.nodes[second].query::<bool>(&["EXISTS", "k"])
    })
    .await;
    assert!(start.elapsed() < FOLLOWED_WITHIN, "{:?}", start.elapsed());
    next(&mut pushes).await;
    says_and_hears(&conn, &mut pushes, "{w}", "hello").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_master_is_left_for_the_new_one() {
    let set = Sentinels::start();
    let conn = open(&set.url()).await;
    let first = set.master();
    set.nodes[first].freeze();
    set.failed_over_from(first);
    let took = echo_again(&conn, "k").await;
    assert!(took < FOLLOWED_WITHIN, "{took:?}");
    set.nodes[first].thaw();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_sentinel_of_three_is_enough_and_servers_may_have_a_password() {
    let set = Sentinels::start_with(&Settings::new().password("pw"));
    set.sentinels[0].kill();
    set.sentinels[1].kill();
    let conn = open(&set.url()).await;
    echo(&conn, "k", "v").await.expect("written");
    let error = refused(&target(&set.url().replace(":pw@", ":wrong@"))).await;
    assert!(error.contains("WRONGPASS"), "{error}");
}

/// A key for each master.
const KEYS: [&str; 3] = ["{a}", "{b}", "{c}"];

#[tokio::test(flavor = "multi_thread")]
async fn a_key_goes_to_its_owner_and_a_moved_slot_is_followed() {
    let cluster = Cluster::start(3, 0);
    // One seed is enough.
    let conn = open(&format!("redis+cluster://{}", cluster.nodes[0].address())).await;
    assert_eq!(conn.masters(), 3);
    let health = conn.health().await.expect("health");
    assert_eq!(health.durability, Durability::RedisReplicated);
    let owners: Vec<usize> = KEYS.iter().map(|key| cluster.master_of(key)).collect();
    assert!([0, 1, 2].iter().all(|owner| owners.contains(owner)), "{owners:?}");
    for (key, owner) in KEYS.iter().zip(&owners) {
        echo(&conn, key, "v").await.expect("written");
        assert_eq!(cluster.nodes[*owner].query::<String>(&["GET", key]), "v");
    }

    let channel = "{a}:w";
    let mut pushes = conn.subscribe(vec![channel.into(), b"{b}:w".to_vec(), b"{c}:w".to_vec()]);
    next(&mut pushes).await;

    let (from, to) = (&cluster.nodes[owners[0]], &cluster.nodes[(owners[0] + 1) % 3]);
    move_slot(&conn, from, to, KEYS[0]).await;
    echo(&conn, KEYS[0], "moved").await.expect("followed at once");
    assert_eq!(to.query::<String>(&["GET", KEYS[0]]), "moved");
    // The channel is where its slot is.
    next(&mut pushes).await;
    says_and_hears(&conn, &mut pushes, channel, "hello").await;
}

/// Moves the slot of `key`, and writes while it is half moved.
async fn move_slot(conn: &jobwire_server::store::redis::conn::Conn, from: &Redis, to: &Redis, key: &str) {
    let slot = slot_of(key.as_bytes()).to_string();
    let id = |node: &Redis| node.query::<String>(&["CLUSTER", "MYID"]);
    let (source, destination) = (id(from), id(to));
    to.run(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source]);
    from.run(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &destination]);
    let port = to.address().port().to_string();
    from.run(&["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]);
    // The key is there, the slot is still here: ASK.
    echo(conn, key, "half moved").await.expect("asked");
    let mut commands = redis::pipe();
    commands.cmd("GET").arg(key).cmd("STRLEN").arg(key);
    let values = conn.run(key.as_bytes(), commands).await.expect("asked twice");
    assert_eq!(values, [redis::Value::BulkString("half moved".into()), redis::Value::Int(10)]);
    to.run(&["CLUSTER", "SETSLOT", &slot, "NODE", &destination]);
    from.run(&["CLUSTER", "SETSLOT", &slot, "NODE", &destination]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_of_a_cluster_that_dies_is_replaced_and_the_others_go_on() {
    let cluster = Cluster::start(3, 1);
    let conn = open(&cluster.url()).await;
    let mut pushes = conn.subscribe(KEYS.iter().map(|key| format!("{key}:w").into_bytes()).collect());
    next(&mut pushes).await;
    let dead = cluster.master_of(KEYS[0]);
    cluster.nodes[dead].kill();
    wait_for("a replica takes over", LONG, || cluster.masters().len() == 3);
    let took = echo_again(&conn, KEYS[0]).await;
    assert!(took < FOLLOWED_WITHIN, "{took:?}");
    for key in KEYS {
        echo(&conn, key, "after").await.expect("all masters serve");
        let channel = format!("{key}:w");
        if key == KEYS[0] {
            next(&mut pushes).await;
        }
        says_and_hears(&conn, &mut pushes, &channel, "hello").await;
    }
    assert_eq!(conn.masters(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_without_a_replica_takes_only_its_own_keys_away() {
    let cluster = Cluster::start_with(3, 0, &Settings::new().set("cluster-require-full-coverage", "no"));
    let conn = open(&cluster.url()).await;
    let dead = &cluster.nodes[cluster.master_of(KEYS[0])];
    dead.kill();
    let error = echo(&conn, KEYS[0], "v").await.expect_err("its owner is gone");
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    for key in &KEYS[1..] {
        echo(&conn, key, "v").await.expect("the others serve");
    }
    // Two thirds of the store are there: no reason to take every server out of service.
    let health = conn.health().await.expect("the others answer");
    let place = dead.address().to_string();
    assert!(health.warnings.iter().any(|text| text.contains(&place)), "{health:?}");
    dead.start_again();
    let took = echo_again(&conn, KEYS[0]).await;
    assert!(took < FOLLOWED_WITHIN, "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_whose_seeds_are_gone_is_still_followed() {
    let cluster = Cluster::start(3, 1);
    let seed = cluster.masters()[0];
    let conn = open(&format!("redis+cluster://{}", cluster.nodes[seed].address())).await;
    cluster.nodes[seed].kill();
    wait_for("a replica takes over", LONG, || cluster.masters().len() == 3);
    for key in KEYS {
        echo_again(&conn, key).await;
    }
}
