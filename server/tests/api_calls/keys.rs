//! Uniqueness and idempotency keys, as producers meet them.
use jobwire_proto::v1::{self, EnqueueStatus, JobState, UniqueConflict, UniqueScope, job_spec::Start};
use prost_types::{Value, value::Kind};
use tonic::Code;

use super::harness::{Server, by_ids, job, refused, seconds, succeeded, text};

fn unique(conflict: UniqueConflict, payload: &str) -> v1::JobSpec {
    let unique = v1::Unique { key: "k".into(), on_conflict: conflict.into(), ..Default::default() };
    v1::JobSpec { unique: Some(unique), payload: Some(text(payload)), ..job("mail") }
}

async fn enqueue(server: &Server, spec: v1::JobSpec) -> v1::EnqueueResponse {
    let request = v1::EnqueueRequest { job: Some(spec), ..Default::default() };
    server.jobs().enqueue(request).await.expect("it is taken").into_inner()
}

/// The number `n` in a job's payload.
async fn n(server: &Server, id: &str) -> f64 {
    let body = server.get(id).await.spec.and_then(|spec| spec.payload).and_then(|payload| payload.body);
    let Some(v1::payload::Body::Json(Value { kind: Some(Kind::StructValue(object)) })) = body else {
        panic!("no object: {body:?}")
    };
    match object.fields.get("n").and_then(|value| value.kind.as_ref()) {
        Some(Kind::NumberValue(n)) => *n,
        other => panic!("no number: {other:?}"),
    }
}

#[tokio::test]
async fn the_holder_is_kept_or_the_newcomer_refused() {
    let server = Server::start().await;
    let first = enqueue(&server, unique(UniqueConflict::Keep, "{\"n\":1}")).await;
    assert_eq!(first.status(), EnqueueStatus::Created);
    let second = enqueue(&server, unique(UniqueConflict::Keep, "{\"n\":2}")).await;
    assert_eq!(
        (second.status(), &second.job_id, second.state()),
        (EnqueueStatus::Kept, &first.job_id, JobState::Ready)
    );
    let request = v1::EnqueueRequest { job: Some(unique(UniqueConflict::Reject, "{\"n\":3}")), ..Default::default() };
    refused(server.jobs().enqueue(request).await, Code::AlreadyExists, "UNIQUE_CONFLICT", "");
    // The same key in another queue is another key.
    let elsewhere = v1::JobSpec { queue: "post".into(), ..unique(UniqueConflict::Reject, "{}") };
    assert_eq!(enqueue(&server, elsewhere).await.status(), EnqueueStatus::Created);
    server.work("mail").await;
    let third = enqueue(&server, unique(UniqueConflict::Reject, "{\"n\":4}")).await;
    assert_eq!(third.status(), EnqueueStatus::Created, "the holder has ended");
    // A retry of the first would need the key that the third has.
    let retry = v1::RetryJobsRequest { selector: by_ids(&[&first.job_id]), ..Default::default() };
    let result = server.jobs().retry_jobs(retry).await.expect("it answers").into_inner().result.expect("with a result");
    assert_eq!(result.errors[0].error.as_ref().map(|error| error.reason.as_str()), Some("UNIQUE_CONFLICT"));
}

#[tokio::test]
async fn a_holder_that_waits_is_replaced_or_put_off() {
    let server = Server::start().await;
    let later = |spec: v1::JobSpec, s: i64| v1::JobSpec { start: seconds(s).map(Start::Delay), ..spec };
    let first = enqueue(&server, later(unique(UniqueConflict::Keep, "{\"n\":1}"), 100)).await;
    let second = enqueue(&server, later(unique(UniqueConflict::Replace, "{\"n\":2}"), 200)).await;
    assert_eq!((second.status(), &second.job_id), (EnqueueStatus::Replaced, &first.job_id));
    assert_eq!(n(&server, &first.job_id).await, 2.0);
    let starts = |response: &v1::EnqueueResponse| response.schedule_time.as_ref().expect("it has a start").seconds;
    assert!(starts(&second) >= starts(&first) + 99);
    let third = enqueue(&server, later(unique(UniqueConflict::Debounce, "{\"n\":3}"), 300)).await;
    assert_eq!(third.status(), EnqueueStatus::Replaced);
    assert_eq!(n(&server, &first.job_id).await, 2.0, "only the start is put off");
    assert!(starts(&third) >= starts(&second) + 99);
    // Once it was handed out it stands.
    let now = enqueue(&server, unique(UniqueConflict::Debounce, "{}")).await;
    assert_eq!(now.status(), EnqueueStatus::Replaced);
    server.lease("mail").await;
    let late = enqueue(&server, unique(UniqueConflict::Replace, "{\"n\":4}")).await;
    assert_eq!((late.status(), late.state()), (EnqueueStatus::Kept, JobState::Running));
    assert_eq!(n(&server, &first.job_id).await, 2.0);
}

