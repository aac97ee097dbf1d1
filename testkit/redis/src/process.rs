//! A child that cannot outlive the test.
use std::{
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// $0: the process, which leads its group (a Redis has children that write files); $1: its directory. A watchdog that
/// was stopped when its parent ended is sent SIGHUP by the kernel, and has its work to do all the same.
const WATCH: &str = r#"trap '' HUP INT TERM; read -r _; kill -s KILL -- "-$0"
for _ in 1 2 3 4 5 6 7 8; do rm -rf -- "$1" && break; sleep 0.1; done"#;
const STEP: Duration = Duration::from_millis(5);

/// Waits until `holds`, at most for `within`.
///
/// # Panics
/// When the time is up, naming `what`.
#[track_caller]
pub fn wait_for(what: &str, within: Duration, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < within, "not within {within:?}: {what}");
        thread::sleep(STEP);
    }
}

/// A running child in its own process group, and a shell that kills it, and removes its directory, when the pipe
/// between us and the shell breaks: that happens however this process ends.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    watchdog: Child,
}

impl Process {
    pub(crate) fn start(mut command: Command, dir: &Path) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let child = command.spawn().unwrap_or_else(|error| {
            panic!("{} cannot be started: {error}", command.get_program().to_string_lossy());
        });
        let watchdog = Command::new("sh")
            .args(["-c", WATCH])
            .arg(child.id().to_string())
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("there is a shell");
        Self { child, watchdog }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&mut self, signal: Signal) {
        if self.ended() {
            return;
        }
        let _ = kill_process(self.pid(), signal);
    }

    fn pid(&self) -> Pid {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process")
    }

    pub(crate) fn ended(&mut self) -> bool {
        self.child.try_wait().expect("it is a child of this process").is_some()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The watchdog first: the pid is not free for others before the child has been waited for.
        let _ = self.watchdog.kill();
        let _ = self.watchdog.wait();
        // Once it has been waited for, its number may be another's.
        if !self.ended() {
            let _ = kill_process_group(self.pid(), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}
