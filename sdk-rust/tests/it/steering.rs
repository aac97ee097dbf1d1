//! What operators do, against a real server: jobs, queues and workers by the many.

use std::time::SystemTime;

use futures::TryStreamExt;
use jobwire::prelude::*;
use jobwire::{Code, JobState, LogLevel, Payload, QueueConfig, Selector, WorkerState};
use jobwire_server::testing::{TestServer, server};
use serde_json::json;
use tokio::sync::oneshot;

use crate::script::soon;

async fn connected() -> (TestServer, Client) {
    let server = server().await;
    let client = Client::connect(server.url()).expect("a client");
    (server, client)
}

async fn enqueued(client: &Client, count: u32) -> Vec<String> {
    let jobs = client.enqueue_many_raw("count", (0..count).map(|n| json!({ "n": n }))).queue("q").delay(hours(1)).await;
    jobs.into_iter().map(|job| job.expect("a job").id().to_owned()).collect()
}

#[tokio::test]
async fn jobs_are_listed_changed_cancelled_retried_and_deleted() {
    let (_server, client) = connected().await;
    let ids = enqueued(&client, 7).await;
    let jobs = client.jobs();
    let listed: Vec<_> = jobs.list("queue = q").page_size(3).try_collect().await.expect("jobs");
    assert_eq!(listed.len(), 7);
    assert!(listed[0].payload.is_empty(), "short records");
    let full: Vec<_> = jobs.list("queue = q").full().try_collect().await.expect("jobs");
    assert!(full.iter().any(|job| job.payload.as_text() == Some(r#"{"n":6}"#)));
    assert_eq!(jobs.get(&ids[0]).await.expect("a record").state, JobState::Scheduled);

    let update =
        jobs.update(&ids[0]).priority(3).queue("other").delay(hours(2)).timeout(mins(1)).input(&json!({"n": 70}));
    assert_eq!(update.await.expect("changed").ok().expect("all of it").affected, 1);
    let changed = jobs.get(&ids[0]).await.expect("a record");
    assert_eq!(
        (changed.priority, changed.queue.as_str(), changed.payload.as_text()),
        (3, "other", Some(r#"{"n":70}"#))
    );
    let late = jobs.update(&ids[0]).priority(1).etag(&listed[0].etag).await.and_then(jobwire::BulkResult::ok);
    assert_eq!(late.expect_err("somebody was faster").reason(), "ETAG_MISMATCH");
    let none = jobs.update(&ids[0]).retry(0).await.expect_err("no attempt");
    assert_eq!(none.field(), "job.retry.max_attempts");

    let counted = jobs.cancel(Selector::filter("queue = q")).dry_run().await.expect("counted");
    assert_eq!(counted.matched, 6);
    assert_eq!(jobs.get(&ids[1]).await.expect("a record").state, JobState::Scheduled);
    let some = jobs.cancel(Selector::filter("queue = q")).reason("enough").limit(2).await.expect("cancelled");
    assert_eq!((some.matched, some.affected), (2, 2));
    jobs.cancel(Selector::filter("queue = q AND state = SCHEDULED")).await.expect("cancelled");
    let cancelled: Vec<_> = jobs.list("queue = q AND state = CANCELLED").try_collect().await.expect("jobs");
    assert_eq!(cancelled.len(), 6);

    let again = jobs.retry(ids[1..3].to_vec()).reset_attempts().queue("again").await.expect("retried");
    assert_eq!(again.affected, 2);
    let again: Vec<_> = jobs.list("queue = again").try_collect().await.expect("jobs");
    assert_eq!(again.iter().map(|job| job.state).collect::<Vec<_>>(), [JobState::Ready; 2]);

    let counted = jobs.delete(Selector::filter("state = CANCELLED")).await.expect("counted");
    assert_eq!((counted.matched, counted.affected), (4, 0));
    let gone = jobs.delete(Selector::filter("state = CANCELLED")).force().await.expect("deleted");
    assert_eq!(gone.affected, 4);
    let wrong = jobs.list("color = red").try_collect::<Vec<_>>().await.expect_err("no such field");
    assert_eq!((wrong.code(), wrong.reason()), (Some(Code::InvalidArgument), "INVALID_FILTER"));
}

#[tokio::test]
async fn queues_are_configured_paused_and_emptied() {
    let (_server, client) = connected().await;
    enqueued(&client, 5).await;
    let queues = client.queues();
    let set =
        queues.put("q", QueueConfig::new().max_running(5).rate_limit(10, secs(1)).note("slow")).await.expect("set");
    assert_eq!((set.max_running, set.rate_limit, set.note.as_str()), (5, Some((10, secs(1))), "slow"));
    let set = queues.set("q", QueueConfig::new().max_depth(6)).etag(&set.etag).await.expect("set");
    assert_eq!((set.max_running, set.max_depth), (5, 6), "the rest stays");
    client.enqueue_raw("count", &json!({})).queue("q").await.expect("the sixth");
    let full = client.enqueue_raw("count", &json!({})).queue("q").await.expect_err("full");
    assert_eq!(full.reason(), "QUEUE_FULL");
    let set = queues.put("q", set.config().max_depth(0)).await.expect("set");
    assert_eq!((set.max_running, set.max_depth), (5, 0));
    assert_eq!((set.stats.ready, set.stats.scheduled), (1, 5));
    let set = queues.put("q", QueueConfig::new()).await.expect("set");
    assert_eq!((set.max_running, set.rate_limit), (0, None), "everything is as by default");

    let paused = queues.pause(["q"]).reason("moving").duration(hours(1)).await.expect("paused");
    assert_eq!(paused, ["q"]);
    let queue = queues.get("q").await.expect("a queue");
    assert_eq!((queue.paused, queue.pause_reason.as_str()), (true, "moving"));
    assert!(queue.resume_time.expect("by itself") > SystemTime::now());
    let names: Vec<_> = queues.list("paused = true").map_ok(|queue| queue.name).try_collect().await.expect("queues");
    assert_eq!(names, ["q"]);
    queues.resume(["*"]).await.expect("resumed");
    assert!(!queues.get("q").await.expect("a queue").paused);

    assert_eq!(queues.purge("q").await.expect("counted").affected, 0);
    assert_eq!(queues.purge("q").force().await.expect("emptied").affected, 6);
}

#[tokio::test]
async fn workers_are_listed_and_told_what_to_do() {
    let (_server, client) = connected().await;
    let (ready, readied) = oneshot::channel();
    let worker = Worker::builder(client.clone())
        .handle_raw("count", |ctx| async move {
            ctx.log(LogLevel::Debug, "counting");
            ctx.log(LogLevel::Warn, "a lot");
            Ok(Payload::json("done")?)
        })
        .queue("q")
        .worker_id("pod-1")
        .label("region", "eu")
        .app_version("7")
        .on_ready(move || ready.send(()).expect("it is awaited"));
    let worker = tokio::spawn(worker.run_until(std::future::pending()));
    soon("ready", readied).await.expect("ready");
    let workers = client.workers();
    let listed: Vec<_> = workers.list("label.region = eu").try_collect().await.expect("workers");
    let [found] = &listed[..] else { panic!("{listed:?}") };
    assert_eq!((found.worker_id.as_str(), found.sdk.as_str(), found.app_version.as_str()), ("pod-1", "rust", "7"));
    assert_eq!((found.queues.as_slice(), found.types.as_slice()), (&["q".to_owned()][..], &["count".to_owned()][..]));
    assert!(workers.list("label.region = us").try_collect::<Vec<_>>().await.expect("none").is_empty());

    let job = client.enqueue_raw("count", &json!({})).queue("q").await.expect("a job");
    soon("result", job.result().into_future()).await.expect("done");
    let lines: Vec<_> = client.jobs().logs(job.id(), LogLevel::Info).try_collect().await.expect("lines");
    assert_eq!(lines.iter().map(|line| line.message.as_str()).collect::<Vec<_>>(), ["a lot"]);

    let told = workers.quiet(&found.id).reason("a look").await.expect("told");
    assert_eq!(told.affected, 1);
    let state = async |wanted| while workers.get(&found.id).await.expect("a worker").state != wanted {};
    soon("quiet", state(WorkerState::Quiet)).await;
    workers.resume(Selector::filter("state = QUIET")).await.expect("told");
    soon("active", state(WorkerState::Active)).await;
    workers.terminate(&found.id).grace(secs(1)).await.expect("told");
    soon("end", worker).await.expect("no panic").expect("drained");
    let error = workers.get("nobody").await.expect_err("unknown");
    assert_eq!((error.code(), error.reason()), (Some(Code::NotFound), "WORKER_NOT_FOUND"));
}
