//! Enqueue, read, list, wait and change.
use jobwire_proto::v1::{self, EnqueueStatus, JobState};
use tonic::Code;

use super::harness::{Server, by_filter, by_ids, job, refused, seconds, soon, succeeded, text};

#[tokio::test]
async fn a_job_is_stored_as_accepted_and_enqueued_once() {
    let server = Server::start().await;
    let spec = v1::JobSpec {
        id: "019ab2c4-7d1e-7fff-9c55-5b1f0e6a4d21".into(),
        payload: Some(text("{\"to\":\"ada\"}")),
        tags: vec!["vip".into()],
        priority: 2,
        headers: [("traceparent".to_owned(), "00-1".to_owned())].into(),
        ..job("mail.send")
    };
    let enqueue = |spec: &v1::JobSpec| v1::EnqueueRequest { job: Some(spec.clone()), ..Default::default() };
    let first = server.jobs().enqueue(enqueue(&spec)).await.unwrap().into_inner();
    assert_eq!(first.status(), EnqueueStatus::Created);
    assert_eq!(first.job_id, "019ab2c4-7d1e-7000-9c55-5b1f0e6a4d21", "the shard is stamped in");
    let second = server.jobs().enqueue(enqueue(&spec)).await.unwrap().into_inner();
    assert_eq!((second.status(), &second.job_id), (EnqueueStatus::Duplicate, &first.job_id));
    let other = v1::JobSpec { payload: Some(text("{}")), ..spec.clone() };
    refused(server.jobs().enqueue(enqueue(&other)).await, Code::AlreadyExists, "ID_CONFLICT", "");

    let found = server.get(&first.job_id).await;
    let stored = found.spec.clone().unwrap();
    assert_eq!((found.state(), stored.queue.as_str(), stored.priority), (JobState::Ready, "mail.send", 2));
    assert_eq!((stored.tags, stored.headers), (spec.tags, spec.headers));
    assert!(matches!(stored.payload.unwrap().body, Some(v1::payload::Body::Json(_))), "people get JSON");
    assert_eq!(stored.retry.unwrap().max_attempts, 20, "defaults are filled in");
    assert!(!found.etag.is_empty());
}

#[tokio::test]
async fn validation_changes_nothing_and_a_wait_brings_the_result() {
    let server = Server::start().await;
    let dry = v1::EnqueueRequest { job: Some(job("a")), validate_only: true, ..Default::default() };
    let id = server.jobs().enqueue(dry).await.unwrap().into_inner().job_id;
    let get = v1::GetJobRequest { id, ..Default::default() };
    refused(server.jobs().get_job(get).await, Code::NotFound, "JOB_NOT_FOUND", "");

    let waits = v1::EnqueueRequest { job: Some(job("a")), wait: seconds(10), ..Default::default() };
    let mut jobs = server.jobs();
    let (answer, ()) = soon(async { tokio::join!(jobs.enqueue(waits), server.work("a")) }).await;
    let result = answer.unwrap().into_inner().result.expect("it ended in time");
    assert_eq!(result.state(), JobState::Succeeded);

    let id = server.enqueue(job("b")).await;
    let wait = v1::WaitJobRequest { id, timeout: seconds(0), ..Default::default() };
    let answer = soon(server.jobs().wait_job(wait)).await.unwrap().into_inner();
    assert!(!answer.finished && answer.job.is_some());
}

#[tokio::test]
async fn one_bad_item_does_not_hold_back_the_others() {
    let server = Server::start().await;
    let jobs = vec![job("a"), job("not a name"), job("b")];
    let answer = server.jobs().enqueue_many(v1::EnqueueManyRequest { jobs }).await.unwrap().into_inner();
    assert_eq!(answer.created_count, 2);
    let error = answer.results[1].error.clone().expect("refused");
    assert_eq!((error.reason.as_str(), error.field.as_str()), ("INVALID_FIELD", "jobs[1].type"));
    for jobs in [vec![], vec![job("a"); 1_001]] {
        let request = v1::EnqueueManyRequest { jobs };
        refused(server.jobs().enqueue_many(request).await, Code::InvalidArgument, "INVALID_FIELD", "jobs");
    }
}

