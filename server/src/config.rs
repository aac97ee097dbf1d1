//! The server's configuration: one tree with a default for everything, filled from flags, then `JOBWIRE_*`, then a TOML
//! file, then the defaults. [`keys`] is the one list of settings; flags, variables, file keys and `--print-config` all
//! come from it. Nothing here is global: the tree is passed in.
use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::store::{
    Durability,
    redis::target::{DEFAULT_PREFIX, Secret, Target},
};

mod flags;
mod keys;

pub use flags::Flags;
pub use keys::{KEYS, Key};

/// Everything that can be set.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Config {
    pub store: StoreConfig,
    pub listen: ListenConfig,
    pub lease: LeaseConfig,
    pub log: LogConfig,
}

/// Where jobs are kept.
#[derive(Clone, Debug, PartialEq)]
pub struct StoreConfig {
    pub place: StorePlace,
    /// When the embedded store answers: after the disk has it, or before.
    pub sync: Sync,
    /// Refuse to start below this level.
    pub require: Option<Durability>,
    pub redis: RedisConfig,
}

/// What a Redis store needs besides its URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisConfig {
    /// Begins the name of every key. Servers with the same prefix on the same Redis are one.
    pub prefix: String,
    /// Where the URL has none.
    pub password: Option<Secret>,
    /// For sentinels that want one of their own.
    pub sentinel_password: Option<Secret>,
}

/// `--store`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StorePlace {
    /// Gone when the process ends.
    Memory,
    /// A directory that one server at a time may open.
    Embedded(PathBuf),
    /// As the URL has it; see [`StoreConfig::redis_target`].
    Redis(Target),
}

/// `--durability`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// An acknowledged change survives power loss.
    Fsync,
    /// An acknowledged change survives the death of the process; power loss may cost the last moments.
    Fast,
}

/// The two listeners.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenConfig {
    pub grpc: SocketAddr,
    pub http: SocketAddr,
    /// Open connections on the gRPC port; the next one is refused. The HTTP port takes 1,000 at most.
    pub max_connections: usize,
    /// Streams that one connection may have open at once.
    pub max_streams: u32,
    /// Time for a new connection to say that it speaks the protocol.
    pub handshake_timeout: Duration,
    /// Time between the first signal and the end of the process, whatever the connections do.
    pub drain_timeout: Duration,
    pub insecure_no_auth: bool,
    pub insecure_no_tls: bool,
}

/// How long a worker may be silent.
#[derive(Clone, Debug, PartialEq)]
pub struct LeaseConfig {
    /// Workers send a heartbeat every third of it.
    pub ttl: Duration,
}

/// What is logged and how.
#[derive(Clone, Debug, PartialEq)]
pub struct LogConfig {
    pub format: LogFormat,
    /// A level, or `tracing` directives such as `info,jobwire_server=debug`.
    pub level: String,
}

/// `--log-format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, else JSON.
    Auto,
    Text,
    Json,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            place: StorePlace::Embedded("./jobwire-data".into()),
            sync: Sync::Fsync,
            require: None,
            redis: RedisConfig::default(),
        }
    }
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self { prefix: DEFAULT_PREFIX.to_owned(), password: None, sentinel_password: None }
    }
}

impl Default for ListenConfig {
    fn default() -> Self {
        Self {
            grpc: SocketAddr::from(([127, 0, 0, 1], 7420)),
            http: SocketAddr::from(([127, 0, 0, 1], 7421)),
            max_connections: 10_000,
            max_streams: 1_000,
            handshake_timeout: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(10),
            insecure_no_auth: false,
            insecure_no_tls: false,
        }
    }
}

impl Default for LeaseConfig {
    fn default() -> Self {
        Self { ttl: Duration::from_secs(30) }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::Auto, level: "info".to_owned() }
    }
}

impl StoreConfig {
    /// What an acknowledged change will survive; at most, for a Redis, whose settings are not known before it is asked.
    pub fn durability(&self) -> Durability {
        match (&self.place, self.sync) {
            (StorePlace::Memory, _) => Durability::Memory,
            (StorePlace::Embedded(_), Sync::Fast) => Durability::EmbeddedFast,
            (StorePlace::Embedded(_), Sync::Fsync) => Durability::EmbeddedFsync,
            (StorePlace::Redis(_), _) => Durability::RedisAlways,
        }
    }

    /// The URL with what the other settings add to it. `None` = not a Redis. Errors: a sentence on what is missing.
    pub fn redis_target(&self) -> Option<Result<Target, String>> {
        let StorePlace::Redis(target) = &self.place else { return None };
        let target = target.clone().complete(self.redis.password.as_ref(), self.redis.sentinel_password.as_ref());
        Some(target.map(|target| Target { prefix: self.redis.prefix.clone(), ..target }))
    }
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Flag,
    Env,
    File(PathBuf),
    Default,
}

