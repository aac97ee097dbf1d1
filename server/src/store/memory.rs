//! The pure state machine that is `--store memory` as it stands, the reference of the tests, and the heart of the
//! embedded store.

mod apply;
pub mod assemble;
mod claim;
mod codec;
mod due;
mod index;
mod load;
pub mod machine;
mod names;
mod place;
mod queue;
mod records;
mod recount;
mod slot;
pub mod write;
