//! `jobwire store check`: every kind of damage is found, and mended; beside servers at work nothing is found that is not so.
mod redis_support;
mod store_check {
    mod damage;
    mod harness;
    mod keys;
    mod load;
}
