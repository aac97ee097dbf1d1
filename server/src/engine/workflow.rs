//! PURE. Workflows: which graphs may be, and what the end of a node means for the others. Who calls, reads the documents and
//! applies what comes out: `engine/flows`.
pub mod graph;
pub mod step;
#[cfg(test)]
mod tests;

pub use graph::{BadGraph, Graph};
pub use step::{Seen, Todo, conclude, evaluate, retry, see, stop};
