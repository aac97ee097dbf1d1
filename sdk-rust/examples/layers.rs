//! Handlers as tower services: layers around all of them, and states inside.
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use jobwire::RawCtx;
use jobwire::prelude::*;

#[derive(Serialize, Deserialize)]
struct Count;

impl Task for Count {
    const TYPE: &'static str = "count";
    type Output = usize;
}

// [states]
async fn count(_: Ctx<Count>, State(counter): State<Arc<AtomicUsize>>) -> Result<usize, JobError> {
    Ok(counter.fetch_add(1, Ordering::SeqCst) + 1)
}
// [/states]

#[tokio::main]
async fn main() -> Result<(), Error> {
    let client = Client::from_env()?;
    // [layers]
    let worker = Worker::builder(client.clone())
        .state(Arc::new(AtomicUsize::new(0)))
        .handle(count)
        .layer(tower::limit::GlobalConcurrencyLimitLayer::new(2)) // the first layer is outermost
        .layer(tower::timeout::TimeoutLayer::new(secs(30)))
        .layer(tower::util::MapRequestLayer::new(|ctx: RawCtx| {
            println!("job of type {}, attempt {}", ctx.job_type(), ctx.attempt());
            ctx
        }));
    // [/layers]
    let worker = tokio::spawn(worker.run_until(std::future::pending()));
    client.run(Count).await?;
    println!("ran {} times", client.run(Count).await?);
    worker.abort();
    Ok(())
}
