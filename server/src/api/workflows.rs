//! WorkflowService: part of the contract, not served yet.
use jobwire_proto::v1::{self, workflow_service_server::WorkflowService};
use tonic::Request;

use super::{Answer, answer, status::ApiError};

pub struct Workflows;

#[tonic::async_trait]
impl WorkflowService for Workflows {
    async fn create_workflow(&self, _: Request<v1::CreateWorkflowRequest>) -> Answer<v1::CreateWorkflowResponse> {
        answer(Err(ApiError::disabled("CreateWorkflow")))
    }

    async fn add_workflow_nodes(
        &self,
        _: Request<v1::AddWorkflowNodesRequest>,
    ) -> Answer<v1::AddWorkflowNodesResponse> {
        answer(Err(ApiError::disabled("AddWorkflowNodes")))
    }

    async fn close_workflow(&self, _: Request<v1::CloseWorkflowRequest>) -> Answer<v1::CloseWorkflowResponse> {
        answer(Err(ApiError::disabled("CloseWorkflow")))
    }

    async fn get_workflow(&self, _: Request<v1::GetWorkflowRequest>) -> Answer<v1::GetWorkflowResponse> {
        answer(Err(ApiError::disabled("GetWorkflow")))
    }

    async fn list_workflows(&self, _: Request<v1::ListWorkflowsRequest>) -> Answer<v1::ListWorkflowsResponse> {
        answer(Err(ApiError::disabled("ListWorkflows")))
    }

    async fn list_workflow_nodes(
        &self,
        _: Request<v1::ListWorkflowNodesRequest>,
    ) -> Answer<v1::ListWorkflowNodesResponse> {
        answer(Err(ApiError::disabled("ListWorkflowNodes")))
    }

    async fn wait_workflow(&self, _: Request<v1::WaitWorkflowRequest>) -> Answer<v1::WaitWorkflowResponse> {
        answer(Err(ApiError::disabled("WaitWorkflow")))
    }

    async fn cancel_workflows(&self, _: Request<v1::CancelWorkflowsRequest>) -> Answer<v1::CancelWorkflowsResponse> {
        answer(Err(ApiError::disabled("CancelWorkflows")))
    }

    async fn retry_workflows(&self, _: Request<v1::RetryWorkflowsRequest>) -> Answer<v1::RetryWorkflowsResponse> {
        answer(Err(ApiError::disabled("RetryWorkflows")))
    }

    async fn delete_workflows(&self, _: Request<v1::DeleteWorkflowsRequest>) -> Answer<v1::DeleteWorkflowsResponse> {
        answer(Err(ApiError::disabled("DeleteWorkflows")))
    }
}
