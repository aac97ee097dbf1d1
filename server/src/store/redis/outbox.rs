//! What an outcome does in other shards, jobs that it enqueues and throttles of its queue: written with it into its shard,
//! carried on from there. Whoever applied the outcome carries at once; what is left behind is found by whoever asks what is
//! due. A job that is there already stays as it is, and of several throttles the latest holds, so carrying twice does nothing.
use bytes::Bytes;
use redis::Value;
use serde::{Deserialize, Serialize};

use super::{
    Core,
    moves::Step,
    names::{self, Of},
    scripts::THROTTLE,
    value,
};
use crate::{
    model::{
        ids::{QueueName, Shard},
        op::NewJob,
    },
    store::StoreError,
};

/// Entries carried at a time.
const AT_ONCE: usize = 200;

/// A queue is to be left alone until then, wall clock.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Throttled {
    /// Its number in this shard.
    queue: u32,
    until_ms: i64,
}

impl Core {
    /// Carries everything. What fails stays for the next time.
    pub(super) async fn relay(&self, shard: Shard) {
        if let Err(error) = self.try_relay(shard).await {
            tracing::warn!(shard = shard.0, %error, "what outcomes do in other shards waits in the outbox");
        }
    }

    pub(super) async fn try_relay(&self, shard: Shard) -> Result<(), StoreError> {
        let key = self.layout.key(shard, "ob");
        loop {
            let mut pipe = redis::Pipeline::new();
            pipe.cmd("XRANGE").arg(&key).arg("-").arg("+").arg("COUNT").arg(AT_ONCE);
            let answers = self.run(shard, pipe).await?;
            let entries = answers.first().map_or(Ok(&[][..]), value::list)?;
            if entries.is_empty() {
                return Ok(());
            }
            let mut done = Vec::with_capacity(entries.len());
            let mut jobs: hashbrown::HashMap<Shard, Vec<NewJob>> = hashbrown::HashMap::new();
            let mut throttles: Vec<Throttled> = Vec::new();
            for entry in entries {
                let (seq, kind, bytes) = read(entry)?;
                match kind.as_str() {
                    "e" => match postcard::from_bytes::<NewJob>(&bytes) {
                        Ok(job) if self.layout.has(job.id.shard()) => jobs.entry(job.id.shard()).or_default().push(job),
                        _ => undecodable(shard),
                    },
                    "t" => match postcard::from_bytes(&bytes) {
                        Ok(throttled) => throttles.push(throttled),
                        Err(_) => undecodable(shard),
                    },
                    _ => undecodable(shard),
                }
                done.push(seq);
            }
            for (to, jobs) in jobs {
                self.register(to, jobs.iter().map(|job| &job.queue)).await?;
                self.puts(to).ask(jobs).await?;
            }
            for Throttled { queue, until_ms } in throttles {
                let queue = self.name_of(shard, Of::Queue, queue).await?;
                for to in self.placing.shards_of(&queue).into_iter().filter(|to| *to != shard) {
                    self.throttle(to, &queue, until_ms).await?;
                }
            }
            let mut pipe = redis::Pipeline::new();
            pipe.cmd("XDEL").arg(&key).arg(&done);
            self.run(shard, pipe).await?;
            if done.len() < AT_ONCE {
                return Ok(());
            }
        }
    }

    /// A step that throttles a queue of several shards has the others told.
    pub(super) fn spread_throttle(&self, shard: Shard, queue: u32, until_ms: i64, step: &mut Step) {
        let alone = |name: QueueName| self.placing.shards_of(&name).len() == 1;
        if !self.names.name(shard, Of::Queue, queue).is_some_and(alone) {
            step.spread(&Throttled { queue, until_ms });
        }
    }

    async fn throttle(&self, shard: Shard, queue: &QueueName, until_ms: i64) -> Result<(), StoreError> {
        loop {
            let number = self.names.number(shard, Of::Queue, queue);
            let [field, entry] = names::entry(Of::Queue, number, queue);
            let mut args = self.times();
            args.extend([field, entry, until_ms.to_string()].map(Bytes::from));
            match self.eval_parts(shard, &THROTTLE, &args).await?.first() {
                Some(Value::Int(1)) => return Ok(()),
                _ => self.names.is_taken(shard, Of::Queue, number),
            }
        }
    }
}

fn undecodable(shard: Shard) {
    tracing::error!(shard = shard.0, "an entry of the outbox does not decode and is dropped");
}

/// Number, kind and value of an entry: `[number, [kind, value]]`.
fn read(entry: &Value) -> Result<(String, String, Bytes), StoreError> {
    let [seq, fields] = value::list(entry)? else { return Err(value::unexpected(entry)) };
    let [kind, bytes] = value::list(fields)? else { return Err(value::unexpected(entry)) };
    Ok((value::text(seq)?, value::text(kind)?, value::bytes(bytes)?))
}
