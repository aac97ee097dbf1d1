// What a handler knows about its job, and how it speaks while it runs.
import { AsyncLocalStorage } from "node:async_hooks";
import { create } from "@bufbuild/protobuf";
import { NO_CODECS, type Codecs } from "./codecs.js";
import { Cancellation, InvalidArgument, type CancelReason } from "./errors.js";
import { PayloadSchema } from "./gen/jobwire/v1/common_pb.js";
import type { JobSpec } from "./gen/jobwire/v1/job_pb.js";
import type { JobData, RunnerEvent } from "./messages.js";
import { bodyBytes, decodeBody, encodeBody, encodeJson } from "./payload.js";
import { buildSpec, payloadInit, type SizeLimits } from "./spec.js";
import type { Task } from "./tasks.js";
import type { Failure, JobOptions, JobState, LogLevel, Progress } from "./types.js";
import { bodyOf, publicFailure } from "./wire.js";

const PROGRESS_BYTES_MAX = 4 << 10;
const LOG_MESSAGE_CHARS_MAX = 7 << 10;

/** Logs a line with the job. Values of `fields` that are no strings are written as JSON. */
export type LogFunction = (message: string, fields?: Record<string, unknown>) => void;

/** Result of a job this one waited for. */
export interface DependencyResult {
  alias: string;
  jobId: string;
  state: JobState;
  result: unknown;
  failure: Failure | undefined;
}

/** A running job, as its handler sees it. */
export interface Context {
  readonly jobId: string;
  readonly type: string;
  readonly queue: string;
  /** 1 for the first. Snoozes, releases and lost workers do not raise it. */
  readonly attempt: number;
  /** Equal to `attempt` on the last one; -1 = no limit. */
  readonly maxAttempts: number;
  /** Rises with every hand-out: the number to fence other systems with. */
  readonly delivery: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly tags: readonly string[];
  readonly workflowId: string;
  readonly node: string;
  readonly parentId: string;
  readonly scheduleId: string;
  /** The tick this run stands for, when it came from a schedule. */
  readonly fireTime: Date | undefined;
  /** When this attempt will be cancelled with reason `timeout`; on this machine's clock. */
  readonly deadline: Date | undefined;
  /** Why the previous attempt failed. */
  readonly lastFailure: Failure | undefined;
  readonly dependencies: readonly DependencyResult[];

  /** Aborts when the handler should stop; its `reason` is a `Cancellation`. Pass it on to `fetch` and the like. */
  readonly signal: AbortSignal;
  readonly cancelled: boolean;
  readonly cancelReason: CancelReason | undefined;
  /** The server has not confirmed the lease in time: another worker may get the job. Nothing is stopped for it. */
  readonly leaseAtRisk: boolean;

  /**
   * Reports progress: a percentage, or counts. The latest report wins, at most one leaves every 250 ms, the last one
   * always does. At most 4 KiB. Resets `heartbeatTimeout`.
   */
  progress(percent: number, more?: Omit<Progress, "percent">): void;
  progress(progress: Progress): void;

  /** What `saveCheckpoint` saved last, in this attempt or an earlier one; `undefined` at first. */
  readonly checkpoint: unknown;
  /** Saves state for the next attempt: JSON, at most 64 KiB. Sent with progress and with the outcome. */
  saveCheckpoint(value: unknown): void;

  /** Lines kept with the job; at most 8 KiB each. Never slows the handler: under load the oldest are dropped. */
  readonly log: Readonly<Record<LogLevel, LogFunction>>;

  /**
   * Enqueues with the outcome of this job: recorded in the same step, exactly once, and only if the job succeeds (or,
   * with `always`, whatever its outcome). There is no handle; for one use `client.enqueue`.
   */
  enqueue<Input>(task: Task<Input, any, any, any>, input: NoInfer<Input>, options?: JobOptions & { always?: boolean }): Promise<void>;
  enqueue(type: string, input: unknown, options?: JobOptions & { always?: boolean }): Promise<void>;
}

/** One for all copies of this package in a thread: a worker that was imported may run handlers that were required. */
const AMBIENT = Symbol.for("jobwire.context");
const ambient = ((globalThis as { [AMBIENT]?: AsyncLocalStorage<Here> })[AMBIENT] ??= new AsyncLocalStorage<Here>());

