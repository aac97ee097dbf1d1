//! The command line's nouns and verbs against a real server.
mod cli_support;

use std::{io::Write as _, process::Stdio};

use cli_support::{Done, LONG, Server};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use jobwire_proto::v1::{
    Failure, LeaseJobsRequest, LogLevel, LogLine, LogReport, Outcome, Payload, Progress, ProgressReport,
    ReportJobsRequest, outcome, payload::Body, worker_service_client::WorkerServiceClient,
};

fn id_of(done: &Done) -> String {
    done.json()["jobId"].as_str().expect("an id").to_owned()
}

#[test]
fn a_job_is_enqueued_seen_and_listed() {
    let server = Server::start(&[]);
    let payload = "{\"to\": \"ada\", \"n\": 1.50}";
    let words = ["enqueue", "mail.send", payload, "-q", "mail", "--tag", "a", "--priority", "-2"];
    let answer = server.run(&words).exits(0);
    assert_eq!(answer.json()["state"], "JOB_STATE_READY");
    let id = id_of(&answer);

    let job = &server.run(&["job", "get", &id]).exits(0).json()["job"];
    assert_eq!(job["spec"]["queue"], "mail");
    assert_eq!(job["spec"]["priority"], -2);
    assert_eq!(job["spec"]["payload"]["json"]["to"], "ada");
    let page = server.run(&["job", "get", &id, "-o", "table"]).exits(0).out;
    assert!(page.contains(&format!("payload       {payload}\n")), "exactly as written: {page}");

    assert_eq!(server.run(&["job", "ls", "queue", "=", "mail", "-o", "id"]).exits(0).out, format!("{id}\n"));
    assert_eq!(server.run(&["job", "ls", "state = DEAD"]).exits(0).json()["jobs"], serde_json::Value::Null);
    assert_eq!(server.run(&["job", "ls", "state = DEAD", "-o", "table"]).exits(0).out, "No jobs.\n");
    let table = server.run(&["job", "ls", "-o", "table"]).exits(0).out;
    assert!(table.starts_with("ID ") && table.contains(&id) && !table.contains('\u{1b}'), "{table}");
}

#[test]
fn the_same_id_twice_is_one_job() {
    let server = Server::start(&[]);
    let words = ["enqueue", "x", "1", "--id", "019ab2c4-7d1e-7003-9c55-5b1f0e6a4d21"];
    let first = server.run(&words).exits(0);
    let second = server.run(&words).exits(0);
    assert_eq!(id_of(&first), id_of(&second));
    assert_eq!(second.json()["status"], "ENQUEUE_STATUS_DUPLICATE");
    let other = server.run(&["enqueue", "x", "2", "--id", "019ab2c4-7d1e-7003-9c55-5b1f0e6a4d21"]).exits(6);
    assert!(other.err.contains("ID_CONFLICT") && other.err.contains("jobwire job get ID"), "{}", other.err);
}

