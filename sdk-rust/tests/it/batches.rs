//! Batch handlers against a real server, and in the fakes.

use std::sync::{Arc, Mutex};

use jobwire::prelude::*;
use jobwire::testing::{fake, inline};
use jobwire::{Batch, JobState};
use jobwire_server::testing::server;
use tokio::sync::{mpsc, oneshot};

use crate::script::soon;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Doc {
    id: u32,
}

impl Task for Doc {
    const TYPE: &'static str = "search.index";
    type Output = u32;
    fn options() -> Options {
        Options::new().retry(1)
    }
}

type Calls = mpsc::UnboundedSender<Vec<u32>>;

/// Tells what came, and lets single ones end in their own ways.
async fn index(batch: Batch<Doc>, State(calls): State<Calls>) -> Result<Vec<u32>, JobError> {
    let ids: Vec<u32> = batch.inputs().map(|doc| doc.id).collect();
    let mut sorted = ids.clone();
    sorted.sort_unstable();
    let _ = calls.send(sorted.clone());
    for job in batch.jobs() {
        match job.input().id {
            100 => job.fail(JobError::discard("not worth it")),
            101 => job.fail(std::io::Error::other("disk")),
            102 if job.delivery() == 1 => job.snooze(millis(10)),
            103 => job.succeed(&7),
            104 => {
                job.fail(JobError::new("no"));
                job.succeed(&8); // the last word
            }
            _ => job.progress(50.0, "half"),
        }
    }
    match sorted[sorted.len() - 1] {
        200 => Err(JobError::new("all of them").kind("Broken")),
        201 => panic!("oh"),
        202 => Ok(vec![]),
        _ => Ok(ids.iter().map(|id| id * 2).collect()),
    }
}

fn docs(ids: impl IntoIterator<Item = u32>) -> Vec<Doc> {
    ids.into_iter().map(|id| Doc { id }).collect()
}

/// The end of a job: its result, or its state and failure.
async fn end(job: &jobwire::Job<u32>) -> Result<u32, (JobState, String)> {
    match soon("result", job.result().into_future()).await {
        Ok(result) => Ok(result),
        Err(Error::JobFailed { state, failure, .. }) => Err((state, failure.to_string())),
        Err(error) => panic!("{error}"),
    }
}

async fn enqueued(client: &Client, ids: impl IntoIterator<Item = u32>) -> Vec<jobwire::Job<u32>> {
    client.enqueue_many(docs(ids)).await.into_iter().map(|job| job.expect("a job")).collect()
}

#[tokio::test]
async fn jobs_come_together_and_end_by_themselves() {
    let server = server().await;
    let client = Client::connect(server.url()).expect("a client");
    let jobs = enqueued(&client, [1, 2, 100, 101, 102, 103, 104]).await;
    client.enqueue_raw("search.index", &serde_json::json!({"id": "no number"})).retry(1).await.expect("a job");
    let (calls, mut called): (Calls, _) = mpsc::unbounded_channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let worker = Worker::builder(client.clone()).state(calls).handle_batch(8, secs(5), index).concurrency(1);
    let worker = tokio::spawn(worker.run_until(async { drop(stopped.await) }));
    assert_eq!(soon("call", called.recv()).await.expect("a call"), [1, 2, 100, 101, 102, 103, 104], "full: 8 came");
    assert_eq!((end(&jobs[0]).await, end(&jobs[1]).await), (Ok(2), Ok(4)));
    assert_eq!(end(&jobs[2]).await, Err((JobState::Discarded, "Discard: not worth it".into())));
    assert_eq!(end(&jobs[3]).await, Err((JobState::Dead, "std::io::error::Error: disk".into())));
    assert_eq!((end(&jobs[5]).await, end(&jobs[6]).await), (Ok(7), Ok(8)));
    assert_eq!(jobs[0].status().await.expect("a record").progress.expect("its own").percent, Some(50.0));
    let fill = enqueued(&client, 10..17).await;
    let (first, fill_end) = (soon("call", called.recv()).await.expect("a call"), end(&fill[6]).await);
    assert_eq!((first.len(), fill_end), (8, Ok(32)), "the snoozed one is among them");
    assert_eq!(end(&jobs[4]).await, Ok(204));
    drop(stop);
    soon("end", worker).await.expect("no panic").expect("drained");
}

