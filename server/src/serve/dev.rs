//! `jobwire dev`: a server for the machine one works at, and the program one works on, restarted whenever it exits.
use std::{
    io::IsTerminal as _,
    process::{ExitCode, ExitStatus},
    time::Duration,
};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep},
};

use super::{Server, Signals};
use crate::{
    config::{Config, Flags, LogConfig},
    telemetry,
};

/// Longest pause before a program that keeps failing is started again.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A program that ran this long was fine: it is started again at once.
const FINE_AFTER: Duration = Duration::from_secs(5);
/// Time for the program to finish its jobs: a little more than Jobwire's own workers take.
const GRACE: Duration = Duration::from_secs(30);
/// After this long the person is told what is being waited for.
const TELL_AFTER: Duration = Duration::from_secs(1);

/// Arguments of `jobwire dev`.
#[derive(clap::Args, Debug)]
pub struct Dev {
    /// Keep jobs in this directory; short for --store embedded:DIR
    #[arg(long, value_name = "DIR", conflicts_with = "store")]
    data: Option<String>,
    #[command(flatten)]
    flags: Flags,
    /// Program to run beside the server, with JOBWIRE_URL set, restarted when it exits
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

/// `jobwire dev`.
pub fn main(dev: Dev) -> ExitCode {
    let mut flags = dev.flags;
    if let Some(dir) = dev.data {
        flags.values.insert("store", format!("embedded:{dir}"));
    }
    // The banner says what the start log would.
    flags.base = Config { log: LogConfig { level: "warn".to_owned(), ..LogConfig::default() }, ..Config::default() };
    let Some(loaded) = super::load(&flags) else { return ExitCode::from(2) };
    if flags.print {
        print!("{loaded}");
        return ExitCode::SUCCESS;
    }
    telemetry::init(&loaded.config.log);
    super::on_runtime(async {
        let mut signals = Signals::new()?;
        let server = Server::start(&loaded.config).await?;
        let url = format!("jobwire://{}", server.grpc_address);
        eprint!("{}", banner(&server, &url, &dev.command));
        let mut program = Program::new(dev.command, url);
        let mut asked = false;
        let fatal = tokio::select! {
            signal = signals.next() => {
                // Ctrl-C reaches the program too; a second signal would make it hurry.
                asked = signal == "SIGINT" && std::io::stdin().is_terminal();
                None
            }
            error = server.failed() => Some(error),
            stopped = program.keep_running() => return stopped,
        };
        // The program first, so that what it finishes is still written down.
        signals.or_exit(program.stop(asked)).await;
        signals.or_exit(server.stop()).await;
        fatal.map_or(Ok(()), |error| Err(error.into()))
    })
}

fn banner(server: &Server, url: &str, command: &[String]) -> String {
    let default = server.grpc_address == Config::default().listen.grpc;
    let at = if default { String::new() } else { format!("--url {url} ") };
    let program = match command {
        [] => String::new(),
        words => format!("  program     {}\n", words.join(" ")),
    };
    format!(
        "jobwire {} serves {url}\n  durability  {}\n  health      http://{}/readyz\n{program}\nTry:\n  \
         jobwire {at}run greet '{{\"name\":\"Ada\"}}' --follow\n  jobwire {at}queue ls\n  jobwire {at}job ls\n\n",
        env!("CARGO_PKG_VERSION"),
        server.durability,
        server.http_address,
    )
}

/// The program beside the server.
struct Program {
    command: Vec<String>,
    url: String,
    child: Option<Child>,
}

impl Program {
    fn new(command: Vec<String>, url: String) -> Self {
        Self { command, url, child: None }
    }

    /// Starts it again and again. Returns only with an error: it cannot be started at all. Cancel-safe.
    async fn keep_running(&mut self) -> Result<()> {
        let [name, arguments @ ..] = self.command.as_slice() else { return std::future::pending().await };
        let mut pause = Duration::ZERO;
        loop {
            let started = Instant::now();
            let child = Command::new(name)
                .args(arguments)
                .env("JOBWIRE_URL", &self.url)
                .kill_on_drop(true)
                .spawn()
                .with_context(|| format!("cannot start `{name}`"))?;
            let status = self.child.insert(child).wait().await?;
            self.child = None;
            pause = next_pause(pause, started.elapsed());
            eprintln!("jobwire: {name} {}; starting it again{}", ended(status), after(pause));
            sleep(pause).await;
        }
    }

    /// Asks it to finish (unless it was `asked` before), waits, and ends it if it does not.
    async fn stop(&mut self, asked: bool) {
        let Some(child) = &mut self.child else { return };
        if let Some(pid) = child.id().filter(|_| !asked).and_then(|id| Pid::from_raw(id as i32)) {
            // An error means that it has just ended.
            let _ = kill_process(pid, Signal::TERM);
        }
        if tokio::time::timeout(TELL_AFTER, child.wait()).await.is_ok() {
            return;
        }
        let name = &self.command[0];
        eprintln!("jobwire: waiting up to {} s for {name} to finish its jobs; Ctrl-C ends all now", GRACE.as_secs());
        if tokio::time::timeout(GRACE - TELL_AFTER, child.wait()).await.is_err() {
            eprintln!("jobwire: {name} did not end: killed");
            let _ = child.kill().await;
        }
    }
}

/// At once after a good run; else half a second, doubled each time.
fn next_pause(last: Duration, ran: Duration) -> Duration {
    if ran >= FINE_AFTER { Duration::ZERO } else { (last * 2).clamp(Duration::from_millis(500), LONGEST_PAUSE) }
}

fn after(pause: Duration) -> String {
    if pause.is_zero() { String::new() } else { format!(" in {} s", pause.as_secs_f64()) }
}

fn ended(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_keeps_failing_is_started_ever_more_slowly() {
        let mut pause = Duration::ZERO;
        let pauses: Vec<u64> = (0..7)
            .map(|_| {
                pause = next_pause(pause, Duration::from_millis(10));
                pause.as_millis() as u64
            })
            .collect();
        assert_eq!(pauses, [500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000]);
        assert_eq!(next_pause(pause, FINE_AFTER), Duration::ZERO);
    }
}
