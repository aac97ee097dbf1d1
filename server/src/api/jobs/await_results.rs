//! AwaitResults: one stream for all the results that a process awaits.
use std::{
    collections::{HashMap, hash_map::Entry},
    time::Duration,
};

use futures::{
    FutureExt as _, StreamExt as _,
    future::{AbortHandle, Abortable},
    stream::FuturesUnordered,
};
use jobwire_proto::v1;
use prost::Message as _;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;

use crate::{
    api::{
        convert::{count, job::job_result, payload::Format},
        status::{ApiError, Reason},
        stream::{Inbound, Sender, next},
    },
    engine::Engine,
    model::ids::JobId,
};

/// Jobs that one stream may await at a time.
const AWAITED: usize = 100_000;
/// When to come back with more.
const RETRY: Duration = Duration::from_secs(1);
/// Results sent together, at most about so many bytes.
const BATCH_BYTES: usize = 256 << 10;
/// Results sent together.
const BATCH: usize = 1_000;

pub async fn run(
    engine: Engine,
    draining: CancellationToken,
    mut inbound: Streaming<v1::AwaitResultsRequest>,
    out: Sender<v1::AwaitResultsResponse>,
) -> Result<(), ApiError> {
    let most = engine.limits().ids;
    let mut awaited: HashMap<JobId, AbortHandle> = HashMap::new();
    let mut ends = FuturesUnordered::new();
    let mut open = true;
    while open || !ends.is_empty() {
        let mut response = v1::AwaitResultsResponse::default();
        tokio::select! {
            () = draining.cancelled() => return Err(ApiError::shutting_down()),
            message = next(&mut inbound), if open => match message {
                Inbound::End => open = false,
                Inbound::Broken => return Ok(()),
                Inbound::Refused(error) => return Err(error),
                Inbound::Message(request) => {
                    count("job_ids", request.job_ids.len(), most)?;
                    count("forget_ids", request.forget_ids.len(), most)?;
                    for id in request.forget_ids.iter().filter_map(|id| id.parse::<JobId>().ok()) {
                        if let Some(wait) = awaited.remove(&id) {
                            wait.abort();
                        }
                    }
                    for text in request.job_ids {
                        let Ok(id) = text.parse::<JobId>() else {
                            response.unknown_ids.push(text);
                            continue;
                        };
                        if awaited.len() == AWAITED {
                            let message = format!("a stream awaits at most {AWAITED} jobs at a time");
                            return Err(ApiError::new(Reason::Overloaded, message).retry_after(RETRY));
                        }
                        if let Entry::Vacant(place) = awaited.entry(id) {
                            let (handle, registration) = AbortHandle::new_pair();
                            place.insert(handle);
                            let engine = engine.clone();
                            let end = async move { (id, engine.ended(id).await) };
                            ends.push(Abortable::new(end, registration));
                        }
                    }
                }
            },
            Some(first) = ends.next(), if !ends.is_empty() => {
                let mut bytes = 0;
                let mut ended = Some(first);
                while let Some(end) = ended.take() {
                    // Forgotten ones resolve as aborted.
                    if let Ok((id, record)) = end {
                        awaited.remove(&id);
                        match record?.and_then(|record| job_result(record, Format::Raw)) {
                            Some(result) => {
                                bytes += result.encoded_len();
                                response.results.push(result);
                            }
                            None => response.unknown_ids.push(id.to_string()),
                        }
                    }
                    let count = response.results.len() + response.unknown_ids.len();
                    if bytes < BATCH_BYTES && count < BATCH {
                        ended = ends.next().now_or_never().flatten();
                    }
                }
            }
        }
        let empty = response.results.is_empty() && response.unknown_ids.is_empty();
        if !empty && out.send(Ok(response)).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}
