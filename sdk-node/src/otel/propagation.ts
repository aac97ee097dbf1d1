// Trace context in the headers of jobs. A producer marks jobs that begin a trace of their own (one of many, or due later
// than in a minute) by `jobwire=link` in the W3C tracestate, because a worker cannot see that any more.
import type * as Api from "@opentelemetry/api";
import { msOf } from "../duration.js";
import type { OutgoingJob, RunningJob } from "../telemetry.js";

/** How the span of an attempt belongs to the span that enqueued its job. */
export type TraceMode = "parent" | "link" | "none";

const MEMBER = "jobwire";
const LINK = "link";
const SOON_MS = 60_000;
/** Of the 8 KiB that the headers of a job may have. */
const HEADER_BYTES_MAX = 8 << 10;

/** Writes the context into the headers of a job, unless the application has done so itself. */
export function inject(api: typeof Api, context: Api.Context, job: OutgoingJob, bulk: boolean): void {
  if ("traceparent" in job.headers) return;
  const span = api.trace.getSpanContext(context);
  if (!span || !api.isSpanContextValid(span)) return;
  const links = bulk || job.dependsOn.length > 0 || dueLater(job);
  const marked = links ? { ...span, traceState: (span.traceState ?? api.createTraceState()).set(MEMBER, LINK) } : span;
  const carrier: Record<string, string> = {};
  api.propagation.inject(api.trace.setSpanContext(context, marked), carrier);
  // Telemetry is never the reason why a job is refused: what does not fit stays behind, baggage first.
  let room = HEADER_BYTES_MAX - bytesOf(Object.entries(job.headers));
  const injected = Object.entries(carrier).sort(([a], [b]) => Number(a === "baggage") - Number(b === "baggage"));
  for (const [key, value] of injected) {
    room -= bytesOf([[key, value]]);
    if (room < 0) return;
    job.headers[key.toLowerCase()] = value;
  }
}

/** What a job brings along. */
export interface Brought {
  /** The producer's span, if any. */
  producer: Api.SpanContext | undefined;
  /** Whether the producer has marked the job. */
  marked: boolean;
  /** Its baggage, without the span. */
  context: Api.Context;
}

export function extract(api: typeof Api, job: RunningJob): Brought {
  const context = api.propagation.extract(api.ROOT_CONTEXT, job.headers);
  const given = api.trace.getSpanContext(context);
  const producer = given && api.isSpanContextValid(given) ? given : undefined;
  const marked = producer?.traceState?.get(MEMBER) === LINK;
  return {
    // The mark is about this job alone: what its handler enqueues gets one of its own, or none.
    producer: marked ? { ...producer!, traceState: producer!.traceState!.unset(MEMBER) } : producer,
    marked,
    context: api.trace.deleteSpan(context),
  };
}

/** The first attempt of a single job that was due within a minute is a step of its caller; all else begins a trace. */
export function modeOf(job: RunningJob, marked: boolean): TraceMode {
  if (marked || job.attempt > 1 || job.delivery > 1 || job.scheduleId !== "" || job.dependencies.length > 0) return "link";
  const dueAt = Date.now() - job.waitMs;
  return job.createTimeMs !== undefined && dueAt - job.createTimeMs > SOON_MS ? "link" : "parent";
}

function dueLater({ start }: OutgoingJob): boolean {
  if (!start.value) return false;
  const ms = msOf(start.value);
  return (start.case === "scheduleTime" ? ms - Date.now() : ms) > SOON_MS;
}

function bytesOf(headers: [string, string][]): number {
  return headers.reduce((sum, [key, value]) => sum + Buffer.byteLength(key) + Buffer.byteLength(value), 0);
}