#[test]
fn many_jobs_come_from_lines() {
    let server = Server::start(&[]);
    let mut child = server
        .command(&["enqueue", "bulk", "--many"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut input = child.stdin.take().expect("a pipe");
    for n in 0..2_500 {
        writeln!(input, "{{\"n\":{n}}}").expect("written");
    }
    drop(input);
    let done = Done::of(child.wait_with_output().expect("ends")).exits(0);
    assert_eq!(done.json()["createdCount"], 2_500);
    assert_eq!(done.json()["results"].as_array().map(Vec::len), Some(2_500));

    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("jobs.jsonl");
    std::fs::write(&file, "1\n\n{oops\n").expect("written");
    let refused = server.run(&["enqueue", "bulk", file.to_str().expect("a name"), "--many"]).exits(2);
    assert!(refused.err.contains("line 3: the payload is not JSON"), "{}", refused.err);

    let listed = server.run(&["job", "ls", "queue = bulk", "-o", "id"]).exits(0);
    assert_eq!(listed.out.lines().count(), 100);
    assert!(listed.err.contains("there may be more: --limit N"), "{}", listed.err);
    let all = server.run(&["job", "ls", "queue = bulk", "-o", "id", "--limit", "5000"]).exits(0);
    assert_eq!(all.out.lines().count(), 2_500);
    assert_eq!(all.err, "");
}

#[test]
fn changes_of_many_are_counted_and_need_a_yes() {
    let server = Server::start(&[]);
    for n in ["1", "2", "3"] {
        server.run(&["enqueue", "x", n]).exits(0);
    }
    let counted = server.run(&["job", "cancel", "--filter", "queue = x", "--dry-run"]).exits(0);
    assert_eq!(counted.json()["result"]["matchedCount"], 3);
    let asked = server.run(&["job", "cancel", "--filter", "queue = x"]).exits(2);
    assert!(asked.err.contains("3 match, such as") && asked.err.contains("add --yes"), "{}", asked.err);
    assert_eq!(
        server.run(&["job", "ls", "state = READY", "-o", "id"]).exits(0).out.lines().count(),
        3,
        "nothing changed"
    );

    let two = server.run(&["job", "cancel", "--filter", "queue = x", "--yes", "--limit", "2"]).exits(0);
    assert_eq!(two.json()["result"]["affectedCount"], 2);
    assert_eq!(server.run(&["job", "ls", "state = CANCELLED", "-o", "id"]).exits(0).out.lines().count(), 2);

    let again = server.run(&["job", "retry", "--filter", "state = CANCELLED", "--yes", "-o", "table"]).exits(0);
    assert_eq!(again.out, "2 started again\n");
    let gone = server.run(&["job", "rm", "--filter", "*", "--yes", "-o", "table"]).exits(0);
    assert_eq!(gone.out, "3 deleted\n");
    assert_eq!(
        server.run(&["job", "cancel", "--filter", "*", "--yes", "-o", "table"]).exits(0).out,
        "0 cancelled, or asked to stop\n"
    );
}

#[test]
fn one_job_is_cancelled_waited_for_and_deleted_by_id() {
    let server = Server::start(&[]);
    let id = id_of(&server.run(&["enqueue", "x"]).exits(0));
    let waited = server.run(&["job", "wait", &id, "--timeout", "10ms"]).exits(7);
    assert!(waited.err.contains(&format!("jobwire job wait {id}")), "{}", waited.err);
    let kept = server.run(&["job", "rm", &id]);
    assert!(kept.err.contains("--force") || kept.code == 6, "{kept:?}");
    server.run(&["job", "cancel", &id, "--reason", "no need"]).exits(0);
    let ended = server.run(&["job", "wait", &id]).exits(1);
    assert!(ended.err.contains("CANCELLED") && ended.err.contains("no need"), "{}", ended.err);
    assert_eq!(ended.out, "");
    server.run(&["job", "rm", &id]).exits(0);
    let gone = server.run(&["job", "get", &id]).exits(3);
    assert!(gone.err.contains("JOB_NOT_FOUND") && gone.err.contains("jobwire job ls"), "{}", gone.err);
}

#[test]
fn wrong_input_names_the_field_and_exits_2() {
    let server = Server::start(&[]);
    let refused = server.run(&["enqueue", "no spaces please"]).exits(2);
    assert!(refused.err.contains("type"), "{}", refused.err);
    server.run(&["job", "get", "not-a-uuid"]).exits(2);
    server.run(&["job", "ls", "state ="]).exits(2);
    server.run(&["enqueue", "x", "--delay", "soon"]).exits(2);
    server.run(&["job", "frobnicate"]).exits(2);
    let shell = server.run(&["enqueue", "x", "{name:Ada}"]).exits(2);
    assert!(shell.err.contains("not JSON"), "{}", shell.err);
}

#[test]
fn queues_are_paused_resumed_and_purged() {
    let server = Server::start(&[]);
    server.run(&["enqueue", "x"]).exits(0);
    server.run(&["queue", "pause", "x", "--reason", "disk full", "--for", "5m"]).exits(0);
    let queue = &server.run(&["queue", "get", "x"]).exits(0).json()["queue"];
    assert_eq!((&queue["paused"], &queue["pauseReason"]), (&true.into(), &"disk full".into()));
    let table = server.run(&["queue", "ls", "-o", "table"]).exits(0).out;
    assert!(table.contains("paused: disk full, resumes in "), "{table}");
    server.run(&["queue", "resume", "x"]).exits(0);
    assert_eq!(server.run(&["queue", "get", "x"]).exits(0).json()["queue"].get("paused"), None);

    let counted = server.run(&["queue", "purge", "x", "--dry-run"]).exits(0);
    assert_eq!(counted.json()["result"]["matchedCount"], 1);
    server.run(&["queue", "purge", "x"]).exits(2);
    assert_eq!(server.run(&["queue", "purge", "x", "--yes", "-o", "table"]).exits(0).out, "1 dropped\n");
    server.run(&["queue", "get", "nobody.knows"]).exits(3);
}

/// Takes the next job of the type as a worker would, and says what a handler says: each thing when `seen` has shown the
/// one before.
async fn work(server: &Server, kind: &str, outcome: outcome::Result, mut seen: impl AsyncFnMut(&str)) {
    let mut worker = WorkerServiceClient::connect(format!("http://{}", server.grpc)).await.expect("connects");
    seen("READY").await;
    let lease = LeaseJobsRequest {
        types: vec![kind.to_owned()],
        max_jobs: 1,
        wait: Some(prost_types::Duration { seconds: 20, nanos: 0 }),
        ..LeaseJobsRequest::default()
    };
    let leases = worker.lease_jobs(lease).await.expect("leases").into_inner().jobs;
    let lease_token = leases.first().expect("a job in time").lease_token.clone();
    seen("RUNNING").await;
    let told = Progress { percent: Some(40.0), message: "resizing".into(), ..Progress::default() };
    let line = LogLine { level: LogLevel::Warn as i32, message: "almost full".into(), ..LogLine::default() };
    let report = ReportJobsRequest {
        progress: vec![ProgressReport { lease_token: lease_token.clone(), progress: Some(told), ..Default::default() }],
        logs: vec![LogReport { lease_token: lease_token.clone(), lines: vec![line] }],
        ..ReportJobsRequest::default()
    };
    worker.report_jobs(report).await.expect("told");
    seen("resizing").await;
    seen("almost full").await;
    let outcome = Outcome { lease_token, result: Some(outcome), ..Outcome::default() };
    let report = ReportJobsRequest { outcomes: vec![outcome], ..ReportJobsRequest::default() };
    let answer = worker.report_jobs(report).await.expect("reported").into_inner();
    assert!(answer.rejections.is_empty(), "{answer:?}");
}

fn succeeded(result: &str) -> outcome::Result {
    let result = Payload { body: Some(Body::Text(result.to_owned())), ..Payload::default() };
    outcome::Result::Succeeded(jobwire_proto::v1::Succeeded { result: Some(result) })
}

fn failed(message: &str) -> outcome::Result {
    let failure = Failure { r#type: "smtp.Timeout".into(), message: message.into(), ..Failure::default() };
    outcome::Result::Failed(jobwire_proto::v1::Failed { failure: Some(failure), ..Default::default() })
}

/// `jobwire WORDS…` while a worker does one job.
async fn run_with_worker(server: &Server, words: &[&str], kind: &str, outcome: outcome::Result) -> Done {
    let child = server.command(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    work(server, kind, outcome, async |_| {}).await;
    Done::of(child.wait_with_output().expect("ends"))
}

/// The same, the worker going on when the follower has told of what came before.
async fn follow_with_worker(server: &Server, words: &[&str], kind: &str, outcome: outcome::Result) -> Done {
    let mut command = tokio::process::Command::from(server.command(words));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    let mut told = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    let mut err = String::new();
    work(server, kind, outcome, async |word| {
        while !err.contains(word) {
            let line = tokio::time::timeout(LONG, told.next_line()).await.expect("in time").expect("UTF-8");
            err.push_str(&line.unwrap_or_else(|| panic!("no {word} in {err}")));
            err.push('\n');
        }
    })
    .await;
    while let Some(line) = told.next_line().await.expect("UTF-8") {
        err.push_str(&line);
        err.push('\n');
    }
    let done = Done::of(child.wait_with_output().await.expect("ends"));
    Done { err, ..done }
}

#[tokio::test]
async fn run_prints_the_result_and_follow_tells_on_the_way() {
    let server = Server::start(&[]);
    let plain =
        run_with_worker(&server, &["run", "greet", "{\"name\":\"Ada\"}"], "greet", succeeded("{\"hi\":\"Ada\"}"));
    let plain = plain.await.exits(0);
    assert_eq!((plain.out.as_str(), plain.err.as_str()), ("{\"hi\":\"Ada\"}\n", ""));

    let told = follow_with_worker(&server, &["run", "greet", "--follow"], "greet", succeeded("[1, 2]")).await.exits(0);
    assert_eq!(told.out, "[1, 2]\n");
    for part in ["RUNNING  attempt 1 of 20", "40 %  resizing", "WARN  almost full", "SUCCEEDED"] {
        assert!(told.err.contains(part), "{part:?} in {}", told.err);
    }

    let words = ["run", "greet", "--retries", "0", "-f"];
    let dead = follow_with_worker(&server, &words, "greet", failed("no answer")).await.exits(1);
    assert_eq!(dead.out, "");
    assert_eq!(dead.err.matches("40 %  resizing").count(), 1, "{}", dead.err);
    assert!(dead.err.contains("DEAD after 1 attempt: smtp.Timeout: no answer"), "{}", dead.err);

    let json =
        run_with_worker(&server, &["run", "greet", "-o", "json"], "greet", succeeded("{\"a\":1}")).await.exits(0);
    assert_eq!(json.json()["result"]["json"]["a"], 1.0);
    let late = server.run(&["run", "nobody", "--wait", "10ms", "--follow"]).exits(7);
    assert!(late.err.contains("time is up"), "{}", late.err);
}

#[tokio::test]
async fn the_log_of_a_job_is_shown_and_followed() {
    let server = Server::start(&[]);
    let id = id_of(&server.run(&["enqueue", "greet"]).exits(0));
    let words = ["job", "logs", &id, "-f", "-o", "table"];
    let followed = run_with_worker(&server, &words, "greet", succeeded("1")).await.exits(0);
    assert!(followed.out.trim_end().ends_with("WARN  almost full"), "{followed:?}");
    let shown = server.run(&["job", "logs", &id]).exits(0);
    assert_eq!(shown.json()["message"], "almost full");
    assert_eq!(server.run(&["job", "logs", &id, "--level", "error"]).exits(0).out, "");
    let watched = server.run(&["job", "watch", &id]).exits(0);
    assert!(watched.out.lines().last().expect("a line").contains("\"state\":\"JOB_STATE_SUCCEEDED\""), "{watched:?}");
}

#[test]
fn without_a_server_one_is_told_how_to_start_one() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let done = Done::of(
        cli_support::jobwire().args(["--url", &format!("jobwire://{free}"), "queue", "ls"]).output().expect("runs"),
    );
    assert_eq!(done.exits(4).err, format!("jobwire: No Jobwire server at {free}. Start one: jobwire dev\n"));
    let done = Done::of(cli_support::jobwire().args(["--url", "redis://x", "health"]).output().expect("runs")).exits(2);
    assert!(done.err.contains("jobwire://HOST:PORT"), "{}", done.err);
}

#[test]
fn the_second_of_two_servers_answers_if_the_first_is_gone() {
    let server = Server::start(&[]);
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let urls = format!("jobwire://{free},jobwire://{}", server.grpc);
    let done = Done::of(cli_support::jobwire().args(["health", "--url", &urls]).output().expect("runs"));
    assert_eq!(done.exits(0).out, "serving\n");
}

#[tokio::test]
async fn an_interrupted_run_says_how_to_stop_the_job() {
    let server = Server::start(&[]);
    let mut command = tokio::process::Command::from(server.command(&["run", "nobody", "--follow"]));
    let mut child = command.stderr(Stdio::piped()).spawn().expect("starts");
    let mut told = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    assert_eq!(told.next_line().await.expect("UTF-8").as_deref(), Some("READY"));
    let pid = Pid::from_raw(child.id().expect("it runs") as i32).expect("a process");
    kill_process(pid, Signal::INT).expect("it is there");
    let last = told.next_line().await.expect("UTF-8").expect("a line");
    assert!(last.contains("the job goes on. Stop it: jobwire job cancel "), "{last}");
    assert_eq!(child.wait().await.expect("ends").code(), Some(130));
    assert_eq!(server.run(&["job", "ls", "state = READY", "-o", "id"]).exits(0).out.lines().count(), 1);
}
