// Traces and metrics through the real server, with exporters in memory. Needs JOBWIRE_BIN.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { context, propagation, SpanKind, SpanStatusCode, trace, type Attributes } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import { CompositePropagator, W3CBaggagePropagator, W3CTraceContextPropagator } from "@opentelemetry/core";
import { AggregationTemporality, InMemoryMetricExporter, MeterProvider, PeriodicExportingMetricReader } from "@opentelemetry/sdk-metrics";
import { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor, type ReadableSpan } from "@opentelemetry/sdk-trace-base";
import { Client, currentContext, defineTask, Snooze, Worker, type JobOptions } from "../src/index.js";
import { openTelemetry, type OpenTelemetryOptions } from "../src/otel.js";
import { testServer, type TestServer } from "../src/testing.js";
import { Proxy } from "./support/proxy.js";

const quiet = { info() {}, warn() {}, error() {} };
const SECRET = "secret-4711";
const mail = defineTask<{ to: string; how?: string }, string>("email.send", { queue: "mail" });

const spans = new InMemorySpanExporter();
const tracerProvider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(spans)] });
const tracer = tracerProvider.getTracer("test");

/** A producer and a worker with telemetry, in a proxy that can be cut. */
async function setup(server: TestServer, options: OpenTelemetryOptions = {}) {
  const exporter = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE);
  const reader = new PeriodicExportingMetricReader({ exporter, exportIntervalMillis: 3_600_000 });
  const meterProvider = new MeterProvider({ readers: [reader] });
  const telemetry = openTelemetry({ tracerProvider, meterProvider, ...options });
  const proxy = await Proxy.to(server.url);
  const client = new Client({ url: proxy.url, telemetry });
  const worker = new Worker(client, { signals: false, logger: quiet, workerId: "w1", concurrency: 3 }).handle(mail, async ({ how }, ctx) => {
    if (how === "fail" && ctx.attempt === 1) throw new TypeError(SECRET);
    if (how === "snooze" && ctx.delivery === 1) throw new Snooze(1);
    if (how === "child") await ctx.enqueue("child", {});
    if (how === "span") tracer.startSpan("inside").end();
    return SECRET;
  });
  spans.reset();
  const done = worker.run();
  return {
    client, worker, proxy,
    async run(input: { to: string; how?: string }, jobOptions: JobOptions = {}) {
      const job = await tracer.startActiveSpan("request", async (span) => client.enqueue(mail, input, jobOptions).finally(() => span.end()));
      await job.result({ timeout: "20s" });
      return job;
    },
    async metrics() {
      await reader.forceFlush();
      const found = new Map<string, { value: unknown; attributes: Attributes }[]>();
      for (const { scopeMetrics } of exporter.getMetrics().slice(-1)) {
        for (const { metrics } of scopeMetrics) for (const { descriptor, dataPoints } of metrics) found.set(descriptor.name, dataPoints);
      }
      return found;
    },
    async [Symbol.asyncDispose]() {
      await worker.stop();
      await done;
      await client.close();
      proxy.close();
      await meterProvider.shutdown();
    },
  };
}

/** Spans by name, once there are `count` of them: they end a moment after the result is known. */
async function named(name: string, count = 1): Promise<ReadableSpan[]> {
  for (;;) {
    const found = spans.getFinishedSpans().filter((span) => span.name === name);
    if (found.length >= count) return found;
    // No event tells of the end of a span; the test's own timeout bounds this.
    await new Promise((resolve) => setImmediate(resolve));
  }
}

