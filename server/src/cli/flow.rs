//! `flow`: workflows.
use std::time::{Duration, Instant};

use jobwire_proto::v1::{
    CancelWorkflowsRequest, Dependency, DependencyCondition, GetWorkflowRequest, GetWorkflowResponse,
    ListWorkflowNodesRequest, ListWorkflowNodesResponse, ListWorkflowsRequest, ListWorkflowsResponse,
    RetryWorkflowsRequest, WaitWorkflowRequest, WaitWorkflowResponse, Workflow, WorkflowNodeStatus, WorkflowState,
    dependency::Target,
};

use super::{
    Context,
    bulk::{self, Call, Select, Words},
    connect::{Server, request},
    exit::{Exit, Failure},
    output::{List, Output},
    spec::proto_duration,
    text,
};
use crate::duration;

/// One wait of the server; repeated until the time is up.
const WAIT_MOST: Duration = Duration::from_secs(30);

/// Verbs of `flow`.
#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// List workflows, the newest first
    #[command(visible_alias = "list")]
    Ls {
        /// As "state = FAILED AND tag = nightly"
        #[arg(value_name = "FILTER")]
        filter: Vec<String>,
        /// Show at most this many
        #[arg(short = 'n', long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Show one workflow
    Get {
        id: String,
        /// Its nodes, each with what it waits for
        #[arg(long)]
        graph: bool,
    },
    /// Cancel everything of workflows that has not ended
    Cancel {
        #[command(flatten)]
        select: Select,
        /// Shown wherever the workflow is
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        reason: String,
        /// For running jobs to end by themselves; then the server ends them [default: as long as it takes]
        #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
        grace: Option<Duration>,
    },
    /// Try what failed again, and revive what was cancelled because of it
    Retry(Select),
    /// Wait for the end of a workflow; the exit code is 0 if it succeeded
    Wait {
        id: String,
        /// Give up after so long, with code 7 [default: never]
        #[arg(long = "for", value_name = "DURATION", value_parser = duration::parse)]
        patience: Option<Duration>,
    },
}

pub async fn run(context: &Context, command: Command) -> Result<Exit, Failure> {
    let server = context.server().await?;
    match command {
        Command::Ls { filter, limit } => list(context, &server, filter.join(" "), limit as usize).await,
        Command::Get { id, graph: true } => graph(context, &server, id).await,
        Command::Get { id, graph: false } => {
            let answer = server.ask(server.workflows().get_workflow(request(GetWorkflowRequest { id }))).await?;
            show(context, "GetWorkflowResponse", &answer, answer.workflow.clone().unwrap_or_default())?;
            Ok(Exit::Done)
        }
        Command::Cancel { select, reason, grace } => {
            let words = Words { verb: "Cancel", done: "cancelled" };
            bulk::run(&context.out, "CancelWorkflowsResponse", &words, select, async |call: Call| {
                let message = CancelWorkflowsRequest {
                    selector: Some(call.selector),
                    reason: reason.clone(),
                    grace: grace.map(proto_duration),
                    dry_run: call.dry_run,
                    limit: call.limit,
                    continue_token: call.continue_token,
                };
                Ok(server.ask(server.workflows().cancel_workflows(request(message))).await?.result.unwrap_or_default())
            })
            .await
        }
        Command::Retry(select) => {
            let words = Words { verb: "Retry", done: "retried" };
            bulk::run(&context.out, "RetryWorkflowsResponse", &words, select, async |call: Call| {
                let message = RetryWorkflowsRequest {
                    selector: Some(call.selector),
                    dry_run: call.dry_run,
                    limit: call.limit,
                    continue_token: call.continue_token,
                };
                Ok(server.ask(server.workflows().retry_workflows(request(message))).await?.result.unwrap_or_default())
            })
            .await
        }
        Command::Wait { id, patience } => wait(context, &server, id, patience).await,
    }
}

async fn list(context: &Context, server: &Server, filter: String, limit: usize) -> Result<Exit, Failure> {
    let mut all = ListWorkflowsResponse::default();
    loop {
        let message = ListWorkflowsRequest {
            filter: filter.clone(),
            page_size: (limit - all.workflows.len()).min(1_000) as i32,
            page_token: std::mem::take(&mut all.next_page_token),
        };
        let page = server.ask(server.workflows().list_workflows(request(message))).await?;
        all.workflows.extend(page.workflows);
        all.next_page_token = page.next_page_token;
        if all.next_page_token.is_empty() || all.workflows.len() >= limit {
            break;
        }
    }
    let list = List { names: ("ListWorkflowsResponse", "Workflow"), response: &all, items: &all.workflows };
    context.out.list(&list, |workflow| workflow.id.clone(), table)?;
    Ok(Exit::Done)
}

fn table(out: &Output, workflows: &[Workflow]) -> String {
    let mut rows = out.table(&["WORKFLOW", "NAME", "STATE", ">NODES", ">DONE", "CREATED", "FINISHED", "TAGS"]);
    for workflow in workflows {
        rows.row([
            workflow.id.clone(),
            text::line(&workflow.name).into_owned(),
            state(workflow),
            text::number(workflow.node_count),
            format!("{:.0} %", workflow.percent),
            text::ago(Some(&workflow.create_time.unwrap_or_default())),
            text::ago(workflow.finish_time.as_ref()),
            text::cut(&workflow.tags.join(" "), 40),
        ]);
    }
    rows.text("No workflows.")
}

