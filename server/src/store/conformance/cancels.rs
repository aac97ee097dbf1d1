//! Asking running jobs to stop.
//!
//! I16: nothing runs a cancelled job again.
use super::kit::{self, Kit, drain};
use crate::model::{
    job::CancelRequest,
    op::{DueKind, Guard, Verdict, Wake},
    state::{State, StateSet},
};

const RUNNING: Guard = Guard::In(StateSet::RUNNING);
const GRACE_OVER: Guard = Guard::Due(DueKind::Cancel);

pub async fn a_running_job_is_asked_to_stop(kit: &mut Kit) {
    let (id, secret) = kit.running("mail").await;
    let mut wakes = kit.store().watch();
    let asked = kit.wall_ms();
    let Verdict::Done(facts) = kit.act(id, RUNNING, kit::request_cancel(Some(20_000))).await else {
        panic!("a running job can be asked to stop");
    };
    let request = CancelRequest { reason: "enough".to_owned(), request_ms: asked, deadline_ms: Some(asked + 20_000) };
    assert_eq!((facts.state, facts.cancel.as_ref()), (State::Running, Some(&request)));
    assert!(drain(kit, &mut wakes).await.contains(&Wake::Cancel(vec![id])));
    assert_eq!(kit.meta(id).await.cancel, Some(request.clone()));

    // Its worker hears of it with every renewal.
    let Verdict::Done(facts) = kit.act(id, Guard::Token(secret), kit::extend(60_000)).await else {
        panic!("it still holds its lease");
    };
    assert_eq!(facts.cancel, Some(request));

    kit.advance(19_999);
    assert_eq!(kit.act(id, GRACE_OVER, kit::finish(State::Cancelled)).await, Verdict::Stale);
    assert_eq!(kit.next_in().await, Some(1));
    kit.advance(1);
    assert_eq!(kit.due_jobs().await, [(DueKind::Cancel, id)]);
    assert_eq!(kit.done(id, GRACE_OVER, kit::finish(State::Cancelled)).await, State::Cancelled);
    let late = kit.act(id, Guard::Token(secret), kit::finish(State::Succeeded)).await;
    assert_eq!(late, Verdict::Conflict(State::Cancelled), "the fence");
}

pub async fn nothing_runs_it_again(kit: &mut Kit) {
    let (id, secret) = kit.running("mail").await;
    kit.done(id, RUNNING, kit::request_cancel(None)).await;
    let before = kit.meta(id).await;
    kit.advance(kit::LEASE_MS);
    for guard in [Guard::Token(secret), Guard::Due(DueKind::Lease), RUNNING] {
        for act in [kit::retry_in(1, 1), kit::later(1), kit::give_back(), kit::crashed()] {
            match kit.act(id, guard, act.clone()).await {
                Verdict::CancelRequested(request) => assert_eq!(Some(&request), before.cancel.as_ref()),
                other => panic!("{act:?} under {guard:?} gave {other:?}"),
            }
        }
    }
    assert_eq!(kit.meta(id).await, before);
    assert_eq!(kit.due_jobs().await, [(DueKind::Lease, id)], "without a grace no deadline is due");
    assert_eq!(kit.done(id, Guard::Token(secret), kit::finish(State::Cancelled)).await, State::Cancelled);
}

pub async fn success_that_comes_first_stands(kit: &mut Kit) {
    let (id, secret) = kit.running("mail").await;
    kit.done(id, RUNNING, kit::request_cancel(Some(0))).await;
    let Verdict::Done(facts) = kit.act(id, Guard::Token(secret), kit::finish(State::Succeeded)).await else {
        panic!("it came first");
    };
    assert_eq!((facts.state, facts.cancel), (State::Succeeded, None));
    assert!(kit.meta(id).await.cancel.is_some(), "the trace of the request remains");
    assert_eq!(kit.due_jobs().await, []);
    assert_eq!(kit.act(id, RUNNING, kit::request_cancel(None)).await, Verdict::Conflict(State::Succeeded));

    // A job that is retried later starts without it.
    kit.done(id, kit::ANY, kit::requeue()).await;
    assert_eq!(kit.meta(id).await.cancel, None);
}

pub async fn asking_again_only_shortens(kit: &mut Kit) {
    let (id, _) = kit.running("mail").await;
    let asked = kit.wall_ms();
    for (wait, grace, deadline) in [
        (0, None, None),
        (10, Some(50_000), Some(50_010)),
        (10, Some(90_000), Some(50_010)),
        (10, None, Some(50_010)),
        (10, Some(1_000), Some(1_040)),
    ] {
        kit.advance(wait);
        kit.done(id, RUNNING, kit::request_cancel(grace)).await;
        let request = kit.meta(id).await.cancel.expect("it was asked to stop");
        let deadline = deadline.map(|ms| asked + ms);
        assert_eq!((request.request_ms, request.deadline_ms), (asked, deadline), "grace {grace:?}");
    }
    let mut wakes = kit.store().watch();
    let version = kit.meta(id).await.version;
    kit.done(id, RUNNING, kit::request_cancel(None)).await;
    assert_eq!(kit.meta(id).await.version, version, "what changes nothing is no change");
    assert_eq!(drain(kit, &mut wakes).await, []);
}
