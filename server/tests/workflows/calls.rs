//! Calls about workflows.
use jobwire_proto::v1::{self, JobState, WorkflowState};
use tonic::Code;

use super::harness::{Rig, by_ids, flow, in_group, job, node, on, on_group, refused};
use crate::on_every_store;

on_every_store!(
    a_creation_is_repeated_safely,
    graphs_that_cannot_be_are_refused,
    an_open_workflow_grows_until_it_is_closed,
    a_workflow_may_be_a_node,
    a_cancel_stops_everything,
    time_is_up,
    workflows_are_listed,
    nodes_go_with_their_workflow,
);

async fn a_creation_is_repeated_safely(rig: &mut Rig) {
    let spec = flow(vec![node("wa", &[]), node("wb", &[on("wa")])]);
    let first = rig.create(spec.clone()).await;
    let again = rig.create(spec.clone()).await;
    assert_eq!((again.duplicate, &again.job_ids), (true, &first.job_ids));
    let other = v1::WorkflowSpec { nodes: vec![node("wx", &[])], ..spec.clone() };
    let request = v1::CreateWorkflowRequest { workflow: Some(other), ..Default::default() };
    refused(rig.workflows().create_workflow(request).await, Code::AlreadyExists, "ID_CONFLICT", "");
    let dry = v1::CreateWorkflowRequest { workflow: Some(flow(vec![node("wz", &[])])), validate_only: true };
    let dry = rig.workflows().create_workflow(dry).await.expect("it would do").into_inner();
    let request = v1::GetWorkflowRequest { id: dry.workflow_id };
    refused(rig.workflows().get_workflow(request).await, Code::NotFound, "WORKFLOW_NOT_FOUND", "");
}

async fn graphs_that_cannot_be_are_refused(rig: &mut Rig) {
    let ask = async |nodes| {
        let request = v1::CreateWorkflowRequest { workflow: Some(flow(nodes)), ..Default::default() };
        rig.workflows().create_workflow(request).await
    };
    let circle = ask(vec![node("wa", &[on("wc")]), node("wb", &[on("wa")]), node("wc", &[on("wb")])]).await;
    let said = circle.as_ref().expect_err("refused").message().to_owned();
    assert!(said.contains("wa -> wc -> wb -> wa"), "{said}");
    refused(circle, Code::InvalidArgument, "DEPENDENCY_CYCLE", "workflow.nodes[0].job.depends_on");
    let own_group = ask(vec![in_group("g", node("wa", &[on_group("g")]))]).await;
    assert!(own_group.as_ref().expect_err("refused").message().contains("wa -> group g -> wa"));
    let nobody = ask(vec![node("wa", &[on("wx")])]).await;
    refused(nobody, Code::InvalidArgument, "INVALID_FIELD", "workflow.nodes[0].job.depends_on[0].node");
    let twice = ask(vec![node("wa", &[]), node("wa", &[])]).await;
    refused(twice, Code::InvalidArgument, "INVALID_FIELD", "workflow.nodes[1].name");
    let mut unique = node("wa", &[]);
    unique.job.as_mut().expect("a job").unique = Some(v1::Unique { key: "k".into(), ..Default::default() });
    refused(ask(vec![unique]).await, Code::InvalidArgument, "INVALID_FIELD", "workflow.nodes[0].job.unique");
    assert_eq!(rig.lease_some(10, 50).await, [], "nothing of it was put");
}

async fn an_open_workflow_grows_until_it_is_closed(rig: &mut Rig) {
    let spec = v1::WorkflowSpec { open: true, ..flow(vec![in_group("g", node("wa", &[]))]) };
    let id = rig.create(spec).await.workflow_id;
    rig.succeed("wa").await;
    let more = vec![in_group("g", node("wb", &[on("wa")])), node("wsum", &[on_group("g")])];
    let added = rig.add(&id, more.clone()).await.expect("it is open");
    assert_eq!(rig.add(&id, more).await.expect("the same again"), added);
    let circle = rig.add(&id, vec![in_group("g", node("wc", &[on("wsum")]))]).await;
    refused(circle, Code::InvalidArgument, "DEPENDENCY_CYCLE", "nodes[0].job.depends_on");
    let twice = rig.add(&id, vec![node("wa", &[on("wb")])]).await;
    refused(twice, Code::InvalidArgument, "INVALID_FIELD", "nodes[0].name");
    rig.succeed("wb").await;
    assert_eq!(rig.succeed("wsum").await.dependencies.len(), 2);
    assert_eq!(rig.get(&id).await.state(), WorkflowState::Running);
    assert!(!rig.close(&id).await.open);
    assert_eq!(rig.ended(&id).await.state(), WorkflowState::Succeeded);
    let late = rig.add(&id, vec![node("wz", &[])]).await;
    refused(late, Code::FailedPrecondition, "WORKFLOW_CLOSED", "");
}

async fn a_workflow_may_be_a_node(rig: &mut Rig) {
    let parent = rig.create(v1::WorkflowSpec { open: true, ..flow(vec![]) }).await.workflow_id;
    let child =
        v1::WorkflowSpec { name: "inner".into(), parent_workflow_id: parent.clone(), ..flow(vec![node("wa", &[])]) };
    let child = rig.create(child).await.workflow_id;
    rig.add(&parent, vec![node("wb", &[on("inner")])]).await.expect("it is open");
    rig.close(&parent).await;
    assert_eq!(rig.states(&parent).await["inner"], JobState::Running);
    rig.succeed("wa").await;
    assert_eq!(rig.ended(&child).await.state(), WorkflowState::Succeeded);
    rig.succeed("wb").await;
    assert_eq!(rig.ended(&parent).await.state(), WorkflowState::Succeeded);
    assert_eq!(rig.get(&child).await.parent_workflow_id, parent);
}

