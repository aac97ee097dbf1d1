//! One trace from a producer through a server to a worker and on to its child, as an OpenTelemetry SDK sees it.

use std::sync::OnceLock;

use jobwire::prelude::*;
use jobwire::{Payload, RawCtx, TraceMode};
use jobwire_server::testing::server;
use opentelemetry::trace::{SpanKind, TraceContextExt, Tracer, TracerProvider};
use opentelemetry::{Context, KeyValue, Value, global};
use opentelemetry_sdk::metrics::{InMemoryMetricExporter, SdkMeterProvider};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use serde_json::json;

/// Waits for something that has to come.
async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(secs(20), future).await;
    waited.unwrap_or_else(|_| panic!("no {what} within 20 s"))
}

struct Seen {
    spans: InMemorySpanExporter,
    tracers: SdkTracerProvider,
    metrics: InMemoryMetricExporter,
    meters: SdkMeterProvider,
}

/// Once per process and before anything is sent, as programs do it. Tests tell their spans apart by the queue.
fn sdk() -> &'static Seen {
    static SDK: OnceLock<Seen> = OnceLock::new();
    SDK.get_or_init(|| {
        global::set_text_map_propagator(TraceContextPropagator::new());
        let spans = InMemorySpanExporter::default();
        let tracers = SdkTracerProvider::builder().with_simple_exporter(spans.clone()).build();
        global::set_tracer_provider(tracers.clone());
        let metrics = InMemoryMetricExporter::default();
        let meters = SdkMeterProvider::builder().with_periodic_exporter(metrics.clone()).build();
        global::set_meter_provider(meters.clone());
        Seen { spans, tracers, metrics, meters }
    })
}

fn spans_of(queue: &str) -> Vec<SpanData> {
    let all = sdk().spans.get_finished_spans().expect("spans");
    all.into_iter()
        .filter(|span| attribute(span, "messaging.destination.name") == Some(Value::from(queue.to_owned())))
        .collect()
}

fn attribute(span: &SpanData, key: &str) -> Option<Value> {
    span.attributes.iter().find(|KeyValue { key: found, .. }| found.as_str() == key).map(|pair| pair.value.clone())
}

/// The spans of a queue once there are so many.
async fn spans(queue: &str, count: usize) -> Vec<SpanData> {
    soon("spans", async {
        while spans_of(queue).len() < count {
            tokio::task::yield_now().await;
        }
    })
    .await;
    spans_of(queue)
}

