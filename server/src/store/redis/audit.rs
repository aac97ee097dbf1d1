//! Counters and indexes held against the records.
//!
//! I21: they agree.
use hashbrown::HashMap;
use redis::{Pipeline, Value};

use super::{
    Core,
    due::scored,
    layout::{by_time, hex},
    reads::{LEVELS, stands},
    record, value,
};
use crate::{
    model::{
        ids::{JobId, Shard},
        state::State,
    },
    store::{Disagreements, StoreError, slot::Slot},
};

mod strands;

/// Records read at a time.
const AT_ONCE: usize = 1_000;

impl Core {
    pub(super) async fn recount(&self) -> Result<Disagreements, StoreError> {
        let mut wrong = Vec::new();
        for shard in self.layout.all() {
            let found = self.recount_shard(shard).await?;
            wrong.extend(found.into_iter().map(|what| format!("shard {}: {what}", shard.0)));
        }
        Ok(wrong)
    }

    async fn recount_shard(&self, shard: Shard) -> Result<Vec<String>, StoreError> {
        let mut wrong = Vec::new();
        let jobs = self.all_records(shard).await?;
        let queues = self.learn_names(shard).await?;
        let numbers: Vec<u32> =
            queues.iter().map(|queue| self.names.number(shard, super::names::Of::Queue, queue)).collect();

        // Indexes: every entry stands for a job, every job that belongs there has one.
        let due = |slot: &Slot, key: &str| match key {
            "c" => slot.cancel_deadline().filter(|_| slot.state == State::Running),
            "x" => slot.waiting_expiry(),
            _ => slot.state.is_terminal().then(|| slot.until.get()),
        };
        for (key, what) in [("c", "cancels"), ("x", "expiries"), ("y", "trims")] {
            let entries: HashMap<JobId, i64> = self.index(shard, key).await?;
            let expected: HashMap<JobId, i64> =
                jobs.iter().filter_map(|(id, slot)| due(slot, key).map(|ms| (*id, ms))).collect();
            differences(&mut wrong, what, &entries, &expected, true);
        }
        let leases = self.index(shard, "l").await?;
        let running: HashMap<JobId, i64> =
            jobs.iter().filter(|(_, slot)| slot.state == State::Running).map(|(id, _)| (*id, 0)).collect();
        differences(&mut wrong, "leases", &leases, &running, false);
        for (id, slot) in &jobs {
            if slot.state == State::Running && !slot.is_open() {
                wrong.push(format!("{id} is RUNNING without a lease"));
            }
            if !numbers.contains(&slot.queue) {
                wrong.push(format!("{id} is in a queue of no name"));
            }
        }

        wrong.extend(self.check_keys(shard, &jobs).await?);
        let starts = self.queue_index(shard, "t").await?;
        for (queue, number) in queues.iter().zip(&numbers) {
            let mine = || jobs.iter().filter(|(_, slot)| slot.queue == *number);
            let counted = self.run(shard, counts(self, shard, *number)).await?;
            for (state, counter) in [State::Ready, State::Running].iter().zip(value::list(&counted[0])?) {
                let (found, counted) = (mine().filter(|(_, s)| s.state == *state).count() as i64, value::int(counter)?);
                if found != counted {
                    wrong.push(format!("{} in {queue}: {found} found, {counted} counted", state.name()));
                }
            }
            let mut first: Option<i64> = None;
            for state in State::ALL.into_iter().filter(|state| !matches!(state, State::Ready | State::Running)) {
                let entries = self.index(shard, &by_time(*number, state)).await?;
                let expected: HashMap<JobId, i64> =
                    mine().filter(|(_, slot)| slot.state == state).map(|(id, _)| (*id, 0)).collect();
                differences(&mut wrong, &format!("{} of {queue}", state.name()), &entries, &expected, false);
                if matches!(state, State::Scheduled | State::Retrying) {
                    let earliest = entries.values().min().map(|score| score / super::layout::TIES);
                    first = first.into_iter().chain(earliest).min();
                }
            }
            if let Some(first) = first
                && starts.get(&hex(*number)).is_none_or(|at| *at > first)
            {
                wrong.push(format!("the first start of {queue} is not in the index"));
            }
            wrong.extend(self.check_hints(shard, queue, *number, &jobs).await?);
        }
        Ok(wrong)
    }

