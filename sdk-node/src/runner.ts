// Runs handlers: decodes, validates, calls, and turns whatever happens into one outcome per job. Knows nothing of
// streams or leases.
import { NO_CODECS, type Codecs } from "./codecs.js";
import { JobContext, withContext, type Context } from "./context.js";
import type { JobData, OutcomeData, RunnerCommand, RunnerEvent } from "./messages.js";
import type { Classifier } from "./classifiers.js";
import { endingOf, failureOf, unprocessable } from "./outcomes.js";
import { decodeBody, encodeBody, type Body } from "./payload.js";
import { DEFAULT_LIMITS, type SizeLimits } from "./spec.js";
import { validate, type AnyTask } from "./tasks.js";
import { ThreadDied } from "./thrown.js";

/** A function that does the work of a job. */
export type Handler<Input, Output> = (input: Input, context: Context) => Output | Promise<Output>;

/** A handler and the task it serves. */
export interface Registration {
  task: AnyTask;
  handler: Handler<never, unknown>;
}

/** What looks on while an attempt is made: calls it once, and answers its outcome. */
export type Observe = (job: JobData, attempt: () => Promise<OutcomeData>) => Promise<OutcomeData>;

/** A job that runs now. */
interface Run {
  job: JobData;
  context: JobContext;
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
  ) {}

  /** Handlers that run now. */
  get running(): number {
    return this.#runs.size;
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
      case "cancel": {
        const run = this.#runs.get(command.key);
        if (!run) return;
        run.context.stalled = command.stalled ?? false;
        return run.context.cancel(command.reason, command.message);
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
    for (const { context } of this.#runs.values()) context.cancel("shutdown", message);
  }

  #start(job: JobData): void {
    const began = performance.now();
    let context: JobContext;
    try {
      context = new JobContext(job, (event) => this.post(event), () => this.#limits, this.codecs);
    } catch (error) {
      return this.#finish(job, { ...unprocessable(error), runMs: 0 } as OutcomeData);
    }
    this.#runs.set(job.key, { job, context });
    this.#ran.add(job.type);
    const attempt = async (): Promise<OutcomeData> => {
      const ending = await withContext(context, () => this.#attempt(job, context));
      const enqueue = context.enqueuedWith(ending.kind === "succeeded");
      return { ...ending, runMs: performance.now() - began, ...(enqueue.length > 0 && { enqueue }) } as OutcomeData;
    };
    void (this.observe ? this.observe(job, attempt) : attempt()).then((outcome) => {
      this.#runs.delete(job.key);
      this.#finish(job, outcome);
    });
  }

  #finish(job: JobData, outcome: OutcomeData): void {
    this.post({ event: "finished", key: job.key, outcome });
  }

  /** Never rejects. */
  async #attempt(job: JobData, context: JobContext): Promise<ReturnType<typeof endingOf>> {
    const { task, handler } = this.handlers.get(job.type)!;
    let input: unknown;
    try {
      input = decodeBody(job.payload, this.codecs) ?? {};
      if (task.input) input = await validate(task.input, input, "input");
    } catch (error) {
      this.onFailed(job, error);
      return unprocessable(error);
    }
    let value: unknown;
    try {
      value = await handler(input as never, context);
    } catch (error) {
      const ending = endingOf(error, context, this.classifiers);
      if (ending.kind === "failed" || error instanceof ThreadDied) this.onFailed(job, error);
      return ending;
    }
    try {
      // Only checked: a schema that transforms does so where the result is read.
      if (task.output) await validate(task.output, value, "output");
      const result: Body | undefined = value === undefined ? undefined : encodeBody(value, "result", this.codecs);
      return { kind: "succeeded", result };
    } catch (error) {
      this.onFailed(job, error);
      return unprocessable(error);
    }
  }
}

/** One line about an error, for logs. */
export function summary(error: unknown): string {
  const { type, message } = failureOf(error);
  return `${type}: ${message}`;
}
