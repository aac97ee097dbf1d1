//! By the OpenTelemetry API: whatever SDK the program installed hears it, and nobody otherwise. Contexts travel by the
//! global propagator, which programs set to W3C's (`TraceContextPropagator`). Names follow the messaging conventions, which
//! are still in development: this is the one place that holds them.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

use jobwire_proto::v1 as pb;
use opentelemetry::metrics::{Counter, Histogram};
use opentelemetry::propagation::{Extractor, Injector};
use opentelemetry::trace::{FutureExt, Link, SpanContext, SpanKind, Status, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue, global};

use super::TraceMode;
#[cfg(feature = "worker")]
use crate::context::RawCtx;
use crate::errors::Error;

const SCOPE: &str = "jobwire";
/// Says in `tracestate` that a job came in bulk, and so belongs into a trace of its own.
const STATE: (&str, &str) = ("jobwire", "link");
/// A job that was due later than this after its enqueue has a trace of its own.
const PROMPT: Duration = Duration::from_secs(60);

struct Instruments {
    sent: Counter<u64>,
    consumed: Counter<u64>,
    send: Histogram<f64>,
    process: Histogram<f64>,
}

/// Made at the first use, so a program installs its meter provider before.
fn instruments() -> &'static Instruments {
    static INSTRUMENTS: OnceLock<Instruments> = OnceLock::new();
    INSTRUMENTS.get_or_init(|| {
        let meter = global::meter(SCOPE);
        let duration = |name: &'static str| meter.f64_histogram(name).with_unit("s").build();
        Instruments {
            sent: meter.u64_counter("messaging.client.sent.messages").with_unit("{message}").build(),
            consumed: meter.u64_counter("messaging.client.consumed.messages").with_unit("{message}").build(),
            send: duration("messaging.client.operation.duration"),
            process: duration("messaging.process.duration"),
        }
    })
}

/// What spans and metrics have in common.
fn common(queue: &str, operation: &'static str, kind: &'static str) -> Vec<KeyValue> {
    vec![
        KeyValue::new("messaging.system", "jobwire"),
        KeyValue::new("messaging.destination.name", queue.to_owned()),
        KeyValue::new("messaging.operation.name", operation),
        KeyValue::new("messaging.operation.type", kind),
    ]
}

fn queue_of(spec: &pb::JobSpec) -> &str {
    if spec.queue.is_empty() { &spec.r#type } else { &spec.queue }
}

struct Headers<'a>(&'a mut BTreeMap<String, String>);

impl Injector for Headers<'_> {
    fn set(&mut self, key: &str, value: String) {
        self.0.insert(key.to_ascii_lowercase(), value);
    }
}

struct Read<'a>(&'a BTreeMap<String, String>);

impl Extractor for Read<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }
}

/// Writes a context into headers; one that is there already stays.
fn inject(context: &Context, spec: &mut pb::JobSpec) {
    if !spec.headers.contains_key("traceparent") {
        global::get_text_map_propagator(|propagator| {
            propagator.inject_context(context, &mut Headers(&mut spec.headers));
        });
    }
}

/// The span of one enqueue call.
pub(crate) struct Sending {
    context: Context,
    begun: Instant,
    count: u64,
    common: Vec<KeyValue>,
}