/// A configuration that was put together, and where each value is from, in the order of [`KEYS`].
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: Config,
    pub sources: Vec<Source>,
}

/// What is wrong, one sentence each. Never empty.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ConfigError(pub Vec<String>);

impl Loaded {
    /// Puts the configuration together. `env` answers for one variable by its full name.
    pub fn load(flags: &Flags, env: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let file = match flags.file.clone().or_else(|| env("JOBWIRE_CONFIG").map(PathBuf::from)) {
            Some(path) => Some((read_file(&path)?, path)),
            None => None,
        };
        let mut config = flags.base.clone();
        let mut sources = Vec::with_capacity(KEYS.len());
        let mut problems = Vec::new();
        for key in KEYS {
            let (text, source) = if let Some(text) = flags.values.get(key.name) {
                (Some(text.clone()), Source::Flag)
            } else if let Some(text) = env(&key.env()).filter(|text| !text.is_empty()) {
                (Some(text), Source::Env)
            } else if let Some((text, path)) =
                file.as_ref().and_then(|(table, path)| Some((table.get(key.name)?, path)))
            {
                (Some(text.clone()), Source::File(path.clone()))
            } else {
                (None, Source::Default)
            };
            if let Some(problem) = text.and_then(|text| (key.set)(&mut config, &text).err()) {
                problems.push(format!("{}: {problem}", key.as_written(&source)));
            }
            sources.push(source);
        }
        if problems.is_empty() {
            problems = config.problems();
        }
        if problems.is_empty() { Ok(Self { config, sources }) } else { Err(ConfigError(problems)) }
    }
}

impl fmt::Display for Loaded {
    /// Every value and where it came from, as a TOML file that would give the same configuration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<(&Key, String)> = KEYS
            .iter()
            .map(|key| match (key.get)(&self.config) {
                Some(text) => (key, format!("{} = {}", key.name, toml::Value::String(text))),
                None => (key, format!("# {} is not set", key.name)),
            })
            .collect();
        let width = lines.iter().map(|(_, line)| line.len()).max().unwrap_or(0);
        for ((key, line), source) in lines.iter().zip(&self.sources) {
            let source = match source {
                Source::Default => "default".to_owned(),
                source => key.as_written(source),
            };
            writeln!(f, "{line:width$}  # {source}")?;
        }
        Ok(())
    }
}

/// The values of a file as text, unknown keys refused.
fn read_file(path: &Path) -> Result<std::collections::BTreeMap<String, String>, ConfigError> {
    let one = |problem: String| ConfigError(vec![format!("{}: {problem}", path.display())]);
    let text = std::fs::read_to_string(path).map_err(|error| one(format!("cannot be read: {error}")))?;
    let table: toml::Table = toml::from_str(&text).map_err(|error| one(error.to_string().trim_end().to_owned()))?;
    let mut problems = Vec::new();
    let mut values = std::collections::BTreeMap::new();
    for (name, value) in table {
        if !KEYS.iter().any(|key| key.name == name) {
            let known = KEYS.iter().map(|key| key.name).collect::<Vec<_>>().join(", ");
            problems.push(format!("{}: unknown key `{name}`; known are {known}", path.display()));
            continue;
        }
        match value {
            toml::Value::String(text) => drop(values.insert(name, text)),
            toml::Value::Integer(number) => drop(values.insert(name, number.to_string())),
            toml::Value::Boolean(yes) => drop(values.insert(name, yes.to_string())),
            _ => problems.push(format!("{}: `{name}` must be a text, a number or true/false", path.display())),
        }
    }
    if problems.is_empty() { Ok(values) } else { Err(ConfigError(problems)) }
}

impl Config {
    /// What does not go together, one sentence each.
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let open: Vec<String> = [("listen", self.listen.grpc), ("http_listen", self.listen.http)]
            .into_iter()
            .filter(|(_, address)| !address.ip().is_loopback())
            .map(|(name, address)| format!("{name} {address}"))
            .collect();
        let accepted = self.listen.insecure_no_auth && self.listen.insecure_no_tls;
        if !open.is_empty() && !accepted {
            problems.push(format!(
                "{} can be reached from other machines, and this version has neither authentication nor TLS: whoever \
                 reaches the port can read, add and delete jobs. Listen on 127.0.0.1, or say so in full with \
                 --insecure-no-auth and --insecure-no-tls",
                open.join(" and ")
            ));
        }
        if self.listen.grpc == self.listen.http && self.listen.grpc.port() != 0 {
            problems.push(format!("listen and http_listen are both {}; they need a port each", self.listen.grpc));
        }
        if let Some(Err(problem)) = self.store.redis_target() {
            problems.push(problem);
        }
        let level = self.store.durability();
        if let Some(wanted) = self.store.require.filter(|wanted| level < *wanted) {
            problems.push(format!(
                "require_durability is {}, but this store and its settings give {} at most",
                wanted.name(),
                level.name()
            ));
        }
        problems
    }
}
