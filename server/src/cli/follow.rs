//! Waiting for jobs and looking on: `run`, and the waiting verbs of `job`.
use std::{
    io::IsTerminal as _,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use jobwire_proto::v1::{
    Job, JobState, JobView, LogLine, Payload, PayloadFormat, WaitJobRequest, WatchJobRequest, WatchJobResponse,
    payload::Body,
};

use super::{
    Context,
    connect::{Server, request},
    enqueue,
    exit::{Exit, Failure},
    output::{Format, Output},
    spec::{self, JobOptions, proto_duration},
    text,
};
use crate::duration;

/// Arguments of `run`.
#[derive(clap::Args, Debug)]
pub struct Run {
    /// Type of the job, as its handler is called: email.send
    #[arg(value_name = "TYPE")]
    kind: String,
    /// JSON, @FILE, or - for standard input
    #[arg(value_name = "JSON|@FILE|-", allow_negative_numbers = true)]
    payload: Option<String>,
    /// Show states, progress and log lines on stderr while it runs
    #[arg(short, long)]
    follow: bool,
    /// Stop waiting after this long (exit code 7); the job goes on
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    wait: Option<Duration>,
    #[command(flatten)]
    options: JobOptions,
}

pub async fn run(context: &Context, run: Run) -> Result<Exit, Failure> {
    let body = run.payload.as_deref().map(spec::body).transpose()?;
    let job = run.options.spec(&run.kind, body)?;
    let server = context.server().await?;
    let id = enqueue::one(&server, job).await?.job_id;
    tokio::select! {
        ended = async {
            if run.follow { follow(context, &server, &id, run.wait).await } else { wait(context, &server, &id, run.wait).await }
        } => ended,
        _ = tokio::signal::ctrl_c() => {
            eprintln!("jobwire: interrupted; the job goes on. Stop it: jobwire job cancel {id}");
            Ok(Exit::Interrupted)
        }
    }
}

/// Tells what happens to a job until it ends, then prints what came of it.
async fn follow(context: &Context, server: &Server, id: &str, patience: Option<Duration>) -> Result<Exit, Failure> {
    let mut teller = Teller::new();
    let mut last = None;
    let following = watch(server, id, Some(0), payload_format(&context.out), async |event| {
        last = event.job.clone().or(last.take());
        teller.tell(&event);
        Ok(())
    });
    let ended = match patience {
        Some(patience) => tokio::time::timeout(patience, following).await,
        None => Ok(following.await),
    };
    match ended {
        Ok(ended) => ended?,
        Err(_) => return Ok(still_running(id)),
    }
    drop(teller);
    last.as_ref().map_or(Ok(Exit::Bug), |job| finish(&context.out, job))
}

/// Waits for the end of a job and prints what came of it.
pub async fn wait(context: &Context, server: &Server, id: &str, patience: Option<Duration>) -> Result<Exit, Failure> {
    /// What the server grants in one call.
    const ONE_CALL: Duration = Duration::from_secs(300);
    let started = Instant::now();
    let mut outage = Outage::default();
    loop {
        let left = patience.map_or(ONE_CALL, |patience| patience.saturating_sub(started.elapsed())).min(ONE_CALL);
        let message = WaitJobRequest {
            id: id.to_owned(),
            timeout: Some(proto_duration(left)),
            view: JobView::Full as i32,
            payload_format: payload_format(&context.out) as i32,
        };
        let answer = match server.ask_waiting(left, server.jobs().wait_job(request(message))).await {
            Ok(answer) => answer,
            Err(failure) => {
                outage.ride_out(failure).await?;
                continue;
            }
        };
        outage = Outage::default();
        match answer.job {
            Some(job) if answer.finished => return finish(&context.out, &job),
            _ if patience.is_some_and(|patience| started.elapsed() >= patience) => return Ok(still_running(id)),
            _ => {}
        }
    }
}

/// Follows a job to its end. Goes on after an outage of the server, log lines where it was.
pub async fn watch(
    server: &Server,
    id: &str,
    mut logs_after: Option<i64>,
    format: PayloadFormat,
    mut see: impl AsyncFnMut(WatchJobResponse) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut outage = Outage::default();
    loop {
        let message = WatchJobRequest { id: id.to_owned(), logs_after, payload_format: format as i32 };
        let mut events = match server.ask(server.jobs().watch_job(request(message))).await {
            Ok(events) => events,
            Err(failure) => {
                outage.ride_out(failure).await?;
                continue;
            }
        };
        loop {
            match events.message().await {
                Ok(Some(event)) => {
                    outage = Outage::default();
                    if let Some(last) = event.lines.last().filter(|_| logs_after.is_some()) {
                        logs_after = Some(last.index);
                    }
                    let ended = event.job.as_ref().is_some_and(|job| is_terminal(job.state));
                    see(event).await?;
                    if ended {
                        return Ok(());
                    }
                }
                Ok(None) => break,
                Err(status) => {
                    outage.ride_out(server.failure(status)).await?;
                    break;
                }
            }
        }
    }
}

/// A server that is being restarted is back soon: a wait goes on through it.
#[derive(Default)]
struct Outage(Option<Instant>);

impl Outage {
    const PATIENCE: Duration = Duration::from_secs(30);
    const PAUSE: Duration = Duration::from_millis(500);

    /// Pauses before the next try, or hands the failure back: it is of another kind, or has lasted too long.
    async fn ride_out(&mut self, failure: Failure) -> Result<(), Failure> {
        let first = self.0.is_none();
        let since = *self.0.get_or_insert_with(Instant::now);
        if failure.exit != Exit::Unreachable || since.elapsed() > Self::PATIENCE {
            return Err(failure);
        }
        if first {
            eprintln!("jobwire: {}; waiting for it to come back", failure.message);
        }
        tokio::time::sleep(Self::PAUSE).await;
        Ok(())
    }
}

fn still_running(id: &str) -> Exit {
    eprintln!("jobwire: time is up; the job goes on. Wait again: jobwire job wait {id}");
    Exit::StillRunning
}

pub fn is_terminal(state: i32) -> bool {
    use JobState::{Cancelled, Dead, Discarded, Expired, Succeeded};
    [Succeeded, Dead, Cancelled, Expired, Discarded].into_iter().any(|terminal| terminal as i32 == state)
}

/// For people and pipes the result as stored; for JSON that was asked for, inline.
fn payload_format(out: &Output) -> PayloadFormat {
    if out.asked && out.is_json() { PayloadFormat::Json } else { PayloadFormat::Raw }
}

/// The result on stdout, or why there is none on stderr.
fn finish(out: &Output, job: &Job) -> Result<Exit, Failure> {
    let succeeded = job.state == JobState::Succeeded as i32;
    match out.format {
        Format::Json | Format::Jsonl if out.asked => out.json("Job", job)?,
        Format::Id => out.line(&job.id)?,
        Format::Table | Format::Json | Format::Jsonl if succeeded => {
            job.result.as_ref().map_or(Ok(()), |result| print(out, result))?;
        }
        Format::Table | Format::Json | Format::Jsonl => {}
    }
    if succeeded {
        return Ok(Exit::Done);
    }
    let why = job.failure.as_ref().map(|failure| format!(": {}", text::failure(failure))).unwrap_or_default();
    let attempts = if job.attempt == 1 { "1 attempt".to_owned() } else { format!("{} attempts", job.attempt) };
    eprintln!("jobwire: {} after {attempts}{why}\nMore: jobwire job get {}", text::state(job.state), job.id);
    Ok(Exit::Unsuccessful)
}

fn print(out: &Output, payload: &Payload) -> Result<(), Failure> {
    match &payload.body {
        Some(Body::Text(result)) if std::io::stdout().is_terminal() => out.line(&text::lines(result)),
        Some(Body::Text(result)) => out.line(result),
        Some(Body::Data(_)) if std::io::stdout().is_terminal() => out.line(&text::payload(payload)),
        Some(Body::Data(data)) => out.bytes(data),
        Some(Body::Json(_)) | None => Ok(()),
    }
}

/// Tells on stderr what happens to a job: a bar below, lines above.
struct Teller {
    bar: Option<ProgressBar>,
    /// State and attempt told last.
    told: (i32, i32),
    progress: String,
}

impl Teller {
    fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} {bar:30} {msg}  {elapsed}").expect("a valid template");
            let bar = ProgressBar::new(100).with_style(style);
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Self { bar, told: (0, -1), progress: String::new() }
    }

    fn tell(&mut self, event: &WatchJobResponse) {
        if let Some(job) = event.job.as_ref().filter(|job| (job.state, job.attempt) != self.told) {
            self.told = (job.state, job.attempt);
            self.say(&happened(job));
        }
        if let Some(progress) = event.progress.as_ref().or(event.job.as_ref().and_then(|job| job.progress.as_ref())) {
            match &self.bar {
                Some(bar) => {
                    let counted = 100.0 * progress.current as f64 / progress.total.max(1) as f64;
                    bar.set_position(progress.percent.unwrap_or(counted).clamp(0.0, 100.0) as u64);
                    bar.set_message(text::progress(progress));
                }
                // A record repeats what was reported before.
                None if text::progress(progress) != self.progress => {
                    self.progress = text::progress(progress);
                    self.say(&self.progress);
                }
                None => {}
            }
        }
        for line in &event.lines {
            self.say(&log_line(line));
        }
    }

    fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => eprintln!("{line}"),
        }
    }
}

