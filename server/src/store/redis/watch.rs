//! Wakes from the scripts of all servers, and messages between servers.
//!
//! A letter, then what it is about: `R` queue: it has work · `T`: something is due earlier · `C` ids: these must stop ·
//! `Q` queue: paused or opened · `D` key: a document changed · `P`: queues are placed otherwise · `M` bytes: told by a
//! server.
use std::sync::Arc;

use bytes::Bytes;
use redis::Pipeline;

use super::{Core, layout::root, push::Push};
use crate::{
    model::{
        ids::{JobId, Shard},
        op::Wake,
    },
    store::StoreError,
};

/// Where servers speak to each other.
const PLACE: Shard = Shard(0);

impl Core {
    pub(super) async fn tell(&self, note: Bytes) -> Result<(), StoreError> {
        let mut message = Vec::with_capacity(note.len() + 1);
        message.push(b'M');
        message.extend_from_slice(&note);
        self.publish(message).await
    }

    /// Servers read again where queues are.
    pub(super) async fn tell_placing(&self) -> Result<(), StoreError> {
        self.publish(vec![b'P']).await
    }

    async fn publish(&self, message: Vec<u8>) -> Result<(), StoreError> {
        let mut pipe = Pipeline::new();
        pipe.cmd("SPUBLISH").arg(self.layout.channel(PLACE)).arg(message);
        self.run(PLACE, pipe).await.map(drop)
    }

    /// Listens until the store closes.
    pub(super) async fn listen(self: Arc<Self>) {
        let channels = self.layout.all().map(|shard| self.layout.channel(shard)).collect();
        let mut pushes = self.conn.subscribe(channels);
        loop {
            let push = tokio::select! {
                push = pushes.recv() => push,
                () = self.closed.cancelled() => return,
            };
            match push {
                Some(Push::Message { channel, payload }) => {
                    if let Some(shard) = self.layout.shard_of_channel(&channel) {
                        self.heard(shard, payload);
                    }
                }
                Some(Push::Lost) => self.look_again().await,
                None => return,
            }
        }
    }

    fn heard(self: &Arc<Self>, shard: Shard, message: Bytes) {
        let Some(letter) = message.first() else { return };
        let rest = message.slice(1..);
        let text = || std::str::from_utf8(&rest).ok();
        let name = || text().and_then(|text| text.parse().ok());
        let wake = match letter {
            b'R' => name().map(Wake::Ready),
            b'T' => Some(Wake::Timer(shard)),
            b'C' => {
                let ids = rest.chunks_exact(16).filter_map(|id| id.try_into().ok()).map(JobId::from_bytes);
                Some(Wake::Cancel(ids.collect()))
            }
            b'Q' => name().map(Wake::Queue),
            b'D' => text().map(|key| Wake::Doc(key.to_owned())),
            b'M' => Some(Wake::Told(rest.clone())),
            b'P' => {
                let core = self.clone();
                tokio::spawn(async move {
                    match core.load_placing().await {
                        // Queues may have more shards than anybody has looked at.
                        Ok(()) => core.wake(Wake::Reset),
                        Err(error) => tracing::warn!(%error, "cannot read where queues are placed"),
                    }
                });
                None
            }
            _ => None,
        };
        if let Some(wake) = wake {
            self.wake(wake);
        }
    }

    /// Messages were lost, and the data may be other than it was.
    async fn look_again(&self) {
        match self.check_epoch().await {
            Ok(true) => {}
            Ok(false) => {
                tracing::error!(
                    prefix = root(&self.conn.target().prefix),
                    "the data in Redis is not what it was: jobs may have been lost"
                );
                self.names.clear();
                self.forget_all();
            }
            // The next subscription will say so again.
            Err(error) => tracing::warn!(%error, "cannot look whether the data is what it was"),
        }
        self.wake(Wake::Reset);
    }
}
