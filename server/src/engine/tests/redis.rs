//! The same on a real Redis: servers with a store of their own each, and a Redis that is killed under them.
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jobwire_redis_rig::{Append, Redis, Settings};

use super::{
    kit::{Worker, enqueue, held, hello, server_with, state},
    store::until,
};
use crate::{
    engine::{Engine, EngineConfig, SessionEnd},
    model::{
        job::Parts,
        state::State,
        worker::{Directive, DirectiveKind},
    },
    store::redis::RedisStore,
};

async fn server(redis: &Redis) -> Engine {
    let target = redis.url().parse().expect("the address of a store");
    server_with(Arc::new(RedisStore::open(&target).await.expect("the store opens")), EngineConfig::default())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_on_one_redis_behave_as_one() {
    let redis = Redis::start(Settings::new());
    let (here, there) = (server(&redis).await, server(&redis).await);
    let mut worker = Worker::connect(&there, hello("s", &["a", "b", "c"], 50)).await;
    let mut ids = Vec::new();
    for queue in ["a", "b", "c"] {
        ids.extend(enqueue(&here, queue, 200).await);
    }
    let last = *ids.last().expect("there are jobs");
    let waiting = {
        let here = here.clone();
        tokio::spawn(async move { here.wait(last, 20_000, Parts::META).await })
    };
    let mut seq = 0;
    for _ in 0..600 {
        let token = worker.next_job().await.token;
        seq = worker.finish(token).await;
    }
    worker.acked(seq).await;
    assert_eq!(waiting.await.expect("no panic").expect("the job is there").meta.state, State::Succeeded);
    for id in ids {
        assert_eq!(state(&here, id).await, State::Succeeded);
    }

    let directive = Directive { kind: DirectiveKind::Quiet, grace_ms: None, reason: "deploy".into() };
    until("the worker is listed", async || here.all_workers().await.len() == 1).await;
    assert_eq!(here.signal(vec!["s".into()], directive.clone()).await.expect("the store answers"), ["s"]);
    assert_eq!(worker.hears(|frame| frame.directive.clone()).await, directive);
    let moved = Worker::connect(&here, hello("s", &["a"], 1)).await;
    assert_eq!(moved.welcome.directive, Some(directive));
    assert_eq!(worker.ended().await, SessionEnd::Moved);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_killed_and_comes_back_costs_no_second_execution() {
    let redis = Redis::start(Settings::new().append(Append::Always));
    survive(&redis, Redis::kill, Redis::start_again).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_hangs_for_a_while_costs_no_second_execution() {
    let redis = Redis::start(Settings::new());
    survive(&redis, Redis::freeze, Redis::thaw).await;
}

/// A worker goes through an outage, in the middle of its jobs, and then moves to another server.
async fn survive(redis: &Redis, begin: impl Fn(&Redis), end: impl Fn(&Redis)) {
    let (here, there) = (server(redis).await, server(redis).await);
    enqueue(&here, "q", 3).await;
    let mut worker = Worker::connect(&here, hello("s", &["q"], 2)).await;
    let (one, two) = (worker.next_job().await.token, worker.next_job().await.token);
    worker.start(one).await;
    worker.start(two).await;
    let heartbeat = worker.heartbeat(vec![one, two]).await;
    worker.hears(|frame| frame.heartbeat_ack.as_ref().filter(|ack| ack.heartbeat_seq == heartbeat).map(drop)).await;

    begin(redis);
    let outcome = worker.finish(one).await;
    let heartbeat = worker.heartbeat(vec![two]).await;
    until("it is noticed", async || enqueue_fails(&there).await).await;
    end(redis);
    let back = Instant::now();
    worker.acked(outcome).await;
    worker.hears(|frame| frame.heartbeat_ack.as_ref().filter(|ack| ack.heartbeat_seq == heartbeat).map(drop)).await;
    let third = worker.next_job().await.token;
    assert!(back.elapsed() < Duration::from_secs(5), "back in service after {:?}", back.elapsed());

    // The stream goes on at the other server.
    let mut again = hello("s", &["q"], 2);
    again.held = vec![held(two), held(third)];
    let mut worker = Worker::connect(&there, again).await;
    assert!(worker.welcome.lost.is_empty() && worker.welcome.settled.is_empty(), "{:?}", worker.welcome);
    worker.finish(two).await;
    let seq = worker.finish(third).await;
    worker.acked(seq).await;
    for token in [one, two, third] {
        let record = here.get(token.job, Parts::META).await.expect("the job is there");
        assert_eq!((record.meta.state, record.meta.delivery), (State::Succeeded, 1));
    }
}

async fn enqueue_fails(engine: &Engine) -> bool {
    engine.enqueue(vec![super::kit::job("other")], false).await[0].is_err()
}
