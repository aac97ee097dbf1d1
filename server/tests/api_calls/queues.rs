//! Configured queues, as those who configure them, producers and workers meet them.
use jobwire_proto::v1;
use prost_types::FieldMask;
use tonic::Code;

use super::harness::{Server, job, refused, seconds, succeeded};

async fn put(server: &Server, config: v1::QueueConfig) -> v1::Queue {
    let request = v1::PutQueueRequest { name: "mail".into(), config: Some(config), ..Default::default() };
    server.queues().put_queue(request).await.expect("it is taken").into_inner().queue.expect("with the queue")
}

async fn lease(server: &Server, max_jobs: i32) -> Vec<v1::JobLease> {
    let request = v1::LeaseJobsRequest { types: vec!["mail".into()], max_jobs, ..Default::default() };
    server.workers().lease_jobs(request).await.expect("it answers").into_inner().jobs
}

#[tokio::test]
async fn a_configuration_is_shown_changed_in_part_and_guarded_by_its_etag() {
    let server = Server::start().await;
    let retry = v1::RetryPolicy { max_attempts: 3, jitter: Some(0.0), ..Default::default() };
    let whole = v1::QueueConfig {
        max_running: 5,
        rate_limit: Some(v1::RateLimit { max: 10, per: seconds(60), burst: 0 }),
        max_depth: 1_000,
        retry: Some(retry.clone()),
        timeout: seconds(90),
        ttl: seconds(600),
        retention: seconds(30),
        dead_retention: seconds(40),
        max_finished: 7,
        max_dead: -1,
        note: "ours".into(),
        ..Default::default()
    };
    let queue = put(&server, whole.clone()).await;
    let rate_limit = Some(v1::RateLimit { max: 10, per: seconds(60), burst: 10 });
    assert_eq!(queue.config, Some(v1::QueueConfig { rate_limit, shards: 1, ..whole.clone() }));
    assert_eq!(put(&server, whole).await, queue, "the same again changes nothing");
    let part = |etag: &str, paths: &[&str], config: v1::QueueConfig| v1::PutQueueRequest {
        name: "mail".into(),
        config: Some(config),
        update_mask: Some(FieldMask { paths: paths.iter().map(ToString::to_string).collect() }),
        etag: etag.into(),
    };
    let two = v1::QueueConfig { max_running: 2, note: "not this".into(), ..Default::default() };
    let changed = server.queues().put_queue(part(&queue.etag, &["max_running", "ttl"], two.clone())).await;
    let changed = changed.expect("it is taken").into_inner().queue.expect("with the queue");
    let config = changed.config.clone().expect("with its configuration");
    assert_eq!((config.max_running, config.ttl, config.note.as_str()), (2, None, "ours"));
    assert_ne!(changed.etag, queue.etag);
    let stale = server.queues().put_queue(part(&queue.etag, &["max_running"], two.clone())).await;
    refused(stale, Code::Aborted, "ETAG_MISMATCH", "etag");
    let unknown = server.queues().put_queue(part("", &["max_runing"], two.clone())).await;
    refused(unknown, Code::InvalidArgument, "INVALID_FIELD", "update_mask");
    let strange = server.queues().put_queue(part("mine", &["max_running"], two)).await;
    refused(strange, Code::InvalidArgument, "INVALID_FIELD", "etag");
    let got = server.queues().get_queue(v1::GetQueueRequest { name: "mail".into() }).await.expect("it is there");
    assert_eq!(got.into_inner().queue, Some(changed));
}

