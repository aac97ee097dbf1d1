//! `schedule`: recurring jobs.
use std::time::Duration;

use jiff::Timestamp;
use jobwire_proto::v1::{
    BackfillScheduleRequest, BackfillScheduleResponse, BulkResult, DeleteSchedulesRequest, GetScheduleRequest,
    ListSchedulesRequest, ListSchedulesResponse, OverlapPolicy, PauseSchedulesRequest, PreviewScheduleRequest,
    PutScheduleRequest, ResumeSchedulesRequest, Schedule, ScheduleSpec, Selector, TriggerScheduleRequest,
    schedule_spec::Cadence,
};

use super::{
    Context,
    bulk::{self, Bounds, Call, Select, Words},
    connect::{Server, request},
    exit::{Exit, Failure},
    output::{Format, List, Output},
    spec::{self, JobOptions, point_in_time, proto_duration, proto_time},
    text,
};
use crate::duration;

mod page;
mod policies;

use policies::{CatchUp, Fold, Gap, Overlap};

/// Verbs of `schedule`.
#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// List schedules with their next times
    #[command(visible_alias = "list")]
    Ls {
        /// As "type = report AND paused = false"
        #[arg(value_name = "FILTER")]
        filter: Vec<String>,
    },
    /// Show one schedule
    Get { id: String },
    /// Create or replace a schedule; the same thing twice changes nothing
    Put(Box<Put>),
    /// Let ticks pass until resumed
    Pause {
        #[command(flatten)]
        which: Which,
        /// Shown wherever the schedule is
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        reason: String,
    },
    /// Go on with the next tick; nothing is caught up
    Resume {
        #[command(flatten)]
        which: Which,
    },
    /// Run it once, now, whatever its pause and overlap policy say
    Trigger {
        id: String,
        /// Instead of its payload: JSON, @FILE, or - for standard input
        #[arg(value_name = "JSON|@FILE|-", allow_negative_numbers = true)]
        payload: Option<String>,
    },
    /// The next times of a schedule, or of a cadence
    Preview(Preview),
    /// Run the ticks of a past interval that have no job
    Backfill(Backfill),
    /// Delete schedules; their jobs stay
    #[command(visible_alias = "delete")]
    Rm(Select),
}

#[derive(clap::Args, Debug)]
pub struct Which {
    /// Ids
    #[arg(value_name = "ID", required_unless_present = "filter")]
    ids: Vec<String>,
    /// All that match instead, as "queue = mail"; * = all there are
    #[arg(long, conflicts_with = "ids")]
    filter: Option<String>,
}

impl Which {
    fn selector(self) -> Selector {
        Selector { ids: self.ids, filter: self.filter.unwrap_or_default() }
    }
}

/// When it fires.
#[derive(clap::Args, Clone, Debug)]
#[group(skip)]
struct When {
    /// Five fields, or six with seconds first, or @hourly and friends: "30 2 * * 1-5"
    #[arg(long, value_name = "CRON")]
    cron: Option<String>,
    /// Elapsed time between ticks
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, conflicts_with_all = ["cron", "time_zone"])]
    every: Option<Duration>,
    /// Zone of --cron, as Europe/Berlin; default: UTC
    #[arg(long, value_name = "ZONE", default_value = "", hide_default_value = true)]
    time_zone: String,
    /// A fixed local time that a clock change skips [default: after]
    #[arg(long, value_enum)]
    gap: Option<Gap>,
    /// A fixed local time that a clock change repeats [default: first]
    #[arg(long, value_enum)]
    fold: Option<Fold>,
    /// No tick before this: 2026-11-24T09:00:00Z, or local as 2026-11-24T09:00
    #[arg(long, value_name = "TIME", value_parser = point_in_time)]
    start: Option<Timestamp>,
    /// No tick after this
    #[arg(long, value_name = "TIME", value_parser = point_in_time)]
    end: Option<Timestamp>,
}

impl When {
    fn is_empty(&self) -> bool {
        self.cron.is_none() && self.every.is_none()
    }

    fn spec(self) -> ScheduleSpec {
        ScheduleSpec {
            cadence: self.cron.map(Cadence::Cron).or(self.every.map(proto_duration).map(Cadence::Interval)),
            time_zone: self.time_zone,
            gap: self.gap.map_or(0, Gap::number),
            fold: self.fold.map_or(0, Fold::number),
            start_time: self.start.map(proto_time),
            end_time: self.end.map(proto_time),
            ..ScheduleSpec::default()
        }
    }
}

#[derive(clap::Args, Debug)]
pub struct Put {
    #[arg(id = "schedule", value_name = "ID")]
    id: String,
    /// Type of its jobs, as their handler is called: report.build
    #[arg(long = "type", value_name = "TYPE")]
    kind: String,
    /// Payload of its jobs: JSON, @FILE, or - for standard input
    #[arg(value_name = "JSON|@FILE|-", allow_negative_numbers = true)]
    payload: Option<String>,
    #[command(flatten)]
    when: When,
    /// When the run before is not finished [default: allow]
    #[arg(long, value_enum)]
    overlap: Option<Overlap>,
    /// Ticks that were missed [default: last]
    #[arg(long, value_enum)]
    catch_up: Option<CatchUp>,
    /// Ticks missed longer ago than this are forgotten [default: 1h]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    catch_up_window: Option<Duration>,
    /// Each job starts later than its tick by a random part of this
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    jitter: Option<Duration>,
    /// For people
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    note: String,
    /// Only if the schedule has this etag still
    #[arg(long, value_name = "ETAG", default_value = "", hide_default_value = true)]
    etag: String,
    /// Check and show, change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    options: JobOptions,
}

