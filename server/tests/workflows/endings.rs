//! What the ends of nodes mean for the others, and for the workflow.
use jobwire_proto::v1::{self, DependencyCondition, JobState, WorkflowFailurePolicy, WorkflowState};

use super::harness::{Rig, by_ids, flow, in_group, job, node, on, on_group, told, when};
use crate::on_every_store;

on_every_store!(
    a_chain_passes_results_on,
    a_chord_joins_once_in_order,
    an_empty_group_is_finished_at_once,
    a_failure_cancels_what_waits_for_it,
    a_handled_failure_fails_nothing,
    a_failure_may_cancel_everything,
    held_until_somebody_retries,
    a_retry_revives_what_was_cancelled,
    each_callback_once,
    every_ending_counts,
    restarts_lose_nothing,
);

async fn a_chain_passes_results_on(rig: &mut Rig) {
    let created = rig.create(flow(vec![node("wa", &[]), node("wb", &[on("wa")]), node("wc", &[on("wb")])])).await;
    let id = created.workflow_id;
    assert_eq!(rig.job(&created.job_ids["wb"]).await.state(), JobState::Blocked);
    rig.succeed("wa").await;
    let lease = rig.succeed("wb").await;
    let [passed] = &lease.dependencies[..] else { panic!("one result: {:?}", lease.dependencies) };
    assert_eq!((passed.alias.as_str(), told(&passed.result)), ("wa", "\"wa\""));
    let lease = rig.succeed("wc").await;
    assert_eq!(told(&lease.dependencies[0].result), "\"wb\"");
    let ended = rig.ended(&id).await;
    assert_eq!((ended.state(), ended.percent, ended.node_count), (WorkflowState::Succeeded, 100.0, 3));
    let shown = rig.job(&created.job_ids["wb"]).await;
    assert_eq!((shown.workflow_id, shown.node), (id, "wb".to_owned()));
    assert_eq!(shown.purge_time, None, "kept as long as its workflow");
    rig.recount().await;
}

async fn a_chord_joins_once_in_order(rig: &mut Rig) {
    let mut nodes: Vec<_> = (0..50).map(|n| in_group("parts", node(&format!("w{n:02}"), &[]))).collect();
    nodes.push(node("wsum", &[on_group("parts")]));
    let created = rig.create(flow(nodes)).await;
    let mut left = 50;
    while left > 0 {
        for lease in rig.lease_some(20, 500).await {
            let text = super::harness::task(&lease).r#type;
            rig.report(lease.lease_token, super::harness::success(&text)).await;
            left -= 1;
        }
    }
    let sum = rig.lease("wsum").await;
    let passed: Vec<String> = sum.dependencies.iter().map(|each| told(&each.result).to_owned()).collect();
    assert_eq!(passed, (0..50).map(|n| format!("w{n:02}")).collect::<Vec<_>>());
    let request = v1::ListDependencyResultsRequest {
        job_id: created.job_ids["wsum"].clone(),
        page_size: 20,
        ..Default::default()
    };
    let page = rig.workers().list_dependency_results(request.clone()).await.expect("it lists").into_inner();
    assert_eq!(page.results.len(), 20);
    let rest = v1::ListDependencyResultsRequest { page_token: page.next_page_token, ..request };
    let page = rig.workers().list_dependency_results(rest).await.expect("it lists").into_inner();
    assert_eq!(page.results[0].alias, "w20");
    rig.report(sum.lease_token, super::harness::success("0")).await;
    assert_eq!(rig.ended(&created.workflow_id).await.state(), WorkflowState::Succeeded);
}

async fn an_empty_group_is_finished_at_once(rig: &mut Rig) {
    let id = rig.create(flow(vec![node("wsum", &[on_group("none")])])).await.workflow_id;
    assert_eq!(rig.succeed("wsum").await.dependencies, []);
    assert_eq!(rig.ended(&id).await.state(), WorkflowState::Succeeded);
    let id = rig.create(flow(vec![])).await.workflow_id;
    assert_eq!(rig.ended(&id).await.state(), WorkflowState::Succeeded);
}

