//! Two servers on one store behave as one.
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    kit::{Worker, enqueue, held, hello, job, server, state, store},
    store::until,
};
use crate::{
    api::ProtoTasks,
    engine::{Bulk, Cancel, Engine, EngineConfig, Selector, SessionEnd, clock::ManualClock},
    model::{
        ids::Shard,
        job::{Failure, FailureKind, JobSpec, Parts},
        policy::RetrySpec,
        state::State,
        worker::{CancelReason, Directive, DirectiveKind, Ended, FailureAction, Report, WorkerFrame},
    },
    store::Store,
};

#[tokio::test]
async fn a_job_put_on_one_server_is_worked_off_on_the_other_and_awaited_on_the_first() {
    let store = store();
    let (here, there) = (server(&store), server(&store));
    let mut worker = Worker::connect(&there, hello("s", &["q"], 1)).await;
    for n in 0..3 {
        let id = enqueue(&here, "q", 1).await[0];
        let waiting = {
            let here = here.clone();
            tokio::spawn(async move { here.wait(id, 10_000, Parts::META).await })
        };
        let token = worker.next_job().await.token;
        assert_eq!(token.job, id);
        // The first one may end before its listener was heard of.
        if n > 0 {
            tokio::task::yield_now().await;
        }
        let start = Instant::now();
        worker.finish(token).await;
        let record = waiting.await.expect("no panic").expect("the job is there");
        assert_eq!(record.meta.state, State::Succeeded);
        assert!(start.elapsed() < Duration::from_secs(3), "it was told, not found by looking");
    }
}

#[tokio::test]
async fn nothing_is_told_while_nobody_listens() {
    let store = store();
    let (here, there) = (server(&store), server(&store));
    let mut worker = Worker::connect(&there, hello("s", &["q"], 10)).await;
    let told = store.count("tell");
    enqueue(&here, "q", 100).await;
    let mut last = 0;
    for _ in 0..100 {
        let token = worker.next_job().await.token;
        last = worker.finish(token).await;
    }
    worker.acked(last).await;
    assert_eq!(store.count("tell"), told);
}

#[tokio::test]
async fn what_is_not_told_is_found_by_looking() {
    let store = store();
    let (here, there) = (server(&store), server(&store));
    store.mute();
    let id = enqueue(&here, "q", 1).await[0];
    let mut worker = Worker::connect(&there, hello("s", &["q"], 1)).await;
    let token = worker.next_job().await.token;
    let waiting = tokio::spawn(async move { here.ended(id).await });
    until("it is looked at", async || store.count("get") > 1).await;
    worker.finish(token).await;
    let record = tokio::time::timeout(Duration::from_secs(8), waiting).await.expect("in time").expect("no panic");
    assert_eq!(record.expect("no error").expect("a record").meta.state, State::Succeeded);
}

#[tokio::test]
async fn a_cancel_reaches_the_worker_wherever_it_is() {
    let store = store();
    let (here, there) = (server(&store), server(&store));
    let id = enqueue(&here, "q", 1).await[0];
    let mut worker = Worker::connect(&there, hello("s", &["q"], 1)).await;
    let token = worker.next_job().await.token;
    worker.start(token).await;
    let bulk = Bulk { selector: Selector::Ids(vec![id]), limit: 1, cursor: None, dry_run: false };
    here.cancel(bulk, Cancel { reason: "enough".into(), grace_ms: None }).await.expect("the store answers");
    let order = worker.hears(|frame| frame.cancels.first().cloned()).await;
    assert_eq!((order.token, order.reason, order.message.as_str()), (token, CancelReason::Requested, "enough"));
}

#[tokio::test]
async fn a_directive_reaches_the_worker_wherever_it_is_once() {
    let store = store();
    let (here, there) = (server(&store), server(&store));
    let mut worker = Worker::connect(&there, hello("s", &["q"], 1)).await;
    until("the worker is known", async || !here.all_workers().await.is_empty()).await;
    let directive = Directive { kind: DirectiveKind::Quiet, grace_ms: None, reason: "deploy".into() };
    let known = here.signal(vec!["s".into(), "nobody".into()], directive.clone()).await.expect("the store answers");
    assert_eq!(known, ["s"]);
    assert_eq!(worker.hears(|frame| frame.directive.clone()).await, directive);
    // Quiet: it gets nothing, though there is something.
    enqueue(&here, "q", 1).await;
    until("the directive shows", async || here.all_workers().await[0].directive.is_some()).await;
    // Asked where the worker is, it is heard of by two ways.
    let later = Directive { reason: "deploy, later".into(), ..directive.clone() };
    there.signal(vec!["s".into()], later.clone()).await.expect("the store answers");
    assert_eq!(worker.hears(|frame| frame.directive.clone()).await, later);
    let run = Directive { kind: DirectiveKind::Run, ..directive };
    there.signal(vec!["s".into()], run.clone()).await.expect("the store answers");
    assert_eq!(worker.hears(|frame| frame.directive.clone()).await, run, "the one before was not repeated");
    worker.next_job().await;
}

