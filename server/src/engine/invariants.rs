//! The promises of ARCHITECTURE.md, by number. `check!(I3, condition, "what should hold")` panics in debug builds; in
//! release it logs ERROR and counts in `jobwire_invariant_violations_total`.
use std::collections::BTreeMap;

use parking_lot::Mutex;

static VIOLATIONS: Mutex<BTreeMap<&'static str, u64>> = Mutex::new(BTreeMap::new());

/// How many checks have failed since the process started, by number.
pub fn violations() -> BTreeMap<&'static str, u64> {
    VIOLATIONS.lock().clone()
}

#[doc(hidden)]
pub fn violated(id: &'static str, what: &str) {
    *VIOLATIONS.lock().entry(id).or_default() += 1;
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
