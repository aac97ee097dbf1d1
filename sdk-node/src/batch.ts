// Handlers that run several jobs in one call: what they are given and what they can say of each job.
import { check, checkEach, duration, invalid, isRecord, isWhole, show } from "./checks.js";
import { JobContext, type Context } from "./context.js";
import { RetryAfter, Snooze } from "./directives.js";
import { toMs, type Duration } from "./duration.js";
import { Cancellation, InvalidArgument, type CancelReason } from "./errors.js";
import type { BatchRule } from "./gathering.js";
import type { LogLevel, Progress } from "./types.js";

/** Which jobs come together in one call. */
export interface BatchOptions {
  /** Jobs of a call at most, 1 to 1,000. The worker holds at least as many (`concurrency` + `prefetch`). */
  maxSize: number;
  /** How long the first job waits for others, at most 1 minute; 0 = for nobody. Default 100 ms. */
  linger?: Duration;
  /** Only jobs of one queue and `fairnessKey` in a call. Default false. */
  byKey?: boolean;
}

/**
 * A function that does the work of several jobs. A list that it returns has their results, in order; when it returns nothing
 * they all succeed; what it throws is the failure of each of which nothing else was said.
 */
export type BatchHandler<Input, Output> = (
  inputs: Input[],
  context: BatchContext<Input, Output>,
) => readonly Output[] | void | Promise<readonly Output[] | void>;

/** One job of a batch: its context, its input, and ways to say how it ended. What was said last counts. */
export interface BatchJob<Input = unknown, Output = unknown> extends Context {
  readonly id: string;
  /** As the handler has it. */
  readonly input: Input;
  /** It is done, with this result. */
  succeed(result?: Output): void;
  /** It failed with this error, as if a handler of its own had thrown it: directives and classifiers apply. */
  fail(error: unknown): void;
  /** It failed; run again after `delay`, not before. */
  retryAfter(delay: Duration, message?: string): void;
  /** Not now: run again after `delay`. Uses no attempt. */
  snooze(delay: Duration, options?: { reason?: string; throttle?: "key" | "queue" }): void;
}

/** A running batch. Checkpoints, `enqueue`, attempts and the like are of single jobs: `ctx.jobs[0].enqueue(…)`. */
export interface BatchContext<Input = unknown, Output = unknown> {
  readonly type: string;
  /** One for each input, in the same order. */
  readonly jobs: readonly BatchJob<Input, Output>[];
  /** Aborts when every job of the batch was asked to stop; of one, look at `ctx.jobs[i].signal`. */
  readonly signal: AbortSignal;
  readonly cancelled: boolean;
  readonly cancelReason: CancelReason | undefined;
  /** When this call will be cancelled with reason `timeout`: by the shortest timeout of its jobs. */
  readonly deadline: Date | undefined;
  /** Reports progress of each job. */
  progress(percent: number, more?: Omit<Progress, "percent">): void;
  progress(progress: Progress): void;
  /** Logs a line with each job. */
  readonly log: Context["log"];
}

const SIZE_MAX = 1_000;
const LINGER_MS_MAX = 60_000;
const OPTIONS = {
  maxSize: check((value) => isWhole(value, 1, SIZE_MAX), "a whole number from 1 to 1,000"),
  linger: duration,
  byKey: check((value) => typeof value === "boolean", "true or false"),
};
const MEANT = { size: "maxSize", batchSize: "maxSize", minSize: "linger", timeout: "linger" };

/** Throws InvalidArgument for options that no batch can have. */
export function batchRule(options: BatchOptions): BatchRule {
  if (!isRecord(options)) throw invalid("maxSize", `a batch handler has options, { maxSize: 50 }, not ${show(options)}`);
  checkEach(OPTIONS, options, "", MEANT);
  const { maxSize, linger = "100ms", byKey = false } = options;
  if (maxSize === undefined) throw invalid("maxSize", "maxSize is missing: the jobs of a call at most");
  const lingerMs = toMs(linger, "linger");
  if (lingerMs > LINGER_MS_MAX) throw invalid("linger", `linger is 1 minute at most, not ${show(linger)}`);
  return { maxSize, lingerMs, byKey };
}

/** The worker's half of a job in a batch. */
export class MemberContext extends JobContext implements BatchJob {
  input: unknown;
  #own: { succeeded: unknown } | { failed: unknown } | undefined;

  get id(): string { return this.jobId; }

  succeed(result?: unknown): void {
    this.#own = { succeeded: result };
  }

  fail(error: unknown): void {
    this.#own = { failed: typeof error === "string" ? new Error(error) : error };
  }

  retryAfter(delay: Duration, message?: string): void {
    this.fail(new RetryAfter(delay, message));
  }

  snooze(delay: Duration, options?: { reason?: string; throttle?: "key" | "queue" }): void {
    this.fail(new Snooze(delay, options));
  }

  /** What was said of it; `undefined` for nothing. */
  get own(): { succeeded: unknown } | { failed: unknown } | undefined {
    return this.#own;
  }
}

/** From the gravest. */
const GRAVEST: readonly CancelReason[] = ["lease_lost", "timeout", "shutdown", "workflow", "requested"];

/** The worker's half of a batch. */
export class Batch implements BatchContext {
  readonly #abort = new AbortController();
  readonly log: Context["log"];

  constructor(readonly jobs: readonly MemberContext[]) {
    const level = (name: LogLevel): Context["log"][LogLevel] => (message, fields) => {
      for (const job of this.jobs) job.log[name](message, fields);
    };
    this.log = {
      trace: level("trace"), debug: level("debug"), info: level("info"), warn: level("warn"), error: level("error"), fatal: level("fatal"),
    };
  }

  get type() { return this.jobs[0]!.type; }
  get signal(): AbortSignal { return this.#abort.signal; }
  get cancelled() { return this.#abort.signal.aborted; }
  get cancelReason() { return (this.#abort.signal.reason as Cancellation | undefined)?.reason; }
  get deadline() { return this.jobs[0]!.deadline; }

  progress(first: number | Progress, more?: Omit<Progress, "percent">): void {
    for (const job of this.jobs) {
      if (typeof first === "number") job.progress(first, more);
      else job.progress(first);
    }
  }

  /** A job was asked to stop: the call is to stop once all are. */
  marked(): void {
    const reasons = this.jobs.map(({ cancelReason }) => cancelReason);
    if (this.cancelled || reasons.includes(undefined)) return;
    const gravest = GRAVEST.find((reason) => reasons.includes(reason))!;
    const { signal } = this.jobs.find(({ cancelReason }) => cancelReason === gravest)!;
    this.#abort.abort(new Cancellation(gravest, (signal.reason as Cancellation).message));
  }
}

/** The result of a job by its place in what the handler returned. Throws InvalidArgument for what is no such list. */
export function resultsOf(returned: unknown, jobs: number): (place: number) => unknown {
  if (returned === undefined) return () => undefined;
  if (Array.isArray(returned) && returned.length === jobs) return (place) => returned[place] as unknown;
  const got = Array.isArray(returned) ? `${returned.length} results` : show(returned);
  throw new InvalidArgument(`a batch of ${jobs} jobs returns as many results, or nothing, not ${got}`, { field: "results" });
}
