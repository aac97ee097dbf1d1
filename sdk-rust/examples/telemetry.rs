//! Spans and metrics by OpenTelemetry, printed to the terminal. Needs the feature `otel`.
use jobwire::prelude::*;
use opentelemetry::global;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider};

#[derive(Serialize, Deserialize)]
struct Greet {
    name: String,
}

impl Task for Greet {
    const TYPE: &'static str = "greet";
    type Output = String;
}

async fn greet(ctx: Ctx<Greet>) -> Result<String, JobError> {
    Ok(format!("Hello, {}!", ctx.input().name))
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    // [install]
    // Before the first enqueue, as with every OpenTelemetry instrumentation; an OTLP exporter in production.
    let exporter = InMemorySpanExporter::default();
    let tracers = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    global::set_text_map_propagator(TraceContextPropagator::new());
    global::set_tracer_provider(tracers.clone());
    // [/install]
    let client = Client::from_env()?;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let worker = Worker::builder(client.clone()).handle(greet);
    let worker = tokio::spawn(worker.run_until(async { drop(stopped.await) }));
    client.run(Greet { name: "Ada".into() }).await?;
    drop(stop);
    worker.await.expect("no panic")?;
    let spans = exporter.get_finished_spans().expect("spans");
    for span in &spans {
        println!("{} ({:?})", span.name, span.span_kind);
    }
    assert_eq!(spans[0].span_context.trace_id(), spans[1].span_context.trace_id());
    Ok(())
}
