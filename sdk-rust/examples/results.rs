//! Results, failures and waiting: typed outputs, what is an error, and a call across the queue.
use jobwire::prelude::*;

#[derive(Serialize, Deserialize)]
struct Divide {
    a: i64,
    b: i64,
}

impl Task for Divide {
    const TYPE: &'static str = "divide";
    type Output = i64;
}

async fn divide(ctx: Ctx<Divide>) -> Result<i64, JobError> {
    let Divide { a, b } = *ctx.input();
    a.checked_div(b).ok_or_else(|| JobError::non_retryable("division by zero").kind("ZeroDivision"))
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let client = Client::from_env()?;
    let worker = tokio::spawn(Worker::builder(client.clone()).handle(divide).run_until(std::future::pending()));
    // [results]
    let job = client.enqueue(Divide { a: 84, b: 2 }).await?;
    let quotient: i64 = job.result().timeout(secs(20)).await?;
    println!("84 / 2 = {quotient}");
    match client.run(Divide { a: 1, b: 0 }).wait(secs(20)).await {
        Ok(quotient) => println!("1 / 0 = {quotient}"),
        Err(Error::JobFailed { state, failure, .. }) => println!("{state}: {failure}"),
        Err(Error::JobCancelled { .. } | Error::JobExpired { .. }) => println!("it never ended"),
        Err(error) => return Err(error), // no server, no such job, the wait was too long, …
    }
    // [/results]
    // [by-id]
    let job = client.job(job.id()).typed::<i64>(); // from an id, in another process
    println!("{} with {}", job.status().await?.state, job.result().await?);
    // [/by-id]
    worker.abort();
    Ok(())
}
