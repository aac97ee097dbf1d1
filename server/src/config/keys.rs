//! The one list of settings. A new setting is a field of the tree and an entry here.
use std::{fmt::Display, net::SocketAddr, ops::RangeInclusive, str::FromStr, time::Duration};

use super::{Config, LogFormat, Source, StorePlace, Sync};
use crate::{
    duration,
    store::{
        Durability,
        redis::target::{HIDDEN, Secret, Target, check_prefix},
    },
};

/// One setting: `--listen`, `JOBWIRE_LISTEN`, `listen` in the file.
pub struct Key {
    /// As written in the file.
    pub name: &'static str,
    /// Placeholder of the value in `--help`.
    pub value: &'static str,
    pub help: &'static str,
    /// Reads the value into the tree, or says in a sentence what would have been right.
    pub set: fn(&mut Config, &str) -> Result<(), String>,
    /// Writes it so that `set` would read the same, but for passwords; `None` = not set.
    pub get: fn(&Config) -> Option<String>,
}

impl Key {
    /// The flag without its dashes.
    pub fn flag(&self) -> String {
        self.name.replace('_', "-")
    }

    /// The environment variable.
    pub fn env(&self) -> String {
        format!("JOBWIRE_{}", self.name.to_uppercase())
    }

    /// The setting as its user wrote it, for messages.
    pub fn as_written(&self, source: &Source) -> String {
        match source {
            Source::Flag => format!("--{}", self.flag()),
            Source::Env => self.env(),
            Source::File(path) => format!("{}: {}", path.display(), self.name),
            Source::Default => self.name.to_owned(),
        }
    }
}

