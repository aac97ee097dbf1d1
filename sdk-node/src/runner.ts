// Runs handlers: decodes, validates, calls, and turns whatever happens into one outcome per job. Knows nothing of
// streams or leases.
import { Batch, MemberContext, resultsOf, type BatchHandler } from "./batch.js";
import { BIND_HEADER, bindInput, isBound } from "./bind.js";
import { NO_CODECS, type Codecs } from "./codecs.js";
import { JobContext, withContext, withLog, type Context } from "./context.js";
import type { BatchRule } from "./gathering.js";
import type { DependencyData, JobData, OutcomeData, RunnerCommand, RunnerEvent } from "./messages.js";
import type { Classifier } from "./classifiers.js";
import { endingOf, failureOf, unprocessable, type Ending } from "./outcomes.js";
import { decodeBody, encodeBody, type Body } from "./payload.js";
import { DEFAULT_LIMITS, type SizeLimits } from "./spec.js";
import { validate, type AnyTask } from "./tasks.js";
import { ThreadDied } from "./thrown.js";

/** A function that does the work of a job. */
export type Handler<Input, Output> = (input: Input, context: Context) => Output | Promise<Output>;

/** A handler and the task it serves. */
export type Registration = { task: AnyTask } & (
  | { handler: Handler<never, unknown>; batch?: undefined }
  // Several jobs in a call.
  | { handler: BatchHandler<never, unknown>; batch: BatchRule }
);

/** What looks on while an attempt is made: calls it once, and answers its outcome. */
export type Observe = (job: JobData, attempt: () => Promise<OutcomeData>) => Promise<OutcomeData>;

/** A job that runs now. */
interface Run {
  job: JobData;
  context: JobContext;
  /** Shared by those that one call of their handler runs. */
  call: Call;
}

/** A call of a handler: that of a batch knows it, once its inputs are decoded. */
interface Call {
  batch?: Batch;
}

export class Runner {
  readonly #runs = new Map<number, Run>();
  readonly #ran = new Set<string>();
  #events: RunnerEvent[] = [];
  #limits: SizeLimits = DEFAULT_LIMITS;
  /** Handlers that were given up while they ran. */
  abandoned = 0;

  constructor(
    private readonly handlers: ReadonlyMap<string, Registration>,
    private readonly classifiers: readonly Classifier[],
    private readonly send: (events: RunnerEvent[]) => void,
    private readonly onFailed: (job: JobData, error: unknown) => void,
    private readonly observe?: Observe,
    private readonly codecs: Codecs = NO_CODECS,
    /** All results of the jobs that this one waited for, where not all came along. */
    private readonly results?: (jobId: string) => Promise<DependencyData[]>,
  ) {}

  /** Handlers that run now. */
  get running(): number {
    return new Set([...this.#runs.values()].map(({ call }) => call)).size;
  }

  /** The job that runs by this key. */
  job(key: number): JobData | undefined {
    return this.#runs.get(key)?.job;
  }

  /** Types of the handlers that have run since the last call: the suspects when the loop was blocked. */
  sample(): string[] {
    const types = [...this.#ran];
    this.#ran.clear();
    for (const { job } of this.#runs.values()) this.#ran.add(job.type);
    return types;
  }

  /** Sends an event; those of one turn travel together. */
  post(event: RunnerEvent): void {
    if (this.#events.length === 0) queueMicrotask(() => this.send(this.#events.splice(0)));
    this.#events.push(event);
  }

  /** Obeys a command of the session that concerns one job. */
  obey(command: RunnerCommand): void {
    switch (command.command) {
      case "run":
        return this.#start(command.job);
      case "runBatch":
        return this.#startBatch(command.jobs);
      case "cancel": {
        const run = this.#runs.get(command.key);
        if (!run) return;
        run.context.stalled = command.stalled ?? false;
        run.context.cancel(command.reason, command.message);
        return run.call.batch?.marked();
      }
      case "risk":
        return this.#runs.get(command.key)?.context.risk(command.atRisk);
      case "abandon":
        if (this.#runs.delete(command.key)) this.abandoned += 1;
        return;
      case "welcome":
        this.#limits = command.limits;
    }
  }

  /** Asks every handler to stop. */
  abort(message: string): void {
    for (const { context, call } of this.#runs.values()) {
      context.cancel("shutdown", message);
      call.batch?.marked();
    }
  }

  #start(job: JobData): void {
    const began = performance.now();
    const context = this.#enter(JobContext, job, {});
    if (!context) return;
    this.#watch(job, async () => this.#outcome(await withContext(context, () => this.#attempt(job, context)), context, began));
  }

  #startBatch(jobs: JobData[]): void {
    const began = performance.now();
    const call: Call = {};
    const members = jobs.flatMap((job) => {
      const context = this.#enter(MemberContext, job, call);
      return context ? [{ job, context }] : [];
    });
    const endings = this.#attemptBatch(members, call);
    members.forEach(({ job, context }, i) => {
      this.#watch(job, async () => this.#outcome((await endings)[i]!, context, began));
    });
  }

  /** Makes the context of a job that starts; without one the job has ended. */
  #enter<C extends JobContext>(Made: new (...args: ConstructorParameters<typeof JobContext>) => C, job: JobData, call: Call): C | undefined {
    try {
      const context = new Made(job, (event) => this.post(event), () => this.#limits, this.codecs);
      this.#runs.set(job.key, { job, context, call });
      this.#ran.add(job.type);
      return context;
    } catch (error) {
      this.#finish(job, { ...unprocessable(error), runMs: 0 } as OutcomeData);
      return undefined;
    }
  }

  #watch(job: JobData, attempt: () => Promise<OutcomeData>): void {
    void (this.observe ? this.observe(job, attempt) : attempt()).then((outcome) => {
      this.#runs.delete(job.key);
      this.#finish(job, outcome);
    });
  }

  #outcome(ending: Ending, context: JobContext, began: number): OutcomeData {
    const enqueue = context.enqueuedWith(ending.kind === "succeeded");
    return { ...ending, runMs: performance.now() - began, ...(enqueue.length > 0 && { enqueue }) } as OutcomeData;
  }

  #finish(job: JobData, outcome: OutcomeData): void {
    this.post({ event: "finished", key: job.key, outcome });
  }

  /** Never rejects. */
  async #attempt(job: JobData, context: JobContext): Promise<Ending> {
    const { handler } = this.handlers.get(job.type) as Extract<Registration, { batch?: undefined }>;
    let input: unknown;
    try {
      await this.#complete(job);
    } catch (error) {
      return this.#thrown(job, error, context);
    }
    try {
      input = await this.#input(job);
    } catch (error) {
      return this.#unusable(job, error);
    }
    try {
      return await this.#returned(job, await handler(input as never, context));
    } catch (error) {
      return this.#thrown(job, error, context);
    }
  }

