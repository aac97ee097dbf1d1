//! The log on SQLite: write-ahead log, one transaction per group, prepared statements.
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use hashbrown::HashSet;
use rusqlite::{CachedStatement, Connection, OpenFlags, config::DbConfig, params};

use super::{
    changes::{Changes, JobChange},
    mark::{self, Mark},
    record_log::{CommitError, Found, Loaded, RecordLog, Safety, SideSource},
    schema::{self, has_subs, name_hash, row_hash, seal_job, seal_named, sql},
    sqlite_open::{is_no_space, prepare, unreadable},
    sqlite_read::Reader,
};
use crate::store::{
    StoreError,
    memory::write::{Key, Table},
};

/// The database's file in the data directory.
pub(crate) const FILE: &str = "jobwire.db";
/// Pages of write-ahead log after which they are moved into the database: 8 MiB, which takes about 5 ms. A larger log is
/// replayed for longer after a kill, a smaller one moves hot pages more often.
const TIDY_PAGES: i64 = 1024;
/// Pages given back to the file system in one go: 8 MiB.
const SHRINK_PAGES: i64 = 1024;

/// Owned by the one thread that writes.
pub(crate) struct SqliteLog {
    path: PathBuf,
    conn: Connection,
    mark: Mark,
    reader: Arc<Reader>,
    seal: Seal,
    /// Rows below are, or were, here; the others are new.
    next_row: u64,
    /// Hashes of the names that are here.
    names: HashSet<u64>,
    safety: Safety,
    scratch: Vec<u8>,
}

/// What the database says of itself, see [`schema::CREATE`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seal {
    seq: u64,
    jobs: u64,
    named: u64,
    sum: u64,
}

impl Seal {
    fn add(&mut self, hash: u64) {
        self.sum = self.sum.wrapping_add(hash);
    }

    fn take(&mut self, hash: u64) {
        self.sum = self.sum.wrapping_sub(hash);
    }
}

