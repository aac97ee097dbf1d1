//! Workflows, their nodes, and what jobs wait for.
use jobwire_proto::v1::{self, dependency};
use prost::Message as _;

use super::{
    Ctx, Parsed, at_most, bulk, choice, count,
    job::{View, state, to_failure, to_progress},
    job_id, name,
    payload::{Format, raw},
    positive_span,
    spec::{node_job, optional_name, retention, tags},
    to_time, to_time_if, token,
};
use crate::{
    api::status::ApiError,
    engine::{FlowBulk, FlowSelector, FlowView, NodeView},
    model::{
        filter::WORKFLOW_FIELDS,
        ids::JobId,
        job::JobSpec,
        limits::Limits,
        worker::DependencyResult,
        workflow::{Condition, Dependency, FailurePolicy, NodeSpec, Target, WorkflowSpec},
    },
};

/// A name that a result goes by.
const ALIAS_BYTES: usize = 256;

/// Reads what a job waits for.
pub fn dependencies(ctx: Ctx<'_>, asked: Vec<v1::Dependency>) -> Parsed<Vec<Dependency>> {
    count("depends_on", asked.len(), ctx.limits.dependencies)?;
    let read = |(i, asked)| dependency(ctx, asked).map_err(|error| error.within(format_args!("depends_on[{i}]")));
    asked.into_iter().enumerate().map(read).collect()
}

fn dependency(ctx: Ctx<'_>, asked: v1::Dependency) -> Parsed<Dependency> {
    let target = match asked.target {
        None => return Err(ApiError::field("job_id", "is required, or node, or group")),
        Some(dependency::Target::JobId(id)) => Target::Job(job_id("job_id", &id)?),
        Some(dependency::Target::Node(node)) => Target::Node(name("node", &node)?),
        Some(dependency::Target::Group(group)) => Target::Group(name("group", &group)?),
    };
    let condition = choice(ctx, "condition", asked.condition, |condition| match condition {
        v1::DependencyCondition::Unspecified | v1::DependencyCondition::Succeeded => Condition::Succeeded,
        v1::DependencyCondition::Failed => Condition::Failed,
        v1::DependencyCondition::Finished => Condition::Finished,
    })?;
    if !asked.alias.is_empty() && !asked.pass_result {
        return Err(ApiError::field("alias", "goes with pass_result only"));
    }
    let alias = at_most("alias", asked.alias, ALIAS_BYTES)?;
    Ok(Dependency { target, condition, pass_result: asked.pass_result, alias })
}

/// A dependency as it is stored with a job.
pub fn stored_dependency(stored: v1::Dependency) -> Option<Dependency> {
    let ctx = Ctx { limits: &Limits::default(), now_ms: 0, strict: false };
    dependency(ctx, stored).ok()
}

pub fn to_dependency(dependency: Dependency) -> v1::Dependency {
    v1::Dependency {
        target: Some(match dependency.target {
            Target::Job(id) => dependency::Target::JobId(id.to_string()),
            Target::Node(name) => dependency::Target::Node(name.to_string()),
            Target::Group(name) => dependency::Target::Group(name.to_string()),
        }),
        condition: match dependency.condition {
            Condition::Succeeded => v1::DependencyCondition::Succeeded,
            Condition::Failed => v1::DependencyCondition::Failed,
            Condition::Finished => v1::DependencyCondition::Finished,
        }
        .into(),
        pass_result: dependency.pass_result,
        alias: dependency.alias,
    }
}

/// The result of a job that another one waited for.
pub fn to_dependency_result(result: DependencyResult) -> v1::DependencyResult {
    v1::DependencyResult {
        alias: result.alias,
        job_id: result.job.to_string(),
        state: state(result.state).into(),
        result: result.result.map(raw),
        failure: result.failure.map(|failure| to_failure(failure, View::Basic, Format::Omit)),
    }
}

/// Reads a workflow. Paths in errors start inside it.
pub fn workflow(ctx: Ctx<'_>, asked: v1::WorkflowSpec) -> Parsed<WorkflowSpec> {
    let bytes = asked.encoded_len();
    if bytes > ctx.limits.workflow_call_bytes {
        let most = ctx.limits.workflow_call_bytes;
        let message = format!("are {bytes} bytes; at most {most} go into one call: create it open and add the rest");
        return Err(ApiError::field("nodes", message));
    }
    let callback = |field: &str, asked: Option<v1::JobSpec>| {
        asked.map(|asked| own_job(ctx, asked)).transpose().map_err(|error| error.within(field))
    };
    let spec = WorkflowSpec {
        id: match asked.id.as_str() {
            "" => None,
            id => Some(uuid::Uuid::try_parse(id).map_err(|_| ApiError::field("id", "must be a UUID"))?),
        },
        name: optional_name("name", &asked.name)?,
        nodes: nodes(ctx, asked.nodes)?,
        policy: choice(ctx, "on_node_failure", asked.on_node_failure, |policy| match policy {
            v1::WorkflowFailurePolicy::Unspecified | v1::WorkflowFailurePolicy::CancelDependants => {
                FailurePolicy::CancelDependants
            }
            v1::WorkflowFailurePolicy::CancelAll => FailurePolicy::CancelAll,
            v1::WorkflowFailurePolicy::Hold => FailurePolicy::Hold,
        })?,
        callbacks: [
            callback("on_success", asked.on_success)?,
            callback("on_failure", asked.on_failure)?,
            callback("on_finish", asked.on_finish)?,
        ],
        open: asked.open,
        parent: match asked.parent_workflow_id.as_str() {
            "" => None,
            id => Some(job_id("parent_workflow_id", id)?),
        },
        tags: tags(ctx, asked.tags)?,
        total_timeout_ms: asked
            .total_timeout
            .as_ref()
            .map(|span| positive_span("total_timeout", span, ctx.limits.delay_ms))
            .transpose()?,
        retention_ms: retention(ctx, "retention", asked.retention.as_ref())?,
    };
    if spec.parent.is_some() && spec.name.is_none() {
        return Err(ApiError::field("name", "is required with parent_workflow_id: the parent knows it by that"));
    }
    Ok(spec)
}

