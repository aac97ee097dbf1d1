//! Filling a store that nobody uses yet. Plain commands, a page in one go per shard: there is no one to be in step with.
use bytes::Bytes;
use hashbrown::HashMap;
use redis::Pipeline;

use super::{
    Core, docs,
    layout::{TIES, by_time, hex},
    names::Of,
    placing, record,
    scripts::STAND,
};
use crate::{
    model::{
        ids::{JobId, Shard},
        limits::STORE_BATCH,
        queue::{Configured, QueueChange},
        schedule,
        state::State,
        workflow,
    },
    store::{
        StoreError, Whole, WholeJob, WholeKey, WholeQueue,
        slot::{Slot, flag},
    },
};

impl Core {
    pub(super) async fn import(&self, things: Vec<Whole>, lease_ms: i64) -> Result<(), StoreError> {
        let mut jobs: HashMap<Shard, Vec<WholeJob>> = HashMap::new();
        for thing in things {
            match thing {
                Whole::Queue(queue) => self.import_queue(queue).await?,
                Whole::Doc { shard, key, doc } => {
                    let shard = if self.layout.has(shard) { shard } else { Shard(0) };
                    // What is looked for where it belongs in a store with so many shards.
                    let home = schedule::home(&key, self.layout.shards()).or_else(|| workflow::home(&key));
                    let shard = home.filter(|home| self.layout.has(*home)).unwrap_or(shard);
                    let mut pipe = Pipeline::new();
                    pipe.cmd("HSET").arg(self.layout.key(shard, "d")).arg(&key).arg(docs::write(&doc));
                    if doc.due_ms != 0 {
                        pipe.cmd("ZADD").arg(self.layout.key(shard, "dt")).arg(doc.due_ms).arg(&key);
                    }
                    self.run(shard, pipe).await?;
                }
                Whole::DocFloor(shard, version) => {
                    let shard = if self.layout.has(shard) { shard } else { Shard(0) };
                    let mut pipe = Pipeline::new();
                    pipe.cmd("SET").arg(self.layout.key(shard, "dv")).arg(version);
                    self.run(shard, pipe).await?;
                }
                Whole::Key(key) => self.import_key(key).await?,
                Whole::Job(job) if self.has(job.id()) => jobs.entry(job.id().shard()).or_default().push(*job),
                Whole::Job(job) => {
                    return Err(StoreError::Refused(format!(
                        "job {} is of shard {}, and this store has {} shards: fill a new one that has more (--shards)",
                        job.id(),
                        job.id().shard().0,
                        self.layout.shards()
                    )));
                }
            }
        }
        for (shard, jobs) in jobs {
            self.import_jobs(shard, jobs, lease_ms).await?;
        }
        Ok(())
    }

    async fn import_queue(&self, queue: WholeQueue) -> Result<(), StoreError> {
        match queue.lists {
            Some((shards, lists)) if shards == self.layout.shards() => {
                let mut pipe = Pipeline::new();
                pipe.cmd("HSET").arg(&self.root).arg(placing::lists(&queue.name)).arg(lists);
                self.conn.run(self.root.as_bytes(), pipe).await?;
                self.load_placing().await?;
            }
            _ if queue.width > 1 => self.widen(&queue.name, queue.width.min(self.layout.shards())).await?,
            _ => {}
        }
        for shard in self.placing.shards_of(&queue.name) {
            self.take_number(shard, Of::Queue, &queue.name).await?;
        }
        if let Some(Configured { config, .. }) = queue.config {
            self.set_queue(queue.name.clone(), QueueChange::Configure(0, Some(config))).await?;
        }
        if let Some(pause) = queue.pause {
            self.set_queue(queue.name, QueueChange::Pause(pause)).await?;
        }
        Ok(())
    }

    /// A key that is remembered is looked for where a new job would go. Where that is cannot be told from the key, so in a
    /// store that is spread otherwise every shard remembers it.
    async fn import_key(&self, key: WholeKey) -> Result<(), StoreError> {
        let WholeKey { hash, id, until_ms, shards } = key;
        let holder = [id.as_bytes().as_slice(), until_ms.to_string().as_bytes()].concat();
        let shards = if shards == self.layout.shards() { vec![id.shard()] } else { self.layout.all().collect() };
        for shard in shards {
            let mut pipe = Pipeline::new();
            pipe.cmd("HSETNX").arg(self.layout.key(shard, "u")).arg(&hash).arg(&holder);
            pipe.cmd("ZADD").arg(self.layout.key(shard, "uy")).arg(until_ms).arg(&hash);
            self.run(shard, pipe).await?;
        }
        Ok(())
    }

