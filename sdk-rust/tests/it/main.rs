//! The SDK against a server that follows a script, in the same process.

mod client;
mod script;
mod worker;