impl SqliteLog {
    /// Opens the database of `dir`, making it if there is none. The caller holds the directory's lock.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join(FILE);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let refused = |error: rusqlite::Error| unreadable(&path, "header", error);
        let conn = Connection::open_with_flags(&path, flags).map_err(refused)?;
        conn.set_prepared_statement_cache_capacity(64);
        prepare(&conn, &path)?;
        let mark = Mark::open(dir)
            .map_err(|error| StoreError::Refused(format!("{}: {error}", dir.join(mark::FILE).display())))?;
        let reader = Arc::new(Reader::new(path.clone()));
        let safety = Safety::PowerLoss;
        Ok(Self {
            path,
            conn,
            mark,
            reader,
            seal: Seal::default(),
            next_row: 0,
            names: HashSet::new(),
            safety,
            scratch: Vec::new(),
        })
    }

    fn set_safety(&mut self, safety: Safety) -> rusqlite::Result<()> {
        if self.safety != safety {
            self.conn.execute_batch(match safety {
                Safety::PowerLoss => "PRAGMA synchronous = FULL",
                Safety::Crash => "PRAGMA synchronous = NORMAL",
            })?;
            self.safety = safety;
        }
        Ok(())
    }

    /// Within a transaction: writes everything and the seal, and gives the seal that counts once it is committed.
    fn write(&mut self, changes: &Changes) -> rusqlite::Result<(Seal, u64)> {
        let (mut seal, mut next_row) = (self.seal, self.next_row);
        seal.seq += 1;
        for run in changes.jobs.chunk_by(|a, b| a.table == b.table) {
            let table = run[0].table;
            write_run(&self.conn, &mut self.scratch, table, run)?;
            if table == Table::Meta {
                for change in run.iter().filter(|change| change.row >= self.next_row) {
                    seal.jobs += 1;
                    seal.add(row_hash(change.row));
                    next_row = next_row.max(change.row + 1);
                }
            }
        }
        for (row, _) in changes.forget.iter().filter(|(row, _)| *row < self.next_row) {
            if self.conn.prepare_cached(sql(Table::Meta).forget)?.execute(params![*row as i64])? == 1 {
                seal.jobs -= 1;
                seal.take(row_hash(*row));
            }
        }
        self.forget_sides(changes)?;
        for (name, value) in &changes.named {
            let hash = name_hash(name);
            let known = self.names.contains(&hash);
            match value {
                Some(value) => {
                    seal_named(&mut self.scratch, name, value);
                    let mut set = self.conn.prepare_cached("INSERT OR REPLACE INTO named VALUES(?1, ?2)")?;
                    set.execute(params![name, self.scratch])?;
                    if !known {
                        seal.named += 1;
                        seal.add(hash);
                    }
                }
                None => {
                    self.conn.prepare_cached("DELETE FROM named WHERE name = ?1")?.execute(params![name])?;
                    if known {
                        seal.named -= 1;
                        seal.take(hash);
                    }
                }
            }
        }
        let Seal { seq, jobs, named, sum } = seal;
        self.conn
            .prepare_cached("UPDATE seal SET seq = ?1, jobs = ?2, named = ?3, sum = ?4 WHERE id = 1")?
            .execute([seq, jobs, named, sum].map(|number| number as i64))?;
        Ok((seal, next_row))
    }

    fn forget_sides(&self, changes: &Changes) -> rusqlite::Result<()> {
        for table in &schema::TABLES[1..] {
            let mut statement = None::<CachedStatement<'_>>;
            for (row, sides) in changes.forget.iter().filter(|(row, _)| *row < self.next_row) {
                let there = match table {
                    Table::Meta | Table::Body => true,
                    Table::Outcome => sides.outcome,
                    Table::Attempt => sides.attempts,
                    Table::Progress => sides.progress,
                    Table::Checkpoint => sides.checkpoint,
                    Table::Log => sides.log,
                };
                if there {
                    if statement.is_none() {
                        statement = Some(self.conn.prepare_cached(sql(*table).forget)?);
                    }
                    statement.as_mut().expect("just prepared").execute(params![*row as i64])?;
                }
            }
        }
        Ok(())
    }

    fn transact(&mut self, changes: &Changes, safety: Safety) -> rusqlite::Result<()> {
        self.set_safety(safety)?;
        self.conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let (seal, next_row) = self.write(changes)?;
        self.conn.prepare_cached("COMMIT")?.execute([])?;
        (self.seal, self.next_row) = (seal, next_row);
        for (name, value) in &changes.named {
            let hash = name_hash(name);
            if value.is_some() {
                self.names.insert(hash)
            } else {
                self.names.remove(&hash)
            };
        }
        Ok(())
    }

    /// What an error of a commit means, after whatever is left of its transaction has been undone.
    fn failed(&self, error: rusqlite::Error) -> CommitError {
        if !self.conn.is_autocommit()
            && let Err(second) = self.conn.execute_batch("ROLLBACK")
        {
            return CommitError::Fatal(format!("{}: {error}; undoing it: {second}", self.path.display()));
        }
        let text = format!("{}: {error}", self.path.display());
        if is_no_space(&error) { CommitError::NoSpace(text) } else { CommitError::Fatal(text) }
    }

    /// Makes the disk look full at this many pages.
    #[cfg(test)]
    pub fn limit_pages(&self, pages: Option<i64>) {
        let most = pages.unwrap_or(i64::from(u32::MAX - 1));
        self.conn.query_row(&format!("PRAGMA max_page_count = {most}"), [], |_| Ok(())).expect("a pragma");
    }

    /// Moves the write-ahead log into the database if it has at least so many pages.
    fn checkpoint(&self, least: i64) -> rusqlite::Result<()> {
        if self.wal_pages()? >= least {
            self.conn.prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")?.query_row([], |_| Ok(()))?;
        }
        Ok(())
    }

    /// Cuts free pages off the database, and the write-ahead log to nothing.
    fn give_back(&self) -> rusqlite::Result<()> {
        // First what is in the log: with that in the database, the log's own file can be written over.
        self.checkpoint(1)?;
        let free: i64 = self.conn.prepare_cached("PRAGMA freelist_count")?.query_row([], |row| row.get(0))?;
        if free > 0 {
            let mut statement = self.conn.prepare(&format!("PRAGMA incremental_vacuum({SHRINK_PAGES})"))?;
            let mut rows = statement.query([])?;
            while rows.next()?.is_some() {}
        }
        self.conn.prepare_cached("PRAGMA wal_checkpoint(TRUNCATE)")?.query_row([], |_| Ok(()))
    }

    /// Pages in the write-ahead log that the database does not have yet.
    fn wal_pages(&self) -> rusqlite::Result<i64> {
        self.conn
            .prepare_cached("PRAGMA wal_checkpoint(NOOP)")?
            .query_row([], |row| Ok(row.get::<_, i64>(1)? - row.get::<_, i64>(2)?))
    }
}

