//! Workflows: how a flow becomes one, and the handle of one.

use std::collections::{BTreeMap, HashMap};
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures::future::try_join_all;
use futures::{FutureExt, TryStreamExt};
use jobwire_proto::v1 as pb;
use prost::Message;
use serde::de::DeserializeOwned;

use crate::bulk::BulkResult;
use crate::client::{Client, Shared};
use crate::convert::{from_timestamp, to_duration};
use crate::errors::{Code, Error, RpcError};
use crate::flow::{Ends, Flow, IntoFlow, Node};
use crate::job::Job;
use crate::listing::Listing;
use crate::types::{Failure, JobState, Progress};

/// Nodes and bytes of one call.
const NODES_MAX: usize = 1_000;
const BYTES_MAX: usize = 1 << 20;
/// One WaitWorkflow.
const WAIT: Duration = Duration::from_secs(20);

impl Client {
    /// Creates a workflow: of a [`Flow`], or of what [`chain`](crate::chain), [`group`](crate::group) and
    /// [`chord`](crate::chord) make. All or nothing, up to 1,000 nodes and 1 MiB; a larger one is created open, filled and
    /// closed. Repeats while the server is unavailable, with the same id.
    pub async fn start<F: IntoFlow>(&self, flow: F) -> Result<Workflow<F::Output>, Error> {
        let (flow, ends) = flow.into_flow();
        let (mut spec, nodes) = flow.into_parts()?;
        let mut calls = portions(nodes)?.into_iter();
        let stays_open = std::mem::replace(&mut spec.open, true);
        spec.nodes = calls.next().unwrap_or_default();
        let whole = calls.len() == 0;
        spec.open = stays_open || !whole;
        let request = pb::CreateWorkflowRequest { workflow: Some(spec), ..Default::default() };
        let answer: pb::CreateWorkflowResponse =
            self.shared().idempotent("/jobwire.v1.WorkflowService/CreateWorkflow", request).await?;
        let mut workflow = Workflow::new(self.clone(), answer.workflow_id, ends);
        let mut job_ids: HashMap<String, String> = answer.job_ids.into_iter().collect();
        for nodes in calls {
            job_ids.extend(workflow.add(nodes).await?);
        }
        workflow.job_ids = Arc::new(job_ids);
        if !whole && !stays_open {
            workflow.close().await?;
        }
        Ok(workflow)
    }

    /// A handle of a workflow known by its id. Nothing is asked of the server. A handler adds to its own one by
    /// `client.workflow(ctx.workflow_id()).extend(flow)`.
    pub fn workflow(&self, id: impl Into<String>) -> Workflow<()> {
        Workflow::new(self.clone(), id.into(), Ends::None)
    }

    /// The workflows that a filter matches; empty = all. Filterable: id, name, state, tag, create_time, finish_time,
    /// parent_workflow_id.
    pub fn workflows(&self, filter: impl Into<String>) -> Listing<WorkflowInfo> {
        let (client, filter) = (self.clone(), filter.into());
        Listing::new(move |page| {
            let (client, filter) = (client.clone(), filter.clone());
            async move {
                let request = pb::ListWorkflowsRequest { filter, page_size: page.size, page_token: page.token };
                let answer: pb::ListWorkflowsResponse =
                    client.shared().idempotent("/jobwire.v1.WorkflowService/ListWorkflows", request).await?;
                Ok((answer.workflows.into_iter().map(WorkflowInfo::from_proto).collect(), answer.next_page_token))
            }
            .boxed()
        })
    }
}

/// What goes into one call each.
fn portions(nodes: Vec<pb::WorkflowNode>) -> Result<Vec<Vec<pb::WorkflowNode>>, Error> {
    /// Kept free for everything that is not nodes.
    const MARGIN: usize = 64 << 10;
    let (mut all, mut bytes) = (vec![Vec::new()], 0);
    for node in nodes {
        // Tag and length.
        let size = node.encoded_len() + 8;
        if size > BYTES_MAX - MARGIN {
            return Err(Error::invalid("workflow.nodes.job.payload", format!("node {} has {size} bytes", node.name)));
        }
        let last = all.last().map_or(0, Vec::len);
        if last >= NODES_MAX || bytes + size > BYTES_MAX - MARGIN {
            all.push(Vec::new());
            bytes = 0;
        }
        bytes += size;
        if let Some(last) = all.last_mut() {
            last.push(node);
        }
    }
    Ok(all)
}

