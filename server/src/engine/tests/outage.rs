//! The store goes away and comes back: streams stay, outcomes arrive, nothing is executed again (I23).
use std::{sync::Arc, time::Duration};

use super::{
    kit::{SHARDS, Worker, enqueue, held, hello, server, server_with, state, store},
    store::{TestStore, until},
};
use crate::{
    api::ProtoTasks,
    engine::{Engine, EngineConfig, EnqueueError, JobEvent, LeaseRequest, SessionEnd, clock::ManualClock},
    model::{
        ids::Shard,
        job::{Parts, Progress},
        op::Wake,
        state::State,
        worker::{ProgressReport, WorkerFrame},
    },
    store::{Store, StoreError},
};

#[tokio::test]
async fn the_stream_stays_and_outcomes_go_first_then_renewals_then_claims() {
    let store = store();
    let engine = server(&store);
    let ids = enqueue(&engine, "q", 3).await;
    let mut worker = Worker::connect(&engine, hello("s", &["q"], 2)).await;
    let (one, two) = (worker.next_job().await.token, worker.next_job().await.token);
    worker.start(one).await;
    worker.start(two).await;
    store.all_down(true);
    let outcome = worker.finish(one).await;
    let tries = store.tries.load(std::sync::atomic::Ordering::SeqCst);
    until("calls are repeated", async || store.tries.load(std::sync::atomic::Ordering::SeqCst) > tries + 20).await;
    // Frames are still read.
    let progress = Progress { current: 7, ..Progress::default() };
    let report = ProgressReport { token: two, progress: Some(progress), checkpoint: None };
    worker.send(WorkerFrame { progress: vec![report], ..WorkerFrame::default() }).await;
    let heartbeat = worker.heartbeat(vec![two]).await;
    assert!(worker.acked < outcome, "nothing is acknowledged that is not stored");
    assert!(matches!(
        engine.enqueue(vec![super::kit::job("q")], false).await[0],
        Err(EnqueueError::Store(StoreError::Unavailable(_)))
    ));

    store.calls.lock().clear();
    store.set_latency_ms(30);
    store.all_down(false);
    worker.acked(outcome).await;
    let acked = worker.hears(|frame| frame.heartbeat_ack.as_ref().map(|ack| ack.heartbeat_seq)).await;
    assert_eq!(acked, heartbeat);
    assert_eq!(worker.next_job().await.token.job, ids[2], "the third job takes the slot of the first");
    assert_eq!(state(&engine, one.job).await, State::Succeeded);
    let calls = store.calls.lock().clone();
    let first = |name| calls.iter().position(|call| *call == name).unwrap_or_else(|| panic!("no {name} in {calls:?}"));
    assert!(first("apply") < first("renew") && first("renew") < first("claim"), "{calls:?}");
    let record = engine.get(two.job, Parts::ALL).await.expect("the job is there");
    assert_eq!(record.progress.map(|progress| progress.current), Some(7), "what was reported meanwhile is kept");
    assert_eq!(record.meta.delivery, 1);
}

#[tokio::test]
async fn a_lost_answer_is_no_second_effect() {
    let store = store();
    let engine = server(&store);
    enqueue(&engine, "q", 1).await;
    let mut worker = Worker::connect(&engine, hello("s", &["q"], 1)).await;
    let token = worker.next_job().await.token;
    worker.start(token).await;
    store.lose_answers(1);
    let seq = worker.finish(token).await;
    worker.acked(seq).await;
    assert!(worker.news.iter().all(|frame| frame.rejections.is_empty()), "a repeat is acknowledged");
    assert_eq!(state(&engine, token.job).await, State::Succeeded);
}

#[tokio::test]
async fn one_shard_that_is_away_holds_up_nobody_elses_outcomes() {
    let store = store();
    let engine = server(&store);
    enqueue(&engine, "wide", 40).await;
    let mut worker = Worker::connect(&engine, hello("s", &["wide"], 40)).await;
    let mut tokens = Vec::new();
    for _ in 0..40 {
        tokens.push(worker.next_job().await.token);
    }
    let away = tokens[0].job.shard();
    store.set_down(away, true);
    let mut last = 0;
    for token in &tokens {
        last = worker.finish(*token).await;
    }
    for token in tokens.iter().filter(|token| token.job.shard() != away) {
        until("the outcome is stored", async || state(&engine, token.job).await == State::Succeeded).await;
    }
    assert!(worker.acked < last);
    store.set_down(away, false);
    worker.acked(last).await;
    for token in tokens {
        assert_eq!(state(&engine, token.job).await, State::Succeeded);
    }
}

/// A server and a store on a clock moved by hand. Leases run out no earlier than one second after an outage.
fn on_manual_clock() -> (Arc<ManualClock>, Arc<TestStore>, Engine) {
    let clock = Arc::new(ManualClock::at(1_700_000_000_000));
    let store = TestStore::new(SHARDS, clock.clone());
    let config = EngineConfig { lease_ttl_ms: 1_500, ..EngineConfig::default() };
    let engine = Engine::start(config, store.clone(), clock.clone(), Arc::new(ProtoTasks));
    (clock, store, engine)
}

