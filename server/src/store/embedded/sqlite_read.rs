//! Reading side records from other threads than the writer's: a few read-only connections, made when they are needed.
use std::{path::PathBuf, sync::atomic::AtomicBool, sync::atomic::Ordering::Relaxed};

use bytes::Bytes;
use parking_lot::Mutex;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, params};

use super::{
    record_log::{ReadError, SideKey, SideSource},
    schema::{has_subs, open_job, sql},
};

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
        let trouble = |error: rusqlite::Error| {
            let text = format!("{}: {error}", self.path.display());
            match error.sqlite_error_code() {
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => ReadError::Damaged(text),
                _ => ReadError::Failed(text),
            }
        };
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

    fn one(&self, conn: &Connection, key: SideKey) -> rusqlite::Result<Result<Option<Bytes>, ReadError>> {
        let (table, row, sub) = key;
        let mut statement = conn.prepare_cached(sql(table).get)?;
        let value = |found: &rusqlite::Row<'_>| {
            let stored = found.get_ref(0)?.as_blob()?;
            Ok(open_job(stored, table, row, sub).map(Bytes::copy_from_slice))
        };
        let stored = if has_subs(table) {
            statement.query_row(params![row as i64, sub as i64], value)
        } else {
            statement.query_row(params![row as i64], value)
        };
        Ok(match stored.optional()? {
            None => Ok(None),
            Some(Some(value)) => Ok(Some(value)),
            Some(None) => Err(ReadError::Damaged(format!(
                "{}, table {}, row {row}: the checksum does not match",
                self.path.display(),
                sql(table).name
            ))),
        })
    }
}

impl SideSource for Reader {
    fn read(&self, keys: &[SideKey]) -> Vec<Result<Option<Bytes>, ReadError>> {
        let whole = self.with(|conn| {
            // One transaction: the locks are taken once, not once a record.
            let transaction = conn.unchecked_transaction()?;
            let answers = keys.iter().map(|key| self.one(conn, *key)).collect::<Result<_, _>>();
            transaction.finish()?;
            answers
        });
        match whole {
            Ok(answers) => answers,
            // A damaged page spoils a reading of many: look at each alone, so that only what is on it is lost.
            Err(_) if keys.len() > 1 => keys.iter().flat_map(|key| self.read(std::slice::from_ref(key))).collect(),
            Err(error) => vec![Err(error)],
        }
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