/// A workflow, known by its id; what it gives as a whole is an `O`. To look needs the scope `read`, to add nodes `enqueue`,
/// to cancel and to retry `admin`.
pub struct Workflow<O> {
    client: Client,
    id: String,
    /// Of its nodes, as far as they are known here.
    job_ids: Arc<HashMap<String, String>>,
    ends: Ends,
    output: PhantomData<fn() -> O>,
}

impl<O> Clone for Workflow<O> {
    fn clone(&self) -> Self {
        let Self { client, id, job_ids, ends, output: _ } = self;
        let (client, id, job_ids, ends) = (client.clone(), id.clone(), job_ids.clone(), ends.clone());
        Self { client, id, job_ids, ends, output: PhantomData }
    }
}

impl<O> std::fmt::Debug for Workflow<O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workflow").field("id", &self.id).finish_non_exhaustive()
    }
}

impl<O> Workflow<O> {
    fn new(client: Client, id: String, ends: Ends) -> Self {
        Self { client, id, job_ids: Arc::default(), ends, output: PhantomData }
    }

    fn shared(&self) -> &Shared {
        self.client.shared()
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The record now.
    pub async fn status(&self) -> Result<WorkflowInfo, Error> {
        let request = pb::GetWorkflowRequest { id: self.id.clone() };
        let answer: pb::GetWorkflowResponse =
            self.shared().idempotent("/jobwire.v1.WorkflowService/GetWorkflow", request).await?;
        Ok(WorkflowInfo::from_proto(answer.workflow.unwrap_or_default()))
    }

    /// Its nodes, those that a filter over name, group and state matches; empty = all.
    pub fn nodes(&self, filter: impl Into<String>) -> Listing<NodeInfo> {
        let (client, id, filter) = (self.client.clone(), self.id.clone(), filter.into());
        Listing::new(move |page| {
            let (client, workflow_id, filter) = (client.clone(), id.clone(), filter.clone());
            async move {
                let (page_size, page_token) = (page.size, page.token);
                let request = pb::ListWorkflowNodesRequest { workflow_id, filter, page_size, page_token };
                let answer: pb::ListWorkflowNodesResponse =
                    client.shared().idempotent("/jobwire.v1.WorkflowService/ListWorkflowNodes", request).await?;
                Ok((answer.nodes.into_iter().map(NodeInfo::from_proto).collect(), answer.next_page_token))
            }
            .boxed()
        })
    }

    /// The job of a node.
    pub async fn job<P>(&self, node: &Node<P>) -> Result<Job<P>, Error> {
        Ok(self.job_named(node.name()).await?.typed())
    }

    /// The job of a node by its name.
    pub async fn job_named(&self, name: &str) -> Result<Job<serde_json::Value>, Error> {
        if let Some(id) = self.job_ids.get(name) {
            return Ok(self.client.job(id));
        }
        let found: Vec<_> = self.nodes(format!("name = {name:?}")).try_collect().await?;
        let id = found.into_iter().map(|node| node.job_id).find(|id| !id.is_empty());
        id.map(|id| self.client.job(id)).ok_or_else(|| {
            let mut error = RpcError::local(Code::NotFound, format!("workflow {} has no job named {name}", self.id));
            error.reason = "JOB_NOT_FOUND".to_owned();
            error.into()
        })
    }

    /// Waits for the end, whichever it is, or gives up with [`Error::Timeout`].
    pub async fn wait(&self, timeout: impl Into<Option<Duration>>) -> Result<WorkflowInfo, Error> {
        let timeout = timeout.into();
        let begun = Instant::now();
        loop {
            let left = timeout.map_or(WAIT, |timeout| timeout.saturating_sub(begun.elapsed()).min(WAIT));
            let request = pb::WaitWorkflowRequest { id: self.id.clone(), timeout: Some(to_duration(left)) };
            let answer: pb::WaitWorkflowResponse =
                self.shared().idempotent("/jobwire.v1.WorkflowService/WaitWorkflow", request).await?;
            if answer.finished {
                return Ok(WorkflowInfo::from_proto(answer.workflow.unwrap_or_default()));
            }
            if let Some(after) = timeout.filter(|timeout| begun.elapsed() >= *timeout) {
                return Err(Error::Timeout { what: format!("workflow {}", self.id), after });
            }
        }
    }

    /// Cancels every node that has not ended. `grace` = how long running handlers may take; None = as long as it takes.
    pub async fn cancel(&self, reason: impl Into<String>, grace: impl Into<Option<Duration>>) -> Result<(), Error> {
        let request = pb::CancelWorkflowsRequest {
            selector: Some(self.selector()),
            reason: reason.into(),
            grace: grace.into().map(to_duration),
            ..Default::default()
        };
        let answer: pb::CancelWorkflowsResponse =
            self.shared().idempotent("/jobwire.v1.WorkflowService/CancelWorkflows", request).await?;
        BulkResult::from_proto(answer.result).ok().map(drop)
    }

    /// Runs failed nodes again, and revives what was cancelled because of them.
    pub async fn retry(&self) -> Result<(), Error> {
        let request = pb::RetryWorkflowsRequest { selector: Some(self.selector()), ..Default::default() };
        let answer: pb::RetryWorkflowsResponse =
            self.shared().once("/jobwire.v1.WorkflowService/RetryWorkflows", request).await?;
        BulkResult::from_proto(answer.result).ok().map(drop)
    }

    /// Adds the nodes of a flow to a workflow that is open, or that the running handler is a node of. They may name nodes
    /// that are there: `After::node("extract")`. A handler that may run twice names its nodes.
    pub async fn extend(&self, flow: Flow) -> Result<(), Error> {
        let (_, nodes) = flow.into_parts()?;
        for nodes in portions(nodes)? {
            self.add(nodes).await?;
        }
        Ok(())
    }

    /// No more nodes will come: it ends when the last one does.
    pub async fn close(&self) -> Result<WorkflowInfo, Error> {
        let request = pb::CloseWorkflowRequest { workflow_id: self.id.clone() };
        let answer: pb::CloseWorkflowResponse =
            self.shared().idempotent("/jobwire.v1.WorkflowService/CloseWorkflow", request).await?;
        Ok(WorkflowInfo::from_proto(answer.workflow.unwrap_or_default()))
    }

    async fn add(&self, nodes: Vec<pb::WorkflowNode>) -> Result<BTreeMap<String, String>, Error> {
        let request = pb::AddWorkflowNodesRequest { workflow_id: self.id.clone(), nodes };
        let answer: pb::AddWorkflowNodesResponse =
            self.shared().idempotent("/jobwire.v1.WorkflowService/AddWorkflowNodes", request).await?;
        Ok(answer.job_ids.into_iter().collect())
    }

    fn selector(&self) -> pb::Selector {
        pb::Selector { ids: vec![self.id.clone()], filter: String::new() }
    }

    /// The end, if it is a good one.
    async fn succeeded(&self, timeout: Option<Duration>) -> Result<(), Error> {
        let end = self.wait(timeout).await?;
        if end.state == WorkflowState::Succeeded {
            return Ok(());
        }
        let nodes: Vec<_> = self.nodes("").try_collect().await?;
        let failed =
            |node: NodeInfo| node.failure.filter(|_| node.state != JobState::Succeeded).map(|f| (node.name, f));
        let failures = nodes.into_iter().filter_map(failed).collect();
        Err(Error::WorkflowFailed { workflow_id: self.id.clone(), state: end.state, failures })
    }
}

impl<O: DeserializeOwned + Send + 'static> Workflow<O> {
    /// Waits for success and gives what the last step gave; of a group the list of results. Ends otherwise:
    /// [`Error::WorkflowFailed`]. A flow has no last step: ask its nodes, [`job`](Self::job).
    pub async fn result(&self) -> Result<O, Error> {
        self.result_within(None).await
    }

