//! The pure state machine that is `--store memory` as it stands, the reference of the tests, and the heart of the
//! embedded store.

pub mod write;
