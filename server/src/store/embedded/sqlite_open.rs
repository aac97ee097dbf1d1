//! Opening the database: whose it is, how its connection works, and what its errors mean.
use std::path::Path;

use rusqlite::{Connection, ErrorCode, config::DbConfig};

use super::schema;
use crate::store::StoreError;

/// Bytes of a page. Larger ones cost more per small commit, smaller ones more per large group.
const PAGE_BYTES: u32 = 8192;
/// Page cache of the writing connection, KiB.
const CACHE_KIB: i32 = 16 * 1024;

/// Checks whose database it is, makes the tables of a new one and sets how this connection works.
pub(crate) fn prepare(conn: &Connection, path: &Path) -> Result<(), StoreError> {
    let refused = |error: rusqlite::Error| unreadable(path, "header", error);
    let number = |pragma: &str| conn.pragma_query_value(None, pragma, |row| row.get::<_, i32>(0)).map_err(refused);
    let (application, format) = (number("application_id")?, number("user_version")?);
    let tables: i64 = conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(refused)?;
    let is_new = tables == 0 && application == 0;
    if !is_new && application != schema::APPLICATION {
        return Err(StoreError::Refused(format!("{} is not a Jobwire database", path.display())));
    }
    if format > schema::FORMAT {
        return Err(StoreError::Refused(format!(
            "{} has format {format}, and this server reads up to {}: start a newer server",
            path.display(),
            schema::FORMAT
        )));
    }
    if is_new {
        // Incremental: pages can be given back to the file system.
        conn.execute_batch(&format!("PRAGMA page_size = {PAGE_BYTES}; PRAGMA auto_vacuum = INCREMENTAL"))
            .map_err(refused)?;
    }
    let mode: String = conn.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(refused)?;
    if mode != "wal" {
        return Err(StoreError::Refused(format!(
            "{}: no write-ahead log here (mode {mode}): choose a directory on a local disk",
            path.display()
        )));
    }
    // A connection that is dropped after a failed sync must not write what it believes to have.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(refused)?;
    conn.execute_batch(&format!(
        "PRAGMA synchronous = FULL; PRAGMA fullfsync = ON; PRAGMA checkpoint_fullfsync = ON;
         PRAGMA wal_autocheckpoint = 0; PRAGMA journal_size_limit = 268435456; PRAGMA cache_size = -{CACHE_KIB};
         PRAGMA mmap_size = 0; PRAGMA cell_size_check = ON; PRAGMA foreign_keys = OFF; PRAGMA temp_store = MEMORY;"
    ))
    .map_err(refused)?;
    if is_new {
        conn.execute_batch(&format!(
            "BEGIN IMMEDIATE; PRAGMA application_id = {}; PRAGMA user_version = {}; {} COMMIT;",
            schema::APPLICATION,
            schema::FORMAT,
            schema::CREATE
        ))
        .map_err(refused)?;
    }
    Ok(())
}

/// Whether there is no room. SQLite reports a shared-memory file that cannot grow as an I/O error of its own kind.
pub(crate) fn is_no_space(error: &rusqlite::Error) -> bool {
    let rusqlite::Error::SqliteFailure(failure, _) = error else { return false };
    failure.code == ErrorCode::DiskFull || failure.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE
}

/// A start that SQLite itself cannot go on with.
pub(crate) fn unreadable(path: &Path, place: &str, error: rusqlite::Error) -> StoreError {
    let text = format!("{}, {place}: {error}", path.display());
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::Damaged(text),
        None => StoreError::Damaged(text),
        Some(_) => StoreError::Refused(text),
    }
}
