//! Reading jobs: by id, and page by page.
use bytes::Bytes;
use redis::{Pipeline, Value};

use super::{
    Core,
    claim::part,
    due::scored,
    layout::{by_time, hex},
    moves::deliveries,
    names::Of,
    record,
    scripts::{HINTS, LISTED},
    value,
};
use crate::{
    model::{
        ids::{JobId, Name, Shard},
        job::{Attempt, Body, Meta, Outcome, Parts, Record},
        limits::{ATTEMPTS_KEPT, STORE_BATCH},
        op::{ListQuery, Place},
        state::State,
    },
    store::{
        StoreError,
        slot::{Slot, flag},
    },
};

/// Priorities, and so READY lists of a queue.
pub(super) const LEVELS: usize = 9;

/// READY jobs of one priority.
#[derive(Debug)]
pub(super) struct ReadyPage {
    pub jobs: Vec<InLine>,
    /// Where it goes on; `None` = that was all.
    pub next: Option<i64>,
}

/// An entry of a READY list.
#[derive(Debug)]
pub(super) struct InLine {
    pub id: JobId,
    /// Of the hint; `None` = it is not by its hint that the job was found.
    serial: Option<u16>,
    pub order: i64,
}

impl InLine {
    pub fn stands_for(&self, slot: &Slot, queue: u32, level: usize) -> bool {
        stands(slot, queue, level, self.serial.unwrap_or_else(|| record::hint(slot)))
    }
}

/// Bodies and parts of so many jobs are read at a time.
const AT_ONCE: usize = 200;

