//! Workflows over a real connection, on every store.
mod redis_support;

mod workflows {
    mod calls;
    mod endings;
    mod harness;
    mod waiting;
}
