//! `job`: seeing and repairing jobs.
use std::time::Duration;

use jobwire_proto::v1::{
    CancelJobsRequest, DeleteJobsRequest, GetJobRequest, GetJobResponse, Job, JobView, ListJobLogsRequest,
    ListJobLogsResponse, ListJobsRequest, ListJobsResponse, LogLevel, PayloadFormat, RetryJobsRequest,
};

use super::{
    Context,
    bulk::{self, Call, Select, Words},
    connect::{Server, request},
    exit::{Exit, Failure},
    follow,
    output::{List, Output},
    spec::proto_duration,
    text,
};
use crate::duration;

mod detail;

/// Verbs of `job`.
#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// List jobs: jobwire job ls state = DEAD AND queue = mail
    Ls(Ls),
    /// Show jobs with payload, result and attempts
    Get {
        #[arg(value_name = "ID", required = true)]
        ids: Vec<String>,
    },
    /// Wait for the end of a job and print its result; the exit code is the job's
    Wait {
        id: String,
        /// Stop waiting after this long (exit code 7)
        #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
        timeout: Option<Duration>,
    },
    /// Show what a job's handler logged
    Logs(Logs),
    /// Show each change of a job, its progress and its log until it ends
    Watch { id: String },
    /// Stop jobs: waiting ones at once, running ones by asking their worker
    Cancel(Cancel),
    /// Run jobs again now: ended ones start over, waiting ones stop waiting
    Retry(Retry),
    /// Delete the records of jobs
    Rm(Rm),
}