#[derive(clap::Args, Debug)]
pub struct Preview {
    /// A schedule; or say --cron or --every
    #[arg(conflicts_with_all = ["cron", "every"], required_unless_present_any = ["cron", "every"])]
    id: Option<String>,
    #[command(flatten)]
    when: When,
    /// How many times
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(i32).range(1..=100))]
    count: i32,
}

#[derive(clap::Args, Debug)]
pub struct Backfill {
    id: String,
    /// The first instant: 2026-11-24T09:00:00Z, or local as 2026-11-24T09:00
    #[arg(long, value_name = "TIME", value_parser = point_in_time)]
    from: Timestamp,
    /// The last one
    #[arg(long, value_name = "TIME", value_parser = point_in_time)]
    to: Timestamp,
    /// Instead of the schedule's policy [default: allow]
    #[arg(long, value_enum)]
    overlap: Option<Overlap>,
    /// Count, change nothing
    #[arg(long)]
    dry_run: bool,
}

pub async fn run(context: &Context, command: Command) -> Result<Exit, Failure> {
    let server = context.server().await?;
    match command {
        Command::Ls { filter } => list(context, &server, filter.join(" ")).await,
        Command::Get { id } => {
            let answer = server.ask(server.schedules().get_schedule(request(GetScheduleRequest { id }))).await?;
            let schedule = answer.schedule.clone().unwrap_or_default();
            context.out.one("GetScheduleResponse", &answer, &schedule.id, |_| page::page(&schedule))?;
            Ok(Exit::Done)
        }
        Command::Put(put) => run_put(context, &server, *put).await,
        Command::Pause { which, reason } => {
            let message = PauseSchedulesRequest { selector: Some(which.selector()), reason };
            let answer = server.ask(server.schedules().pause_schedules(request(message))).await?;
            let result = answer.result.clone().unwrap_or_default();
            tell(context, "PauseSchedulesResponse", &answer, &result, "paused")
        }
        Command::Resume { which } => {
            let message = ResumeSchedulesRequest { selector: Some(which.selector()) };
            let answer = server.ask(server.schedules().resume_schedules(request(message))).await?;
            let result = answer.result.clone().unwrap_or_default();
            tell(context, "ResumeSchedulesResponse", &answer, &result, "resumed")
        }
        Command::Trigger { id, payload } => {
            let payload = payload.as_deref().map(spec::body).transpose()?;
            let payload = payload.map(|body| spec::payload(String::new(), body)).transpose()?;
            let message = TriggerScheduleRequest { id, payload };
            let answer = server.ask(server.schedules().trigger_schedule(request(message))).await?;
            context.out.one("TriggerScheduleResponse", &answer, &answer.job_id, |_| format!("{}\n", answer.job_id))?;
            Ok(Exit::Done)
        }
        Command::Preview(preview) => run_preview(context, &server, preview).await,
        Command::Backfill(backfill) => run_backfill(context, &server, backfill).await,
        Command::Rm(select) => run_rm(context, &server, select).await,
    }
}

async fn list(context: &Context, server: &Server, filter: String) -> Result<Exit, Failure> {
    let mut all = ListSchedulesResponse::default();
    loop {
        let message = ListSchedulesRequest {
            filter: filter.clone(),
            page_size: 1_000,
            page_token: std::mem::take(&mut all.next_page_token),
        };
        let page = server.ask(server.schedules().list_schedules(request(message))).await?;
        all.schedules.extend(page.schedules);
        all.next_page_token = page.next_page_token;
        if all.next_page_token.is_empty() {
            break;
        }
    }
    let names = ("ListSchedulesResponse", "Schedule");
    let list = List { names, response: &all, items: &all.schedules };
    context.out.list(&list, |schedule| schedule.id.clone(), table)?;
    Ok(Exit::Done)
}

