//! `enqueue`: one job, or one per line.
use std::io::{BufRead, BufReader};

use jobwire_proto::v1::{
    EnqueueManyRequest, EnqueueManyResponse, EnqueueRequest, EnqueueResponse, EnqueueResult, EnqueueStatus, JobSpec,
};
use prost::Message as _;

use super::{
    Context,
    connect::{Server, request},
    exit::{Exit, Failure},
    output::{Format, List},
    spec::{self, JobOptions},
    text,
};

/// Arguments of `enqueue`.
#[derive(clap::Args, Debug)]
pub struct Enqueue {
    /// Type of the job, as its handler is called: email.send
    #[arg(value_name = "TYPE")]
    kind: String,
    /// JSON, @FILE, or - for standard input; with --many a file of payloads, one JSON document a line
    #[arg(value_name = "JSON|@FILE|-", allow_negative_numbers = true)]
    payload: Option<String>,
    /// One job per line of input; default input: standard input
    #[arg(long)]
    many: bool,
    #[command(flatten)]
    options: JobOptions,
}

pub async fn run(context: &Context, enqueue: Enqueue) -> Result<Exit, Failure> {
    if enqueue.many {
        return many(context, enqueue).await;
    }
    let body = enqueue.payload.as_deref().map(spec::body).transpose()?;
    let job = enqueue.options.spec(&enqueue.kind, body)?;
    let server = context.server().await?;
    let answer = one(&server, job).await?;
    context.out.one("EnqueueResponse", &answer, &answer.job_id, |_| {
        let repeated = answer.status == EnqueueStatus::Duplicate as i32;
        let start = answer.schedule_time.as_ref().filter(|_| text::state(answer.state) == "SCHEDULED");
        let start = start.map(|time| format!("  {}", text::ago(Some(time)))).unwrap_or_default();
        let known = if repeated { "  (it was there before)" } else { "" };
        format!("{}  {}{start}{known}\n", answer.job_id, text::state(answer.state))
    })?;
    Ok(Exit::Done)
}

/// Enqueues one job.
pub async fn one(server: &Server, job: JobSpec) -> Result<EnqueueResponse, Failure> {
    let message = EnqueueRequest { job: Some(job), ..EnqueueRequest::default() };
    server.ask(server.jobs().enqueue(request(message))).await
}

/// Jobs in one call.
const BATCH_JOBS: usize = 1_000;
/// Bytes in one call; the limit of a message is 3 MiB.
const BATCH_BYTES: usize = 2 << 20;

async fn many(context: &Context, enqueue: Enqueue) -> Result<Exit, Failure> {
    if enqueue.options.has_id() {
        return Err(Failure::usage("--id names one job; with --many each gets its own"));
    }
    let server = context.server().await?;
    let mut all = EnqueueManyResponse::default();
    let mut batch = Vec::new();
    let mut bytes = 0;
    for (number, line) in input(enqueue.payload.as_deref())?.lines().enumerate() {
        let line = line.map_err(|error| Failure::usage(format!("line {}: {error}", number + 1)))?;
        if line.trim().is_empty() {
            continue;
        }
        let job = enqueue.options.spec(&enqueue.kind, Some(line.into_bytes())).map_err(|failure| {
            let sent = all.results.len();
            Failure::new(
                failure.exit,
                format!("line {}: {}\n{sent} jobs before it were sent", number + 1, failure.message),
            )
        })?;
        let size = job.encoded_len() + 8;
        if batch.len() == BATCH_JOBS || (bytes + size > BATCH_BYTES && !batch.is_empty()) {
            send(&server, std::mem::take(&mut batch), &mut all).await?;
            bytes = 0;
        }
        bytes += size;
        batch.push(job);
    }
    if !batch.is_empty() {
        send(&server, batch, &mut all).await?;
    }
    report(context, &all)
}

fn input(argument: Option<&str>) -> Result<Box<dyn BufRead>, Failure> {
    match argument {
        None | Some("-") => Ok(Box::new(BufReader::new(std::io::stdin()))),
        Some(argument) => {
            let path = argument.strip_prefix('@').unwrap_or(argument);
            let file = std::fs::File::open(path)
                .map_err(|error| Failure::usage(format!("{path} cannot be read: {error}; --many reads @FILE or -")))?;
            Ok(Box::new(BufReader::new(file)))
        }
    }
}

async fn send(server: &Server, jobs: Vec<JobSpec>, all: &mut EnqueueManyResponse) -> Result<(), Failure> {
    let sent = all.results.len();
    let answer = server.ask(server.jobs().enqueue_many(request(EnqueueManyRequest { jobs }))).await;
    let answer = answer.map_err(|failure| {
        Failure::new(failure.exit, format!("{}\n{sent} jobs before these were sent", failure.message))
    })?;
    all.created_count += answer.created_count;
    all.results.extend(answer.results);
    Ok(())
}

/// What became of all of them. The exit code is that of the first refusal.
fn report(context: &Context, all: &EnqueueManyResponse) -> Result<Exit, Failure> {
    let refused: Vec<(usize, &EnqueueResult)> =
        all.results.iter().enumerate().filter(|(_, result)| result.error.is_some()).collect();
    let list = List { names: ("EnqueueManyResponse", "EnqueueResult"), response: all, items: &all.results };
    if context.out.format == Format::Id {
        for result in all.results.iter().filter(|result| result.error.is_none()) {
            context.out.line(&result.job_id)?;
        }
    } else {
        context.out.list(
            &list,
            |result| result.job_id.clone(),
            |_, results| {
                let repeated = results.len() - refused.len() - all.created_count as usize;
                let count = |n: usize| text::number(n as i64);
                format!(
                    "{} created, {} there before, {} refused\n",
                    text::number(all.created_count),
                    count(repeated),
                    count(refused.len())
                )
            },
        )?;
    }
    for (place, result) in refused.iter().take(10) {
        let error = result.error.as_ref().expect("these were refused");
        let field = if error.field.is_empty() { String::new() } else { format!(" (field {})", error.field) };
        eprintln!("job {}: {}{field} [{}]", place + 1, text::line(&error.message), error.reason);
    }
    if refused.len() > 10 {
        eprintln!("and {} more", refused.len() - 10);
    }
    let first = refused.first().and_then(|(_, result)| result.error.as_ref());
    Ok(first.map_or(Exit::Done, |error| Exit::of(tonic::Code::from(error.code))))
}
