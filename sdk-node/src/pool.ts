// A pool of worker_threads for one CPU-bound handler. A thread runs one job at a time; one that dies takes only its own
// job with it and is replaced.
import { availableParallelism } from "node:os";
import type { JobContext } from "./context.js";
import { InvalidArgument, type Cancellation } from "./errors.js";
import type { FromThread, PoolThreadData, ToThread } from "./pool-thread.js";
import { startThread, type Thread } from "./threads.js";
import { ThreadDied, unpack } from "./thrown.js";
import { CONCURRENCY, type WorkerOptions } from "./worker-options.js";

/** How to run a handler that is a module of its own. */
export interface ThreadOptions {
  /** Threads, and so jobs of this task that run at once; at most the worker's `concurrency`. Default: one per CPU. */
  threads?: number;
  /** A thread is replaced after this many jobs, for modules that hoard memory. Default: never. */
  maxJobs?: number;
  /** Heap of a thread in MiB. A thread that needs more dies, and its job counts as crashed. Default: what Node allows. */
  maxHeapMb?: number;
}

/** Time that a cancelled handler has to stop before its thread is terminated. */
const STOP_MS = 2_000;

interface Job {
  input: unknown;
  context: JobContext;
  resolve(value: unknown): void;
  reject(error: unknown): void;
  /** Ends what was set up for the run. */
  settle(): void;
}

export class ThreadPool {
  readonly size: number;
  readonly #members = new Set<Member>();
  readonly #waiting: Job[] = [];
  #closed = false;

  constructor(
    private readonly module: URL,
    private readonly options: ThreadOptions,
    private readonly worker: Pick<WorkerOptions, "concurrency" | "captureConsole">,
  ) {
    const { concurrency = CONCURRENCY } = worker;
    const { threads = Math.min(availableParallelism(), concurrency), maxJobs = Infinity, maxHeapMb } = options;
    if (!Number.isInteger(threads) || threads < 1 || threads > concurrency) {
      throw invalid("threads", `must be a whole number from 1 to the worker's concurrency, ${concurrency}, not ${threads}`);
    }
    if (maxJobs !== Infinity && (!Number.isInteger(maxJobs) || maxJobs < 1)) throw invalid("maxJobs", `must be a whole number from 1, not ${maxJobs}`);
    if (maxHeapMb !== undefined && !(maxHeapMb >= 1)) throw invalid("maxHeapMb", `must be a number from 1, not ${maxHeapMb}`);
    this.size = threads;
  }

  /** Starts the first thread: a module that cannot be used is found out before there are jobs. */
  start(): Promise<void> {
    return this.#add().ready;
  }

