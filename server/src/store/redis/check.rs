//! A look over a whole store beside servers at work. What is read is no snapshot, so a first look only suspects: every
//! suspicion is looked at again, together with the record before and after, and counts only if the record stood still.
//! Everything goes page by page; Redis is never held up.
//!
//! One walk over the records finds what a job lacks, one over each index what belongs to no job; counters are compared
//! while nothing has moved.
use bytes::Bytes;
use hashbrown::{HashMap, HashSet};
use redis::{Pipeline, Value};

use super::{Core, layout::hex, names::Of, record, value};
use crate::{
    model::{
        ids::{JobId, Shard},
        op::{FairKey, KeyHash},
        state::State,
    },
    store::{Checked, Found, Mend, StoreError, slot::Slot},
};

mod counts;
mod entries;
mod hints;
mod keys;
mod mend;
mod names;
mod strands;

/// Records, or entries of an index, that are read at a time.
const PAGE: usize = 500;
/// How often something that does not stand still is looked at again.
const LOOKS: usize = 5;

/// The look over one shard.
struct Look<'a> {
    core: &'a Core,
    shard: Shard,
    mend: &'a Mend,
    checked: &'a mut Checked,
    /// Queues by number: those that have a name, and those that have jobs.
    queues: HashSet<u32>,
    /// READY jobs as they were met, and how many hints stand for each.
    ready: HashMap<JobId, Ready>,
    /// With queue and fairness key.
    running: HashMap<JobId, (u32, FairKey)>,
    /// A job of each queue and type, by number.
    named: HashMap<(Of, u32), JobId>,
    bodies_lacking: bool,
}

/// A READY job: only the hint with all of this stands for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ready {
    queue: u32,
    level: u8,
    fair: FairKey,
    serial: u16,
    hints: u8,
}

impl Ready {
    fn of(slot: &Slot) -> Option<Self> {
        let (queue, level, fair) = (slot.queue, slot.level() as u8, slot.fair);
        let ready = Self { queue, level, fair, serial: record::hint(slot), hints: 0 };
        (slot.state == State::Ready).then_some(ready)
    }
}

impl Core {
    pub(super) async fn check(&self, mend: &Mend) -> Result<Checked, StoreError> {
        let mut checked = Checked::default();
        for shard in self.layout.all() {
            let mut look = Look {
                core: self,
                shard,
                mend,
                checked: &mut checked,
                queues: HashSet::new(),
                ready: HashMap::new(),
                running: HashMap::new(),
                named: HashMap::new(),
                bodies_lacking: false,
            };
            look.all().await?;
        }
        Ok(checked)
    }
}

