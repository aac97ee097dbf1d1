// Concurrent enqueues share calls. With nothing in flight a job leaves at once; jobs that come meanwhile gather and
// leave together when the call returns, or beside it once 1,000 of them or 1 MiB are gathered. No timer: the rate of
// the server sets the size of the batches.
import { JobwireError } from "./errors.js";
import type { JobSpec } from "./gen/jobwire/v1/job_pb.js";
import type { EnqueueResult } from "./gen/jobwire/v1/job_service_pb.js";
import { pause, retryDelayMs } from "./retry.js";
import type { BuiltSpec } from "./spec.js";
import { errorOfItem } from "./status.js";

export const BATCH_JOBS = 1_000;
export const BATCH_BYTES = 1 << 20;
/** Calls in flight at most; what comes beyond gathers on. */
const CALLS_MAX = 4;

/** What a caller learns about its job. */
export type Accepted = Pick<EnqueueResult, "jobId" | "status">;

/** Sends jobs in one call and answers one result per job, in order. Retries by itself until `deadlineAt`. */
export type SendJobs = (jobs: JobSpec[], deadlineAt: number) => Promise<EnqueueResult[]>;

/** Where the answer of item number `at` goes. One for all items of a call: closures for each would cost more than they. */
interface Sink {
  resolve(accepted: Accepted, at: number): void;
  reject(error: unknown, at: number): void;
}

interface Item {
  spec: JobSpec;
  bytes: number;
  deadlineAt: number;
  failures: number;
  sink: Sink;
  at: number;
}

export class Coalescer {
  #gathered: Item[] = [];
  #gatheredBytes = 0;
  #calls = 0;
  #open = 0;
  #whenIdle: (() => void)[] = [];

  constructor(private readonly send: SendJobs) {}

  /** Enqueues one job, alone or with others. The call lives as long as the longest deadline of its jobs. */
  add(built: BuiltSpec, deadlineAt: number): Promise<Accepted> {
    return new Promise((resolve, reject) => {
      this.#gather(this.#item(built, deadlineAt, { resolve, reject }, 0));
      this.#pump();
    });
  }

  /** Enqueues many jobs in their order, in calls of their own. */
  async addAll(built: BuiltSpec[], deadlineAt: number): Promise<PromiseSettledResult<Accepted>[]> {
    const results = new Array<PromiseSettledResult<Accepted>>(built.length);
    let left = built.length;
    let finish = (): void => {};
    const settled = new Promise<void>((resolve) => (finish = resolve));
    const put = (result: PromiseSettledResult<Accepted>, at: number): void => {
      results[at] = result;
      left -= 1;
      if (left === 0) finish();
    };
    const sink: Sink = {
      resolve: (value, at) => put({ status: "fulfilled", value }, at),
      reject: (reason, at) => put({ status: "rejected", reason }, at),
    };
    const items = built.map((one, at) => this.#item(one, deadlineAt, sink, at));
    while (items.length > 0) await this.#call(takeBatch(items));
    if (left > 0) await settled;
    return results;
  }

  /** Resolves when every job that was handed in has its answer. */
  idle(): Promise<void> {
    return this.#open === 0 ? Promise.resolve() : new Promise((resolve) => this.#whenIdle.push(resolve));
  }

  #item({ spec, bytes }: BuiltSpec, deadlineAt: number, sink: Sink, at: number): Item {
    this.#open += 1;
    return { spec, bytes, deadlineAt, failures: 0, sink, at };
  }

  #resolve({ sink, at }: Item, accepted: Accepted): void {
    sink.resolve(accepted, at);
    this.#closed();
  }

  #reject({ sink, at }: Item, error: unknown): void {
    sink.reject(error, at);
    this.#closed();
  }

  #closed(): void {
    this.#open -= 1;
    if (this.#open === 0) for (const idle of this.#whenIdle.splice(0)) idle();
  }

  #gather(item: Item): void {
    this.#gathered.push(item);
    this.#gatheredBytes += item.bytes;
  }

  #pump(): void {
    while (this.#gathered.length > 0) {
      const full = this.#gathered.length >= BATCH_JOBS || this.#gatheredBytes >= BATCH_BYTES;
      if (this.#calls > 0 && !(full && this.#calls < CALLS_MAX)) return;
      const batch = takeBatch(this.#gathered);
      for (const item of batch) this.#gatheredBytes -= item.bytes;
      this.#calls += 1;
      void this.#call(batch).then(() => {
        this.#calls -= 1;
        this.#pump();
      });
    }
  }

  /** One call; settles its items. Never rejects. */
  async #call(batch: Item[]): Promise<void> {
    const deadlineAt = Math.max(...batch.map((item) => item.deadlineAt));
    try {
      const results = await this.send(batch.map((item) => item.spec), deadlineAt);
      batch.forEach((item, i) => this.#answer(item, results[i]));
    } catch (error) {
      for (const item of batch) this.#reject(item, error);
    }
  }

  #answer(item: Item, result: EnqueueResult | undefined): void {
    if (!result) return this.#reject(item, new JobwireError("INTERNAL", "the server answered fewer results than jobs"));
    if (!result.error) return this.#resolve(item, result);
    const error = errorOfItem(result.error);
    const delay = retryDelayMs(item.failures, error.retryDelay);
    if (error.code !== "UNAVAILABLE" || performance.now() + delay >= item.deadlineAt) return this.#reject(item, error);
    item.failures += 1;
    void pause(delay).then(() => {
      this.#gather(item);
      this.#pump();
    });
  }
}

function takeBatch(items: Item[]): Item[] {
  let bytes = 0;
  let count = 0;
  while (count < items.length && count < BATCH_JOBS) {
    bytes += items[count]!.bytes;
    if (count > 0 && bytes > BATCH_BYTES) break;
    count += 1;
  }
  return items.splice(0, count);
}