#[tokio::test]
async fn workers_of_all_servers_are_listed_and_counted() {
    let store = store();
    let (here, there) = (server(&store), server(&store));
    let _one = Worker::connect(&here, hello("a", &["q"], 3)).await;
    let _two = Worker::connect(&there, hello("b", &["q"], 4)).await;
    until("both are known", async || here.all_workers().await.len() == 2 && there.all_workers().await.len() == 2).await;
    let listed: Vec<_> = here.all_workers().await.into_iter().map(|view| (view.session_id, view.server_id)).collect();
    let expected = [("a", here.server_id()), ("b", there.server_id())];
    assert_eq!(listed, expected.map(|(session, server)| (session.to_owned(), server.to_owned())));
    enqueue(&here, "q", 1).await;
    let view = &here.queues(None).await.expect("the store answers")[0];
    assert_eq!((view.workers, view.slots), (2, 7));

    there.shutdown(Duration::from_millis(200)).await;
    until("a server that stops takes its workers off the list", async || here.all_workers().await.len() == 1).await;
}

#[tokio::test]
async fn the_traces_of_a_server_that_died_are_removed() {
    let store = store();
    let past = Arc::new(ManualClock::at(1_000_000));
    let dead = Engine::start(EngineConfig::default(), store.clone(), past, Arc::new(ProtoTasks));
    let key = format!("server/{}", dead.server_id());
    let is_there = async || {
        let docs = store.docs(Shard(0), "server/").await.expect("the store answers");
        docs.iter().any(|(found, _)| *found == key)
    };
    until("it has shown itself", is_there).await;
    let here = server(&store);
    here.all_workers().await;
    until("somebody saw it", async || !is_there().await).await;
}

#[tokio::test]
async fn a_session_goes_on_at_another_server_that_never_saw_it() {
    let store = store();
    let (here, there) = (server(&store), server(&store));
    let once = JobSpec { retry: RetrySpec { max_attempts: Some(1), ..RetrySpec::default() }, ..job("q") };
    for answer in here.enqueue(vec![once; 3], false).await {
        answer.expect("taken");
    }
    let mut older = Worker::connect(&here, hello("s", &["q"], 3)).await;
    let mut tokens = Vec::new();
    for _ in 0..3 {
        let token = older.next_job().await.token;
        older.start(token).await;
        tokens.push(token);
    }
    let mut again = hello("s", &["q"], 2);
    again.held = vec![held(tokens[0]), held(tokens[1])];
    let mut worker = Worker::connect(&there, again).await;
    assert!(worker.welcome.lost.is_empty() && worker.welcome.settled.is_empty(), "{:?}", worker.welcome);
    assert_eq!(older.ended().await, SessionEnd::Moved);
    until("what it does not name goes back", async || state(&here, tokens[2].job).await == State::Ready).await;

    let failed = Report {
        token: tokens[0],
        ended: Ended::Failed {
            failure: Failure::new(FailureKind::Application, "no"),
            action: FailureAction::Policy,
            retry_delay_ms: None,
        },
        run_ms: None,
        checkpoint: None,
        enqueue: Vec::new(),
    };
    worker.send(WorkerFrame { outcomes: vec![failed], ..WorkerFrame::default() }).await;
    let seq = worker.finish(tokens[1]).await;
    worker.acked(seq).await;
    assert_eq!(state(&there, tokens[0].job).await, State::Dead, "the job's own policy was followed");
    assert_eq!(state(&there, tokens[1].job).await, State::Succeeded);
    assert_eq!(worker.next_job().await.token.job, tokens[2].job);
    until("it is listed at its new server", async || {
        let views = here.all_workers().await;
        views.len() == 1 && views[0].server_id == there.server_id()
    })
    .await;
}

#[tokio::test]
async fn who_holds_a_job_is_known_everywhere() {
    let store = store();
    let (here, there) = (server(&store), server(&store));
    let id = enqueue(&here, "q", 1).await[0];
    let mut worker = Worker::connect(&there, hello("s", &["q"], 1)).await;
    worker.next_job().await;
    let record = here.get(id, Parts::META).await.expect("the job is there");
    until("the other server is known", async || {
        here.all_workers().await;
        here.holder(&record).await == Some(("worker of s".to_owned(), "s".to_owned()))
    })
    .await;
    let held = here.held_jobs("s", 10).await.expect("the store answers");
    assert_eq!(held.iter().map(|record| record.meta.id).collect::<Vec<_>>(), [id]);
    assert!(here.held_jobs("nobody", 10).await.expect("the store answers").is_empty());
}
