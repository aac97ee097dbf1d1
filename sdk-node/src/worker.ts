// The worker: takes jobs from the server and runs their handlers.
import { randomUUID } from "node:crypto";
import { EventEmitter } from "node:events";
import { hostname } from "node:os";
import { insideOf, type Client } from "./client.js";
import { spanOf, toMs, type Duration } from "./duration.js";
import { Internal, InvalidArgument, makeError } from "./errors.js";
import { localLink, threadLink, type SessionLink } from "./link.js";
import { LagMonitor } from "./loop-lag.js";
import type { RunnerCommand } from "./messages.js";
import { http, type Classifier } from "./outcomes.js";
import { Runner, summary, type Handler, type Registration } from "./runner.js";
import type { SessionConfig } from "./hello.js";
import { defineTask, type Task } from "./tasks.js";
import type { Telemetry } from "./telemetry.js";
import type { Logger } from "./types.js";
import { VERSION } from "./version.js";

/** A queue to serve. */
export interface QueueOptions {
  /** Name, or a prefix ending in `*`. */
  queue: string;
  /** Share of this worker's attention. Default 1. */
  weight?: number;
  /** Serve it only when every queue listed before it is empty. Default false. */
  strict?: boolean;
  /** Most jobs of this queue in hand at once. Default: no limit of its own. */
  maxSlots?: number;
}

/** Options of a worker. */
export interface WorkerOptions {
  /** Queues to serve, in order. Default: the queues of the tasks it has handlers for. */
  queues?: (string | QueueOptions)[];
  /** Handlers that may run at once. Default 10, at most 10,000. */
  concurrency?: number;
  /** Jobs to hold ready beside the running ones. Default: the smaller of `concurrency` and 16. */
  prefetch?: number;
  /** How long a drain waits for running handlers before it cancels them. Default 25 s, below Kubernetes' 30. */
  grace?: Duration;
  /** How long the server waits for a worker that has vanished; 10 s to 5 min. Default: the server's, 30 s. */
  leaseTtl?: Duration;
  /** Drain on SIGTERM and SIGINT; a second signal gives everything back at once. Default true. */
  signals?: boolean;
  /**
   * Keep the stream in a thread of its own, so that a handler which blocks the main loop keeps its lease. Default true;
   * false is for tests and for runtimes without threads.
   */
  sessionThread?: boolean;
  /** Name for people. Default `hostname:pid`. */
  workerId?: string;
  /** The application's build, shown to operators. */
  appVersion?: string;
  /** Shown to operators. */
  labels?: Record<string, string>;
  /** What to make of errors before they count as plain failures. Default `[http]`. */
  classifiers?: Classifier[];
  /** Where the worker reports about itself. Default: standard error. */
  logger?: Logger;
}

/** What a worker emits, for observing only. */
export interface WorkerEvents {
  /** Connected for the first time. */
  ready: [];
  /** Connected, also after every interruption. */
  connected: [server: { id: string; version: string }];
  disconnected: [why: string];
  draining: [why: string];
  /** An attempt failed. */
  failed: [job: { id: string; type: string; attempt: number }, error: unknown];
  /** The main loop was blocked for `ms` while these types ran. */
  lag: [ms: number, running: string[]];
}

const stderr: Logger = {
  info: (message) => console.error(`jobwire: ${message}`),
  warn: (message) => console.error(`jobwire: warning: ${message}`),
  error: (message) => console.error(`jobwire: error: ${message}`),
};

/** Difference of clocks that is worth a line. It decides nothing. */
const SKEW_MS = 2_000;
/** Time that user code has after `run()` has resolved, when handlers were given up that still keep the process alive. */
const EXIT_MS = 1_000;

/**
 * Runs handlers. One worker per process is usual: its one stream serves all queues.
 *
 * ```ts
 * await new Worker(client, { concurrency: 50 }).handle(sendMail, async (mail, ctx) => …).run();
 * ```
 */
export class Worker extends EventEmitter<WorkerEvents> {
  readonly #client: Client;
  readonly #options: WorkerOptions;
  readonly #logger: Logger;
  readonly #handlers = new Map<string, Registration>();
  readonly #sessionId = randomUUID();
  #runner: Runner | undefined;
  #lag: LagMonitor | undefined;
  #watch: ReturnType<Telemetry["worker"]> | undefined;
  #finished: PromiseWithResolvers | undefined;
  #wasReady = false;
  #quiet = false;
  /** The drain is meant to end the process: a signal, or an order of the server. */
  #mustExit = false;
  #complaint = { why: "", at: -Infinity };

