//! `make bench`: what a server does on this machine. Starts release servers on the store that is asked for, loads them
//! through the Rust SDK, and prints each figure beside the one to reach. `docs/benchmarks.md` describes the method.

mod contest;
mod control;
mod figures;
mod load;
mod phases;
mod redis;
mod server;
mod usage;

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;

use contest::{Peer, Role, Sdk};
use figures::Report;
use phases::{Phase, Setting};
use server::Place;

/// Whatever ends the run early, in words.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Measures a Jobwire server on this machine.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where the servers keep their jobs
    #[arg(long, value_enum, default_value_t = Place::Embedded)]
    store: Place,
    /// Redis syncs on every write (`appendfsync always`) instead of every second
    #[arg(long)]
    always: bool,
    /// Compares this SDK, in programs of its own, with the peers that are named; nothing else is measured then
    #[arg(long, value_enum, value_name = "SDK")]
    sdk: Vec<Sdk>,
    /// Another system on the same kind of Redis, to compare SDKs with; and to weigh the jobs of, if it is BullMQ
    #[arg(long, value_enum, value_name = "PEER")]
    peer: Vec<Peer>,
    /// Smaller and shorter phases: about a minute
    #[arg(long)]
    quick: bool,
    /// Runs of each phase; the table gives medians
    #[arg(long, default_value_t = 1)]
    runs: usize,
    /// Only these phases
    #[arg(long, value_enum, value_name = "PHASE")]
    only: Vec<Phase>,
    /// Seed of the payloads
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Handlers that the worker runs at once
    #[arg(long, default_value_t = 1_000)]
    concurrency: usize,
    /// Where servers keep their data: a real disk, not memory. Default: the system's folder for temporary files
    #[arg(long)]
    dir: Option<PathBuf>,
    /// The server's program. Default: `jobwire` beside this one
    #[arg(long)]
    server: Option<PathBuf>,
    /// Jobs in the deep queue
    #[arg(long, default_value_t = 1_000_000)]
    depth: u64,
    /// Is a program of the Rust SDK: what `--sdk rust` starts
    #[arg(long, value_enum, hide = true)]
    sdk_program: Option<Role>,
    /// Where results go, as JSON lines
    #[arg(long, default_value = "bench-results")]
    out: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let done = runtime.map_err(Failure::from).and_then(|runtime| runtime.block_on(run(arguments)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Failure> {
    if let Some(role) = arguments.sdk_program {
        return contest::run_program(role).await;
    }
    let setting = Setting {
        program: match arguments.server {
            Some(program) => program,
            None => std::env::current_exe()?.with_file_name("jobwire"),
        },
        dir: arguments.dir.unwrap_or_else(std::env::temp_dir),
        place: arguments.store,
        always: arguments.always,
        peers: arguments.peer,
        quick: arguments.quick,
        seed: arguments.seed,
        concurrency: arguments.concurrency,
        depth: arguments.depth,
    };
    let mut report = Report::create(&arguments.out, &setting).await?;
    if !arguments.sdk.is_empty() {
        return contest::run(&arguments.sdk, arguments.runs.max(1), &setting, &mut report).await;
    }
    for _ in 0..arguments.runs.max(1) {
        for phase in Phase::ALL {
            let asked = arguments.only.contains(&phase) || (arguments.only.is_empty() && phase.fits(setting.place));
            if asked {
                phases::run(phase, &setting, &mut report).await.map_err(|error| format!("{phase:?}: {error}"))?;
            }
        }
    }
    report.table();
    Ok(())
}
