//! `serve` and `dev` as processes: start, signals, end.
mod cli_support;

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    process::Stdio,
    time::{Duration, Instant},
};

use cli_support::{Done, LONG, Server, jobwire, until, wait};
use rustix::process::{Pid, Signal, kill_process};

const FREE: [&str; 6] = ["--store", "memory", "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"];

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn serve(words: &[&str]) -> Done {
    Done::of(jobwire().arg("serve").args(words).output().expect("runs"))
}

#[test]
fn a_server_tells_its_ports_is_healthy_and_ends_on_a_signal() {
    for signal in [Signal::TERM, Signal::INT] {
        let server = Server::start(&[]);
        assert_eq!(server.get("/healthz"), (200, "ok\n".to_owned()));
        assert_eq!(server.get("/readyz"), (200, "ready\n".to_owned()));
        assert_eq!(server.get("/nothing").0, 404);
        assert!(server.get("/").1.contains("/metrics"));
        assert_eq!(server.run(&["health"]).exits(0).out, "serving\n");
        let version = server.run(&["version"]).exits(0).out;
        assert!(version.contains("durability memory"), "{version}");
        server.signal(signal);
        let (status, log) = server.ended();
        assert_eq!(status.code(), Some(0), "{log}");
        for part in
            ["\"message\":\"jobwire serves\"", "\"store\":\"memory\"", "no auth, no TLS", "\"message\":\"stopped\""]
        {
            assert!(log.contains(part), "{part} in {log}");
        }
    }
}

#[test]
fn metrics_come_from_the_engine_at_the_moment_of_asking() {
    let server = Server::start(&[]);
    server.run(&["enqueue", "mail", "1"]).exits(0);
    let (status, text) = server.get("/metrics");
    assert_eq!(status, 200);
    for line in [
        "jobwire_jobs{queue=\"mail\",state=\"ready\"} 1",
        "jobwire_jobs_enqueued_total{queue=\"mail\",type=\"mail\"} 1",
        "jobwire_durability_info{level=\"memory\"} 1",
        "jobwire_ready 1",
        "jobwire_streams 0",
    ] {
        assert!(text.contains(&format!("\n{line}\n")), "{line} in\n{text}");
    }
    assert!(text.contains("\nprocess_resident_memory_bytes "), "{text}");
}

#[test]
fn a_stuck_client_does_not_hold_up_the_end() {
    let server = Server::start(&["--drain-timeout", "1s"]);
    let _silent = TcpStream::connect(server.grpc).expect("connects");
    let mut stuck = TcpStream::connect(server.grpc).expect("connects");
    stuck.write_all(PREFACE).expect("written");
    // The server has seen them when it answers both.
    stuck.read_exact(&mut [0; 9]).expect("its settings");
    let asked = Instant::now();
    server.signal(Signal::TERM);
    let (status, log) = server.ended();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(asked.elapsed() < LONG / 2, "{:?}", asked.elapsed());
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let server = Server::start(&["--drain-timeout", "10m"]);
    // A client that does not answer, so that the drain lasts.
    let mut stuck = TcpStream::connect(server.grpc).expect("connects");
    stuck.write_all(PREFACE).expect("written");
    stuck.read_exact(&mut [0; 9]).expect("its settings");
    server.signal(Signal::TERM);
    until("it drains", || TcpStream::connect(server.grpc).is_err());
    server.signal(Signal::TERM);
    let (status, log) = server.ended();
    assert_eq!(status.code(), Some(130), "{log}");
    assert!(log.contains("a second signal: exiting now"), "{log}");
}

#[test]
fn wrong_settings_are_refused_before_anything_happens() {
    let open = serve(&["--listen", "0.0.0.0:0"]).exits(2);
    assert!(open.err.contains("neither authentication nor TLS"), "{}", open.err);
    assert_eq!(open.out, "");
    serve(&["--lease-ttl", "soon"]).exits(2);
    serve(&["--no-such-flag"]).exits(2);
    let level = serve(&["--store", "memory", "--require-durability", "embedded-fsync"]).exits(2);
    assert!(level.err.contains("require_durability is embedded-fsync"), "{}", level.err);
}

#[test]
fn a_port_that_is_taken_is_named() {
    let server = Server::start(&[]);
    let address = server.grpc.to_string();
    let taken = serve(&["--store", "memory", "--listen", &address, "--http-listen", "127.0.0.1:0"]).exits(1);
    assert!(taken.err.contains(&format!("cannot listen on {address}")), "{}", taken.err);
}

#[test]
fn the_configuration_is_printed_with_its_sources() {
    let mut command = jobwire();
    command.args(["serve", "--print-config", "--lease-ttl", "40s"]).env("JOBWIRE_LOG_LEVEL", "debug");
    let printed = Done::of(command.output().expect("runs")).exits(0).out;
    let lines: Vec<&str> = printed.lines().collect();
    assert!(
        lines.iter().any(|line| line.starts_with("lease_ttl = \"40s\"") && line.ends_with("# --lease-ttl")),
        "{printed}"
    );
    assert!(
        lines.iter().any(|line| line.starts_with("log_level = \"debug\"") && line.ends_with("# JOBWIRE_LOG_LEVEL"))
    );
    assert!(lines.iter().any(|line| line.starts_with("store = \"embedded:./jobwire-data\"")), "{printed}");
}

#[test]
fn dev_keeps_a_program_running_beside_the_server() {
    let dir = tempfile::tempdir().expect("a directory");
    let runs = dir.path().join("runs");
    let script = "echo \"$JOBWIRE_URL\" >> \"$0\"; test \"$(wc -l < \"$0\")\" -lt 2 || exec sleep 1000";
    let mut child = jobwire()
        .arg("dev")
        .args(FREE)
        .args(["--", "sh", "-c", script])
        .arg(&runs)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let seen = || std::fs::read_to_string(&runs).unwrap_or_default();
    until("the program was started again", || seen().lines().count() == 2);
    let url = seen().lines().next().expect("a line").to_owned();
    assert!(url.starts_with("jobwire://127.0.0.1:"), "{url}");
    let health = jobwire().args(["health", "--url", &url]).output().expect("runs");
    assert_eq!(Done::of(health).exits(0).out, "serving\n");

    let asked = Instant::now();
    kill_process(Pid::from_raw(child.id() as i32).expect("a process"), Signal::TERM).expect("it is there");
    assert_eq!(wait(&mut child).code(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(9), "the program was asked to end, not waited for");
    let mut told = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut told).expect("read");
    for part in [&url, "durability  memory", "Try:", "jobwire --url", "exited with 0; starting it again"] {
        assert!(told.contains(part), "{part} in {told}");
    }
}

#[test]
fn dev_says_so_when_the_program_cannot_be_started() {
    let done = jobwire().arg("dev").args(FREE).args(["--", "no-such-program-here"]).output().expect("runs");
    let done = Done::of(done).exits(1);
    assert!(done.err.contains("cannot start `no-such-program-here`"), "{}", done.err);
}

#[test]
fn completions_are_printed() {
    for shell in ["bash", "zsh", "fish"] {
        let done = Done::of(jobwire().args(["completions", shell]).output().expect("runs")).exits(0);
        assert!(done.out.contains("jobwire") && done.out.contains("enqueue"), "{shell}");
    }
}
