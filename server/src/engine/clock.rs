//! The only reader of clocks and entropy in the server.
#![allow(clippy::disallowed_methods)]
use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use uuid::Uuid;

use crate::model::time::{Clock, Now};

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { wall_ms: wall.as_millis() as i64, mono_ms: self.start.elapsed().as_millis() as i64 }
    }
}

/// A clock that moves when told to. Both readings move together.
#[derive(Debug)]
pub struct ManualClock {
    wall_ms: AtomicI64,
    mono_ms: AtomicI64,
}

impl ManualClock {
    pub fn at(wall_ms: i64) -> Self {
        Self { wall_ms: AtomicI64::new(wall_ms), mono_ms: AtomicI64::new(0) }
    }

    pub fn advance(&self, ms: i64) {
        self.wall_ms.fetch_add(ms, Ordering::SeqCst);
        self.mono_ms.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Now {
        Now { wall_ms: self.wall_ms.load(Ordering::SeqCst), mono_ms: self.mono_ms.load(Ordering::SeqCst) }
    }
}

/// A number nobody can guess.
pub fn secret() -> u64 {
    rand::random()
}

/// `n` numbers nobody can guess.
pub fn secrets(n: usize) -> Vec<u64> {
    let mut rng = rand::rng();
    (0..n).map(|_| rand::Rng::random(&mut rng)).collect()
}

/// A share from 0 to 1, for spreading things out.
pub fn share() -> f64 {
    rand::random()
}

/// A new identifier, ordered by time.
pub fn uuid() -> Uuid {
    Uuid::now_v7()
}
