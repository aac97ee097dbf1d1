//! Room on the disk: a floor below which no new jobs are taken, and a ballast file that is thrown overboard when the
//! disk fills regardless, so that what was accepted can still be finished.
//!
//! I22: what was accepted goes on when the disk is full.
use std::{
    fs::OpenOptions,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use fs4::fs_std::FileExt as _;
use parking_lot::Mutex;

/// The ballast's file in the data directory.
pub(crate) const FILE: &str = "ballast";
/// Free bytes of the file system that holds a directory.
pub(crate) type Gauge = Box<dyn Fn(&Path) -> std::io::Result<u64> + Send + Sync>;

pub(crate) struct Space {
    dir: PathBuf,
    min_free_bytes: u64,
    ballast_bytes: u64,
    gauge: Gauge,
    full: AtomicBool,
    /// One looks at a time.
    looking: Mutex<()>,
}

impl Space {
    /// Looks at the disk for the first time and makes the ballast if there is room for it.
    pub fn new(dir: &Path, min_free_bytes: u64, ballast_bytes: u64) -> Self {
        Self::with_gauge(dir, min_free_bytes, ballast_bytes, Box::new(|dir| fs4::available_space(dir)))
    }

    pub fn with_gauge(dir: &Path, min_free_bytes: u64, ballast_bytes: u64, gauge: Gauge) -> Self {
        let space = Self {
            dir: dir.to_owned(),
            min_free_bytes,
            ballast_bytes,
            gauge,
            full: AtomicBool::new(false),
            looking: Mutex::new(()),
        };
        space.look();
        space
    }

    /// Whether new jobs are refused.
    pub fn is_full(&self) -> bool {
        self.full.load(Relaxed)
    }

    /// Why they are, for the one who asked.
    pub fn reason(&self) -> String {
        format!(
            "less than {} MiB are free for {}: make room, and new jobs are taken again",
            (self.min_free_bytes + self.missing_ballast()).div_ceil(1 << 20),
            self.dir.display()
        )
    }

    /// Looks at the disk: the store is full below the floor, and open again above it, with the ballast in place. Cheap
    /// enough for every commit; blocks while it makes the ballast.
    pub fn look(&self) {
        let _looking = self.looking.lock();
        let free = match (self.gauge)(&self.dir) {
            Ok(free) => free,
            Err(error) => {
                tracing::warn!(dir = %self.dir.display(), %error, "cannot tell how much disk space is free");
                return;
            }
        };
        if free < self.min_free_bytes {
            self.set_full(true, free);
            return;
        }
        // A little above the floor, so that it does not flicker.
        let missing = self.missing_ballast();
        let margin = if self.is_full() { self.min_free_bytes / 16 } else { 0 };
        if free < self.min_free_bytes + margin + missing {
            // Without its ballast the store opens only once there is room for that, too.
            if missing > 0 {
                self.set_full(true, free);
            }
            return;
        }
        if missing > 0
            && let Err(error) = self.make_ballast()
        {
            tracing::warn!(dir = %self.dir.display(), %error, "cannot make the ballast file");
        }
        self.set_full(false, free);
    }

    /// The disk has refused a write: no new jobs, and overboard with the ballast.
    pub fn ran_out(&self) {
        let _looking = self.looking.lock();
        if !self.full.swap(true, Relaxed) {
            tracing::error!(dir = %self.dir.display(), "the disk is full: no new jobs until there is room");
        }
        let path = self.dir.join(FILE);
        if path.exists()
            && let Err(error) = std::fs::remove_file(&path)
        {
            tracing::error!(path = %path.display(), %error, "cannot remove the ballast file");
        }
    }

    fn set_full(&self, full: bool, free_bytes: u64) {
        if self.full.swap(full, Relaxed) != full {
            if full {
                tracing::error!(dir = %self.dir.display(), free_bytes, "too little disk space: no new jobs until there is more");
            } else {
                tracing::info!(dir = %self.dir.display(), free_bytes, "there is disk space again: new jobs are taken");
            }
        }
    }

    fn missing_ballast(&self) -> u64 {
        let there = std::fs::metadata(self.dir.join(FILE)).map_or(0, |file| file.len());
        self.ballast_bytes.saturating_sub(there)
    }

    fn make_ballast(&self) -> std::io::Result<()> {
        let path = self.dir.join(FILE);
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path)?;
        file.allocate(self.ballast_bytes).inspect_err(|_| {
            let _ = std::fs::remove_file(&path);
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, atomic::AtomicU64};

    use super::*;

    #[test]
    fn closes_below_the_floor_and_opens_above_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let free = Arc::new(AtomicU64::new(10_000));
        let gauge = free.clone();
        let space = Space::with_gauge(dir.path(), 1_600, 500, Box::new(move |_| Ok(gauge.load(Relaxed))));
        let ballast = || std::fs::metadata(dir.path().join(FILE)).map(|file| file.len()).ok();
        assert_eq!((space.is_full(), ballast()), (false, Some(500)));
        free.store(1_599, Relaxed);
        space.look();
        assert_eq!((space.is_full(), ballast()), (true, Some(500)));
        free.store(1_650, Relaxed);
        space.look();
        assert!(space.is_full(), "not yet enough above the floor");
        free.store(1_700, Relaxed);
        space.look();
        assert!(!space.is_full());
        space.ran_out();
        assert_eq!((space.is_full(), ballast()), (true, None));
        free.store(2_100, Relaxed);
        space.look();
        assert_eq!((space.is_full(), ballast()), (true, None), "no room for the ballast yet");
        free.store(2_200, Relaxed);
        space.look();
        assert_eq!((space.is_full(), ballast()), (false, Some(500)));
    }
}
