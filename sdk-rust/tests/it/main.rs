//! The SDK against a scripted server and a real one, over real connections.
mod client;
mod layers;
mod producing;
mod script;
mod streaming;
mod worker;
