//! `jobwire serve` on a Redis: what it says, what it waits for, what it refuses.
use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, Command, Stdio},
};

use jobwire_redis_rig::{Append, Port, Redis, Settings, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::cli_support::{LONG, jobwire, wait};

fn serve(store: &str) -> Command {
    serve_at(store, "127.0.0.1:0")
}

fn serve_at(store: &str, http: &str) -> Command {
    let mut command = jobwire();
    command.args(["serve", "--store", store, "--listen", "127.0.0.1:0", "--http-listen", http]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Ends it when the test does.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Self {
        Self(command.spawn().expect("the program starts"))
    }

    fn ready(&mut self) -> Value {
        let mut line = String::new();
        BufReader::new(self.0.stdout.take().expect("a pipe")).read_line(&mut line).expect("a ready line");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    fn terminate(&self) {
        kill_process(Pid::from_raw(self.0.id() as i32).expect("a process"), Signal::TERM).expect("it is there");
    }

    /// Status and log.
    fn ended(mut self) -> (i32, String) {
        let status = wait(&mut self.0);
        let mut log = String::new();
        self.0.stderr.take().expect("a pipe").read_to_string(&mut log).expect("a log");
        (status.code().expect("not killed"), log)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// The status of a GET; `None` = nobody answers.
fn status(address: &str, path: &str) -> Option<u16> {
    get(address, path)?.split(' ').nth(1)?.parse().ok()
}

fn get(address: &str, path: &str) -> Option<String> {
    use std::io::Write as _;
    let mut stream = std::net::TcpStream::connect(address).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

#[test]
fn the_level_is_in_the_log_and_the_metrics_and_an_outage_is_not_ready() {
    let redis = Redis::start(Settings::new().append(Append::Always).password("open-sesame"));
    let mut server = Running::start(&mut serve(&redis.url()));
    let http = server.ready()["http"].as_str().expect("an address").to_owned();
    assert_eq!(status(&http, "/readyz"), Some(200));
    let metrics = get(&http, "/metrics").expect("metrics");
    for line in ["jobwire_durability_info{level=\"redis-always\"} 1", "jobwire_store_warnings 0", "jobwire_store_up 1"]
    {
        assert!(metrics.contains(line), "{line} in\n{metrics}");
    }
    redis.kill();
    wait_for("it is not ready", LONG, || status(&http, "/readyz") == Some(503));
    assert_eq!(status(&http, "/healthz"), Some(200));
    redis.start_again();
    wait_for("it is ready again", LONG, || status(&http, "/readyz") == Some(200));
    server.terminate();
    let (code, log) = server.ended();
    assert_eq!(code, 0, "{log}");
    assert!(log.contains("redis-always") && !log.contains("sesame"), "{log}");
}

#[test]
fn a_redis_that_is_not_there_yet_is_waited_for() {
    let redis = Redis::start(Settings::new());
    redis.kill();
    let http = Port::free();
    let address = http.address().to_string();
    let mut server = Running::start(&mut serve_at(&redis.url(), &address));
    wait_for("it lives", LONG, || status(&address, "/healthz") == Some(200));
    assert_eq!(status(&address, "/readyz"), Some(503));
    redis.start_again();
    server.ready();
    assert_eq!(status(&address, "/readyz"), Some(200));
    server.terminate();
    let (code, log) = server.ended();
    assert_eq!(code, 0, "{log}");
    assert!(log.contains("waiting for the store"), "{log}");
}

#[test]
fn a_server_that_waits_ends_when_it_is_told_to() {
    let redis = Redis::start(Settings::new());
    redis.kill();
    let http = Port::free();
    let address = http.address().to_string();
    let server = Running::start(&mut serve_at(&redis.url(), &address));
    wait_for("it lives", LONG, || status(&address, "/healthz") == Some(200));
    server.terminate();
    let (code, log) = server.ended();
    assert_eq!(code, 0, "{log}");
    assert!(log.contains("stopped before it served"), "{log}");
}

#[test]
fn what_waiting_cannot_mend_ends_the_start() {
    let redis = Redis::start(Settings::new().password("open-sesame"));
    let url = redis.url();
    for (store, more, words) in [
        (format!("redis://:hunter2@{}", redis.address()), &[][..], "WRONGPASS"),
        (url.clone(), &["--require-durability", "redis-always"], "set appendfsync always in Redis"),
    ] {
        let (code, log) = Running::start(serve(&store).args(more)).ended();
        assert_eq!(code, 1, "{log}");
        assert!(log.contains(words) && !log.contains("hunter2") && !log.contains("sesame"), "{log}");
    }
    let strong = ["--require-durability", "embedded-fsync"];
    let (code, log) = Running::start(serve(&url).args(strong)).ended();
    assert_eq!(code, 2, "{log}");
    assert!(log.contains("give redis-always at most"), "{log}");
    let fits = ["--require-durability", "redis-everysec"];
    Running::start(serve(&url).args(fits)).ready();
}

#[test]
fn servers_with_other_prefixes_do_not_see_each_other() {
    let redis = Redis::shared();
    let url = redis.url();
    let mut server = Running::start(serve(&url).args(["--redis-prefix", "serve.test"]));
    server.ready();
    let keys: Vec<String> = redis.query(&["KEYS", "{serve.test.*"]);
    assert!(!keys.is_empty());
    server.terminate();
    assert_eq!(server.ended().0, 0);
}
