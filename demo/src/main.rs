//! `make demo`: a Node producer enqueues one `file.digest` job per real file; a Python worker computes statistics and asks a
//! Rust worker, through the server, for the checksums. One job in twenty fails once on purpose. In the middle the server
//! is killed with -9 and started again. At the end everything is checked against a direct computation.
//!
//! Environment: `DEMO_DIR` (default: the repository), `JOBWIRE_BIN`, `DEMO_WORKER`, `DEMO_PYTHON` (set by the Makefile).
mod checksum;
mod files;
mod processes;

use std::{
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use jobwire::Client;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::processes::{Server, start_producer, start_worker, stop};

/// What the Python worker answers: its own statistics and the Rust worker's checksums.
#[derive(Debug, Deserialize)]
struct Digest {
    lines: u64,
    words: u64,
    entropy: f64,
    #[serde(flatten)]
    checksums: checksum::Checksums,
}

/// A line of the producer.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Line {
    Enqueued { enqueued: u64 },
    Done { path: PathBuf, result: Digest, attempt: u32, id: String },
    Failed { path: PathBuf, error: String },
}

struct Done {
    path: PathBuf,
    digest: Digest,
    attempt: u32,
    id: String,
}

#[tokio::main]
async fn main() -> Result<()> {
    let root = env::var_os("DEMO_DIR").map_or_else(|| PathBuf::from("."), PathBuf::from);
    let root = root.canonicalize().with_context(|| format!("DEMO_DIR {}", root.display()))?;
    let files = files::below(&root)?;
    ensure!(!files.is_empty(), "there are no files below {}", root.display());
    println!("{} files below {}", files.len(), root.display());

    let data = tempfile::tempdir()?;
    let mut server = Server::start(data.path(), None).await?;
    println!("server   embedded store in a temporary folder, {}", server.url());
    let mut python = start_worker("DEMO_PYTHON", Some("demo/worker.py"), &server.url())?;
    let mut rust = start_worker("DEMO_WORKER", None, &server.url())?;
    println!("workers  Python: statistics · Rust: checksums");
    println!("producer Node: one file.digest job per file\n");

    let began = Instant::now();
    let (done, downtime) = run(&files, &mut server, data.path()).await?;
    let elapsed = began.elapsed();
    for child in [&mut python, &mut rust] {
        stop(child).await?;
    }
    let summary = summarise(&server.url(), &done, elapsed, downtime).await?;
    server.stop().await?;
    let checked = check(&files, &done)?;
    println!("{summary}\nchecked  {checked} digests against a direct computation: all equal");
    Ok(())
}

/// Runs the producer to its end, killing the server when two fifths of the files are done.
async fn run(files: &[PathBuf], server: &mut Server, data: &Path) -> Result<(Vec<Done>, Duration)> {
    let mut producer = start_producer(&server.url(), files).await?;
    let mut lines = BufReader::new(producer.stdout.take().expect("its output is piped")).lines();
    let bars = MultiProgress::new();
    let style = ProgressStyle::with_template("{prefix:9} {bar:40} {pos:>6}/{len} {msg}").expect("a valid template");
    let bar =
        |name: &'static str| bars.add(ProgressBar::new(files.len() as u64).with_style(style.clone()).with_prefix(name));
    let (enqueued_bar, done_bar) = (bar("enqueued"), bar("digested"));
    let mut done = Vec::with_capacity(files.len());
    let mut downtime = None;
    while let Some(line) = lines.next_line().await? {
        match serde_json::from_str(&line).with_context(|| format!("the producer wrote {line}"))? {
            Line::Enqueued { enqueued } => enqueued_bar.set_position(enqueued),
            Line::Done { path, result, attempt, id } => {
                done.push(Done { path, digest: result, attempt, id });
                done_bar.inc(1);
            }
            Line::Failed { path, error } => bail!("{}: {error}", path.display()),
        }
        if downtime.is_none() && done.len() * 5 >= files.len() * 2 {
            let at = done.len();
            downtime = Some(server.kill_and_restart(data).await?);
            bars.println(format!("The server was killed with -9 after {at} files and is back. Nothing is lost."))?;
        }
    }
    ensure!(producer.wait().await?.success(), "the producer failed");
    enqueued_bar.finish();
    done_bar.finish();
    ensure!(done.len() == files.len(), "{} of {} files are digested", done.len(), files.len());
    Ok((done, downtime.expect("the server was killed on the way")))
}

/// What happened, in words and numbers.
async fn summarise(url: &str, done: &[Done], elapsed: Duration, downtime: Duration) -> Result<String> {
    let client = Client::connect(url)?;
    let mut slowest = (Duration::ZERO, Path::new(""));
    for item in done {
        let record = client.job(&item.id).status().await?;
        let took = record.finish_time.zip(record.create_time).and_then(|(end, start)| end.duration_since(start).ok());
        slowest = slowest.max((took.unwrap_or_default(), item.path.as_path()));
    }
    let retried = done.iter().filter(|item| item.attempt > 1).count();
    let unlucky = done.iter().filter(|item| files::is_unlucky(&item.path)).count();
    ensure!(retried == unlucky, "{unlucky} jobs were to fail once, {retried} were retried");
    let jobs = 2 * done.len();
    let rows = BTreeMap::from([
        (
            "jobs",
            format!(
                "{jobs}: {} digests (Python), {} checksums (Rust), enqueued by Node and Python",
                done.len(),
                done.len()
            ),
        ),
        ("retries", format!("{retried}, of {unlucky} that failed once on purpose")),
        ("restart", format!("1, killed with -9, away for {:.1} s", downtime.as_secs_f64())),
        ("time", format!("{:.1} s, {:.0} jobs per second", elapsed.as_secs_f64(), jobs as f64 / elapsed.as_secs_f64())),
        ("slowest", format!("{} took {:.1} s from enqueue to end", files::short(slowest.1), slowest.0.as_secs_f64())),
    ]);
    let order = ["jobs", "retries", "restart", "time", "slowest"];
    Ok(order.iter().map(|name| format!("{name:8} {}\n", rows[name])).collect())
}

/// Computes everything again, without jobs.
fn check(files: &[PathBuf], done: &[Done]) -> Result<usize> {
    let found: BTreeMap<&Path, &Digest> = done.iter().map(|item| (item.path.as_path(), &item.digest)).collect();
    for path in files {
        let digest = found.get(path.as_path()).with_context(|| format!("{} was not digested", path.display()))?;
        let again = || format!("reading {} again", path.display());
        let (lines, words, entropy) = files::statistics(path).with_context(again)?;
        ensure!(
            digest.checksums == checksum::of(path).with_context(again)?,
            "the checksums of {} differ",
            path.display()
        );
        ensure!((digest.lines, digest.words) == (lines, words), "the counts of {} differ", path.display());
        ensure!((digest.entropy - entropy).abs() < 1e-5, "the entropy of {} differs", path.display());
    }
    Ok(files.len())
}
