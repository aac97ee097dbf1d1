// Traces: an application's OpenTelemetry setup is all it takes. Here spans are printed when the program ends.
// [setup]
import { context, propagation, trace } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import { CompositePropagator, W3CBaggagePropagator, W3CTraceContextPropagator } from "@opentelemetry/core";
import { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor } from "@opentelemetry/sdk-trace-base";
import { Client, defineTask, Worker } from "jobwire";

const exporter = new InMemorySpanExporter(); // in production: OTLP, by @opentelemetry/sdk-node, which does all of this
context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
propagation.setGlobalPropagator(new CompositePropagator({ propagators: [new W3CTraceContextPropagator(), new W3CBaggagePropagator()] }));
trace.setGlobalTracerProvider(new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] }));
// [/setup]

const greet = defineTask<{ name: string }, string>("telemetry.greet", { queue: "hello" });
const client = new Client();
const worker = new Worker(client, { signals: false }).handle(greet, ({ name }) => `Hello, ${name}!`);
const done = worker.run();

await trace.getTracer("app").startActiveSpan("request", async (span) => {
  await client.run(greet, { name: "Ada" }, { wait: "20s" });
  span.end();
});
await worker.stop();
await done;
await client.close();

const spans = exporter.getFinishedSpans();
console.log(spans.map((span) => span.name).sort(), new Set(spans.map((span) => span.spanContext().traceId)).size);