async fn a_cancel_stops_everything(rig: &mut Rig) {
    let nodes = vec![node("wa", &[]), node("wb", &[]), node("wc", &[on("wa")])];
    let spec = v1::WorkflowSpec { open: true, on_finish: Some(job("wend")), ..flow(nodes) };
    let created = rig.create(spec).await;
    let running = rig.lease("wa").await;
    let request = v1::CancelWorkflowsRequest {
        selector: by_ids(&[&created.workflow_id]),
        reason: "enough".into(),
        ..Default::default()
    };
    rig.workflows().cancel_workflows(request).await.expect("it is cancelled");
    assert_eq!(rig.job(&created.job_ids["wb"]).await.state(), JobState::Cancelled);
    let skipped = rig.job(&created.job_ids["wc"]).await;
    assert!(skipped.failure.expect("why").message.contains("enough"));
    rig.report(running.lease_token, v1::outcome::Result::Cancelled(v1::Cancelled::default())).await;
    assert_eq!(rig.ended(&created.workflow_id).await.state(), WorkflowState::Cancelled);
    rig.succeed("wend").await;
}

async fn time_is_up(rig: &mut Rig) {
    let total_timeout = Some(prost_types::Duration { seconds: 60, nanos: 0 });
    let spec = v1::WorkflowSpec { total_timeout, ..flow(vec![node("wa", &[]), node("wb", &[on("wa")])]) };
    let id = rig.create(spec).await.workflow_id;
    let abandoned = rig.create(v1::WorkflowSpec { open: true, ..flow(vec![]) }).await.workflow_id;
    rig.advance(61_000).await;
    assert_eq!(rig.ended(&id).await.state(), WorkflowState::Cancelled);
    assert_eq!(rig.get(&abandoned).await.state(), WorkflowState::Running);
    rig.advance(7 * 86_400_000).await;
    assert_eq!(rig.ended(&abandoned).await.state(), WorkflowState::Cancelled);
}

async fn workflows_are_listed(rig: &mut Rig) {
    let mut ids = Vec::new();
    for n in 0..5 {
        let spec = v1::WorkflowSpec {
            name: format!("f{n}"),
            tags: vec![if n % 2 == 0 { "even" } else { "odd" }.into()],
            ..flow(vec![node("wa", &[])])
        };
        ids.push(rig.create(spec).await.workflow_id);
    }
    let mut found = Vec::new();
    let mut token = String::new();
    loop {
        let request = v1::ListWorkflowsRequest { filter: "tag = even".into(), page_size: 2, page_token: token };
        let page = rig.workflows().list_workflows(request).await.expect("it lists").into_inner();
        found.extend(page.workflows.into_iter().map(|each| each.id));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    found.sort();
    let mut even = vec![ids[0].clone(), ids[2].clone(), ids[4].clone()];
    even.sort();
    assert_eq!(found, even);
    let request = v1::ListWorkflowNodesRequest {
        workflow_id: ids[0].clone(),
        filter: "state = READY AND name = wa".into(),
        ..Default::default()
    };
    let nodes = rig.workflows().list_workflow_nodes(request).await.expect("it lists").into_inner().nodes;
    assert_eq!(nodes.len(), 1);
    let request = v1::ListJobsRequest { filter: format!("workflow_id = \"{}\"", ids[1]), ..Default::default() };
    assert_eq!(rig.jobs().list_jobs(request).await.expect("it lists").into_inner().jobs.len(), 1);
}

async fn nodes_go_with_their_workflow(rig: &mut Rig) {
    let kept = v1::WorkflowSpec {
        retention: Some(prost_types::Duration { seconds: 600, nanos: 0 }),
        ..flow(vec![node("wa", &[])])
    };
    let created = rig.create(kept).await;
    rig.succeed("wa").await;
    assert_eq!(rig.ended(&created.workflow_id).await.state(), WorkflowState::Succeeded);
    rig.advance(500_000).await;
    rig.job(&created.job_ids["wa"]).await;
    rig.advance(200_000).await;
    let gone =
        async |id: &str| rig.jobs().get_job(v1::GetJobRequest { id: id.into(), ..Default::default() }).await.is_err();
    super::harness::until("its time is over", async || gone(&created.job_ids["wa"]).await).await;

    let created = rig.create(flow(vec![node("wa", &[]), node("wb", &[on("wa")])])).await;
    let delete =
        |force| v1::DeleteWorkflowsRequest { selector: by_ids(&[&created.workflow_id]), force, ..Default::default() };
    let kept = rig.workflows().delete_workflows(delete(false)).await.expect("it answers").into_inner().result;
    assert_eq!(kept.expect("counts").affected_count, 0);
    let done = rig.workflows().delete_workflows(delete(true)).await.expect("it answers").into_inner().result;
    assert_eq!(done.expect("counts").affected_count, 1);
    assert!(gone(&created.job_ids["wa"]).await && gone(&created.job_ids["wb"]).await);
    rig.recount().await;
}