#[tokio::test]
async fn leases_that_ran_out_meanwhile_are_renewed_or_spared_for_a_while() {
    let (clock, store, engine) = on_manual_clock();
    enqueue(&engine, "alive", 1).await;
    enqueue(&engine, "silent", 1).await;
    let mut worker = Worker::connect(&engine, hello("s", &["alive"], 1)).await;
    let alive = worker.next_job().await.token;
    worker.start(alive).await;
    let heartbeat = worker.heartbeat(vec![alive]).await;
    worker.hears(|frame| frame.heartbeat_ack.as_ref().filter(|ack| ack.heartbeat_seq == heartbeat).map(drop)).await;
    let request = LeaseRequest {
        types: Vec::new(),
        subscriptions: hello("u", &["silent"], 1).subscriptions,
        max_jobs: 1,
        wait_ms: 5_000,
        lease_ms: 10_000,
        worker_id: "unary".into(),
    };
    let silent = engine.lease_jobs(request).await.expect("the store answers")[0].token;

    store.all_down(true);
    // The outage is noticed, and lasts longer than the leases.
    assert!(engine.enqueue(vec![super::kit::job("alive")], false).await[0].is_err());
    assert!(engine.enqueue(vec![super::kit::job("silent")], false).await[0].is_err());
    clock.advance(11_000);
    worker.heartbeat(vec![alive]).await;
    store.calls.lock().clear();
    store.all_down(false);
    worker.hears(|frame| frame.heartbeat_ack.as_ref().filter(|ack| ack.heartbeat_seq > heartbeat).map(drop)).await;
    store.wake(Wake::Reset);
    until("timers look again", async || store.count("due") > 2 * usize::from(SHARDS)).await;
    assert_eq!(state(&engine, silent.job).await, State::Running, "it may be heard yet");

    clock.advance(1_000);
    store.wake(Wake::Reset);
    until("a lease nobody renews runs out", async || state(&engine, silent.job).await == State::Ready).await;
    let record = engine.get(alive.job, Parts::META).await.expect("the job is there");
    assert_eq!((record.meta.state, record.meta.delivery, record.meta.crashes), (State::Running, 1, 0));
}

#[tokio::test]
async fn whoever_waits_waits_through_an_outage() {
    let store = store();
    let engine = server(&store);
    let id = enqueue(&engine, "q", 1).await[0];
    let mut worker = Worker::connect(&engine, hello("s", &["q"], 1)).await;
    let token = worker.next_job().await.token;
    let mut watch = engine.watch(id, None).await.expect("the job is there");
    assert!(matches!(watch.recv().await, Some(Ok(JobEvent::Record(_)))));
    store.all_down(true);
    let (one, two) = (engine.clone(), engine.clone());
    let ended = tokio::spawn(async move { one.ended(id).await });
    let waited = tokio::spawn(async move { two.wait(id, 20_000, Parts::META).await });
    let outcome = worker.finish(token).await;
    let tries = store.tries.load(std::sync::atomic::Ordering::SeqCst);
    until("the store is asked", async || store.tries.load(std::sync::atomic::Ordering::SeqCst) > tries + 5).await;
    assert!(!ended.is_finished() && !waited.is_finished());
    store.all_down(false);
    worker.acked(outcome).await;
    let record = ended.await.expect("no panic").expect("no error").expect("a record");
    assert_eq!(record.meta.state, State::Succeeded);
    assert_eq!(waited.await.expect("no panic").expect("no error").meta.state, State::Succeeded);
    let mut last = None;
    while let Some(event) = watch.recv().await {
        if let JobEvent::Record(record) = event.expect("no error") {
            last = Some(record.meta.state);
        }
    }
    assert_eq!(last, Some(State::Succeeded));
}

#[tokio::test]
async fn a_worker_that_comes_back_too_early_is_told_to_wait_and_loses_nothing() {
    let store = store();
    let engine = server(&store);
    enqueue(&engine, "q", 2).await;
    let mut worker = Worker::connect(&engine, hello("s", &["q"], 2)).await;
    let (kept, dropped) = (worker.next_job().await.token, worker.next_job().await.token);
    worker.start(kept).await;
    worker.start(dropped).await;
    store.all_down(true);
    let mut again = hello("s", &["q"], 2);
    again.held = vec![held(kept)];
    let refused = engine.open_session(again.clone(), 1).await.err();
    assert!(matches!(refused, Some(StoreError::Unavailable(_))), "{refused:?}");
    store.all_down(false);
    drop(worker);
    let mut worker = Worker::connect(&engine, again).await;
    assert!(worker.welcome.lost.is_empty() && worker.welcome.settled.is_empty(), "{:?}", worker.welcome);
    assert_eq!(worker.next_job().await.token.job, dropped.job, "what it names no more comes anew");
    let seq = worker.finish(kept).await;
    worker.acked(seq).await;
    assert_eq!(state(&engine, kept.job).await, State::Succeeded);
}

#[tokio::test]
async fn a_server_that_stops_during_an_outage_stops_in_time() {
    let store = store();
    let engine = server(&store);
    enqueue(&engine, "q", 1).await;
    let mut worker = Worker::connect(&engine, hello("s", &["q"], 1)).await;
    let token = worker.next_job().await.token;
    store.all_down(true);
    let seq = worker.finish(token).await;
    let stopping = tokio::time::timeout(Duration::from_secs(5), engine.shutdown(Duration::from_millis(500)));
    stopping.await.expect("within its patience");
    assert!(worker.acked < seq);
    assert_eq!(worker.ended().await, SessionEnd::GoAway);
    store.all_down(false);
    // Another server takes the outcome, sent again.
    let other = server_with(store.clone(), EngineConfig::default());
    let mut worker = Worker::connect(&other, hello("s", &["q"], 1)).await;
    let seq = worker.finish(token).await;
    worker.acked(seq).await;
    assert_eq!(state(&other, token.job).await, State::Succeeded);
    assert_eq!(store.recount().await.expect("the store answers"), Vec::<String>::new());
    assert!(store.shards_of(&"q".parse().expect("a name")).iter().all(|shard| *shard < Shard(SHARDS)));
}