#[derive(clap::Args, Debug)]
pub struct Ls {
    /// As "state = DEAD AND queue = mail"; fields: id, queue, state, type, tag, priority, attempt, failure.type and times
    #[arg(value_name = "FILTER")]
    filter: Vec<String>,
    /// Jobs at most
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

#[derive(clap::Args, Debug)]
pub struct Logs {
    id: String,
    /// Go on until the job ends
    #[arg(short, long)]
    follow: bool,
    /// Lines of at least this level: trace, debug, info, warn, error, fatal
    #[arg(long, value_name = "LEVEL", value_parser = log_level, default_value = "trace")]
    level: LogLevel,
}

#[derive(clap::Args, Debug)]
pub struct Cancel {
    #[command(flatten)]
    select: Select,
    /// Kept with the job and told to its worker
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    /// Time for running handlers to stop; 0s = end the job now. Default: as long as it takes
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    grace: Option<Duration>,
}

#[derive(clap::Args, Debug)]
pub struct Retry {
    #[command(flatten)]
    select: Select,
    /// Count attempts from the start again; default: one more attempt
    #[arg(long)]
    reset_attempts: bool,
    /// Spread the restarts evenly over this long
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    spread: Option<Duration>,
    /// Move them to this queue
    #[arg(short, long, value_name = "QUEUE", default_value = "", hide_default_value = true)]
    queue: String,
}

#[derive(clap::Args, Debug)]
pub struct Rm {
    #[command(flatten)]
    select: Select,
    /// Also jobs that have not ended; a running one is taken from its worker
    #[arg(long)]
    force: bool,
}

pub async fn run(context: &Context, command: Command) -> Result<Exit, Failure> {
    let server = context.server().await?;
    match command {
        Command::Ls(ls) => list(context, &server, ls).await,
        Command::Get { ids } => get(context, &server, &ids).await,
        Command::Wait { id, timeout } => follow::wait(context, &server, &id, timeout).await,
        Command::Logs(logs) => show_logs(context, &server, logs).await,
        Command::Watch { id } => watch(context, &server, &id).await,
        Command::Cancel(cancel) => run_cancel(context, &server, cancel).await,
        Command::Retry(retry) => run_retry(context, &server, retry).await,
        Command::Rm(rm) => run_rm(context, &server, rm).await,
    }
}

async fn list(context: &Context, server: &Server, ls: Ls) -> Result<Exit, Failure> {
    let mut all = ListJobsResponse::default();
    loop {
        let left = ls.limit as usize - all.jobs.len();
        let message = ListJobsRequest {
            filter: ls.filter.join(" "),
            page_size: left.min(1_000) as i32,
            page_token: std::mem::take(&mut all.next_page_token),
            view: JobView::Basic as i32,
            payload_format: PayloadFormat::Omit as i32,
        };
        let page = server.ask(server.jobs().list_jobs(request(message))).await?;
        all.jobs.extend(page.jobs);
        all.next_page_token = page.next_page_token;
        if all.next_page_token.is_empty() || all.jobs.len() >= ls.limit as usize {
            break;
        }
    }
    let names = ("ListJobsResponse", "Job");
    context.out.list(&List { names, response: &all, items: &all.jobs }, |job| job.id.clone(), table)?;
    if !all.next_page_token.is_empty() {
        eprintln!("The first {}; there may be more: --limit N", all.jobs.len());
    }
    Ok(Exit::Done)
}

/// A table of jobs.
pub fn table(out: &Output, jobs: &[Job]) -> String {
    let mut rows = out.table(&["ID", "STATE", "TYPE", "QUEUE", ">TRY", "CREATED", "NOTE"]);
    for job in jobs {
        let (kind, queue) = job.spec.as_ref().map_or(("", ""), |spec| (spec.r#type.as_str(), spec.queue.as_str()));
        let queue = if queue == kind { "" } else { queue };
        let created = text::ago(job.create_time.as_ref());
        rows.row([&job.id, &text::state(job.state), kind, queue, &job.attempt.to_string(), &created, &note(job)]);
    }
    rows.text("No jobs.")
}

/// What one wants to know of a job in this state.
fn note(job: &Job) -> String {
    let failure = job.failure.as_ref().map(text::failure);
    let note = match text::state(job.state).as_str() {
        "SCHEDULED" => text::ago(job.schedule_time.as_ref()),
        "RETRYING" => format!("{}  {}", text::ago(job.schedule_time.as_ref()), failure.unwrap_or_default()),
        "RUNNING" => job.progress.as_ref().map(text::progress).unwrap_or_default(),
        _ => failure.unwrap_or_default(),
    };
    text::cut(&note, 60)
}

async fn get(context: &Context, server: &Server, ids: &[String]) -> Result<Exit, Failure> {
    let format = if context.out.is_json() { PayloadFormat::Json } else { PayloadFormat::Raw } as i32;
    for (place, id) in ids.iter().enumerate() {
        let message = GetJobRequest { id: id.clone(), view: JobView::Full as i32, payload_format: format };
        let answer: GetJobResponse = server.ask(server.jobs().get_job(request(message))).await?;
        let job = answer.job.clone().unwrap_or_default();
        context.out.one("GetJobResponse", &answer, &job.id, |out| {
            let between = if place > 0 { "\n" } else { "" };
            format!("{between}{}", detail::detail(out, &job))
        })?;
    }
    Ok(Exit::Done)
}

async fn show_logs(context: &Context, server: &Server, logs: Logs) -> Result<Exit, Failure> {
    let (id, level) = (logs.id, logs.level as i32);
    if logs.follow {
        follow::watch(server, &id, Some(0), PayloadFormat::Omit, async |event| {
            for line in event.lines.iter().filter(|line| line.level >= level || level <= LogLevel::Trace as i32) {
                one_line(context, line)?;
            }
            Ok(())
        })
        .await?;
        return Ok(Exit::Done);
    }
    let mut page_token = String::new();
    loop {
        let message = ListJobLogsRequest { id: id.clone(), page_size: 1_000, page_token, min_level: level };
        let page: ListJobLogsResponse = server.ask(server.jobs().list_job_logs(request(message))).await?;
        page.lines.iter().try_for_each(|line| one_line(context, line))?;
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(Exit::Done);
        }
    }
}

/// A log is lines: as JSON one object a line, also with `-o json`.
fn one_line(context: &Context, line: &jobwire_proto::v1::LogLine) -> Result<(), Failure> {
    if context.out.is_json() {
        return context.out.line(&super::output::to_json("LogLine", line)?);
    }
    context.out.line(&follow::log_line(line))
}

async fn watch(context: &Context, server: &Server, id: &str) -> Result<Exit, Failure> {
    let format = if context.out.is_json() { PayloadFormat::Json } else { PayloadFormat::Raw };
    let mut told = (0, -1);
    follow::watch(server, id, Some(0), format, async |event| {
        if context.out.is_json() {
            return context.out.line(&super::output::to_json("WatchJobResponse", &event)?);
        }
        if let Some(job) = event.job.as_ref().filter(|job| (job.state, job.attempt) != told) {
            told = (job.state, job.attempt);
            context.out.line(&follow::happened(job))?;
        }
        if let Some(progress) = &event.progress {
            context.out.line(&text::progress(progress))?;
        }
        event.lines.iter().try_for_each(|line| context.out.line(&follow::log_line(line)))
    })
    .await?;
    Ok(Exit::Done)
}

async fn run_cancel(context: &Context, server: &Server, cancel: Cancel) -> Result<Exit, Failure> {
    let words = Words { verb: "Cancel", done: "cancelled, or asked to stop" };
    bulk::run(&context.out, "CancelJobsResponse", &words, cancel.select, async |call: Call| {
        let message = CancelJobsRequest {
            selector: Some(call.selector),
            reason: cancel.reason.clone(),
            grace: cancel.grace.map(proto_duration),
            dry_run: call.dry_run,
            limit: call.limit,
            continue_token: call.continue_token,
        };
        Ok(server.ask(server.jobs().cancel_jobs(request(message))).await?.result.unwrap_or_default())
    })
    .await
}

async fn run_retry(context: &Context, server: &Server, retry: Retry) -> Result<Exit, Failure> {
    let words = Words { verb: "Retry", done: "started again" };
    bulk::run(&context.out, "RetryJobsResponse", &words, retry.select, async |call: Call| {
        let message = RetryJobsRequest {
            selector: Some(call.selector),
            reset_attempts: retry.reset_attempts,
            spread: retry.spread.map(proto_duration),
            queue: retry.queue.clone(),
            dry_run: call.dry_run,
            limit: call.limit,
            continue_token: call.continue_token,
        };
        Ok(server.ask(server.jobs().retry_jobs(request(message))).await?.result.unwrap_or_default())
    })
    .await
}

async fn run_rm(context: &Context, server: &Server, rm: Rm) -> Result<Exit, Failure> {
    let by_filter = rm.select.filter.is_some();
    if rm.select.bounds.dry_run && !by_filter {
        return Err(Failure::usage(
            "rm --dry-run counts what a --filter matches; to look at single jobs: jobwire job get ID",
        ));
    }
    let words = Words { verb: "Delete", done: "deleted" };
    bulk::run(&context.out, "DeleteJobsResponse", &words, rm.select, async |call: Call| {
        // By filter nothing goes without `force`, which makes the call without it the dry run.
        let force = if by_filter { !call.dry_run } else { rm.force };
        let message = DeleteJobsRequest {
            selector: Some(call.selector),
            force,
            limit: call.limit,
            continue_token: call.continue_token,
        };
        let result = server.ask(server.jobs().delete_jobs(request(message))).await?.result.unwrap_or_default();
        let kept = result.matched_count - result.affected_count - result.errors.len() as i32;
        if !force && !call.dry_run && kept > 0 {
            eprintln!("{kept} have not ended and were kept; --force deletes them too");
        }
        Ok(result)
    })
    .await
}

fn log_level(text: &str) -> Result<LogLevel, String> {
    LogLevel::from_str_name(&format!("LOG_LEVEL_{}", text.to_uppercase()))
        .ok_or_else(|| "one of trace, debug, info, warn, error, fatal".to_owned())
}
