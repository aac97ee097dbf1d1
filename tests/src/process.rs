//! A child process with its output captured.
use std::{
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
    time::Duration,
};

pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};

use crate::{
    log::Log,
    wait::{LONG, wait_for},
};

/// The root of the repository.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in the repository").to_owned()
}

/// Where cargo puts programs of this build: `jobwire`, `examples/…`.
pub fn build_dir() -> PathBuf {
    let test = std::env::current_exe().expect("the test knows its own path");
    test.ancestors().nth(2).expect("tests are in deps/ of the build directory").to_owned()
}

/// A running child. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// Its standard output.
    pub out: Log,
    /// Its standard error.
    pub err: Log,
}

impl Process {
    /// Starts `command` without the `JOBWIRE_*` settings of whoever runs the tests.
    ///
    /// # Panics
    /// When there is no such program; the message says how it is built.
    pub fn start(command: Command) -> Self {
        let mut process = Self::spawn(command, Stdio::null());
        process.out.follow(process.child.stdout.take().expect("a pipe"));
        process
    }

    /// The same for a program that is talked to: `out` stays empty, its input and output are the caller's.
    ///
    /// # Panics
    /// When there is no such program.
    pub fn talk(command: Command) -> (Self, ChildStdin, ChildStdout) {
        let mut process = Self::spawn(command, Stdio::piped());
        let (input, output) = (process.child.stdin.take(), process.child.stdout.take());
        (process, input.expect("a pipe"), output.expect("a pipe"))
    }

    fn spawn(mut command: Command, input: Stdio) -> Self {
        let own: Vec<_> = command.get_envs().map(|(name, _)| name.to_owned()).collect();
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("JOBWIRE_") && !own.contains(&name) {
                command.env_remove(name);
            }
        }
        command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| {
            panic!("{} cannot be started: {error}; run `make build`", command.get_program().display())
        });
        let err = Log::default();
        err.follow(child.stderr.take().expect("a pipe"));
        Self { child, out: Log::default(), err }
    }

    /// Process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal; nothing happens if it has ended.
    pub fn signal(&self, signal: Signal) {
        let _ = kill_process(Pid::from_raw(self.child.id() as i32).expect("a process"), signal);
    }

    /// The status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("it is a child of this process")
    }

    /// Waits for the end.
    ///
    /// # Panics
    /// When it takes longer than `within`.
    #[track_caller]
    pub fn wait(&mut self, within: Duration) -> ExitStatus {
        let mut status = None;
        wait_for("the process ends", within, || {
            status = self.ended();
            status.is_some()
        });
        status.expect("waited for")
    }

    /// Kills with SIGKILL and waits for the end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits for a line of standard output.
    ///
    /// # Panics
    /// When the process ends first, or after 20 s; the message shows its standard error.
    #[track_caller]
    pub fn first_line(&mut self) -> String {
        wait_for("a first line", LONG, || !self.out.lines().is_empty() || self.ended().is_some());
        self.out.lines().into_iter().next().unwrap_or_else(|| panic!("it ended: {}", self.err.lines().join("\n")))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
