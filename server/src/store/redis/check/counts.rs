//! Counters of READY and RUNNING jobs. They and the records are read at different times, so they are compared only when
//! nothing entered or left in between: every job that becomes READY makes a list longer or takes a place, every claim moves
//! a list's head or lowers a counter, as whatever else leaves does.
use hashbrown::{HashMap, HashSet};
use redis::Pipeline;

use super::{LOOKS, Look, PAGE};
use crate::{
    model::{ids::JobId, op::FairKey, state::State},
    store::{
        StoreError,
        redis::{
            docs::pairs,
            layout::{hex, line},
            record, value,
        },
    },
};

/// What moves with every change of the READY and RUNNING jobs of a queue: counters, then head and length of each list, then
/// the next places at both ends, where jobs are kept apart by fairness key.
pub(super) type Still = HashMap<u32, Vec<i64>>;

/// Jobs found: READY, RUNNING.
type Counted = HashMap<u32, [i64; 2]>;

impl Look<'_> {
    pub(super) async fn still(&self) -> Result<Still, StoreError> {
        let queues: Vec<u32> = self.queues.iter().copied().collect();
        let mut pipe = Pipeline::new();
        pipe.cmd("HGETALL").arg(self.key("n"));
        pipe.cmd("HGETALL").arg(self.key("hd"));
        pipe.cmd("HGETALL").arg(self.key("ko"));
        for queue in &queues {
            (0..9).for_each(|level| _ = pipe.cmd("LLEN").arg(self.key(&line(*queue, level))));
        }
        let answers = self.core.run(self.shard, pipe).await?;
        let fields = |index: usize| {
            let pairs = pairs(&answers[index])?;
            pairs.into_iter().map(|(key, n)| Ok((value::text(key)?, value::int(n)?))).collect::<Result<_, StoreError>>()
        };
        let [counts, heads, places]: [HashMap<String, i64>; 3] = [fields(0)?, fields(1)?, fields(2)?];
        let number = |from: &HashMap<String, i64>, queue: u32, which: &dyn std::fmt::Display| {
            from.get(&format!("{}{which}", hex(queue))).copied().unwrap_or(0)
        };
        let mut still = Still::new();
        for (queue, lengths) in queues.iter().zip(answers[3..].chunks_exact(9)) {
            let mut all: Vec<i64> = [State::Ready, State::Running].map(|s| number(&counts, *queue, &(s as u8))).into();
            all.extend((0..9).map(|level| number(&heads, *queue, &level)));
            all.extend(['e', 'f'].map(|end| number(&places, *queue, &end)));
            for length in lengths {
                all.push(value::int(length)?);
            }
            still.insert(*queue, all);
        }
        Ok(still)
    }

    /// Compares the counters with the walk over the records that was made between these two.
    pub(super) async fn counters(&mut self, before: &Still, after: &Still) -> Result<(), StoreError> {
        let mut counted = Counted::new();
        for ready in self.ready.values() {
            counted.entry(ready.queue).or_default()[0] += 1;
        }
        for (queue, _) in self.running.values() {
            counted.entry(*queue).or_default()[1] += 1;
        }
        self.running = HashMap::new();
        let mut moved = self.compare(before, after, &counted).await?;
        for _ in 1..LOOKS {
            if moved.is_empty() {
                return Ok(());
            }
            let before = self.still().await?;
            let mut counted = Counted::new();
            for ((queue, _), [ready, running]) in self.recounted().await? {
                let sum = counted.entry(queue).or_default();
                *sum = [sum[0] + ready, sum[1] + running];
            }
            let after = self.still().await?;
            let again = self.compare(&before, &after, &counted).await?;
            moved.retain(|queue| again.contains(queue));
        }
        for queue in moved {
            let queue = self.queue(queue);
            self.checked.skipped.push(format!(
                "the counters of queue {queue} in shard {} were never still: check again when there is less to do",
                self.shard.0
            ));
        }
        Ok(())
    }

    /// Those queues that moved, and whose counters do not agree for that reason or another.
    async fn compare(&mut self, before: &Still, after: &Still, counted: &Counted) -> Result<HashSet<u32>, StoreError> {
        let mut moved = HashSet::new();
        let mut wrong = Vec::new();
        for (queue, still) in after {
            let found = counted.get(queue).copied().unwrap_or_default();
            if found == still[..2] {
                continue;
            }
            if before.get(queue) == Some(still) {
                wrong.push((*queue, found, [still[0], still[1]]));
            } else {
                moved.insert(*queue);
            }
        }
        wrong.sort_unstable();
        for (queue, found, counter) in wrong {
            for (n, state) in [State::Ready, State::Running].into_iter().enumerate() {
                if found[n] != counter[n] {
                    self.counter(queue, state, found[n], counter[n]).await?;
                }
            }
        }
        Ok(moved)
    }

    async fn counter(&mut self, queue: u32, state: State, found: i64, counter: i64) -> Result<(), StoreError> {
        let name = self.queue(queue);
        let what = format!(
            "{found} jobs of queue {name} are {} in shard {}, and the counter says {counter}",
            state.name(),
            self.shard.0
        );
        if !self.mends() {
            self.found(what, None);
            return Ok(());
        }
        // The difference stays right while servers count on.
        let mut pipe = Pipeline::new();
        let field = format!("{}{}", hex(queue), state as u8);
        pipe.cmd("HINCRBY").arg(self.key("n")).arg(field).arg(found - counter);
        self.core.run(self.shard, pipe).await?;
        self.found(what, Some(Ok(format!("the counter was changed by {:+}", found - counter))));
        Ok(())
    }

    /// Another walk over the records, for nothing but their numbers.
    pub(super) async fn recounted(&self) -> Result<HashMap<(u32, FairKey), [i64; 2]>, StoreError> {
        let mut counted: HashMap<(u32, FairKey), [i64; 2]> = HashMap::new();
        let mut met: HashSet<JobId> = HashSet::new();
        let mut cursor = "0".to_owned();
        loop {
            let mut pipe = Pipeline::new();
            pipe.cmd("HSCAN").arg(self.key("m")).arg(&cursor).arg("COUNT").arg(PAGE * 4);
            let (next, found) = super::scanned(&self.core.run(self.shard, pipe).await?[0])?;
            for pair in found.chunks_exact(2) {
                let id = value::id(&pair[0])?;
                let Ok(slot) = record::decode(id, &value::bytes(&pair[1])?) else { continue };
                let place = match slot.state {
                    State::Ready => 0,
                    State::Running => 1,
                    _ => continue,
                };
                if met.insert(id) {
                    counted.entry((slot.queue, slot.fair)).or_default()[place] += 1;
                }
            }
            cursor = next;
            if cursor == "0" {
                return Ok(counted);
            }
        }
    }
}
