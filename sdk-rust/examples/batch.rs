//! Batch handlers: one call for several jobs, and an end for each.
use jobwire::Batch;
use jobwire::prelude::*;

// [plain]
#[derive(Serialize, Deserialize)]
struct Doc {
    id: u32,
}

impl Task for Doc {
    const TYPE: &'static str = "search.index";
    type Output = ();
}

async fn index(batch: Batch<Doc>) -> Result<(), JobError> {
    bulk_insert(batch.inputs().map(|doc| doc.id).collect()).await?; // one round trip; its error is that of each job
    Ok(())
}
// [/plain]

async fn bulk_insert(ids: Vec<u32>) -> Result<(), std::io::Error> {
    println!("inserted {ids:?} at once");
    Ok(())
}

#[derive(Serialize, Deserialize)]
struct Push {
    to: String,
}

impl Task for Push {
    const TYPE: &'static str = "push.send";
    type Output = String;
}

/// Status and receipt of each.
async fn provider(pushes: Vec<&Push>) -> Result<Vec<(u16, String)>, std::io::Error> {
    let answer = |push: &&Push| match push.to.as_str() {
        "nobody" => (404, String::new()),
        "busy" => (429, String::new()),
        to => (200, format!("sent to {to}")),
    };
    Ok(pushes.iter().map(answer).collect())
}

// [members]
async fn push(batch: Batch<Push>) -> Result<Vec<String>, JobError> {
    let answers = provider(batch.inputs().collect()).await?;
    for (job, (status, _)) in batch.jobs().iter().zip(&answers) {
        match status {
            404 => job.fail(JobError::non_retryable(format!("{} has no phone", job.input().to))),
            429 => job.snooze(secs(30)), // this one only; uses up no attempt
            _ => {}
        }
    }
    Ok(answers.into_iter().map(|(_, receipt)| receipt).collect()) // results of the others, in order
}
// [/members]

#[tokio::main]
async fn main() -> Result<(), Error> {
    let client = Client::from_env()?;
    let docs = client.enqueue_many((0..5).map(|id| Doc { id })).await;
    let pushes = client.enqueue_many(["ada", "nobody", "busy"].map(|to| Push { to: to.to_owned() })).await;
    // [worker]
    let worker = Worker::builder(client)
        .handle_batch(5, millis(100), index) // up to 5, or what came within 100 ms of the first
        .handle_batch(3, millis(200), push);
    // [/worker]
    let worker = tokio::spawn(worker.run_until(std::future::pending()));
    for doc in docs {
        doc?.result().timeout(secs(20)).await?;
    }
    for push in pushes {
        match push?.result().timeout(secs(2)).await {
            Ok(receipt) => println!("{receipt}"),
            Err(error) => println!("{error}"),
        }
    }
    worker.abort();
    Ok(())
}
