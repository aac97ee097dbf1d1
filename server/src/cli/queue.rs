//! `queue`: seeing, pausing and emptying queues.
use std::time::Duration;

use jobwire_proto::v1::{
    GetQueueRequest, ListQueuesRequest, ListQueuesResponse, PauseQueuesRequest, PurgeQueueRequest, Queue, QueueConfig,
    QueueStats, RateLimit, ResumeQueuesRequest,
};

use super::{
    Context,
    bulk::{self, Bounds, Call, Select, Words},
    configure::{self, Configure},
    connect::{Server, request},
    exit::{Exit, Failure},
    output::{Format, List, Output},
    spec::proto_duration,
    text,
};
use crate::duration;

/// Verbs of `queue`.
#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// List queues with their numbers
    Ls {
        /// As "paused = true"
        #[arg(value_name = "FILTER")]
        filter: Vec<String>,
    },
    /// Show one queue
    Get { name: String },
    /// Stop handing out jobs; running ones go on, new ones are accepted
    Pause {
        /// Names; "*" = all
        #[arg(value_name = "QUEUE", required = true)]
        names: Vec<String>,
        /// Resume by itself after this long
        #[arg(long = "for", value_name = "DURATION", value_parser = duration::parse)]
        duration: Option<Duration>,
        /// Shown wherever the queue is
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        reason: String,
    },
    /// Hand out jobs again
    Resume {
        /// Names; "*" = all
        #[arg(value_name = "QUEUE", required = true)]
        names: Vec<String>,
    },
    /// Change the configuration; what is not given stays as it is
    Set(Box<Configure>),
    /// Drop every job that neither runs nor has ended
    Purge(Purge),
}

#[derive(clap::Args, Debug)]
pub struct Purge {
    name: String,
    #[command(flatten)]
    bounds: Bounds,
}

pub async fn run(context: &Context, command: Command) -> Result<Exit, Failure> {
    let server = context.server().await?;
    match command {
        Command::Ls { filter } => list(context, &server, filter.join(" ")).await,
        Command::Get { name } => get(context, &server, name).await,
        Command::Pause { names, duration, reason } => {
            let message = PauseQueuesRequest { names, reason, duration: duration.map(proto_duration) };
            let answer = server.ask(server.queues().pause_queues(request(message))).await?;
            tell_names(context, "PauseQueuesResponse", &answer, &answer.names, "paused")
        }
        Command::Resume { names } => {
            let answer = server.ask(server.queues().resume_queues(request(ResumeQueuesRequest { names }))).await?;
            tell_names(context, "ResumeQueuesResponse", &answer, &answer.names, "resumed")
        }
        Command::Set(set) => configure::run(context, &server, *set).await,
        Command::Purge(purge) => run_purge(context, &server, purge).await,
    }
}

async fn list(context: &Context, server: &Server, filter: String) -> Result<Exit, Failure> {
    let mut all = ListQueuesResponse::default();
    loop {
        let message = ListQueuesRequest {
            filter: filter.clone(),
            page_size: 1_000,
            page_token: std::mem::take(&mut all.next_page_token),
        };
        let page = server.ask(server.queues().list_queues(request(message))).await?;
        all.queues.extend(page.queues);
        all.next_page_token = page.next_page_token;
        if all.next_page_token.is_empty() {
            break;
        }
    }
    let names = ("ListQueuesResponse", "Queue");
    context.out.list(&List { names, response: &all, items: &all.queues }, |queue| queue.name.clone(), table)?;
    Ok(Exit::Done)
}

