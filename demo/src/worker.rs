//! The demo's Rust worker: checksums of files.
mod checksum;

use std::path::PathBuf;

use checksum::Checksums;
use jobwire::prelude::*;

/// Asked for by the Python worker, in the middle of its own job.
#[derive(Serialize, Deserialize)]
struct Checksum {
    path: PathBuf,
}

impl Task for Checksum {
    const TYPE: &'static str = "file.checksum";
    type Output = Checksums;
}

async fn checksum_of(ctx: Ctx<Checksum>) -> Result<Checksums, JobError> {
    let path = ctx.input().path.clone();
    Ok(tokio::task::spawn_blocking(move || checksum::of(&path)).await??)
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let client = Client::from_env()?;
    Worker::builder(client).concurrency(32).handle(checksum_of).run_until(jobwire::shutdown_signal()).await
}
