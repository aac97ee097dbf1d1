//! The Redis store: any number of servers on one Redis (or Valkey), a Sentinel set or a Cluster.
pub mod conn;
pub mod health;
pub mod push;
pub mod target;
