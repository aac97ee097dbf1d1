// The fake server's book of jobs: pure, and on a clock that is handed in. It follows the server in what an enqueue, a
// cancel, a retry and an outcome do to a job; jitter is left out, so that delays are the ones of the policy.
import { create, toBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { msOf, spanOf } from "../duration.js";
import { AlreadyExists, Unimplemented } from "../errors.js";
import { FailureKind, FailureSchema, PayloadSchema, type Failure, type Payload } from "../gen/jobwire/v1/common_pb.js";
import {
  JobState, JobSchema, JobSpecSchema, LogLineSchema, ProgressSchema, UniqueConflict, UniqueScope,
  type Job, type JobSpec, type LogLine, type Progress,
} from "../gen/jobwire/v1/job_pb.js";
import { EnqueueStatus, JobResultSchema, type JobResult } from "../gen/jobwire/v1/job_service_pb.js";
import { JobLeaseSchema, type JobLease } from "../gen/jobwire/v1/worker_service_pb.js";
import type { BatchRule } from "../gathering.js";
import type { OutcomeData, RunnerEvent } from "../messages.js";
import { payloadInit } from "../spec.js";
import { logLineInit, outcomeArm, progressInit } from "../wire.js";
import { nextAfter } from "./backoff.js";

const DAY_MS = 86_400_000;

/** A job in the book. Times are Unix times in milliseconds, on the fake's clock. */
export interface Entry {
  readonly id: string;
  /** Place in the order of enqueues. */
  readonly order: number;
  spec: JobSpec;
  state: JobState;
  readonly createdAt: number;
  dueAt: number;
  /** Its first start, as asked for. */
  plannedAt: number;
  expiresAt: number;
  startedAt: number | undefined;
  finishedAt: number | undefined;
  /** Attempts that have failed. */
  failures: number;
  /** Attempts beyond the policy that `retry()` has granted. */
  granted: number;
  delivery: number;
  result: Payload | undefined;
  failure: Failure | undefined;
  checkpoint: Payload | undefined;
  progress: Progress | undefined;
  readonly lines: LogLine[];
  /** The key it was enqueued with; empty when it has none. */
  uniqueKey: string;
  /** Why it shall be cancelled, while it runs. */
  cancelReason: string | undefined;
}

/** What became of a put. */
export interface Put {
  entry: Entry;
  status: EnqueueStatus;
}

export class Book {
  readonly #entries = new Map<string, Entry>();
  readonly #waiting = new Set<Entry>();
  readonly #keys = new Map<string, { id: string; until: number }>();
  /** Holders of uniqueness keys for a time, whatever their jobs do. */
  readonly #throttles = new Map<string, { id: string; until: number }>();
  #orders = 0;

  /** `changed` is called after each change of a job. */
  constructor(private readonly changed: (entry: Entry) => void) {}

  get(id: string): Entry | undefined {
    return this.#entries.get(id);
  }

  clear(): void {
    this.#entries.clear();
    this.#waiting.clear();
    this.#keys.clear();
    this.#throttles.clear();
  }

  /** Takes a job in: id, idempotency key and uniqueness key are looked at in this order. Throws what the server would. */
  put(given: JobSpec, now: number): Put {
    refuseUnknown(given);
    const spec = create(JobSpecSchema, { ...given, queue: given.queue || given.type });
    const same = this.#entries.get(spec.id);
    if (same) return this.#repeated(same, spec, "ID_CONFLICT");
    const key = spec.idempotencyKey && `${spec.queue} ${spec.idempotencyKey}`;
    const known = key ? this.#keys.get(key) : undefined;
    if (known && known.until > now) return { entry: this.#entries.get(known.id)!, status: EnqueueStatus.DUPLICATE };
    const uniqueKey = uniqueKeyOf(spec);
    const holder = uniqueKey ? this.#holder(uniqueKey, now) : undefined;
    if (holder) return this.#conflict(holder, spec, now);

    const entry = this.#add(spec, uniqueKey, now);
    if (key) this.#keys.set(key, { id: spec.id, until: now + (msOf(spec.idempotencyTtl) ?? DAY_MS) });
    if (uniqueKey && spec.unique!.scope === UniqueScope.FOR_TTL) {
      this.#throttles.set(uniqueKey, { id: spec.id, until: now + (msOf(spec.unique!.ttl) ?? 0) });
    }
    this.changed(entry);
    return { entry, status: EnqueueStatus.CREATED };
  }

  /** The job to deal with next, up to and at `now`: one to run (its type is in `types`), or one that expires. */
  next(now: number, types: ReadonlySet<string>): { entry: Entry; at: number; expires: boolean } | undefined {
    let best: { entry: Entry; at: number; expires: boolean } | undefined;
    for (const entry of this.#waiting) {
      const expiresAt = entry.delivery === 0 ? entry.expiresAt : Infinity;
      const dueAt = types.has(entry.spec.type) ? entry.dueAt : Infinity;
      const expires = expiresAt <= dueAt;
      const at = expires ? expiresAt : dueAt;
      if (at <= now && (!best || before(at, entry, best))) best = { entry, at, expires };
    }
    return best;
  }

  /** The jobs that run in one call with `first`, itself among them: those that are due as well, in order. */
  companions(first: Entry, now: number, { maxSize, byKey }: BatchRule): Entry[] {
    const { type, queue, fairnessKey } = first.spec;
    const fits = ({ spec, dueAt }: Entry) =>
      spec.type === type && dueAt <= now && (!byKey || (spec.queue === queue && spec.fairnessKey === fairnessKey));
    const others = [...this.#waiting].filter((entry) => entry !== first && fits(entry));
    others.sort((a, b) => (before(a.dueAt, a, { at: b.dueAt, entry: b }) ? -1 : 1));
    return [first, ...others].slice(0, maxSize);
  }

  /** Jobs whose time has come, and that nobody took, are ready. */
  ripen(now: number): void {
    for (const entry of this.#waiting) {
      if (entry.state !== JobState.READY && entry.dueAt <= now) this.#wait(entry, JobState.READY, entry.dueAt);
    }
  }

  expire(entry: Entry, now: number): void {
    entry.failure = create(FailureSchema, { kind: FailureKind.EXPIRED, message: "not started in time" });
    this.#end(entry, JobState.EXPIRED, now);
  }

  /** Hands a waiting job out. */
  lease(entry: Entry, now: number): JobLease {
    const { spec } = entry;
    this.#waiting.delete(entry);
    entry.state = JobState.RUNNING;
    entry.delivery += 1;
    entry.startedAt ??= now;
    this.changed(entry);
    return create(JobLeaseSchema, {
      leaseToken: entry.id,
      task: {
        id: entry.id, type: spec.type, payload: spec.payload, headers: spec.headers, queue: spec.queue,
        priority: spec.priority, tags: spec.tags, createTime: spanOf(entry.createdAt), fairnessKey: spec.fairnessKey,
      },
      attempt: entry.failures + 1,
      maxAttempts: maxAttempts(entry),
      delivery: entry.delivery,
      timeout: spec.timeout,
      heartbeatTimeout: spec.heartbeatTimeout,
      checkpoint: entry.checkpoint,
      lastFailure: entry.failure,
    });
  }

  /** What a handler says while it runs. */
  report(entry: Entry, event: Extract<RunnerEvent, { event: "progress" | "log" }>): void {
    if (event.event === "log") {
      entry.lines.push(create(LogLineSchema, { ...logLineInit(event.line), index: BigInt(entry.lines.length + 1), attempt: entry.failures + 1 }));
    } else {
      if (event.progress) entry.progress = create(ProgressSchema, progressInit(event.progress));
      if (event.checkpoint) entry.checkpoint = create(PayloadSchema, payloadInit(event.checkpoint));
    }
    this.changed(entry);
  }

  /** Settles an attempt. */
  settle(entry: Entry, outcome: OutcomeData, now: number): void {
    const arm = outcome.kind === "dropped" ? undefined : outcomeArm(outcome);
    switch (arm?.case) {
      case "succeeded":
        entry.result = arm.value.result && create(PayloadSchema, arm.value.result);
        entry.failure = undefined;
        return this.#end(entry, JobState.SUCCEEDED, now);
      case "cancelled":
        entry.failure = cancelled(entry.cancelReason ?? arm.value.reason);
        return this.#end(entry, JobState.CANCELLED, now);
      case "failed": {
        entry.failure = create(FailureSchema, arm.value.failure as MessageInitShape<typeof FailureSchema>);
        entry.failures += 1;
        if (entry.cancelReason !== undefined) return this.#end(entry, JobState.CANCELLED, now);
        const next = nextAfter(entry.spec.retry, maxAttempts(entry), entry.failures, entry.failure.type, arm.value.action, msOf(arm.value.retryDelay));
        if (next === "dead") return this.#end(entry, JobState.DEAD, now);
        if (next === "discard") return this.#end(entry, JobState.DISCARDED, now);
        return this.#wait(entry, JobState.RETRYING, now + next);
      }
      case "snoozed":
        return this.#wait(entry, JobState.SCHEDULED, now + (msOf(arm.value.delay) ?? 0));
      default:
        return this.#wait(entry, JobState.READY, now);
    }
  }

  /** Cancels a waiting job at once; a running one only hears of it. Answers false when it had ended. */
  cancel(entry: Entry, reason: string, now: number): boolean {
    if (entry.finishedAt !== undefined) return false;
    if (entry.state === JobState.RUNNING) {
      entry.cancelReason = reason;
      return true;
    }
    entry.failure = cancelled(reason);
    this.#end(entry, JobState.CANCELLED, now);
    return true;
  }

  /** Starts an ended job over, or ends the wait of a waiting one. Answers false for one that runs. */
  retry(entry: Entry, resetAttempts: boolean, now: number): boolean {
    if (entry.state === JobState.RUNNING) return false;
    if (resetAttempts) entry.failures = entry.granted = 0;
    else if (entry.finishedAt !== undefined) entry.granted += 1;
    entry.finishedAt = undefined;
    entry.expiresAt = Infinity;
    this.#wait(entry, JobState.READY, now);
    return true;
  }

  #add(spec: JobSpec, uniqueKey: string, now: number): Entry {
    const dueAt = Math.max(now, startOf(spec, now));
    const entry: Entry = {
      id: spec.id, order: this.#orders++, spec, state: dueAt > now ? JobState.SCHEDULED : JobState.READY,
      createdAt: now, dueAt, plannedAt: dueAt, expiresAt: expiryOf(spec, dueAt), startedAt: undefined, finishedAt: undefined,
      failures: 0, granted: 0, delivery: 0, result: undefined, failure: undefined, checkpoint: undefined,
      progress: undefined, lines: [], uniqueKey, cancelReason: undefined,
    };
    this.#entries.set(entry.id, entry);
    this.#waiting.add(entry);
    return entry;
  }

  #repeated(first: Entry, spec: JobSpec, reason: string): Put {
    if (sameContent(first.spec, spec)) return { entry: first, status: EnqueueStatus.DUPLICATE };
    throw new AlreadyExists(`job ${first.id} exists with other content`, { reason, field: "id", metadata: { job_id: first.id } });
  }

  #holder(uniqueKey: string, now: number): Entry | undefined {
    const throttle = this.#throttles.get(uniqueKey);
    if (throttle && throttle.until > now) return this.#entries.get(throttle.id);
    for (const entry of this.#entries.values()) {
      if (entry.uniqueKey !== uniqueKey || entry.finishedAt !== undefined) continue;
      const { scope } = entry.spec.unique!;
      if (scope === UniqueScope.FOR_TTL || (scope === UniqueScope.UNTIL_STARTED && entry.delivery > 0)) continue;
      return entry;
    }
    return undefined;
  }

  #conflict(holder: Entry, spec: JobSpec, now: number): Put {
    const { onConflict } = spec.unique!;
    if (onConflict === UniqueConflict.REJECT) {
      throw new AlreadyExists(`the uniqueness key is taken by job ${holder.id}`, { reason: "UNIQUE_CONFLICT", metadata: { job_id: holder.id } });
    }
    const changes = onConflict === UniqueConflict.REPLACE || onConflict === UniqueConflict.DEBOUNCE;
    if (!changes || holder.delivery > 0 || holder.finishedAt !== undefined) return { entry: holder, status: EnqueueStatus.KEPT };
    if (onConflict === UniqueConflict.REPLACE) holder.spec = create(JobSpecSchema, { ...holder.spec, payload: spec.payload });
    const dueAt = Math.max(now, startOf(spec, now));
    holder.plannedAt = dueAt;
    holder.expiresAt = expiryOf(spec, dueAt);
    this.#wait(holder, dueAt > now ? JobState.SCHEDULED : JobState.READY, dueAt);
    return { entry: holder, status: EnqueueStatus.REPLACED };
  }

  #wait(entry: Entry, state: JobState, dueAt: number): void {
    this.#waiting.add(entry);
    entry.state = state;
    entry.dueAt = dueAt;
    this.changed(entry);
  }

  #end(entry: Entry, state: JobState, now: number): void {
    this.#waiting.delete(entry);
    entry.state = state;
    entry.finishedAt = now;
    entry.cancelReason = undefined;
    this.changed(entry);
  }
}