describe("telemetry", () => {
  let server: TestServer;

  before(async () => {
    context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
    propagation.setGlobalPropagator(new CompositePropagator({ propagators: [new W3CTraceContextPropagator(), new W3CBaggagePropagator()] }));
    server = await testServer();
  });

  after(async () => {
    await server?.stop();
    context.disable();
    propagation.disable();
  });

  it("makes one trace of a job that is due at once", async () => {
    await using rig = await setup(server);
    const job = await rig.run({ to: SECRET, how: "span" });
    const [process] = await named("process mail");
    const [[request], [enqueue], [inside]] = [await named("request"), await named("enqueue mail"), await named("inside")];
    assert.equal(enqueue!.kind, SpanKind.PRODUCER);
    assert.deepEqual({ ...enqueue!.attributes }, {
      "messaging.system": "jobwire", "messaging.destination.name": "mail", "messaging.operation.name": "enqueue",
      "messaging.operation.type": "send", "messaging.message.id": job.id, "jobwire.type": "email.send",
    });
    assert.equal(process!.kind, SpanKind.CONSUMER);
    assert.deepEqual({ ...process!.attributes }, {
      "messaging.system": "jobwire", "messaging.destination.name": "mail", "messaging.operation.name": "process",
      "messaging.operation.type": "process", "messaging.message.id": job.id, "messaging.client.id": "w1", "jobwire.type": "email.send",
      "jobwire.attempt": 1, "jobwire.delivery": 1, "jobwire.state": "succeeded",
    });
    assert.deepEqual(process!.events.map(({ name, attributes }) => [name, attributes]), [["jobwire.outcome", { "jobwire.state": "succeeded" }]]);
    const parents = [enqueue, process, inside].map((span) => span!.parentSpanContext?.spanId);
    assert.deepEqual(parents, [request, enqueue, process].map((span) => span!.spanContext().spanId));
    assert.equal(new Set([request, enqueue, process, inside].map((span) => span!.spanContext().traceId)).size, 1);
    assert.deepEqual(process!.links.map((link) => link.context.spanId), [enqueue!.spanContext().spanId]);
  });

  it("starts a trace with a link for retried, snoozed, delayed and bulk jobs", async () => {
    await using rig = await setup(server);
    await rig.run({ to: "a", how: "fail" }, { retry: { initialDelay: 1, jitter: 0 } });
    const [first, second] = await named("process mail", 2);
    const [enqueue] = await named("enqueue mail");
    assert.equal(first!.parentSpanContext?.spanId, enqueue!.spanContext().spanId);
    assert.deepEqual([first!.status.code, first!.attributes["error.type"], first!.attributes["jobwire.state"]], [SpanStatusCode.ERROR, "TypeError", "failed"]);
    assert.equal(second!.parentSpanContext, undefined);
    assert.notEqual(second!.spanContext().traceId, enqueue!.spanContext().traceId);
    assert.deepEqual(second!.links.map((link) => link.context.spanId), [enqueue!.spanContext().spanId]);

    spans.reset();
    const late = await rig.client.enqueue(mail, { to: "late" }, { delay: "2m" });
    const { headers } = await late.status();
    assert.match(headers["tracestate"]!, /^jobwire=link$/);
    assert.match(headers["traceparent"]!, new RegExp((await named("enqueue mail"))[0]!.spanContext().spanId));
    await late.retry();
    await late.result({ timeout: "20s" });
    assert.equal((await named("process mail"))[0]!.parentSpanContext, undefined);

    spans.reset();
    const items = await rig.client.enqueueMany(mail, [{ to: "a" }, { to: "b" }, { to: "c" }]);
    await Promise.all(items.map(({ job }) => job!.result({ timeout: "20s" })));
    const runs = await named("process mail", 3);
    const [send, ...others] = await named("enqueue mail");
    assert.deepEqual([others.length, send!.attributes["messaging.batch.message_count"], send!.attributes["messaging.message.id"]], [0, 3, undefined]);
    for (const run of runs) {
      assert.equal(run.parentSpanContext, undefined);
      assert.deepEqual(run.links.map((link) => link.context.spanId), [send!.spanContext().spanId]);
    }
  });

  it("obeys traceMode", async () => {
    for (const [traceMode, child, links] of [["link", false, 1], ["none", false, 0], ["parent", true, 1]] as const) {
      await using rig = await setup(server, { traceMode });
      await rig.run({ to: "a" }, traceMode === "parent" ? { delay: 1 } : {});
      const [run] = await named("process mail");
      assert.deepEqual([run!.parentSpanContext !== undefined, run!.links.length], [child, links], traceMode);
    }
  });

  it("makes a job that a handler enqueues a child of its span", async () => {
    await using rig = await setup(server);
    const seen: Record<string, string>[] = [];
    const other = new Client({ url: server.url, telemetry: false });
    const children = new Worker(other, { signals: false, logger: quiet }).handle("child", () => void seen.push({ ...currentContext()!.headers }));
    const done = children.run();
    const ended = once(children, "ready");
    await rig.run({ to: "a", how: "child" });
    await ended;
    const [run] = await named("process mail");
    const [send] = await named("enqueue child");
    assert.equal(send!.parentSpanContext?.spanId, run!.spanContext().spanId);
    while (seen.length === 0) await new Promise((resolve) => setImmediate(resolve));
    assert.match(seen[0]!["traceparent"]!, new RegExp(`^00-${run!.spanContext().traceId}-${send!.spanContext().spanId}`));
    await children.stop();
    await done;
    await other.close();
  });

  it("never rewrites headers of the application, carries baggage, and leaves out what does not fit", async () => {
    await using rig = await setup(server);
    const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const own = await rig.client.enqueue(mail, { to: "a" }, { headers: { traceparent }, delay: "1h" });
    assert.deepEqual((await own.status()).headers, { traceparent });
    const tagged = mail.opts({ headers: { app: "shop" }, delay: "1h" });
    const [one, two] = [await rig.client.enqueue(tagged, { to: "a" }), await rig.client.enqueue(tagged, { to: "b" })];
    assert.deepEqual(tagged.options.headers, { app: "shop" });
    assert.notEqual((await one.status()).headers["traceparent"], (await two.status()).headers["traceparent"]);
    const baggage = propagation.createBaggage({ tenant: { value: "t1" } });
    const carried = await context.with(propagation.setBaggage(context.active(), baggage), () => rig.client.enqueue(mail, { to: "a" }, { delay: "1h" }));
    assert.equal((await carried.status()).headers["baggage"], "tenant=t1");
    const full = { big: "x".repeat(8_000) };
    const crowded = await context.with(propagation.setBaggage(context.active(), propagation.createBaggage({ k: { value: "y".repeat(300) } })), () =>
      rig.client.enqueue(mail, { to: "a" }, { headers: full, delay: "1h" }),
    );
    assert.deepEqual(Object.keys((await crowded.status()).headers).sort(), ["big", "traceparent", "tracestate"]);
  });

  it("measures, and shows no payload, result or message", async () => {
    await using rig = await setup(server);
    await rig.run({ to: SECRET });
    await rig.run({ to: SECRET, how: "fail" }, { retry: { initialDelay: 1, jitter: 0 } });
    await assert.rejects(rig.client.enqueue(mail, { to: SECRET }, { tags: ["x".repeat(65)] }));
    await named("process mail", 3);
    const reconnected = once(rig.worker, "connected");
    rig.proxy.cut();
    await reconnected;
    const metrics = await rig.metrics();
    const sum = (name: string, has: Attributes) =>
      metrics.get(name)!.filter(({ attributes }) => Object.entries(has).every(([key, value]) => attributes[key] === value))
        .reduce((total, { value }) => total + (typeof value === "number" ? value : (value as { count: number }).count), 0);
    const mailQueue = { "messaging.system": "jobwire", "messaging.destination.name": "mail" };
    assert.equal(sum("messaging.client.sent.messages", { ...mailQueue, "messaging.operation.name": "enqueue" }), 3);
    assert.equal(sum("messaging.client.sent.messages", { "error.type": "InvalidArgument" }), 1);
    assert.equal(sum("messaging.client.operation.duration", mailQueue), 3);
    assert.equal(sum("messaging.client.consumed.messages", mailQueue), 3);
    assert.equal(sum("messaging.process.duration", mailQueue), 3);
    assert.equal(sum("messaging.process.duration", { "error.type": "TypeError" }), 1);
    assert.equal(sum("jobwire.worker.slots", { "messaging.client.id": "w1" }), 3);
    assert.equal(sum("jobwire.client.reconnects", {}), 1);
    assert.equal(metrics.get("jobwire.worker.loop_lag")!.length, 1);
    const shown = JSON.stringify([...metrics]) + JSON.stringify(spans.getFinishedSpans().map(({ name, attributes, events, links, status }) => ({ name, attributes, events, links, status })));
    assert.ok(!shown.includes(SECRET));
  });

  it("is on by itself where the API is installed, and absent where it is not", async () => {
    // The providers are registered after the client was made.
    const client = new Client({ url: server.url });
    trace.setGlobalTracerProvider(tracerProvider);
    spans.reset();
    await client.enqueue(mail, { to: "a" }, { delay: "1h" });
    assert.equal(spans.getFinishedSpans().filter(({ name }) => name === "enqueue mail").length, 1);
    await client.close();
    trace.disable();

    const off = new Client({ url: server.url, telemetry: false });
    spans.reset();
    const job = await off.enqueue(mail, { to: "a" }, { delay: "1h" });
    assert.deepEqual([(await job.status()).headers, spans.getFinishedSpans()], [{}, []]);
    await off.close();

    // A process that cannot find the API: what it loads is told by the loader.
    const script = `
      const Module = require("node:module");
      const find = Module._resolveFilename;
      const asked = [];
      Module._resolveFilename = (name, ...rest) => {
        if (name.startsWith("@opentelemetry/")) { asked.push(name); throw Object.assign(new Error("not installed"), { code: "MODULE_NOT_FOUND" }); }
        return find(name, ...rest);
      };
      const { Client } = require("jobwire");
      if (asked.length > 0) throw new Error("asked for at load: " + asked);
      const clients = [new Client(), new Client()];
      Promise.all(clients.map((client) => client.enqueue("x"))).then(async ([job]) => {
        console.log(JSON.stringify({ asked, headers: (await job.status()).headers }));
        for (const client of clients) await client.close();
      });`;
    const cwd = fileURLToPath(new URL("../../", import.meta.url));
    const { stdout } = await promisify(execFile)(process.execPath, ["-e", script], { cwd, env: { ...process.env, JOBWIRE_URL: server.url } });
    assert.deepEqual(JSON.parse(stdout), { asked: ["@opentelemetry/api"], headers: {} });
  });
});
