//! Entries of jobs in lists by time and indexes, and what is kept besides the records.
use redis::Value;

use super::{Look, PAGE, scanned};
use crate::{
    model::{ids::JobId, state::State},
    store::{
        StoreError,
        redis::{
            layout::{TIES, by_time, listed},
            value,
        },
        slot::Slot,
    },
};

/// Hashes by job, apart from records: key, and what an entry is called. `a` has the delivery behind the id.
pub(super) const PARTS: [(&str, &str); 6] = [
    ("j", "a body"),
    ("r", "an outcome"),
    ("p", "a progress"),
    ("k", "a checkpoint"),
    ("a", "an attempt"),
    ("gn", "a log"),
];

/// What an index should say of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    Nothing,
    /// This very score.
    At(i64),
    /// Some score; this one if there is none.
    Any(i64),
    /// Some score, a lease: a fresh one if there is none.
    Lease,
    /// Some score or none.
    Place,
}

impl Expected {
    pub fn agrees(self, score: Option<i64>) -> bool {
        match self {
            Self::Nothing => score.is_none(),
            Self::At(at) => score == Some(at),
            Self::Any(_) | Self::Lease => score.is_some(),
            Self::Place => true,
        }
    }
}

/// The indexes where a job should have an entry.
pub(super) fn keys_of(slot: &Slot) -> Vec<String> {
    let own = match slot.state {
        State::Ready => None,
        State::Running => Some("l".to_owned()),
        state => Some(by_time(slot.queue, state)),
    };
    let others = ["c", "x", "y"].into_iter().filter(|key| expected(Some(slot), key) != Expected::Nothing);
    own.into_iter().chain(others.map(str::to_owned)).collect()
}

/// What the index should say of the job with this record, or of a job that is not there.
pub(super) fn expected(slot: Option<&Slot>, key: &str) -> Expected {
    let Some(slot) = slot else { return Expected::Nothing };
    let at = |ms: Option<i64>| ms.map_or(Expected::Nothing, Expected::At);
    match key {
        "l" if slot.state == State::Running => Expected::Lease,
        "l" => Expected::Nothing,
        "c" => at(slot.cancel_deadline().filter(|_| slot.state == State::Running)),
        "x" => at(slot.waiting_expiry()),
        "y" => at(slot.state.is_terminal().then(|| slot.until.get())),
        // A place in line. Jobs from before the queue kept jobs apart have none.
        key if key.starts_with("kz:") => match slot.state {
            State::Ready if key == listed(slot.queue, slot.level()) => Expected::Place,
            _ => Expected::Nothing,
        },
        key => match slot.state {
            State::Ready | State::Running => Expected::Nothing,
            state if key != by_time(slot.queue, state) => Expected::Nothing,
            state if state.is_terminal() => Expected::Any(slot.finish.get() * TIES),
            _ => Expected::Any(slot.ready.get() * TIES),
        },
    }
}

pub(super) fn maybe_score(value: &Value) -> Result<Option<i64>, StoreError> {
    if matches!(value, Value::Nil) { Ok(None) } else { value::score(value).map(Some) }
}

