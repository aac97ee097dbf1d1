//! Spans, metrics and context propagation. With the feature `otel` they go through the OpenTelemetry API; without it these
//! are the same functions doing nothing.
//!
//! Never payloads, header values or tokens: only what operators filter by.

#[cfg(not(feature = "otel"))]
mod none;
#[cfg(feature = "otel")]
mod otel;

#[cfg(not(feature = "otel"))]
use none as to;
#[cfg(feature = "otel")]
use otel as to;
pub(crate) use to::Current;
#[cfg(feature = "worker")]
pub(crate) use to::Process;
#[cfg(feature = "client")]
pub(crate) use to::Sending;

/// How the span of a run job hangs together with the producer's. Needs the feature `otel`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum TraceMode {
    /// Child and link for the first attempt of a single job that was due within a minute; a new trace with a link for
    /// delayed, retried, scheduled and bulk ones.
    #[default]
    Auto,
    /// Always a child, with a link.
    Parent,
    /// Always a new trace, with a link.
    Link,
    /// Always a new trace, and nothing said of the producer.
    None,
}
