//! The number of the last commit that was acknowledged, kept beside the database.
//!
//! SQLite takes a damaged place in its write-ahead log for the end of the log and forgets what follows in silence. The
//! mark turns that into a refusal to start: what was acknowledged must be there. It is written after a commit is safe
//! and is never synced itself, so after a power cut it may be older than the database, never newer.
use std::{
    fs::{File, OpenOptions},
    os::unix::fs::FileExt as _,
    path::Path,
};

/// File in the data directory: number (8 bytes, little endian), CRC32C of it (4).
pub(crate) const FILE: &str = "acknowledged";

#[derive(Debug)]
pub(crate) struct Mark {
    file: File,
}

impl Mark {
    pub fn open(dir: &Path) -> std::io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(dir.join(FILE))?;
        Ok(Self { file })
    }

    /// 0 when there is none, or it was torn by a power cut.
    pub fn read(&self) -> u64 {
        let mut bytes = [0; 12];
        if self.file.read_exact_at(&mut bytes, 0).is_err() {
            return 0;
        }
        let (number, sum) = bytes.split_at(8);
        if crc32c::crc32c(number).to_le_bytes() != sum {
            return 0;
        }
        u64::from_le_bytes(number.try_into().expect("8 of 12 bytes"))
    }

    pub fn write(&self, seq: u64) -> std::io::Result<()> {
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&seq.to_le_bytes());
        let sum = crc32c::crc32c(&bytes[..8]);
        bytes[8..].copy_from_slice(&sum.to_le_bytes());
        self.file.write_all_at(&bytes, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_and_a_torn_one_counts_for_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let mark = Mark::open(dir.path()).expect("opens");
        assert_eq!(mark.read(), 0);
        mark.write(7).expect("writes");
        mark.write(8).expect("writes");
        assert_eq!(Mark::open(dir.path()).expect("opens").read(), 8);
        mark.file.write_all_at(b"x", 3).expect("writes");
        assert_eq!(mark.read(), 0);
    }
}
