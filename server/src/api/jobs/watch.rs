//! WatchJob: one job, until it is terminal.
use jobwire_proto::v1;
use tokio::sync::mpsc::Receiver;
use tokio_util::sync::CancellationToken;

use crate::{
    api::{
        convert::{
            Parsed,
            job::{View, job, to_log_line, to_progress},
            job_id,
            payload::Format,
        },
        status::ApiError,
        stream::{self, Outbound, Sender},
        unary,
    },
    engine::{Engine, JobError, JobEvent},
};

/// Finds the job, then follows it.
pub async fn start(
    engine: &Engine,
    draining: CancellationToken,
    request: v1::WatchJobRequest,
) -> Parsed<Outbound<v1::WatchJobResponse>> {
    let ctx = unary(engine);
    let id = job_id("id", &request.id)?;
    let format = Format::parse(ctx, request.payload_format)?;
    let logs_after = match request.logs_after.map(u64::try_from) {
        None => None,
        Some(Ok(after)) => Some(after),
        Some(Err(_)) => return Err(ApiError::field("logs_after", "must not be negative")),
    };
    let events = engine.watch(id, logs_after).await?;
    Ok(stream::spawn(move |out| follow(events, draining, format, out)))
}

async fn follow(
    mut events: Receiver<Result<JobEvent, JobError>>,
    draining: CancellationToken,
    format: Format,
    out: Sender<v1::WatchJobResponse>,
) -> Result<(), ApiError> {
    loop {
        let event = tokio::select! {
            event = events.recv() => event,
            () = out.closed() => None,
            () = draining.cancelled() => return Err(ApiError::shutting_down()),
        };
        let Some(event) = event else { return Ok(()) };
        if out.send(Ok(message(event?, format))).await.is_err() {
            return Ok(());
        }
    }
}

fn message(event: JobEvent, format: Format) -> v1::WatchJobResponse {
    match event {
        JobEvent::Record(record) => {
            let view = if record.meta.state.is_terminal() { View::Full } else { View::Basic };
            v1::WatchJobResponse { job: Some(job(*record, view, format)), ..Default::default() }
        }
        JobEvent::Progress(progress) => {
            v1::WatchJobResponse { progress: Some(to_progress(progress)), ..Default::default() }
        }
        JobEvent::Lines(lines) => {
            v1::WatchJobResponse { lines: lines.into_iter().map(to_log_line).collect(), ..Default::default() }
        }
    }
}