#[tokio::test]
async fn a_prompt_job_is_a_child_and_so_is_what_it_enqueues() {
    let seen = sdk();
    let server = server().await;
    let client = Client::connect(server.url()).expect("a client");
    #[derive(Serialize, Deserialize)]
    struct Child;
    impl Task for Child {
        const TYPE: &'static str = "otel.child";
        type Output = ();
    }
    let in_handler = client.clone();
    let worker = Worker::builder(client.clone())
        .handle_raw("otel.parent", move |ctx: RawCtx| {
            let client = in_handler.clone();
            async move {
                client.enqueue(Child).await?;
                ctx.enqueue(Child).on_success()?;
                Ok(Payload::json_text(r#""secret""#))
            }
        })
        .handle_raw("otel.child", |_| async { Err(JobError::discard("no").kind("Boom")) });
    let run = tokio::spawn(worker.run_until(std::future::pending()));
    let tracer = seen.tracers.tracer("test");
    let root = Context::new().with_span(tracer.start("request"));
    let trace = root.span().span_context().trace_id();
    let enqueue = client.enqueue_raw("otel.parent", &json!({"password": "secret"})).into_future();
    let job = opentelemetry::trace::FutureExt::with_context(enqueue, root.clone()).await.expect("a job");
    let parents = spans("otel.parent", 2).await;
    let send = parents.iter().find(|span| span.name == "enqueue otel.parent").expect("a span");
    let process = parents.iter().find(|span| span.name == "process otel.parent").expect("a span");
    assert_eq!((send.span_kind.clone(), process.span_kind.clone()), (SpanKind::Producer, SpanKind::Consumer));
    assert_eq!(send.parent_span_id, root.span().span_context().span_id());
    assert_eq!(process.parent_span_id, send.span_context.span_id());
    assert_eq!(process.links.iter().next().map(|link| link.span_context.span_id()), Some(send.span_context.span_id()));
    for (key, value) in [
        ("messaging.system", Value::from("jobwire")),
        ("messaging.operation.name", Value::from("process")),
        ("messaging.operation.type", Value::from("process")),
        ("messaging.message.id", Value::from(job.id().to_owned())),
        ("jobwire.type", Value::from("otel.parent")),
        ("jobwire.attempt", Value::from(1)),
        ("jobwire.delivery", Value::from(1)),
    ] {
        assert_eq!(attribute(process, key), Some(value), "{key}");
    }
    assert_eq!(attribute(send, "messaging.message.id"), Some(Value::from(job.id().to_owned())));
    assert_eq!(process.events.iter().next().map(|event| event.name.as_ref()), Some("outcome"));
    // One enqueue span and two runs: a job that travels with the outcome has no call of its own.
    let children = spans("otel.child", 3).await;
    for span in parents.iter().chain(&children) {
        assert_eq!(span.span_context.trace_id(), trace, "{}", span.name);
        assert!(!format!("{span:?}").contains("secret"), "no payload in {}", span.name);
    }
    let failed = children.iter().find(|span| span.span_kind == SpanKind::Consumer).expect("a run");
    assert_eq!(attribute(failed, "error.type"), Some(Value::from("Boom")));
    seen.meters.force_flush().expect("metrics");
    let metrics = seen.metrics.get_finished_metrics().expect("metrics");
    let names: Vec<String> = metrics
        .iter()
        .flat_map(|resource| {
            resource.scope_metrics().flat_map(|scope| scope.metrics().map(|metric| metric.name().to_owned()))
        })
        .collect();
    for name in [
        "messaging.client.sent.messages",
        "messaging.client.consumed.messages",
        "messaging.client.operation.duration",
        "messaging.process.duration",
    ] {
        assert!(names.iter().any(|found| found == name), "{name} in {names:?}");
    }
    run.abort();
}

#[tokio::test]
async fn bulk_and_retried_jobs_have_traces_of_their_own_with_a_link() {
    sdk();
    let server = server().await;
    let client = Client::connect(server.url()).expect("a client");
    let worker = |queue: &str, mode| {
        let worker = Worker::builder(client.clone()).trace_mode(mode).handle_raw(queue, |ctx: RawCtx| async move {
            if ctx.attempt() == 1 && ctx.payload().to::<serde_json::Value>()?["fail"] == json!(true) {
                return Err(JobError::retry_after(millis(1), "again"));
            }
            Ok(Payload::default())
        });
        tokio::spawn(worker.run_until(std::future::pending()))
    };
    let bulk = worker("otel.bulk", TraceMode::Auto);
    let answers = client.enqueue_many_raw("otel.bulk", [json!({}), json!({})]).await;
    assert!(answers.iter().all(Result::is_ok));
    let all = spans("otel.bulk", 3).await;
    let (sends, runs): (Vec<_>, Vec<_>) = all.into_iter().partition(|span| span.span_kind == SpanKind::Producer);
    assert_eq!(attribute(&sends[0], "messaging.batch.message_count"), Some(Value::from(2)));
    for run in &runs {
        assert_ne!(run.span_context.trace_id(), sends[0].span_context.trace_id());
        assert_eq!(
            run.links.iter().next().map(|link| link.span_context.span_id()),
            Some(sends[0].span_context.span_id())
        );
    }
    assert_ne!(runs[0].span_context.trace_id(), runs[1].span_context.trace_id());

    let retried = worker("otel.retried", TraceMode::Auto);
    client.enqueue_raw("otel.retried", &json!({"fail": true})).await.expect("a job");
    let all = spans("otel.retried", 3).await;
    let traces: std::collections::HashSet<_> = all.iter().map(|span| span.span_context.trace_id()).collect();
    assert_eq!(traces.len(), 2, "the first attempt is a child, the second one is not");

    let apart = worker("otel.apart", TraceMode::None);
    client.enqueue_raw("otel.apart", &json!({})).await.expect("a job");
    let all = spans("otel.apart", 2).await;
    let run = all.iter().find(|span| span.span_kind == SpanKind::Consumer).expect("a run");
    assert!(run.links.iter().next().is_none());
    for worker in [bulk, retried, apart] {
        worker.abort();
    }
}
