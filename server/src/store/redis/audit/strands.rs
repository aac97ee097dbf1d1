//! Strands held against the records: what they say they have, where they wait, and the hints and places of their jobs.
use hashbrown::HashMap;
use redis::Pipeline;

use crate::{
    model::{
        ids::{JobId, QueueName, Shard},
        op::FairKey,
        state::State,
    },
    store::{
        StoreError,
        redis::{
            Core,
            layout::{listed, strand_line},
            reads::{LEVELS, stands},
            record,
            strands::{Seat, Strand, called},
            value,
        },
        slot::Slot,
    },
};

impl Core {
    /// The jobs of one queue; those in line with a key of their own are added to `hinted`.
    pub(super) async fn check_strands(
        &self,
        shard: Shard,
        queue: &QueueName,
        number: u32,
        jobs: &HashMap<JobId, Slot>,
        hinted: &mut HashMap<JobId, usize>,
    ) -> Result<Vec<String>, StoreError> {
        let now = self.clock.now();
        let mine = || jobs.iter().filter(|(_, slot)| slot.queue == number);
        let mut wrong = Vec::new();
        let Some(strands) = self.strands(shard, number).await? else {
            let keyed = mine().find(|(_, slot)| slot.fair != 0);
            wrong.extend(keyed.map(|(id, _)| format!("{id} has a fairness key, and {queue} does not keep jobs apart")));
            return Ok(wrong);
        };
        let mut found: HashMap<FairKey, [i64; 2]> = strands.keys().map(|fair| (*fair, [0; 2])).collect();
        for (_, slot) in mine() {
            match slot.state {
                State::Ready => found.entry(slot.fair).or_default()[0] += 1,
                State::Running => found.entry(slot.fair).or_default()[1] += 1,
                _ => {}
            }
        }
        let places = self.places(shard, number).await?;
        for (fair, counts) in found {
            let nothing = Strand { seat: Seat::Away, ready: 0, running: 0 };
            let strand = strands.get(&fair).copied().unwrap_or(nothing);
            if [strand.ready, strand.running] != counts {
                wrong.push(format!("{} of {queue}: {counts:?} found, {strand:?} is kept", called(fair)));
            }
            let waits = || mine().any(|(_, s)| s.fair == fair && s.state == State::Ready && !s.is_expired(now));
            if !strand.is_placed(fair, &places) || strand.seat == Seat::Away && waits() {
                wrong.push(format!("{} of {queue} is not where it should be: {strand:?}", called(fair)));
            }
        }
        for level in 0..LEVELS {
            let mut pipe = Pipeline::new();
            pipe.cmd("ZRANGE").arg(self.layout.key(shard, listed(number, level))).arg(0).arg(-1);
            let places = value::ids(&self.run(shard, pipe).await?[0])?;
            let stands_there =
                |slot: &Slot| slot.state == State::Ready && slot.queue == number && slot.level() == level;
            for id in &places {
                if !jobs.get(id).is_some_and(stands_there) {
                    wrong.push(format!("{id} has a place in {queue} that it does not belong to"));
                }
            }
            for (id, slot) in mine() {
                if slot.fair != 0 && stands_there(slot) && !places.contains(id) {
                    wrong.push(format!("{id} has no place in {queue}"));
                }
            }
            for fair in strands.keys().copied().filter(|fair| *fair != 0) {
                let mut pipe = Pipeline::new();
                let key = [self.layout.key(shard, "").as_bytes(), &strand_line(number, level, fair)].concat();
                pipe.cmd("LRANGE").arg(key).arg(0).arg(-1);
                for hint in value::list(&self.run(shard, pipe).await?[0])? {
                    let (id, serial) = record::read_hint(hint)?;
                    if jobs.get(&id).is_some_and(|slot| slot.fair == fair && stands(slot, number, level, serial)) {
                        *hinted.entry(id).or_default() += 1;
                    }
                }
            }
        }
        Ok(wrong)
    }
}