fn state(workflow: &Workflow) -> String {
    let known = WorkflowState::try_from(workflow.state).map(|state| state.as_str_name()).ok();
    text::name(known, "WORKFLOW_STATE_", workflow.state)
}

fn show(context: &Context, name: &str, answer: &impl prost::Message, workflow: Workflow) -> Result<(), Failure> {
    context.out.one(name, answer, &workflow.id, |_| page(&workflow))
}

/// All that there is to say.
fn page(workflow: &Workflow) -> String {
    let counts: Vec<String> = workflow
        .counts
        .iter()
        .map(|each| format!("{} {}", text::number(each.count), text::state(each.state)))
        .collect();
    let facts = [
        ("workflow", workflow.id.clone()),
        ("name", text::line(&workflow.name).into_owned()),
        ("state", format!("{}{}", state(workflow), if workflow.open { ", open" } else { "" })),
        ("nodes", text::number(workflow.node_count)),
        ("", counts.join(", ")),
        ("done", format!("{:.1} %", workflow.percent)),
        ("created", text::time(workflow.create_time.as_ref())),
        ("finished", text::time(workflow.finish_time.as_ref())),
        ("kept until", text::time(workflow.purge_time.as_ref())),
        ("parent", workflow.parent_workflow_id.clone()),
        ("tags", workflow.tags.join(" ")),
        ("callbacks", workflow.callback_job_ids.join(" ")),
    ];
    let shown = facts.iter().filter(|(_, value)| !value.is_empty());
    shown.map(|(name, value)| format!("{name:<12}{value}\n")).collect()
}

/// Nodes in the order in which they came.
async fn graph(context: &Context, server: &Server, id: String) -> Result<Exit, Failure> {
    let mut all = ListWorkflowNodesResponse::default();
    loop {
        let message = ListWorkflowNodesRequest {
            workflow_id: id.clone(),
            filter: String::new(),
            page_size: 1_000,
            page_token: std::mem::take(&mut all.next_page_token),
        };
        let page = server.ask(server.workflows().list_workflow_nodes(request(message))).await?;
        all.nodes.extend(page.nodes);
        all.next_page_token = page.next_page_token;
        if all.next_page_token.is_empty() {
            break;
        }
    }
    let list = List { names: ("ListWorkflowNodesResponse", "WorkflowNodeStatus"), response: &all, items: &all.nodes };
    context.out.list(&list, |node| node.job_id.clone(), nodes)?;
    Ok(Exit::Done)
}

fn nodes(out: &Output, nodes: &[WorkflowNodeStatus]) -> String {
    let mut rows = out.table(&["NODE", "GROUP", "STATE", "AFTER", "JOB", "NOTE"]);
    for node in nodes {
        let after: Vec<String> = node.depends_on.iter().map(dependency).collect();
        let failure = node.failure.as_ref().map(text::failure);
        let progress = node.progress.as_ref().map(text::progress);
        rows.row([
            node.name.clone(),
            node.group.clone(),
            text::state(node.state),
            text::cut(&after.join(", "), 60),
            node.job_id.clone(),
            text::cut(&text::line(&failure.or(progress).unwrap_or_default()), 60),
        ]);
    }
    rows.text("No nodes yet.")
}

/// `fetch`, `group parts`, `fetch (failed)`.
fn dependency(dependency: &Dependency) -> String {
    let what = match &dependency.target {
        Some(Target::Node(name)) => name.clone(),
        Some(Target::Group(name)) => format!("group {name}"),
        Some(Target::JobId(id)) => format!("job {id}"),
        None => String::new(),
    };
    match dependency.condition() {
        DependencyCondition::Unspecified | DependencyCondition::Succeeded => what,
        DependencyCondition::Failed => format!("{what} (failed)"),
        DependencyCondition::Finished => format!("{what} (finished)"),
    }
}

async fn wait(context: &Context, server: &Server, id: String, patience: Option<Duration>) -> Result<Exit, Failure> {
    let until = patience.map(|patience| Instant::now() + patience);
    loop {
        let left = until.map_or(WAIT_MOST, |until| until.saturating_duration_since(Instant::now()).min(WAIT_MOST));
        let message = WaitWorkflowRequest { id: id.clone(), timeout: Some(proto_duration(left)) };
        let answer: WaitWorkflowResponse =
            server.ask_waiting(left, server.workflows().wait_workflow(request(message))).await?;
        let over = until.is_some_and(|until| Instant::now() >= until);
        if !answer.finished && !over {
            continue;
        }
        let workflow = answer.workflow.clone().unwrap_or_default();
        let exit = match workflow.state() {
            _ if !answer.finished => Exit::StillRunning,
            WorkflowState::Succeeded => Exit::Done,
            _ => Exit::Unsuccessful,
        };
        let answer = GetWorkflowResponse { workflow: answer.workflow };
        show(context, "GetWorkflowResponse", &answer, workflow)?;
        return Ok(exit);
    }
}