async fn ids_of(server: &Server, filter: &str, page_size: i32) -> Vec<String> {
    let mut ids = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListJobsRequest {
            filter: filter.into(),
            page_size,
            page_token: page_token.clone(),
            ..Default::default()
        };
        let page = server.jobs().list_jobs(request).await.unwrap().into_inner();
        assert!(page.jobs.len() <= page_size as usize);
        ids.extend(page.jobs.into_iter().map(|job| job.id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return ids;
        }
    }
}

#[tokio::test]
async fn lists_page_through_everything_once() {
    let server = Server::start().await;
    let mut all = Vec::new();
    for i in 0..25 {
        let tags = if i % 5 == 0 { vec!["five".into()] } else { Vec::new() };
        all.push(server.enqueue(v1::JobSpec { queue: format!("q{}", i % 3), tags, ..job("a") }).await);
    }
    let mut found = ids_of(&server, "", 4).await;
    let in_order = found.clone();
    found.sort();
    all.sort();
    assert_eq!(found, all);
    assert_eq!(ids_of(&server, "*", 7).await, in_order);
    assert_eq!(ids_of(&server, "tag = five", 2).await.len(), 5);
    assert_eq!(ids_of(&server, "queue = q1 AND state = READY AND type = \"a*\"", 3).await.len(), 8);
    assert_eq!(ids_of(&server, "state = DEAD OR queue = q9", 3).await, Vec::<String>::new());

    let first = v1::ListJobsRequest { page_size: 1, ..Default::default() };
    let page_token = server.jobs().list_jobs(first).await.unwrap().into_inner().next_page_token;
    let other = v1::ListJobsRequest { filter: "queue = q1".into(), page_token, ..Default::default() };
    refused(server.jobs().list_jobs(other).await, Code::InvalidArgument, "INVALID_FIELD", "page_token");
}

#[tokio::test]
async fn a_page_of_large_jobs_fits_in_a_message() {
    let server = Server::start().await;
    let large = format!("\"{}\"", "x".repeat(1_000_000));
    for _ in 0..4 {
        server.enqueue(v1::JobSpec { payload: Some(text(&large)), ..job("a") }).await;
    }
    let full = |page_token| v1::ListJobsRequest {
        view: v1::JobView::Full.into(),
        payload_format: v1::PayloadFormat::Raw.into(),
        page_token,
        ..Default::default()
    };
    let first = server.jobs().list_jobs(full(String::new())).await.unwrap().into_inner();
    assert_eq!(first.jobs.len(), 3);
    let second = server.jobs().list_jobs(full(first.next_page_token)).await.unwrap().into_inner();
    assert_eq!((second.jobs.len(), second.next_page_token.as_str()), (1, ""));
}

#[tokio::test]
async fn waiting_jobs_are_changed_cancelled_and_deleted() {
    let server = Server::start().await;
    let id = server.enqueue(job("a")).await;
    let etag = server.get(&id).await.etag;
    let update = |etag: &str, patch| v1::UpdateJobsRequest {
        selector: by_ids(&[&id]),
        patch: Some(patch),
        etag: etag.into(),
        ..Default::default()
    };
    let patch = v1::JobPatch { priority: Some(-3), queue: Some("other".into()), ..Default::default() };
    let done = server.jobs().update_jobs(update(&etag, patch.clone())).await.unwrap().into_inner().result.unwrap();
    assert_eq!((done.matched_count, done.affected_count, done.errors.len()), (1, 1, 0));
    let changed = server.get(&id).await.spec.unwrap();
    assert_eq!((changed.priority, changed.queue.as_str()), (-3, "other"));
    refused(server.jobs().update_jobs(update(&etag, patch)).await, Code::Aborted, "ETAG_MISMATCH", "etag");
    let nothing = update("", v1::JobPatch::default());
    refused(server.jobs().update_jobs(nothing).await, Code::InvalidArgument, "INVALID_FIELD", "patch");

    let cancel = || v1::CancelJobsRequest { selector: by_ids(&[&id]), ..Default::default() };
    let done = server.jobs().cancel_jobs(cancel()).await.unwrap().into_inner().result.unwrap();
    assert_eq!(done.affected_count, 1);
    assert_eq!(server.get(&id).await.state(), JobState::Cancelled);
    let again = server.jobs().cancel_jobs(cancel()).await.unwrap().into_inner().result.unwrap();
    assert_eq!((again.affected_count, again.errors.len()), (0, 0), "cancelling twice is no error");

    let retry = v1::RetryJobsRequest { selector: by_ids(&[&id]), ..Default::default() };
    assert_eq!(server.jobs().retry_jobs(retry).await.unwrap().into_inner().result.unwrap().affected_count, 1);
    assert_eq!(server.get(&id).await.state(), JobState::Ready);

    let delete = |selector, force| v1::DeleteJobsRequest { selector, force, ..Default::default() };
    for selector in [by_ids(&[&id]), by_filter("queue = other")] {
        let counted = server.jobs().delete_jobs(delete(selector, false)).await.unwrap().into_inner().result.unwrap();
        assert_eq!((counted.matched_count, counted.affected_count, counted.errors.len()), (1, 0, 0));
    }
    let gone = server.jobs().delete_jobs(delete(by_filter("*"), true)).await.unwrap().into_inner().result.unwrap();
    assert_eq!(gone.affected_count, 1);
    let get = v1::GetJobRequest { id, ..Default::default() };
    refused(server.jobs().get_job(get).await, Code::NotFound, "JOB_NOT_FOUND", "");
}

