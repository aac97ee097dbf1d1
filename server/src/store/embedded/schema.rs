//! What the database looks like, and the checksums of its values.
//!
//! Tables follow the kinds of record. A job's record and its body are apart, so that a change of state never rewrites a
//! payload; rows are keyed by the order of their puts, so that new ones are appended. Each value ends in a CRC32C over
//! its table, its key and its bytes: SQLite has checksums in its write-ahead log, but none in its pages.
use crate::store::memory::write::Table;

/// "JWDB", in the header of every database of this server.
pub(crate) const APPLICATION: i32 = i32::from_be_bytes(*b"JWDB");
/// Raised with every change of the tables or of what their values mean. A newer one is refused.
pub(crate) const FORMAT: i32 = 1;

/// `seal` has one row, rewritten by every commit: its number, how many jobs and named records there are, and the sum of
/// a hash of all their keys. A page that lost some of its rows is found out at the start.
pub(crate) const CREATE: &str = "
    CREATE TABLE seal(id INTEGER PRIMARY KEY, seq INTEGER NOT NULL, jobs INTEGER NOT NULL, named INTEGER NOT NULL,
        sum INTEGER NOT NULL);
    CREATE TABLE meta(row INTEGER PRIMARY KEY, value BLOB NOT NULL);
    CREATE TABLE body(row INTEGER PRIMARY KEY, value BLOB NOT NULL);
    CREATE TABLE outcome(row INTEGER PRIMARY KEY, value BLOB NOT NULL);
    CREATE TABLE progress(row INTEGER PRIMARY KEY, value BLOB NOT NULL);
    CREATE TABLE checkpoint(row INTEGER PRIMARY KEY, value BLOB NOT NULL);
    CREATE TABLE attempt(row INTEGER, sub INTEGER, value BLOB NOT NULL, PRIMARY KEY(row, sub)) WITHOUT ROWID;
    CREATE TABLE log(row INTEGER, sub INTEGER, value BLOB NOT NULL, PRIMARY KEY(row, sub)) WITHOUT ROWID;
    CREATE TABLE named(name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
    INSERT INTO seal VALUES(1, 0, 0, 0, 0);
";

/// The statements of one table of job records.
pub(crate) struct Sql {
    pub name: &'static str,
    pub set: &'static str,
    pub remove: &'static str,
    /// Every record of a job.
    pub forget: &'static str,
    pub get: &'static str,
}

macro_rules! single {
    ($name:literal) => {
        Sql {
            name: $name,
            set: concat!("INSERT OR REPLACE INTO ", $name, " VALUES(?1, ?2)"),
            remove: concat!("DELETE FROM ", $name, " WHERE row = ?1"),
            forget: concat!("DELETE FROM ", $name, " WHERE row = ?1"),
            get: concat!("SELECT value FROM ", $name, " WHERE row = ?1"),
        }
    };
}

macro_rules! many {
    ($name:literal) => {
        Sql {
            name: $name,
            set: concat!("INSERT OR REPLACE INTO ", $name, " VALUES(?1, ?2, ?3)"),
            remove: concat!("DELETE FROM ", $name, " WHERE row = ?1 AND sub = ?2"),
            forget: concat!("DELETE FROM ", $name, " WHERE row = ?1"),
            get: concat!("SELECT value FROM ", $name, " WHERE row = ?1 AND sub = ?2"),
        }
    };
}

pub(crate) const TABLES: [Table; 7] =
    [Table::Meta, Table::Body, Table::Outcome, Table::Attempt, Table::Progress, Table::Checkpoint, Table::Log];

/// In the order of `Table`.
const SQL: [Sql; 7] = [
    single!("meta"),
    single!("body"),
    single!("outcome"),
    many!("attempt"),
    single!("progress"),
    single!("checkpoint"),
    many!("log"),
];

pub(crate) fn sql(table: Table) -> &'static Sql {
    &SQL[table as usize]
}

/// Whether a job can have several records in this table.
pub(crate) fn has_subs(table: Table) -> bool {
    matches!(table, Table::Attempt | Table::Log)
}

fn job_sum(table: Table, row: u64, sub: u64, value: &[u8]) -> u32 {
    let mut key = [0; 17];
    key[0] = table as u8;
    key[1..9].copy_from_slice(&row.to_le_bytes());
    key[9..].copy_from_slice(&sub.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c(&key), value)
}

fn named_sum(name: &str, value: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(name.as_bytes()), value)
}

/// Fills `out` with what is stored for `value`.
pub(crate) fn seal_job(out: &mut Vec<u8>, table: Table, row: u64, sub: u64, value: &[u8]) {
    out.clear();
    out.extend_from_slice(value);
    out.extend_from_slice(&job_sum(table, row, sub, value).to_le_bytes());
}

pub(crate) fn seal_named(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.clear();
    out.extend_from_slice(value);
    out.extend_from_slice(&named_sum(name, value).to_le_bytes());
}

/// The value within what is stored; `None` when the checksum does not match.
pub(crate) fn open_job(stored: &[u8], table: Table, row: u64, sub: u64) -> Option<&[u8]> {
    let (value, sum) = stored.split_last_chunk::<4>()?;
    (job_sum(table, row, sub, value).to_le_bytes() == *sum).then_some(value)
}

pub(crate) fn open_named<'a>(stored: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let (value, sum) = stored.split_last_chunk::<4>()?;
    (named_sum(name, value).to_le_bytes() == *sum).then_some(value)
}

/// A row's part of the seal's sum (splitmix64's finish: near rows give far numbers).
pub(crate) fn row_hash(row: u64) -> u64 {
    let mut x = row.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The same for a named record: two checksums, of the name from either end.
pub(crate) fn name_hash(name: &str) -> u64 {
    let forwards = u64::from(crc32c::crc32c(name.as_bytes()));
    let backwards: Vec<u8> = name.bytes().rev().collect();
    row_hash(forwards << 32 | u64::from(crc32c::crc32c(&backwards)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_opens_only_in_its_own_place_and_unharmed() {
        let mut stored = Vec::new();
        seal_job(&mut stored, Table::Body, 5, 0, b"payload");
        assert_eq!(open_job(&stored, Table::Body, 5, 0), Some(&b"payload"[..]));
        assert_eq!(open_job(&stored, Table::Body, 6, 0), None);
        assert_eq!(open_job(&stored, Table::Meta, 5, 0), None);
        for bit in 0..stored.len() * 8 {
            stored[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open_job(&stored, Table::Body, 5, 0), None, "bit {bit}");
            stored[bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!(open_job(b"abc", Table::Body, 5, 0), None);
        seal_named(&mut stored, "queue/a", b"");
        assert_eq!(open_named(&stored, "queue/a"), Some(&b""[..]));
        assert_eq!(open_named(&stored, "queue/b"), None);
    }

    #[test]
    fn statements_stand_in_the_order_of_the_tables() {
        for (place, table) in TABLES.into_iter().enumerate() {
            assert_eq!(table as usize, place);
            assert_eq!(sql(table).name, format!("{table:?}").to_lowercase());
            assert_eq!(sql(table).set.contains("?3"), has_subs(table));
        }
    }
}
