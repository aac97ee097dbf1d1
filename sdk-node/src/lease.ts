// One job on loan, as the session keeps it. The token never leaves the session.
import type { MessageInitShape } from "@bufbuild/protobuf";
import { spanOf } from "./duration.js";
import type { CancelReason } from "./errors.js";
import type { OutcomeSchema } from "./gen/jobwire/v1/worker_service_pb.js";
import type { JobData, OutcomeData } from "./messages.js";
import { bodyBytes, type Body } from "./payload.js";
import { payloadInit, type SizeLimits } from "./spec.js";
import { outcomeArm } from "./wire.js";

/** An outcome that is worth sending. */
export type Report = Exclude<OutcomeData, { kind: "dropped" }>;

/** A lease in hand. */
export interface Lease {
  readonly key: number;
  readonly token: string;
  readonly job: JobData;
  /** `queued`: waiting for a free handler; `running`; `done`: has an outcome that is not acknowledged yet. */
  phase: "queued" | "running" | "done";
  /** Until when the store is known to keep it for us, on our own clock. */
  trustedUntil: number;
  atRisk: boolean;
  /** Whether a heartbeat or Hello has named it. */
  named: boolean;
  receivedAt: number;
  /** Unset while `queued`. */
  startedAt: number | undefined;
  /** Shared by those that one handler runs: how many of them have no outcome yet. */
  call: { left: number } | undefined;
  /** Last progress report, or the start. */
  heardAt: number;
  /** The order that was passed on to the handler, if any. */
  cancelled: CancelReason | undefined;
  /** The server took it back while the handler still runs: its outcome will be dropped. */
  lost: boolean;
  /** What the handler saved last in this attempt. */
  checkpoint: Body | undefined;
  outcome: Report | undefined;
  outcomeBytes: number;
  /** The outcome is the SDK's own answer to a rejection; a second rejection ends it. */
  replaced: boolean;
}

/** A lease that has just arrived. */
export function newLease(token: string, job: JobData, now: number, deliveryTtlMs: number): Lease {
  return {
    key: job.key,
    token,
    job,
    phase: "queued",
    trustedUntil: now + deliveryTtlMs,
    atRisk: false,
    named: false,
    receivedAt: now,
    startedAt: undefined,
    call: undefined,
    heardAt: 0,
    cancelled: undefined,
    lost: false,
    checkpoint: undefined,
    outcome: undefined,
    outcomeBytes: 0,
    replaced: false,
  };
}

/** Rough size of an outcome on the wire. */
export function reportBytes(report: Report, checkpoint: Body | undefined): number {
  let bytes = 64 + bodyBytes(checkpoint);
  if (report.kind === "succeeded") bytes += bodyBytes(report.result);
  if (report.kind === "failed") {
    const { message, stackTrace, details } = report.failure;
    bytes += message.length + stackTrace.length + bodyBytes(details);
  }
  for (const spec of report.enqueue ?? []) {
    const value = spec.payload?.body.value;
    bytes += 256 + (typeof value === "string" ? Buffer.byteLength(value) : value instanceof Uint8Array ? value.byteLength : 0);
  }
  return bytes;
}

/** The outcome, or, where the server is sure to refuse it, a failure that says so. */
export function fitting(report: Report, checkpoint: Body | undefined, limits: SizeLimits): Report {
  const { resultBytes, payloadBytes } = limits;
  const size = report.kind === "succeeded" ? bodyBytes(report.result) : 0;
  if (size > resultBytes) return unprocessable(report.runMs, `the result is ${size} bytes; the limit is ${resultBytes}`);
  const bytes = reportBytes(report, checkpoint);
  // A frame carries 3 MiB; this much fits beside anything else that travels with it.
  const limit = resultBytes + payloadBytes;
  return bytes > limit ? unprocessable(report.runMs, `the outcome and its jobs are ${bytes} bytes; the limit is ${limit}`) : report;
}

/** What is reported instead of an outcome that the server cannot take. */
export function unprocessable(runMs: number, message: string): Report {
  return { kind: "failed", failure: { kind: "unprocessable", type: "Unprocessable", message, stackTrace: "" }, action: "stop", runMs };
}

/** The outcome of a lease that is `done`, for a frame. */
export function outcomeInit(lease: Lease): MessageInitShape<typeof OutcomeSchema> {
  const outcome = lease.outcome!;
  return {
    leaseToken: lease.token,
    result: outcomeArm(outcome),
    runDuration: spanOf(outcome.runMs),
    checkpoint: outcome.kind !== "succeeded" && lease.checkpoint ? payloadInit(lease.checkpoint) : undefined,
    enqueue: outcome.enqueue,
  };
}
