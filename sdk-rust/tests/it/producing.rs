//! Producers against a real server: what keys mean, options by the input, streams, waiting.

use futures::StreamExt;
use jobwire::prelude::*;
use jobwire::{Code, EnqueueStatus, JobState, OnConflict, Unique, UniqueScope};
use jobwire_server::testing::{TestServer, server};

use crate::script::soon;

#[derive(Serialize, Deserialize)]
struct Mail {
    to: String,
}

impl Task for Mail {
    const TYPE: &'static str = "email.send";
    type Output = String;
    fn options() -> Options {
        Options::new().queue("mail")
    }
}

fn mail(to: &str) -> Mail {
    Mail { to: to.to_owned() }
}

/// A task that names its own keys.
#[derive(Serialize, Deserialize)]
struct Index {
    page: String,
}

impl Task for Index {
    const TYPE: &'static str = "index";
    type Output = ();
    fn options() -> Options {
        Options::new().priority(1)
    }
    fn options_for(&self) -> Options {
        Self::options().unique(&self.page).tag(format!("page:{}", self.page))
    }
}

async fn connected() -> (TestServer, Client) {
    let server = server().await;
    let client = Client::connect(server.url()).expect("a client");
    (server, client)
}

/// A worker for mails, in the background, until the sender is dropped.
fn work(client: &Client) -> tokio::sync::oneshot::Sender<()> {
    async fn send(ctx: Ctx<Mail>) -> Result<String, JobError> {
        match ctx.input().to.as_str() {
            "nobody" => Err(JobError::non_retryable("no such address")),
            to => Ok(format!("sent to {to}")),
        }
    }
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    tokio::spawn(Worker::builder(client.clone()).handle(send).run_until(async { drop(stopped.await) }));
    stop
}

