//! One Redis.
use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, OnceLock},
    time::Duration,
};

use redis::{Client, Connection, FromRedisValue, RedisResult};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::{
    port::Port,
    process::Process,
    settings::{DEFAULTS, Settings},
    wait_for,
};

/// Longest wait for something that should happen at once, on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(20);
/// How often another port is tried when somebody was faster.
const TRIES: usize = 5;

/// A `redis-server` of its own: port, directory, settings. Methods take `&self`, so that one can be shared by threads and
/// stand in a static.
#[derive(Debug)]
pub struct Redis {
    port: Port,
    bus: Option<Port>,
    settings: Mutex<Settings>,
    sentinel: bool,
    process: Mutex<Option<Process>>,
    dir: TempDir,
}

impl Redis {
    /// Starts one and waits until it answers.
    ///
    /// # Panics
    /// When there is no `redis-server`, or when it does not start; the message shows its log.
    pub fn start(settings: Settings) -> Self {
        Self::start_kind(settings, Kind::Single)
    }

    /// The one that every test of this process shares: defaults, started when first asked for. Use a prefix of your own.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Redis> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(Settings::new()))
    }

    /// Starts a replica of this one and waits until it has all the data.
    pub fn start_replica(&self, settings: Settings) -> Self {
        let replica = Self::start(settings.set("replicaof", &format!("127.0.0.1 {}", self.port.number())));
        replica.in_sync();
        replica
    }

    pub(crate) fn start_kind(settings: Settings, kind: Kind) -> Self {
        let mut complaint = String::new();
        for _ in 0..TRIES {
            let dir = tempfile::Builder::new().prefix("jobwire-redis-").tempdir().expect("a directory");
            let bus = (kind == Kind::Node).then(Port::free);
            let sentinel = kind == Kind::Sentinel;
            let settings = Mutex::new(settings.clone());
            let redis = Self { port: Port::free(), bus, settings, sentinel, process: Mutex::default(), dir };
            redis.write_settings();
            if redis.settings().has_clock() {
                redis.set_clock(0);
            }
            redis.launch();
            match redis.answers() {
                Ok(()) => return redis,
                Err(log) if log.contains("Address already in use") => complaint = log,
                Err(log) => panic!("redis-server does not start:\n{log}"),
            }
        }
        panic!("redis-server found no free port in {TRIES} tries:\n{complaint}");
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// `redis://[user:password@]127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        let settings = self.settings();
        match settings.credentials() {
            (_, None) => format!("redis://{}", self.address()),
            (user, Some(password)) => format!("redis://{}:{password}@{}", user.unwrap_or_default(), self.address()),
        }
    }

    /// [`Redis::url`] for a user of [`Settings::user`].
    pub fn url_of(&self, user: &str, password: &str) -> String {
        format!("redis://{user}:{password}@{}", self.address())
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Process id.
    ///
    /// # Panics
    /// When it does not run.
    pub fn pid(&self) -> u32 {
        self.process.lock().expect("no panic in between").as_ref().expect("it runs").id()
    }

    /// The port of the Cluster's own traffic.
    pub(crate) fn bus(&self) -> u16 {
        self.bus.as_ref().expect("it is a node of a Cluster").number()
    }

    /// A connection whose calls are given up after 2 s.
    ///
    /// # Errors
    /// When nobody answers, when the password is wrong, and so on.
    pub fn connect(&self) -> RedisResult<Connection> {
        const PATIENCE: Duration = Duration::from_secs(2);
        let connection = Client::open(self.url())?.get_connection_with_timeout(PATIENCE)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        connection.set_write_timeout(Some(PATIENCE))?;
        Ok(connection)
    }

    /// Sends one command on a connection of its own.
    ///
    /// # Errors
    /// What Redis says, or that it does not answer within 2 s.
    pub fn try_query<T: FromRedisValue>(&self, command: &[&str]) -> RedisResult<T> {
        let (name, arguments) = command.split_first().expect("a command has a name");
        redis::cmd(name).arg(arguments).query(&mut self.connect()?)
    }

    /// [`Redis::try_query`] that must succeed.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn query<T: FromRedisValue>(&self, command: &[&str]) -> T {
        self.try_query(command).unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    /// [`Redis::query`] whose answer does not matter.
    ///
    /// # Panics
    /// When it is an error.
    #[track_caller]
    pub fn run(&self, command: &[&str]) {
        self.query::<redis::Value>(command);
    }

    /// One field of `INFO section`; None: not there, or nobody answers.
    pub fn info(&self, section: &str, field: &str) -> Option<String> {
        let text: String = self.try_query(&["INFO", section]).ok()?;
        text.lines().find_map(|line| Some(line.strip_prefix(field)?.strip_prefix(':')?.to_owned()))
    }

    /// `CONFIG SET`.
    #[track_caller]
    pub fn configure(&self, name: &str, value: &str) {
        self.run(&["CONFIG", "SET", name, value]);
    }

    /// Changes the settings of the next start, and of no earlier one.
    pub fn settings_from_next_start(&self, change: impl FnOnce(Settings) -> Settings) {
        let mut settings = self.settings.lock().expect("no panic in between");
        *settings = change(settings.clone());
        drop(settings);
        self.write_settings();
    }

    /// SIGKILL; returns when it is gone. Nothing happens if it is not there.
    pub fn kill(&self) {
        drop(self.process.lock().expect("no panic in between").take());
    }

    /// SIGTERM: it writes what it has and ends.
    ///
    /// # Panics
    /// When it does not end within 20 s.
    pub fn terminate(&self) {
        let mut process = self.process.lock().expect("no panic in between");
        let Some(running) = process.as_mut() else { return };
        running.signal(Signal::TERM);
        wait_for("Redis ends", LONG, || running.ended());
        *process = None;
    }

    /// SIGSTOP: it keeps its connections and answers nobody until [`Redis::thaw`].
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        if let Some(running) = self.process.lock().expect("no panic in between").as_mut() {
            running.signal(signal);
        }
    }

    /// Starts it after [`Redis::kill`] or [`Redis::terminate`], on the same port and data, and waits until it has loaded
    /// them.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_again(&self) {
        self.launch();
        self.wait_until_it_answers();
    }

    /// [`Redis::start_again`] without its data: another Redis on the same port.
    pub fn start_empty(&self) {
        assert!(self.process.lock().expect("no panic in between").is_none(), "it runs");
        for entry in fs::read_dir(self.dir()).expect("its directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                fs::remove_dir_all(&path).expect("it can be removed");
            } else if path.extension().is_some_and(|extension| extension == "rdb") {
                fs::remove_file(&path).expect("it can be removed");
            }
        }
        self.start_again();
    }

    /// Starts the process and does not wait: it may load its data for a while. See [`Redis::wait_until_it_answers`].
    ///
    /// # Panics
    /// When it runs already.
    pub fn launch(&self) {
        let mut process = self.process.lock().expect("no panic in between");
        assert!(process.is_none(), "it runs");
        let mut command = Command::new(program());
        command.arg(self.conf()).current_dir(self.dir());
        if self.settings().has_clock() {
            // The monotonic clock goes on as it does.
            command.env("LD_PRELOAD", self.preload()).env("JOBWIRE_CLOCK", self.clock());
        }
        if self.sentinel {
            command.arg("--sentinel");
        }
        *process = Some(Process::start(command, self.dir()));
    }

    /// Sets its clock so many seconds before or after the true time, from now on. Only with
    /// [`Settings::own_clock`](crate::Settings::own_clock).
    pub fn set_clock(&self, offset_s: i64) {
        // In one step: a half-written file is no time.
        let new = self.dir.path().join("clock.new");
        fs::write(&new, format!("{offset_s:+}")).expect("the directory is there");
        fs::rename(new, self.clock()).expect("the directory is there");
    }

    fn clock(&self) -> PathBuf {
        self.dir.path().join("clock")
    }

    /// The library that reads the clock, made for this one.
    fn preload(&self) -> PathBuf {
        let (source, library) = (self.dir.path().join("clock.c"), self.dir.path().join("clock.so"));
        fs::write(&source, include_str!("clock.c")).expect("the directory is there");
        let mut compiler = Command::new("cc");
        compiler.args(["-O1", "-shared", "-fPIC", "-o"]).arg(&library).arg(source);
        assert!(compiler.status().is_ok_and(|status| status.success()), "there is a C compiler, as for building Rust");
        library
    }

    /// Waits until it has loaded its data and answers.
    ///
    /// # Panics
    /// When it ends, or after 20 s.
    #[track_caller]
    pub fn wait_until_it_answers(&self) {
        if let Err(log) = self.answers() {
            panic!("redis-server does not start:\n{log}");
        }
    }

    /// Waits until this replica has caught up with its master.
    #[track_caller]
    pub fn in_sync(&self) {
        wait_for("the replica has its master's data", LONG, || {
            self.info("replication", "master_link_status").is_some_and(|status| status == "up")
        });
    }

    fn answers(&self) -> Result<(), String> {
        let mut ended = false;
        wait_for("Redis answers", LONG, || {
            ended = self.process.lock().expect("no panic in between").as_mut().is_none_or(Process::ended);
            ended || self.try_query::<String>(&["PING"]).is_ok()
        });
        if ended { Err(self.log()) } else { Ok(()) }
    }

    /// What it has written to its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir().join("redis.log")).unwrap_or_default()
    }

    fn conf(&self) -> PathBuf {
        self.dir().join("redis.conf")
    }

    fn settings(&self) -> Settings {
        self.settings.lock().expect("no panic in between").clone()
    }

    fn write_settings(&self) {
        let mut place = vec![
            ("bind", "127.0.0.1".to_owned()),
            ("port", self.port.number().to_string()),
            ("dir", self.dir().display().to_string()),
            ("logfile", "redis.log".to_owned()),
        ];
        if let Some(bus) = &self.bus {
            place.push(("cluster-port", bus.number().to_string()));
        }
        let settings = self.settings();
        // A sentinel knows few directives.
        let defaults: &[_] = if self.sentinel { &[] } else { &DEFAULTS };
        fs::write(self.conf(), settings.file(defaults, &place)).expect("its directory is ours");
    }
}

/// What a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Single,
    Node,
    Sentinel,
}

/// `redis-server`: `REDIS_SERVER`, or the one on the path, or the one in the repository's `.tools`.
///
/// # Panics
/// When there is none; the message says how to get it.
pub fn program() -> PathBuf {
    if let Some(named) = env::var_os("REDIS_SERVER") {
        return named.into();
    }
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/bin");
    let path = env::var_os("PATH").unwrap_or_default();
    let mut places = env::split_paths(&path).chain([tools]).map(|dir| dir.join("redis-server"));
    places.find(|place| place.is_file()).unwrap_or_else(|| {
        panic!("no redis-server (7.0 or newer) on the path: run `make setup`, or set REDIS_SERVER to one");
    })
}
