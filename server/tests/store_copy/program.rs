//! The program.
use std::process::Output;

use jobwire_redis_rig::Redis as Process;
use jobwire_server::{
    model::ids::Shard,
    store::{
        Store as _,
        conformance::Kit,
        redis::{RedisStore, target::Target},
    },
};
use uuid::Uuid;

use super::harness::Embedded;
use crate::cli_support::jobwire;

fn store(words: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = jobwire().arg("store").args(words).output().expect("the program runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (status.code().expect("it ends by itself"), text(stdout), text(stderr))
}

fn prefix() -> String {
    format!("t{}", Uuid::new_v4().simple())
}

/// A directory with three jobs, closed.
async fn filled() -> tempfile::TempDir {
    let Embedded { clock, store, dir } = Embedded::new(&std::sync::Arc::default());
    let other = tempfile::tempdir().expect("a directory");
    let mut kit = Kit::new(Box::new(Embedded { clock, store, dir: other }));
    let jobs = kit.jobs("mail", 3);
    kit.put(jobs).await;
    kit.store().close().await;
    dir
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_goes_to_redis_and_back() {
    let (url, dir, back, prefix) = (Process::shared().url(), filled().await, filled().await, prefix());
    let place = format!("embedded:{}", dir.path().display());
    let (code, out, err) = store(&["copy", &place, &url, "--to-prefix", &prefix]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("3 jobs of 1 queues, 0 documents"), "{out}");

    let (code, out, err) = store(&["check", "--store", &url, "--redis-prefix", &prefix]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("3 jobs looked at, all agrees"), "{out}");

    // Not into a store that has something.
    let full = format!("embedded:{}", back.path().display());
    let (code, _, err) = store(&["copy", &url, &full, "--from-prefix", &prefix]);
    assert!(code == 2 && err.contains("is not empty"), "{code} {err}");
    let empty = tempfile::tempdir().expect("a directory");
    let empty = format!("embedded:{}/new", empty.path().display());
    let (code, out, err) = store(&["copy", &url, &empty, "--from-prefix", &prefix]);
    assert!(code == 0 && out.contains("3 jobs"), "{code} {out}{err}");
    let (code, out, _) = store(&["check", "--store", &empty]);
    assert!(code == 0 && out.contains("3 jobs looked at, all agrees"), "{code} {out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_in_use_is_left_alone() {
    let (url, prefix) = (Process::shared().url(), prefix());
    let mut target: Target = url.parse().expect("a good URL");
    target.prefix = prefix.clone();
    let redis = RedisStore::open(&target).await.expect("the store opens");
    redis.doc(Shard(0), "server/x".into(), 0, Some("later".into())).await.expect("it writes");
    let dir = tempfile::tempdir().expect("a directory");
    let empty = format!("embedded:{}/new", dir.path().display());
    let (code, _, err) = store(&["copy", &url, &empty, "--from-prefix", &prefix]);
    assert!(code == 2 && err.contains("a server is using"), "{code} {err}");
    let (code, out, err) = store(&["copy", &url, &empty, "--from-prefix", &prefix, "--force"]);
    assert!(code == 0 && out.contains("0 jobs of 0 queues, 0 documents"), "{code} {out}{err}");

    let held = Embedded::new(&std::sync::Arc::default());
    let place = format!("embedded:{}", held.dir.path().display());
    let (code, _, err) = store(&["check", "--store", &place]);
    assert!(code == 2 && !err.is_empty(), "{code} {err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_says_what_is_wrong_and_what_it_did() {
    let (url, dir, prefix) = (Process::shared().url(), filled().await, prefix());
    let place = format!("embedded:{}", dir.path().display());
    assert_eq!(store(&["copy", &place, &url, "--to-prefix", &prefix, "--shards", "1"]).0, 0);
    let keys = Process::shared().query::<Vec<String>>(&["KEYS", &format!("{{{prefix}.0~*}}:n")]);
    let fields = Process::shared().query::<Vec<String>>(&["HKEYS", &keys[0]]);
    Process::shared().run(&["HINCRBY", &keys[0], &fields[0], "4"]);
    let words = ["check", "--store", &url, "--redis-prefix", &prefix];
    let (code, out, _) = store(&words);
    assert!(code == 1 && out.contains("the counter says 7") && out.contains("1 do not agree"), "{code} {out}");
    let (code, out, _) = store(&[&words[..], &["--repair"]].concat());
    assert!(code == 0 && out.contains("mended: ") && out.contains("all mended"), "{code} {out}");
    assert_eq!(store(&words).0, 0);

    let (code, _, err) = store(&["check", "--store", &url, "--redis-prefix", "nobody-has-this"]);
    assert!(code == 2 && err.contains("no store under the prefix"), "{code} {err}");
    let (code, _, err) = store(&["check", "--store", &place, "--repair"]);
    assert!(code == 2 && err.contains("anew at each start"), "{code} {err}");
    let (code, _, err) = store(&["check", "--store", "memory"]);
    assert!(code == 2 && err.contains("nothing to open"), "{code} {err}");
}
