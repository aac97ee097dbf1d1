//! Documents and log lines: what the machine only numbers and hands on.
use super::{
    codec::{named, write_doc},
    machine::Machine,
    write::{Key, Output, Table, Write},
};
use crate::store::slot::flag;
use crate::{
    model::{
        ids::JobId,
        job::LogLine,
        op::{Doc, DocChange, Effect},
        time::Now,
    },
    store::Cas,
};

impl Machine {
    /// Writes or deletes documents, each if its version is the expected one, and puts the jobs that go with it. One answer
    /// per change, in order. A version is never used again for its key.
    pub fn change_docs(&mut self, now: Now, changes: Vec<DocChange>, out: &mut Output) -> Vec<Cas> {
        let answers = changes.into_iter().map(|change| self.change_doc(now, change, out)).collect();
        self.finish_call(now, out);
        answers
    }

    fn change_doc(&mut self, now: Now, change: DocChange, out: &mut Output) -> Cas {
        let DocChange { key, expect, value, due_ms, effects } = change;
        let there = self.docs.get(&key);
        let version = there.map_or(0, |doc| doc.version);
        if version != expect {
            return Cas::Conflict(there.cloned());
        }
        let written = match value {
            Some(value) => {
                let version = if version == 0 { self.doc_floor + 1 } else { version + 1 };
                self.keep_doc(key, Doc { version, due_ms, value }, out);
                version
            }
            None => {
                if let Some(gone) = self.docs.remove(&key) {
                    out.writes.push(Write::Remove(Key::Named(format!("{}{key}", named::DOC))));
                    self.timers.docs.remove(&(gone.due_ms, key));
                    if version > self.doc_floor {
                        self.keep_doc_floor(version, out);
                    }
                }
                0
            }
        };
        for effect in effects {
            match effect {
                Effect::Put(job) => drop(self.put_one(now, job, out)),
            }
        }
        Cas::Done { version: written }
    }

    /// A document as it is, version and all.
    pub(super) fn keep_doc(&mut self, key: String, doc: Doc, out: &mut Output) {
        out.writes.push(Write::Set(Key::Named(format!("{}{key}", named::DOC)), write_doc(&doc)));
        self.enter_doc(key, doc);
    }

    pub(super) fn enter_doc(&mut self, key: String, doc: Doc) {
        let due_ms = doc.due_ms;
        if due_ms != 0 {
            self.timers.docs.insert((due_ms, key.clone()));
            self.timers.note_wall(due_ms);
        }
        if let Some(before) = self.docs.insert(key.clone(), doc)
            && before.due_ms != due_ms
        {
            self.timers.docs.remove(&(before.due_ms, key));
        }
    }

    /// New documents start above this version.
    pub(super) fn keep_doc_floor(&mut self, version: u64, out: &mut Output) {
        self.doc_floor = version;
        let floor = Doc { version, due_ms: 0, value: bytes::Bytes::new() };
        out.writes.push(Write::Set(Key::Named(named::DOC_VERSION.to_owned()), write_doc(&floor)));
    }

    /// Documents whose key starts with `prefix`, by key.
    pub fn docs(&self, prefix: &str) -> Vec<(String, Doc)> {
        self.docs
            .range(prefix.to_owned()..)
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, doc)| (key.clone(), doc.clone()))
            .collect()
    }

    /// Numbers lines and has them kept, the newest `keep` of all (at least 1). False when the job is not there.
    pub fn log(&mut self, id: JobId, lines: Vec<LogLine>, keep: usize, out: &mut Output) -> bool {
        let Some(at) = self.ids.find(&self.slab, id) else { return false };
        if lines.is_empty() {
            return true;
        }
        let keep = keep.max(1) as u64;
        let slot = &mut self.slab[at];
        slot.set(flag::LOG, true);
        let row = slot.row.get() as u64;
        let extra = slot.extra_mut();
        let next = extra.log_next.max(1);
        let end = next + lines.len() as u64;
        let old = extra.log_first.max(1);
        let first = old.max(end.saturating_sub(keep));
        extra.log_first = first;
        extra.log_next = end;
        let key = |sub| Key::Job { table: Table::Log, row, sub };
        for (index, line) in (next..).zip(lines) {
            if index >= first {
                let line = LogLine { index, ..line };
                out.writes.push(Write::Set(key(index), self.encoder.side(&line)));
            }
        }
        out.writes.extend((old..first.min(next)).map(|index| Write::Remove(key(index))));
        true
    }

    /// Where a job's log is: its row, the first index kept and the one that comes next. `None` = no job, or no line.
    pub fn log_range(&self, id: JobId) -> Option<(u64, u64, u64)> {
        let slot = &self.slab[self.ids.find(&self.slab, id)?];
        let extra = slot.extra.as_ref().filter(|extra| extra.log_next > 0)?;
        Some((slot.row.get() as u64, extra.log_first, extra.log_next))
    }
}