/** The record, as the server would show it. */
export function jobOf(entry: Entry): Job {
  const { id, spec, state, delivery, createdAt, dueAt, startedAt, finishedAt, progress, result, failure } = entry;
  const going = state === JobState.RUNNING || state === JobState.SUCCEEDED;
  return create(JobSchema, {
    id, spec, state, delivery, progress, result, failure,
    attempt: entry.failures + (going ? 1 : 0),
    createTime: spanOf(createdAt),
    scheduleTime: spanOf(dueAt),
    startTime: startedAt === undefined ? undefined : spanOf(startedAt),
    finishTime: finishedAt === undefined ? undefined : spanOf(finishedAt),
  });
}

/** The result of a job that has ended. */
export function resultOf(entry: Entry): JobResult {
  const { id, state, result, failure, finishedAt } = entry;
  return create(JobResultSchema, { jobId: id, state, result, failure, finishTime: spanOf(finishedAt ?? 0) });
}

function cancelled(reason: string): Failure {
  return create(FailureSchema, { kind: FailureKind.CANCELLED, message: reason ? `cancelled: ${reason}` : "cancelled" });
}

function before(at: number, entry: Entry, best: { entry: Entry; at: number }): boolean {
  if (at !== best.at) return at < best.at;
  const first = best.entry;
  if (entry.spec.priority !== first.spec.priority) return entry.spec.priority > first.spec.priority;
  return entry.order < first.order;
}

