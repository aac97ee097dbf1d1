//! The way to Redis, against real servers: what is refused at the start, what is waited for, what comes back by itself.
mod cli_support;
mod redis_support;
mod redis_conn {
    mod doors;
    mod follow;
    mod harness;
    mod outages;
    mod pushes;
    mod rights;
    mod serve;
}
