//! Written by its own hands.