    /// The same, or [`Error::Timeout`] after this long; the workflow goes on.
    pub async fn result_within(&self, timeout: impl Into<Option<Duration>>) -> Result<O, Error> {
        self.succeeded(timeout.into()).await?;
        let value = match &self.ends {
            Ends::None => serde_json::Value::Null,
            Ends::One(name) => self.job_named(name).await?.result().await?,
            Ends::List(names) => {
                let result = async |name: &String| self.job_named(name).await?.result().await;
                serde_json::Value::Array(try_join_all(names.iter().map(result)).await?)
            }
        };
        serde_json::from_value(value).map_err(|error| Error::codec(format!("result of workflow {}", self.id), error))
    }
}

/// Where a workflow is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WorkflowState {
    /// Under way.
    Running,
    /// A node failed for good, those that wait for it wait for an operator, and nothing else is left to run.
    Held,
    /// Every node has ended, and no failure was one that nobody awaited.
    Succeeded,
    /// A node failed, and nobody awaited that.
    Failed,
    /// Cancelled, by a call or by its `total_timeout`.
    Cancelled,
    /// A state this version of the SDK does not know. Not terminal.
    Unknown,
}

impl WorkflowState {
    fn from_proto(state: i32) -> Self {
        match pb::WorkflowState::try_from(state) {
            Ok(pb::WorkflowState::Running) => Self::Running,
            Ok(pb::WorkflowState::Held) => Self::Held,
            Ok(pb::WorkflowState::Succeeded) => Self::Succeeded,
            Ok(pb::WorkflowState::Failed) => Self::Failed,
            Ok(pb::WorkflowState::Cancelled) => Self::Cancelled,
            Ok(pb::WorkflowState::Unspecified) | Err(_) => Self::Unknown,
        }
    }
}

