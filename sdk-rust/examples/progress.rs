//! Progress, log lines and checkpoints of a running job, seen from outside as events.
use futures::StreamExt;
use jobwire::prelude::*;
use jobwire::{JobEvent, Progress};
use tracing_subscriber::prelude::*;

#[derive(Serialize, Deserialize)]
struct Import {
    rows: i64,
}

impl Task for Import {
    const TYPE: &'static str = "import";
    type Output = i64;
    fn options() -> Options {
        Options::new().retry(Retry::exponential(3, millis(10)))
    }
}

// [handler]
async fn import(ctx: Ctx<Import>) -> Result<i64, JobError> {
    let rows = ctx.input().rows;
    let begin: i64 = ctx.checkpoint()?.unwrap_or(0); // where an earlier attempt stopped
    tracing::info!(begin, "importing"); // goes to the job's log as well
    for row in begin..rows {
        ctx.check_cancelled()?;
        ctx.report(Progress::counts(row + 1, rows).message("importing"));
        ctx.save_checkpoint(&(row + 1))?;
        if row + 1 == rows / 2 && ctx.attempt() == 1 {
            return Err(JobError::new("the disk was full"));
        }
    }
    Ok(rows - begin)
}
// [/handler]

#[tokio::main]
async fn main() -> Result<(), Error> {
    // [logs]
    tracing_subscriber::registry().with(jobwire::job_logs()).init();
    // [/logs]
    let client = Client::from_env()?;
    let worker = tokio::spawn(Worker::builder(client.clone()).handle(import).run_until(std::future::pending()));
    // [events]
    let job = client.enqueue(Import { rows: 10 }).await?;
    let mut events = job.events();
    while let Some(event) = events.next().await {
        match event? {
            JobEvent::State(info) => println!("state {}", info.state),
            JobEvent::Progress(progress) => println!("progress {} of {}", progress.current, progress.total),
            JobEvent::Log(line) => println!("log {:?} {}", line.level, line.message),
            _ => {} // what later versions add
        }
    }
    // [/events]
    println!("the second attempt did {} rows", job.result().await?);
    worker.abort();
    Ok(())
}
