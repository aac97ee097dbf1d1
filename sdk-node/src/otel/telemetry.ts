// Spans and metrics by OpenTelemetry. The API is handed in, so that nothing here imports it.
import type * as Api from "@opentelemetry/api";
import type { Attempted, OutgoingJob, RunningJob, Telemetry, WorkerGauges } from "../telemetry.js";
import { VERSION } from "../version.js";
import { Instruments } from "./metrics.js";
import { ATTRIBUTE, OUTCOME_EVENT, SCOPE, SPAN, SYSTEM } from "./names.js";
import { extract, inject, modeOf, type TraceMode } from "./propagation.js";

/** Options of the telemetry. */
export interface OpenTelemetryOptions {
  /**
   * How the span of an attempt belongs to the span that enqueued its job: its child (`"parent"`), a new trace with a link
   * to it (`"link"`), or a new trace without (`"none"`). Default: a child, with a link, for the first attempt of a single
   * job that was due within a minute; a new trace with a link for all others.
   */
  traceMode?: TraceMode;
  /** Default: the global one at first use. */
  tracerProvider?: Api.TracerProvider;
  /** Default: the global one at first use. */
  meterProvider?: Api.MeterProvider;
}

export class OpenTelemetry implements Telemetry {
  readonly #api: typeof Api;
  readonly #options: OpenTelemetryOptions;
  #used: { tracer: Api.Tracer; instruments: Instruments } | undefined;

  constructor(api: typeof Api, options: OpenTelemetryOptions = {}) {
    this.#api = api;
    this.#options = options;
  }

  async enqueue<T>(jobs: readonly OutgoingJob[], bulk: boolean, send: () => Promise<T>): Promise<T> {
    const [first] = jobs;
    if (!first) return send();
    const { context, SpanStatusCode } = this.#api;
    const { instruments } = this.#use();
    const began = performance.now();
    const { span, within, attributes } = this.#sending(first, jobs.length, bulk, context.active());
    for (const job of jobs) inject(this.#api, within, job, bulk);
    try {
      const answer = await context.with(within, send);
      const id = (answer as { jobId?: unknown } | undefined)?.jobId;
      if (typeof id === "string") span.setAttribute(ATTRIBUTE.messageId, id);
      return answer;
    } catch (error) {
      const type = error instanceof Error ? error.name : typeof error;
      attributes[ATTRIBUTE.errorType] = type;
      span.setAttribute(ATTRIBUTE.errorType, type);
      span.setStatus({ code: SpanStatusCode.ERROR, message: type });
      throw error;
    } finally {
      span.end();
      instruments.operationDuration.record((performance.now() - began) / 1_000, attributes);
      instruments.sent.add(jobs.length, attributes);
    }
  }

  async process<E extends Attempted>(job: RunningJob, workerId: string, attempt: () => Promise<E>): Promise<E> {
    const { context, trace, SpanKind, SpanStatusCode } = this.#api;
    const { tracer, instruments } = this.#use();
    const began = performance.now();
    const { producer, marked, context: brought } = extract(this.#api, job);
    const mode = producer ? (this.#options.traceMode ?? modeOf(job, marked)) : "none";
    const parent = producer && mode === "parent" ? trace.setSpanContext(brought, producer) : brought;
    const common = this.#common(job, "process", "process");
    const span = tracer.startSpan(
      SPAN.process(job.queue),
      {
        kind: SpanKind.CONSUMER,
        links: producer && mode !== "none" ? [{ context: producer }] : [],
        attributes: {
          ...common,
          [ATTRIBUTE.messageId]: job.id,
          [ATTRIBUTE.clientId]: workerId,
          [ATTRIBUTE.attempt]: job.attempt,
          [ATTRIBUTE.delivery]: job.delivery,
          ...(job.workflowId !== "" && { [ATTRIBUTE.conversationId]: job.workflowId }),
          ...(job.scheduleId !== "" && { [ATTRIBUTE.scheduleId]: job.scheduleId }),
        },
      },
      parent,
    );
    instruments.consumed.add(1, common);
    const within = trace.setSpan(parent, span);
    const outcome = await context.with(within, attempt);
    for (const child of outcome.enqueue ?? []) this.#sentWithOutcome(child, within);
    const state = outcome.kind === "dropped" ? "lost" : outcome.kind;
    span.addEvent(OUTCOME_EVENT, { [ATTRIBUTE.state]: state });
    span.setAttribute(ATTRIBUTE.state, state);
    const ended: Api.Attributes = { ...common };
    if (outcome.kind === "failed") {
      // The type alone: messages may quote what they failed on.
      const type = outcome.failure?.type ?? "unknown";
      ended[ATTRIBUTE.errorType] = type;
      span.setAttribute(ATTRIBUTE.errorType, type);
      span.setStatus({ code: SpanStatusCode.ERROR, message: type });
    }
    span.end();
    instruments.processDuration.record((performance.now() - began) / 1_000, ended);
    return outcome;
  }

  worker(workerId: string, gauges: () => WorkerGauges): { reconnected(): void; stopped(): void } {
    const { instruments } = this.#use();
    const stopped = instruments.observe(workerId, gauges);
    return { reconnected: () => instruments.reconnects.add(1, { [ATTRIBUTE.clientId]: workerId }), stopped };
  }

  /** A job that travels with the outcome of the attempt that enqueued it. */
  #sentWithOutcome(job: OutgoingJob, parent: Api.Context): void {
    const { span, within, attributes } = this.#sending(job, 1, false, parent);
    inject(this.#api, within, job, false);
    span.end();
    this.#use().instruments.sent.add(1, attributes);
  }

  #sending(first: OutgoingJob, count: number, bulk: boolean, parent: Api.Context) {
    const { trace, SpanKind } = this.#api;
    const queue = first.queue || first.type;
    const attributes: Api.Attributes = this.#common({ type: first.type, queue }, "enqueue", "send");
    const batch = bulk && { [ATTRIBUTE.batchCount]: count };
    const span = this.#use().tracer.startSpan(
      SPAN.enqueue(queue),
      { kind: SpanKind.PRODUCER, attributes: { ...attributes, ...batch } },
      parent,
    );
    return { span, within: trace.setSpan(parent, span), attributes };
  }

  #common({ type, queue }: { type: string; queue: string }, name: string, kind: string): Api.Attributes {
    return {
      [ATTRIBUTE.system]: SYSTEM,
      [ATTRIBUTE.destination]: queue,
      [ATTRIBUTE.operationName]: name,
      [ATTRIBUTE.operationType]: kind,
      [ATTRIBUTE.type]: type,
    };
  }

  /** Providers are often registered after the client is made: they are asked for at first use. */
  #use(): { tracer: Api.Tracer; instruments: Instruments } {
    const { trace, metrics } = this.#api;
    const { tracerProvider = trace, meterProvider = metrics } = this.#options;
    return (this.#used ??= {
      tracer: tracerProvider.getTracer(SCOPE, VERSION),
      instruments: new Instruments(meterProvider.getMeter(SCOPE, VERSION)),
    });
  }
}
