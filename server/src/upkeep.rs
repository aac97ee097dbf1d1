//! `jobwire store`: looking after a store itself. No server is asked; the store is opened as `serve` would open it.
use std::{path::PathBuf, process::ExitCode, sync::Arc};

use crate::{
    config::{Flags, Loaded, StorePlace},
    engine::clock::SystemClock,
    model::time::SECOND,
    store::{
        SharedStore, StoreError,
        embedded::{self, EmbeddedStore},
        redis::{self, RedisStore},
    },
};

mod check;
pub mod copy;

/// A lease that is handed out by upkeep, in milliseconds: the default of servers.
const LEASE_MS: i64 = 30 * SECOND;

/// Exit code of a command that could not do its work.
const COULD_NOT: u8 = 2;

/// Commands for a store.
#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// Hold counters and indexes against the jobs; Redis beside its servers, an embedded store while none has it
    Check(check::Check),
    /// Copy everything of one store into an empty one, while no server has either
    Copy(copy::Copy),
}

/// How the way to a Redis is completed: not part of the URL, or not to be seen in it.
#[derive(clap::Args, Clone, Debug, Default)]
struct Secrets {
    /// For a Redis whose URL has no password; better as a variable
    #[arg(long, value_name = "SECRET")]
    redis_password: Option<String>,
    /// For sentinels that want one of their own
    #[arg(long, value_name = "SECRET")]
    redis_sentinel_password: Option<String>,
}

/// Runs one command to its exit code.
pub fn run(command: Command) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("jobwire: cannot start threads: {error}");
            return ExitCode::from(COULD_NOT);
        }
    };
    let done = runtime.block_on(async {
        tokio::select! {
            done = async {
                match command {
                    Command::Check(check) => check::run(check).await,
                    Command::Copy(copy) => copy::run(copy).await,
                }
            } => done,
            _ = tokio::signal::ctrl_c() => Ok(130),
        }
    });
    runtime.shutdown_background();
    ExitCode::from(done.unwrap_or_else(|why| {
        eprintln!("jobwire: {why}");
        COULD_NOT
    }))
}

/// A store that was opened.
struct Opened {
    store: SharedStore,
    /// As people know it; passwords are left out.
    name: String,
}

/// Opens a store that is written as for `serve`. What is not given comes from the environment, and from the file that
/// JOBWIRE_CONFIG names. Errors: a sentence.
async fn open(
    place: Option<&str>,
    prefix: Option<&str>,
    secrets: &Secrets,
    new: Option<redis::Options>,
) -> Result<Opened, String> {
    let mut flags = Flags::default();
    let values = [
        ("store", place),
        ("redis_prefix", prefix),
        ("redis_password", secrets.redis_password.as_deref()),
        ("redis_sentinel_password", secrets.redis_sentinel_password.as_deref()),
    ];
    for (key, value) in values {
        flags.values.extend(value.map(|value| (key, value.to_owned())));
    }
    let loaded = Loaded::load(&flags, |name| std::env::var(name).ok()).map_err(|error| error.to_string())?;
    let config = loaded.config.store;
    match &config.place {
        StorePlace::Memory => Err("the memory store lives in its server: there is nothing to open".to_owned()),
        StorePlace::Embedded(dir) => {
            if new.is_none() && !dir.is_dir() {
                return Err(format!("{} is not there; --store embedded:DIR names the directory", dir.display()));
            }
            let store = embedded(dir.clone()).await.map_err(|error| error.to_string())?;
            Ok(Opened { store, name: format!("embedded:{}", dir.display()) })
        }
        StorePlace::Redis(target) => {
            let target = config.redis_target().unwrap_or_else(|| Ok(target.clone()))?;
            let name = format!("{target}, prefix {}", target.prefix);
            let opened = match new {
                Some(options) => RedisStore::open_with(&target, options).await,
                None => RedisStore::open_existing(&target).await,
            };
            let store = opened.map_err(|error| error.to_string())?;
            Ok(Opened { store: Arc::new(store), name })
        }
    }
}

async fn embedded(dir: PathBuf) -> Result<SharedStore, StoreError> {
    let options = embedded::Options { lease_ms: LEASE_MS, ..embedded::Options::default() };
    let opened =
        tokio::task::spawn_blocking(move || EmbeddedStore::open(&dir, options, Arc::new(SystemClock::default())));
    let opened = opened.await.map_err(|error| StoreError::Unavailable(format!("opening it failed: {error}")))?;
    opened.map(|store| store as SharedStore)
}
