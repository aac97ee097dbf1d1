//! Holds the tables against each other: what `recount` finds on the disk.
use rusqlite::Connection;

use super::schema::{self, TABLES, has_subs, open_job, open_named, sql};
use crate::store::memory::write::Table;

/// Findings of one kind that are listed one by one.
const LISTED: usize = 10;

/// Reads every record. `jobs` = how many there should be.
pub(crate) fn verify(conn: &Connection, jobs: u64) -> rusqlite::Result<Vec<String>> {
    let mut found = Vec::new();
    let rows: i64 = conn.query_row("SELECT count(*) FROM meta", [], |row| row.get(0))?;
    if rows as u64 != jobs {
        found.push(format!("table meta has {rows} rows, the machine {jobs} jobs"));
    }
    let sealed: i64 = conn.query_row("SELECT jobs FROM seal WHERE id = 1", [], |row| row.get(0))?;
    if sealed != rows {
        found.push(format!("table meta has {rows} rows, the seal says {sealed}"));
    }
    list(conn, &mut found, "meta", "without a body", "SELECT row FROM meta WHERE row NOT IN (SELECT row FROM body)")?;
    for table in &TABLES[1..] {
        let name = sql(*table).name;
        let query = format!("SELECT DISTINCT row FROM {name} WHERE row NOT IN (SELECT row FROM meta)");
        list(conn, &mut found, name, "without a job", &query)?;
    }
    for table in TABLES {
        checksums(conn, &mut found, table)?;
    }
    let mut statement = conn.prepare("SELECT name, value FROM named")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let name = row.get_ref(0)?.as_str()?;
        if open_named(row.get_ref(1)?.as_blob()?, name).is_none() {
            found.push(format!("table named, row {name}: the checksum does not match"));
        }
    }
    Ok(found)
}

fn list(conn: &Connection, found: &mut Vec<String>, table: &str, what: &str, query: &str) -> rusqlite::Result<()> {
    let mut statement = conn.prepare(query)?;
    let rows = statement.query_map([], |row| row.get::<_, i64>(0))?.collect::<Result<Vec<_>, _>>()?;
    found.extend(rows.iter().take(LISTED).map(|row| format!("table {table}, row {row}: {what}")));
    if rows.len() > LISTED {
        found.push(format!("table {table}: {} more {what}", rows.len() - LISTED));
    }
    Ok(())
}

fn checksums(conn: &Connection, found: &mut Vec<String>, table: Table) -> rusqlite::Result<()> {
    let name = schema::sql(table).name;
    let sub = if has_subs(table) { "sub" } else { "0" };
    let mut statement = conn.prepare(&format!("SELECT row, {sub}, value FROM {name}"))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (number, sub) = (row.get::<_, i64>(0)?, row.get::<_, i64>(1)?);
        if open_job(row.get_ref(2)?.as_blob()?, table, number as u64, sub as u64).is_none() {
            found.push(format!("table {name}, row {number}: the checksum does not match"));
        }
    }
    Ok(())
}
