//! Jobs that an outcome enqueued: written with it into its shard, carried to their own shards from there. Whoever applied
//! the outcome carries at once; what is left behind is found by whoever asks what is due. A job that is there already stays
//! as it is, so carrying twice does nothing.
use redis::Value;

use super::{Core, value};
use crate::{
    model::{ids::Shard, op::NewJob},
    store::StoreError,
};

/// Entries carried at a time.
const AT_ONCE: usize = 200;

impl Core {
    /// Carries everything. What fails stays for the next time.
    pub(super) async fn relay(&self, shard: Shard) {
        if let Err(error) = self.try_relay(shard).await {
            tracing::warn!(shard = shard.0, %error, "jobs enqueued with an outcome wait in the outbox");
        }
    }

    async fn try_relay(&self, shard: Shard) -> Result<(), StoreError> {
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
            for entry in entries {
                let (seq, job) = read(entry)?;
                match postcard::from_bytes::<NewJob>(&job) {
                    Ok(job) if self.layout.has(job.id.shard()) => jobs.entry(job.id.shard()).or_default().push(job),
                    _ => tracing::error!(shard = shard.0, "an entry of the outbox does not decode and is dropped"),
                }
                done.push(seq);
            }
            for (to, jobs) in jobs {
                self.register(to, jobs.iter().map(|job| &job.queue)).await?;
                self.puts(to).ask(jobs).await?;
            }
            let mut pipe = redis::Pipeline::new();
            pipe.cmd("XDEL").arg(&key).arg(&done);
            self.run(shard, pipe).await?;
            if done.len() < AT_ONCE {
                return Ok(());
            }
        }
    }
}

/// Number and value of an entry: `[number, [field, value]]`.
fn read(entry: &Value) -> Result<(String, bytes::Bytes), StoreError> {
    let [seq, fields] = value::list(entry)? else { return Err(value::unexpected(entry)) };
    let [_, job] = value::list(fields)? else { return Err(value::unexpected(entry)) };
    Ok((value::text(seq)?, value::bytes(job)?))
}