#[tokio::test]
async fn bulk_calls_go_on_where_they_stopped() {
    let server = Server::start().await;
    for _ in 0..5 {
        server.enqueue(job("a")).await;
    }
    let mut continue_token = String::new();
    let mut affected = 0;
    loop {
        let request = v1::CancelJobsRequest {
            selector: by_filter("queue = a"),
            limit: 2,
            continue_token: continue_token.clone(),
            ..Default::default()
        };
        let done = server.jobs().cancel_jobs(request).await.unwrap().into_inner().result.unwrap();
        assert!(done.affected_count <= 2);
        affected += done.affected_count;
        continue_token = done.continue_token;
        if continue_token.is_empty() {
            break;
        }
    }
    assert_eq!(affected, 5);
}

#[tokio::test]
async fn queues_close_open_and_empty() {
    let server = Server::start().await;
    server.enqueue(job("a")).await;
    let pause = v1::PauseQueuesRequest { names: vec!["*".into()], reason: "repairs".into(), ..Default::default() };
    assert_eq!(server.queues().pause_queues(pause).await.unwrap().into_inner().names, ["a"]);
    let get = || v1::GetQueueRequest { name: "a".into() };
    let queue = server.queues().get_queue(get()).await.unwrap().into_inner().queue.unwrap();
    assert!(queue.paused && queue.pause_reason == "repairs" && queue.stats.unwrap().ready == 1);
    let list = v1::ListQueuesRequest { filter: "paused = true".into(), ..Default::default() };
    assert_eq!(server.queues().list_queues(list).await.unwrap().into_inner().queues.len(), 1);
    server.queues().resume_queues(v1::ResumeQueuesRequest { names: vec!["a".into()] }).await.unwrap();
    assert!(!server.queues().get_queue(get()).await.unwrap().into_inner().queue.unwrap().paused);

    let purge = |force| v1::PurgeQueueRequest { name: "a".into(), force, ..Default::default() };
    let counted = server.queues().purge_queue(purge(false)).await.unwrap().into_inner().result.unwrap();
    assert_eq!((counted.matched_count, counted.affected_count), (1, 0));
    let purged = server.queues().purge_queue(purge(true)).await.unwrap().into_inner().result.unwrap();
    assert_eq!(purged.affected_count, 1);
    let unknown = v1::GetQueueRequest { name: "nowhere".into() };
    refused(server.queues().get_queue(unknown).await, Code::NotFound, "QUEUE_NOT_FOUND", "");
}

#[tokio::test]
async fn the_server_tells_about_itself() {
    let server = Server::start().await;
    let info = server.admin().get_server_info(v1::GetServerInfoRequest {}).await.unwrap().into_inner();
    assert_eq!((info.revision, info.store.as_str(), info.durability.as_str()), (1, "memory", "memory"));
    assert_eq!(info.limits.unwrap().max_message_bytes, 3 << 20);
    server.enqueue(job("a")).await;
    let lease = server.lease("a").await;
    server.report(succeeded(lease.lease_token, None)).await;
    server.enqueue(job("b")).await;
    let stats = server.admin().get_stats(v1::GetStatsRequest::default()).await.unwrap().into_inner();
    let total = stats.total.unwrap();
    assert_eq!((stats.queue_count, total.ready, total.finished), (2, 1, 1));
}
