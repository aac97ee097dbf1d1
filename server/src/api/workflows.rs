//! WorkflowService: jobs that belong together.
use jobwire_proto::v1::{self, workflow_service_server::WorkflowService};
use tokio_util::sync::CancellationToken;
use tonic::Request;

use super::{
    Answer, answer,
    convert::{
        NOTE_BYTES, Parsed, at_most, bulk, job_id, size, span_between, token,
        workflow::{nodes, selected, to_node, to_result, to_workflow, workflow},
    },
    status::ApiError,
    unary,
};
use crate::{
    engine::{Cancel, Created, Engine, FlowError, FlowSelector},
    model::{
        filter::{NODE_FIELDS, WORKFLOW_FIELDS},
        ids::JobId,
        limits::{BULK_DEFAULT, BULK_MOST},
        time::{MINUTE, SECOND},
        workflow::FlowState,
    },
};

/// Workflows and nodes of a page when the request does not say.
const PAGE: usize = 50;
/// How long WaitWorkflow waits when the request does not say, and at most.
const WAIT: (i64, i64) = (30 * SECOND, 5 * MINUTE);

pub struct Workflows {
    engine: Engine,
    draining: CancellationToken,
}

impl Workflows {
    pub fn new(engine: Engine, draining: CancellationToken) -> Self {
        Self { engine, draining }
    }

    async fn create(&self, request: v1::CreateWorkflowRequest) -> Parsed<v1::CreateWorkflowResponse> {
        let asked = request.workflow.ok_or_else(|| ApiError::field("workflow", "is required"))?;
        let within = |error: ApiError| error.within("workflow");
        let spec = workflow(unary(&self.engine), asked).map_err(within)?;
        let parent = spec.parent;
        let created = self.engine.create_workflow(spec, request.validate_only).await;
        let Created { id, nodes, duplicate } = created.map_err(|error| match error {
            FlowError::NotFound(id) if Some(id) == parent => ApiError::from(FlowError::NotFound(id)),
            error @ (FlowError::Graph(_) | FlowError::NoJob(..)) => within(error.into()),
            error => error.into(),
        })?;
        Ok(v1::CreateWorkflowResponse {
            workflow_id: id.map(|id| id.to_string()).unwrap_or_default(),
            job_ids: names(nodes),
            duplicate,
        })
    }

    async fn add(&self, request: v1::AddWorkflowNodesRequest) -> Parsed<v1::AddWorkflowNodesResponse> {
        let id = job_id("workflow_id", &request.workflow_id)?;
        if request.nodes.is_empty() {
            return Err(ApiError::field("nodes", "must not be empty"));
        }
        let nodes = nodes(unary(&self.engine), request.nodes)?;
        let added = self.engine.add_nodes(id, nodes).await?;
        Ok(v1::AddWorkflowNodesResponse { job_ids: names(added.nodes) })
    }

    async fn close(&self, request: v1::CloseWorkflowRequest) -> Parsed<v1::CloseWorkflowResponse> {
        let view = self.engine.close_workflow(job_id("workflow_id", &request.workflow_id)?).await?;
        Ok(v1::CloseWorkflowResponse { workflow: Some(to_workflow(view)) })
    }

    async fn get(&self, request: v1::GetWorkflowRequest) -> Parsed<v1::GetWorkflowResponse> {
        let view = self.engine.workflow(job_id("id", &request.id)?).await?;
        Ok(v1::GetWorkflowResponse { workflow: Some(to_workflow(view)) })
    }

    async fn list(&self, request: v1::ListWorkflowsRequest) -> Parsed<v1::ListWorkflowsResponse> {
        let limits = self.engine.limits();
        let filter = bulk::filter(limits, request.filter, WORKFLOW_FIELDS)?;
        let page = size("page_size", request.page_size, PAGE, limits.page_size)?;
        let question = token::question(&["ListWorkflows", &filter.to_string()]);
        let after: Option<(i64, JobId)> = token::read("page_token", question, &request.page_token)?;
        let mut found = self.engine.workflows(&filter, after, page).await?;
        let more = found.len() > page;
        found.truncate(page);
        let next = found.last().filter(|_| more).map(|view| (view.flow.create_ms, view.id));
        Ok(v1::ListWorkflowsResponse {
            workflows: found.into_iter().map(to_workflow).collect(),
            next_page_token: token::write(question, next),
        })
    }

    async fn list_nodes(&self, request: v1::ListWorkflowNodesRequest) -> Parsed<v1::ListWorkflowNodesResponse> {
        let limits = self.engine.limits();
        let id = job_id("workflow_id", &request.workflow_id)?;
        let filter = bulk::filter(limits, request.filter, NODE_FIELDS)?;
        let page = size("page_size", request.page_size, PAGE, limits.page_size)?;
        let question = token::question(&["ListWorkflowNodes", &id.to_string(), &filter.to_string()]);
        let from: u64 = token::read("page_token", question, &request.page_token)?.unwrap_or_default();
        let (found, next) = self.engine.workflow_nodes(id, &filter, from as usize, page).await?;
        Ok(v1::ListWorkflowNodesResponse {
            nodes: found.into_iter().map(to_node).collect(),
            next_page_token: token::write(question, next.map(|next| next as u64)),
        })
    }