fn table(out: &Output, queues: &[Queue]) -> String {
    let headers = [
        "QUEUE", ">READY", ">RUNNING", ">SCHED", ">RETRY", ">DEAD", ">LATENCY", ">IN/s", ">OUT/s", ">FAIL", ">SLOTS",
        "NOTE",
    ];
    let mut rows = out.table(&headers);
    for queue in queues {
        let stats = queue.stats.clone().unwrap_or_default();
        rows.row([
            queue.name.clone(),
            text::number(stats.ready),
            text::number(stats.running),
            text::number(stats.scheduled + stats.blocked),
            text::number(stats.retrying),
            text::number(stats.dead),
            latency(&stats),
            rate(stats.enqueued_per_second),
            rate(stats.succeeded_per_second + stats.failed_per_second),
            share_failed(&stats),
            format!("{}/{}", stats.slots_busy, stats.slots),
            text::cut(&note(queue), 60),
        ]);
    }
    rows.text("No queues. One appears with its first job: jobwire enqueue TYPE '{\"name\":\"Ada\"}'")
}

fn note(queue: &Queue) -> String {
    let stats = queue.stats.clone().unwrap_or_default();
    let mut notes = Vec::new();
    if queue.paused {
        let by = if queue.pause_actor.is_empty() { String::new() } else { format!(" by {}", queue.pause_actor) };
        let why = if queue.pause_reason.is_empty() { String::new() } else { format!(": {}", queue.pause_reason) };
        let until =
            queue.resume_time.as_ref().map(|time| format!(", resumes {}", text::ago(Some(time)))).unwrap_or_default();
        notes.push(text::line(&format!("paused{by}{why}{until}")).into_owned());
    } else if let Some(time) = &queue.resume_time {
        notes.push(format!("throttled by a worker, opens {}", text::ago(Some(time))));
    }
    let unhandled: i64 = stats.unhandled_types.values().sum();
    if unhandled > 0 {
        let types: Vec<&str> = stats.unhandled_types.keys().map(String::as_str).collect();
        notes.push(format!("{} wait, no worker handles {}", text::number(unhandled), types.join(", ")));
    } else if stats.ready > 0 && stats.slots == 0 {
        notes.push("no worker".to_owned());
    }
    notes.join("; ")
}

fn latency(stats: &QueueStats) -> String {
    stats.latency.filter(|_| stats.ready > 0).map(text::words).unwrap_or_default()
}

fn rate(per_second: f64) -> String {
    match per_second {
        rate if rate <= 0.0 => "0".to_owned(),
        rate if rate < 0.1 => "<0.1".to_owned(),
        rate if rate < 10.0 => format!("{rate:.1}"),
        rate => text::number(rate.round() as i64),
    }
}

fn share_failed(stats: &QueueStats) -> String {
    let all = stats.succeeded_per_second + stats.failed_per_second;
    if all > 0.0 { format!("{:.1} %", 100.0 * stats.failed_per_second / all) } else { String::new() }
}

async fn get(context: &Context, server: &Server, name: String) -> Result<Exit, Failure> {
    let answer = server.ask(server.queues().get_queue(request(GetQueueRequest { name }))).await?;
    let queue = answer.queue.clone().unwrap_or_default();
    context.out.one("GetQueueResponse", &answer, &queue.name, |_| {
        let stats = queue.stats.clone().unwrap_or_default();
        let mut facts = vec![
            ("queue", queue.name.clone()),
            ("ready", text::number(stats.ready)),
            ("running", text::number(stats.running)),
            ("scheduled", text::number(stats.scheduled)),
            ("blocked", text::number(stats.blocked)),
            ("retrying", text::number(stats.retrying)),
            ("dead", text::number(stats.dead)),
            ("finished", text::number(stats.finished)),
            ("latency", latency(&stats)),
            ("in", format!("{}/s", rate(stats.enqueued_per_second))),
            ("out", format!("{}/s", rate(stats.succeeded_per_second + stats.failed_per_second))),
            ("failed", share_failed(&stats)),
            ("workers", stats.workers.to_string()),
            ("slots", format!("{} of {} busy", stats.slots_busy, stats.slots)),
        ];
        facts.extend(queue.config.iter().flat_map(limits));
        for (name, summary) in [("wait", &stats.wait), ("run", &stats.run)] {
            // Nothing measured reads as zero everywhere.
            if let Some(summary) =
                summary.as_ref().filter(|summary| summary.max.is_some_and(|max| max != Default::default()))
            {
                let word =
                    |value: Option<prost_types::Duration>| value.map(text::words).unwrap_or_else(|| "–".to_owned());
                facts.push((
                    name,
                    format!("p50 {}  p95 {}  p99 {}", word(summary.p50), word(summary.p95), word(summary.p99)),
                ));
            }
        }
        facts.push(("note", note(&queue)));
        facts
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| format!("{name:12}  {value}\n"))
            .collect()
    })?;
    Ok(Exit::Done)
}

