//! A worker process: probes, a drain at SIGTERM, an exit code. This one sends itself the signal once it is at work.
use std::sync::Arc;

use jobwire::prelude::*;
use tokio::sync::Notify;

#[derive(Serialize, Deserialize)]
struct Long;

impl Task for Long {
    const TYPE: &'static str = "long";
    type Output = String;
}

async fn long(ctx: Ctx<Long>, State(started): State<Arc<Notify>>) -> Result<String, JobError> {
    started.notify_one();
    ctx.cancelled().await; // the grace is over: 2 s are left to save what was done
    ctx.save_checkpoint(&"half")?;
    println!("stopped because of {:?}", ctx.cancel_reason());
    Err(JobError::cancelled()) // released: it runs elsewhere, and no attempt was used
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::from_env()?;
    let started = Arc::new(Notify::new());
    let job = client.enqueue(Long).await?;
    let signalled = started.clone();
    tokio::spawn(async move {
        signalled.notified().await;
        let pid = std::process::id().to_string();
        std::process::Command::new("kill").args(["-TERM", &pid]).status().expect("kill is there");
    });
    // [run]
    let health = std::net::TcpListener::bind("127.0.0.1:0")?; // .health(9000) in a container
    Worker::builder(client.clone())
        .state(started)
        .handle(long)
        .health(health) // /livez, /readyz, /metrics
        .grace(millis(200)) // 25 s by default, below Kubernetes' 30
        .run() // until SIGTERM or SIGINT; a second one ends at once
        .await?;
    // [/run]
    let info = job.status().await?;
    println!("{} after delivery {}, {} attempts used", info.state, info.delivery, info.attempt);
    // [exit]
    std::process::exit(0) // does not wait for handlers that block a thread
    // [/exit]
}