  constructor(client: Client, options: WorkerOptions = {}) {
    super();
    this.#client = client;
    this.#options = options;
    this.#logger = options.logger ?? stderr;
    insides.set(this, { client, handlers: this.#handlers, classifiers: options.classifiers ?? [http] });
  }

  /** Registers the handler of a task; before `run()`, once per task. */
  handle<Input, Output, Parsed, Returned>(
    task: Task<Input, Output, Parsed, Returned>,
    handler: Handler<Parsed, NoInfer<Returned>>,
  ): this;
  handle(type: string, handler: Handler<any, unknown>): this;
  handle(task: Task<any, any, any, any> | string, handler: Handler<any, unknown>): this {
    const registered = typeof task === "string" ? defineTask(task) : task;
    if (this.#finished) throw new InvalidArgument(`${registered.name}: register handlers before run()`, { field: "task" });
    if (this.#handlers.has(registered.name)) throw new InvalidArgument(`${registered.name} has a handler already`, { field: "task" });
    this.#handlers.set(registered.name, { task: registered, handler });
    return this;
  }

  /**
   * Works until drained: by a signal, by `stop()`, or because the server asked. Reconnects for ever; rejects only when
   * the server refuses this worker for good (too old, not allowed, malformed).
   */
  run(): Promise<void> {
    if (this.#finished) return this.#finished.promise;
    const config = this.#config();
    const finished = (this.#finished = withResolvers());
    const handlers = {
      commands: (commands: RunnerCommand[]) => commands.forEach((command) => this.#obey(command)),
      failed: (error: Error) => {
        this.#runner?.abort("the session broke down");
        finished.reject(new Internal("the session broke down", { cause: error }));
      },
    };
    const { connection, telemetry } = insideOf(this.#client);
    const connect = this.#options.sessionThread === false ? localLink : threadLink;
    let link: SessionLink | undefined;
    const runner = (this.#runner = new Runner(
      this.#handlers,
      workerInside(this).classifiers,
      (events) => link?.send(events),
      (job, error) => {
        this.#logger.warn(`${job.type} ${job.id} failed in attempt ${job.attempt}: ${summary(error)}`);
        this.#tell("failed", { id: job.id, type: job.type, attempt: job.attempt }, error);
      },
      telemetry && ((job, attempt) => telemetry.process(job, config.workerId, attempt)),
    ));
    link = connect(config, connection, handlers);
    if (this.#quiet) runner.post({ event: "quiet" });
    this.#watch = telemetry?.worker(config.workerId, () => ({
      slots: config.concurrency,
      running: runner.running,
      lagMs: this.#lag?.latestMs ?? 0,
    }));
    return this.#supervise(runner, finished.promise);
  }

  /** Drains: takes nothing new, finishes what runs, within `grace`; resolves when `run()` does. */
  async stop(options: { grace?: Duration } = {}): Promise<void> {
    if (!this.#finished) return;
    const graceMs = options.grace === undefined ? undefined : toMs(options.grace, "grace");
    this.#runner?.post({ event: "drain", ...(graceMs !== undefined && { graceMs }) });
    await this.#finished.promise;
  }

  /** Takes nothing new and stays connected, until `resume()`. */
  quiet(): void {
    this.#quiet = true;
    this.#runner?.post({ event: "quiet" });
  }

  /** Takes jobs again. */
  resume(): void {
    this.#quiet = false;
    this.#runner?.post({ event: "resume" });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #supervise(runner: Runner, finished: Promise<void>): Promise<void> {
    const lag = (this.#lag = new LagMonitor(() => runner.sample(), (ms, running) => {
      this.#logger.warn(`the event loop was blocked for ${Math.round(ms)} ms while these ran: ${running.join(", ") || "none"}`);
      this.#tell("lag", ms, running);
    }));
    let signalled = false;
    const onSignal = () => {
      runner.post({ event: "drain", now: signalled });
      signalled = this.#mustExit = true;
    };
    const signals = this.#options.signals === false ? [] : (["SIGTERM", "SIGINT"] as const);
    for (const signal of signals) process.on(signal, onSignal);
    try {
      await finished;
    } finally {
      lag.stop();
      this.#watch?.stopped();
      for (const signal of signals) process.off(signal, onSignal);
      if (this.#mustExit && runner.abandoned > 0) {
        this.#logger.warn(`${runner.abandoned} handlers did not stop in time; their jobs were given back`);
        setTimeout(() => process.exit(), EXIT_MS).unref();
      }
    }
  }

  /** Emits; a listener that throws is logged and disturbs nothing. */
  #tell<E extends keyof WorkerEvents>(event: E, ...args: WorkerEvents[E]): void {
    try {
      (this.emit as (event: E, ...args: WorkerEvents[E]) => boolean).call(this, event, ...args);
    } catch (error) {
      this.#logger.error(`a listener of ${event} threw ${summary(error)}`);
    }
  }

  #obey(command: RunnerCommand): void {
    switch (command.command) {
      case "welcome": {
        this.#runner?.obey(command);
        const { serverId: id, serverVersion: version, resumed } = command;
        this.#logger.info(`connected to server ${id || "?"} ${version}${resumed > 0 ? ` with ${resumed} jobs in hand` : ""}`.trimEnd());
        this.#complaint = { why: "", at: -Infinity };
        const skewMs = command.serverTimeMs === undefined ? 0 : Date.now() - command.serverTimeMs;
        if (Math.abs(skewMs) > SKEW_MS) this.#logger.warn(`this machine's clock differs from the server's by ${Math.round(skewMs / 1_000)} s`);
        if (!this.#wasReady) this.#tell("ready");
        else this.#watch?.reconnected();
        this.#wasReady = true;
        this.#tell("connected", { id, version });
        return;
      }
      case "disconnected":
        // A server that is away for an hour does not deserve a line per attempt.
        if (command.message !== this.#complaint.why || performance.now() - this.#complaint.at > 60_000) {
          this.#logger.warn(`${command.message}; reconnecting`);
          this.#complaint = { why: command.message, at: performance.now() };
        }
        this.#tell("disconnected", command.message);
        return;
      case "draining":
        this.#logger.info(`draining: ${command.reason}`);
        this.#mustExit ||= command.ordered;
        this.#tell("draining", command.reason);
        return;
      case "note":
        return this.#logger[command.level](command.message);
      case "stopped": {
        const { error } = command;
        if (error) this.#finished?.reject(makeError(error.code, error.message, error.details));
        else this.#finished?.resolve();
        return;
      }
      default:
        this.#runner?.obey(command);
    }
  }

  #config(): SessionConfig {
    const { concurrency = 10, grace = "25s", leaseTtl, workerId, appVersion = "", labels = {} } = this.#options;
    const { prefetch = Math.min(concurrency, 16) } = this.#options;
    if (this.#handlers.size === 0) throw new InvalidArgument("the worker has no handlers; call handle() before run()", { field: "handlers" });
    checkCount(concurrency, "concurrency", 1);
    checkCount(prefetch, "prefetch", 0);
    return {
      sessionId: this.#sessionId,
      workerId: workerId ?? `${hostname()}:${process.pid}`,
      types: [...this.#handlers.keys()],
      subscriptions: this.#subscriptions(),
      concurrency,
      slots: Math.min(concurrency + prefetch, 10_000),
      graceMs: toMs(grace, "grace"),
      ...(leaseTtl !== undefined && { leaseTtlMs: toMs(leaseTtl, "leaseTtl") }),
      info: {
        hostname: hostname(),
        pid: process.pid,
        sdk: "jobwire-node",
        sdkVersion: VERSION,
        runtime: `node ${process.version}`,
        appVersion,
        labels,
        startTime: spanOf(Date.now() - performance.now()),
      },
    };
  }

  #subscriptions(): SessionConfig["subscriptions"] {
    const { queues } = this.#options;
    if (queues) return queues.map((queue) => (typeof queue === "string" ? { queue } : queue));
    const own = new Set([...this.#handlers.values()].map(({ task }) => task.options.queue ?? task.name));
    return [...own].map((queue) => ({ queue }));
  }
}

/** What the rest of the SDK may see of a worker. */
export interface WorkerInside {
  readonly client: Client;
  readonly handlers: ReadonlyMap<string, Registration>;
  readonly classifiers: readonly Classifier[];
}

const insides = new WeakMap<Worker, WorkerInside>();

/** For tests that run its handlers without a server. */
export function workerInside(worker: Worker): WorkerInside {
  return insides.get(worker)!;
}

function checkCount(value: number, field: string, min: number): void {
  if (Number.isInteger(value) && value >= min && value <= 10_000) return;
  throw new InvalidArgument(`${field} must be a whole number from ${min} to 10,000, not ${value}`, { reason: "INVALID_FIELD", field });
}

interface PromiseWithResolvers {
  promise: Promise<void>;
  resolve: () => void;
  reject: (error: Error) => void;
}

function withResolvers(): PromiseWithResolvers {
  let resolve!: () => void;
  let reject!: (error: Error) => void;
  const promise = new Promise<void>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { promise, resolve, reject };
}
