//! Everything out of the machine, list by list, and into it again.
use std::ops::Bound::{Excluded, Unbounded};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    assemble::{Damaged, SideReader},
    keys::Holder,
    machine::{Corrupt, Machine},
    queue::{Spot, by_time},
    ready::LEVELS,
    write::{Key, Output, Table, Write},
};
use crate::{
    model::{
        job::LogLine,
        limits::ATTEMPTS_KEPT,
        op::KeyHash,
        queue::{Configured, QueueChange},
        state::State,
        time::Now,
    },
    store::{
        slot::{Slot, Stamp, flag},
        whole::{Exported, Mark, PAGE_BYTES, Run, Whole, WholeJob, WholeKey, WholeQueue},
    },
};

/// Lists of a queue: READY ones by priority, then one for each state.
const LISTS: usize = LEVELS + State::ALL.len();

/// A line of a log, about.
const LINE_BYTES: usize = 200;

/// Where an export goes on.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Place {
    Keys(Option<(i64, KeyHash)>),
    Jobs { queue: usize, list: usize, after: Option<(i64, u32)>, run: Run },
}

/// A page of the machine's: what it holds itself, and jobs whose side records its owner adds.
#[derive(Debug)]
pub struct Page {
    pub named: Vec<Whole>,
    pub jobs: Vec<Taken>,
    pub next: Option<Mark>,
}

/// A job without its side records.
#[derive(Debug)]
pub struct Taken {
    job: WholeJob,
    row: u64,
    /// First line of its log, and the one that comes next.
    log: (u64, u64),
}

impl Page {
    /// The side records that are needed.
    pub fn sides(&self) -> Vec<(Table, u64, u64)> {
        self.jobs.iter().flat_map(Taken::keys).collect()
    }

    /// With side records.
    pub fn with(self, sides: &impl SideReader) -> Result<Exported, Damaged> {
        let mut things = self.named;
        for taken in self.jobs {
            things.push(Whole::Job(Box::new(taken.with(sides)?)));
        }
        Ok(Exported { things, next: self.next })
    }
}

impl Taken {
    fn keys(&self) -> Vec<(Table, u64, u64)> {
        let (row, slot) = (self.row, &self.job.slot);
        let mut keys = vec![(Table::Body, row, 0)];
        for (table, has) in
            [(Table::Outcome, flag::OUTCOME), (Table::Progress, flag::PROGRESS), (Table::Checkpoint, flag::CHECKPOINT)]
        {
            keys.extend(slot.has(has).then_some((table, row, 0)));
        }
        if slot.has(flag::ATTEMPTS) {
            let first = slot.delivery.saturating_sub(ATTEMPTS_KEPT - 1).max(1);
            keys.extend((first..=slot.delivery).map(|delivery| (Table::Attempt, row, u64::from(delivery))));
        }
        keys.extend((self.log.0..self.log.1).map(|index| (Table::Log, row, index)));
        keys
    }

    fn with(self, sides: &impl SideReader) -> Result<WholeJob, Damaged> {
        let keys = self.keys();
        let mut job = self.job;
        for (table, row, sub) in keys {
            let Some(bytes) = sides.read(&Key::Job { table, row, sub })? else { continue };
            match table {
                Table::Body => job.body = bytes,
                Table::Outcome => job.outcome = Some(bytes),
                Table::Progress => job.progress = Some(bytes),
                Table::Checkpoint => job.checkpoint = Some(bytes),
                Table::Attempt => job.attempts.push((sub as u32, bytes)),
                Table::Log => job.log.push(postcard::from_bytes::<LogLine>(&bytes).map_err(|_| Damaged)?),
                Table::Meta => {}
            }
        }
        Ok(job)
    }
}

impl Machine {
    /// The page after `from` (`None` = the first), of at most `limit` keys or jobs. Nothing may change between pages.
    pub fn export(&self, from: Option<&Mark>, limit: usize) -> Result<Page, Corrupt> {
        let foreign = || Corrupt("the mark is of another store".to_owned());
        let mut page = Page { named: Vec::new(), jobs: Vec::new(), next: None };
        match from.map(|mark| mark.read::<Place>().ok_or_else(foreign)).transpose()? {
            None => {
                page.named = self.named();
                page.next = Some(Mark::of(&Place::Keys(None)));
            }
            Some(Place::Keys(after)) => {
                let mut last = None;
                for (until_ms, hash, id) in self.keys.timed(after).take(limit) {
                    page.named.push(Whole::Key(WholeKey { hash, id, until_ms, shards: 1 }));
                    last = Some((until_ms, hash));
                }
                let jobs = Place::Jobs { queue: 0, list: 0, after: None, run: Run::default() };
                page.next = Some(Mark::of(&last.map_or(jobs, |last| Place::Keys(Some(last)))));
            }
            Some(Place::Jobs { queue, list, after, run }) => {
                self.export_jobs((queue, list, after, run), limit, &mut page)
            }
        }
        Ok(page)
    }

    fn named(&self) -> Vec<Whole> {
        let queues = self.queues(None).into_iter().map(|facts| {
            Whole::Queue(WholeQueue {
                name: facts.name,
                pause: facts.pause,
                config: facts.config,
                width: 1,
                lists: None,
            })
        });
        let shard = crate::model::ids::Shard(0);
        let docs = self.docs("").into_iter().map(|(key, doc)| Whole::Doc { shard, key, doc });
        let floor = (self.doc_floor > 0).then_some(Whole::DocFloor(shard, self.doc_floor));
        queues.chain(docs).chain(floor).collect()
    }