  /** Runs the handler on the next free thread. Rejects with what it threw, or ThreadDied. */
  run(input: unknown, context: JobContext): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const job: Job = { input, context, resolve, reject, settle: () => {} };
      // Cancelled before there was a thread for it.
      const abort = () => {
        const at = this.#waiting.indexOf(job);
        if (at < 0) return;
        this.#waiting.splice(at, 1);
        reject(context.signal.reason as Cancellation);
      };
      context.signal.addEventListener("abort", abort);
      job.settle = () => context.signal.removeEventListener("abort", abort);
      this.#waiting.push(job);
      this.#assign();
    });
  }

  /** Ends all threads, whatever they do. */
  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all([...this.#members].map((member) => member.end()));
  }

  /** Gives waiting jobs to idle threads, and starts threads for the rest. */
  #assign(): void {
    if (this.#closed) return;
    for (const member of this.#members) if (member.idle && this.#waiting.length > 0) member.run(this.#waiting.shift()!);
    let starting = [...this.#members].filter((member) => member.starting).length;
    for (; this.#members.size < this.size && starting < this.#waiting.length; starting++) {
      this.#add().ready.catch((error: unknown) => this.#waiting.shift()?.reject(error));
    }
  }

  #add(): Member {
    const { maxHeapMb, maxJobs = Infinity } = this.options;
    const data: PoolThreadData = { module: this.module.href, captureConsole: this.worker.captureConsole ?? false };
    const member = new Member(data, maxHeapMb, maxJobs, {
      free: () => this.#assign(),
      gone: () => {
        this.#members.delete(member);
        this.#assign();
      },
    });
    this.#members.add(member);
    return member;
  }
}

/** One thread of the pool. */
class Member {
  /** Resolves when its module is loaded. */
  readonly ready: Promise<void>;
  readonly #thread: Thread;
  #state: "starting" | "idle" | "running" | "ending" = "starting";
  #job: Job | undefined;
  #jobs = 0;
  #why = "";

  constructor(
    private readonly data: PoolThreadData,
    maxHeapMb: number | undefined,
    private readonly maxJobs: number,
    private readonly on: { free(): void; gone(): void },
  ) {
    const resourceLimits = maxHeapMb === undefined ? {} : { maxOldGenerationSizeMb: maxHeapMb };
    this.#thread = startThread("pool-thread", { workerData: data, resourceLimits });
    this.ready = new Promise((resolve, reject) => {
      this.#thread.on("message", (message: FromThread) => this.#heard(message, resolve));
      this.#thread.on("error", (error) => (this.#why = error.message));
      this.#thread.on("exit", (code) => {
        reject(new InvalidArgument(`${this.data.module} cannot be used as a handler: ${this.#why || `it ended its thread with code ${code}`}`, { reason: "INVALID_FIELD", field: "module" }));
        this.#exited(code);
      });
    });
    // Whoever starts the thread looks at it if it wants to.
    this.ready.catch(() => {});
  }

  get idle(): boolean {
    return this.#state === "idle";
  }

  get starting(): boolean {
    return this.#state === "starting";
  }

  run(job: Job): void {
    this.#state = "running";
    this.#thread.ref();
    this.#job = job;
    this.#jobs += 1;
    const { context, input } = job;
    const { job: data, limits } = context.crossing();
    const { key } = data;
    job.settle();
    let timer: NodeJS.Timeout | undefined;
    const abort = () => {
      const { reason, message } = context.signal.reason as Cancellation;
      this.#say({ do: "cancel", key, reason, message });
      timer = setTimeout(() => void this.end(), STOP_MS);
    };
    context.signal.addEventListener("abort", abort);
    context.onRisk = (atRisk) => this.#say({ do: "risk", key, atRisk });
    job.settle = () => {
      clearTimeout(timer);
      context.signal.removeEventListener("abort", abort);
      context.onRisk = undefined;
    };
    try {
      this.#say({ do: "run", job: data, input, limits });
    } catch (error) {
      // What a schema made of the input may be more than a thread can be given.
      this.#finish((run) => run.reject(new InvalidArgument(`the input cannot enter a thread: ${(error as Error).message}`, { field: "input" })));
      return;
    }
    if (context.signal.aborted) abort();
  }

  /** Terminates the thread. The job that it runs, if any, then ends as its cancellation says. */
  async end(): Promise<void> {
    this.#state = "ending";
    await this.#thread.terminate();
  }

  #say(message: ToThread): void {
    this.#thread.postMessage(message);
  }

  #heard(message: FromThread, ready: () => void): void {
    switch (message.is) {
      case "ready":
        if (this.#state === "starting") this.#state = "idle";
        // An idle thread keeps no process alive.
        this.#thread.unref();
        ready();
        return this.on.free();
      case "broken":
        this.#why = message.why;
        return void this.end();
      case "event":
        return this.#job?.context.relay(message.event);
      case "done":
        this.#job?.context.adopt(message.enqueued);
        return this.#finish((job) => (message.thrown ? job.reject(unpack(message.thrown)) : job.resolve(message.value)));
    }
  }

  #finish(how: (job: Job) => void): void {
    const job = this.#job;
    this.#job = undefined;
    job?.settle();
    if (this.#state === "running") this.#state = "idle";
    this.#thread.unref();
    if (this.#jobs >= this.maxJobs) void this.end();
    else this.on.free();
    if (job) how(job);
  }

  #exited(code: number): void {
    this.#state = "ending";
    const job = this.#job;
    this.#job = undefined;
    this.on.gone();
    if (!job) return;
    job.settle();
    const { signal } = job.context;
    job.reject(signal.aborted ? signal.reason : new ThreadDied(this.#why || `its thread exited with code ${code}`));
  }
}

function invalid(field: string, message: string): InvalidArgument {
  return new InvalidArgument(`${field} ${message}`, { reason: "INVALID_FIELD", field });
}