impl Look<'_> {
    async fn all(&mut self) -> Result<(), StoreError> {
        for queue in self.core.learn_names(self.shard).await? {
            self.queues.insert(self.core.names.number(self.shard, Of::Queue, &queue));
        }
        let before = self.still().await?;
        self.records().await?;
        let after = self.still().await?;
        self.strands(&before).await?;
        self.counters(&before, &after).await?;
        self.names().await?;
        self.hints().await?;
        self.entries().await?;
        self.held_keys().await?;
        self.starts().await?;
        self.outbox().await
    }

    /// Walks over all records: what each of them lacks.
    async fn records(&mut self) -> Result<(), StoreError> {
        let mut cursor = "0".to_owned();
        loop {
            let (next, found) = self.scan("HSCAN", "m", &cursor).await?;
            let mut page = Vec::with_capacity(found.len() / 2);
            for pair in found.chunks_exact(2) {
                let id = value::id(&pair[0])?;
                match record::decode(id, &value::bytes(&pair[1])?) {
                    Ok(slot) => page.push(slot),
                    Err(damaged) => self.found(format!("{damaged}"), Some(Err("restore it from a backup".to_owned()))),
                }
            }
            self.met(&page);
            self.lacks(&page).await?;
            cursor = next;
            if cursor == "0" {
                self.checked.jobs += self.core.count(self.shard, "HLEN", "m").await? as u64;
                return Ok(());
            }
        }
    }

    fn met(&mut self, page: &[Slot]) {
        for slot in page {
            self.queues.insert(slot.queue);
            self.named.entry((Of::Queue, slot.queue)).or_insert(slot.id);
            self.named.entry((Of::Type, slot.kind)).or_insert(slot.id);
            if let Some(ready) = Ready::of(slot) {
                self.ready.insert(slot.id, ready);
            }
            if slot.state == State::Running {
                self.running.insert(slot.id, (slot.queue, slot.fair));
            }
        }
    }

    /// Entries that jobs should have and do not, or not at this time; bodies and keys that are not there.
    async fn lacks(&mut self, page: &[Slot]) -> Result<(), StoreError> {
        if page.is_empty() {
            return Ok(());
        }
        let mut wanted: HashMap<String, Vec<&Slot>> = HashMap::new();
        for slot in page {
            for key in entries::keys_of(slot) {
                wanted.entry(key).or_default().push(slot);
            }
        }
        let wanted: Vec<(String, Vec<&Slot>)> = wanted.into_iter().collect();
        let held: Vec<(JobId, KeyHash)> =
            page.iter().filter_map(|slot| slot.held_key().map(|key| (slot.id, key))).collect();
        let mut pipe = Pipeline::new();
        for (key, slots) in &wanted {
            let command = pipe.cmd("ZMSCORE").arg(self.key(key));
            slots.iter().for_each(|slot| _ = command.arg(slot.id.as_bytes()));
        }
        for slot in page {
            pipe.cmd("HEXISTS").arg(self.key("j")).arg(slot.id.as_bytes());
        }
        if !held.is_empty() {
            let command = pipe.cmd("HMGET").arg(self.key("u"));
            held.iter().for_each(|(_, key)| _ = command.arg(key));
        }
        let answers = self.core.run(self.shard, pipe).await?;
        let mut suspects: Vec<(JobId, String)> = Vec::new();
        for ((key, slots), scores) in wanted.iter().zip(&answers) {
            for (slot, score) in slots.iter().zip(value::list(scores)?) {
                let score = entries::maybe_score(score)?;
                if !entries::expected(Some(slot), key).agrees(score) {
                    suspects.push((slot.id, key.clone()));
                }
            }
        }
        let mut bodyless = Vec::new();
        for (slot, there) in page.iter().zip(&answers[wanted.len()..]) {
            if value::int(there)? == 0 {
                bodyless.push(slot.id);
            }
        }
        let mut keyless = Vec::new();
        if let Some(holders) = answers.get(wanted.len() + page.len()) {
            for ((id, key), holder) in held.iter().zip(value::list(holders)?) {
                if value::maybe(holder)?.as_deref() != Some(id.as_bytes().as_slice()) {
                    keyless.push((*id, *key));
                }
            }
        }
        for (id, key) in suspects {
            self.entry(id, &key).await?;
        }
        for id in bodyless {
            self.body(id).await?;
        }
        for (id, key) in keyless {
            self.lacks_key(id, key).await?;
        }
        Ok(())
    }

    /// The record of a job and what `probe` reads, as they were at one moment. `None` = the record never stood still.
    async fn look(
        &self,
        id: JobId,
        probe: impl Fn(&mut Pipeline),
    ) -> Result<Option<(Bytes, Option<Slot>, Value)>, StoreError> {
        for _ in 0..LOOKS {
            let mut pipe = Pipeline::new();
            pipe.cmd("HGET").arg(self.key("m")).arg(id.as_bytes());
            probe(&mut pipe);
            pipe.cmd("HGET").arg(self.key("m")).arg(id.as_bytes());
            let mut answers = self.core.run(self.shard, pipe).await?;
            if answers.len() == 3 && answers[0] == answers[2] {
                let record = value::maybe(&answers[0])?;
                let slot = match &record {
                    Some(record) => match record::decode(id, record) {
                        Ok(slot) => Some(slot),
                        // Has been reported with the records.
                        Err(_) => return Ok(None),
                    },
                    None => None,
                };
                return Ok(Some((record.unwrap_or_default(), slot, answers.swap_remove(1))));
            }
        }
        Ok(None)
    }

    /// One page of a scan: the next cursor, "0" at the end, and what was found.
    async fn scan(&self, command: &str, key: &str, cursor: &str) -> Result<(String, Vec<Value>), StoreError> {
        let mut pipe = Pipeline::new();
        pipe.cmd(command).arg(self.key(key)).arg(cursor).arg("COUNT").arg(PAGE);
        scanned(&self.core.run(self.shard, pipe).await?[0])
    }

    fn key(&self, name: &str) -> String {
        self.core.layout.key(self.shard, name)
    }

    fn found(&mut self, what: String, mended: Option<Result<String, String>>) {
        let mended = mended.filter(|_| self.mends());
        self.checked.found.push(Found { what, mended });
    }

    fn mends(&self) -> bool {
        self.mend.tasks.is_some()
    }

    /// A queue as people know it.
    fn queue(&self, number: u32) -> String {
        let name = self.core.names.name(self.shard, Of::Queue, number);
        name.map_or_else(|| format!("number {}", hex(number)), |name| name.to_string())
    }

    /// Jobs that an outcome enqueued and that never went to their shards.
    async fn outbox(&mut self) -> Result<(), StoreError> {
        const OLD_MS: i64 = 60_000;
        let mut pipe = Pipeline::new();
        pipe.cmd("TIME");
        let answers = self.core.run(self.shard, pipe).await?;
        let seconds = value::list(&answers[0])?.first().map_or(Ok(0), value::int)?;
        let until = (seconds * 1_000 - OLD_MS).max(0).to_string();
        let old = async || {
            let mut pipe = Pipeline::new();
            pipe.cmd("XRANGE").arg(self.key("ob")).arg("-").arg(&until).arg("COUNT").arg(PAGE);
            let answers = self.core.run(self.shard, pipe).await?;
            Ok::<_, StoreError>(value::list(&answers[0])?.len())
        };
        let stuck = old().await?;
        if stuck == 0 {
            return Ok(());
        }
        let what = format!(
            "{}{stuck} jobs that outcomes enqueued have been in the outbox of shard {} for more than a minute",
            if stuck == PAGE { "at least " } else { "" },
            self.shard.0
        );
        if !self.mends() {
            self.found(what, None);
            return Ok(());
        }
        self.core.relay(self.shard).await;
        let done = match old().await? {
            0 => Ok("they were carried to their shards".to_owned()),
            left => Err(format!("{left} could not be carried: a shard is full or away")),
        };
        self.found(what, Some(done));
        Ok(())
    }
}

impl Core {
    async fn count(&self, shard: Shard, command: &str, key: &str) -> Result<i64, StoreError> {
        let mut pipe = Pipeline::new();
        pipe.cmd(command).arg(self.layout.key(shard, key));
        value::int(&self.run(shard, pipe).await?[0])
    }
}

fn scanned(answer: &Value) -> Result<(String, Vec<Value>), StoreError> {
    let [next, found] = value::list(answer)? else { return Err(value::unexpected(answer)) };
    let found = match found {
        Value::Map(pairs) => pairs.iter().flat_map(|(key, value)| [key.clone(), value.clone()]).collect(),
        found => value::list(found)?.to_vec(),
    };
    Ok((value::text(next)?, found))
}
