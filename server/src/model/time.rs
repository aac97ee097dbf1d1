//! Points in time as numbers. Schedules live on the wall clock, leases on the monotonic one.

/// One reading of both clocks, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Since the Unix epoch; may step.
    pub wall_ms: i64,
    /// Since some fixed point of this process; never steps.
    pub mono_ms: i64,
}

/// The source of time. `engine/clock.rs` has the real one; tests and `--test-clock` have one that is moved by hand.
pub trait Clock: Send + Sync + 'static {
    fn now(&self) -> Now;
}

/// One second in milliseconds, to read well in sums.
pub const SECOND: i64 = 1_000;
pub const MINUTE: i64 = 60 * SECOND;
pub const HOUR: i64 = 60 * MINUTE;
pub const DAY: i64 = 24 * HOUR;