/** What the fake would only pretend to do is refused. */
function refuseUnknown(spec: JobSpec): void {
  const unknown = spec.dependsOn.length > 0 ? "after" : spec.totalTimeout ? "totalTimeout" : undefined;
  if (unknown === undefined) return;
  throw new Unimplemented(`the fake does not know ${unknown}; test it with testServer()`, { reason: "FEATURE_DISABLED", field: unknown });
}

function maxAttempts({ spec, granted }: Entry): number {
  const policy = spec.retry?.maxAttempts || 20;
  return policy < 0 ? -1 : policy + granted;
}

function startOf({ start }: JobSpec, now: number): number {
  if (start.case === "delay") return now + msOf(start.value);
  return start.case === "scheduleTime" ? msOf(start.value) : now;
}

function expiryOf({ expiration }: JobSpec, dueAt: number): number {
  if (expiration.case === "ttl") return dueAt + msOf(expiration.value);
  return expiration.case === "expireTime" ? msOf(expiration.value) : Infinity;
}

function uniqueKeyOf({ unique, queue, type, fairnessKey, payload }: JobSpec): string {
  if (!unique) return "";
  const hash = payload ? Buffer.from(toBinary(PayloadSchema, payload)).toString("base64") : "";
  return JSON.stringify([queue, fairnessKey, unique.key || [type, hash]]);
}

function sameContent(a: JobSpec, b: JobSpec): boolean {
  const bytes = ({ type, queue, payload }: JobSpec) => toBinary(JobSpecSchema, create(JobSpecSchema, { type, queue, payload }));
  return Buffer.compare(bytes(a), bytes(b)) === 0;
}

