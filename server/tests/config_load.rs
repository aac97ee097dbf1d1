//! Where values come from, and what is refused.
use std::{collections::BTreeMap, fs, time::Duration};

use clap::{Args as _, FromArgMatches as _};
use jobwire_server::config::{Config, Flags, KEYS, Loaded, Source, StorePlace};

fn flags(words: &[&str]) -> Flags {
    let command = Flags::augment_args(clap::Command::new("serve").no_binary_name(true));
    let matches = command.try_get_matches_from(words).expect("flags that parse");
    Flags::from_arg_matches(&matches).expect("flags")
}

fn load(words: &[&str], env: &[(&str, &str)]) -> Result<Loaded, String> {
    let env: BTreeMap<_, _> = env.iter().copied().collect();
    Loaded::load(&flags(words), |name| env.get(name).map(|text| (*text).to_owned())).map_err(|error| error.to_string())
}

fn source(loaded: &Loaded, name: &str) -> Source {
    let place = KEYS.iter().position(|key| key.name == name).expect("a key");
    loaded.sources[place].clone()
}

#[test]
fn without_anything_said_the_defaults_hold() {
    let loaded = load(&[], &[]).expect("loads");
    assert_eq!(loaded.config, Config::default());
    assert!(loaded.sources.iter().all(|source| *source == Source::Default));
}

#[test]
fn flags_beat_the_environment_beats_the_file_beats_the_default() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("jobwire.toml");
    fs::write(&file, "lease_ttl = '40s'\nhttp_listen = '127.0.0.1:1'\nlisten = '127.0.0.1:2'\nmax_connections = 7\n")
        .expect("written");
    let path = file.to_str().expect("a name");
    let env = [("JOBWIRE_CONFIG", path), ("JOBWIRE_HTTP_LISTEN", "127.0.0.1:3"), ("JOBWIRE_LISTEN", "127.0.0.1:4")];
    let loaded = load(&["--listen", "127.0.0.1:5"], &env).expect("loads");
    assert_eq!(loaded.config.listen.grpc.port(), 5);
    assert_eq!(source(&loaded, "listen"), Source::Flag);
    assert_eq!(loaded.config.listen.http.port(), 3);
    assert_eq!(source(&loaded, "http_listen"), Source::Env);
    assert_eq!(loaded.config.lease.ttl, Duration::from_secs(40));
    assert_eq!(loaded.config.listen.max_connections, 7);
    assert_eq!(source(&loaded, "lease_ttl"), Source::File(file.clone()));
    assert_eq!(source(&loaded, "store"), Source::Default);
}

#[test]
fn the_clients_variables_and_empty_ones_are_no_settings() {
    let loaded = load(&[], &[("JOBWIRE_URL", "jobwire://x"), ("JOBWIRE_LISTEN", "")]).expect("loads");
    assert_eq!(loaded.config, Config::default());
}

#[test]
fn what_is_printed_is_a_file_that_gives_the_same() {
    let words = ["--store", "memory", "--lease-ttl=1m30s", "--insecure-no-auth"];
    let loaded = load(&words, &[("JOBWIRE_LOG_FORMAT", "json")]).expect("loads");
    let printed = loaded.to_string();
    assert_eq!(printed.lines().count(), KEYS.len());
    assert!(printed.contains("# require_durability is not set"), "{printed}");
    for line in ["store = \"memory\"", "lease_ttl = \"1m30s\""] {
        assert!(printed.contains(line), "{line} in\n{printed}");
    }
    assert!(printed.lines().any(|line| line.starts_with("log_format") && line.ends_with("# JOBWIRE_LOG_FORMAT")));
    assert!(printed.lines().any(|line| line.starts_with("store") && line.ends_with("# --store")));
    assert!(printed.lines().any(|line| line.starts_with("listen") && line.ends_with("# default")));

    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("printed.toml");
    fs::write(&file, &printed).expect("written");
    let again = load(&["--config", file.to_str().expect("a name")], &[]).expect("loads");
    assert_eq!(again.config, loaded.config);
}

#[test]
fn every_default_can_be_written_and_read() {
    for key in KEYS {
        let mut config = Config::default();
        if let Some(text) = (key.get)(&config) {
            (key.set)(&mut config, &text).expect(key.name);
            assert_eq!(config, Config::default(), "{}", key.name);
        }
    }
}

#[test]
fn errors_name_the_setting_as_it_was_written_and_what_would_be_right() {
    for (words, env, parts) in [
        (&["--lease-ttl", "30"][..], &[][..], &["--lease-ttl: ", "30s"][..]),
        (&["--lease-ttl", "100ms"], &[], &["--lease-ttl: ", "1s to 1h"]),
        (&["--store", "postgres"], &[], &["--store: `postgres`", "memory, embedded:DIR or redis://HOST:PORT/DB"]),
        (&["--listen", "7420"], &[], &["--listen: ", "IP:PORT"]),
        (&["--durability", "maybe"], &[], &["--durability: ", "fsync, fast"]),
        (&["--max-connections", "0"], &[], &["--max-connections: ", "1 to 1000000"]),
        (&["--log-level", "a=b=c"], &[], &["--log-level: ", "warn"]),
        (&[], &[("JOBWIRE_DRAIN_TIMEOUT", "soon")], &["JOBWIRE_DRAIN_TIMEOUT: `soon`"]),
        (
            &["--require-durability", "embedded-fsync", "--durability", "fast"],
            &[],
            &["embedded-fsync", "embedded-fast"],
        ),
        (&["--http-listen", "127.0.0.1:7420"], &[], &["listen and http_listen are both 127.0.0.1:7420"]),
    ] {
        let error = load(words, env).expect_err("refused");
        for part in parts {
            assert!(error.contains(part), "{words:?}: {part:?} in {error:?}");
        }
    }
}

