//! Generators for the Jobwire contract. `src/bin/gen.rs` is the Rust half of `make gen`.
