//! Real Redis processes for tests, on free loopback ports and in directories of their own: one server, a Sentinel set, a
//! Cluster. Knows nothing of Jobwire.
//!
//! ```no_run
//! use jobwire_redis_rig::{Append, Redis, Settings};
//!
//! let redis = Redis::start(Settings::new().append(Append::Always));
//! redis.run(&["SET", "key", "value"]);
//! redis.kill(); // SIGKILL
//! redis.start_again(); // same port, same data
//! assert_eq!(redis.query::<String>(&["GET", "key"]), "value");
//! ```
//!
//! Everything started here ends with its owner: when it is dropped, when the test panics, and when the test's process
//! ends in any way (a watchdog waits for that), so statics are fine. Methods block and panic; nothing sleeps for longer
//! than a condition takes.
#![warn(missing_docs)]

mod cluster;
mod lossy;
mod port;
mod process;
mod redis_server;
mod sentinel;
mod settings;

pub use cluster::Cluster;
pub use lossy::Lossy;
pub use port::Port;
pub use process::wait_for;
pub use redis_server::{Redis, program};
pub use sentinel::{MASTER, Sentinels};
pub use settings::{Append, Settings};