/// All settings, in the order of `--help` and `--print-config`.
pub const KEYS: &[Key] = &[
    Key {
        name: "store",
        value: "memory|embedded:DIR|URL",
        help: "Where jobs are kept: redis://HOST:PORT/DB, redis+sentinel://HOST,HOST/MASTER, redis+cluster://HOST,HOST; \
               rediss for TLS",
        set: |config, text| {
            config.store.place = match text.split_once(':') {
                None if text == "memory" => StorePlace::Memory,
                Some(("embedded", dir)) if !dir.is_empty() => StorePlace::Embedded(dir.into()),
                // Never repeated in a message: there may be a password in it.
                Some((scheme, url)) if url.starts_with("//") || scheme.starts_with("redis") => {
                    StorePlace::Redis(text.parse::<Target>()?)
                }
                _ => {
                    return Err(format!("`{text}` is not a store; write memory, embedded:DIR or redis://HOST:PORT/DB"));
                }
            };
            Ok(())
        },
        get: |config| {
            Some(match &config.store.place {
                StorePlace::Memory => "memory".to_owned(),
                StorePlace::Embedded(dir) => format!("embedded:{}", dir.display()),
                StorePlace::Redis(target) => target.to_string(),
            })
        },
    },
    Key {
        name: "redis_prefix",
        value: "WORD",
        help: "Begins the name of every key in Redis; servers with the same prefix on the same Redis are one",
        set: |config, text| {
            check_prefix(text)?;
            config.store.redis.prefix = text.to_owned();
            Ok(())
        },
        get: |config| Some(config.store.redis.prefix.clone()),
    },
    Key {
        name: "redis_password",
        value: "SECRET",
        help: "For a Redis whose URL has none; better as a variable or in the file, where other users do not see it",
        set: |config, text| secret(&mut config.store.redis.password, text),
        get: |config| config.store.redis.password.as_ref().map(|_| HIDDEN.to_owned()),
    },
    Key {
        name: "redis_sentinel_password",
        value: "SECRET",
        help: "For sentinels that want one of their own",
        set: |config, text| secret(&mut config.store.redis.sentinel_password, text),
        get: |config| config.store.redis.sentinel_password.as_ref().map(|_| HIDDEN.to_owned()),
    },
    Key {
        name: "durability",
        value: "fsync|fast",
        help: "What an acknowledged change in the embedded store survives: power loss (fsync), or only the death of the \
               process (fast)",
        set: |config, text| one_of(&mut config.store.sync, text, &[("fsync", Sync::Fsync), ("fast", Sync::Fast)]),
        get: |config| Some(if config.store.sync == Sync::Fsync { "fsync" } else { "fast" }.to_owned()),
    },
    Key {
        name: "require_durability",
        value: "LEVEL",
        help: "Refuse to start below this level; weakest first: memory, redis-volatile, redis-replicated, redis-everysec, \
               embedded-fast, redis-always, embedded-fsync",
        set: |config, text| {
            let mut level = Durability::Memory;
            one_of(&mut level, text, &Durability::ALL.map(|level| (level.name(), level)))?;
            config.store.require = Some(level);
            Ok(())
        },
        get: |config| config.store.require.map(|level| level.name().to_owned()),
    },
    Key {
        name: "listen",
        value: "IP:PORT",
        help: "gRPC: clients, workers, the command line. Port 0 takes a free one",
        set: |config, text| address(&mut config.listen.grpc, text),
        get: |config| Some(config.listen.grpc.to_string()),
    },
    Key {
        name: "http_listen",
        value: "IP:PORT",
        help: "HTTP: /healthz, /readyz, /metrics. Port 0 takes a free one",
        set: |config, text| address(&mut config.listen.http, text),
        get: |config| Some(config.listen.http.to_string()),
    },
    Key {
        name: "insecure_no_auth",
        value: "true|false",
        help: "Listen beyond this machine although nobody has to prove who they are",
        set: |config, text| switch(&mut config.listen.insecure_no_auth, text),
        get: |config| Some(config.listen.insecure_no_auth.to_string()),
    },
    Key {
        name: "insecure_no_tls",
        value: "true|false",
        help: "Listen beyond this machine although nothing is encrypted",
        set: |config, text| switch(&mut config.listen.insecure_no_tls, text),
        get: |config| Some(config.listen.insecure_no_tls.to_string()),
    },
    Key {
        name: "lease_ttl",
        value: "DURATION",
        help: "How long a silent worker keeps its jobs (1s to 1h); they run again elsewhere at most 1 s later. Heartbeats come every third of it",
        set: |config, text| time(&mut config.lease.ttl, text, SECOND..=HOUR),
        get: |config| Some(duration::format(config.lease.ttl)),
    },
    Key {
        name: "drain_timeout",
        value: "DURATION",
        help: "Time from the first SIGTERM or SIGINT to the end of the process, whatever the clients do (1s to 10m)",
        set: |config, text| time(&mut config.listen.drain_timeout, text, SECOND..=SECOND.saturating_mul(600)),
        get: |config| Some(duration::format(config.listen.drain_timeout)),
    },
    Key {
        name: "handshake_timeout",
        value: "DURATION",
        help: "Time for a new connection to start speaking the protocol (100ms to 10m)",
        set: |config, text| {
            time(&mut config.listen.handshake_timeout, text, MILLISECONDS_100..=SECOND.saturating_mul(600))
        },
        get: |config| Some(duration::format(config.listen.handshake_timeout)),
    },
    Key {
        name: "max_connections",
        value: "N",
        help: "Open connections on the gRPC port; further ones are refused. The HTTP port takes 1,000 at most",
        set: |config, text| number(&mut config.listen.max_connections, text, 1..=1_000_000),
        get: |config| Some(config.listen.max_connections.to_string()),
    },
    Key {
        name: "max_streams",
        value: "N",
        help: "Calls and streams open at once on one gRPC connection; further ones wait",
        set: |config, text| number(&mut config.listen.max_streams, text, 1..=1_000_000),
        get: |config| Some(config.listen.max_streams.to_string()),
    },
    Key {
        name: "log_format",
        value: "auto|text|json",
        help: "How log events are written to stderr; auto = text on a terminal, else JSON",
        set: |config, text| {
            let formats = [("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json)];
            one_of(&mut config.log.format, text, &formats)
        },
        get: |config| {
            Some(
                match config.log.format {
                    LogFormat::Auto => "auto",
                    LogFormat::Text => "text",
                    LogFormat::Json => "json",
                }
                .to_owned(),
            )
        },
    },
    Key {
        name: "log_level",
        value: "LEVEL",
        help: "error, warn, info, debug, trace, or directives such as info,jobwire_server=debug",
        set: |config, text| {
            tracing_subscriber::EnvFilter::try_new(text)
                .map_err(|_| format!("`{text}` is not a level; write error, warn, info, debug or trace"))?;
            config.log.level = text.to_owned();
            Ok(())
        },
        get: |config| Some(config.log.level.clone()),
    },
];

const MILLISECONDS_100: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);

fn one_of<T: Copy>(field: &mut T, text: &str, choices: &[(&str, T)]) -> Result<(), String> {
    match choices.iter().find(|(name, _)| *name == text) {
        Some((_, choice)) => {
            *field = *choice;
            Ok(())
        }
        None => {
            let names = choices.iter().map(|(name, _)| *name).collect::<Vec<_>>();
            Err(format!("`{text}` is none of {}", names.join(", ")))
        }
    }
}

fn secret(field: &mut Option<Secret>, text: &str) -> Result<(), String> {
    if text == HIDDEN {
        return Err(format!("{HIDDEN} stands for a password that was not shown; write it"));
    }
    *field = Some(Secret::new(text));
    Ok(())
}

fn address(field: &mut SocketAddr, text: &str) -> Result<(), String> {
    let written = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.to_owned(),
    };
    *field = written.parse().map_err(|_| {
        format!("`{text}` is not an address; write IP:PORT, as 127.0.0.1:7420, [::1]:7420 or 0.0.0.0:7420")
    })?;
    Ok(())
}

fn switch(field: &mut bool, text: &str) -> Result<(), String> {
    one_of(field, text, &[("true", true), ("false", false), ("1", true), ("0", false)])
}

fn time(field: &mut Duration, text: &str, range: RangeInclusive<Duration>) -> Result<(), String> {
    let value = duration::parse(text)?;
    if !range.contains(&value) {
        let (least, most) = (duration::format(*range.start()), duration::format(*range.end()));
        return Err(format!("`{text}` is out of range; {least} to {most}"));
    }
    *field = value;
    Ok(())
}

fn number<T: FromStr + PartialOrd + Display>(
    field: &mut T,
    text: &str,
    range: RangeInclusive<T>,
) -> Result<(), String> {
    match text.parse() {
        Ok(value) if range.contains(&value) => {
            *field = value;
            Ok(())
        }
        _ => Err(format!("`{text}` is not a number from {} to {}", range.start(), range.end())),
    }
}
