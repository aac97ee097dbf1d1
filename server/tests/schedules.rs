//! Schedules over a real connection, on every store. Time is moved by hand: nothing waits for a tick.
mod redis_support;

mod schedules {
    mod calls;
    mod firing;
    mod harness;
    mod overlap;
}