#[tokio::test]
async fn until_the_start_there_is_one_that_waits() {
    let server = Server::start().await;
    let spec = || {
        let unique = v1::Unique { scope: UniqueScope::UntilStarted.into(), ..Default::default() };
        v1::JobSpec { unique: Some(unique), payload: Some(text("{\"same\":true}")), ..job("mail") }
    };
    let first = enqueue(&server, spec()).await;
    assert_eq!(enqueue(&server, spec()).await.status(), EnqueueStatus::Kept, "an empty key is type and payload");
    server.lease("mail").await;
    let second = enqueue(&server, spec()).await;
    assert_eq!(second.status(), EnqueueStatus::Created);
    assert_ne!(first.job_id, second.job_id);
}

#[tokio::test]
async fn a_request_that_has_a_name_is_done_once() {
    let server = Server::start().await;
    let spec = |payload: &str| v1::JobSpec {
        idempotency_key: "order-7-receipt".into(),
        payload: Some(text(payload)),
        ..job("mail")
    };
    let first = enqueue(&server, spec("{}")).await;
    let again = enqueue(&server, spec("{}")).await;
    assert_eq!((again.status(), &again.job_id), (EnqueueStatus::Duplicate, &first.job_id));
    let other = v1::EnqueueRequest { job: Some(spec("{\"other\":1}")), ..Default::default() };
    refused(server.jobs().enqueue(other).await, Code::AlreadyExists, "ID_CONFLICT", "");
    // It is remembered when the job is gone.
    let delete = v1::DeleteJobsRequest { selector: by_ids(&[&first.job_id]), force: true, ..Default::default() };
    server.jobs().delete_jobs(delete).await.expect("it is deleted");
    let late = enqueue(&server, spec("{\"other\":1}")).await;
    assert_eq!((late.status(), &late.job_id), (EnqueueStatus::Duplicate, &first.job_id));
}

#[tokio::test]
async fn a_debounce_is_bounded_by_its_ttl() {
    let server = Server::start().await;
    let spec = |delay: i64, ttl: Option<i64>| {
        let mut spec = unique(UniqueConflict::Debounce, "{}");
        spec.start = seconds(delay).map(Start::Delay);
        spec.unique.as_mut().expect("it is unique").ttl = ttl.and_then(seconds);
        spec
    };
    let first = enqueue(&server, spec(10, Some(30))).await;
    let starts = |response: &v1::EnqueueResponse| response.schedule_time.as_ref().expect("it has a start").seconds;
    let created = starts(&first) - 10;
    let moved = enqueue(&server, spec(25, Some(30))).await;
    assert_eq!(moved.status(), EnqueueStatus::Replaced);
    assert!((created + 24..=created + 27).contains(&starts(&moved)));
    let far = enqueue(&server, spec(1_000, Some(30))).await;
    assert!((created + 29..=created + 31).contains(&starts(&far)), "never past creation + ttl");
    let unbounded = enqueue(&server, spec(1_000, None)).await;
    assert!(starts(&unbounded) >= created + 1_000);
}

#[tokio::test]
async fn one_works_one_waits_and_the_newest_payload_runs_last() {
    let server = Server::start().await;
    let first = enqueue(&server, unique(UniqueConflict::KeepLast, "{\"n\":1}")).await;
    assert_eq!(first.status(), EnqueueStatus::Created);
    // Not handed out yet: replaced.
    let second = enqueue(&server, unique(UniqueConflict::KeepLast, "{\"n\":2}")).await;
    assert_eq!((second.status(), &second.job_id), (EnqueueStatus::Replaced, &first.job_id));
    let lease = server.lease("mail").await;
    let third = enqueue(&server, unique(UniqueConflict::KeepLast, "{\"n\":3}")).await;
    assert_eq!((third.status(), third.state()), (EnqueueStatus::Created, JobState::Blocked));
    assert_ne!(third.job_id, first.job_id);
    let fourth = enqueue(&server, unique(UniqueConflict::KeepLast, "{\"n\":4}")).await;
    assert_eq!(
        (fourth.status(), &fourth.job_id, fourth.state()),
        (EnqueueStatus::Replaced, &third.job_id, JobState::Blocked)
    );
    assert_eq!((n(&server, &first.job_id).await, n(&server, &third.job_id).await), (2.0, 4.0));
    // Who keeps the first is told of the one that holds the key.
    let keep = enqueue(&server, unique(UniqueConflict::Keep, "{}")).await;
    assert_eq!((keep.status(), &keep.job_id), (EnqueueStatus::Kept, &first.job_id));
    server.report(succeeded(lease.lease_token, None)).await;
    assert_eq!(server.get(&third.job_id).await.state(), JobState::Ready);
    let lease = server.lease("mail").await;
    let fifth = enqueue(&server, unique(UniqueConflict::KeepLast, "{\"n\":5}")).await;
    assert_eq!((fifth.status(), fifth.state()), (EnqueueStatus::Created, JobState::Blocked));
    let cancel = v1::CancelJobsRequest { selector: by_ids(&[&fifth.job_id]), ..Default::default() };
    server.jobs().cancel_jobs(cancel).await.expect("it is cancelled");
    assert_eq!(server.get(&fifth.job_id).await.state(), JobState::Cancelled);
    server.report(succeeded(lease.lease_token, None)).await;
    let free = enqueue(&server, unique(UniqueConflict::Reject, "{}")).await;
    assert_eq!(free.status(), EnqueueStatus::Created, "nobody holds the key");
}
