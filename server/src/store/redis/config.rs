//! Configurations of queues: in each shard of a queue its part of the bounds, for the scripts, and the whole behind it.
//!
//! The home shard decides which change comes next; the others take whatever is newer.
use bytes::{BufMut, Bytes, BytesMut};
use redis::{Pipeline, Value};

use super::{
    Core,
    layout::{fair_bytes, hex},
    names,
    names::Of,
    scripts::CONFIGURE,
    value,
};
use crate::{
    model::{
        ids::{QueueName, Shard},
        queue::{Bounds, Configured, QueueConfig, Rate},
        state::State,
    },
    store::StoreError,
};

/// Version 6, bounds 36, those of each fairness key 18.
const FIXED: usize = 60;
/// The largest number that 6 bytes hold.
const MOST: u64 = (1 << 48) - 1;

impl Core {
    pub(super) async fn configure(
        &self,
        name: &QueueName,
        expect: u64,
        config: Option<Box<QueueConfig>>,
    ) -> Result<(), StoreError> {
        let configured = config.map(|config| Configured { version: expect + 1, config });
        if self.configure_in(self.placing.home(name), name, Some(expect), configured.as_ref()).await? {
            self.spread_config(name, configured.as_ref()).await?;
        }
        Ok(())
    }

    /// Of all queues; each is asked of its home alone.
    pub(super) async fn configs(&self) -> Result<Vec<(QueueName, QueueConfig)>, StoreError> {
        self.open()?;
        let reads = self.layout.all().map(|shard| async move {
            let mut pipe = Pipeline::new();
            pipe.cmd("HGETALL").arg(self.layout.key(shard, "qc"));
            let answers = self.run(shard, pipe).await?;
            let mut found = Vec::new();
            for (number, config) in super::docs::pairs(&answers[0])? {
                let number = u32::from_str_radix(&value::text(number)?, 16).ok();
                let (Some(number), Some(configured)) = (number, read(&value::bytes(config)?)) else { continue };
                let name = self.name_of(shard, Of::Queue, number).await?;
                if self.placing.home(&name) == shard {
                    found.push((name, *configured.config));
                }
            }
            Ok::<_, StoreError>(found)
        });
        let mut all: Vec<_> = futures::future::try_join_all(reads).await?.into_iter().flatten().collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(all)
    }

    /// Has every shard of the queue hold its part, after the queue has got more of them.
    pub(super) async fn share_config(&self, name: &QueueName) -> Result<(), StoreError> {
        let shard = self.placing.home(name);
        let mut pipe = Pipeline::new();
        let number = self.names.number(shard, Of::Queue, name);
        pipe.cmd("HGET").arg(self.layout.key(shard, "qc")).arg(hex(number));
        let configured = value::maybe(&self.run(shard, pipe).await?[0])?.and_then(|bytes| read(&bytes));
        match configured {
            Some(configured) => self.spread_config(name, Some(&configured)).await,
            None => Ok(()),
        }
    }

    async fn spread_config(&self, name: &QueueName, configured: Option<&Configured>) -> Result<(), StoreError> {
        for shard in self.placing.shards_of(name) {
            self.configure_in(shard, name, None, configured).await?;
        }
        Ok(())
    }

    /// Tells whether the shard has it now.
    async fn configure_in(
        &self,
        shard: Shard,
        name: &QueueName,
        expect: Option<u64>,
        configured: Option<&Configured>,
    ) -> Result<bool, StoreError> {
        let shards = self.placing.shards_of(name);
        let place = shards.iter().position(|known| *known == shard).unwrap_or(0);
        let new = configured.map(|configured| write(configured, place as u64, shards.len() as u64)).unwrap_or_default();
        loop {
            let number = self.names.number(shard, Of::Queue, name);
            let [field, entry] = names::entry(Of::Queue, number, name);
            let expect = expect.map(|version| version.to_string()).unwrap_or_default();
            let mut args = self.times();
            args.extend([field.into(), entry.into(), expect.into(), new.clone()]);
            for (key, weight) in configured.iter().flat_map(|configured| configured.config.key_weights()) {
                args.extend([fair_bytes(key), weight.to_string().into()]);
            }
            match self.eval(shard, &CONFIGURE, &args).await? {
                Value::Int(1) => return Ok(true),
                Value::Int(_) => self.names.is_taken(shard, Of::Queue, number),
                _ => return Ok(false),
            }
        }
    }

    /// What a shard holds a queue to.
    pub(super) async fn bounds(&self, shard: Shard, queue: u32) -> Result<Bounds, StoreError> {
        let mut pipe = Pipeline::new();
        pipe.cmd("HGET").arg(self.layout.key(shard, "qc")).arg(hex(queue));
        let configured = value::maybe(&self.run(shard, pipe).await?[0])?.and_then(|bytes| read(&bytes));
        Ok(configured.map(|configured| configured.config.bounds).unwrap_or_default())
    }
}

fn write(configured: &Configured, place: u64, shards: u64) -> Bytes {
    let bounds = configured.config.bounds.part(place, shards);
    let parts = |rate: Option<Rate>| rate.map_or((0, 0, 0), |rate| (rate.max, rate.per_ms as u64, rate.burst));
    let (rate, key_rate) = (parts(bounds.rate), parts(bounds.per_key.rate));
    let mut out = BytesMut::with_capacity(FIXED + 64);
    out.put_uint_le(configured.version.min(MOST), 6);
    out.put_u32_le(bounds.max_running);
    out.put_u32_le(rate.0);
    out.put_uint_le(rate.1.min(MOST), 6);
    out.put_u32_le(rate.2);
    out.put_uint_le(bounds.max_depth.min(MOST), 6);
    out.put_uint_le((bounds.most_kept(State::Succeeded) as u64).min(MOST), 6);
    out.put_uint_le((bounds.most_kept(State::Dead) as u64).min(MOST), 6);
    out.put_u32_le(bounds.per_key.max_running);
    out.put_u32_le(key_rate.0);
    out.put_uint_le(key_rate.1.min(MOST), 6);
    out.put_u32_le(key_rate.2);
    debug_assert_eq!(out.len(), FIXED, "what the scripts read");
    let whole = postcard::to_stdvec(configured).expect("plain data always encodes");
    out.extend_from_slice(&whole);
    out.freeze()
}

/// The whole; `None` = it does not decode.
pub(super) fn read(bytes: &[u8]) -> Option<Configured> {
    postcard::from_bytes(bytes.get(FIXED..)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_reads_back_whole_from_any_part() {
        let rate = Some(Rate { max: 10, per_ms: 1_000, burst: 4 });
        let bounds = Bounds { max_running: 5, rate, max_depth: 100, max_finished: -1, ..Bounds::default() };
        let configured = Configured { version: 7, config: Box::new(QueueConfig { bounds, ..QueueConfig::default() }) };
        for place in 0..3 {
            let bytes = write(&configured, place, 3);
            assert_eq!(read(&bytes), Some(configured.clone()));
            assert_eq!(bytes[6], if place < 2 { 2 } else { 1 });
        }
        assert_eq!(read(&[0; 12]), None);
    }
}