impl Sending {
    pub fn one(spec: &mut pb::JobSpec) -> Self {
        let sending = Self::begin(queue_of(spec), 1, vec![KeyValue::new("jobwire.type", spec.r#type.clone())]);
        inject(&sending.context, spec);
        sending
    }

    /// One span, whose context all jobs carry.
    pub fn many<'a>(mut specs: impl ExactSizeIterator<Item = &'a mut pb::JobSpec>) -> Self {
        let count = specs.len();
        let first = specs.next();
        let queue = first.as_ref().map(|spec| queue_of(spec).to_owned()).unwrap_or_default();
        let r#type = first.as_ref().map(|spec| spec.r#type.clone()).unwrap_or_default();
        let batch = KeyValue::new("messaging.batch.message_count", i64::try_from(count).unwrap_or(i64::MAX));
        let sending = Self::begin(&queue, count as u64, vec![KeyValue::new("jobwire.type", r#type), batch]);
        let marked = sending.context.with_remote_span_context(in_bulk(sending.context.span().span_context()));
        for spec in first.into_iter().chain(specs) {
            inject(&marked, spec);
        }
        sending
    }

    fn begin(queue: &str, count: u64, attributes: Vec<KeyValue>) -> Self {
        let common = common(queue, "enqueue", "send");
        let tracer = global::tracer(SCOPE);
        let span = tracer
            .span_builder(format!("enqueue {queue}"))
            .with_kind(SpanKind::Producer)
            .with_attributes(common.iter().cloned().chain(attributes));
        let context = Context::current();
        let context = context.with_span(tracer.build_with_context(span, &context));
        Self { context, begun: Instant::now(), count, common }
    }

    /// With the job's id (empty for many), or the error.
    pub fn end(mut self, ended: Result<&str, &Error>) {
        let span = self.context.span();
        match ended {
            Ok("") => {}
            Ok(id) => span.set_attribute(KeyValue::new("messaging.message.id", id.to_owned())),
            Err(error) => {
                let kind = error.code().map_or("error", crate::Code::name);
                span.set_attribute(KeyValue::new("error.type", kind));
                span.set_status(Status::error(error.to_string()));
                self.common.push(KeyValue::new("error.type", kind));
            }
        }
        span.end();
        instruments().sent.add(self.count, &self.common);
        instruments().send.record(self.begun.elapsed().as_secs_f64(), &self.common);
    }
}

/// The context of whoever calls.
#[derive(Clone)]
pub(crate) struct Current(Context);

impl Current {
    pub fn get() -> Self {
        Self(Context::current())
    }

    /// For a job that is enqueued without a span of its own.
    pub fn inject(&self, spec: &mut pb::JobSpec) {
        inject(&self.0, spec);
    }

    pub fn scope<R>(self, run: impl FnOnce() -> R) -> R {
        let _attached = self.0.attach();
        run()
    }
}

/// The span of one attempt.
pub(crate) struct Process {
    context: Context,
    begun: Instant,
    common: Vec<KeyValue>,
}

#[cfg(feature = "worker")]
impl Process {
    pub fn start(ctx: &RawCtx, mode: TraceMode) -> Self {
        let producer = global::get_text_map_propagator(|propagator| {
            propagator.extract_with_context(&Context::new(), &Read(ctx.headers()))
        });
        let known = producer.span().span_context().is_valid() && mode != TraceMode::None;
        let child = known
            && match mode {
                TraceMode::Auto => is_prompt(ctx, producer.span().span_context()),
                mode => mode == TraceMode::Parent,
            };
        let common = common(ctx.queue(), "process", "process");
        let mut attributes = common.clone();
        attributes.extend([
            KeyValue::new("messaging.message.id", ctx.job_id().to_owned()),
            KeyValue::new("jobwire.type", ctx.job_type().to_owned()),
            KeyValue::new("jobwire.attempt", i64::from(ctx.attempt())),
            KeyValue::new("jobwire.delivery", i64::from(ctx.delivery())),
        ]);
        if !ctx.workflow_id().is_empty() {
            attributes.push(KeyValue::new("messaging.message.conversation_id", ctx.workflow_id().to_owned()));
        }
        if !ctx.schedule_id().is_empty() {
            attributes.push(KeyValue::new("jobwire.schedule_id", ctx.schedule_id().to_owned()));
        }
        let tracer = global::tracer(SCOPE);
        let mut span = tracer
            .span_builder(format!("process {}", ctx.queue()))
            .with_kind(SpanKind::Consumer)
            .with_attributes(attributes);
        if known {
            span = span.with_links(vec![Link::with_context(producer.span().span_context().clone())]);
        }
        let span = if child {
            tracer.build_with_context(span, &producer)
        } else {
            tracer.build_with_context(span, &Context::new())
        };
        // Baggage comes along either way.
        let context = producer.with_span(span);
        Self { context, begun: Instant::now(), common }
    }

    pub fn run<F: Future>(&self, job: F) -> impl Future<Output = F::Output> {
        job.with_context(self.context.clone())
    }

    /// The outcome is an event, and an error if it failed.
    pub fn end(mut self, outcome: Option<&pb::Outcome>, word: &'static str) {
        let span = self.context.span();
        span.add_event("outcome", vec![KeyValue::new("jobwire.outcome", word)]);
        if let Some(pb::outcome::Result::Failed(failed)) = outcome.and_then(|outcome| outcome.result.as_ref()) {
            let kind = failed.failure.as_ref().map(|failure| failure.r#type.clone()).unwrap_or_default();
            span.set_attribute(KeyValue::new("error.type", kind.clone()));
            span.set_status(Status::error(kind.clone()));
            self.common.push(KeyValue::new("error.type", kind));
        }
        span.end();
        instruments().consumed.add(1, &self.common);
        instruments().process.record(self.begun.elapsed().as_secs_f64(), &self.common);
    }
}

fn in_bulk(span: &SpanContext) -> SpanContext {
    let state = span.trace_state().insert(STATE.0, STATE.1).unwrap_or_else(|_| span.trace_state().clone());
    SpanContext::new(span.trace_id(), span.span_id(), span.trace_flags(), true, state)
}

/// The first attempt of a single job that was due at once.
#[cfg(feature = "worker")]
fn is_prompt(ctx: &RawCtx, producer: &SpanContext) -> bool {
    let age = ctx.create_time().and_then(|created| SystemTime::now().duration_since(created).ok()).unwrap_or_default();
    let delayed = age.saturating_sub(ctx.waited());
    let bulk = producer.trace_state().get(STATE.0) == Some(STATE.1);
    ctx.attempt() == 1 && ctx.schedule_id().is_empty() && !bulk && delayed <= PROMPT
}