/// In small letters: "failed".
impl std::fmt::Display for WorkflowState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Running => "running",
            Self::Held => "held",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Unknown => "unknown",
        })
    }
}

/// The record of a workflow.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct WorkflowInfo {
    /// Its id.
    pub id: String,
    /// For people.
    pub name: String,
    /// Where it is.
    pub state: WorkflowState,
    /// Whether more nodes may come.
    pub open: bool,
    /// Nodes in all.
    pub node_count: i64,
    /// Nodes by their state.
    pub counts: Vec<(JobState, i64)>,
    /// Nodes that have ended, of 100.
    pub percent: f64,
    /// When it was created.
    pub create_time: Option<SystemTime>,
    /// When it ended.
    pub finish_time: Option<SystemTime>,
    /// The workflow that it is a node of, or empty.
    pub parent_workflow_id: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// Jobs of its callbacks that have been enqueued.
    pub callback_job_ids: Vec<String>,
}

impl WorkflowInfo {
    fn from_proto(workflow: pb::Workflow) -> Self {
        let count = |count: pb::WorkflowNodeCount| (JobState::from_proto(count.state), count.count);
        Self {
            id: workflow.id,
            name: workflow.name,
            state: WorkflowState::from_proto(workflow.state),
            open: workflow.open,
            node_count: workflow.node_count,
            counts: workflow.counts.into_iter().map(count).collect(),
            percent: workflow.percent,
            create_time: workflow.create_time.as_ref().and_then(from_timestamp),
            finish_time: workflow.finish_time.as_ref().and_then(from_timestamp),
            parent_workflow_id: workflow.parent_workflow_id,
            tags: workflow.tags,
            callback_job_ids: workflow.callback_job_ids,
        }
    }
}

/// A node of a workflow, as the server has it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NodeInfo {
    /// Its name.
    pub name: String,
    /// Its group, or empty.
    pub group: String,
    /// Its job; empty when it is a workflow of its own.
    pub job_id: String,
    /// Where it is.
    pub state: JobState,
    /// How far it is.
    pub progress: Option<Progress>,
    /// Its latest failure.
    pub failure: Option<Failure>,
    /// When its latest attempt started.
    pub start_time: Option<SystemTime>,
    /// When it ended.
    pub finish_time: Option<SystemTime>,
}

impl NodeInfo {
    fn from_proto(node: pb::WorkflowNodeStatus) -> Self {
        Self {
            name: node.name,
            group: node.group,
            job_id: node.job_id,
            state: JobState::from_proto(node.state),
            progress: node.progress.map(Progress::from_proto),
            failure: node.failure.map(Failure::from_proto),
            start_time: node.start_time.as_ref().and_then(from_timestamp),
            finish_time: node.finish_time.as_ref().and_then(from_timestamp),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: String, bytes: usize) -> pb::WorkflowNode {
        let payload = crate::Payload::json_text("x".repeat(bytes)).into_proto();
        let job = Some(pb::JobSpec { payload: Some(payload), ..Default::default() });
        pb::WorkflowNode { name, job, ..Default::default() }
    }

    #[test]
    fn calls_hold_a_thousand_nodes_and_a_mebibyte() {
        let many = portions((0..2_500).map(|n| node(n.to_string(), 10)).collect()).expect("nodes");
        assert_eq!(many.iter().map(Vec::len).collect::<Vec<_>>(), [1_000, 1_000, 500]);
        let large = portions((0..5).map(|n| node(n.to_string(), 400 << 10)).collect()).expect("nodes");
        assert_eq!(large.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 1]);
        for nodes in large {
            let request = pb::AddWorkflowNodesRequest { nodes, ..Default::default() };
            assert!(request.encoded_len() <= BYTES_MAX);
        }
        assert_eq!(portions(Vec::new()).expect("none"), [Vec::new()]);
        let error = portions(vec![node("big".into(), 2 << 20)]).expect_err("too large");
        assert!(error.to_string().contains("big"), "{error}");
    }
}