    async fn import_jobs(&self, shard: Shard, jobs: Vec<WholeJob>, lease_ms: i64) -> Result<(), StoreError> {
        self.enter(shard, jobs.iter().map(|job| &job.queue)).await?;
        let ids: Vec<JobId> = jobs.iter().map(WholeJob::id).collect();
        let there = self.raw(shard, &ids).await?;
        let until = self.clock.now().mono_ms.saturating_add(lease_ms);
        let mut kinds: HashMap<crate::model::ids::Name, u32> = HashMap::new();
        let mut page = Page { core: self, shard, pipe: Pipeline::new(), until, standing: Vec::new() };
        // A walk may meet a job twice.
        let mut met = hashbrown::HashSet::new();
        for (job, _) in jobs.into_iter().zip(there).filter(|(_, there)| there.is_none()) {
            if !met.insert(job.id()) {
                continue;
            }
            let kind = match kinds.get(&job.kind) {
                Some(kind) => *kind,
                None => {
                    let (number, _) = self.take_number(shard, Of::Type, &job.kind).await?;
                    kinds.insert(job.kind.clone(), number);
                    number
                }
            };
            let queue = self.names.number(shard, Of::Queue, &job.queue);
            page.add(job, queue, kind);
        }
        if met.is_empty() {
            return Ok(());
        }
        let standing = page.standing;
        self.run(shard, page.pipe).await?;
        for jobs in standing.chunks(2 * STORE_BATCH) {
            let mut args = self.times();
            args.extend_from_slice(jobs);
            self.eval(shard, &STAND, &args).await?;
        }
        Ok(())
    }
}

/// Commands that bring jobs into a shard.
struct Page<'a> {
    core: &'a Core,
    shard: Shard,
    pipe: Pipeline,
    /// End of every lease.
    until: i64,
    /// READY and RUNNING jobs, by id and record: a step for itself brings them in with their places and counts.
    standing: Vec<Bytes>,
}

impl Page<'_> {
    fn add(&mut self, job: WholeJob, queue: u32, kind: u32) {
        let mut slot = Slot { queue, kind, ..job.slot };
        slot.set(flag::LOG, false);
        let id = slot.id;
        let record = record::encode(&slot);
        match slot.state {
            State::Ready | State::Running => self.standing.extend([Bytes::copy_from_slice(id.as_bytes()), record]),
            _ => self.set("m", id.as_bytes(), &record),
        }
        // A job whose body was lost is copied without one, for a check to find.
        if !job.body.is_empty() {
            self.set("j", id.as_bytes(), &job.body);
        }
        for (key, part) in [("r", job.outcome), ("p", job.progress), ("k", job.checkpoint)] {
            part.iter().for_each(|part| self.set(key, id.as_bytes(), part));
        }
        for (delivery, attempt) in &job.attempts {
            self.set("a", &[id.as_bytes().as_slice(), &delivery.to_be_bytes()].concat(), attempt);
        }
        if let Some(last) = job.log.last() {
            let mut key = self.key("g:").into_bytes();
            key.extend_from_slice(id.as_bytes());
            let command = self.pipe.cmd("RPUSH").arg(key);
            for line in &job.log {
                command.arg(postcard::to_stdvec(line).expect("plain data always encodes"));
            }
            self.set("gn", id.as_bytes(), &Bytes::from(last.index.to_string()));
        }
        if let Some(key) = slot.held_key() {
            self.set("u", &key, &Bytes::copy_from_slice(id.as_bytes()));
        }
        if let Some(key) = slot.awaited_key() {
            self.set("us", &key, &Bytes::copy_from_slice(id.as_bytes()));
        }
        self.stand(&slot, job.place);
        for (key, at) in [
            ("c", slot.cancel_deadline().filter(|_| slot.state == State::Running)),
            ("x", slot.waiting_expiry()),
            ("y", slot.state.is_terminal().then(|| slot.until.get())),
        ] {
            at.into_iter().for_each(|at| self.enter(key, at, id));
        }
    }

    /// Its place in the list of its state.
    fn stand(&mut self, slot: &Slot, (ms, before): (i64, u32)) {
        match slot.state {
            State::Ready => {}
            State::Running => self.enter("l", self.until, slot.id),
            state => {
                let score = ms * TIES + i64::from(before).min(TIES - 1);
                self.enter(&by_time(slot.queue, state), score, slot.id);
                if matches!(state, State::Scheduled | State::Retrying) {
                    let key = self.key("t");
                    self.pipe.cmd("ZADD").arg(key).arg("LT").arg(ms).arg(hex(slot.queue));
                }
            }
        }
    }

    fn enter(&mut self, key: &str, score: i64, id: JobId) {
        let key = self.key(key);
        self.pipe.cmd("ZADD").arg(key).arg(score).arg(id.as_bytes());
    }

    fn set(&mut self, key: &str, field: &[u8], value: &Bytes) {
        let key = self.key(key);
        self.pipe.cmd("HSET").arg(key).arg(field).arg(value.as_ref());
    }

    fn key(&self, name: &str) -> String {
        self.core.layout.key(self.shard, name)
    }
}
