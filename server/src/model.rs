//! Plain data and the rules that are tables: no I/O, no clock, no async, no protobuf.

pub mod filter;
pub mod ids;
pub mod job;
pub mod limits;
pub mod op;
pub mod policy;
pub mod queue;
pub mod schedule;
pub mod state;
pub mod time;
pub mod worker;
pub mod workflow;