    /// Every job that holds a uniqueness key has its entry, and every entry without an end has its job.
    async fn check_keys(&self, shard: Shard, jobs: &HashMap<JobId, Slot>) -> Result<Vec<String>, StoreError> {
        let mut pipe = Pipeline::new();
        pipe.cmd("HGETALL").arg(self.layout.key(shard, "u"));
        let answers = self.run(shard, pipe).await?;
        let mut wrong = Vec::new();
        let mut held = 0;
        for (key, holder) in super::docs::pairs(&answers[0])? {
            let (key, holder) = (value::bytes(key)?, value::bytes(holder)?);
            if holder.len() > 16 {
                continue;
            }
            let id = value::id(&Value::BulkString(holder.to_vec()))?;
            match jobs.get(&id).and_then(Slot::held_key) {
                Some(own) if own == key.as_ref() => held += 1,
                _ => wrong.push(format!("{id} does not hold a uniqueness key that is its own")),
            }
        }
        let expected = jobs.values().filter(|slot| slot.held_key().is_some()).count();
        if expected != held {
            wrong.push(format!("{expected} jobs hold a uniqueness key, {held} have an entry"));
        }
        let mut pipe = Pipeline::new();
        pipe.cmd("HGETALL").arg(self.layout.key(shard, "us"));
        let answers = self.run(shard, pipe).await?;
        let mut waiting = 0;
        for (key, heir) in super::docs::pairs(&answers[0])? {
            let (key, heir) = (value::bytes(key)?, value::id(heir)?);
            match jobs.get(&heir).filter(|slot| slot.state == State::Blocked).and_then(Slot::awaited_key) {
                Some(own) if own == key.as_ref() => waiting += 1,
                _ => wrong.push(format!("{heir} does not wait for a uniqueness key that is kept for it")),
            }
            if !jobs.values().any(|slot| slot.held_key().is_some_and(|held| held == key.as_ref())) {
                wrong.push(format!("{heir} waits for a uniqueness key that nobody holds"));
            }
        }
        let expected = jobs.values().filter(|slot| slot.awaited_key().is_some()).count();
        if expected != waiting {
            wrong.push(format!("{expected} jobs wait for a uniqueness key, {waiting} have an entry"));
        }
        Ok(wrong)
    }

    /// Every READY job that can still be claimed has exactly one hint that stands for it.
    async fn check_hints(
        &self,
        shard: Shard,
        queue: &crate::model::ids::QueueName,
        number: u32,
        jobs: &HashMap<JobId, Slot>,
    ) -> Result<Vec<String>, StoreError> {
        let now = self.clock.now();
        let mut hinted: HashMap<JobId, usize> = HashMap::new();
        for level in 0..LEVELS {
            let mut from = None;
            loop {
                let (first, hints) = self.hints(shard, number, level, from).await?;
                for (id, serial) in &hints {
                    if jobs.get(id).is_some_and(|slot| slot.fair == 0 && stands(slot, number, level, *serial)) {
                        *hinted.entry(*id).or_default() += 1;
                    }
                }
                if hints.len() < crate::model::limits::STORE_BATCH {
                    break;
                }
                from = Some(first + hints.len() as i64);
            }
        }
        let ready = jobs.iter().filter(|(_, slot)| slot.state == State::Ready && slot.queue == number);
        let mut wrong = self.check_strands(shard, queue, number, jobs, &mut hinted).await?;
        for (id, slot) in ready {
            match hinted.get(id).copied().unwrap_or(0) {
                1 => {}
                // The sweeper has it: a claim that met the hint dropped it.
                0 if slot.is_expired(now) => {}
                n => wrong.push(format!("{id} is READY in {queue} and has {n} hints")),
            }
        }
        Ok(wrong)
    }

    async fn all_records(&self, shard: Shard) -> Result<HashMap<JobId, Slot>, StoreError> {
        let mut jobs = HashMap::new();
        let mut cursor = "0".to_owned();
        loop {
            let mut pipe = Pipeline::new();
            pipe.cmd("HSCAN").arg(self.layout.key(shard, "m")).arg(&cursor).arg("COUNT").arg(AT_ONCE);
            let answers = self.run(shard, pipe).await?;
            let [next, found] = value::list(&answers[0])? else { return Err(value::unexpected(&answers[0])) };
            for (id, bytes) in super::docs::pairs(found)? {
                let id = value::id(id)?;
                jobs.insert(id, record::decode(id, &value::bytes(bytes)?).map_err(value::damaged)?);
            }
            cursor = value::text(next)?;
            if cursor == "0" {
                return Ok(jobs);
            }
        }
    }

    async fn index(&self, shard: Shard, key: &str) -> Result<HashMap<JobId, i64>, StoreError> {
        let answers = self.run(shard, whole(self.layout.key(shard, key))).await?;
        Ok(scored(&answers[0])?.into_iter().map(|(score, id)| (id, score)).collect())
    }

    async fn queue_index(&self, shard: Shard, key: &str) -> Result<HashMap<String, i64>, StoreError> {
        let answers = self.run(shard, whole(self.layout.key(shard, key))).await?;
        let entries: &[Value] = value::list(&answers[0])?;
        entries.chunks_exact(2).map(|pair| Ok((value::text(&pair[0])?, value::score(&pair[1])?))).collect()
    }
}

fn whole(key: String) -> Pipeline {
    let mut pipe = Pipeline::new();
    pipe.cmd("ZRANGE").arg(key).arg(0).arg(-1).arg("WITHSCORES");
    pipe
}

fn counts(core: &Core, shard: Shard, queue: u32) -> Pipeline {
    let mut pipe = Pipeline::new();
    let command = pipe.cmd("HMGET").arg(core.layout.key(shard, "n"));
    for state in [State::Ready, State::Running] {
        command.arg(format!("{}{}", hex(queue), state as u8));
    }
    pipe
}

fn differences(
    wrong: &mut Vec<String>,
    what: &str,
    entries: &HashMap<JobId, i64>,
    expected: &HashMap<JobId, i64>,
    times: bool,
) {
    for id in expected.keys().filter(|id| !entries.contains_key(*id)) {
        wrong.push(format!("{id} is not in the index of {what}"));
    }
    for (id, score) in entries {
        match expected.get(id) {
            None => wrong.push(format!("the index of {what} has {id}, which does not belong there")),
            Some(at) if times && at != score => wrong.push(format!("{id} is in the index of {what} at a wrong time")),
            Some(_) => {}
        }
    }
}
