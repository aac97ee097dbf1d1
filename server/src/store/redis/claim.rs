//! Handing out jobs.
use bytes::Bytes;
use redis::Value;

use super::{Core, lanes::CALL_ITEMS, layout::hex, names::Of, record, scripts::CLAIM, value};
use crate::{
    model::{
        ids::{QueueName, Shard},
        job::{Body, Outcome, Payload},
        op::{Claim, Claimed, Leased},
    },
    store::StoreError,
};

/// A claim whose answer did not come: the same one again gets the jobs that it had got.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    number: u64,
    claim: Claim,
}

impl Core {
    /// Leases jobs, in calls of a bounded size.
    pub(super) async fn claim(&self, shard: Shard, claim: Claim) -> Result<Claimed, StoreError> {
        let mut rest = claim;
        let mut all = Claimed::default();
        loop {
            let secrets = rest.secrets.split_off(rest.secrets.len().min(CALL_ITEMS));
            let part = Claim { secrets: std::mem::replace(&mut rest.secrets, secrets), ..rest.clone() };
            let wanted = part.secrets.len();
            let mut claimed = match self.claim_once(shard, part).await {
                Ok(claimed) => claimed,
                // What was leased before is in hand; the rest is for another time.
                Err(_) if !all.jobs.is_empty() => return Ok(Claimed { more: true, ..all }),
                Err(error) => return Err(error),
            };
            let bytes: usize = claimed.jobs.iter().map(|job| job.body.as_ref().map_or(0, |body| body.task.len())).sum();
            let done = rest.secrets.is_empty() || claimed.jobs.len() < wanted || bytes >= rest.bytes;
            rest.bytes = rest.bytes.saturating_sub(bytes);
            rest.from_bottom = rest.from_bottom.saturating_sub(wanted);
            all.jobs.append(&mut claimed.jobs);
            (all.more, all.opens_in_ms) = (claimed.more, claimed.opens_in_ms);
            if done || !all.more {
                return Ok(all);
            }
        }
    }

    /// After an error the next claim of the queue repeats this one first, so that what it took is not lost for the life of
    /// its leases.
    async fn claim_once(&self, shard: Shard, claim: Claim) -> Result<Claimed, StoreError> {
        let key = (shard, claim.queue.clone());
        let before = self.unanswered.lock().remove(&key);
        let asked = before
            .filter(|asked| asked.claim.secrets.len() <= claim.secrets.len())
            .unwrap_or_else(|| Asked { number: self.next_number(), claim });
        let answer = self.claim_as(shard, &asked).await;
        if answer.is_err() {
            self.unanswered.lock().insert(key, asked);
        }
        answer
    }

    async fn claim_as(&self, shard: Shard, Asked { number, claim }: &Asked) -> Result<Claimed, StoreError> {
        let queue = self.names.number(shard, Of::Queue, &claim.queue);
        let mut args = self.times();
        let mut arg = |text: String| args.push(Bytes::from(text));
        arg(hex(queue));
        arg(claim.lease_ms.to_string());
        arg(u8::from(claim.started).to_string());
        arg(claim.from_bottom.to_string());
        arg((claim.bytes.min(1 << 40)).to_string());
        arg(format!("{}:{}", self.me, hex(queue)));
        arg(number.to_string());
        args.push(claim.secrets.iter().flat_map(|secret| secret.to_le_bytes()).collect());
        let answer = self.eval_parts(shard, &CLAIM, &args).await?;
        let [more, jobs, opens_in] = &answer[..] else { return Err(value::unexpected(&Value::Array(answer))) };
        let opens_in_ms = Some(value::int(opens_in)?).filter(|ms| *ms >= 0);
        let mut claimed = Claimed { jobs: Vec::new(), more: value::int(more)? == 1, opens_in_ms };
        let mut records = Vec::new();
        for job in value::list(jobs)? {
            let [id, record, body, outcome, checkpoint] = value::list(job)? else { return Err(value::unexpected(job)) };
            let (id, record) = (value::id(id)?, value::bytes(record)?);
            let slot = record::decode(id, &record).map_err(value::damaged)?;
            let outcome: Option<Outcome> = part(value::maybe(outcome)?);
            let checkpoint: Option<Payload> = part(value::maybe(checkpoint)?);
            claimed.jobs.push(Leased {
                secret: slot.token,
                body: value::maybe(body)?.and_then(|body| Body::decode(&body).ok()),
                checkpoint,
                last_failure: outcome.and_then(|outcome| outcome.failure),
                passed: Default::default(),
                meta: self.meta(shard, &slot, claim.queue.clone()).await?,
            });
            records.push((id, record));
        }
        self.remember(records);
        Ok(claimed)
    }

    async fn meta(
        &self,
        shard: Shard,
        slot: &crate::store::slot::Slot,
        queue: QueueName,
    ) -> Result<crate::model::job::Meta, StoreError> {
        Ok(slot.meta(queue, self.name_of(shard, Of::Type, slot.kind).await?))
    }
}

/// A damaged part counts as absent.
pub(super) fn part<T: serde::de::DeserializeOwned>(bytes: Option<Bytes>) -> Option<T> {
    postcard::from_bytes(&bytes?).ok()
}
