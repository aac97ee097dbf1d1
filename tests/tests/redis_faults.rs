//! What happens to Redis, and what becomes of the jobs: killed, frozen, read-only, loading, full, emptied, its scripts
//! flushed, its master failed over. Two servers each, producers and workers of all three SDKs.
#[path = "redis_faults/cluster.rs"]
mod cluster;
#[path = "redis_faults/failover.rs"]
mod failover;
#[path = "redis_faults/kills.rs"]
mod kills;
#[path = "redis_faults/outages.rs"]
mod outages;
#[path = "redis_faults/room.rs"]
mod room;
#[path = "redis_faults/support.rs"]
mod support;
