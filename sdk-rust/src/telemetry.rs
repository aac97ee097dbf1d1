//! Spans, metrics and context propagation. With the feature `otel` they go through the OpenTelemetry API; without it these
//! are the same functions doing nothing.
//!
//! Never payloads, header values or tokens: only what operators filter by.

#[cfg(feature = "worker")]
use jobwire_proto::v1 as pb;

#[cfg(feature = "worker")]
use crate::context::RawCtx;

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

/// What a job hands on to those that it enqueues: its own place in the trace, unless its spans have said theirs.
#[cfg(feature = "worker")]
pub(crate) fn hand_on(from: &RawCtx, spec: &mut pb::JobSpec) {
    if spec.headers.contains_key("traceparent") || !from.headers().contains_key("traceparent") {
        return;
    }
    for key in ["traceparent", "tracestate", "baggage"] {
        if let Some(value) = from.headers().get(key) {
            spec.headers.entry(key.to_owned()).or_insert_with(|| value.clone());
        }
    }
}

/// The same, for what the running job enqueues by a client.
#[cfg(all(feature = "client", feature = "worker"))]
pub(crate) fn hand_on_current(spec: &mut pb::JobSpec) {
    if let Some(ctx) = RawCtx::current() {
        hand_on(&ctx, spec);
    }
}

/// Nothing runs where there is no worker.
#[cfg(all(feature = "client", not(feature = "worker")))]
pub(crate) fn hand_on_current(_: &mut jobwire_proto::v1::JobSpec) {}

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