#[tokio::test]
async fn what_the_handler_raises_is_the_failure_of_each() {
    let server = server().await;
    let client = Client::connect(server.url()).expect("a client");
    let (calls, mut called): (Calls, _) = mpsc::unbounded_channel();
    let worker = Worker::builder(client.clone()).state(calls).handle_batch(2, mins(1), index);
    let worker = tokio::spawn(worker.run_until(std::future::pending()));
    for (first, message) in [
        (200, "Broken: all of them"),
        (201, "panic: oh"),
        (202, "BatchResults: the handler of search.index gave 0 results for 2 jobs"),
    ] {
        let jobs = enqueued(&client, [first, 1]).await;
        assert_eq!(soon("call", called.recv()).await.expect("a call").len(), 2);
        for job in &jobs {
            assert_eq!(end(job).await, Err((JobState::Dead, message.into())));
        }
        let said = enqueued(&client, [103, first]).await;
        assert_eq!(end(&said[0]).await, Ok(7), "its own word counts more");
        soon("call", called.recv()).await.expect("a call");
    }
    worker.abort();
}

#[tokio::test]
async fn a_cancelled_job_is_marked_and_the_last_one_stops_the_handler() {
    let server = server().await;
    let client = Client::connect(server.url()).expect("a client");
    let (marked, mut marks) = mpsc::unbounded_channel();
    let (begun, mut begins) = mpsc::unbounded_channel();
    let handler = async move |batch: Batch<Doc>| -> Result<(), JobError> {
        let _ = begun.send(());
        let first = batch.jobs().iter().find(|job| job.input().id == 1).expect("it is one of two");
        first.cancelled().await;
        let other = batch.jobs().iter().find(|job| job.input().id == 2).expect("it is one of two");
        let _ = marked.send((first.cancel_reason(), other.cancel_reason(), batch.cancel_reason()));
        batch.cancelled().await;
        Err(JobError::cancelled())
    };
    let handler = Arc::new(handler);
    let handle = move |batch: Batch<Doc>| {
        let handler = handler.clone();
        async move { handler(batch).await }
    };
    let worker = tokio::spawn(Worker::builder(client.clone()).handle_batch(2, mins(1), handle).run());
    let jobs = enqueued(&client, [1, 2]).await;
    // A job that is cancelled while it waits never gets into the batch.
    soon("start", begins.recv()).await.expect("the batch");
    jobs[0].cancel("first", None).await.expect("asked");
    let requested = Some(jobwire::CancelReason::Requested);
    assert_eq!(soon("mark", marks.recv()).await.expect("a mark"), (requested, None, None));
    jobs[1].cancel("second", None).await.expect("asked");
    for (job, reason) in jobs.iter().zip(["first", "second"]) {
        match soon("result", job.result().into_future()).await.expect_err("cancelled") {
            Error::JobCancelled { message, .. } => assert!(message.ends_with(reason), "{message}"),
            other => panic!("{other}"),
        }
    }
    worker.abort();
}

