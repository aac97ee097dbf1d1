//! Everything out of the store, shard by shard and list by list, while nobody else uses it.
use bytes::Bytes;
use redis::{Pipeline, Value};
use serde::{Deserialize, Serialize};

use super::{
    Core,
    docs::pairs,
    due::scored,
    layout::{TIES, by_time},
    moves::deliveries,
    names::Of,
    reads::LEVELS,
    record, value,
};
use crate::{
    model::{
        ids::{JobId, Shard},
        limits::STORE_BATCH,
        op::KeyHash,
        state::State,
    },
    store::{
        Exported, Mark, StoreError, Whole, WholeJob, WholeKey, WholeQueue,
        slot::{Slot, flag},
        whole::{PAGE_BYTES, Run},
    },
};

/// Jobs whose parts are read together.
const AT_ONCE: usize = 100;

/// Where an export goes on.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Place {
    /// READY jobs that have expired by now are looked for apart: a claim may have dropped their hints.
    now_ms: i64,
    shard: u16,
    part: Part,
}

/// Parts of a shard, in their order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Part {
    /// From this cursor on.
    Keys(String),
    /// After so many by start.
    Running(usize),
    /// Lists of queues: the n-th queue, its n-th list, the place in it.
    Lists { queue: usize, list: usize, at: Option<i64>, run: Run },
    /// READY jobs that have expired, from this cursor on.
    Expired(String),
}

impl Core {
    pub(super) async fn export(&self, from: Option<Mark>, limit: usize) -> Result<Exported, StoreError> {
        let Some(mark) = from else {
            let place = Place { now_ms: self.clock.now().wall_ms, shard: 0, part: Part::Keys("0".to_owned()) };
            return Ok(Exported { things: self.named().await?, next: Some(Mark::of(&place)) });
        };
        let foreign = || StoreError::Refused("the mark is of another store".to_owned());
        let mut place: Place = mark.read().ok_or_else(foreign)?;
        let (mut things, mut bytes) = (Vec::new(), 0);
        while things.len() < limit && bytes < PAGE_BYTES {
            if place.shard == self.layout.shards() {
                return Ok(Exported { things, next: None });
            }
            for thing in self.step(&mut place, (limit - things.len()).min(AT_ONCE)).await? {
                bytes += if let Whole::Job(job) = &thing { job.size() } else { 64 };
                things.push(thing);
            }
        }
        Ok(Exported { things, next: Some(Mark::of(&place)) })
    }

    /// Queues and documents.
    async fn named(&self) -> Result<Vec<Whole>, StoreError> {
        let mut things = Vec::new();
        self.load_placing().await?;
        for facts in self.queues(None).await? {
            let lists = self.placing.written(&facts.name).map(|lists| (self.layout.shards(), lists));
            let width = self.placing.width(&facts.name);
            things.push(Whole::Queue(WholeQueue {
                name: facts.name,
                pause: facts.pause,
                config: facts.config,
                width,
                lists,
            }));
        }
        for shard in self.layout.all() {
            let docs = self.docs(shard, "").await?.into_iter();
            things.extend(docs.map(|(key, doc)| Whole::Doc { shard, key, doc }));
            let mut pipe = Pipeline::new();
            pipe.cmd("GET").arg(self.layout.key(shard, "dv"));
            let floor = value::int(&self.run(shard, pipe).await?[0])?;
            things.extend((floor > 0).then_some(Whole::DocFloor(shard, floor as u64)));
        }
        Ok(things)
    }