impl Core {
    /// Records as they lie in Redis; `None` = there is none.
    pub(super) async fn raw(&self, shard: Shard, ids: &[JobId]) -> Result<Vec<Option<Bytes>>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let answers = self.run(shard, [self.fetch(shard, "m", ids)].into_iter().fold(Pipeline::new(), with)).await?;
        value::list(&answers[0])?.iter().map(value::maybe).collect()
    }

    /// Records of one shard. A damaged one is an error: nothing may be decided on it.
    pub(super) async fn slots(&self, shard: Shard, ids: &[JobId]) -> Result<Vec<Option<Slot>>, StoreError> {
        let mut slots = Vec::with_capacity(ids.len());
        for chunk in ids.chunks(STORE_BATCH) {
            for (id, record) in chunk.iter().zip(self.raw(shard, chunk).await?) {
                slots.push(record.map(|record| record::decode(*id, &record)).transpose().map_err(value::damaged)?);
            }
        }
        Ok(slots)
    }

    /// The name of a number, from Redis if this server has not met it yet.
    pub(super) async fn name_of(&self, shard: Shard, of: Of, number: u32) -> Result<Name, StoreError> {
        if let Some(name) = self.names.name(shard, of, number) {
            return Ok(name);
        }
        self.learn_names(shard).await?;
        let lost = || format!("lost-{number:08x}").parse().expect("a valid name");
        Ok(self.names.name(shard, of, number).unwrap_or_else(lost))
    }

    /// Reads all names of a shard; those of queues.
    pub(super) async fn learn_names(&self, shard: Shard) -> Result<Vec<Name>, StoreError> {
        let mut pipe = Pipeline::new();
        pipe.cmd("HGETALL").arg(self.layout.key(shard, "nm"));
        let answers = self.run(shard, pipe).await?;
        let mut queues = Vec::new();
        for (number, name) in super::docs::pairs(&answers[0])? {
            queues.extend(self.names.learn(shard, &value::text(number)?, &value::text(name)?));
        }
        Ok(queues)
    }

    pub(super) async fn meta_of(&self, shard: Shard, slot: &Slot) -> Result<Meta, StoreError> {
        let queue = self.name_of(shard, Of::Queue, slot.queue).await?;
        Ok(slot.meta(queue, self.name_of(shard, Of::Type, slot.kind).await?))
    }

    pub(super) async fn get(&self, ids: &[JobId], parts: Parts) -> Result<Vec<Option<Record>>, StoreError> {
        self.open()?;
        let mut found: Vec<Option<Record>> = ids.iter().map(|_| None).collect();
        let mut by_shard: hashbrown::HashMap<Shard, Vec<usize>> = hashbrown::HashMap::new();
        for (index, id) in ids.iter().enumerate().filter(|(_, id)| self.has(**id)) {
            by_shard.entry(id.shard()).or_default().push(index);
        }
        let reads = by_shard.into_iter().flat_map(|(shard, indexes)| {
            let chunks: Vec<Vec<usize>> = indexes.chunks(AT_ONCE).map(<[usize]>::to_vec).collect();
            chunks.into_iter().map(move |indexes| (shard, indexes))
        });
        let reads = reads.map(|(shard, indexes)| async move {
            let chunk: Vec<JobId> = indexes.iter().map(|index| ids[*index]).collect();
            let records = self.records(shard, &chunk, parts).await?;
            Ok::<_, StoreError>(indexes.into_iter().zip(records))
        });
        for read in futures::future::try_join_all(reads).await? {
            for (index, record) in read {
                found[index] = record;
            }
        }
        Ok(found)
    }

    async fn records(&self, shard: Shard, ids: &[JobId], parts: Parts) -> Result<Vec<Option<Record>>, StoreError> {
        let wanted: [(&str, bool); 5] = [
            ("m", true),
            ("j", parts.body),
            ("r", parts.outcome || parts.attempts),
            ("p", parts.progress),
            ("k", parts.checkpoint),
        ];
        let pipe = wanted.iter().filter(|(_, on)| *on).map(|(key, _)| self.fetch(shard, key, ids));
        let answers = self.run(shard, pipe.fold(Pipeline::new(), with)).await?;
        let mut answers = answers.iter();
        let mut columns: Vec<Option<&[Value]>> = Vec::with_capacity(5);
        for (_, on) in wanted {
            columns.push(if on { answers.next().map(value::list).transpose()? } else { None });
        }
        let cell = |column: usize, row: usize| match columns[column].and_then(|cells| cells.get(row)) {
            Some(value) => value::maybe(value),
            None => Ok(None),
        };
        let mut records = Vec::with_capacity(ids.len());
        for (row, id) in ids.iter().enumerate() {
            let Some(bytes) = cell(0, row)? else {
                records.push(None);
                continue;
            };
            let slot = record::decode(*id, &bytes).map_err(value::damaged)?;
            let outcome: Option<Outcome> = part(cell(2, row)?);
            let attempts = match parts.attempts {
                true => self.history(shard, &slot, outcome.as_ref().and_then(|outcome| outcome.last.clone())).await?,
                false => Vec::new(),
            };
            records.push(Some(Record {
                body: cell(1, row)?.and_then(|body| Body::decode(&body).ok()),
                outcome: outcome.filter(|_| parts.outcome),
                attempts,
                progress: part(cell(3, row)?),
                checkpoint: part(cell(4, row)?),
                meta: self.meta_of(shard, &slot).await?,
            }));
        }
        Ok(records)
    }

    /// Ended leases, newest first: those in the history, and the last one, which an ended job keeps with its outcome.
    async fn history(&self, shard: Shard, slot: &Slot, last: Option<Attempt>) -> Result<Vec<Attempt>, StoreError> {
        let mut attempts: Vec<Attempt> = Vec::new();
        if slot.has(flag::ATTEMPTS) && slot.delivery > 0 {
            let mut pipe = Pipeline::new();
            let command = pipe.cmd("HMGET").arg(self.layout.key(shard, "a"));
            for delivery in deliveries(slot.delivery).rev() {
                command.arg([slot.id.as_bytes().as_slice(), &delivery.to_be_bytes()].concat());
            }
            let answers = self.run(shard, pipe).await?;
            for attempt in value::list(&answers[0])? {
                attempts.extend(part::<Attempt>(value::maybe(attempt)?));
            }
        }
        if let Some(last) = last {
            let place = attempts.iter().take_while(|attempt| attempt.delivery > last.delivery).count();
            if attempts.get(place).is_none_or(|attempt| attempt.delivery != last.delivery) {
                attempts.insert(place, last);
            }
        }
        attempts.truncate(ATTEMPTS_KEPT as usize);
        Ok(attempts)
    }

    /// Shard after shard: the order of a list holds within each.
    pub(super) async fn list(&self, query: ListQuery) -> Result<Vec<Meta>, StoreError> {
        let mut metas = Vec::new();
        let from = query.after.map(|place| place.id.shard());
        for shard in
            self.placing.shards_of(&query.queue).into_iter().filter(|shard| from.is_none_or(|from| *shard >= from))
        {
            let after = query.after.filter(|_| from == Some(shard));
            let number = self.names.number(shard, Of::Queue, &query.queue);
            let room = query.limit.saturating_sub(metas.len());
            if room == 0 {
                break;
            }
            let found = match query.state {
                State::Ready => self.ready(shard, number, after, room).await?,
                State::Running => self.running(shard, number, after, room).await?,
                state => self.timed(shard, number, state, after, room).await?,
            };
            for (slot, order) in found {
                metas.push(Meta { order, ..self.meta_of(shard, &slot).await? });
            }
        }
        Ok(metas)
    }

    /// The places of READY jobs count from the first that ever was, so that a page goes on where it was while others are
    /// claimed.
    async fn ready(
        &self,
        shard: Shard,
        queue: u32,
        after: Option<Place>,
        limit: usize,
    ) -> Result<Vec<(Slot, i64)>, StoreError> {
        let mut found = Vec::new();
        for priority in (-4..=after.map_or(4, |place| place.priority)).rev() {
            let level = (4 - priority) as usize;
            let mut next = after.filter(|place| place.priority == priority).map(|place| place.order + 1);
            while found.len() < limit {
                let page = self.listed(shard, queue, level, next).await?;
                let ids: Vec<JobId> = page.jobs.iter().map(|hint| hint.id).collect();
                for (hint, slot) in page.jobs.iter().zip(self.slots(shard, &ids).await?) {
                    if let Some(slot) = slot.filter(|slot| hint.stands_for(slot, queue, level))
                        && found.len() < limit
                    {
                        found.push((slot, hint.order));
                    }
                }
                if page.next.is_none() {
                    break;
                }
                next = page.next;
            }
        }
        Ok(found)
    }

    /// READY jobs of one priority by arrival, over all fairness keys, from a place on.
    pub(super) async fn listed(
        &self,
        shard: Shard,
        queue: u32,
        level: usize,
        from: Option<i64>,
    ) -> Result<ReadyPage, StoreError> {
        let mut args = self.times();
        args.push(hex(queue).into());
        args.push(level.to_string().into());
        args.push(from.map(|from| from.to_string()).unwrap_or_default().into());
        args.push(STORE_BATCH.to_string().into());
        let parts = self.eval_parts(shard, &LISTED, &args).await?;
        let [next, found] = &parts[..] else { return Err(value::unexpected(&Value::Array(parts))) };
        let next = value::maybe(next)?.filter(|next| !next.is_empty());
        let next = next.and_then(|next| std::str::from_utf8(&next).ok()?.parse().ok());
        let mut jobs = Vec::new();
        for pair in value::list(found)?.chunks_exact(2) {
            let bytes = value::bytes(&pair[1])?;
            let serial = bytes.get(16..18).map(|serial| u16::from_le_bytes([serial[0], serial[1]]));
            jobs.push(InLine { id: value::id(&pair[1])?, serial, order: value::int(&pair[0])? });
        }
        Ok(ReadyPage { jobs, next })
    }

    /// Hints of jobs without a fairness key from a place on, and the place of the first.
    pub(super) async fn hints(
        &self,
        shard: Shard,
        queue: u32,
        level: usize,
        from: Option<i64>,
    ) -> Result<(i64, Vec<(JobId, u16)>), StoreError> {
        let mut args = self.times();
        args.push(hex(queue).into());
        args.push(level.to_string().into());
        args.push(from.map(|from| from.to_string()).unwrap_or_default().into());
        args.push(STORE_BATCH.to_string().into());
        let parts = self.eval_parts(shard, &HINTS, &args).await?;
        let [first, found] = &parts[..] else { return Err(value::unexpected(&Value::Array(parts))) };
        let hints = value::list(found)?.iter().map(record::read_hint).collect::<Result<_, _>>()?;
        Ok((value::int(first)?, hints))
    }

    /// By start. All RUNNING jobs of the shard are looked at: they are as many as there are slots of workers.
    async fn running(
        &self,
        shard: Shard,
        queue: u32,
        after: Option<Place>,
        limit: usize,
    ) -> Result<Vec<(Slot, i64)>, StoreError> {
        let mut pipe = Pipeline::new();
        pipe.cmd("ZRANGE").arg(self.layout.key(shard, "l")).arg(0).arg(-1);
        let ids = value::ids(&self.run(shard, pipe).await?[0])?;
        let slots = self.slots(shard, &ids).await?.into_iter().flatten();
        let mut found: Vec<(Slot, i64)> = slots
            .filter(|slot| slot.state == State::Running && slot.queue == queue)
            .map(|slot| {
                let order = slot.start.get();
                (slot, order)
            })
            .filter(|(slot, order)| after.is_none_or(|place| (*order, slot.id) > (place.order, place.id)))
            .collect();
        found.sort_unstable_by_key(|(slot, order)| (*order, slot.id));
        found.truncate(limit);
        Ok(found)
    }

    /// Lists by time: ended jobs newest first, waiting ones soonest first.
    async fn timed(
        &self,
        shard: Shard,
        queue: u32,
        state: State,
        after: Option<Place>,
        limit: usize,
    ) -> Result<Vec<(Slot, i64)>, StoreError> {
        let newest_first = state.is_terminal();
        let key = self.layout.key(shard, by_time(queue, state));
        let mut from = after.map(|place| (place.order, place.id));
        let mut found = Vec::new();
        loop {
            let mut pipe = Pipeline::new();
            let edge = from.map(|(score, _)| score.to_string());
            let ends = match newest_first {
                true => [edge.unwrap_or_else(|| "+inf".to_owned()), "-inf".to_owned()],
                false => [edge.unwrap_or_else(|| "-inf".to_owned()), "+inf".to_owned()],
            };
            let command = pipe.cmd("ZRANGE").arg(&key).arg(&ends).arg("BYSCORE");
            if newest_first {
                command.arg("REV");
            }
            command.arg("LIMIT").arg(0).arg(STORE_BATCH).arg("WITHSCORES");
            let page = scored(&self.run(shard, pipe).await?[0])?;
            let full = page.len() == STORE_BATCH;
            let past = |(score, id): &(i64, JobId)| match from {
                None => true,
                Some(edge) if newest_first => (*score, *id) < edge,
                Some(edge) => (*score, *id) > edge,
            };
            let page: Vec<(i64, JobId)> = page.into_iter().filter(past).collect();
            let ids: Vec<JobId> = page.iter().map(|(_, id)| *id).collect();
            for ((score, _), slot) in page.iter().zip(self.slots(shard, &ids).await?) {
                if let Some(slot) = slot.filter(|slot| slot.state == state && slot.queue == queue)
                    && found.len() < limit
                {
                    found.push((slot, *score));
                }
            }
            match page.last() {
                Some(last) if full && found.len() < limit => from = Some(*last),
                _ => return Ok(found),
            }
        }
    }

    fn fetch(&self, shard: Shard, key: &str, ids: &[JobId]) -> redis::Cmd {
        let mut command = redis::cmd("HMGET");
        command.arg(self.layout.key(shard, key));
        ids.iter().for_each(|id| _ = command.arg(id.as_bytes()));
        command
    }
}

/// Whether this hint of this list stands for the job.
pub(super) fn stands(slot: &Slot, queue: u32, level: usize, serial: u16) -> bool {
    slot.state == State::Ready && slot.queue == queue && slot.level() == level && record::hint(slot) == serial
}

fn with(mut pipe: Pipeline, command: redis::Cmd) -> Pipeline {
    pipe.add_command(command);
    pipe
}
