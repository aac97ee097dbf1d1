//! One process per data directory.
use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    path::Path,
};

use fs4::fs_std::FileExt as _;

use crate::store::StoreError;

/// File in the data directory that the process which has it open holds a lock on. It carries that process's pid and
/// stays when it ends: the lock counts, not the file.
pub(crate) const FILE: &str = "LOCK";

/// Held for as long as the store is open. The system lets go of it when the process dies, however it dies.
#[derive(Debug)]
pub(crate) struct DirLock {
    _file: File,
}

impl DirLock {
    /// Takes the directory. Errors: `Refused`, naming the pid of the holder.
    pub fn take(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join(FILE);
        let trouble = |error: std::io::Error| StoreError::Refused(format!("cannot lock {}: {error}", path.display()));
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(trouble)?;
        if !file.try_lock_exclusive().map_err(trouble)? {
            let mut pid = String::new();
            let _ = file.read_to_string(&mut pid);
            let holder = match pid.trim() {
                "" => "another process".to_owned(),
                pid => format!("process {pid}"),
            };
            return Err(StoreError::Refused(format!(
                "{} is in use by {holder}: stop it, or choose another directory",
                dir.display()
            )));
        }
        file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0))).map_err(trouble)?;
        writeln!(file, "{}", std::process::id()).map_err(trouble)?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_one_is_told_who_holds_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let held = DirLock::take(dir.path()).expect("free");
        let refusal = DirLock::take(dir.path()).expect_err("held").to_string();
        assert!(refusal.contains(&format!("process {}", std::process::id())), "{refusal}");
        drop(held);
        DirLock::take(dir.path()).expect("free again");
    }
}
