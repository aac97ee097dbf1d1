//! READY lists: exactly one hint stands for every READY job that can be claimed.
use redis::Pipeline;

use super::{Look, Ready, mend::changed};
use crate::{
    model::{ids::JobId, limits::STORE_BATCH, op::FairKey},
    store::{
        StoreError,
        redis::{
            apply::Stepped,
            layout::strand_line,
            moves::{Condition, Step},
            reads::LEVELS,
            record, value,
        },
        rules::{Change, Line},
    },
};

impl Look<'_> {
    /// Walks over all READY lists, and then again over those where a job has no hint, or two. A list is walked by places
    /// that stay while others are claimed, so a hint that was there all the time is met exactly once.
    pub(super) async fn hints(&mut self) -> Result<(), StoreError> {
        let mut lists: Vec<(u32, u8)> =
            self.queues.iter().flat_map(|queue| (0..9).map(|level| (*queue, level))).collect();
        lists.sort_unstable();
        for (queue, level) in lists {
            self.walk(queue, level).await?;
        }
        let divided: Vec<u32> = self.queues.iter().copied().collect();
        for queue in divided {
            for fair in self.keys(queue).await? {
                for level in 0..LEVELS {
                    self.walk_strand(queue, level, fair).await?;
                }
            }
        }
        let suspects: Vec<(JobId, Ready)> =
            self.ready.iter().filter(|(_, ready)| ready.hints != 1).map(|(id, ready)| (*id, *ready)).collect();
        self.ready = hashbrown::HashMap::new();
        for (id, ready) in suspects {
            self.suspect(id, ready).await?;
        }
        Ok(())
    }

    async fn walk(&mut self, queue: u32, level: u8) -> Result<(), StoreError> {
        let mut from = None;
        loop {
            let (first, hints) = self.core.hints(self.shard, queue, usize::from(level), from).await?;
            for (id, serial) in &hints {
                self.met_hint(*id, (queue, level, 0, *serial));
            }
            if hints.len() < STORE_BATCH {
                return Ok(());
            }
            from = Some(first + hints.len() as i64);
        }
    }

    /// Lists of fairness keys have no lasting places: what is claimed meanwhile shifts them. A job that is not met, or twice,
    /// is looked for by itself.
    async fn walk_strand(&mut self, queue: u32, level: usize, fair: FairKey) -> Result<(), StoreError> {
        let key = [self.key("").as_bytes(), &strand_line(queue, level, fair)].concat();
        let mut from = 0;
        loop {
            let mut pipe = Pipeline::new();
            pipe.cmd("LRANGE").arg(&key).arg(from).arg(from + STORE_BATCH - 1);
            let answers = self.core.run(self.shard, pipe).await?;
            let hints = value::list(&answers[0])?;
            for hint in hints {
                let (id, serial) = record::read_hint(hint)?;
                self.met_hint(id, (queue, level as u8, fair, serial));
            }
            if hints.len() < STORE_BATCH {
                return Ok(());
            }
            from += hints.len();
        }
    }

    fn met_hint(&mut self, id: JobId, of: (u32, u8, FairKey, u16)) {
        if let Some(ready) = self.ready.get_mut(&id)
            && (ready.queue, ready.level, ready.fair, ready.serial) == of
        {
            ready.hints = ready.hints.saturating_add(1);
        }
    }

    /// The record said the same before and after the walk, so its hint would have been met.
    async fn suspect(&mut self, id: JobId, mut met: Ready) -> Result<(), StoreError> {
        let Some(old) = self.core.raw(self.shard, &[id]).await?.pop().flatten() else { return Ok(()) };
        let before = record::decode(id, &old).map_err(value::damaged)?;
        let same = Ready::of(&before).is_some_and(|ready| ready == Ready { hints: 0, ..met });
        let now = self.core.clock.now();
        // The sweeper has it: a claim that met the hint dropped it.
        if !same || met.hints == 0 && before.is_expired(now) {
            return Ok(());
        }
        let list = strand_line(met.queue, usize::from(met.level), met.fair);
        let hint = record::write_hint(&before);
        if met.fair != 0 {
            met.hints = self.core.times_in_line(self.shard, &list, &hint).await?.try_into().unwrap_or(u8::MAX);
            if met.hints == 1 || self.core.raw(self.shard, &[id]).await?.pop().flatten() != Some(old.clone()) {
                return Ok(());
            }
        }
        let queue = self.queue(met.queue);
        let what = match met.hints {
            0 => format!("{id} is READY and not in line in queue {queue}: nobody would be handed it"),
            n => format!("{id} stands in line in queue {queue} {n} times"),
        };
        if !self.mends() {
            self.found(what, None);
            return Ok(());
        }
        if met.hints > 1 {
            // All but the first in line.
            let spare = (1 - i64::from(met.hints)).to_string();
            let commands = [vec![b"LREM".to_vec(), list.to_vec(), spare.into_bytes(), hint]];
            let mended = self.mend(id, &old, &commands, "all but the first were removed".to_owned()).await?;
            self.found(what, Some(mended));
            return Ok(());
        }
        let mut slot = record::decode(id, &old).map_err(value::damaged)?;
        let step = Step::new(now, (&before, old), &mut slot, Condition::None, Change::at(Line::End));
        let mended = match self.core.moves(self.shard).ask(vec![step]).await?.pop() {
            Some(Stepped::Done) => Ok("it was put at the end of the line".to_owned()),
            _ => Err(changed()),
        };
        self.found(what, Some(mended));
        Ok(())
    }
}