#[tokio::test]
async fn jobs_that_do_not_say_get_what_their_queue_says() {
    let server = Server::start().await;
    let config = v1::QueueConfig {
        retry: Some(v1::RetryPolicy { max_attempts: 3, ..Default::default() }),
        timeout: seconds(90),
        ttl: seconds(600),
        retention: seconds(120),
        ..Default::default()
    };
    put(&server, config).await;
    let silent = server.get(&server.enqueue(job("mail")).await).await;
    let spec = silent.spec.expect("with its specification");
    assert_eq!((spec.timeout, spec.retention), (seconds(90), seconds(120)));
    let retry = spec.retry.expect("complete");
    assert_eq!((retry.max_attempts, retry.multiplier), (3, 2.0));
    let Some(v1::job_spec::Expiration::ExpireTime(expire)) = spec.expiration else { panic!("it expires") };
    let start = silent.schedule_time.expect("it has a start");
    assert_eq!(expire.seconds - start.seconds, 600);
    let says = v1::JobSpec {
        timeout: seconds(5),
        retry: Some(v1::RetryPolicy { multiplier: 3.0, ..Default::default() }),
        ..job("mail")
    };
    let spec = server.get(&server.enqueue(says).await).await.spec.expect("with its specification");
    let retry = spec.retry.expect("complete");
    assert_eq!((spec.timeout, retry.max_attempts, retry.multiplier), (seconds(5), 3, 3.0));
    let elsewhere = v1::JobSpec { queue: "post".into(), ..job("mail") };
    let spec = server.get(&server.enqueue(elsewhere).await).await.spec.expect("with its specification");
    assert_eq!((spec.timeout, spec.expiration), (seconds(1_800), None));
}

#[tokio::test]
async fn a_full_queue_says_when_to_try_again() {
    let server = Server::start().await;
    put(&server, v1::QueueConfig { max_depth: 2, ..Default::default() }).await;
    let request = v1::EnqueueManyRequest { jobs: vec![job("mail"), job("mail"), job("mail")] };
    let results = server.jobs().enqueue_many(request).await.expect("it answers").into_inner().results;
    let error = |result: &v1::EnqueueResult| result.error.clone();
    assert_eq!((error(&results[0]), error(&results[1])), (None, None));
    let full = error(&results[2]).expect("there is no room");
    assert_eq!((full.reason.as_str(), full.retry_delay), ("QUEUE_FULL", seconds(1)));
    let one = v1::EnqueueRequest { job: Some(job("mail")), ..Default::default() };
    refused(server.jobs().enqueue(one.clone()).await, Code::ResourceExhausted, "QUEUE_FULL", "");
    let leased = lease(&server, 1).await.remove(0);
    server.jobs().enqueue(one).await.expect("there is room again");
    // What an outcome enqueues is never refused.
    let outcome = v1::Outcome { enqueue: vec![job("mail")], ..succeeded(leased.lease_token, None) };
    server.report(outcome).await;
    let got = server.queues().get_queue(v1::GetQueueRequest { name: "mail".into() }).await.expect("it is there");
    assert_eq!(got.into_inner().queue.and_then(|queue| queue.stats).map(|stats| stats.ready), Some(3));
}

#[tokio::test]
async fn limits_are_in_force_when_they_are_answered() {
    let server = Server::start().await;
    put(&server, v1::QueueConfig { max_running: 2, ..Default::default() }).await;
    for _ in 0..6 {
        server.enqueue(job("mail")).await;
    }
    let first = lease(&server, 5).await;
    assert_eq!(first.len(), 2);
    assert_eq!(lease(&server, 5).await.len(), 0);
    // A slot that becomes free is taken by whoever waits for one.
    let request =
        v1::LeaseJobsRequest { types: vec!["mail".into()], max_jobs: 5, wait: seconds(20), ..Default::default() };
    let mut workers = server.workers();
    let waiting = tokio::spawn(async move { workers.lease_jobs(request).await });
    server.report(succeeded(first[0].lease_token.clone(), None)).await;
    let second = waiting.await.expect("it does not panic").expect("it answers").into_inner().jobs;
    assert_eq!(second.len(), 1);
    put(&server, v1::QueueConfig { max_running: 4, ..Default::default() }).await;
    assert_eq!(lease(&server, 5).await.len(), 2);
    // A rate opens by itself.
    let rate_limit = Some(v1::RateLimit { max: 20, per: seconds(1), burst: 1 });
    put(&server, v1::QueueConfig { rate_limit, ..Default::default() }).await;
    for _ in 0..3 {
        server.enqueue(job("mail")).await;
    }
    let mut left = 4;
    while left > 0 {
        let request =
            v1::LeaseJobsRequest { types: vec!["mail".into()], max_jobs: 9, wait: seconds(20), ..Default::default() };
        let leased = server.workers().lease_jobs(request).await.expect("it answers").into_inner().jobs.len();
        assert_eq!(leased, 1, "one at a time");
        left -= leased;
    }
}
