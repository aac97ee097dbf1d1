//! Cancelling: a waiting job ends at once, a running one is told and obeys, with the reason.
use jobwire::prelude::*;
use tokio::sync::Notify;

#[derive(Serialize, Deserialize)]
struct Render {
    frames: u32,
}

impl Task for Render {
    const TYPE: &'static str = "render";
    type Output = u32;
}

// [handler]
async fn render(ctx: Ctx<Render>, State(started): State<std::sync::Arc<Notify>>) -> Result<u32, JobError> {
    started.notify_one();
    let work = tokio::time::sleep(hours(1)); // any future; it is dropped when the select ends
    tokio::select! {
        () = work => Ok(ctx.input().frames),
        () = ctx.cancelled() => {
            println!("told to stop: {:?}, {}", ctx.cancel_reason(), ctx.cancel_message());
            Err(JobError::cancelled())
        }
    }
}
// [/handler]

#[tokio::main]
async fn main() -> Result<(), Error> {
    let client = Client::from_env()?;
    let started = std::sync::Arc::new(Notify::new());
    let worker = Worker::builder(client.clone()).state(started.clone()).handle(render);
    let worker = tokio::spawn(worker.run_until(std::future::pending()));
    let running = client.enqueue(Render { frames: 24 }).await?;
    let waiting = client.enqueue(Render { frames: 24 }).delay(hours(1)).await?;
    started.notified().await;
    // [cancel]
    for job in [&waiting, &running] {
        job.cancel("user left", secs(30)).await?; // 30 s for the handler to stop
        match job.result().await {
            Err(Error::JobCancelled { message, .. }) => println!("cancelled: {message}"),
            other => println!("it ended first: {other:?}"),
        }
    }
    // [/cancel]
    waiting.retry().await?; // runs it again, now
    println!("the waiting one is {} once more", waiting.status().await?.state);
    worker.abort();
    Ok(())
}
