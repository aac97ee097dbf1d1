//! Work that blocks or computes: a thread of its own for each job, told to stop by a check.
use jobwire::prelude::*;

#[derive(Serialize, Deserialize)]
struct Primes {
    below: u64,
}

impl Task for Primes {
    const TYPE: &'static str = "primes";
    type Output = usize;
    fn options() -> Options {
        Options::new().timeout(mins(1))
    }
}

// [handler]
fn primes(ctx: Ctx<Primes>) -> Result<usize, JobError> {
    let mut count = 0;
    for n in 2..ctx.input().below {
        if n % 1_000 == 0 {
            ctx.check_cancelled()?; // a cancel, the timeout, a shutdown
            ctx.progress(100.0 * n as f64 / ctx.input().below as f64, "sieving");
        }
        count += usize::from((2..).take_while(|d| d * d <= n).all(|d| n % d != 0));
    }
    Ok(count)
}
// [/handler]

#[tokio::main]
async fn main() -> Result<(), Error> {
    let client = Client::from_env()?;
    // [worker]
    let worker = Worker::builder(client.clone()).concurrency(4).handle_blocking(primes);
    // [/worker]
    let worker = tokio::spawn(worker.run_until(std::future::pending()));
    println!("{} primes below 10,000", client.run(Primes { below: 10_000 }).await?);
    worker.abort();
    Ok(())
}
