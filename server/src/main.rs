//! `jobwire`: arguments → subcommand. What the commands do is in the library.
use std::{io::Write as _, process::ExitCode};

use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;
use jobwire_server::{
    cli,
    config::Flags,
    serve::{self, dev::Dev},
    upkeep,
};

/// A job is a dozen small allocations, made on one thread and freed on another, where the system's allocator is slow. Without
/// huge pages (`no_thp`), which would double the memory of a server at rest.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const AFTER_HELP: &str = "\
Start here:
  jobwire dev                            a server on this machine
  jobwire run greet '{\"name\":\"Ada\"}'   a job, and its result

Exit codes:
  0 done           1 the job did not succeed   2 usage
  3 not found      4 unreachable               5 denied
  6 refused        7 still running             8 a bug      130 interrupted";

/// Background jobs for any language, over one gRPC contract.
#[derive(Parser, Debug)]
#[command(name = "jobwire", version, max_term_width = 120)]
#[command(after_help = AFTER_HELP)]
struct Arguments {
    #[command(flatten)]
    global: cli::Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run a server
    Serve(Flags),
    /// Run a server for the machine you work at, and your program beside it: jobwire dev -- python tasks.py
    Dev(Dev),
    /// Check a store, or copy it; asks no server
    #[command(subcommand)]
    Store(upkeep::Command),
    #[command(flatten)]
    Client(cli::Command),
    /// Print a completion script for a shell
    Completions { shell: Shell },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.command {
        Command::Serve(flags) => serve::main(&flags),
        Command::Dev(dev) => serve::dev::main(dev),
        Command::Store(command) => upkeep::run(command),
        Command::Client(command) => cli::run(arguments.global, command),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "jobwire", &mut script);
            // A reader that has seen enough, such as `head`, is no failure.
            _ = std::io::stdout().write_all(&script);
            ExitCode::SUCCESS
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }
}
