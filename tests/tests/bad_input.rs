//! Bad input, for every call of the contract. The test walks the descriptor set: each field of each request is left out,
//! set to its bounds and beyond, to unknown enum values and to bad UTF-8; each message is cut, garbled and oversized. Each
//! time the answer must have the expected code, reason and field, nothing may change in the store, and the server and a
//! worker's stream beside it must go on.
//!
//! `rules.rs` says what each field may hold. A field without a rule fails the test, so that no new field goes unchecked.
mod bad_input {
    mod base;
    mod call;
    mod cases;
    mod harness;
    mod raw;
    mod rules;
    mod walk;
}