/// Reads nodes. Paths in errors begin with `nodes`.
pub fn nodes(ctx: Ctx<'_>, asked: Vec<v1::WorkflowNode>) -> Parsed<Vec<NodeSpec>> {
    count("nodes", asked.len(), ctx.limits.jobs_per_call)?;
    let read = |(i, asked)| node(ctx, asked).map_err(|error| error.within(format_args!("nodes[{i}]")));
    asked.into_iter().enumerate().map(read).collect()
}

fn node(ctx: Ctx<'_>, asked: v1::WorkflowNode) -> Parsed<NodeSpec> {
    let job = asked.job.ok_or_else(|| ApiError::field("job", "is required"))?;
    let in_job = |error: ApiError| error.within("job");
    refuse(&job, true).map_err(in_job)?;
    Ok(NodeSpec {
        name: name("name", &asked.name)?,
        group: optional_name("group", &asked.group)?,
        job: node_job(ctx, job).map_err(in_job)?,
    })
}

/// A callback.
fn own_job(ctx: Ctx<'_>, job: v1::JobSpec) -> Parsed<JobSpec> {
    refuse(&job, false)?;
    node_job(ctx, job)
}

/// What a job of a workflow cannot have.
fn refuse(job: &v1::JobSpec, waits: bool) -> Parsed<()> {
    let workflow = "must be empty: the workflow says which";
    let twice = "must be empty: a job of a workflow is there once, by its name";
    for (field, used, message) in [
        ("id", !job.id.is_empty(), workflow),
        ("unique", job.unique.is_some(), twice),
        ("idempotency_key", !job.idempotency_key.is_empty(), twice),
        ("depends_on", !waits && !job.depends_on.is_empty(), "must be empty: it waits for the workflow"),
    ] {
        if used {
            return Err(ApiError::field(field, message));
        }
    }
    Ok(())
}

/// Shows a workflow.
pub fn to_workflow(view: FlowView) -> v1::Workflow {
    let percent = view.percent();
    let FlowView { id, flow, counts, callbacks } = view;
    let count = |(of, count): (crate::model::state::State, usize)| v1::WorkflowNodeCount {
        state: state(of).into(),
        count: count as i64,
    };
    v1::Workflow {
        id: id.to_string(),
        name: flow.name.map(|name| name.to_string()).unwrap_or_default(),
        state: flow.state as i32,
        open: flow.open,
        on_node_failure: match flow.policy {
            FailurePolicy::CancelDependants => v1::WorkflowFailurePolicy::CancelDependants,
            FailurePolicy::CancelAll => v1::WorkflowFailurePolicy::CancelAll,
            FailurePolicy::Hold => v1::WorkflowFailurePolicy::Hold,
        }
        .into(),
        node_count: flow.marks.len() as i64,
        counts: counts.into_iter().map(count).collect(),
        percent,
        create_time: Some(to_time(flow.create_ms)),
        finish_time: to_time_if(flow.finish_ms),
        purge_time: to_time_if(flow.purge_ms),
        parent_workflow_id: flow.parent.map(|id| id.to_string()).unwrap_or_default(),
        tags: flow.tags,
        callback_job_ids: callbacks.iter().map(ToString::to_string).collect(),
    }
}

/// Shows a node.
pub fn to_node(node: NodeView) -> v1::WorkflowNodeStatus {
    v1::WorkflowNodeStatus {
        name: node.name.to_string(),
        group: node.group.map(|group| group.to_string()).unwrap_or_default(),
        job_id: node.job.map(|id| id.to_string()).unwrap_or_default(),
        state: state(node.state).into(),
        depends_on: node.depends_on.into_iter().map(to_dependency).collect(),
        progress: node.progress.map(to_progress),
        failure: node.failure.map(|failure| to_failure(failure, View::Basic, Format::Json)),
        start_time: to_time_if(node.start_ms),
        finish_time: to_time_if(node.finish_ms),
    }
}

/// A call about many workflows, and what its continue tokens belong to. `call` names it in them.
pub fn selected(
    limits: &Limits,
    call: &str,
    asked: Option<v1::Selector>,
    continue_token: &str,
) -> Parsed<(FlowSelector, u64)> {
    match bulk::chosen(limits, asked, WORKFLOW_FIELDS)? {
        bulk::Chosen::Ids(_) if !continue_token.is_empty() => {
            Err(ApiError::field("continue_token", "goes with a filter only"))
        }
        bulk::Chosen::Ids(ids) => {
            Ok((FlowSelector::Ids(super::job::job_ids("selector.ids", &ids)?), token::question(&[call])))
        }
        bulk::Chosen::Filter(filter) => {
            let question = token::question(&[call, &filter.to_string()]);
            let after: Option<(i64, JobId)> = token::read("continue_token", question, continue_token)?;
            Ok((FlowSelector::Filter { filter, after }, question))
        }
    }
}

/// What a call about many workflows did.
pub fn to_result(question: u64, done: FlowBulk) -> v1::BulkResult {
    let error =
        |(id, error): (JobId, _)| v1::BulkError { id: id.to_string(), error: Some(ApiError::from(error).into_item()) };
    v1::BulkResult {
        matched_count: done.matched as i32,
        affected_count: done.affected as i32,
        sample_ids: done.sample.iter().map(ToString::to_string).collect(),
        errors: done.errors.into_iter().map(error).collect(),
        continue_token: token::write(question, done.next),
    }
}