/** What is known where a handler runs; one of a batch has no job of its own. */
interface Here {
  job?: Context;
  logs: Pick<Context, "log">;
}

/** The context of the handler that is running here; `undefined` outside of handlers, and in those of batches. */
export function currentContext(): Context | undefined {
  return ambient.getStore()?.job;
}

/** Where lines go that the handler running here logs by other means than its context. */
export function currentLog(): Context["log"] | undefined {
  return ambient.getStore()?.logs.log;
}

/** Runs `fn` with `context` as the ambient one. */
export function withContext<T>(context: Context, fn: () => T): T {
  return ambient.run({ job: context, logs: context }, fn);
}

/** Runs `fn` with `logs` for what is logged, and no job. */
export function withLog<T>(logs: Pick<Context, "log">, fn: () => T): T {
  return ambient.run({ logs }, fn);
}

/** The worker's half of a context. */
export class JobContext implements Context {
  // Made when first asked for: most handlers look at neither, and jobs may come by the ten thousand a second.
  #abort: AbortController | undefined;
  #log: Readonly<Record<LogLevel, LogFunction>> | undefined;
  readonly #job: JobData;
  readonly #post: (event: RunnerEvent) => void;
  readonly #limits: () => SizeLimits;
  /** Jobs that wait for the outcome. */
  readonly enqueued: { spec: JobSpec; always: boolean }[] = [];
  #checkpoint: unknown;
  /** The cancel order said so: a `heartbeatTimeout`, not a `timeout`. */
  stalled = false;
  leaseAtRisk = false;
  /** Hears of changes of `leaseAtRisk`. */
  onRisk: ((atRisk: boolean) => void) | undefined;
  readonly deadline: Date | undefined;

  constructor(
    job: JobData,
    post: (event: RunnerEvent) => void,
    limits: () => SizeLimits,
    private readonly codecs: Codecs = NO_CODECS,
  ) {
    this.#job = job;
    this.#post = post;
    this.#limits = limits;
    this.#checkpoint = decodeBody(job.checkpoint, codecs);
    this.deadline = job.timeoutMs === undefined ? undefined : new Date(Date.now() + job.timeoutMs);
  }

