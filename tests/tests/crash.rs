//! What survives when processes die: servers and workers killed, frozen, restarted and told to stop, under load from
//! all three SDKs. Every process writes down what it does; the ledger holds it against the server's records.
//!
//! `JOBWIRE_SEED` repeats the moments of a run; `JOBWIRE_SOAK=MINUTES` repeats the kills of the server for so long.
#[path = "crash/blocked.rs"]
mod blocked;
#[path = "crash/graceful.rs"]
mod graceful;
#[path = "crash/server_kills.rs"]
mod server_kills;
#[path = "crash/worker_kills.rs"]
mod worker_kills;