/// What is set of limits, in words.
fn limits(config: &QueueConfig) -> Vec<(&'static str, String)> {
    let number = |value: i64| if value == 0 { String::new() } else { text::number(value) };
    let rate = |rate: &Option<RateLimit>| {
        let Some(rate) = rate else { return String::new() };
        let per = rate.per.map(text::words).unwrap_or_default();
        format!("{} per {per}, {} at once", rate.max, rate.burst)
    };
    let weights: Vec<String> = config.key_weights.iter().map(|(key, weight)| format!("{key} {weight}")).collect();
    vec![
        ("max running", number(config.max_running.into())),
        ("rate", rate(&config.rate_limit)),
        ("running a key", number(config.max_running_per_key.into())),
        ("rate a key", rate(&config.rate_limit_per_key)),
        ("key weights", text::line(&weights.join(", ")).into_owned()),
        ("max depth", number(config.max_depth)),
    ]
}

fn tell_names(
    context: &Context,
    message: &str,
    answer: &impl prost::Message,
    names: &[String],
    done: &str,
) -> Result<Exit, Failure> {
    match context.out.format {
        Format::Table => names.iter().try_for_each(|name| context.out.line(&format!("{name}  {done}")))?,
        Format::Json | Format::Jsonl => context.out.json(message, answer)?,
        Format::Id => names.iter().try_for_each(|name| context.out.line(name))?,
    }
    Ok(Exit::Done)
}

async fn run_purge(context: &Context, server: &Server, purge: Purge) -> Result<Exit, Failure> {
    let words = Words { verb: "Drop", done: "dropped" };
    // As with any filter: counted first, then asked about.
    let select = Select { ids: Vec::new(), filter: Some(purge.name.clone()), bounds: purge.bounds };
    bulk::run(&context.out, "PurgeQueueResponse", &words, select, async |call: Call| {
        let message = PurgeQueueRequest {
            name: purge.name.clone(),
            force: !call.dry_run,
            limit: call.limit,
            continue_token: call.continue_token,
        };
        Ok(server.ask(server.queues().purge_queue(request(message))).await?.result.unwrap_or_default())
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue() -> Queue {
        let stats = QueueStats {
            ready: 1_204,
            running: 50,
            latency: Some(prost_types::Duration { seconds: 1, nanos: 200_000_000 }),
            succeeded_per_second: 304.7,
            failed_per_second: 0.3,
            ..QueueStats::default()
        };
        Queue { name: "mail".into(), stats: Some(stats), ..Queue::default() }
    }

    #[test]
    fn a_queue_is_one_row() {
        let out = Output::new(Some(Format::Table), true);
        let text = table(&out, &[queue()]);
        let row: Vec<&str> = text.lines().nth(1).expect("a row").split_whitespace().collect();
        assert_eq!(
            row,
            ["mail", "1,204", "50", "0", "0", "0", "1.2", "s", "0", "305", "0.1", "%", "0/0", "no", "worker"]
        );
    }

    #[test]
    fn a_pause_says_who_and_why_without_control_characters() {
        let mut paused = queue();
        paused.paused = true;
        paused.pause_actor = "ada".into();
        paused.pause_reason = "disk\u{1b}[0m full".into();
        assert_eq!(note(&paused), "paused by ada: disk\\u{1b}[0m full; no worker");
    }
}