fn table(out: &Output, schedules: &[Schedule]) -> String {
    let mut rows = out.table(&["SCHEDULE", "TYPE", "CADENCE", "NEXT", "LAST", ">FIRED", ">SKIPPED", "NOTE"]);
    for schedule in schedules {
        let spec = schedule.spec.clone().unwrap_or_default();
        rows.row([
            schedule.id.clone(),
            spec.job.as_ref().map(|job| job.r#type.clone()).unwrap_or_default(),
            text::cut(&text::line(&page::cadence(&spec)), 40),
            text::ago(schedule.next_fire_times.first()),
            text::ago(schedule.last_fire_time.as_ref()),
            text::number(schedule.fired_count),
            text::number(schedule.skipped_count),
            text::cut(&page::note(schedule), 60),
        ]);
    }
    rows.text("No schedules. Make one: jobwire schedule put nightly --cron \"30 2 * * *\" --type report.build")
}

async fn run_put(context: &Context, server: &Server, put: Put) -> Result<Exit, Failure> {
    let body = put.payload.as_deref().map(spec::body).transpose()?;
    let mut job = put.options.spec(&put.kind, body)?;
    if put.options.has_id() || job.start.is_some() {
        return Err(Failure::usage("--id, --delay and --at are a job's own: a schedule's jobs get theirs from it"));
    }
    job.id.clear();
    let spec = ScheduleSpec {
        job: Some(job),
        overlap: put.overlap.map_or(0, Overlap::number),
        catch_up: put.catch_up.map_or(0, CatchUp::number),
        catch_up_window: put.catch_up_window.map(proto_duration),
        jitter: put.jitter.map(proto_duration),
        note: put.note,
        ..put.when.spec()
    };
    let message = PutScheduleRequest { id: put.id, spec: Some(spec), etag: put.etag, validate_only: put.dry_run };
    let answer = server.ask(server.schedules().put_schedule(request(message))).await?;
    let schedule = answer.schedule.clone().unwrap_or_default();
    context.out.one("PutScheduleResponse", &answer, &schedule.id, |_| {
        let done = if answer.created { "created" } else { "up to date" };
        let dry = if put.dry_run { " (nothing was changed)" } else { "" };
        format!("{done}{dry}\n{}", page::page(&schedule))
    })?;
    Ok(Exit::Done)
}

async fn run_preview(context: &Context, server: &Server, preview: Preview) -> Result<Exit, Failure> {
    let spec = if preview.when.is_empty() { None } else { Some(preview.when.spec()) };
    let message = PreviewScheduleRequest { id: preview.id.unwrap_or_default(), spec, count: preview.count };
    let answer = server.ask(server.schedules().preview_schedule(request(message))).await?;
    context.out.one("PreviewScheduleResponse", &answer, &answer.description, |_| {
        let times = answer.fire_times.iter().map(|at| format!("  {}\n", page::instant(at))).collect::<String>();
        format!("{}\n{times}", answer.description)
    })?;
    Ok(Exit::Done)
}

async fn run_backfill(context: &Context, server: &Server, backfill: Backfill) -> Result<Exit, Failure> {
    let mut all = BackfillScheduleResponse::default();
    loop {
        let message = BackfillScheduleRequest {
            id: backfill.id.clone(),
            from: Some(proto_time(backfill.from)),
            to: Some(proto_time(backfill.to)),
            overlap: backfill.overlap.map_or(OverlapPolicy::Unspecified.into(), Overlap::number),
            dry_run: backfill.dry_run,
            continue_token: std::mem::take(&mut all.continue_token),
        };
        let part = server.ask(server.schedules().backfill_schedule(request(message))).await?;
        all.tick_count += part.tick_count;
        all.fired_count += part.fired_count;
        all.existing_count += part.existing_count;
        all.skipped_count += part.skipped_count;
        all.sample_ids.extend(part.sample_ids);
        all.sample_ids.truncate(100);
        all.continue_token = part.continue_token;
        if all.continue_token.is_empty() {
            break;
        }
    }
    match context.out.format {
        Format::Table => {
            let done = if backfill.dry_run { "would run; nothing was changed" } else { "run" };
            let (fired, ticks) = (text::number(all.fired_count), text::number(all.tick_count));
            context.out.line(&format!(
                "{fired} of {ticks} ticks {done}, {} had a job, {} skipped",
                text::number(all.existing_count),
                text::number(all.skipped_count)
            ))?;
        }
        Format::Json | Format::Jsonl => context.out.json("BackfillScheduleResponse", &all)?,
        Format::Id => all.sample_ids.iter().try_for_each(|id| context.out.line(id))?,
    }
    Ok(Exit::Done)
}

async fn run_rm(context: &Context, server: &Server, select: Select) -> Result<Exit, Failure> {
    let Bounds { dry_run, limit, .. } = select.bounds;
    if limit.is_some() || (dry_run && select.filter.is_none()) {
        return Err(Failure::usage(
            "schedules are deleted by ids, or all that match: --dry-run goes with --filter only",
        ));
    }
    let words = Words { verb: "Delete", done: "deleted" };
    bulk::run(&context.out, "DeleteSchedulesResponse", &words, select, async |call: Call| {
        let message = DeleteSchedulesRequest { selector: Some(call.selector), force: !call.dry_run };
        Ok(server.ask(server.schedules().delete_schedules(request(message))).await?.result.unwrap_or_default())
    })
    .await
}

fn tell(
    context: &Context,
    message: &str,
    answer: &impl prost::Message,
    result: &BulkResult,
    done: &str,
) -> Result<Exit, Failure> {
    match context.out.format {
        Format::Table => context.out.line(&format!("{} {done}", text::number(result.affected_count)))?,
        Format::Json | Format::Jsonl => context.out.json(message, answer)?,
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
