// Clients without a server: `fake` records and runs on a clock that the test moves, `inline` runs at once.
import { deepStrictEqual, AssertionError } from "node:assert";
import { inspect, isDeepStrictEqual } from "node:util";
import { insideOf, type Client } from "../client.js";
import type { Codecs } from "../codecs.js";
import { toMs, type Duration } from "../duration.js";
import { decodeBody, decodeJson, encodeJson } from "../payload.js";
import type { Task } from "../tasks.js";
import type { JobOptions } from "../types.js";
import { bodyOf } from "../wire.js";
import type { Worker } from "../worker.js";
import type { Entry } from "./book.js";
import { FakeTransport } from "./fake-transport.js";
import { optionsOf } from "./options.js";
import { Simulation } from "./simulation.js";

/** A job that was enqueued while its client was a fake. */
export interface EnqueuedJob {
  readonly id: string;
  readonly type: string;
  readonly queue: string;
  /** As a handler gets it: after a round trip through JSON. */
  readonly input: unknown;
  /** What the call and the task asked for, durations in milliseconds; `queue`, `delay` and `at` have their own fields. */
  readonly options: JobOptions;
  /** When it is to start first, on the fake's clock. */
  readonly dueAt: Date;
}

/** The other side of a fake client. */
export class FakeJobs {
  readonly #simulation: Simulation;
  readonly #restore: () => void;
  readonly #codecs: Codecs;

  /** Made by `fake()` and `inline()`. */
  constructor(client: Client, workers: readonly Worker[], inline: boolean) {
    this.#simulation = new Simulation(workers, inline);
    this.#codecs = insideOf(client).codecs;
    this.#restore = insideOf(client).replaceTransport(new FakeTransport(this.#simulation));
  }

  /**
   * Jobs that were created since the start or the last `clear()`, in order. Repeats of an id or an idempotency key, and
   * newcomers that met a taken uniqueness key, are not among them; a job that was replaced shows its new input.
   */
  get enqueued(): EnqueuedJob[] {
    return this.#simulation.enqueued.map((entry) => enqueuedJob(entry, this.#codecs));
  }

  /** The fake's clock. It starts with the time of day and moves by `advance()` only. */
  get now(): Date {
    return new Date(this.#simulation.now);
  }

  /** Forgets all jobs, the waiting ones and those that have ended too. The clock stays. */
  clear(): void {
    this.#simulation.clear();
  }

  /**
   * Runs what is due now, and what that enqueues for now: in order of time, then priority, then enqueue, one after the
   * other. Jobs whose type has no handler in the given workers wait. Answers the number of attempts. Throws
   * FailedPrecondition after 10,000 of them.
   */
  async run(): Promise<number> {
    return this.#simulation.run(this.#simulation.now);
  }

  /**
   * Moves the clock, and runs what comes due on the way at its time: delayed jobs, retries with the policy's delays
   * (without jitter), snoozes, `RetryAfter`; waiting jobs expire. Answers the number of attempts.
   */
  async advance(by: Duration): Promise<number> {
    return this.#simulation.run(this.#simulation.now + toMs(by, "by"));
  }

  /**
   * Throws AssertionError unless a job of this task was enqueued, with this input if one is given (compared as JSON),
   * and exactly `times` times if that is given. `times` 0 says that there was none.
   */
  assertEnqueued<Input>(task: Task<Input, any, any, any> | string, input?: NoInfer<Input>, times?: number): void {
    const type = typeof task === "string" ? task : task.name;
    const ofType = this.enqueued.filter((job) => job.type === type);
    const wanted = input === undefined ? undefined : decodeJson(encodeJson(input, "input"));
    const found = wanted === undefined ? ofType : ofType.filter((job) => isDeepStrictEqual(job.input, wanted));
    if (times === undefined ? found.length > 0 : found.length === times) return;
    // One job of the type with another input: the difference says most.
    if (times !== 0 && wanted !== undefined && ofType.length === 1) deepStrictEqual(ofType[0]!.input, wanted);
    const what = wanted === undefined ? type : `${type} with ${inspect(wanted)}`;
    const all = this.enqueued.map((job) => `\n  ${job.type} ${inspect(job.input)}`).join("") || " nothing";
    const expected = times === undefined ? "once or more" : `${times} times`;
    throw new AssertionError({
      message: `${what} was to be enqueued ${expected}, and was ${found.length} times. Enqueued:${all}`,
      actual: found.length,
      expected: times ?? 1,
      operator: "assertEnqueued",
      stackStartFn: this.assertEnqueued,
    });
  }

  /** The client speaks to its server again. Jobs of the fake are unknown there. */
  restore(): void {
    this.#restore();
  }

  [Symbol.dispose](): void {
    this.restore();
  }
}

/**
 * Makes a client a fake until `restore()`: enqueues are recorded and nothing is sent. Handles made by it answer
 * `status()`, `result()`, `events()`, `cancel()` and `retry()` as the server would. Handlers of the given workers, which
 * must not be running, are called by `run()` and `advance()`; `result()` of a job that has not run waits for that.
 *
 * It follows id, idempotency key, uniqueness, delay and time of start, expiry, priority and retry policy. Attempts have
 * no timeout. What it does not know (`after`, `totalTimeout`) is refused with Unimplemented.
 *
 * ```ts
 * using jobs = fake(client, worker);
 * await signUp("ada@example.com");
 * jobs.assertEnqueued(sendMail, { to: "ada@example.com" });
 * await jobs.advance("10m");
 * ```
 */
export function fake(client: Client, ...workers: Worker[]): FakeJobs {
  return new FakeJobs(client, workers, false);
}

/**
 * Makes a client run each job in this process before its enqueue returns, until `restore()`: the handle has its result.
 * Delays, retries and snoozes are not waited for; the clock jumps over them. Input and result make their round trip
 * through JSON. A job without a handler in the given workers is refused with FailedPrecondition. Otherwise as `fake()`.
 */
export function inline(client: Client, ...workers: Worker[]): FakeJobs {
  return new FakeJobs(client, workers, true);
}

function enqueuedJob({ id, spec, plannedAt }: Entry, codecs: Codecs): EnqueuedJob {
  return {
    id,
    type: spec.type,
    queue: spec.queue,
    input: decodeBody(bodyOf(spec.payload), codecs),
    options: optionsOf(spec),
    dueAt: new Date(plannedAt),
  };
}
