//! Enqueues a job, runs it in the same process, prints its result. Needs a server: `jobwire dev`.
// [hello]
use jobwire::prelude::*;

#[derive(Serialize, Deserialize)]
struct Hello {
    name: String,
}

impl Task for Hello {
    const TYPE: &'static str = "hello";
    type Output = String;
}

async fn hello(ctx: Ctx<Hello>) -> Result<String, JobError> {
    Ok(format!("Hello, {}!", ctx.input().name))
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let client = Client::from_env()?;
    let job = client.enqueue(Hello { name: "Ada".into() }).await?;
    tokio::spawn(Worker::builder(client).handle(hello).run());
    println!("{}", job.result().await?);
    Ok(())
}
// [/hello]