    /// A few things, and the place behind them.
    async fn step(&self, place: &mut Place, most: usize) -> Result<Vec<Whole>, StoreError> {
        let shard = Shard(place.shard);
        match &mut place.part {
            Part::Keys(cursor) => {
                let (next, found) = self.page(shard, "u", cursor).await?;
                let mut keys = Vec::new();
                for pair in found.chunks_exact(2) {
                    keys.extend(self.timed_key(&pair[0], &pair[1])?.map(Whole::Key));
                }
                *cursor = next;
                if *cursor == "0" {
                    place.part = Part::Running(0);
                }
                Ok(keys)
            }
            Part::Running(done) => {
                let mut pipe = Pipeline::new();
                pipe.cmd("ZRANGE").arg(self.layout.key(shard, "l")).arg(0).arg(-1);
                let ids = value::ids(&self.run(shard, pipe).await?[0])?;
                let mut slots: Vec<Slot> = self.slots(shard, &ids).await?.into_iter().flatten().collect();
                slots.retain(|slot| slot.state == State::Running);
                slots.sort_unstable_by_key(|slot| (slot.start.get(), slot.id));
                let page: Vec<(Slot, (i64, u32))> =
                    slots.into_iter().skip(*done).take(most).map(|slot| (slot, (0, 0))).collect();
                *done += page.len();
                if page.len() < most {
                    place.part = Part::Lists { queue: 0, list: 0, at: None, run: Run::default() };
                }
                self.wholes(shard, page).await
            }
            Part::Lists { .. } => self.lists(place, shard, most).await,
            Part::Expired(cursor) => {
                let (next, found) = self.page(shard, "m", cursor).await?;
                *cursor = next;
                let mut page = Vec::new();
                for pair in found.chunks_exact(2) {
                    let id = value::id(&pair[0])?;
                    let slot = record::decode(id, &value::bytes(&pair[1])?).map_err(value::damaged)?;
                    if slot.state == State::Ready && gone(&slot, place.now_ms) {
                        page.push((slot, (0, 0)));
                    }
                }
                if *cursor == "0" {
                    *place = Place { now_ms: place.now_ms, shard: place.shard + 1, part: Part::Keys("0".to_owned()) };
                }
                self.wholes(shard, page).await
            }
        }
    }

    /// One page of one list.
    async fn lists(&self, place: &mut Place, shard: Shard, most: usize) -> Result<Vec<Whole>, StoreError> {
        let Part::Lists { queue, list, at, run } = &mut place.part else { return Ok(Vec::new()) };
        let mut numbers: Vec<u32> =
            self.learn_names(shard).await?.iter().map(|name| self.names.number(shard, Of::Queue, name)).collect();
        numbers.sort_unstable();
        let Some(number) = numbers.get(*queue).copied() else {
            place.part = Part::Expired("0".to_owned());
            return Ok(Vec::new());
        };
        let mut page = Vec::new();
        let more = match list.checked_sub(LEVELS).map(|n| State::ALL[n]) {
            None => {
                let mut found = self.listed(shard, number, *list, *at).await?;
                let rest = found.jobs.split_off(found.jobs.len().min(most));
                let ids: Vec<JobId> = found.jobs.iter().map(|hint| hint.id).collect();
                for (hint, slot) in found.jobs.iter().zip(self.slots(shard, &ids).await?) {
                    let slot = slot.filter(|slot| hint.stands_for(slot, number, *list) && !gone(slot, place.now_ms));
                    page.extend(slot.map(|slot| (slot, (0, 0))));
                }
                *at = rest.first().map(|hint| hint.order).or(found.next);
                at.is_some()
            }
            Some(State::Ready | State::Running) => false,
            Some(state) => {
                let from = at.unwrap_or(0);
                let mut pipe = Pipeline::new();
                let key = self.layout.key(shard, by_time(number, state));
                pipe.cmd("ZRANGE").arg(key).arg(from).arg(from + most as i64 - 1).arg("WITHSCORES");
                let found = scored(&self.run(shard, pipe).await?[0])?;
                let ids: Vec<JobId> = found.iter().map(|(_, id)| *id).collect();
                for ((score, _), slot) in found.iter().zip(self.slots(shard, &ids).await?) {
                    let place = run.next(score / TIES);
                    page.extend(
                        slot.filter(|slot| slot.state == state && slot.queue == number).map(|slot| (slot, place)),
                    );
                }
                *at = Some(from + found.len() as i64);
                found.len() == most
            }
        };
        if !more {
            *list += 1;
            (*at, *run) = (None, Run::default());
            if *list == LEVELS + State::ALL.len() {
                (*queue, *list) = (*queue + 1, 0);
            }
        }
        self.wholes(shard, page).await
    }

