//! Jobs go where the store places them, and come from there, whichever shard it is. The store refuses calls that mix.
use std::collections::BTreeSet;

use super::{
    kit::{SHARDS, Worker, enqueue, hello, job, server, state, store},
    store::until,
};
use crate::{
    engine::{Accepted, Bulk, Cancel, Selector},
    model::{
        ids::Shard,
        job::{JobSpec, Parts, Start},
        state::State,
        worker::{Ended, Report, WorkerFrame},
    },
    store::StoreError,
};

#[tokio::test]
async fn a_wide_queue_fills_all_shards_and_none_of_them_starves() {
    let store = store();
    let engine = server(&store);
    let ids = enqueue(&engine, "wide", 1_200).await;
    let shards: BTreeSet<Shard> = ids.iter().map(|id| id.shard()).collect();
    assert_eq!(shards.len(), usize::from(SHARDS));
    let mut worker = Worker::connect(&engine, hello("s", &["wide"], 8)).await;
    let (mut first, mut last) = (BTreeSet::new(), 0);
    for n in 0..1_200 {
        let token = worker.next_job().await.token;
        if n < 64 {
            first.insert(token.job.shard());
        }
        last = worker.finish(token).await;
    }
    assert_eq!(first.len(), usize::from(SHARDS), "the first jobs come from every shard");
    worker.acked(last).await;
    for id in ids {
        assert_eq!(state(&engine, id).await, State::Succeeded);
    }
}

#[tokio::test]
async fn answers_come_in_the_order_of_the_request_and_a_repeat_meets_its_first() {
    let store = store();
    let engine = server(&store);
    let specs: Vec<JobSpec> = (0..40)
        .map(|n| JobSpec { id: Some(uuid::Uuid::now_v7()), tags: vec![n.to_string()], ..job(&format!("q{}", n % 7)) })
        .collect();
    let first: Vec<_> = engine.enqueue(specs.clone(), false).await.into_iter().map(|a| a.expect("taken")).collect();
    let again: Vec<_> = engine.enqueue(specs.clone(), false).await.into_iter().map(|a| a.expect("taken")).collect();
    for ((spec, first), again) in specs.iter().zip(&first).zip(&again) {
        assert_eq!((first.id, first.status, again.status), (again.id, Accepted::Created, Accepted::Duplicate));
        let record = engine.get(first.id, Parts::BODY).await.expect("the job is there");
        assert_eq!(engine.task(&record).expect("a task").tags, spec.tags);
    }
}

#[tokio::test]
async fn a_call_about_many_jobs_reaches_every_shard() {
    let store = store();
    let engine = server(&store);
    let ids = enqueue(&engine, "wide", 100).await;
    let bulk = Bulk { selector: Selector::Ids(ids.clone()), limit: 100, cursor: None, dry_run: false };
    let done = engine.cancel(bulk, Cancel::default()).await.expect("the store answers");
    assert_eq!((done.affected, done.errors.len()), (100, 0));
    for id in ids {
        assert_eq!(state(&engine, id).await, State::Cancelled);
    }
}

#[tokio::test]
async fn timers_promote_in_every_shard() {
    let store = store();
    let engine = server(&store);
    let soon = JobSpec { start: Start::In(60), ..job("wide") };
    let answers = engine.enqueue(vec![soon; 40], false).await;
    let ids: Vec<_> = answers.into_iter().map(|answer| answer.expect("taken").id).collect();
    assert!(ids.iter().map(|id| id.shard()).collect::<BTreeSet<_>>().len() > 1);
    for id in ids {
        until("the job is promoted", async || state(&engine, id).await == State::Ready).await;
    }
}

#[tokio::test]
async fn an_outcomes_jobs_go_to_their_own_shards() {
    let store = store();
    let engine = server(&store);
    enqueue(&engine, "parent", 1).await;
    let mut worker = Worker::connect(&engine, hello("s", &["parent"], 1)).await;
    let token = worker.next_job().await.token;
    let report = Report {
        token,
        ended: Ended::Succeeded { result: None },
        run_ms: None,
        checkpoint: None,
        enqueue: vec![job("wide"); 30],
    };
    worker.send(WorkerFrame { outcomes: vec![report], ..WorkerFrame::default() }).await;
    worker.acked(2).await;
    let mut children = Worker::connect(&engine, hello("c", &["wide"], 30)).await;
    let mut shards = BTreeSet::new();
    for _ in 0..30 {
        shards.insert(children.next_job().await.token.job.shard());
    }
    assert_eq!(shards.len(), usize::from(SHARDS));
}

#[tokio::test]
async fn a_shard_that_is_down_fails_its_own_jobs_only() {
    let store = store();
    let engine = server(&store);
    store.set_down(Shard(1), true);
    let answers = engine.enqueue(vec![job("wide"); 60], false).await;
    let refused = answers.iter().filter(|answer| answer.is_err()).count();
    assert!((1..60).contains(&refused), "{refused} of 60");
    for answer in answers.iter().filter_map(|answer| answer.as_ref().err()) {
        assert!(matches!(answer, crate::engine::EnqueueError::Store(StoreError::Unavailable(_))), "{answer}");
    }
    // What is in the other shards is delivered.
    let mut worker = Worker::connect(&engine, hello("s", &["wide"], 100)).await;
    for _ in 0..60 - refused {
        assert_ne!(worker.next_job().await.token.job.shard(), Shard(1));
    }
}
