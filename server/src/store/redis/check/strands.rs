//! Strands: what each fairness key of a queue is said to have, compared while nothing moves, and where it waits.
use hashbrown::{HashMap, HashSet};
use redis::Pipeline;

use super::{LOOKS, Look, counts::Still};
use crate::{
    model::op::FairKey,
    store::{
        StoreError,
        redis::{
            layout::{fair_bytes, hex},
            scripts::SETTLE,
            strands::{Strand, called},
            value,
        },
    },
};

/// READY and RUNNING jobs by queue and fairness key.
type ByKey = HashMap<(u32, FairKey), [i64; 2]>;

impl Look<'_> {
    /// The fairness keys that a queue has jobs of.
    pub(super) async fn keys(&self, queue: u32) -> Result<Vec<FairKey>, StoreError> {
        let strands = self.core.strands(self.shard, queue).await?.unwrap_or_default();
        Ok(strands.into_keys().filter(|fair| *fair != 0).collect())
    }

    /// Compares with the walk over the records that has just been made, and began after `before`; where something moved
    /// meanwhile, with another one.
    pub(super) async fn strands(&mut self, before: &Still) -> Result<(), StoreError> {
        let mut found = ByKey::new();
        for ready in self.ready.values() {
            found.entry((ready.queue, ready.fair)).or_default()[0] += 1;
        }
        for key in self.running.values() {
            found.entry(*key).or_default()[1] += 1;
        }
        let mut before = before.clone();
        let mut open: HashSet<u32> = self.queues.clone();
        for look in 0..LOOKS {
            let mut moved = HashSet::new();
            for queue in open {
                let Some(strands) = self.core.strands(self.shard, queue).await? else { continue };
                let after = self.still().await?;
                match before.get(&queue) == after.get(&queue) {
                    true => self.compare_strands(queue, &found, strands).await?,
                    false => _ = moved.insert(queue),
                }
            }
            open = moved;
            if open.is_empty() || look + 1 == LOOKS {
                break;
            }
            before = self.still().await?;
            found = self.recounted().await?;
        }
        for queue in open {
            let queue = self.queue(queue);
            self.checked.skipped.push(format!(
                "the fairness keys of queue {queue} in shard {} were never still: check again when there is less to do",
                self.shard.0
            ));
        }
        Ok(())
    }

    async fn compare_strands(
        &mut self,
        queue: u32,
        found: &ByKey,
        strands: HashMap<FairKey, Strand>,
    ) -> Result<(), StoreError> {
        let places = self.core.places(self.shard, queue).await?;
        let known = found.keys().filter(|(of, _)| *of == queue).map(|(_, fair)| *fair);
        let mut fairs: Vec<FairKey> = strands.keys().copied().chain(known).collect();
        fairs.sort_unstable();
        fairs.dedup();
        for fair in fairs {
            let counts = found.get(&(queue, fair)).copied().unwrap_or_default();
            let kept = strands.get(&fair).copied();
            let says = kept.map_or([0; 2], |strand| [strand.ready, strand.running]);
            if counts != says {
                let what = format!(
                    "{} jobs are READY and {} RUNNING with {} in queue {} in shard {}, and {} and {} are counted",
                    counts[0],
                    counts[1],
                    called(fair),
                    self.queue(queue),
                    self.shard.0,
                    says[0],
                    says[1]
                );
                self.settle(queue, fair, [counts[0] - says[0], counts[1] - says[1]], what).await?;
            } else if kept.is_some_and(|strand| !strand.is_placed(fair, &places))
                && self.is_misplaced(queue, fair).await?
            {
                let queue_name = self.queue(queue);
                let what = format!("{} of queue {queue_name} in shard {} is out of turn", called(fair), self.shard.0);
                self.settle(queue, fair, [0; 2], what).await?;
            }
        }
        Ok(())
    }

    /// A suspicion: the strand is not where it says it waits.
    async fn is_misplaced(&self, queue: u32, fair: FairKey) -> Result<bool, StoreError> {
        for _ in 0..LOOKS {
            let of = async || {
                let mut pipe = Pipeline::new();
                pipe.cmd("HGET").arg(self.key(&format!("k:{}", hex(queue)))).arg(fair_bytes(fair).as_ref());
                value::maybe(&self.core.run(self.shard, pipe).await?[0])
            };
            let before = of().await?;
            let places = self.core.places(self.shard, queue).await?;
            if before == of().await? {
                let strand = before.and_then(|bytes| Strand::read(&bytes));
                return Ok(strand.is_some_and(|strand| !strand.is_placed(fair, &places)));
            }
        }
        Ok(false)
    }

    async fn settle(&mut self, queue: u32, fair: FairKey, by: [i64; 2], what: String) -> Result<(), StoreError> {
        if !self.mends() {
            self.found(what, None);
            return Ok(());
        }
        let mut args = self.core.times();
        args.extend([hex(queue).into(), fair_bytes(fair)]);
        args.extend(by.map(|by| by.to_string().into()));
        self.core.eval(self.shard, &SETTLE, &args).await?;
        self.found(what, Some(Ok("it was counted and put in its place".to_owned())));
        Ok(())
    }
}
