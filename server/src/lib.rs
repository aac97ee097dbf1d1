//! The Jobwire server. Data goes one way: `api`, `web` and `cli` at the edge → `engine` → `store` → `model`.
//!
//! Read `engine.rs` for what can be done, `engine/transition.rs` for what an event means, `store.rs` for what a store
//! promises. ARCHITECTURE.md has the map, the layers and the invariants.

pub mod api;
pub mod cli;
pub mod config;
pub mod duration;
pub mod engine;
pub mod listen;
pub mod model;
pub mod serve;
pub mod store;
pub mod telemetry;
pub mod testing;
pub mod upkeep;
pub mod web;
