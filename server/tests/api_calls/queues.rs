//! Configured queues, as those who configure them, producers and workers meet them.
use jobwire_proto::v1;
use prost::Message as _;
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

/// Without waiting for the first.
async fn lease_at_once(server: &Server, max_jobs: i32) -> Vec<v1::JobLease> {
    let request = v1::LeaseJobsRequest { types: vec!["mail".into()], max_jobs, wait: seconds(0), ..Default::default() };
    server.workers().lease_jobs(request).await.expect("it answers").into_inner().jobs
}

/// Fairness keys, in order.
fn keys(leases: &[v1::JobLease]) -> Vec<String> {
    let task = |lease: &v1::JobLease| v1::Task::decode(lease.task.clone()).expect("it is a task");
    leases.iter().map(|lease| task(lease).fairness_key).collect()
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
    assert_eq!(lease_at_once(&server, 5).await, []);
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

#[tokio::test]
async fn fairness_keys_take_turns_within_their_limits() {
    let server = Server::start().await;
    let config = v1::QueueConfig {
        max_running_per_key: 3,
        rate_limit_per_key: Some(v1::RateLimit { max: 4, per: seconds(600), burst: 0 }),
        key_weights: [("big".to_owned(), 2)].into(),
        ..Default::default()
    };
    let shown = put(&server, config.clone()).await.config.expect("with its configuration");
    let rate_limit_per_key = Some(v1::RateLimit { max: 4, per: seconds(600), burst: 4 });
    assert_eq!(shown, v1::QueueConfig { rate_limit_per_key, shards: 1, ..config });
    let keyed = |key: &str| v1::JobSpec { fairness_key: key.into(), ..job("mail") };
    let jobs = ["big", "small"].into_iter().flat_map(|key| std::iter::repeat_n(keyed(key), 6)).collect();
    server.jobs().enqueue_many(v1::EnqueueManyRequest { jobs }).await.expect("they are taken");
    let first = lease(&server, 9).await;
    assert_eq!(keys(&first), ["big", "big", "small", "big", "small", "small"], "three of each run");
    server.report(succeeded(first[0].lease_token.clone(), None)).await;
    server.report(succeeded(first[1].lease_token.clone(), None)).await;
    assert_eq!(keys(&lease(&server, 9).await), ["big"], "four have started");
    let request = v1::ListJobsRequest { filter: "queue = mail AND fairness_key = small".into(), ..Default::default() };
    let listed = server.jobs().list_jobs(request).await.expect("it lists").into_inner().jobs;
    assert_eq!(listed.len(), 6);
    assert!(listed.iter().all(|job| job.spec.as_ref().is_some_and(|spec| spec.fairness_key == "small")));
}

#[tokio::test]
async fn a_unique_key_is_one_of_its_fairness_key() {
    let server = Server::start().await;
    let unique = |key: &str| v1::JobSpec {
        fairness_key: key.into(),
        unique: Some(v1::Unique { key: "report".into(), ..Default::default() }),
        idempotency_key: format!("request of {key}"),
        ..job("mail")
    };
    let enqueue = async |spec| server.enqueue(spec).await;
    let (a, b, none) = (enqueue(unique("a")).await, enqueue(unique("b")).await, enqueue(unique("")).await);
    assert!(a != b && b != none && a != none, "{a} {b} {none}");
    let again = v1::JobSpec { idempotency_key: String::new(), ..unique("a") };
    assert_eq!(enqueue(again).await, a);
}

#[tokio::test]
async fn a_worker_holds_back_its_key_or_its_queue() {
    let server = Server::start().await;
    for key in ["a", "a", "b", "b", ""] {
        server.enqueue(v1::JobSpec { fairness_key: key.into(), ..job("mail") }).await;
    }
    let snooze = |lease: &v1::JobLease, scope: v1::ThrottleScope| v1::Outcome {
        lease_token: lease.lease_token.clone(),
        result: Some(v1::outcome::Result::Snoozed(v1::Snoozed {
            delay: seconds(3_600),
            throttle: scope.into(),
            ..Default::default()
        })),
        ..Default::default()
    };
    let first = lease(&server, 1).await.remove(0);
    assert_eq!(keys(std::slice::from_ref(&first)), ["a"]);
    server.report(snooze(&first, v1::ThrottleScope::Key)).await;
    let rest = lease(&server, 9).await;
    assert_eq!(keys(&rest), ["b", "", "b"]);
    server.report(snooze(&rest[0], v1::ThrottleScope::Queue)).await;
    server.enqueue(v1::JobSpec { fairness_key: "c".into(), ..job("mail") }).await;
    let at_once =
        v1::LeaseJobsRequest { types: vec!["mail".into()], max_jobs: 9, wait: seconds(0), ..Default::default() };
    assert_eq!(server.workers().lease_jobs(at_once).await.expect("it answers").into_inner().jobs, []);
    let get = async || {
        let got = server.queues().get_queue(v1::GetQueueRequest { name: "mail".into() }).await.expect("it is there");
        got.into_inner().queue.expect("with the queue")
    };
    let queue = get().await;
    assert!(!queue.paused && queue.resume_time.is_some(), "it opens by itself: {queue:?}");
    // Whoever knows better opens it.
    let request = v1::ResumeQueuesRequest { names: vec!["mail".into()] };
    server.queues().resume_queues(request).await.expect("it opens");
    assert_eq!(get().await.resume_time, None);
    let open = lease(&server, 9).await;
    assert_eq!(open.len(), 1, "a is throttled still");
}

#[tokio::test]
async fn what_makes_no_sense_of_keys_is_refused() {
    let server = Server::start().await;
    let bad = [
        ("max_running_per_key", v1::QueueConfig { max_running_per_key: -1, ..Default::default() }),
        (
            "rate_limit_per_key.max",
            v1::QueueConfig { rate_limit_per_key: Some(v1::RateLimit::default()), ..Default::default() },
        ),
        ("key_weights[\"a\"]", v1::QueueConfig { key_weights: [("a".to_owned(), 0)].into(), ..Default::default() }),
        ("key_weights[\"b\"]", v1::QueueConfig { key_weights: [("b".to_owned(), 1_001)].into(), ..Default::default() }),
    ];
    for (field, config) in bad {
        let request = v1::PutQueueRequest { name: "mail".into(), config: Some(config), ..Default::default() };
        refused(
            server.queues().put_queue(request).await,
            Code::InvalidArgument,
            "INVALID_FIELD",
            &format!("config.{field}"),
        );
    }
    let long = v1::JobSpec { fairness_key: "k".repeat(257), ..job("mail") };
    let request = v1::EnqueueRequest { job: Some(long), ..Default::default() };
    refused(server.jobs().enqueue(request).await, Code::InvalidArgument, "INVALID_FIELD", "job.fairness_key");
}
