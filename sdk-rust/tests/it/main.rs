//! The SDK against a scripted server, a real one and none, over real connections.
mod batches;
mod binding;
mod client;
mod faking;
mod layers;
mod producing;
mod running;
mod schedules;
mod script;
mod securing;
mod steering;
mod streaming;
mod timing;
mod worker;
