//! Policies as words on the command line.
use clap::ValueEnum;
use jobwire_proto::v1::{CatchUpPolicy, FoldPolicy, GapPolicy, OverlapPolicy};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident of $policy:ident: $($(#[$help:meta])* $value:ident),+) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, ValueEnum)]
        pub enum $name { $($(#[$help])* $value),+ }

        impl $name {
            /// As in the contract.
            pub fn number(self) -> i32 {
                match self { $(Self::$value => $policy::$value.into()),+ }
            }
        }
    };
}

words!(
    /// A fixed local time that a clock change skips.
    Gap of GapPolicy:
    /// Fires right after the gap
    After,
    /// Does not fire that day
    Skip
);
words!(
    /// A fixed local time that a clock change repeats.
    Fold of FoldPolicy:
    /// Fires the first time
    First,
    /// Fires both times
    Both
);
words!(
    /// What becomes of a tick while the run before it goes on.
    Overlap of OverlapPolicy:
    /// Runs beside it
    Allow,
    /// Is skipped
    Skip,
    /// Waits for its end, one tick at most
    BufferOne,
    /// Cancels it, and waits for its end
    CancelPrevious
);
words!(
    /// What becomes of ticks that were missed.
    CatchUp of CatchUpPolicy:
    /// The most recent one runs
    Last,
    /// Each runs
    All,
    /// None runs
    None
);