async fn a_failure_cancels_what_waits_for_it(rig: &mut Rig) {
    let nodes = vec![node("wa", &[]), node("wb", &[on("wa")]), node("wc", &[on("wb")]), node("wd", &[])];
    let created = rig.create(flow(nodes)).await;
    rig.fail("wa").await;
    let skipped = rig.until_job(&created.job_ids["wc"], JobState::Cancelled).await;
    let failure = skipped.failure.expect("it says why");
    assert_eq!(failure.kind(), v1::FailureKind::Dependency);
    assert!(failure.message.contains("node wb"), "{}", failure.message);
    rig.succeed("wd").await;
    assert_eq!(rig.ended(&created.workflow_id).await.state(), WorkflowState::Failed);
}

async fn a_handled_failure_fails_nothing(rig: &mut Rig) {
    let nodes = vec![
        node("wa", &[]),
        node("wgood", &[on("wa")]),
        node("wbad", &[when(DependencyCondition::Failed, on("wa"))]),
        node("wend", &[when(DependencyCondition::Finished, on("wgood")), on("wbad")]),
    ];
    let id = rig.create(flow(nodes.clone())).await.workflow_id;
    rig.fail("wa").await;
    let lease = rig.succeed("wbad").await;
    assert_eq!(lease.dependencies[0].state(), JobState::Dead);
    assert_eq!(lease.dependencies[0].failure.as_ref().expect("why").message, "no");
    rig.succeed("wend").await;
    assert_eq!(rig.ended(&id).await.state(), WorkflowState::Succeeded);
    // The branch that was not taken fails nothing either.
    let id = rig.create(flow(nodes)).await.workflow_id;
    rig.succeed("wa").await;
    rig.succeed("wgood").await;
    assert_eq!(rig.ended(&id).await.state(), WorkflowState::Succeeded);
    assert_eq!(rig.states(&id).await["wbad"], JobState::Cancelled);
}

async fn a_failure_may_cancel_everything(rig: &mut Rig) {
    let nodes = vec![node("wa", &[]), node("wb", &[on("wc")]), node("wc", &[]), node("wd", &[])];
    let policy = WorkflowFailurePolicy::CancelAll.into();
    let created = rig.create(v1::WorkflowSpec { on_node_failure: policy, ..flow(nodes) }).await;
    let running = rig.lease("wd").await;
    rig.fail("wa").await;
    for name in ["wb", "wc"] {
        rig.until_job(&created.job_ids[name], JobState::Cancelled).await;
    }
    super::harness::until("the running one is asked to stop", async || {
        rig.job(&created.job_ids["wd"]).await.cancel_request_time.is_some()
    })
    .await;
    rig.report(running.lease_token, v1::outcome::Result::Cancelled(v1::Cancelled::default())).await;
    assert_eq!(rig.ended(&created.workflow_id).await.state(), WorkflowState::Failed);
}

async fn held_until_somebody_retries(rig: &mut Rig) {
    let nodes = vec![node("wa", &[]), node("wb", &[on("wa")])];
    let policy = WorkflowFailurePolicy::Hold.into();
    let created = rig.create(v1::WorkflowSpec { on_node_failure: policy, ..flow(nodes) }).await;
    rig.fail("wa").await;
    rig.until(&created.workflow_id, WorkflowState::Held).await;
    assert_eq!(rig.job(&created.job_ids["wb"]).await.state(), JobState::Blocked);
    let request = v1::RetryJobsRequest { selector: by_ids(&[&created.job_ids["wa"]]), ..Default::default() };
    rig.jobs().retry_jobs(request).await.expect("it is retried");
    rig.until(&created.workflow_id, WorkflowState::Running).await;
    rig.succeed("wa").await;
    rig.succeed("wb").await;
    assert_eq!(rig.ended(&created.workflow_id).await.state(), WorkflowState::Succeeded);
}

