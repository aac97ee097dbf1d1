//! Every example runs against a real server and says what it should.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use jobwire_server::testing::{TestServer, server};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

const PATIENCE: Duration = Duration::from_secs(60);

/// What each one prints: all of these, besides other lines. `axum` is a server; `conformance_worker` is started by the
/// conformance suite.
const EXAMPLES: [(&str, &[&str]); 14] = [
    ("hello", &["Hello, Ada!"]),
    ("options", &["UNIQUE_CONFLICT: Some(", "scheduled in queue mail, priority 2, tags [\"tenant:acme\"]"]),
    (
        "retries",
        &[
            "200: attempt 1 succeeded",
            "429: attempt 2 succeeded",
            "202: attempt 1 succeeded",
            "204: NoContent: nothing there",
            "404: jobwire::classify::HttpError: HTTP status 404",
            "206: std::io::error::Error: cut off",
        ],
    ),
    ("progress", &["log Info importing", "progress 10 of 10", "state succeeded", "the second attempt did 5 rows"]),
    ("results", &["84 / 2 = 42", "dead: ZeroDivision: division by zero", "succeeded with 42"]),
    ("cancel", &["told to stop: Some(Requested), user left", "cancelled: user left", "the waiting one is"]),
    ("blocking", &["1229 primes below 10,000"]),
    ("bulk", &["2500 enqueued, 0 refused", "500 enqueued by callers", "3000 enqueued from a stream"]),
    (
        "schedules",
        &[
            "created: true",
            "At 02:30, Monday to Friday, Europe/Berlin: 3 times",
            "everything for nightly of 0 s ago",
            "10 ticks in two weeks",
            "paused: [\"nightly\"]",
        ],
    ),
    ("batch", &["inserted [0, 1, 2, 3, 4] at once", "sent to ada", "nobody has no phone", "took longer than 2s"]),
    ("testing", &["all of them hold"]),
    ("shutdown", &["stopped because of Some(Shutdown)", "ready after delivery 1, 0 attempts used"]),
    ("telemetry", &["enqueue greet (Producer)", "process greet (Consumer)"]),
    ("layers", &["job of type count, attempt 1", "ran 2 times"]),
];

fn command(name: &str, server: &TestServer) -> Command {
    let tests = std::env::current_exe().expect("this program");
    let path: PathBuf = tests.parent().and_then(Path::parent).expect("target/debug").join("examples").join(name);
    assert!(path.exists(), "{} is not there: cargo build -p jobwire --examples", path.display());
    let mut command = Command::new(path);
    command.env("JOBWIRE_URL", server.url()).kill_on_drop(true);
    command
}

async fn run(name: &str) -> Output {
    let server = server().await;
    let output = tokio::time::timeout(PATIENCE, command(name, &server).output()).await;
    output.unwrap_or_else(|_| panic!("{name} does not end")).expect("it starts")
}

#[tokio::test]
async fn examples_do_what_they_say() {
    for (name, lines) in EXAMPLES {
        let output = run(name).await;
        let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{name} failed:\n{said}{errors}");
        for line in lines {
            assert!(said.contains(line), "{name} does not say {line:?}:\n{said}{errors}");
        }
    }
}

#[tokio::test]
async fn the_web_application_enqueues_and_answers() {
    let server = server().await;
    let mut command = command("axum", &server);
    let mut app = command.env("LISTEN", "127.0.0.1:0").stdout(Stdio::piped()).spawn().expect("it starts");
    let mut lines = BufReader::new(app.stdout.take().expect("piped")).lines();
    let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("in time").expect("read");
    let address = line.expect("a line").trim_start_matches("http://").to_owned();
    let (status, id) = call(&address, "POST", "/pictures", r#"{"path":"a.png"}"#).await;
    assert_eq!(status, 202, "{id}");
    let path = format!("/jobs/{id}");
    tokio::time::timeout(PATIENCE, async {
        while call(&address, "GET", &path, "").await != (200, r#"a.png.small"#.to_owned()) {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the picture is resized");
    let unknown = "/jobs/01890000-0000-7000-8000-000000000000";
    assert_eq!(call(&address, "GET", unknown, "").await.0, 404);
}

/// One HTTP request: status and body.
async fn call(address: &str, method: &str, path: &str, body: &str) -> (u16, String) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("it listens");
    let length = body.len();
    let head =
        format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n");
    stream.write_all(format!("{head}content-length: {length}\r\n\r\n{body}").as_bytes()).await.expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, body.to_owned())
}

#[test]
fn no_example_is_forgotten() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let files = std::fs::read_dir(dir).expect("examples").map(|entry| entry.expect("an entry").path());
    let names: BTreeSet<String> = files.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect();
    let mut known: BTreeSet<String> = EXAMPLES.iter().map(|(name, _)| (*name).to_owned()).collect();
    known.extend(["axum".to_owned(), "conformance_worker".to_owned()]);
    assert_eq!(names, known);
}