impl RecordLog for SqliteLog {
    fn load(&mut self, sink: &mut dyn FnMut(Found<'_>) -> Result<(), String>) -> Result<Loaded, StoreError> {
        let place = |table: &str, at: &dyn std::fmt::Display, what: &dyn std::fmt::Display| {
            StoreError::Damaged(format!("{}, table {table}, row {at}: {what}", self.path.display()))
        };
        let seal = self
            .conn
            .query_row("SELECT seq, jobs, named, sum FROM seal WHERE id = 1", [], |row| {
                let number = |column| row.get::<_, i64>(column).map(|number| number as u64);
                Ok(Seal { seq: number(0)?, jobs: number(1)?, named: number(2)?, sum: number(3)? })
            })
            .map_err(|error| unreadable(&self.path, "table seal", error))?;
        let acknowledged = self.mark.read();
        if acknowledged > seal.seq {
            return Err(StoreError::Damaged(format!(
                "{0} ends at commit {1}, but commit {acknowledged} was acknowledged: {0} or {0}-wal is missing, older or \
                 damaged. Put the newest files back; after restoring a backup on purpose, delete the file `{2}`",
                self.path.display(),
                seal.seq,
                mark::FILE,
            )));
        }
        let mut found = Seal { seq: seal.seq, ..Seal::default() };
        let mut next_row = 0;
        let mut names = HashSet::new();
        self.each("meta", "SELECT row, value FROM meta", |row| {
            let number = row.get::<_, i64>(0)? as u64;
            let stored = row.get_ref(1)?.as_blob()?;
            Ok((|| {
                let value = schema::open_job(stored, Table::Meta, number, 0)
                    .ok_or_else(|| place("meta", &number, &"the checksum does not match"))?;
                sink(Found::Record(Key::Job { table: Table::Meta, row: number, sub: 0 }, value))
                    .map_err(|what| place("meta", &number, &what))?;
                found.jobs += 1;
                found.add(row_hash(number));
                next_row = next_row.max(number + 1);
                Ok(())
            })())
        })?;
        self.each("named", "SELECT name, value FROM named", |row| {
            let name = row.get_ref(0)?.as_str()?;
            let stored = row.get_ref(1)?.as_blob()?;
            Ok((|| {
                let value = schema::open_named(stored, name)
                    .ok_or_else(|| place("named", &name, &"the checksum does not match"))?;
                sink(Found::Record(Key::Named(name.to_owned()), value)).map_err(|what| place("named", &name, &what))?;
                found.named += 1;
                found.add(name_hash(name));
                names.insert(name_hash(name));
                Ok(())
            })())
        })?;
        if found != seal {
            return Err(StoreError::Damaged(format!(
                "{}: {} jobs in table meta and {} records in table named were found where {} and {} were written",
                self.path.display(),
                found.jobs,
                found.named,
                seal.jobs,
                seal.named
            )));
        }
        self.each("log", "SELECT row, min(sub), max(sub) FROM log GROUP BY row", |row| {
            let [number, first, last] = [0, 1, 2].map(|column| row.get::<_, i64>(column));
            let (number, first, last) = (number? as u64, first? as u64, last? as u64);
            Ok(sink(Found::Log { row: number, first, last }).map_err(|what| place("log", &number, &what)))
        })?;
        (self.seal, self.next_row, self.names) = (seal, next_row, names);
        Ok(Loaded { seq: seal.seq, jobs: seal.jobs })
    }

    fn commit(&mut self, changes: &Changes, safety: Safety) -> Result<(), CommitError> {
        self.transact(changes, safety).map_err(|error| self.failed(error))?;
        if safety == Safety::PowerLoss {
            self.mark.write(self.seal.seq).map_err(|error| {
                let text = format!("{}: {error}", mark::FILE);
                CommitError::Fatal(text)
            })?;
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), CommitError> {
        self.commit(&Changes::default(), Safety::PowerLoss)
    }

    fn tidy(&mut self) -> Result<(), CommitError> {
        self.checkpoint(TIDY_PAGES).map_err(|error| self.failed(error))
    }

    fn shrink(&mut self) -> Result<(), CommitError> {
        self.give_back().map_err(|error| self.failed(error))
    }

    fn reader(&self) -> Arc<dyn SideSource> {
        self.reader.clone()
    }

    fn verify(&mut self, jobs: u64) -> Result<Vec<String>, CommitError> {
        super::sqlite_verify::verify(&self.conn, jobs)
            .map_err(|error| CommitError::Fatal(format!("{}: {error}", self.path.display())))
    }

    fn close(self: Box<Self>) -> Result<(), CommitError> {
        self.reader.close();
        let trouble = |error: rusqlite::Error| CommitError::Fatal(format!("{}: {error}", self.path.display()));
        self.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(trouble)?;
        self.conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).map_err(trouble)?;
        self.conn.close().map_err(|(_, error)| CommitError::Fatal(format!("{}: {error}", self.path.display())))
    }
}

impl SqliteLog {
    /// Runs through a query; what SQLite itself finds wrong names the table and how far the reading came.
    fn each(
        &self,
        table: &str,
        query: &str,
        mut one: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<Result<(), StoreError>>,
    ) -> Result<(), StoreError> {
        let mut read = 0u64;
        let mut run = || -> rusqlite::Result<Result<(), StoreError>> {
            let mut statement = self.conn.prepare(query)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                if let Err(error) = one(row)? {
                    return Ok(Err(error));
                }
                read += 1;
            }
            Ok(Ok(()))
        };
        run().unwrap_or_else(|error| Err(unreadable(&self.path, &format!("table {table}, after {read} rows"), error)))
    }
}

fn write_run(conn: &Connection, scratch: &mut Vec<u8>, table: Table, run: &[JobChange]) -> rusqlite::Result<()> {
    let subs = has_subs(table);
    if run.iter().any(|change| change.value.is_some()) {
        let mut set = conn.prepare_cached(sql(table).set)?;
        for change in run {
            if let Some(value) = &change.value {
                seal_job(scratch, table, change.row, change.sub, value);
                let (row, sub) = (change.row as i64, change.sub as i64);
                let value = scratch.as_slice();
                if subs {
                    set.execute(params![row, sub, value])?
                } else {
                    set.execute(params![row, value])?
                };
            }
        }
    }
    if run.iter().any(|change| change.value.is_none()) {
        let mut remove = conn.prepare_cached(sql(table).remove)?;
        for change in run.iter().filter(|change| change.value.is_none()) {
            let (row, sub) = (change.row as i64, change.sub as i64);
            if subs {
                remove.execute(params![row, sub])?
            } else {
                remove.execute(params![row])?
            };
        }
    }
    Ok(())
}