async fn a_retry_revives_what_was_cancelled(rig: &mut Rig) {
    let nodes = vec![node("wa", &[]), node("wb", &[on("wa")]), node("wc", &[on("wb")])];
    let spec = v1::WorkflowSpec {
        on_success: Some(job("wyes")),
        on_failure: Some(job("wno")),
        on_finish: Some(job("wend")),
        ..flow(nodes)
    };
    let id = rig.create(spec).await.workflow_id;
    rig.fail("wa").await;
    assert_eq!(rig.ended(&id).await.state(), WorkflowState::Failed);
    rig.succeed("wno").await;
    rig.succeed("wend").await;
    let request = v1::RetryWorkflowsRequest { selector: by_ids(&[&id]), ..Default::default() };
    let result = rig.workflows().retry_workflows(request).await.expect("it is retried").into_inner().result;
    assert_eq!(result.expect("counts").affected_count, 1);
    for kind in ["wa", "wb", "wc"] {
        rig.succeed(kind).await;
    }
    let ended = rig.ended(&id).await;
    assert_eq!((ended.state(), ended.callback_job_ids.len()), (WorkflowState::Succeeded, 3));
    // Success may follow failure; the finish was told of before.
    rig.succeed("wyes").await;
    assert_eq!(rig.lease_some(10, 50).await, []);
}

async fn each_callback_once(rig: &mut Rig) {
    let nodes = vec![node("wa", &[]), node("wb", &[])];
    let callbacks = || v1::WorkflowSpec {
        on_success: Some(job("wyes")),
        on_failure: Some(job("wno")),
        on_finish: Some(job("wend")),
        ..flow(nodes.clone())
    };
    let id = rig.create(callbacks()).await.workflow_id;
    rig.succeed("wa").await;
    rig.succeed("wb").await;
    let told = rig.succeed("wyes").await;
    assert_eq!(super::harness::task(&told).workflow_id, id);
    rig.succeed("wend").await;
    let id = rig.create(callbacks()).await.workflow_id;
    rig.fail("wa").await;
    // At the first failure, not at the end.
    rig.succeed("wno").await;
    assert_eq!(rig.get(&id).await.state(), WorkflowState::Running);
    rig.fail("wb").await;
    rig.succeed("wend").await;
    assert_eq!(rig.ended(&id).await.state(), WorkflowState::Failed);
    assert_eq!(rig.lease_some(10, 50).await, []);
}

/// Deleted, cancelled, discarded: each is an end that others hear of.
async fn every_ending_counts(rig: &mut Rig) {
    let finished = |of: &str| when(DependencyCondition::Finished, on(of));
    let names = ["wdelete", "wcancel", "wdiscard", "wexpire"];
    let mut nodes: Vec<_> = names.iter().map(|name| node(name, &[])).collect();
    nodes[3].job.as_mut().expect("a job").expiration =
        Some(v1::job_spec::Expiration::Ttl(prost_types::Duration { seconds: 30, nanos: 0 }));
    nodes.push(node("wjoin", &names.map(finished)));
    let created = rig.create(flow(nodes)).await;
    let delete =
        v1::DeleteJobsRequest { selector: by_ids(&[&created.job_ids["wdelete"]]), force: true, ..Default::default() };
    rig.jobs().delete_jobs(delete).await.expect("it goes");
    let cancel = v1::CancelJobsRequest { selector: by_ids(&[&created.job_ids["wcancel"]]), ..Default::default() };
    rig.jobs().cancel_jobs(cancel).await.expect("it is cancelled");
    let lease = rig.lease("wdiscard").await;
    let discard = v1::Failed { action: v1::FailureAction::Discard.into(), ..Default::default() };
    rig.report(lease.lease_token, v1::outcome::Result::Failed(discard)).await;
    rig.advance(31_000).await;
    rig.succeed("wjoin").await;
    assert_eq!(rig.ended(&created.workflow_id).await.state(), WorkflowState::Succeeded);
}

async fn restarts_lose_nothing(rig: &mut Rig) {
    let mut nodes: Vec<_> = (0..6).map(|n| in_group("parts", node(&format!("w{n}"), &[]))).collect();
    nodes.push(node("wsum", &[on_group("parts")]));
    let spec = v1::WorkflowSpec { on_finish: Some(job("wend")), ..flow(nodes) };
    let id = rig.create(spec).await.workflow_id;
    for n in 0..6 {
        rig.succeed(&format!("w{n}")).await;
        if n % 2 == 1 {
            rig.restart().await;
        }
    }
    rig.restart().await;
    assert_eq!(rig.succeed("wsum").await.dependencies.len(), 6);
    rig.restart().await;
    rig.succeed("wend").await;
    assert_eq!(rig.ended(&id).await.state(), WorkflowState::Succeeded);
    rig.recount().await;
}
