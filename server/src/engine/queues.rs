//! Calls about queues: what they hold, how fast they move, their switch.
//!
//! I18: a pause is in force in the store before it is answered.
use tokio::sync::oneshot;

use super::{Engine, QueueView, dispatch};
use crate::{
    model::{
        ids::QueueName,
        queue::{Pause, QueueChange},
        worker::WorkerView,
    },
    store::StoreError,
};

impl Engine {
    /// By name; `None` = all.
    pub async fn queues(&self, names: Option<Vec<QueueName>>) -> Result<Vec<QueueView>, StoreError> {
        let facts = self.0.store.queues(names.as_deref()).await?;
        let rates = self.0.meters.rates();
        let unhandled = self.unhandled().await;
        let connected = self.0.workers_everywhere().await;
        let view = |facts: crate::model::queue::QueueFacts| {
            let serves = |worker: &&WorkerView| {
                worker.subscriptions.iter().any(|subscription| subscription.queue.matches(facts.name.as_str()))
            };
            let (mut workers, mut slots, mut slots_busy) = (0, 0, 0);
            for worker in connected.iter().filter(serves) {
                workers += 1;
                slots += worker.slots;
                slots_busy += worker.in_flight;
            }
            QueueView {
                shards: self.0.store.width(&facts.name),
                rates: rates.get(&facts.name).copied().unwrap_or_default(),
                workers,
                slots,
                slots_busy,
                unhandled: unhandled
                    .iter()
                    .filter(|(queue, _, _)| *queue == facts.name)
                    .map(|(_, kind, count)| (kind.to_string(), *count))
                    .collect(),
                facts,
            }
        };
        Ok(facts.into_iter().map(view).collect())
    }

    async fn unhandled(&self) -> Vec<(QueueName, QueueName, u64)> {
        let (reply, answer) = oneshot::channel();
        self.0.dispatch_event(dispatch::Event::Unhandled(reply)).await;
        answer.await.unwrap_or_default()
    }

    /// Shards that a queue can be spread over.
    pub fn most_shards(&self) -> u16 {
        self.0.store.shards()
    }

    /// Spreads a queue over so many shards, a minute from now. Makes it if it is not there.
    pub async fn widen(&self, name: QueueName, shards: u16) -> Result<QueueView, StoreError> {
        self.0.store.set_queue(name.clone(), QueueChange::ResumeIfDue).await?;
        self.0.store.widen(name.clone(), shards).await?;
        let view = self.queues(Some(vec![name])).await?.pop();
        view.ok_or_else(|| StoreError::Unavailable("the queue has vanished".to_owned()))
    }

    /// Answers once no lease can be issued any more. Makes the queues that are not there.
    pub async fn pause(
        &self,
        names: Vec<QueueName>,
        reason: String,
        actor: String,
        duration_ms: Option<i64>,
    ) -> Result<Vec<QueueName>, StoreError> {
        let now_ms = self.0.wall_ms();
        for name in &names {
            let pause = Pause {
                reason: reason.clone(),
                actor: actor.clone(),
                pause_ms: now_ms,
                resume_ms: duration_ms.map(|ms| now_ms.saturating_add(ms)),
            };
            self.0.store.set_queue(name.clone(), QueueChange::Pause(pause)).await?;
        }
        Ok(names)
    }

    pub async fn resume(&self, names: Vec<QueueName>) -> Result<Vec<QueueName>, StoreError> {
        for name in &names {
            self.0.store.set_queue(name.clone(), QueueChange::Resume).await?;
        }
        Ok(names)
    }
}
