//! Options: those of a task, those that depend on its input, and those of one call.
use std::time::{Duration, SystemTime};

use jobwire::prelude::*;
use jobwire::{EnqueueStatus, OnConflict, Unique, UniqueScope};

// [task]
#[derive(Serialize, Deserialize)]
struct SendMail {
    to: String,
    tenant: String,
}

#[derive(Serialize, Deserialize)]
struct Receipt {
    id: String,
}

impl Task for SendMail {
    const TYPE: &'static str = "email.send";
    type Output = Receipt;

    fn options() -> Options {
        Options::new().queue("mail").timeout(secs(30)).retry(Retry::exponential(8, secs(2)).max_delay(mins(10)))
    }

    fn options_for(&self) -> Options {
        Self::options().unique(&self.to).tag(format!("tenant:{}", self.tenant))
    }
}
// [/task]

fn mail(to: &str) -> SendMail {
    SendMail { to: to.to_owned(), tenant: "acme".to_owned() }
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let client = Client::from_env()?;
    // [call]
    let tomorrow = SystemTime::now() + Duration::from_secs(86_400);
    let job = client.enqueue(mail("ada@example.com")).delay(mins(10)).priority(2).header("request-id", "r-1").await?;
    client.enqueue(mail("bob@example.com")).at(tomorrow).ttl(hours(1)).retry(3).idempotency_key("order-7").await?;
    // [/call]
    let again = client.enqueue(mail("ada@example.com")).await?;
    assert_eq!((again.id(), again.enqueue_status()), (job.id(), Some(EnqueueStatus::Kept)));
    // [unique]
    let hourly = Unique::key("report").scope(UniqueScope::For(hours(1))).on_conflict(OnConflict::Reject);
    let first = client.enqueue(mail("carol@example.com")).unique(hourly.clone()).await?;
    let error = client.enqueue(mail("dave@example.com")).unique(hourly).await.expect_err("one an hour");
    println!("{}: {:?} is there already", error.reason(), error.existing_job_id());
    // [/unique]
    assert_eq!(error.existing_job_id(), Some(first.id()));
    let info = job.status().await?;
    println!("{} in queue {}, priority {}, tags {:?}", info.state, info.queue, info.priority, info.tags);
    Ok(())
}