#[tokio::test]
async fn a_taken_key_keeps_refuses_replaces_or_moves() {
    let (_server, client) = connected().await;
    let first = client.enqueue(mail("first")).delay(hours(1)).unique("k").await.expect("a job");
    let second = |action| client.enqueue(mail("second")).delay(hours(2)).unique(Unique::key("k").on_conflict(action));
    let kept = second(OnConflict::Keep).await.expect("the first job");
    assert_eq!((kept.id(), kept.enqueue_status()), (first.id(), Some(EnqueueStatus::Kept)));
    let error = second(OnConflict::Reject).await.expect_err("taken");
    assert_eq!((error.code(), error.reason()), (Some(Code::AlreadyExists), "UNIQUE_CONFLICT"));
    assert_eq!(error.existing_job_id(), Some(first.id()));
    let before = first.status().await.expect("a record");
    let moved = second(OnConflict::Debounce).await.expect("the first job");
    assert_eq!((moved.id(), moved.enqueue_status()), (first.id(), Some(EnqueueStatus::Replaced)));
    let after = first.status().await.expect("a record");
    assert!(after.schedule_time > before.schedule_time);
    assert_eq!(after.payload.as_text(), Some(r#"{"to":"first"}"#));
    let replaced = second(OnConflict::Replace).await.expect("the first job");
    assert_eq!((replaced.id(), replaced.enqueue_status()), (first.id(), Some(EnqueueStatus::Replaced)));
    assert_eq!(first.status().await.expect("a record").payload.as_text(), Some(r#"{"to":"second"}"#));
}

#[tokio::test]
async fn scopes_say_how_long_a_key_is_held() {
    let (_server, client) = connected().await;
    let job = |scope| client.enqueue(mail("ada")).unique(Unique::key("k").scope(scope)).into_future();
    let finished = job(UniqueScope::UntilFinished).await.expect("a job");
    assert_eq!(job(UniqueScope::UntilFinished).await.expect("the first").id(), finished.id());
    let _worker = work(&client);
    soon("result", finished.result().into_future()).await.expect("sent");
    let timed = job(UniqueScope::For(hours(1))).await.expect("a job");
    assert_ne!(timed.id(), finished.id(), "its key ended with it");
    soon("result", timed.result().into_future()).await.expect("sent");
    assert_eq!(job(UniqueScope::For(hours(1))).await.expect("the timed one").id(), timed.id(), "whatever it did");
}

#[tokio::test]
async fn a_key_until_started_lets_one_wait_while_one_runs() {
    let (_server, client) = connected().await;
    let (go, gate) = tokio::sync::watch::channel(false);
    let (began, mut begun) = tokio::sync::mpsc::unbounded_channel();
    let worker = Worker::builder(client.clone()).prefetch(0).handle_raw("slow", move |_| {
        let (mut gate, began) = (gate.clone(), began.clone());
        async move {
            began.send(()).expect("the test listens");
            gate.wait_for(|open| *open).await?;
            Ok(jobwire::Payload::default())
        }
    });
    tokio::spawn(worker.run_until(std::future::pending()));
    let scope = || Unique::key("k").scope(UniqueScope::UntilStarted);
    let enqueue = || client.enqueue_raw("slow", &serde_json::json!({})).unique(scope()).into_future();
    let first = enqueue().await.expect("a job");
    soon("start", begun.recv()).await;
    let second = enqueue().await.expect("a second job");
    assert_ne!(second.id(), first.id());
    assert!(matches!(second.enqueue_status(), Some(EnqueueStatus::Created)));
    go.send(true).expect("it waits");
    soon("result", second.result().into_future()).await.expect("done");
}

#[tokio::test]
async fn an_idempotency_key_names_one_job_even_when_it_is_over() {
    let (_server, client) = connected().await;
    let _worker = work(&client);
    let enqueue = |to: &str| client.enqueue(mail(to)).idempotency_key("order-7").into_future();
    let first = enqueue("ada").await.expect("a job");
    soon("result", first.result().into_future()).await.expect("sent");
    let again = enqueue("ada").await.expect("the first job");
    assert_eq!((again.id(), again.enqueue_status()), (first.id(), Some(EnqueueStatus::Duplicate)));
    let id = uuid::Uuid::now_v7().to_string();
    let first = client.enqueue(mail("ada")).id(&id).await.expect("a job");
    let again = client.enqueue(mail("ada")).id(&id).await.expect("the first job");
    assert_eq!((again.id(), again.enqueue_status()), (first.id(), Some(EnqueueStatus::Duplicate)));
    let error = client.enqueue(mail("bob")).id(&id).await.expect_err("another job");
    assert_eq!(error.code(), Some(Code::AlreadyExists));
}

#[tokio::test]
async fn options_may_depend_on_the_input() {
    let (_server, client) = connected().await;
    let pages = ["a", "b", "a"].map(|page| Index { page: page.to_owned() });
    let jobs: Vec<_> =
        client.enqueue_many(pages).tag("bulk").await.into_iter().map(|job| job.expect("a job")).collect();
    assert_eq!(jobs[0].id(), jobs[2].id(), "one per page");
    assert_ne!(jobs[0].id(), jobs[1].id());
    let info = jobs[1].status().await.expect("a record");
    assert_eq!((info.tags, info.priority), (vec!["page:b".to_owned(), "bulk".to_owned()], 1));
    let one = client.enqueue(Index { page: "b".to_owned() }).await.expect("a job");
    assert_eq!(one.id(), jobs[1].id());
}

#[tokio::test]
async fn run_is_enqueue_and_wait() {
    let (_server, client) = connected().await;
    let error = client.run(mail("ada")).wait(millis(100)).await.expect_err("no worker yet");
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    let _worker = work(&client);
    assert_eq!(soon("run", client.run(mail("ada")).into_future()).await.expect("sent"), "sent to ada");
    match client.run(mail("nobody")).wait(secs(20)).await.expect_err("hopeless") {
        Error::JobFailed { state, failure, .. } => {
            assert_eq!((state, failure.message.as_str()), (JobState::Dead, "no such address"));
        }
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_jobs_is_answered_in_order() {
    const JOBS: usize = 3_000;
    let (_server, client) = connected().await;
    let tasks = futures::stream::iter((0..JOBS).map(|n| if n == 7 { mail(&"x".repeat(4 << 20)) } else { mail("ada") }));
    let answers: Vec<_> = soon("answers", client.enqueue_stream(tasks).tag("streamed").collect::<Vec<_>>()).await;
    assert_eq!(answers.len(), JOBS);
    let mut ids = std::collections::HashSet::new();
    for (n, answer) in answers.iter().enumerate() {
        match answer {
            Ok(job) => assert!(ids.insert(job.id().to_owned()) && n != 7),
            Err(error) => assert_eq!((n, error.field()), (7, "job.payload")),
        }
    }
    let last = answers[JOBS - 1].as_ref().expect("a job").status().await.expect("a record");
    assert_eq!((last.tags, last.queue.as_str()), (vec!["streamed".to_owned()], "mail"));
}
