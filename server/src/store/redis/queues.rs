//! Queues: their switch and their numbers, over all shards they have.
//!
//! I18: a pause is in force in every shard before it is answered.
use bytes::Bytes;
use hashbrown::{HashMap, HashSet};
use redis::{Pipeline, Value};

use super::{
    Core, config,
    layout::{by_time, hex},
    names::{self, Of},
    placing,
    reads::LEVELS,
    scripts::QUEUE,
    value,
};
use crate::{
    model::{
        ids::{JobId, Name, QueueName, Shard},
        queue::{Pause, QueueChange, QueueFacts},
        state::State,
    },
    store::StoreError,
};

/// Jobs at the head of a READY list that are looked at for the one that has waited longest.
const FIRST: usize = 20;

impl Core {
    pub(super) async fn queues(&self, names: Option<&[QueueName]>) -> Result<Vec<QueueFacts>, StoreError> {
        self.open()?;
        let shards: HashSet<Shard> = match names {
            Some(names) => names.iter().flat_map(|name| self.placing.shards_of(name)).collect(),
            None => self.layout.all().collect(),
        };
        let reads = shards.into_iter().map(|shard| async move {
            let mut known = self.learn_names(shard).await?;
            if let Some(names) = names {
                known.retain(|name| names.contains(name));
            }
            let mut facts = Vec::with_capacity(known.len());
            for name in known {
                facts.push(self.facts(shard, name).await?);
            }
            Ok::<_, StoreError>(facts)
        });
        let mut all: HashMap<QueueName, QueueFacts> = HashMap::new();
        for facts in futures::future::try_join_all(reads).await?.into_iter().flatten() {
            match all.get_mut(&facts.name) {
                Some(sum) => add(sum, facts),
                None => drop(all.insert(facts.name.clone(), facts)),
            }
        }
        let mut all: Vec<QueueFacts> = all.into_values().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// One shard's part.
    async fn facts(&self, shard: Shard, name: QueueName) -> Result<QueueFacts, StoreError> {
        let number = self.names.number(shard, Of::Queue, &name);
        let listed: Vec<State> =
            State::ALL.into_iter().filter(|state| !matches!(state, State::Ready | State::Running)).collect();
        let mut pipe = Pipeline::new();
        pipe.cmd("HGET").arg(self.layout.key(shard, "qp")).arg(hex(number));
        pipe.cmd("HGET").arg(self.layout.key(shard, "qc")).arg(hex(number));
        pipe.cmd("HGET").arg(self.layout.key(shard, "qt")).arg(hex(number));
        let counts = pipe.cmd("HMGET").arg(self.layout.key(shard, "n"));
        for state in [State::Ready, State::Running] {
            counts.arg(format!("{}{}", hex(number), state as u8));
        }
        for state in &listed {
            pipe.cmd("ZCARD").arg(self.layout.key(shard, by_time(number, *state)));
        }
        let answers = self.run(shard, pipe).await?;
        let mut facts =
            QueueFacts { name, pause: None, config: None, throttled_ms: None, counts: [0; 11], oldest_ready_ms: None };
        facts.pause = value::maybe(&answers[0])?.and_then(|bytes| postcard::from_bytes(&bytes).ok());
        facts.config = value::maybe(&answers[1])?.and_then(|bytes| config::read(&bytes));
        facts.throttled_ms = Some(value::int(&answers[2])?).filter(|ms| *ms > 0);
        for (state, count) in [State::Ready, State::Running].iter().zip(value::list(&answers[3])?) {
            facts.counts[*state as usize] = value::int(count)?.max(0) as u64;
        }
        for (state, count) in listed.iter().zip(&answers[4..]) {
            facts.counts[*state as usize] = value::int(count)? as u64;
        }
        if facts.count(State::Ready) > 0 {
            facts.oldest_ready_ms = self.oldest(shard, number).await?;
        }
        Ok(facts)
    }

    async fn oldest(&self, shard: Shard, queue: u32) -> Result<Option<i64>, StoreError> {
        let mut oldest = None;
        for level in 0..LEVELS {
            let mut from = None;
            // Hints that stand for no job are passed over.
            loop {
                let page = self.listed(shard, queue, level, from).await?;
                let ids: Vec<JobId> = page.jobs.iter().map(|hint| hint.id).collect();
                let slots = self.slots(shard, &ids).await?;
                let standing = page.jobs.iter().zip(slots).filter_map(|(hint, slot)| {
                    slot.filter(|slot| hint.stands_for(slot, queue, level)).map(|slot| slot.ready.get())
                });
                let earliest = standing.take(FIRST).min();
                oldest = oldest.into_iter().chain(earliest).min();
                from = page.next;
                if earliest.is_some() || from.is_none() {
                    break;
                }
            }
        }
        Ok(oldest)
    }

    pub(super) async fn set_queue(&self, name: QueueName, change: QueueChange) -> Result<QueueFacts, StoreError> {
        self.open()?;
        match change {
            QueueChange::Configure(expect, config) => self.configure(&name, expect, config).await?,
            change => {
                let shards = self.placing.shards_of(&name);
                if change == QueueChange::Resume && shards.len() > 1 {
                    // A throttle that is still on its way to a shard must not come after its end.
                    for shard in &shards {
                        self.try_relay(*shard).await?;
                    }
                }
                for shard in shards {
                    self.set_in(shard, &name, &change).await?;
                }
            }
        }
        let facts = self.queues(Some(std::slice::from_ref(&name))).await?.pop();
        facts.ok_or_else(|| StoreError::Unavailable(format!("the queue {name} has vanished while it was changed")))
    }

    async fn set_in(&self, shard: Shard, name: &QueueName, change: &QueueChange) -> Result<(), StoreError> {
        loop {
            let number = self.names.number(shard, Of::Queue, name);
            let mut pipe = Pipeline::new();
            pipe.cmd("HGET").arg(self.layout.key(shard, "qp")).arg(hex(number));
            let old = value::maybe(&self.run(shard, pipe).await?[0])?.unwrap_or_default();
            let pause: Option<Pause> = postcard::from_bytes(&old).ok();
            let now_ms = self.clock.now().wall_ms;
            let new = match change {
                QueueChange::Pause(pause) => Some(pause.clone()),
                QueueChange::Resume => None,
                QueueChange::Configure(..) => return Ok(()),
                QueueChange::ResumeIfDue => {
                    pause.filter(|pause| pause.resume_ms.is_none_or(|resume_ms| resume_ms > now_ms))
                }
            };
            let ends = new.as_ref().and_then(|pause| pause.resume_ms).map(|ms| ms.to_string()).unwrap_or_default();
            let new = new.map(|pause| postcard::to_stdvec(&pause).expect("plain data always encodes"));
            let [field, value] = names::entry(Of::Queue, number, name);
            let mut args = self.times();
            args.extend([field.into(), value.into(), old, new.unwrap_or_default().into(), Bytes::from(ends)]);
            args.push(u8::from(*change == QueueChange::Resume).to_string().into());
            match self.eval(shard, &QUEUE, &args).await? {
                Value::Int(1) => return Ok(()),
                Value::Int(_) => self.names.is_taken(shard, Of::Queue, number),
                _ => {}
            }
        }
    }

    /// Makes a shard ready for jobs that are moved into these queues. Tells whether a queue got another number by that.
    pub(super) async fn enter<'a>(
        &self,
        shard: Shard,
        queues: impl Iterator<Item = &'a QueueName>,
    ) -> Result<bool, StoreError> {
        let queues: HashSet<&QueueName> = queues.collect();
        let mut renumbered = false;
        self.register(shard, queues.iter().copied()).await?;
        for queue in queues {
            renumbered |= self.take_number(shard, Of::Queue, queue).await?.1;
        }
        Ok(renumbered)
    }

