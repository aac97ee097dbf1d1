//! The command line: nouns and verbs over gRPC, like any other client. Results go to stdout, everything else (progress,
//! questions, errors) to stderr.
use std::{process::ExitCode, time::Duration};

use crate::duration;

mod bulk;
mod configure;
mod confirm;
mod connect;
mod enqueue;
mod exit;
mod flow;
mod follow;
mod health;
mod job;
mod output;
mod queue;
mod schedule;
mod spec;
mod text;
mod worker;

use connect::Server;
use exit::{Exit, Failure};
use output::{Format, Output};

/// Flags of every command.
#[derive(clap::Args, Clone, Debug)]
pub struct Global {
    /// Server: jobwire://HOST[:PORT]; several with commas between, the first that answers is taken
    #[arg(long, global = true, env = "JOBWIRE_URL", hide_env_values = true, default_value = connect::DEFAULT_URL, help_heading = "Global")]
    url: String,
    /// How results are written; default: table on a terminal, else json
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT", help_heading = "Global")]
    output: Option<Format>,
    /// No colours; so does the variable NO_COLOR
    #[arg(long, global = true, help_heading = "Global")]
    no_color: bool,
    /// Longest time for one answer of the server; stands before the command [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, help_heading = "Global")]
    timeout: Option<Duration>,
}

/// Commands that ask a server.
#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// Add a job, or with --many one per line of input
    Enqueue(enqueue::Enqueue),
    /// Add a job, wait for its end, print its result; the exit code is the job's
    Run(follow::Run),
    /// See and repair jobs
    #[command(subcommand)]
    Job(job::Command),
    /// See, pause and empty queues
    #[command(subcommand)]
    Queue(queue::Command),
    /// See and keep recurring jobs
    #[command(subcommand)]
    Schedule(schedule::Command),
    /// See, cancel and repair workflows
    #[command(subcommand)]
    Flow(flow::Command),
    /// See and steer workers
    #[command(subcommand)]
    Worker(worker::Command),
    /// Exit with 0 if the server takes calls
    Health,
    /// Versions of this program and of the server
    Version,
}

/// What a command works with.
struct Context {
    url: String,
    timeout: Duration,
    out: Output,
}

impl Context {
    async fn server(&self) -> Result<Server, Failure> {
        Server::connect(&self.url, self.timeout).await
    }
}

/// Runs one command to its exit code.
pub fn run(global: Global, command: Command) -> ExitCode {
    let context = Context {
        url: global.url,
        timeout: global.timeout.unwrap_or(Duration::from_secs(30)),
        out: Output::new(global.output, global.no_color),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("jobwire: cannot start: {error}");
            return ExitCode::from(Exit::Bug as u8);
        }
    };
    let done = runtime.block_on(async {
        // Those that change or wait say what is left behind.
        if stops_by_itself(&command) {
            return dispatch(&context, command).await;
        }
        tokio::select! {
            done = dispatch(&context, command) => done,
            _ = tokio::signal::ctrl_c() => Ok(Exit::Interrupted),
        }
    });
    runtime.shutdown_background();
    let exit = done.unwrap_or_else(|failure| {
        failure.show();
        failure.exit
    });
    ExitCode::from(exit as u8)
}

async fn dispatch(context: &Context, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Enqueue(enqueue) => enqueue::run(context, enqueue).await,
        Command::Run(run) => follow::run(context, run).await,
        Command::Job(command) => job::run(context, command).await,
        Command::Queue(command) => queue::run(context, command).await,
        Command::Schedule(command) => schedule::run(context, command).await,
        Command::Flow(command) => flow::run(context, command).await,
        Command::Worker(command) => worker::run(context, command).await,
        Command::Health => health::health(context).await,
        Command::Version => health::version(context).await,
    }
}

fn stops_by_itself(command: &Command) -> bool {
    use job::Command as Job;
    matches!(
        command,
        Command::Run(_)
            | Command::Job(Job::Cancel(_) | Job::Retry(_) | Job::Rm(_))
            | Command::Queue(queue::Command::Purge(_))
            | Command::Schedule(schedule::Command::Rm(_))
            | Command::Flow(flow::Command::Cancel { .. } | flow::Command::Retry(_))
    )
}
