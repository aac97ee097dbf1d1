//! Who is let in, and which servers are good enough.
use std::{path::Path, process::Command};

use jobwire_redis_rig::{Append, Cluster, MASTER, Port, Redis, Sentinels, Settings};
use jobwire_server::store::Durability;
use redis::Value;

use super::harness::{echo, echo_again, next, open, refused, target, unavailable};

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_refused_and_never_shown() {
    let redis = Redis::start(Settings::new().password("open-sesame"));
    let place = redis.address();
    for (url, words) in [
        (format!("redis://:wrong-one@{place}"), "WRONGPASS"),
        (format!("redis://nobody:open-sesame@{place}"), "WRONGPASS"),
        (format!("redis://{place}"), "NOAUTH"),
    ] {
        let error = refused(&target(&url)).await;
        assert!(error.contains(words) && error.contains(&place.to_string()), "{error}");
        assert!(!error.contains("wrong-one") && !error.contains("sesame"), "{error}");
    }
    let conn = open(&redis.url()).await;
    echo(&conn, "k", "v").await.expect("written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_not_there_is_refused_and_one_that_is_is_used() {
    let redis = Redis::shared();
    let error = refused(&target(&format!("{}/99", redis.url()))).await;
    assert!(error.contains("DB index is out of range"), "{error}");
    let conn = open(&format!("{}/5", redis.url())).await;
    echo(&conn, "only-in-5", "v").await.expect("written");
    assert!(!redis.query::<bool>(&["EXISTS", "only-in-5"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_may_throw_jobs_away_is_refused_with_the_remedy() {
    let redis = Redis::start(Settings::new().set("maxmemory-policy", "allkeys-lru"));
    let error = refused(&target(&redis.url())).await;
    assert!(error.contains("CONFIG SET maxmemory-policy noeviction"), "{error}");
    redis.configure("maxmemory-policy", "noeviction");
    let conn = open(&redis.url()).await;
    assert_eq!(conn.health().await.expect("health").warnings, [""; 0]);
    // Later it is an alarm, not the end.
    redis.configure("maxmemory-policy", "volatile-ttl");
    let health = conn.health().await.expect("health");
    assert!(health.refusal.as_ref().is_some_and(|text| text.contains("volatile-ttl")), "{health:?}");
    assert!(health.info().warnings[0].contains("volatile-ttl"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_level_is_that_of_the_append_only_file() {
    for (append, level) in [
        (Append::Off, Durability::RedisVolatile),
        (Append::EverySec, Durability::RedisEverysec),
        (Append::Always, Durability::RedisAlways),
    ] {
        let redis = Redis::start(Settings::new().append(append));
        let health = open(&redis.url()).await.health().await.expect("health");
        assert_eq!(health.durability, level);
        assert_eq!(health.warnings.is_empty(), append != Append::Off, "{health:?}");
        assert!(health.version.starts_with(|c: char| c.is_ascii_digit() || c == 'v'), "{health:?}");
        assert!(health.used_memory > 0 && !health.full);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_with_replicas_promises_no_more_than_a_failover_keeps() {
    let master = Redis::start(Settings::new().append(Append::Always));
    let replica = master.start_replica(Settings::new());
    let health = open(&master.url()).await.health().await.expect("health");
    assert_eq!((health.durability, health.replicas), (Durability::RedisReplicated, 1));
    let error = unavailable(&replica.url()).await;
    assert!(error.contains("this is a replica"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wrong_kind_of_server_is_refused_with_the_right_url() {
    let sentinels = Sentinels::start();
    let cluster = Cluster::start(3, 0);
    let single = Redis::shared().address();
    let sentinel = sentinels.sentinels[0].address();
    for (url, words) in [
        (format!("redis://{sentinel}"), "write redis+sentinel://"),
        (format!("redis://{}", cluster.nodes[0].address()), "write redis+cluster://"),
        (format!("redis+cluster://{single}"), "write redis://"),
        (format!("redis+sentinel://{single}/{MASTER}"), "this is no sentinel"),
        (format!("redis+sentinel://{sentinel}/nobody"), "no master called `nobody`"),
    ] {
        let error = refused(&target(&url)).await;
        assert!(error.contains(words), "{url}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_may_not_ask_is_served_with_a_warning() {
    let rules = "~{jobwire.* &{jobwire.* +@all -info -config -client";
    let redis = Redis::start(Settings::new().password("root").user("shy", "pw", rules));
    let conn = open(&redis.url_of("shy", "pw")).await;
    echo(&conn, "{jobwire.1}", "v").await.expect("ours");
    let health = conn.health().await.expect("health");
    assert!(health.warnings.len() == 1 && health.warnings[0].contains("may not be asked"), "{health:?}");
    // A managed Redis: INFO is allowed, CONFIG is not.
    redis.run(&["ACL", "SETUSER", "shy", "+info"]);
    let health = conn.health().await.expect("health");
    assert_eq!(health.durability, Durability::RedisEverysec);
    assert!(health.warnings.len() == 1 && health.warnings[0].contains("taken to be everysec"), "{health:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_taken_away_is_an_outage_and_comes_back() {
    let redis = Redis::start(Settings::new().password("root").user("app", "pw", "~* &* +@all"));
    let conn = open(&redis.url_of("app", "pw")).await;
    redis.run(&["ACL", "SETUSER", "app", "-evalsha"]);
    let error = echo(&conn, "k", "v").await.expect_err("denied");
    assert!(error.to_string().contains("NOPERM"), "{error}");
    redis.run(&["ACL", "SETUSER", "app", "+evalsha"]);
    echo_again(&conn, "k").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_is_a_door_too() {
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("redis.sock");
    let redis = Redis::start(Settings::new().set("unixsocket", socket.to_str().expect("a name")));
    let conn = open(&format!("redis+unix://{}?db=2", socket.display())).await;
    echo(&conn, "through-the-socket", "v").await.expect("written");
    assert_eq!(redis.query::<Value>(&["DBSIZE"]), Value::Int(0));
}

/// Certificates for 127.0.0.1 and for a client, signed by an authority of their own.
fn certificates(dir: &Path) {
    let openssl = |words: &[&str]| {
        let done = Command::new("openssl").args(words).current_dir(dir).output().expect("openssl is installed");
        assert!(done.status.success(), "openssl {words:?}: {}", String::from_utf8_lossy(&done.stderr));
    };
    let new = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"];
    for (name, subject) in [("ca", "/CN=Test authority"), ("stranger", "/CN=Stranger")] {
        let (key, pem) = (format!("{name}.key"), format!("{name}.pem"));
        openssl(&[&new[..], &["-keyout", &key, "-out", &pem, "-subj", subject]].concat());
    }
    for (name, more) in [("server", "subjectAltName=IP:127.0.0.1"), ("client", "extendedKeyUsage=clientAuth")] {
        let (key, pem) = (format!("{name}.key"), format!("{name}.pem"));
        let signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-addext", more, "-addext", "basicConstraints=CA:FALSE"];
        openssl(&[&new[..], &["-keyout", &key, "-out", &pem, "-subj", &format!("/CN={name}")], &signed].concat());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_proves_who_the_server_is_and_who_we_are() {
    let dir = tempfile::tempdir().expect("a directory");
    certificates(dir.path());
    let file = |name: &str| dir.path().join(name).to_str().expect("a name").to_owned();
    let port = Port::free();
    let settings = Settings::new()
        .set("tls-port", &port.number().to_string())
        .set("tls-cert-file", &file("server.pem"))
        .set("tls-key-file", &file("server.key"))
        .set("tls-ca-cert-file", &file("ca.pem"))
        .set("tls-auth-clients", "optional");
    let redis = Redis::start(settings);
    let place = format!("rediss://127.0.0.1:{}", port.number());
    let (ca, cert, key) = (file("ca.pem"), file("client.pem"), file("client.key"));

    let conn = open(&format!("{place}?ca={ca}")).await;
    echo(&conn, "k", "v").await.expect("written");
    let mut pushes = conn.subscribe(vec![b"over-tls".to_vec()]);
    next(&mut pushes).await;

    for (url, words) in [
        (format!("{place}?ca={}", file("stranger.pem")), "TLS: invalid peer certificate"),
        (place.clone(), "TLS: "),
        (format!("{place}?ca={}", file("missing.pem")), "missing.pem"),
        (format!("{place}?ca={}", file("ca.key")), "there is no certificate in it"),
        (format!("rediss://localhost:{}?ca={ca}", port.number()), "TLS: invalid peer certificate"),
    ] {
        let error = refused(&target(&url)).await;
        assert!(error.contains(words), "{url}: {error}");
    }

    redis.configure("tls-auth-clients", "yes");
    open(&format!("{place}?ca={ca}&cert={cert}&key={key}")).await;
    unavailable(&format!("{place}?ca={ca}")).await;
}
