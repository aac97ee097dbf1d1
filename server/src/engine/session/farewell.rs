//! How a session ends: outcomes that were read are applied, what is still held goes back or is remembered.
use futures::StreamExt;
use tokio::sync::mpsc;
use tracing::{debug, info};

use super::{Event, Lease, Session};
use crate::{
    engine::{SessionEnd, dispatch, transition::Event as Happened},
    model::{
        op::{Act, Guard, Op},
        worker::Ended,
    },
};

impl Session {
    /// After the last frame: nothing that was read is dropped, nothing that was held is forgotten.
    pub(super) async fn leave(&mut self, how: Option<SessionEnd>, mut events: mpsc::Receiver<Event>) {
        self.inner.dispatch_event(dispatch::Event::Leave(self.key)).await;
        self.inner.sessions.leave(&self.hello.session_id, self.key);
        events.close();
        while let Some(event) = events.recv().await {
            match event {
                Event::Deliver(jobs) => self.deliver(jobs),
                Event::Takeover(reply) => _ = reply.send(self.table.take()),
                _ => {}
            }
        }
        // Outcomes that were read are applied, whatever became of the stream.
        while let Some(answer) = self.answers.next().await {
            self.on_answer(answer);
        }
        match how {
            // What came after the newer stream had taken over, its worker has never seen.
            Some(SessionEnd::Moved) => self.give_back_all("the worker is connected elsewhere").await,
            Some(SessionEnd::Clean) => {
                self.give_back_all("the worker left").await;
                if let Err(error) = self.inner.drop_directive(&self.hello.session_id).await {
                    debug!(%error, "the session's directive stays");
                }
            }
            None | Some(SessionEnd::GoAway | SessionEnd::Violation(_)) => self.write_down_receipts().await,
        }
        info!(session = %self.hello.session_id, worker = %self.hello.worker_id, end = ?how, "worker disconnected");
    }

    /// What is still held goes back as it is.
    async fn give_back_all(&mut self, reason: &str) {
        let released = || Happened::Reported {
            ended: Ended::Released { reason: reason.to_owned() },
            run_ms: None,
            checkpoint: None,
            effects: Vec::new(),
        };
        let leases = self.table.take().into_values().filter(|lease| !lease.revoked);
        let leases: Vec<_> = leases.map(|lease| (lease.token(), lease.known, released())).collect();
        if let Err(error) = self.inner.give_back(&self.holder, leases).await {
            debug!(%error, "leases come back when they run out");
        }
    }

    /// The stream broke: tell the store what it was told only here, shorten nothing, remember the rest.
    async fn write_down_receipts(&mut self) {
        let now_ms = self.inner.mono_ms();
        let unwritten = |lease: &Lease, started: bool| {
            lease.read && !lease.revoked && (!lease.renewed || (started && !lease.stored_started))
        };
        let mut ops = Vec::new();
        for lease in self.table.iter() {
            let started = self.table.counts_as_started(lease);
            if unwritten(lease, started) {
                let lease_ms = (self.ttl_ms - (now_ms - lease.named_ms)).max(0);
                let act = Act::Extend { lease_ms, started, progress: None, checkpoint: None };
                ops.push(Op { id: lease.known.meta.id, guard: Guard::Token(lease.secret), act });
            }
        }
        if !ops.is_empty()
            && let Err(error) = self.inner.apply(ops).await
        {
            debug!(%error, "receipts of a broken stream were not written down");
        }
        let leases = self.table.take();
        self.inner.remember_broken(&self.hello.session_id, self.key, leases, self.ttl_ms);
    }
}
