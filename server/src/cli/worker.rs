//! `worker`: seeing and steering connected workers.
use std::time::Duration;

use jobwire_proto::v1::{
    BulkResult, DirectiveKind, GetWorkerRequest, ListWorkersRequest, ListWorkersResponse, Selector,
    SignalWorkersRequest, SignalWorkersResponse, Worker, WorkerState,
};

use super::{
    Context,
    confirm::confirm,
    connect::{Server, request},
    exit::{Exit, Failure},
    job,
    output::{Format, List, Output},
    spec::proto_duration,
    text,
};
use crate::duration;

/// Verbs of `worker`.
#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// List connected workers
    Ls {
        /// As "sdk = python" or "queue = mail"
        #[arg(value_name = "FILTER")]
        filter: Vec<String>,
    },
    /// Show a worker and what it holds, by session id
    Get { id: String },
    /// Take nothing new, finish what is in hand, stay connected
    Quiet(Signal),
    /// Work again after quiet
    Resume(Signal),
    /// Finish what is in hand and exit
    Terminate(Signal),
}

#[derive(clap::Args, Debug)]
pub struct Signal {
    /// Session ids, as worker ls shows them
    #[arg(value_name = "ID", required_unless_present = "filter")]
    ids: Vec<String>,
    /// All that match instead, as "hostname = web-7"; * = all there are
    #[arg(long, conflicts_with = "ids")]
    filter: Option<String>,
    /// Time for running handlers
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    grace: Option<Duration>,
    /// Told to the worker
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

pub async fn run(context: &Context, command: Command) -> Result<Exit, Failure> {
    let server = context.server().await?;
    match command {
        Command::Ls { filter } => {
            let all = list(&server, &filter.join(" ")).await?;
            let names = ("ListWorkersResponse", "Worker");
            let list = List { names, response: &all, items: &all.workers };
            context.out.list(&list, |worker| worker.session_id.clone(), table)?;
            Ok(Exit::Done)
        }
        Command::Get { id } => get(context, &server, id).await,
        Command::Quiet(to) => signal(context, &server, to, DirectiveKind::Quiet, "told to go quiet").await,
        Command::Resume(to) => signal(context, &server, to, DirectiveKind::Run, "told to resume").await,
        Command::Terminate(to) => signal(context, &server, to, DirectiveKind::Terminate, "told to terminate").await,
    }
}

async fn list(server: &Server, filter: &str) -> Result<ListWorkersResponse, Failure> {
    let mut all = ListWorkersResponse::default();
    loop {
        let message = ListWorkersRequest {
            filter: filter.to_owned(),
            page_size: 1_000,
            page_token: std::mem::take(&mut all.next_page_token),
        };
        let page = server.ask(server.admin().list_workers(request(message))).await?;
        all.workers.extend(page.workers);
        all.next_page_token = page.next_page_token;
        if all.next_page_token.is_empty() {
            return Ok(all);
        }
    }
}

fn table(out: &Output, workers: &[Worker]) -> String {
    let mut rows = out.table(&["SESSION", "STATE", "HOST", "SDK", "QUEUES", ">SLOTS", ">OK", ">FAILED", "CONNECTED"]);
    for worker in workers {
        let info = worker.info.clone().unwrap_or_default();
        rows.row([
            text::cut(&text::line(&worker.session_id), 40),
            state(worker),
            text::cut(&text::line(&info.hostname), 30),
            text::cut(&text::line(format!("{} {}", info.sdk, info.sdk_version).trim()), 24),
            text::cut(&queues(worker), 40),
            format!("{}/{}", worker.in_flight, worker.slots),
            text::number(worker.succeeded_count),
            text::number(worker.failed_count),
            text::ago(worker.connect_time.as_ref()),
        ]);
    }
    rows.text("No workers are connected.")
}

fn state(worker: &Worker) -> String {
    let known = WorkerState::try_from(worker.state).map(|state| state.as_str_name()).ok();
    text::name(known, "WORKER_STATE_", worker.state)
}

fn queues(worker: &Worker) -> String {
    let names: Vec<&str> = worker.subscriptions.iter().map(|subscription| subscription.queue.as_str()).collect();
    text::line(&names.join(", ")).into_owned()
}

async fn get(context: &Context, server: &Server, session_id: String) -> Result<Exit, Failure> {
    let answer = server.ask(server.admin().get_worker(request(GetWorkerRequest { session_id }))).await?;
    let worker = answer.worker.clone().unwrap_or_default();
    context.out.one("GetWorkerResponse", &answer, &worker.session_id, |out| {
        let info = worker.info.clone().unwrap_or_default();
        let labels: Vec<String> = info.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let facts = [
            ("session", worker.session_id.clone()),
            ("worker", worker.worker_id.clone()),
            ("state", state(&worker)),
            ("host", format!("{} (pid {})", info.hostname, info.pid)),
            ("sdk", format!("{} {}", info.sdk, info.sdk_version)),
            ("runtime", info.runtime),
            ("app version", info.app_version),
            ("labels", labels.join(", ")),
            ("queues", queues(&worker)),
            ("types", worker.types.join(", ")),
            ("slots", format!("{} of {} taken, {} running", worker.in_flight, worker.slots, worker.running)),
            (
                "jobs",
                format!(
                    "{} succeeded, {} failed",
                    text::number(worker.succeeded_count),
                    text::number(worker.failed_count)
                ),
            ),
            ("memory", if worker.rss_bytes > 0 { format!("{} MiB", worker.rss_bytes >> 20) } else { String::new() }),
            ("connected", text::ago(worker.connect_time.as_ref())),
            ("last seen", text::ago(worker.last_seen_time.as_ref())),
        ];
        let facts = facts.iter().filter(|(_, value)| !value.trim().is_empty());
        let page: String = facts.map(|(name, value)| format!("{name:12}  {}\n", text::line(value.trim()))).collect();
        format!(
            "{page}\n{}",
            if answer.jobs.is_empty() { "Holds no jobs.\n".to_owned() } else { job::table(out, &answer.jobs) }
        )
    })?;
    Ok(Exit::Done)
}

async fn signal(
    context: &Context,
    server: &Server,
    to: Signal,
    directive: DirectiveKind,
    done: &str,
) -> Result<Exit, Failure> {
    if let Some(filter) = &to.filter {
        let found = list(server, if filter == "*" { "" } else { filter }).await?.workers;
        let sample: String =
            found.iter().take(3).map(|worker| format!("  {}\n", text::line(&worker.session_id))).collect();
        let question = format!("{} workers match, such as\n{sample}Go ahead?", found.len());
        if !found.is_empty() && !confirm(&question, to.yes)? {
            eprintln!("Nothing was changed.");
            return Ok(Exit::Done);
        }
    }
    let message = SignalWorkersRequest {
        selector: Some(Selector { ids: to.ids, filter: to.filter.unwrap_or_default() }),
        directive: directive as i32,
        grace: to.grace.map(proto_duration),
        reason: to.reason,
    };
    let answer: SignalWorkersResponse = server.ask(server.admin().signal_workers(request(message))).await?;
    let result: BulkResult = answer.result.clone().unwrap_or_default();
    match context.out.format {
        Format::Table => context.out.line(&format!("{} {done}", result.affected_count))?,
        Format::Json | Format::Jsonl => context.out.json("SignalWorkersResponse", &answer)?,
        Format::Id => result.sample_ids.iter().try_for_each(|id| context.out.line(id))?,
    }
    let mut exit = Exit::Done;
    for item in result.errors.iter().rev() {
        let error = item.error.clone().unwrap_or_default();
        eprintln!("{}: {} [{}]", text::line(&item.id), text::line(&error.message), error.reason);
        exit = Exit::of(tonic::Code::from(error.code));
    }
    Ok(exit)
}
