//! Documents and log lines.
use bytes::Bytes;
use redis::{Pipeline, Value};

use super::{
    Core,
    scripts::{DOC, LOG},
    value,
};
use crate::{
    model::{
        ids::{JobId, Shard},
        job::LogLine,
    },
    store::{Cas, Doc, StoreError},
};

impl Core {
    pub(super) async fn doc(
        &self,
        shard: Shard,
        key: String,
        expect: u64,
        new: Option<Bytes>,
    ) -> Result<Cas, StoreError> {
        let mut args = self.times();
        args.push(key.into());
        args.push(expect.to_string().into());
        args.push(Bytes::from_static(if new.is_some() { b"w" } else { b"d" }));
        args.push(new.unwrap_or_default());
        let parts = self.eval_parts(shard, &DOC, &args).await?;
        match &parts[..] {
            [Value::Int(1), version] => Ok(Cas::Done { version: value::int(version)? as u64 }),
            [Value::Int(0)] => Ok(Cas::Conflict(None)),
            [Value::Int(0), there] => Ok(Cas::Conflict(value::maybe(there)?.and_then(|bytes| read(&bytes)))),
            _ => Err(value::unexpected(&Value::Array(parts))),
        }
    }

    pub(super) async fn docs(&self, shard: Shard, prefix: &str) -> Result<Vec<(String, Doc)>, StoreError> {
        let mut pipe = Pipeline::new();
        pipe.cmd("HGETALL").arg(self.layout.key(shard, "d"));
        let answers = self.run(shard, pipe).await?;
        let mut docs = Vec::new();
        for (key, doc) in pairs(&answers[0])? {
            let key = value::text(key)?;
            if key.starts_with(prefix) {
                docs.extend(read(&value::bytes(doc)?).map(|doc| (key, doc)));
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

/// Version, 6 bytes, and value.
fn read(bytes: &Bytes) -> Option<Doc> {
    let b = bytes.get(..6)?;
    let version = u64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], 0, 0]);
    Some(Doc { version, value: bytes.slice(6..) })
}

/// Fields and values of a hash, in whichever shape they come.
pub(super) fn pairs(value: &Value) -> Result<Vec<(&Value, &Value)>, StoreError> {
    match value {
        Value::Map(pairs) => Ok(pairs.iter().map(|(key, value)| (key, value)).collect()),
        value => Ok(value::list(value)?.chunks_exact(2).map(|pair| (&pair[0], &pair[1])).collect()),
    }
}
