//! The engine on a store of several shards, through outages, and beside other engines on the same store.
mod deadlines;
mod kit;
mod outage;
mod redis;
mod servers;
mod shards;
mod store;