impl Look<'_> {
    /// Walks over all indexes and parts: what belongs to no job, or not to this one.
    pub(super) async fn entries(&mut self) -> Result<(), StoreError> {
        let mut indexes: Vec<String> = ["l", "c", "x", "y"].map(str::to_owned).into();
        indexes.extend(self.other_keys().await?);
        for key in indexes {
            let mut cursor = "0".to_owned();
            loop {
                let (next, found) = self.scan("ZSCAN", &key, &cursor).await?;
                let ids: Vec<JobId> =
                    found.chunks_exact(2).map(|pair| value::id(&pair[0])).collect::<Result<_, _>>()?;
                let slots = self.core.slots(self.shard, &ids).await?;
                for (id, slot) in ids.iter().zip(slots) {
                    // A wrong time was met with the records.
                    if expected(slot.as_ref(), &key) == Expected::Nothing {
                        self.entry(*id, &key).await?;
                    }
                }
                cursor = next;
                if cursor == "0" {
                    break;
                }
            }
        }
        for (key, what) in PARTS {
            // Bodies are the bulk of a store: not read when there are as many as records.
            let same = async || {
                let records = self.core.count(self.shard, "HLEN", "m").await?;
                Ok::<_, StoreError>(records == self.core.count(self.shard, "HLEN", "j").await?)
            };
            if key == "j" && !self.bodies_lacking && same().await? {
                continue;
            }
            let mut cursor = "0".to_owned();
            loop {
                let (next, found) = self.scan("HSCAN", key, &cursor).await?;
                let fields: Vec<&Value> = found.chunks_exact(2).map(|pair| &pair[0]).collect();
                let ids: Vec<JobId> = fields.iter().map(|field| value::id(field)).collect::<Result<_, _>>()?;
                let records = self.core.raw(self.shard, &ids).await?;
                for ((id, field), _) in ids.iter().zip(fields).zip(records).filter(|(_, record)| record.is_none()) {
                    self.orphan(*id, key, &value::bytes(field)?, what).await?;
                }
                cursor = next;
                if cursor == "0" {
                    break;
                }
            }
        }
        Ok(())
    }

    /// The lists by time that there are, of whatever queue; logs of no job are dealt with on the way.
    async fn other_keys(&mut self) -> Result<Vec<String>, StoreError> {
        let prefix = format!("{}:", self.core.layout.tag(self.shard)).into_bytes();
        let mut lists = Vec::new();
        let mut cursor = "0".to_owned();
        loop {
            let mut pipe = redis::Pipeline::new();
            let pattern = format!("{}:[gks]*:*", self.core.layout.tag(self.shard));
            pipe.cmd("SCAN").arg(&cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(PAGE * 4);
            let (next, found) = scanned(&self.core.run(self.shard, pipe).await?[0])?;
            let mut logs = Vec::new();
            for key in &found {
                let key = value::bytes(key)?;
                match key.strip_prefix(prefix.as_slice()) {
                    Some([b'g', b':', id @ ..]) => {
                        logs.extend(<[u8; 16]>::try_from(id).ok().map(JobId::from_bytes));
                    }
                    Some(name) if name.starts_with(b"s:") || name.starts_with(b"kz:") => {
                        lists.extend(String::from_utf8(name.to_vec()));
                    }
                    _ => {}
                }
            }
            let records = self.core.raw(self.shard, &logs).await?;
            for (id, _) in logs.iter().zip(records).filter(|(_, record)| record.is_none()) {
                self.lost_log(*id).await?;
            }
            cursor = next;
            if cursor == "0" {
                lists.sort_unstable();
                lists.dedup();
                return Ok(lists);
            }
        }
    }

    /// A suspicion: what the index says of the job.
    pub(super) async fn entry(&mut self, id: JobId, key: &str) -> Result<(), StoreError> {
        let full = self.key(key);
        let looked = self.look(id, |pipe| _ = pipe.cmd("ZSCORE").arg(&full).arg(id.as_bytes())).await?;
        let Some((record, slot, score)) = looked else { return Ok(()) };
        let (expected, score) = (expected(slot.as_ref(), key), maybe_score(&score)?);
        if expected.agrees(score) {
            return Ok(());
        }
        let list = self.called(key);
        let state = slot.as_ref().map_or("not there", |slot| slot.state.name());
        let what = match (expected, score) {
            (Expected::Nothing, _) => format!("{list} has {id}, which is {state}"),
            (Expected::Lease, _) => format!("{id} is RUNNING without a lease that could run out"),
            (_, None) => format!("{id} is {state} and not in {list}"),
            (_, Some(_)) => format!("{id} stands in {list} at a wrong time"),
        };
        if !self.mends() {
            self.found(what, None);
            return Ok(());
        }
        let id_bytes = id.as_bytes().as_slice();
        let (command, done): (Vec<Vec<u8>>, String) = match expected {
            Expected::Nothing => (vec![b"ZREM".into(), key.into(), id_bytes.into()], "the entry was removed".into()),
            Expected::Lease => {
                let until = self.core.clock.now().mono_ms + self.mend.lease_ms;
                let lease = format!("it got a lease of {} s", self.mend.lease_ms / 1_000);
                (vec![b"ZADD".into(), key.into(), b"NX".into(), until.to_string().into(), id_bytes.into()], lease)
            }
            Expected::Place => return Ok(()),
            Expected::At(score) | Expected::Any(score) => {
                let done = "the entry was set".to_owned();
                (vec![b"ZADD".into(), key.into(), score.to_string().into(), id_bytes.into()], done)
            }
        };
        let mended = self.mend(id, &record, &[command], done).await?;
        self.found(what, Some(mended));
        Ok(())
    }

    /// A suspicion: a part of a job that is not there.
    async fn orphan(&mut self, id: JobId, key: &str, field: &[u8], what: &str) -> Result<(), StoreError> {
        let full = self.key(key);
        let looked = self.look(id, |pipe| _ = pipe.cmd("HEXISTS").arg(&full).arg(field)).await?;
        let Some((record, None, there)) = looked else { return Ok(()) };
        if value::int(&there)? == 0 {
            return Ok(());
        }
        let what = format!("there is {what} of {id}, which is not there");
        let commands = [vec![b"HDEL".to_vec(), key.into(), field.into()]];
        let mended = self.mend(id, &record, &commands, "it was removed".to_owned()).await?;
        self.found(what, Some(mended));
        Ok(())
    }

    async fn lost_log(&mut self, id: JobId) -> Result<(), StoreError> {
        let mut name = b"g:".to_vec();
        name.extend_from_slice(id.as_bytes());
        let mut full = self.key("").into_bytes();
        full.extend_from_slice(&name);
        let looked = self.look(id, |pipe| _ = pipe.cmd("EXISTS").arg(&full)).await?;
        let Some((record, None, there)) = looked else { return Ok(()) };
        if value::int(&there)? == 0 {
            return Ok(());
        }
        let what = format!("there is a log of {id}, which is not there");
        let number = vec![b"HDEL".to_vec(), b"gn".to_vec(), id.as_bytes().to_vec()];
        let commands = [vec![b"DEL".to_vec(), name], number];
        let mended = self.mend(id, &record, &commands, "it was removed".to_owned()).await?;
        self.found(what, Some(mended));
        Ok(())
    }

    /// A suspicion: a job without its body.
    pub(super) async fn body(&mut self, id: JobId) -> Result<(), StoreError> {
        self.bodies_lacking = true;
        let full = self.key("j");
        let looked = self.look(id, |pipe| _ = pipe.cmd("HEXISTS").arg(&full).arg(id.as_bytes())).await?;
        let Some((_, Some(slot), there)) = looked else { return Ok(()) };
        if value::int(&there)? == 0 {
            let why =
                "what it was to do is lost: delete it with `jobwire job rm`, or it ends DEAD when it is handed out";
            self.found(format!("{id} is {} and has no body", slot.state.name()), Some(Err(why.to_owned())));
        }
        Ok(())
    }

    /// An index in words.
    fn called(&self, key: &str) -> String {
        let (queue, state) = match key.strip_prefix("s:").and_then(|rest| rest.split_once(':')) {
            Some((queue, state)) => (u32::from_str_radix(queue, 16).ok(), state.parse::<usize>().ok()),
            None => (None, None),
        };
        let state = state.and_then(|number| State::ALL.into_iter().find(|state| *state as usize == number));
        match (key, queue, state) {
            ("l", ..) => "the index of leases".to_owned(),
            ("c", ..) => "the index of cancels".to_owned(),
            ("x", ..) => "the index of expiries".to_owned(),
            ("y", ..) => "the index of trims".to_owned(),
            (_, Some(queue), Some(state)) => format!("the list {} of queue {}", state.name(), self.queue(queue)),
            _ => format!("the index {key}"),
        }
    }
}
