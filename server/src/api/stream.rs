//! Streams of answers that a task feeds: what every streaming call shares.
use std::{
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    task::{Context, Poll},
};

use futures::{FutureExt as _, Stream};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use super::{layer::panic_text, status::ApiError};

/// One answer, or how the call ended. Boxed: a channel has room for 32 values from the start, and one of a worker's frames
/// would take 30 KB of each idle stream.
type Message<T> = Box<Result<T, Status>>;

/// The answers of a streaming call.
pub struct Outbound<T>(mpsc::Receiver<Message<T>>);

impl<T> Stream for Outbound<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx).map(|message| message.map(|message| *message))
    }
}

/// Where the task of a streaming call puts its answers.
pub struct Sender<T>(mpsc::Sender<Message<T>>);

/// Nobody reads the answers any more.
#[derive(Debug)]
pub struct Unread;

impl<T> Sender<T> {
    /// Waits for room.
    pub async fn send(&self, message: Result<T, Status>) -> Result<(), Unread> {
        self.0.send(Box::new(message)).await.map_err(|_| Unread)
    }

    /// Resolves when nobody reads the answers any more.
    pub async fn closed(&self) {
        self.0.closed().await;
    }
}

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
    let tx = Sender(tx);
    let work = task(Sender(tx.0.clone()));
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
    Outbound(rx)
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
