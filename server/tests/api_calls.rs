//! The services over a real connection, on an engine with the memory store.
mod api_calls {
    mod harness;
    mod jobs;
    mod keys;
    mod queues;
    mod streams;
    mod transport;
    mod workers;
}
