// The fake server: a book of jobs, a clock that only moves when told to, and the handlers of workers.
import { FailedPrecondition, JobwireError } from "../errors.js";
import type { JobSpec } from "../gen/jobwire/v1/job_pb.js";
import { EnqueueStatus } from "../gen/jobwire/v1/job_service_pb.js";
import { jobDataOf } from "../wire.js";
import type { Worker } from "../worker.js";
import { Book, type Entry, type Put } from "./book.js";
import { Hands, type Report } from "./hands.js";

/** Attempts that one `run`, `advance` or inline enqueue may make: more are taken for a job that calls itself for ever. */
const ATTEMPTS_MAX = 10_000;

export class Simulation {
  readonly book: Book;
  /** Jobs that were created, in order. */
  enqueued: Entry[] = [];
  /** Unix time in milliseconds. */
  now = Date.now();
  readonly #hands: Hands[];
  readonly #running = new Map<string, { hands: Hands; key: number }>();
  readonly #watchers = new Set<(entry: Entry) => void>();
  #keys = 0;
  /** What went wrong in a job that a handler waited for; `run` throws it. */
  #broken: { error: unknown } | undefined;

  /** `inline`: a job runs to its end when it is put in, whatever it has to wait for. */
  constructor(
    workers: readonly Worker[],
    private readonly inline: boolean,
  ) {
    this.#hands = workers.map((worker) => new Hands(worker));
    this.book = new Book((entry) => this.#watchers.forEach((watch) => watch(entry)));
  }

  /** Calls `watch` after each change of a job; answers how to end that. */
  watch(watch: (entry: Entry) => void): () => void {
    this.#watchers.add(watch);
    return () => void this.#watchers.delete(watch);
  }

  async put(spec: JobSpec): Promise<Put> {
    if (this.inline && !this.#handsOf(spec.type)) {
      throw new FailedPrecondition(`no handler for ${spec.type} in the workers given to inline()`, { reason: "NO_HANDLER", field: "type" });
    }
    const put = this.book.put(spec, this.now);
    if (put.status === EnqueueStatus.CREATED) this.enqueued.push(put.entry);
    if (this.inline && put.status === EnqueueStatus.CREATED) await this.#finish(put.entry);
    return put;
  }

  clear(): void {
    this.book.clear();
    this.enqueued = [];
  }

  /** Runs what is due up to `until`, in order of time, moving the clock along; answers how many attempts that were. */
  async run(until: number): Promise<number> {
    let attempts = 0;
    for (;;) {
      const next = this.book.next(until, this.#types());
      if (!next) break;
      this.now = Math.max(this.now, next.at);
      if (next.expires) {
        this.book.expire(next.entry, this.now);
        continue;
      }
      this.#bound(++attempts, next.entry);
      await this.#attempt(next.entry);
      if (this.#broken) throw this.#broken.error;
    }
    this.now = Math.max(this.now, until);
    this.book.ripen(this.now);
    return attempts;
  }

  /** A handler waits for this job: it runs now, if it is due, because the one that waits would keep it from running. */
  async demand(entry: Entry): Promise<void> {
    if (this.#running.size === 0) return;
    const due = () => entry.finishedAt === undefined && !this.#running.has(entry.id) && entry.dueAt <= this.now;
    try {
      while (due() && this.#handsOf(entry.spec.type)) await this.#attempt(entry);
    } catch (error) {
      this.#broken = { error };
    }
  }

  cancel(entry: Entry, reason: string): boolean {
    const done = this.book.cancel(entry, reason, this.now);
    const running = this.#running.get(entry.id);
    if (done && running) running.hands.cancel(running.key, reason);
    return done;
  }

  async retry(entry: Entry, resetAttempts: boolean): Promise<boolean> {
    const done = this.book.retry(entry, resetAttempts, this.now);
    if (done && this.inline) await this.#finish(entry);
    return done;
  }

  /** To the end, whatever it has to wait for. */
  async #finish(entry: Entry): Promise<void> {
    for (let attempts = 1; entry.finishedAt === undefined; attempts++) {
      this.#bound(attempts, entry);
      this.now = Math.max(this.now, entry.dueAt);
      if (entry.delivery === 0 && entry.expiresAt <= this.now) this.book.expire(entry, this.now);
      else await this.#attempt(entry);
    }
  }

  async #attempt(entry: Entry): Promise<void> {
    const hands = this.#handsOf(entry.spec.type)!;
    const batch = hands.batch(entry.spec.type);
    const entries = batch && !this.inline ? this.book.companions(entry, this.now, batch) : [entry];
    const jobs = entries.map((one) => {
      const key = this.#keys++;
      this.#running.set(one.id, { hands, key });
      return jobDataOf(this.book.lease(one, this.now), key);
    });
    const reports = entries.map((one): Report => (event) => this.book.report(one, event));
    const outcomes = batch ? await hands.attemptBatch(jobs, reports) : [await hands.attempt(jobs[0]!, reports[0]!)];
    for (const [i, outcome] of outcomes.entries()) {
      this.#running.delete(entries[i]!.id);
      this.book.settle(entries[i]!, outcome, this.now);
      for (const spec of outcome.enqueue ?? []) await this.#putBeside(spec);
    }
  }

  /** Jobs that go with an outcome: a conflict drops the newcomer. */
  async #putBeside(spec: JobSpec): Promise<void> {
    try {
      await this.put(spec);
    } catch (error) {
      if (!(error instanceof JobwireError) || error.code !== "ALREADY_EXISTS") throw error;
    }
  }

  #bound(attempts: number, entry: Entry): void {
    if (attempts <= ATTEMPTS_MAX) return;
    throw new FailedPrecondition(`${ATTEMPTS_MAX} attempts and no end: ${entry.spec.type} seems to enqueue or retry itself for ever`, {
      reason: "NO_END",
    });
  }

  #handsOf(type: string): Hands | undefined {
    return this.#hands.find((hands) => [...hands.types].includes(type));
  }

  #types(): Set<string> {
    return new Set(this.#hands.flatMap((hands) => [...hands.types]));
  }
}
