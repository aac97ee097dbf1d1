//! The promises of ARCHITECTURE.md, by number. `check!(I3, condition, "what should hold")` panics in debug builds; in
//! release it logs ERROR and counts in `jobwire_invariant_violations_total`.
use std::sync::atomic::{AtomicU64, Ordering};

static VIOLATIONS: AtomicU64 = AtomicU64::new(0);

/// How many checks have failed since the process started.
pub fn violations() -> u64 {
    VIOLATIONS.load(Ordering::Relaxed)
}

#[doc(hidden)]
pub fn violated(id: &str, what: &str) {
    VIOLATIONS.fetch_add(1, Ordering::Relaxed);
    tracing::error!(invariant = id, what, "an invariant does not hold");
    if cfg!(debug_assertions) {
        panic!("invariant {id} does not hold: {what}");
    }
}

/// Asserts an invariant by its number in ARCHITECTURE.md.
#[macro_export]
macro_rules! check {
    ($id:ident, $holds:expr, $what:literal) => {
        if !$holds {
            $crate::engine::invariants::violated(stringify!($id), $what);
        }
    };
}