impl Drop for Teller {
    /// Leaves no bar behind, however the command ends.
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// One line about where a job is.
pub fn happened(job: &Job) -> String {
    let most = job.spec.as_ref().and_then(|spec| spec.retry.as_ref()).map_or(0, |retry| retry.max_attempts);
    let attempt =
        if most > 0 { format!("attempt {} of {most}", job.attempt) } else { format!("attempt {}", job.attempt) };
    let why = job.failure.as_ref().map(|failure| format!("  {}", text::failure(failure))).unwrap_or_default();
    match JobState::try_from(job.state) {
        Ok(JobState::Running) if job.worker_id.is_empty() => format!("RUNNING  {attempt}"),
        Ok(JobState::Running) => format!("RUNNING  {attempt}  on {}", text::line(&job.worker_id)),
        Ok(JobState::Retrying) => format!("RETRYING  {}{why}", text::ago(job.schedule_time.as_ref())),
        Ok(JobState::Scheduled) => format!("SCHEDULED  {}", text::ago(job.schedule_time.as_ref())),
        Ok(JobState::Succeeded) => "SUCCEEDED".to_owned(),
        _ => format!("{}{why}", text::state(job.state)),
    }
}

/// `10:42:05.120 INFO  sent  to=ada`.
pub fn log_line(line: &LogLine) -> String {
    let fields: String =
        line.fields.iter().map(|(key, value)| format!("  {}={}", text::line(key), text::line(value))).collect();
    let time = text::clock(line.time.as_ref());
    format!("{time} {:5} {}{fields}", text::level(line.level), text::lines(&line.message))
}