    /// Jobs with all their parts.
    async fn wholes(&self, shard: Shard, page: Vec<(Slot, (i64, u32))>) -> Result<Vec<Whole>, StoreError> {
        let mut things = Vec::with_capacity(page.len());
        for chunk in page.chunks(AT_ONCE) {
            let mut pipe = Pipeline::new();
            for key in ["j", "r", "p", "k"] {
                let command = pipe.cmd("HMGET").arg(self.layout.key(shard, key));
                chunk.iter().for_each(|(slot, _)| _ = command.arg(slot.id.as_bytes()));
            }
            let answers = self.run(shard, pipe).await?;
            for (row, (slot, place)) in chunk.iter().enumerate() {
                let cell = |column: usize| match value::list(&answers[column])?.get(row) {
                    Some(cell) => value::maybe(cell),
                    None => Ok(None),
                };
                let job = WholeJob {
                    queue: self.name_of(shard, Of::Queue, slot.queue).await?,
                    kind: self.name_of(shard, Of::Type, slot.kind).await?,
                    place: *place,
                    body: cell(0)?.unwrap_or_default(),
                    outcome: cell(1)?,
                    progress: cell(2)?,
                    checkpoint: cell(3)?,
                    attempts: self.attempts(shard, slot).await?,
                    log: self.read_log(slot.id, 0, 0, usize::MAX).await?,
                    slot: slot.clone(),
                };
                things.push(Whole::Job(Box::new(job)));
            }
        }
        Ok(things)
    }

    async fn attempts(&self, shard: Shard, slot: &Slot) -> Result<Vec<(u32, Bytes)>, StoreError> {
        if !slot.has(flag::ATTEMPTS) || slot.delivery == 0 {
            return Ok(Vec::new());
        }
        let mut pipe = Pipeline::new();
        let command = pipe.cmd("HMGET").arg(self.layout.key(shard, "a"));
        for delivery in deliveries(slot.delivery) {
            command.arg([slot.id.as_bytes().as_slice(), &delivery.to_be_bytes()].concat());
        }
        let answers = self.run(shard, pipe).await?;
        let mut attempts = Vec::new();
        for (delivery, attempt) in deliveries(slot.delivery).zip(value::list(&answers[0])?) {
            attempts.extend(value::maybe(attempt)?.map(|attempt| (delivery, attempt)));
        }
        Ok(attempts)
    }

    /// A key that is held for a time: its end stands behind the id.
    fn timed_key(&self, key: &Value, holder: &Value) -> Result<Option<WholeKey>, StoreError> {
        let (hash, holder) = (value::bytes(key)?, value::bytes(holder)?);
        let Ok(hash) = KeyHash::try_from(hash.as_ref()) else { return Ok(None) };
        let Some(until) = holder.get(16..).filter(|until| !until.is_empty()) else { return Ok(None) };
        let until_ms = std::str::from_utf8(until).ok().and_then(|until| until.parse().ok());
        let id = value::id(&Value::BulkString(holder.to_vec()))?;
        Ok(until_ms.map(|until_ms| WholeKey { hash, id, until_ms, shards: self.layout.shards() }))
    }

    async fn page(&self, shard: Shard, key: &str, cursor: &str) -> Result<(String, Vec<Value>), StoreError> {
        let mut pipe = Pipeline::new();
        pipe.cmd("HSCAN").arg(self.layout.key(shard, key)).arg(cursor).arg("COUNT").arg(STORE_BATCH);
        let answers = self.run(shard, pipe).await?;
        let [next, found] = value::list(&answers[0])? else { return Err(value::unexpected(&answers[0])) };
        let found = pairs(found)?.into_iter().flat_map(|(key, value)| [key.clone(), value.clone()]).collect();
        Ok((value::text(next)?, found))
    }
}

fn gone(slot: &Slot, now_ms: i64) -> bool {
    slot.expiry().is_some_and(|at| at <= now_ms)
}
