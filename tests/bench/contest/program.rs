//! A program of a system: a producer that obeys commands, or a worker. Ended with everything it has started.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use super::system::{Role, System};
use crate::{Failure, usage};

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(180);
/// Longest wait for a worker to end by itself.
const FAREWELL: Duration = Duration::from_secs(8);

pub struct Program {
    child: Child,
    commands: Option<ChildStdin>,
    answers: Lines<BufReader<ChildStdout>>,
    log: PathBuf,
}

impl Program {
    /// Starts it on the store at `url`; what it complains of goes into a file below `dir`.
    pub fn start(system: System, role: Role, url: &str, pad: &str, dir: &Path) -> Result<Self, Failure> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("the crate lies in the repository")?;
        let (program, arguments, cwd) = system.command(role, root);
        let log = dir.join(if role == Role::Produce { "producer.log" } else { "worker.log" });
        let mut command = Command::new(&program);
        command.args(arguments).current_dir(cwd.as_deref().unwrap_or(root)).envs(system.environment(root));
        command.env("BENCH_URL", url).env("BENCH_PAD", pad).env("BENCH_DELAYS", delays(dir));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(&log)?);
        let spawned = command.kill_on_drop(true).spawn();
        let mut child = spawned.map_err(|error| format!("{} cannot be started: {error}", program.display()))?;
        let commands = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().ok_or("it is piped")?).lines();
        Ok(Self { child, commands, answers, log })
    }

    /// The line with which a producer says that it is there.
    pub async fn greeting(&mut self) -> Result<Value, Failure> {
        let line = timeout(PATIENCE, self.answers.next_line()).await;
        let line = line.map_err(|_| "no answer in time")??.ok_or_else(|| self.complaint())?;
        Ok(serde_json::from_str(&line)?)
    }

    /// Has a producer do something; the jobs that it has put in.
    pub async fn ask(&mut self, command: Value) -> Result<u64, Failure> {
        let pipe = self.commands.as_mut().ok_or("it is piped")?;
        pipe.write_all(format!("{command}\n").as_bytes()).await?;
        pipe.flush().await?;
        let answer = self.greeting().await?;
        answer["jobs"].as_u64().ok_or_else(|| format!("no number of jobs in {answer}").into())
    }

    /// The process and all that it has started.
    pub fn pids(&self) -> Vec<u32> {
        self.child.id().map(usage::tree).unwrap_or_default()
    }

    /// Ends it as an operator would.
    pub async fn stop(mut self) -> Result<(), Failure> {
        drop(self.commands.take());
        signal(self.child.id().into_iter(), Signal::TERM);
        // What takes longer is killed when this is dropped.
        let _ = timeout(FAREWELL, self.child.wait()).await;
        Ok(())
    }

    /// The end of what it wrote.
    pub fn complaint(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let start = text.char_indices().rev().nth(2_000).map_or(0, |(at, _)| at);
        format!("the program ended or was stuck: {}", text[start..].trim())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        signal(self.pids().into_iter(), Signal::KILL);
    }
}

fn signal(pids: impl Iterator<Item = u32>, signal: Signal) {
    for pid in pids.filter_map(|pid| Pid::from_raw(pid as i32)) {
        // Gone already: fine.
        let _ = kill_process(pid, signal);
    }
}

/// Where handlers write how long their jobs were under way, µs a line.
pub fn delays(dir: &Path) -> PathBuf {
    dir.join("delays")
}