    fn export_jobs(
        &self,
        (mut queue, mut list, mut after, mut run): (usize, usize, Option<(i64, u32)>, Run),
        limit: usize,
        page: &mut Page,
    ) {
        let mut bytes = 0;
        while let Some(from) = self.queues.get(queue) {
            let (state, spots) = match list.checked_sub(LEVELS) {
                None => (State::Ready, from.ready.level(list)),
                Some(n) if State::ALL[n] == State::Ready => {
                    list += 1;
                    continue;
                }
                Some(n) => (State::ALL[n], from.list(State::ALL[n])),
            };
            let start = after.map_or(Unbounded, |(order, slot)| Excluded(Spot::new(order, slot)));
            for spot in spots.range((start, Unbounded)) {
                if page.jobs.len() == limit || bytes > PAGE_BYTES {
                    page.next = Some(Mark::of(&Place::Jobs { queue, list, after, run }));
                    return;
                }
                let slot = &self.slab[spot.slot];
                let ms = match state {
                    State::Scheduled | State::Retrying => by_time::due_ms(spot.order()),
                    State::Blocked => 0,
                    _ => slot.finish.get(),
                };
                let taken = self.taken(spot.slot, run.next(ms));
                bytes += slot.body_bytes as usize + LINE_BYTES * (taken.log.1 - taken.log.0) as usize;
                page.jobs.push(taken);
                after = Some((spot.order(), spot.slot));
            }
            (after, run) = (None, Run::default());
            list += 1;
            if list == LISTS {
                (queue, list) = (queue + 1, 0);
            }
        }
    }

    fn taken(&self, at: u32, place: (i64, u32)) -> Taken {
        let mut slot = self.slab[at].clone();
        let log = slot.extra.as_ref().map_or((0, 0), |extra| (extra.log_first, extra.log_next));
        if let Some(extra) = &mut slot.extra {
            (extra.log_first, extra.log_next) = (0, 0);
        }
        slot.set(flag::LOG, false);
        let queue = self.queues[slot.queue as usize].name.clone();
        let (kind, row) = (self.kinds.name(slot.kind), slot.row.get() as u64);
        let job = WholeJob {
            queue,
            kind,
            slot,
            place,
            body: Bytes::new(),
            outcome: None,
            progress: None,
            checkpoint: None,
            attempts: Vec::new(),
            log: Vec::new(),
        };
        Taken { job, row, log }
    }

    /// Takes what another store gave. RUNNING jobs keep their tokens and get a lease of `lease_ms`. A job that is there
    /// already stays as it is.
    pub fn import(&mut self, now: Now, things: Vec<Whole>, lease_ms: i64, out: &mut Output) {
        for thing in things {
            match thing {
                Whole::Queue(queue) => {
                    self.queue_number(&queue.name, out);
                    if let Some(Configured { config, .. }) = queue.config {
                        self.set_queue(now, &queue.name, QueueChange::Configure(0, Some(config)), out);
                    }
                    if let Some(pause) = queue.pause {
                        self.set_queue(now, &queue.name, QueueChange::Pause(pause), out);
                    }
                }
                Whole::Doc { key, doc, .. } => self.keep_doc(key, doc, out),
                Whole::DocFloor(_, version) => self.keep_doc_floor(version, out),
                Whole::Key(key) => self.remember_key(key.hash, key.id, key.until_ms, out),
                Whole::Job(job) => self.import_job(now, *job, lease_ms, out),
            }
        }
        self.finish_call(now, out);
    }

    fn import_job(&mut self, now: Now, job: WholeJob, lease_ms: i64, out: &mut Output) {
        if self.ids.insert(&self.slab, job.slot.id, self.slab.next()).is_err() {
            return;
        }
        let (queue, kind) = (self.queue_number(&job.queue, out), self.kind_number(&job.kind, out));
        let order = match job.slot.state {
            State::Scheduled | State::Retrying => self.order_by_time(job.place.0),
            _ => self.next_arrival(),
        };
        let mut slot = Slot { queue, kind, order, row: Stamp::new(self.next_row), ..job.slot };
        if slot.state == State::Running {
            slot.until = Stamp::new(now.mono_ms.saturating_add(lease_ms));
        }
        if let (Some(first), Some(last)) = (job.log.first(), job.log.last()) {
            let (first, next) = (first.index, last.index + 1);
            slot.set(flag::LOG, true);
            let extra = slot.extra_mut();
            (extra.log_first, extra.log_next) = (first, next);
        }
        if let Some(key) = slot.held_key() {
            self.keys.take(key, Holder { id: slot.id, until_ms: None });
        }
        if let Some(key) = slot.awaited_key() {
            self.keys.wait(key, slot.id);
        }
        let row = self.next_row as u64;
        self.next_row += 1;
        let mut keep = |table, sub, bytes| out.writes.push(Write::Set(Key::Job { table, row, sub }, bytes));
        keep(Table::Body, 0, job.body);
        for (table, part) in
            [(Table::Outcome, job.outcome), (Table::Progress, job.progress), (Table::Checkpoint, job.checkpoint)]
        {
            part.into_iter().for_each(|part| keep(table, 0, part));
        }
        for (delivery, attempt) in job.attempts {
            keep(Table::Attempt, u64::from(delivery), attempt);
        }
        for line in job.log {
            keep(Table::Log, line.index, postcard::to_stdvec(&line).expect("plain data always encodes").into());
        }
        let at = self.slab.insert(slot);
        self.write_meta(at, out);
        self.attach(now, at, out);
    }
}
