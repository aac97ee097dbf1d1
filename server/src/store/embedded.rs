//! The embedded durable store.
mod changes;
mod lock;
mod mark;
mod record_log;
mod schema;
mod sqlite;
mod sqlite_read;
mod sqlite_verify;
