//! Tests without a server: what was enqueued, a clock to move, and results at once. Run as a program here; in a project the
//! functions below are `#[tokio::test]`s.
use jobwire::prelude::*;
use jobwire::testing::{fake, inline};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Remind {
    user: String,
}

impl Task for Remind {
    const TYPE: &'static str = "remind";
    type Output = String;
    fn options() -> Options {
        Options::new().retry(Retry::exponential(5, secs(30)))
    }
}

async fn remind(ctx: Ctx<Remind>) -> Result<String, JobError> {
    if ctx.attempt() == 1 {
        return Err(JobError::new("no route to host"));
    }
    Ok(format!("reminded {}", ctx.input().user))
}

/// The code under test.
async fn sign_up(client: &Client, user: &str) -> Result<(), Error> {
    client.enqueue(Remind { user: user.to_owned() }).delay(hours(1)).await?;
    Ok(())
}

// [fake]
async fn signing_up_reminds_an_hour_later() -> Result<(), Error> {
    let jobs = fake().handlers(|worker| worker.handle(remind));
    sign_up(&jobs.client(), "ada").await?;
    let found = jobs.assert_enqueued_with(&Remind { user: "ada".into() });
    assert_eq!(found[0].due, jobs.now() + hours(1));
    jobs.advance(hours(1)).await; // the first attempt fails …
    jobs.advance(secs(30)).await; // … and the second one comes by the retry policy
    let job = jobs.client().job(&found[0].id).typed::<String>();
    assert_eq!(job.result().await?, "reminded ada");
    Ok(())
}
// [/fake]

// [inline]
async fn code_that_needs_the_result_has_it_at_once() -> Result<(), Error> {
    async fn greet(ctx: Ctx<Remind>) -> Result<String, JobError> {
        Ok(format!("hello {}", ctx.input().user))
    }
    let jobs = inline().handlers(|worker| worker.handle(greet));
    assert_eq!(jobs.client().run(Remind { user: "ada".into() }).await?, "hello ada");
    jobs.assert_enqueued_times::<Remind>(1);
    Ok(())
}
// [/inline]

// [server]
async fn a_real_server_in_this_process() -> Result<(), Error> {
    let server = jobwire_server::testing::server().await; // in memory, on free ports, gone at the end of the block
    let client = Client::connect(server.url())?;
    let worker = Worker::builder(client.clone()).handle(remind);
    tokio::spawn(worker.run_until(std::future::pending()));
    let job = client.enqueue(Remind { user: "ada".into() }).retry(Retry::exponential(2, millis(1))).await?;
    assert_eq!(job.result().timeout(secs(20)).await?, "reminded ada");
    Ok(())
}
// [/server]

#[tokio::main]
async fn main() -> Result<(), Error> {
    signing_up_reminds_an_hour_later().await?;
    code_that_needs_the_result_has_it_at_once().await?;
    a_real_server_in_this_process().await?;
    println!("all of them hold");
    Ok(())
}