    async fn wait(&self, request: v1::WaitWorkflowRequest) -> Parsed<v1::WaitWorkflowResponse> {
        let id = job_id("id", &request.id)?;
        let timeout_ms = span_between("timeout", request.timeout.as_ref(), 0, WAIT.1)?.unwrap_or(WAIT.0);
        let view = tokio::select! {
            view = self.engine.wait_workflow(id, timeout_ms) => view?,
            () = self.draining.cancelled() => return Err(ApiError::shutting_down()),
        };
        let finished = view.flow.state.is_terminal();
        Ok(v1::WaitWorkflowResponse { workflow: Some(to_workflow(view)), finished })
    }

    async fn cancel(&self, request: v1::CancelWorkflowsRequest) -> Parsed<v1::CancelWorkflowsResponse> {
        let limits = self.engine.limits();
        let (selector, question) = selected(limits, "CancelWorkflows", request.selector, &request.continue_token)?;
        let cancel = Cancel {
            reason: at_most("reason", request.reason, NOTE_BYTES)?,
            grace_ms: span_between("grace", request.grace.as_ref(), 0, limits.delay_ms)?,
        };
        let limit = size("limit", request.limit, BULK_DEFAULT, BULK_MOST)?;
        let mut done = self.engine.cancel_workflows(selector, cancel, limit, request.dry_run).await?;
        // Cancelling twice is no error.
        done.errors.retain(|(_, error)| !matches!(error, FlowError::WrongState(FlowState::Cancelled)));
        Ok(v1::CancelWorkflowsResponse { result: Some(to_result(question, done)) })
    }

    async fn retry(&self, request: v1::RetryWorkflowsRequest) -> Parsed<v1::RetryWorkflowsResponse> {
        let (selector, question) =
            selected(self.engine.limits(), "RetryWorkflows", request.selector, &request.continue_token)?;
        let limit = size("limit", request.limit, BULK_DEFAULT, BULK_MOST)?;
        let done = self.engine.retry_workflows(selector, limit, request.dry_run).await?;
        Ok(v1::RetryWorkflowsResponse { result: Some(to_result(question, done)) })
    }

    async fn delete(&self, request: v1::DeleteWorkflowsRequest) -> Parsed<v1::DeleteWorkflowsResponse> {
        let (selector, question) =
            selected(self.engine.limits(), "DeleteWorkflows", request.selector, &request.continue_token)?;
        // By filter, without `force`, the call counts what it would delete with it.
        let only_count = matches!(selector, FlowSelector::Filter { .. }) && !request.force;
        let limit = size("limit", request.limit, BULK_DEFAULT, BULK_MOST)?;
        let mut done = self.engine.delete_workflows(selector, limit, request.force, only_count).await?;
        // Left alone, and counted.
        let left = done.errors.extract_if(.., |(_, error)| matches!(error, FlowError::WrongState(_)));
        done.matched += left.count();
        Ok(v1::DeleteWorkflowsResponse { result: Some(to_result(question, done)) })
    }
}

fn names(nodes: std::collections::BTreeMap<String, JobId>) -> std::collections::BTreeMap<String, String> {
    nodes.into_iter().map(|(name, id)| (name, id.to_string())).collect()
}

#[tonic::async_trait]
impl WorkflowService for Workflows {
    async fn create_workflow(&self, request: Request<v1::CreateWorkflowRequest>) -> Answer<v1::CreateWorkflowResponse> {
        answer(self.create(request.into_inner()).await)
    }

    async fn add_workflow_nodes(
        &self,
        request: Request<v1::AddWorkflowNodesRequest>,
    ) -> Answer<v1::AddWorkflowNodesResponse> {
        answer(self.add(request.into_inner()).await)
    }

    async fn close_workflow(&self, request: Request<v1::CloseWorkflowRequest>) -> Answer<v1::CloseWorkflowResponse> {
        answer(self.close(request.into_inner()).await)
    }

    async fn get_workflow(&self, request: Request<v1::GetWorkflowRequest>) -> Answer<v1::GetWorkflowResponse> {
        answer(self.get(request.into_inner()).await)
    }

    async fn list_workflows(&self, request: Request<v1::ListWorkflowsRequest>) -> Answer<v1::ListWorkflowsResponse> {
        answer(self.list(request.into_inner()).await)
    }

    async fn list_workflow_nodes(
        &self,
        request: Request<v1::ListWorkflowNodesRequest>,
    ) -> Answer<v1::ListWorkflowNodesResponse> {
        answer(self.list_nodes(request.into_inner()).await)
    }

    async fn wait_workflow(&self, request: Request<v1::WaitWorkflowRequest>) -> Answer<v1::WaitWorkflowResponse> {
        answer(self.wait(request.into_inner()).await)
    }

    async fn cancel_workflows(
        &self,
        request: Request<v1::CancelWorkflowsRequest>,
    ) -> Answer<v1::CancelWorkflowsResponse> {
        answer(self.cancel(request.into_inner()).await)
    }

    async fn retry_workflows(&self, request: Request<v1::RetryWorkflowsRequest>) -> Answer<v1::RetryWorkflowsResponse> {
        answer(self.retry(request.into_inner()).await)
    }

    async fn delete_workflows(
        &self,
        request: Request<v1::DeleteWorkflowsRequest>,
    ) -> Answer<v1::DeleteWorkflowsResponse> {
        answer(self.delete(request.into_inner()).await)
    }
}
