// The instruments. One set per telemetry, made when the first client or worker does something.
import type * as Api from "@opentelemetry/api";
import type { WorkerGauges } from "../telemetry.js";
import { ATTRIBUTE, METRIC, SECONDS } from "./names.js";

export class Instruments {
  readonly processDuration: Api.Histogram;
  readonly operationDuration: Api.Histogram;
  readonly sent: Api.Counter;
  readonly consumed: Api.Counter;
  readonly reconnects: Api.Counter;
  readonly #slots: Api.ObservableGauge;
  readonly #loopLag: Api.ObservableGauge;

  constructor(meter: Api.Meter) {
    const advice = { explicitBucketBoundaries: SECONDS };
    this.processDuration = meter.createHistogram(METRIC.processDuration, { unit: "s", description: "Duration of an attempt", advice });
    this.operationDuration = meter.createHistogram(METRIC.operationDuration, {
      unit: "s",
      description: "Duration of a call that enqueues, its repeats included",
      advice,
    });
    this.sent = meter.createCounter(METRIC.sent, { unit: "{message}", description: "Jobs that were to be enqueued" });
    this.consumed = meter.createCounter(METRIC.consumed, { unit: "{message}", description: "Attempts that were started" });
    this.reconnects = meter.createCounter(METRIC.reconnects, { unit: "{reconnect}", description: "Streams of workers that were opened again" });
    this.#slots = meter.createObservableGauge(METRIC.slots, { unit: "{slot}", description: "Handlers that may run at once, by what they do" });
    this.#loopLag = meter.createObservableGauge(METRIC.loopLag, { unit: "s", description: "How late the event loop was, measured each second" });
  }

  /** Observes a worker until the function that it answers is called. */
  observe(workerId: string, gauges: () => WorkerGauges): () => void {
    const worker = { [ATTRIBUTE.clientId]: workerId };
    const slots: Api.ObservableCallback = (result) => {
      const { slots, running } = gauges();
      result.observe(running, { ...worker, [ATTRIBUTE.slotState]: "busy" });
      result.observe(Math.max(0, slots - running), { ...worker, [ATTRIBUTE.slotState]: "free" });
    };
    const loopLag: Api.ObservableCallback = (result) => result.observe(gauges().lagMs / 1_000, worker);
    this.#slots.addCallback(slots);
    this.#loopLag.addCallback(loopLag);
    return () => {
      this.#slots.removeCallback(slots);
      this.#loopLag.removeCallback(loopLag);
    };
  }
}
