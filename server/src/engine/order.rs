//! PURE. In which order waiting jobs are picked, and how a worker's slots are shared among its queues.
//!
//! I13 and I19: order, and no starvation.

/// One pick in so many comes from the lowest waiting priority, so that nothing starves.
pub const BOTTOM_EVERY: u64 = 16;

/// How many of the next `want` picks come from the bottom, when `picked` were made before.
pub fn from_bottom(picked: u64, want: usize) -> usize {
    ((picked + want as u64) / BOTTOM_EVERY - picked / BOTTOM_EVERY) as usize
}

/// The share of `free` slots that goes to a queue of `weight` when the queues that may have jobs weigh `total` together.
/// At least one, so that a light queue moves too.
pub fn share(free: usize, weight: u32, total: u32) -> usize {
    if free == 0 {
        return 0;
    }
    (free * weight as usize / total.max(1) as usize).clamp(1, free)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_pick_in_sixteen_comes_from_the_bottom_however_they_are_batched() {
        for batch in [1, 3, 16, 100] {
            let mut picked = 0;
            let mut bottom = 0;
            while picked < 48_000 {
                bottom += from_bottom(picked, batch);
                picked += batch as u64;
            }
            assert_eq!(bottom as u64, picked / BOTTOM_EVERY, "in batches of {batch}");
        }
    }

    #[test]
    fn shares_follow_weights_and_nobody_gets_nothing() {
        assert_eq!(share(100, 3, 4), 75);
        assert_eq!(share(100, 1, 1_000), 1);
        assert_eq!(share(1, 1, 2), 1);
        assert_eq!(share(0, 1, 1), 0);
        assert_eq!(share(7, 1, 1), 7);
    }
}
