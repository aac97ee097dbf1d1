//! Documents and log lines.
use bytes::Bytes;
use hashbrown::HashMap;
use redis::{Pipeline, Value};

use super::{
    Core,
    lanes::{CALL_BYTES, CALL_ITEMS},
    scripts::{DOC, LOG},
    value,
};
use crate::{
    model::{
        ids::{JobId, Shard},
        job::LogLine,
        op::{Doc, DocChange, Effect},
    },
    store::{Cas, StoreError},
};

impl Core {
    pub(super) async fn change_docs(&self, shard: Shard, changes: Vec<DocChange>) -> Result<Vec<Cas>, StoreError> {
        let mut answers = Vec::with_capacity(changes.len());
        let mut rest = changes;
        while !rest.is_empty() {
            let mut bytes = 0;
            // The first always fits.
            let most = rest.iter().take_while(|change| {
                let fits = bytes <= CALL_BYTES;
                bytes += size(change);
                fits
            });
            let later = rest.split_off(most.count().min(CALL_ITEMS));
            answers.extend(self.change_some(shard, rest).await?);
            rest = later;
        }
        Ok(answers)
    }

    async fn change_some(&self, shard: Shard, changes: Vec<DocChange>) -> Result<Vec<Cas>, StoreError> {
        let mut args = self.times();
        args.push(changes.len().to_string().into());
        let mut effects = false;
        for change in changes {
            args.push(change.key.into());
            args.push(change.expect.to_string().into());
            args.push(Bytes::from_static(if change.value.is_some() { b"w" } else { b"d" }));
            args.push(change.value.unwrap_or_default());
            args.push(if change.due_ms == 0 { Bytes::new() } else { change.due_ms.to_string().into() });
            args.push(change.effects.len().to_string().into());
            effects |= !change.effects.is_empty();
            args.extend(change.effects.iter().map(|effect| match effect {
                Effect::Put(job) => Bytes::from(postcard::to_stdvec(job).expect("plain data always encodes")),
            }));
        }
        let answers = self.eval(shard, &DOC, &args).await?;
        let answers = value::list(&answers)?.iter().map(answer).collect();
        if effects {
            self.relay(shard).await;
        }
        answers
    }

    pub(super) async fn docs(&self, shard: Shard, prefix: &str) -> Result<Vec<(String, Doc)>, StoreError> {
        let mut pipe = Pipeline::new();
        pipe.cmd("HGETALL").arg(self.layout.key(shard, "d"));
        pipe.cmd("ZRANGE").arg(self.layout.key(shard, "dt")).arg(0).arg(-1).arg("WITHSCORES");
        let answers = self.run(shard, pipe).await?;
        let mut times: HashMap<String, i64> = HashMap::new();
        for pair in value::list(&answers[1])?.chunks_exact(2) {
            times.insert(value::text(&pair[0])?, value::score(&pair[1])?);
        }
        let mut docs = Vec::new();
        for (key, doc) in pairs(&answers[0])? {
            let key = value::text(key)?;
            if key.starts_with(prefix) {
                let due_ms = times.get(&key).copied().unwrap_or_default();
                docs.extend(read(&value::bytes(doc)?, due_ms).map(|doc| (key, doc)));
            }
        }
        docs.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(docs)
    }

    pub(super) async fn log(&self, id: JobId, lines: Vec<LogLine>, keep: usize) -> Result<(), StoreError> {
        if lines.is_empty() || !self.has(id) {
            return Ok(());
        }
        let mut args = self.times();
        args.push(Bytes::copy_from_slice(id.as_bytes()));
        args.push(keep.max(1).to_string().into());
        args.extend(
            lines.iter().map(|line| Bytes::from(postcard::to_stdvec(line).expect("plain data always encodes"))),
        );
        self.eval(id.shard(), &LOG, &args).await.map(drop)
    }

    /// Lines have no number in the list: the last one's is the number of lines there ever were.
    pub(super) async fn read_log(
        &self,
        id: JobId,
        after: u64,
        min_level: u8,
        limit: usize,
    ) -> Result<Vec<LogLine>, StoreError> {
        if !self.has(id) {
            return Ok(Vec::new());
        }
        let mut key = self.layout.key(id.shard(), "g:").into_bytes();
        key.extend_from_slice(id.as_bytes());
        let (total, lines) = loop {
            let mut pipe = Pipeline::new();
            let counter = self.layout.key(id.shard(), "gn");
            pipe.cmd("HGET").arg(&counter).arg(id.as_bytes());
            pipe.cmd("LRANGE").arg(&key).arg(0).arg(-1);
            pipe.cmd("HGET").arg(&counter).arg(id.as_bytes());
            let answers = self.run(id.shard(), pipe).await?;
            if answers[0] == answers[2] {
                break (value::int(&answers[0])? as u64, value::list(&answers[1])?.to_vec());
            }
        };
        let first = (total + 1).saturating_sub(lines.len() as u64);
        let mut found = Vec::new();
        for (index, line) in (first..).zip(&lines) {
            if found.len() == limit {
                break;
            }
            if index > after
                && let Ok(line) = postcard::from_bytes::<LogLine>(&value::bytes(line)?)
                && line.level >= min_level
            {
                found.push(LogLine { index, ..line });
            }
        }
        Ok(found)
    }
}

/// What became of one document.
fn answer(value: &Value) -> Result<Cas, StoreError> {
    match value::list(value)? {
        [Value::Int(1), version] => Ok(Cas::Done { version: value::int(version)? as u64 }),
        [Value::Int(0), there, due] => {
            let (there, due) = (value::bytes(there)?, value::bytes(due)?);
            let due_ms = if due.is_empty() { 0 } else { value::score(&Value::BulkString(due.to_vec()))? };
            Ok(Cas::Conflict(read(&there, due_ms)))
        }
        _ => Err(value::unexpected(value)),
    }
}

fn size(change: &DocChange) -> usize {
    let job = |effect: &Effect| match effect {
        Effect::Put(job) => job.body.len() + 160,
    };
    change.value.as_ref().map_or(0, Bytes::len) + change.effects.iter().map(job).sum::<usize>()
}

/// Version, 6 bytes, and value.
pub(super) fn read(bytes: &Bytes, due_ms: i64) -> Option<Doc> {
    let b = bytes.get(..6)?;
    let version = u64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], 0, 0]);
    Some(Doc { version, due_ms, value: bytes.slice(6..) })
}

/// As [`read`] has it.
pub(super) fn write(doc: &Doc) -> Vec<u8> {
    let mut value = doc.version.to_le_bytes()[..6].to_vec();
    value.extend_from_slice(&doc.value);
    value
}

/// Fields and values of a hash, in whichever shape they come.
pub(super) fn pairs(value: &Value) -> Result<Vec<(&Value, &Value)>, StoreError> {
    match value {
        Value::Map(pairs) => Ok(pairs.iter().map(|(key, value)| (key, value)).collect()),
        value => Ok(value::list(value)?.chunks_exact(2).map(|pair| (&pair[0], &pair[1])).collect()),
    }
}
