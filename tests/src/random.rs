//! Moments that can be repeated.
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::ledger::Millis;

/// The time of day, as the ledger counts it.
pub fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    u64::try_from(since.as_millis()).expect("before the year 584,000,000")
}

/// splitmix64: the same moments for the same seed.
#[derive(Clone, Copy, Debug)]
pub struct Random(u64);

impl Random {
    /// By `JOBWIRE_SEED`, or by the time of day; and the seed, to be printed.
    ///
    /// # Panics
    /// When `JOBWIRE_SEED` is not a number.
    pub fn new() -> (Self, u64) {
        let seed = std::env::var("JOBWIRE_SEED")
            .map_or_else(|_| now(), |seed| seed.parse().expect("JOBWIRE_SEED is a number"));
        (Self(seed), seed)
    }

    /// One below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    /// A span from `least` to below `most`.
    pub fn span(&mut self, least: Duration, most: Duration) -> Duration {
        let range = u64::try_from((most - least).as_millis()).expect("a short one");
        least + Duration::from_millis(self.below(range.max(1)))
    }
}