#[test]
fn all_mistakes_are_named_at_once() {
    let error = load(&["--store", "x", "--listen", "y"], &[]).expect_err("refused");
    assert_eq!(error.lines().count(), 2, "{error}");
}

#[test]
fn unknown_keys_and_broken_files_are_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("jobwire.toml");
    let path = file.to_str().expect("a name").to_owned();
    for (text, part) in [
        ("lease-ttl = '30s'\n", "unknown key `lease-ttl`; known are store, "),
        ("[server]\nlisten = 'x'\n", "unknown key `server`"),
        ("lease_ttl = ['30s']\n", "`lease_ttl` must be a text, a number or true/false"),
        ("lease_ttl = \n", "line 1"),
        ("lease_ttl = 'x'\n", "jobwire.toml: lease_ttl: `x` is not a duration"),
    ] {
        fs::write(&file, text).expect("written");
        let error = load(&["--config", &path], &[]).expect_err("refused");
        assert!(error.contains(part) && error.contains("jobwire.toml"), "{part:?} in {error:?}");
    }
    let error = load(&["--config", "no/such.toml"], &[]).expect_err("refused");
    assert!(error.contains("no/such.toml: cannot be read"), "{error}");
}

#[test]
fn beyond_this_machine_both_dangers_must_be_spelled_out() {
    for words in [
        &["--listen", "0.0.0.0:7420"][..],
        &["--http-listen", "192.0.2.1:7421"],
        &["--listen", "[::]:7420", "--insecure-no-auth"],
        &["--listen", "[::]:7420", "--insecure-no-tls"],
    ] {
        let error = load(words, &[]).expect_err("refused");
        assert!(error.contains(words[1]) && error.contains("--insecure-no-auth and --insecure-no-tls"), "{error}");
    }
    load(&["--listen", "0.0.0.0:7420", "--insecure-no-auth", "--insecure-no-tls"], &[]).expect("said in full");
    load(&["--listen", "localhost:7420"], &[]).expect("this machine");
    load(&["--listen", "[::1]:7420"], &[]).expect("this machine");
}

#[test]
fn the_store_says_where_and_how_safe() {
    let loaded = load(&["--store", "embedded:./x y"], &[]).expect("loads");
    assert_eq!(loaded.config.store.place, StorePlace::Embedded("./x y".into()));
    assert_eq!(loaded.config.store.durability().name(), "embedded-fsync");
    assert_eq!(load(&["--store=memory"], &[]).expect("loads").config.store.durability().name(), "memory");
}

#[test]
fn a_redis_is_a_store_and_its_passwords_are_not_shown() {
    let words = ["--store", "rediss://app:hunter2@r.internal:6380/3?ca=/ca.pem", "--redis-prefix=shop"];
    let env = [("JOBWIRE_REDIS_PASSWORD", "hunter3"), ("JOBWIRE_REDIS_SENTINEL_PASSWORD", "hunter4")];
    let loaded = load(&words, &env).expect("loads");
    let shown = format!("{loaded} {loaded:?}");
    assert!(shown.contains("store = \"rediss://app:***@r.internal:6380/3?ca=/ca.pem\""), "{shown}");
    assert!(shown.contains("redis_password = \"***\"") && !shown.contains("hunter"), "{shown}");
    let target = loaded.config.store.redis_target().expect("a Redis").expect("complete");
    assert_eq!((target.prefix.as_str(), target.db), ("shop", 3));
    assert_eq!(target.password.as_ref().map(|password| password.reveal()), Some("hunter2"));

    let target = load(&["--store", "redis://r"], &env).expect("loads").config.store.redis_target();
    let target = target.expect("a Redis").expect("complete");
    assert_eq!(target.password.as_ref().map(|password| password.reveal()), Some("hunter3"));
    assert_eq!(target.sentinel_password.as_ref().map(|password| password.reveal()), Some("hunter4"));
}

#[test]
fn a_redis_that_cannot_be_right_is_refused_without_its_password() {
    for (words, expected) in [
        (&["--store", "redis+cluster://u:hunter2@h/3"][..], "--store: a cluster has one database: drop /3"),
        (&["--store", "redis:u:hunter2@h"], "--store: a Redis store is written redis://HOST:PORT/DB"),
        (&["--store", "http://u:hunter2@h"], "--store: `http://` is not a way to a Redis"),
        (&["--store", "redis://u@h"], "a user without a password"),
        (&["--store", "redis://u:***@h"], "stands for a password that was not shown"),
        (&["--redis-password", "***"], "--redis-password: *** stands for a password"),
        (&["--redis-prefix", "a{b"], "--redis-prefix: `a{b` is not a prefix"),
        (&["--store", "redis://h", "--require-durability", "embedded-fast"], ""),
        (&["--store", "redis://h", "--require-durability", "embedded-fsync"], "give redis-always at most"),
    ] {
        match load(words, &[]) {
            Ok(_) => assert_eq!(expected, "", "{words:?}"),
            Err(error) => {
                assert!(!expected.is_empty() && error.contains(expected), "{words:?}: {error}");
                assert!(!error.contains("hunter"), "{error}");
            }
        }
    }
}