  get jobId() { return this.#job.id; }
  get type() { return this.#job.type; }
  get queue() { return this.#job.queue; }
  get attempt() { return this.#job.attempt; }
  get maxAttempts() { return this.#job.maxAttempts; }
  get delivery() { return this.#job.delivery; }
  get headers() { return this.#job.headers; }
  get tags() { return this.#job.tags; }
  get workflowId() { return this.#job.workflowId; }
  get node() { return this.#job.node; }
  get parentId() { return this.#job.parentId; }
  get scheduleId() { return this.#job.scheduleId; }
  get fireTime() { return this.#job.fireTimeMs === undefined ? undefined : new Date(this.#job.fireTimeMs); }
  get lastFailure() { return publicFailure(this.#job.lastFailure); }
  get dependencies() {
    return this.#job.dependencies.map(({ result, failure, ...rest }) => ({
      ...rest,
      result: decodeBody(result, this.codecs),
      failure: publicFailure(failure),
    }));
  }

  get signal(): AbortSignal { return (this.#abort ??= new AbortController()).signal; }
  get cancelled(): boolean { return this.#abort?.signal.aborted ?? false; }
  get cancelReason(): CancelReason | undefined {
    return (this.#abort?.signal.reason as Cancellation | undefined)?.reason;
  }

  get log(): Readonly<Record<LogLevel, LogFunction>> {
    const level = (name: LogLevel): LogFunction => (message, fields) => this.#line(name, message, fields);
    return (this.#log ??= {
      trace: level("trace"),
      debug: level("debug"),
      info: level("info"),
      warn: level("warn"),
      error: level("error"),
      fatal: level("fatal"),
    });
  }

  /** Aborts the signal. The loss of the lease replaces no earlier reason: a signal aborts once. */
  cancel(reason: CancelReason, message: string): void {
    (this.#abort ??= new AbortController()).abort(new Cancellation(reason, message));
  }

  /** The lease is in danger, or safe again. */
  risk(atRisk: boolean): void {
    this.leaseAtRisk = atRisk;
    this.onRisk?.(atRisk);
  }

  /** What another thread needs to make the same context; there are no codecs there. */
  crossing(): { job: JobData; limits: SizeLimits } {
    const checkpoint = this.codecs.decode(this.#job.checkpoint);
    const dependencies = this.#job.dependencies.map((one) => ({ ...one, result: this.codecs.decode(one.result) }));
    return { job: { ...this.#job, payload: undefined, checkpoint, dependencies }, limits: this.#limits() };
  }

  /** Passes on what the context in another thread has said. */
  relay(event: RunnerEvent): void {
    if (event.event === "progress" && event.checkpoint) this.#post({ ...event, checkpoint: this.codecs.encode(event.checkpoint) });
    else this.#post(event);
  }

  /** Takes over jobs that the context in another thread has enqueued. */
  adopt(enqueued: { spec: JobSpec; always: boolean }[]): void {
    for (const { spec, always } of enqueued) {
      const body = bodyOf(spec.payload);
      if (body) spec.payload = create(PayloadSchema, payloadInit(this.codecs.encode(body)));
      this.enqueued.push({ spec, always });
    }
  }

  progress(first: number | Progress, more: Omit<Progress, "percent"> = {}): void {
    const given: Progress = typeof first === "number" ? { percent: first, ...more } : first;
    const progress: Progress = {};
    for (const field of ["percent", "current", "total"] as const) {
      const value = given[field];
      if (value === undefined) continue;
      if (!Number.isFinite(value)) throw invalid(`progress.${field}`, "must be a finite number");
      progress[field] = value;
    }
    if (progress.percent !== undefined) progress.percent = Math.min(100, Math.max(0, progress.percent));
    if (given.message !== undefined) progress.message = String(given.message).slice(0, 1_024);
    if (given.data !== undefined) {
      const text = encodeJson(given.data, "progress.data");
      if (text.length > PROGRESS_BYTES_MAX - 1_100) throw invalid("progress.data", `is ${text.length} characters; at most 3,000 fit`);
      const data: unknown = JSON.parse(text);
      if (typeof data !== "object" || data === null || Array.isArray(data)) throw invalid("progress.data", "must be an object");
      progress.data = data as Record<string, unknown>;
    }
    this.#post({ event: "progress", key: this.#job.key, progress });
  }

  get checkpoint(): unknown { return this.#checkpoint; }

  saveCheckpoint(value: unknown): void {
    const checkpoint = encodeBody(value, "checkpoint", this.codecs);
    const limit = this.#limits().checkpointBytes;
    if (bodyBytes(checkpoint) > limit) throw invalid("checkpoint", `is ${bodyBytes(checkpoint)} bytes; the limit is ${limit}`);
    this.#checkpoint = value;
    this.#post({ event: "progress", key: this.#job.key, checkpoint });
  }

  async enqueue(task: Task | string, input: unknown, options: JobOptions & { always?: boolean } = {}): Promise<void> {
    const { always = false, ...rest } = options;
    const { spec } = await buildSpec(task, input, rest, this.codecs);
    this.enqueued.push({ spec, always });
  }

  /** Jobs that go with an outcome. */
  enqueuedWith(success: boolean): JobSpec[] {
    return this.enqueued.filter(({ always }) => success || always).map(({ spec }) => spec);
  }

  #line(level: LogLevel, message: string, fields: Record<string, unknown> = {}): void {
    const text: Record<string, string> = {};
    for (const [key, value] of Object.entries(fields)) {
      text[key] = (typeof value === "string" ? value : describe(value)).slice(0, 1_024);
    }
    const line = { timeMs: Date.now(), level, message: String(message).slice(0, LOG_MESSAGE_CHARS_MAX), fields: text };
    this.#post({ event: "log", key: this.#job.key, line });
  }
}

function describe(value: unknown): string {
  if (value instanceof Error) return value.stack ?? String(value);
  try {
    return encodeJson(value, "field");
  } catch {
    return String(value);
  }
}

function invalid(field: string, message: string): InvalidArgument {
  return new InvalidArgument(`${field} ${message}`, { reason: "INVALID_FIELD", field });
}