    /// The number of a name, which is the name's own from now on; and whether it is another one than was tried first.
    pub(super) async fn take_number(&self, shard: Shard, of: Of, name: &Name) -> Result<(u32, bool), StoreError> {
        let mut renumbered = false;
        loop {
            let number = self.names.number(shard, of, name);
            let [field, value] = names::entry(of, number, name);
            let key = self.layout.key(shard, "nm");
            let mut pipe = Pipeline::new();
            pipe.cmd("HSETNX").arg(&key).arg(&field).arg(&value);
            pipe.cmd("HGET").arg(&key).arg(&field);
            if value::text(&self.run(shard, pipe).await?[1])? == value {
                return Ok((number, renumbered));
            }
            self.names.is_taken(shard, of, number);
            renumbered = true;
        }
    }

    /// Has it known that a shard has jobs of these queues, before it gets one.
    pub(super) async fn register<'a>(
        &self,
        shard: Shard,
        queues: impl Iterator<Item = &'a QueueName>,
    ) -> Result<(), StoreError> {
        let strange: HashSet<&QueueName> =
            queues.filter(|queue| !self.placing.shards_of(queue).contains(&shard)).collect();
        for queue in strange {
            let mut pipe = Pipeline::new();
            pipe.cmd("HSET").arg(&self.root).arg(placing::guest(queue, shard)).arg(1);
            self.conn.run(self.root.as_bytes(), pipe).await?;
            self.placing.add_guest(queue, shard);
            self.tell_placing().await?;
            self.share_config(queue).await?;
        }
        Ok(())
    }

    /// Spreads a queue over so many shards, from a minute from now on.
    pub(super) async fn widen(&self, queue: &QueueName, width: u16) -> Result<(), StoreError> {
        self.load_placing().await?;
        if self.placing.width(queue) == width {
            return Ok(());
        }
        let since_ms = self.clock.now().wall_ms + placing::NOTICE_MS;
        let lists = self.placing.widened(queue, width, since_ms);
        let mut pipe = Pipeline::new();
        pipe.cmd("HSET").arg(&self.root).arg(placing::lists(queue)).arg(lists);
        self.conn.run(self.root.as_bytes(), pipe).await?;
        self.load_placing().await?;
        self.tell_placing().await?;
        self.share_config(queue).await
    }

    pub(super) async fn load_placing(&self) -> Result<(), StoreError> {
        let mut pipe = Pipeline::new();
        pipe.cmd("HGETALL").arg(&self.root);
        let answers = self.conn.run(self.root.as_bytes(), pipe).await?;
        let fields = super::docs::pairs(&answers[0])?;
        self.placing
            .load(fields.iter().filter_map(|(key, value)| Some((value::text(key).ok()?, value::text(value).ok()?))));
        Ok(())
    }
}

fn add(sum: &mut QueueFacts, part: QueueFacts) {
    for (sum, part) in sum.counts.iter_mut().zip(part.counts) {
        *sum += part;
    }
    sum.pause = sum.pause.take().or(part.pause);
    sum.throttled_ms = sum.throttled_ms.max(part.throttled_ms);
    // While a change is on its way some shards have the one before.
    sum.config = sum.config.take().into_iter().chain(part.config).max_by_key(|configured| configured.version);
    sum.oldest_ready_ms = sum.oldest_ready_ms.into_iter().chain(part.oldest_ready_ms).min();
}
