//! Streams of answers that a task feeds: what every streaming call shares.
use std::{future::Future, panic::AssertUnwindSafe};

use futures::FutureExt as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{layer::panic_text, status::ApiError};

/// The answers of a streaming call.
pub type Outbound<T> = ReceiverStream<Result<T, Status>>;
/// Where the task of a streaming call puts its answers.
pub type Sender<T> = mpsc::Sender<Result<T, Status>>;

/// Messages that wait for a slow reader; HTTP/2 flow control holds more.
const WAITING: usize = 2;

/// Runs `task` until it is done; its error, or a panic, ends the stream with a status. The response headers need not wait
/// for it.
pub fn spawn<T, F>(task: impl FnOnce(Sender<T>) -> F) -> Outbound<T>
where
    T: Send + 'static,
    F: Future<Output = Result<(), ApiError>> + Send + 'static,
{
    let (tx, rx) = mpsc::channel(WAITING);
    let work = task(tx.clone());
    tokio::spawn(async move {
        let end = match AssertUnwindSafe(work).catch_unwind().await {
            Ok(end) => end,
            Err(panic) => Err(ApiError::bug(panic_text(&*panic))),
        };
        if let Err(error) = end {
            // Nobody is left to hear it when this fails.
            let _ = tx.send(Err(error.into())).await;
        }
    });
    ReceiverStream::new(rx)
}

/// What comes from a client's half of a stream.
pub enum Inbound<T> {
    Message(T),
    /// The client half-closed.
    End,
    /// The connection broke, or the client gave the call up.
    Broken,
    /// It sent what cannot be read.
    Refused(ApiError),
}

/// The next message. Cancel-safe.
pub async fn next<T>(stream: &mut Streaming<T>) -> Inbound<T> {
    match stream.message().await {
        Ok(Some(message)) => Inbound::Message(message),
        Ok(None) => Inbound::End,
        Err(status) => ApiError::from_tonic(&status).map_or(Inbound::Broken, Inbound::Refused),
    }
}
