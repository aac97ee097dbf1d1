//! What the end-to-end tests share: real servers and workers in processes of their own, and the language-neutral
//! conformance suite of the protocol.
//!
//! The suite is data: `conformance/server/*.json` plays a worker against the real server, `conformance/worker/*.json`
//! plays a server against the worker of an SDK. `conformance/README.md` describes the format.
#![warn(missing_docs)]

pub mod case;
pub mod clients;
pub mod cut;
pub mod dynamic;
pub mod exact;
pub mod inbox;
pub mod ledger;
pub mod load;
pub mod log;
pub mod pattern;
pub mod play;
pub mod process;
pub mod producer;
pub mod proxy;
pub mod random;
pub mod scripted_server;
pub mod server;
pub mod site;
pub mod stream;
pub mod wait;
pub mod worker;
