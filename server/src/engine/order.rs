//! PURE. How a worker's slots are shared among its queues.

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
    fn shares_follow_weights_and_nobody_gets_nothing() {
        assert_eq!(share(100, 3, 4), 75);
        assert_eq!(share(100, 1, 1_000), 1);
        assert_eq!(share(1, 1, 2), 1);
        assert_eq!(share(0, 1, 1), 0);
        assert_eq!(share(7, 1, 1), 7);
    }
}
