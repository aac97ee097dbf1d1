//! `jobwire store copy`: what a store keeps is the same in another one, of whatever kind; workers keep their leases.
mod cli_support;
mod redis_support;
mod store_support;
mod store_copy {
    mod harness;
    mod lives;
    mod program;
    mod random;
}
