// A worker's handlers at work without a session: one attempt at a time is asked for, and its outcome comes back.
import { insideOf } from "../client.js";
import type { BatchRule } from "../gathering.js";
import type { JobData, OutcomeData, RunnerEvent } from "../messages.js";
import { Runner, type Registration } from "../runner.js";
import { workerInside, type Worker } from "../worker.js";

/** What a handler says while it runs. */
export type Report = (event: Extract<RunnerEvent, { event: "progress" | "log" }>) => void;

export class Hands {
  readonly #handlers: ReadonlyMap<string, Registration>;
  readonly #runner: Runner;
  readonly #attempts = new Map<number, { report: Report; finish(outcome: OutcomeData): void }>();

  constructor(worker: Worker) {
    const { client, handlers, classifiers } = workerInside(worker);
    this.#handlers = handlers;
    this.#runner = new Runner(handlers, classifiers, (events) => events.forEach((event) => this.#heard(event)), () => {}, undefined, insideOf(client).codecs);
  }

  /** Types that it has handlers for, now. */
  get types(): Iterable<string> {
    return this.#handlers.keys();
  }

  /** Which jobs of this type it runs in one call, if it does. */
  batch(type: string): BatchRule | undefined {
    return this.#handlers.get(type)?.batch;
  }

  /** Runs them in one call, as `attempt` does one; an outcome for each. */
  attemptBatch(jobs: JobData[], reports: Report[]): Promise<OutcomeData[]> {
    const outcomes = jobs.map((job, i) => new Promise<OutcomeData>((finish) => this.#attempts.set(job.key, { report: reports[i]!, finish })));
    this.#runner.obey({ command: "runBatch", jobs });
    return Promise.all(outcomes);
  }

  /** Never rejects: whatever the handler does is an outcome. */
  attempt(job: JobData, report: Report): Promise<OutcomeData> {
    return new Promise((finish) => {
      this.#attempts.set(job.key, { report, finish });
      this.#runner.obey({ command: "run", job });
    });
  }

  /** Asks the handler of that attempt to stop. */
  cancel(key: number, message: string): void {
    this.#runner.obey({ command: "cancel", key, reason: "requested", message });
  }

  #heard(event: RunnerEvent): void {
    if (!("key" in event)) return;
    const attempt = this.#attempts.get(event.key);
    if (event.event !== "finished") return attempt?.report(event);
    this.#attempts.delete(event.key);
    attempt?.finish(event.outcome);
  }
}
