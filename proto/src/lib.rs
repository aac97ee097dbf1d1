//! The Jobwire contract, package `jobwire.v1`: messages, clients, servers and the descriptor set.
//!
//! Everything in `gen/` is written by `make gen`. Its documentation is in `proto/jobwire/v1/*.proto`.

/// Messages, clients and servers of package `jobwire.v1`.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod v1 {
    include!("gen/jobwire.v1.rs");
}

/// The encoded `FileDescriptorSet` of the contract and its imports, as written in the `.proto` files.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!("gen/descriptor.bin");
