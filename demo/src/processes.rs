//! The processes of the demo: a server that is killed and comes back, two workers, a producer.
use std::{
    env,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, Command},
};

/// How long the server stays away after it was killed.
const AWAY: Duration = Duration::from_millis(500);

#[derive(Deserialize)]
struct Ready {
    listening: String,
}

pub struct Server {
    process: Child,
    listening: String,
}

impl Server {
    /// On the embedded store in `data`, on `address` or a free port of the loopback.
    pub async fn start(data: &Path, address: Option<&str>) -> Result<Self> {
        let mut process = Command::new(program("JOBWIRE_BIN")?)
            .arg("serve")
            .arg("--store")
            .arg(format!("embedded:{}", data.display()))
            .args(["--listen", address.unwrap_or("127.0.0.1:0"), "--http-listen", "127.0.0.1:0"])
            .args(["--log-level", "error"])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start the server")?;
        let mut lines = BufReader::new(process.stdout.take().expect("its output is piped")).lines();
        let line = lines.next_line().await?.context("the server ended before it was ready")?;
        let ready: Ready = serde_json::from_str(&line)?;
        Ok(Self { process, listening: ready.listening })
    }

    pub fn url(&self) -> String {
        format!("jobwire://{}", self.listening)
    }

    /// Kills it with -9 and starts it again, same port and data. Says how long it was away.
    pub async fn kill_and_restart(&mut self, data: &Path) -> Result<Duration> {
        let began = Instant::now();
        self.process.kill().await?;
        tokio::time::sleep(AWAY).await;
        *self = Self::start(data, Some(&self.listening)).await?;
        Ok(began.elapsed())
    }

    pub async fn stop(mut self) -> Result<()> {
        stop(&mut self.process).await
    }
}

/// Starts what the variable names, with a script if it is an interpreter.
pub fn start_worker(variable: &str, script: Option<&str>, url: &str) -> Result<Child> {
    let mut command = Command::new(program(variable)?);
    command.args(script).env("JOBWIRE_URL", url).kill_on_drop(true);
    command.spawn().with_context(|| format!("cannot start {variable}"))
}

/// Starts the Node producer and hands it the names of the files.
pub async fn start_producer(url: &str, files: &[PathBuf]) -> Result<Child> {
    let mut producer = Command::new("node")
        .arg("demo/producer.mjs")
        .env("JOBWIRE_URL", url)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("cannot start node")?;
    let names: String = files.iter().map(|path| format!("{}\n", path.display())).collect();
    let mut input = producer.stdin.take().expect("its input is piped");
    input.write_all(names.as_bytes()).await?;
    input.shutdown().await?;
    Ok(producer)
}

/// Asks a process to end, as a deploy would, and expects a clean end.
pub async fn stop(process: &mut Child) -> Result<()> {
    let pid = process.id().and_then(|pid| Pid::from_raw(pid as i32)).context("it has ended already")?;
    kill_process(pid, Signal::TERM)?;
    let status = process.wait().await?;
    ensure!(status.success(), "a process did not drain cleanly: {status}");
    Ok(())
}

fn program(variable: &str) -> Result<PathBuf> {
    env::var_os(variable).map(PathBuf::from).with_context(|| format!("{variable} is not set: use `make demo`"))
}
