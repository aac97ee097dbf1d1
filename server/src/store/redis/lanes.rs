//! Batching without a timer: what arrives for a shard while calls are in flight goes together in the next one, so that
//! thousands of workers share a handful of connections.
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::Core;
use crate::{model::ids::Shard, store::StoreError};

/// Calls of one kind in flight to one shard.
const IN_FLIGHT: usize = 2;
/// Items of one call: what keeps Redis from answering others stays well below 5 ms.
pub(super) const CALL_ITEMS: usize = 250;
/// Bytes of one call. The first request always fits.
pub(super) const CALL_BYTES: usize = 512 << 10;
/// Requests that wait for their turn.
const WAITING: usize = 4_096;

/// Something that is sent in batches.
#[async_trait]
pub(super) trait Item: Send + Sized + 'static {
    type Answer: Send + 'static;

    fn size(&self) -> usize;

    /// One call for all; one answer per item, in order.
    async fn send(core: &Core, shard: Shard, items: Vec<Self>) -> Result<Vec<Self::Answer>, StoreError>;
}

/// Items that belong together, and who waits for their answers.
type Request<I> = (Vec<I>, oneshot::Sender<Result<Vec<<I as Item>::Answer>, StoreError>>);

/// The way of one kind of call to one shard.
pub(super) struct Lane<I: Item>(mpsc::Sender<Request<I>>);

impl<I: Item> Lane<I> {
    /// Ends with its last sender.
    pub fn start(core: Weak<Core>, shard: Shard) -> Self {
        let (sender, inbox) = mpsc::channel(WAITING);
        tokio::spawn(run(core, shard, inbox));
        Self(sender)
    }

    /// Answers in order. Parts of a request may have been done when it fails.
    pub async fn ask(&self, items: Vec<I>) -> Result<Vec<I::Answer>, StoreError> {
        if items.is_empty() {
            return Ok(Vec::new());
        }
        if items.len() <= CALL_ITEMS {
            return self.ask_once(items).await;
        }
        let mut rest = items.into_iter();
        let calls = std::iter::from_fn(|| {
            let part: Vec<I> = rest.by_ref().take(CALL_ITEMS).collect();
            (!part.is_empty()).then_some(part)
        });
        let calls: Vec<_> = calls.map(|part| self.ask_once(part)).collect();
        let answers = futures::future::try_join_all(calls).await?;
        Ok(answers.into_iter().flatten().collect())
    }

    async fn ask_once(&self, items: Vec<I>) -> Result<Vec<I::Answer>, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.0.send((items, reply)).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

async fn run<I: Item>(core: Weak<Core>, shard: Shard, mut inbox: mpsc::Receiver<Request<I>>) {
    let flights = Arc::new(Semaphore::new(IN_FLIGHT));
    let mut next = None;
    loop {
        let Ok(flight) = flights.clone().acquire_owned().await else { return };
        let first = match next.take() {
            Some(request) => request,
            None => match inbox.recv().await {
                Some(request) => request,
                None => return,
            },
        };
        let mut bytes = size(&first);
        let mut items = first.0.len();
        let mut batch = vec![first];
        while let Ok(request) = inbox.try_recv() {
            bytes += size(&request);
            items += request.0.len();
            if items > CALL_ITEMS || bytes > CALL_BYTES {
                next = Some(request);
                break;
            }
            batch.push(request);
        }
        let Some(core) = core.upgrade() else { return };
        tokio::spawn(async move {
            deliver(&core, shard, batch).await;
            drop(flight);
        });
    }
}

fn size<I: Item>((items, _): &Request<I>) -> usize {
    items.iter().map(Item::size).sum()
}

async fn deliver<I: Item>(core: &Core, shard: Shard, batch: Vec<Request<I>>) {
    let mut items = Vec::with_capacity(batch.iter().map(|(items, _)| items.len()).sum());
    let mut waiting = Vec::with_capacity(batch.len());
    for (mut part, reply) in batch {
        waiting.push((part.len(), reply));
        items.append(&mut part);
    }
    match I::send(core, shard, items).await {
        Ok(answers) => {
            let mut answers = answers.into_iter();
            for (count, reply) in waiting {
                // Whoever does not wait any more has gone with its client; what it asked for is done.
                _ = reply.send(Ok(answers.by_ref().take(count).collect()));
            }
        }
        Err(error) => waiting.into_iter().for_each(|(_, reply)| _ = reply.send(Err(error.clone()))),
    }
}
