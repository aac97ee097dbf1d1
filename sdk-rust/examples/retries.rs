//! Everything a handler can say when it does not succeed, and classifiers that say it for errors.
use jobwire::classify::{self, HttpError, Verdict};
use jobwire::prelude::*;

#[derive(Serialize, Deserialize)]
struct Fetch {
    status: u16,
}

impl Task for Fetch {
    const TYPE: &'static str = "fetch";
    type Output = i32;
    fn options() -> Options {
        Options::new().retry(Retry::exponential(3, millis(10)))
    }
}

// [handler]
async fn fetch(ctx: Ctx<Fetch>) -> Result<i32, JobError> {
    let response = request(ctx.input().status, ctx.attempt());
    HttpError::check(response.status(), response.headers())?; // 429, 503 with Retry-After: not before that
    match response.status().as_u16() {
        202 if ctx.delivery() == 1 => Err(JobError::snooze(millis(10))), // not yet: uses no attempt
        204 => Err(JobError::non_retryable("nothing there").kind("NoContent")), // hopeless
        206 => Err(std::io::Error::other("cut off"))?,                   // any error: by the retry policy
        _ => Ok(ctx.attempt()),
    }
}
// [/handler]

/// What an HTTP client would give.
fn request(status: u16, attempt: i32) -> http::Response<()> {
    let status = if attempt > 1 && status != 206 { 200 } else { status };
    http::Response::builder().status(status).header("retry-after", "0").body(()).expect("a response")
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let client = Client::from_env()?;
    // [classifiers]
    let worker = Worker::builder(client.clone())
        .handle(fetch)
        .classify(classify::http_strict) // 4xx, but for 408, 425 and 429, is final
        .classify(classify::database) // deadlocks: again in 100 ms to 1 s
        .classify(|error| error.is::<std::fmt::Error>().then_some(Verdict::Discard))
        .no_retry_on::<std::num::ParseIntError>();
    // [/classifiers]
    let worker = tokio::spawn(worker.run_until(std::future::pending()));
    for status in [200, 429, 202, 204, 404, 206] {
        match client.run(Fetch { status }).wait(secs(20)).await {
            Ok(attempt) => println!("{status}: attempt {attempt} succeeded"),
            Err(Error::JobFailed { failure, .. }) => println!("{status}: {failure}"),
            Err(error) => return Err(error),
        }
    }
    worker.abort();
    Ok(())
}
