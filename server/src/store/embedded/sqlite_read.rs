//! Reading side records from other threads than the writer's: a few read-only connections, made when they are needed.
use std::{path::PathBuf, sync::atomic::AtomicBool, sync::atomic::Ordering::Relaxed};

use bytes::Bytes;
use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};

use super::{
    record_log::{RangeRead, ReadError, SideReader},
    schema::{open_job, sql},
};
use crate::store::memory::write::Table;

/// Connections kept for the next reader; each has up to 2 MiB of page cache.
const IDLE: usize = 4;
const CACHE_KIB: i32 = 2 * 1024;

pub(crate) struct Reader {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    closed: AtomicBool,
}

impl Reader {
    pub fn new(path: PathBuf) -> Self {
        Self { path, idle: Mutex::new(Vec::new()), closed: AtomicBool::new(false) }
    }

    /// Lets go of the files, but for what is being read right now.
    pub fn close(&self) {
        self.closed.store(true, Relaxed);
        self.idle.lock().clear();
    }

    /// Lends a connection to `work`. One that saw an error is not used again.
    fn with<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, ReadError> {
        let trouble = |error: rusqlite::Error| ReadError::Failed(format!("{}: {error}", self.path.display()));
        let idle = self.idle.lock().pop();
        let conn = match idle {
            Some(conn) => conn,
            None => {
                let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
                let conn = Connection::open_with_flags(&self.path, flags).map_err(trouble)?;
                conn.execute_batch(&format!("PRAGMA cache_size = -{CACHE_KIB}; PRAGMA mmap_size = 0"))
                    .map_err(trouble)?;
                conn
            }
        };
        let answer = work(&conn).map_err(trouble)?;
        let mut idle = self.idle.lock();
        if idle.len() < IDLE && !self.closed.load(Relaxed) {
            idle.push(conn);
        }
        Ok(answer)
    }

    fn damaged(&self, table: Table, row: u64) -> String {
        format!("{}, table {}, row {row}: the checksum does not match", self.path.display(), sql(table).name)
    }

    fn one(&self, conn: &Connection, table: Table, row: u64) -> rusqlite::Result<Result<Option<Bytes>, ReadError>> {
        let mut statement = conn.prepare_cached(sql(table).get)?;
        let stored = statement
            .query_row(params![row as i64], |found| {
                let stored = found.get_ref(0)?.as_blob()?;
                Ok(open_job(stored, table, row, 0).map(Bytes::copy_from_slice))
            })
            .optional()?;
        Ok(match stored {
            None => Ok(None),
            Some(Some(value)) => Ok(Some(value)),
            Some(None) => Err(ReadError::Damaged(self.damaged(table, row))),
        })
    }
}

impl SideReader for Reader {
    fn read(&self, wanted: &[(Table, u64)]) -> Vec<Result<Option<Bytes>, ReadError>> {
        let whole = self.with(|conn| {
            // One transaction: the locks are taken once, not once a record.
            let transaction = conn.unchecked_transaction()?;
            let answers = wanted.iter().map(|(table, row)| self.one(conn, *table, *row)).collect::<Result<_, _>>();
            transaction.finish()?;
            answers
        });
        match whole {
            Ok(answers) => answers,
            // A damaged page spoils a reading of many: look at each alone, so that only what is on it is lost.
            Err(_) if wanted.len() > 1 => wanted.iter().flat_map(|one| self.read(std::slice::from_ref(one))).collect(),
            Err(error) => wanted.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    fn range(&self, table: Table, row: u64, from: u64, to: u64) -> Result<RangeRead, ReadError> {
        self.with(|conn| {
            let mut read = RangeRead::default();
            let mut statement = conn.prepare_cached(sql(table).get)?;
            let mut rows = statement.query(params![row as i64, from as i64, to.min(i64::MAX as u64) as i64])?;
            while let Some(found) = rows.next()? {
                let sub = found.get::<_, i64>(0)? as u64;
                match open_job(found.get_ref(1)?.as_blob()?, table, row, sub) {
                    Some(value) => read.records.push((sub, Bytes::copy_from_slice(value))),
                    None => read.damaged.push(self.damaged(table, row)),
                }
            }
            Ok(read)
        })
    }

    fn bytes(&self) -> u64 {
        let size = |suffix: &str| {
            let mut path = self.path.clone().into_os_string();
            path.push(suffix);
            std::fs::metadata(path).map_or(0, |file| file.len())
        };
        size("") + size("-wal")
    }
}
