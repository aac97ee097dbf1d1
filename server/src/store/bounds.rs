//! How many jobs a queue, or a fairness key of it, lets through. I17. PURE. Redis does the same arithmetic inside its claim, in the same step.
use crate::model::queue::{KeyBounds, Rate};

/// What a rate has left. Empty at first: whoever knows that nothing was let through before fills it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Bucket {
    tokens: f64,
    /// Monotonic clock.
    at_ms: i64,
}

impl Bucket {
    pub fn full(rate: Rate, now_ms: i64) -> Self {
        Self { tokens: rate.burst.into(), at_ms: now_ms }
    }

    /// Nothing until time has passed: what was let through before is not known.
    pub fn empty(now_ms: i64) -> Self {
        Self { tokens: 0.0, at_ms: now_ms }
    }

    /// As it is now.
    fn refilled(self, rate: Rate, now_ms: i64) -> Self {
        let passed = now_ms.saturating_sub(self.at_ms).max(0) as f64;
        let tokens = self.tokens + passed * f64::from(rate.max) / rate.per_ms as f64;
        Self { tokens: tokens.min(rate.burst.into()), at_ms: now_ms.max(self.at_ms) }
    }

    /// When it will be full: nothing is lost if it is forgotten then.
    pub fn full_ms(self, rate: Rate) -> i64 {
        let missing = (f64::from(rate.burst) - self.tokens).max(0.0);
        self.at_ms.saturating_add((missing * rate.per_ms as f64 / f64::from(rate.max)).ceil() as i64)
    }

    pub fn spend(&mut self, jobs: usize) {
        self.tokens -= jobs as f64;
    }
}

/// What may be handed out now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Admitted {
    pub most: usize,
    /// It is the number of running jobs that allows no more.
    pub held: bool,
    /// It is the rate that allows no more: it allows one after so long.
    pub opens_in_ms: Option<i64>,
}

/// A hair's breadth below a whole number counts as that number: sums of fractions are never exact.
const HAIR: f64 = 1e-6;

/// How many of `want` jobs may start besides those that run. Brings the bucket up to date.
pub(super) fn admit(to: KeyBounds, running: usize, bucket: &mut Bucket, now_ms: i64, want: usize) -> Admitted {
    let mut admitted = Admitted { most: want, held: false, opens_in_ms: None };
    if to.max_running > 0 {
        let free = (to.max_running as usize).saturating_sub(running);
        if free < want {
            admitted = Admitted { most: free, held: true, opens_in_ms: None };
        }
    }
    if let Some(rate) = to.rate {
        *bucket = bucket.refilled(rate, now_ms);
        let tokens = (bucket.tokens + HAIR).max(0.0).floor() as usize;
        if tokens < admitted.most {
            let missing = tokens as f64 + 1.0 - bucket.tokens;
            let wait_ms = (missing * rate.per_ms as f64 / f64::from(rate.max) - HAIR).ceil().max(1.0);
            admitted = Admitted { most: tokens, held: false, opens_in_ms: Some(wait_ms as i64) };
        }
    }
    admitted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate(max: u32, per_ms: i64, burst: u32) -> KeyBounds {
        KeyBounds { rate: Some(Rate { max, per_ms, burst }), max_running: 0 }
    }

    #[test]
    fn running_jobs_hold_the_queue() {
        let bounds = KeyBounds { max_running: 3, rate: None };
        let mut bucket = Bucket::default();
        let mut admits = |running, want| admit(bounds, running, &mut bucket, 0, want);
        assert_eq!(admits(0, 2), Admitted { most: 2, held: false, opens_in_ms: None });
        assert_eq!(admits(0, 3), Admitted { most: 3, held: false, opens_in_ms: None });
        assert_eq!(admits(2, 5), Admitted { most: 1, held: true, opens_in_ms: None });
        assert_eq!(admits(7, 1), Admitted { most: 0, held: true, opens_in_ms: None }, "it was lowered");
    }

    #[test]
    fn an_empty_bucket_says_when_it_opens() {
        let bounds = rate(10, 1_000, 1);
        let mut bucket = Bucket::full(bounds.rate.expect("it was set"), 0);
        assert_eq!(admit(bounds, 0, &mut bucket, 0, 5).most, 1);
        bucket.spend(1);
        assert_eq!(admit(bounds, 0, &mut bucket, 0, 5), Admitted { most: 0, held: false, opens_in_ms: Some(100) });
        assert_eq!(admit(bounds, 0, &mut bucket, 99, 5).opens_in_ms, Some(1));
        assert_eq!(admit(bounds, 0, &mut bucket, 100, 5).most, 1);
        assert_eq!(admit(bounds, 0, &mut bucket, 50, 5).most, 1, "a clock that steps back takes nothing");
    }

    proptest! {
        /// In no window do more start than the burst and what the rate adds.
        #[test]
        fn no_window_has_more_than_its_share(
            max in 1u32..50, per_ms in 1i64..5_000, burst in 1u32..50,
            steps in prop::collection::vec((0i64..400, 0usize..20), 1..80),
        ) {
            let bounds = rate(max, per_ms, burst);
            let mut bucket = Bucket::full(bounds.rate.expect("it was set"), 0);
            let (mut now, mut starts) = (0, Vec::new());
            for (pause, want) in steps {
                now += pause;
                let admitted = admit(bounds, 0, &mut bucket, now, want);
                bucket.spend(admitted.most);
                starts.extend((0..admitted.most).map(|_| now));
                prop_assert_eq!(admitted.most < want, admitted.opens_in_ms.is_some());
            }
            for (i, from) in starts.iter().enumerate() {
                for (j, to) in starts.iter().enumerate().skip(i) {
                    let most = f64::from(burst) + (to - from) as f64 * f64::from(max) / per_ms as f64;
                    prop_assert!((j - i + 1) as f64 <= most + 1e-3, "{} starts from {from} to {to}", j - i + 1);
                }
            }
        }
    }
}