  /** An ending for each, in order. Those whose input is no good are left out of the call. Never rejects. */
  async #attemptBatch(members: { job: JobData; context: MemberContext }[], call: Call): Promise<Ending[]> {
    const endings = new Map<MemberContext, Ending>();
    for (const { job, context } of members) {
      try {
        await this.#complete(job);
      } catch (error) {
        endings.set(context, this.#thrown(job, error, context));
        continue;
      }
      try {
        context.input = await this.#input(job);
      } catch (error) {
        endings.set(context, this.#unusable(job, error));
      }
    }
    const able = members.filter(({ context }) => !endings.has(context));
    if (able.length > 0) {
      const end = await this.#callBatch(able.map(({ context }) => context), call);
      for (const [place, { job, context }] of able.entries()) endings.set(context, await end(job, context, place));
    }
    return members.map(({ context }) => endings.get(context)!);
  }

  /** Calls the handler; answers how each job has ended. */
  async #callBatch(jobs: MemberContext[], call: Call): Promise<(job: JobData, context: MemberContext, place: number) => Ending | Promise<Ending>> {
    const { handler } = this.handlers.get(jobs[0]!.type) as Extract<Registration, { batch: BatchRule }>;
    const batch = (call.batch = new Batch(jobs));
    batch.marked();
    try {
      const inputs = jobs.map(({ input }) => input);
      const result = resultsOf(await withLog(batch, () => handler(inputs as never, batch as never)), jobs.length);
      return (job, context, place) => this.#said(job, context, context.own ?? { succeeded: result(place) });
    } catch (error) {
      return (job, context) => this.#said(job, context, context.own ?? { failed: error });
    }
  }

  #said(job: JobData, context: MemberContext, said: { succeeded?: unknown; failed?: unknown }): Ending | Promise<Ending> {
    return "failed" in said ? this.#thrown(job, said.failed, context) : this.#returned(job, said.succeeded);
  }

  /** Fetches the results that did not fit into the lease. */
  async #complete(job: JobData): Promise<void> {
    if (!job.dependenciesTruncated || !this.results) return;
    job.dependencies = await this.results(job.id);
    job.dependenciesTruncated = false;
  }

  async #input(job: JobData): Promise<unknown> {
    const { task } = this.handlers.get(job.type)!;
    const given = decodeBody(job.payload, this.codecs) ?? {};
    const results = () => job.dependencies.map(({ alias, result }) => ({ alias, result: decodeBody(result, this.codecs) }));
    return validate(task.input, isBound(job.headers) ? bindInput(given, job.headers[BIND_HEADER], results()) : given, "input");
  }

  async #returned(job: JobData, value: unknown): Promise<Ending> {
    const { task } = this.handlers.get(job.type)!;
    try {
      // Only checked: a schema that transforms does so where the result is read.
      await validate(task.output, value, "output");
      const result: Body | undefined = value === undefined ? undefined : encodeBody(value, "result", this.codecs);
      return { kind: "succeeded", result };
    } catch (error) {
      return this.#unusable(job, error);
    }
  }

  #thrown(job: JobData, error: unknown, context: JobContext): Ending {
    const ending = endingOf(error, context, this.classifiers);
    if (ending.kind === "failed" || error instanceof ThreadDied) this.onFailed(job, error);
    return ending;
  }

  #unusable(job: JobData, error: unknown): Ending {
    this.onFailed(job, error);
    return unprocessable(error);
  }
}

/** One line about an error, for logs. */
export function summary(error: unknown): string {
  const { type, message } = failureOf(error);
  return `${type}: ${message}`;
}
