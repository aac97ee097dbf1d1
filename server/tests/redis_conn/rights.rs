//! The user that the guide gives to Jobwire: enough for everything a store does, and for nothing else.
use std::{path::Path, sync::OnceLock};

use jobwire_redis_rig::{Redis as Process, Settings};
use jobwire_server::store::Durability;

use super::harness::{echo, next, open, says_and_hears};
use crate::redis_support::Redis;

/// What docs/operations.md gives a user for the prefix `jobwire`.
fn rules() -> String {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations.md");
    let text = std::fs::read_to_string(guide).expect("the guide");
    let rules = text.lines().find_map(|line| line.strip_prefix("ACL SETUSER jobwire on >SECRET "));
    rules.expect("the guide has the user's rules").to_owned()
}

/// The suite has a prefix for each test, all beginning with a `t`.
async fn restricted() -> Redis {
    static REDIS: OnceLock<Process> = OnceLock::new();
    let rules = rules().replace("{jobwire.", "{t");
    let redis = REDIS.get_or_init(|| Process::start(Settings::new().password("root").user("jobwire", "pw", &rules)));
    Redis::at(&redis.url_of("jobwire", "pw")).await
}

jobwire_server::store_conformance!(restricted);

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_user_may_use_our_keys_and_no_others() {
    let redis = Process::start(Settings::new().password("root").user("jobwire", "pw", &rules()));
    let conn = open(&redis.url_of("jobwire", "pw")).await;
    echo(&conn, "{jobwire.3~9}:m", "v").await.expect("ours");
    let health = conn.health().await.expect("health");
    assert_eq!((health.durability, health.warnings.len()), (Durability::RedisEverysec, 0), "{health:?}");
    let mut pushes = conn.subscribe(vec![b"{jobwire.3~9}:w".to_vec()]);
    next(&mut pushes).await;
    says_and_hears(&conn, &mut pushes, "{jobwire.3~9}:w", "hello").await;

    let error = echo(&conn, "{jobwirex.3~9}:m", "v").await.expect_err("not ours");
    assert!(error.to_string().contains("NOPERM"), "{error}");
    for (command, key) in [("FLUSHALL", None), ("KEYS", Some("*")), ("SHUTDOWN", None)] {
        let mut commands = redis::pipe();
        commands.cmd(command);
        key.into_iter().for_each(|key| _ = commands.arg(key));
        let error = conn.run(b"{jobwire.1}", commands).await.expect_err(command);
        assert!(error.to_string().contains("NOPERM"), "{error}");
    }
}
