//! EnqueueStream: frames of jobs, cumulative acks. Frames that arrive while others are being written join the next batch.
use std::collections::VecDeque;

use jobwire_proto::v1;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;

use super::enqueue_read;
use crate::{
    api::{
        convert::{Parsed, count, spec::job_spec, to_span},
        status::{ApiError, Reason},
        stream::{Inbound, Sender, next},
        streaming,
    },
    engine::{Engine, clock},
    model::job::JobSpec,
};

/// Frames that a producer may have unacknowledged.
const MAX_UNACKED: usize = 64;
/// Producers that are sent away come back at some time within this.
const SPREAD_MS: f64 = 2_000.0;
/// Frames read ahead of the store; flow control holds the rest.
const READ_AHEAD: usize = 16;

type Frame = v1::EnqueueStreamRequest;

pub async fn run(
    engine: Engine,
    draining: CancellationToken,
    inbound: Streaming<Frame>,
    out: Sender<v1::EnqueueStreamResponse>,
) -> Result<(), ApiError> {
    let greeting = v1::EnqueueStreamResponse { max_unacked: MAX_UNACKED as i32, ..Default::default() };
    if out.send(Ok(greeting)).await.is_err() {
        return Ok(());
    }
    let (tx, rx) = mpsc::channel(READ_AHEAD);
    let most = engine.limits().jobs_per_call;
    let write = write(&engine, draining, rx, out);
    tokio::pin!(write);
    tokio::select! {
        end = &mut write => return end,
        () = read(inbound, most, tx) => {}
    }
    write.await
}

/// Reads and numbers frames. What ends the stream is the last item.
async fn read(mut inbound: Streaming<Frame>, most: usize, frames: mpsc::Sender<Parsed<Frame>>) {
    let mut expected = 1;
    loop {
        let frame = match next(&mut inbound).await {
            Inbound::Message(frame) if frame.seq != expected => {
                let message = format!("is {}, but the next frame is {expected}", frame.seq);
                Err(ApiError::new(Reason::ProtocolViolation, message).at("seq"))
            }
            Inbound::Message(frame) => count("jobs", frame.jobs.len(), most).map(|()| frame),
            Inbound::Refused(error) => Err(error),
            Inbound::End | Inbound::Broken => return,
        };
        expected += 1;
        let last = frame.is_err();
        if frames.send(frame).await.is_err() || last {
            return;
        }
    }
}

/// Writes batches of frames and acknowledges them, in order.
async fn write(
    engine: &Engine,
    draining: CancellationToken,
    mut frames: mpsc::Receiver<Parsed<Frame>>,
    out: Sender<v1::EnqueueStreamResponse>,
) -> Result<(), ApiError> {
    let most = engine.limits().jobs_per_call;
    let mut waiting = VecDeque::new();
    let mut leaving = false;
    loop {
        if waiting.is_empty() {
            tokio::select! {
                frame = frames.recv() => match frame {
                    Some(frame) => waiting.push_back(frame),
                    None if leaving => return Err(ApiError::shutting_down()),
                    None => return Ok(()),
                },
                // What was read is still written; nothing more is.
                () = draining.cancelled(), if !leaving => {
                    leaving = true;
                    frames.close();
                    let reconnect_delay = Some(to_span((clock::share() * SPREAD_MS) as i64));
                    let farewell = v1::EnqueueStreamResponse { reconnect_delay, ..Default::default() };
                    if out.send(Ok(farewell)).await.is_err() {
                        return Ok(());
                    }
                    continue;
                }
            }
        }
        while let Ok(frame) = frames.try_recv() {
            waiting.push_back(frame);
        }
        let mut batch: Vec<Frame> = Vec::new();
        let mut jobs = 0;
        while let Some(Ok(frame)) = waiting.front() {
            if !batch.is_empty() && jobs + frame.jobs.len() > most {
                break;
            }
            jobs += frame.jobs.len();
            batch.extend(waiting.pop_front().and_then(Result::ok));
        }
        if batch.is_empty() {
            // What ends the stream comes after everything before it is acknowledged.
            return waiting.pop_front().map_or(Ok(()), |last| last.map(drop));
        }
        let ack = enqueue(engine, batch).await?;
        if out.send(Ok(ack)).await.is_err() {
            return Ok(());
        }
    }
}

/// One answer for a batch. A store that cannot be reached ends the stream without an ack: the producer sends the frames
/// again, which is harmless.
async fn enqueue(engine: &Engine, batch: Vec<Frame>) -> Parsed<v1::EnqueueStreamResponse> {
    let mut response = v1::EnqueueStreamResponse::default();
    let mut places = Vec::new();
    let mut specs = Vec::new();
    let ctx = streaming(engine);
    for frame in batch {
        response.acked_seq = frame.seq;
        for (index, spec) in frame.jobs.into_iter().enumerate() {
            places.push((frame.seq, index as i32));
            specs.push(read_job(ctx, spec).map_err(|error| error.within(format_args!("jobs[{index}]"))));
        }
    }
    for ((seq, index), outcome) in places.into_iter().zip(enqueue_read(engine, specs).await) {
        match outcome {
            Ok(done) => response.job_ids.push(done.id.to_string()),
            Err(error) if matches!(error.reason(), Reason::StoreUnavailable | Reason::ShuttingDown | Reason::Bug) => {
                return Err(error);
            }
            Err(error) => {
                response.job_ids.push(String::new());
                response.errors.push(v1::EnqueueStreamError { seq, index, error: Some(error.into_item()) });
            }
        }
    }
    Ok(response)
}

fn read_job(ctx: crate::api::convert::Ctx<'_>, spec: v1::JobSpec) -> Parsed<JobSpec> {
    if spec.id.is_empty() {
        return Err(ApiError::field("id", "is required on this stream"));
    }
    job_spec(ctx, spec)
}