#[tokio::test]
async fn what_lingers_goes_back_untouched() {
    let server = server().await;
    let client = Client::connect(server.url()).expect("a client");
    let jobs = enqueued(&client, [1]).await;
    let (calls, _called): (Calls, _) = mpsc::unbounded_channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let worker = Worker::builder(client.clone()).state(calls).handle_batch(2, mins(1), index);
    let worker = tokio::spawn(worker.run_until(async { drop(stopped.await) }));
    soon("delivery", async {
        while jobs[0].status().await.expect("a record").delivery == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(stop);
    soon("end", worker).await.expect("no panic").expect("drained");
    let record = soon("its way back", async {
        loop {
            let record = jobs[0].status().await.expect("a record");
            if record.state == JobState::Ready {
                return record;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!((record.attempt, record.crashes), (0, 0));
}

#[tokio::test]
async fn rules_that_cannot_hold_are_refused_at_the_start() {
    let client = fake().client();
    let (calls, _called): (Calls, _) = mpsc::unbounded_channel();
    let worker = || Worker::builder(client.clone()).state(calls.clone());
    async fn one(_: Ctx<Doc>) -> Result<u32, JobError> {
        Ok(1)
    }
    let few = jobwire::Queue::new("search.index").max_slots(5);
    let cases = [
        (worker().handle_batch(0, secs(1), index), "max_size is 0"),
        (worker().handle_batch(1_001, secs(1), index), "max_size is 1001"),
        (worker().handle_batch(10, secs(61), index), "linger is 61s"),
        (worker().handle_batch(50, secs(1), index).concurrency(10).prefetch(5), "set it to 40 or more"),
        (worker().handle_batch(50, secs(1), index).queue(few), "max_slots of queue search.index"),
        (worker().handle_batch(50, secs(1), index).handle(one), "choose one"),
    ];
    for (worker, said) in cases {
        let error = worker.run().await.expect_err(said);
        assert!(error.to_string().contains(said) && error.to_string().contains("search.index"), "{error}");
    }
}

#[tokio::test]
async fn the_fakes_know_batches() {
    let (calls, mut called): (Calls, _) = mpsc::unbounded_channel();
    let jobs = fake().handlers(|worker| worker.state(calls.clone()).handle_batch(3, secs(1), index));
    let client = jobs.client();
    let all = enqueued(&client, [1, 2, 103, 4]).await;
    client.enqueue(Doc { id: 5 }).delay(hours(1)).await.expect("a job");
    jobs.run().await;
    assert_eq!((called.recv().await, called.recv().await), (Some(vec![1, 2, 103]), Some(vec![4])));
    assert_eq!((end(&all[0]).await, end(&all[2]).await, end(&all[3]).await), (Ok(2), Ok(7), Ok(8)));
    jobs.advance(hours(1)).await;
    assert_eq!(called.recv().await, Some(vec![5]));

    let by_key = fake().handlers(|worker| worker.state(calls.clone()).handle_batch_by_key(3, secs(1), index));
    for (id, key) in [(1, "a"), (2, "b"), (3, "a")] {
        by_key.client().enqueue(Doc { id }).fairness_key(key).await.expect("a job");
    }
    by_key.run().await;
    assert_eq!((called.recv().await, called.recv().await), (Some(vec![1, 3]), Some(vec![2])));

    let inline = inline().handlers(|worker| worker.state(calls).handle_batch(3, secs(1), index));
    assert_eq!(inline.client().run(Doc { id: 4 }).await.expect("done"), 8);
}

#[tokio::test]
async fn lines_logged_in_a_batch_reach_each_of_its_jobs() {
    use tracing_subscriber::layer::SubscriberExt;
    let _logs = tracing::subscriber::set_default(tracing_subscriber::registry().with(jobwire::job_logs()));
    let seen = Arc::new(Mutex::new(0));
    let counter = seen.clone();
    let jobs = fake().handlers(move |worker| {
        worker.handle_batch(3, secs(1), move |batch: Batch<Doc>| {
            let counter = counter.clone();
            async move {
                tracing::info!("indexing");
                *counter.lock().expect("no panic") += batch.len();
                Ok(())
            }
        })
    });
    let all = enqueued(&jobs.client(), [1, 2]).await;
    jobs.run().await;
    assert_eq!(*seen.lock().expect("no panic"), 2);
    for job in all {
        use futures::StreamExt;
        let events: Vec<_> = job.events().collect().await;
        let said =
            |event: &jobwire::JobEvent| matches!(event, jobwire::JobEvent::Log(line) if line.message == "indexing");
        assert!(events.iter().flatten().any(said), "{events:?}");
    }
}
