// The worker: takes jobs from the server and runs their handlers.
import { randomUUID } from "node:crypto";
import { EventEmitter } from "node:events";
import { batchRule, type BatchHandler, type BatchOptions } from "./batch.js";
import { http, type Classifier } from "./classifiers.js";
import { insideOf, type Client } from "./client.js";
import type { JobContext } from "./context.js";
import { DeclaredSchedules } from "./declared-schedules.js";
import { toMs, type Duration } from "./duration.js";
import { Internal, InvalidArgument, makeError } from "./errors.js";
import { healthAddress, serveHealth, WorkerMetrics } from "./health.js";
import { localLink, threadLink, type SessionLink } from "./link.js";
import { captureConsole } from "./log-capture.js";
import { LagMonitor } from "./loop-lag.js";
import type { JobData, RunnerCommand } from "./messages.js";
import { decodeBody } from "./payload.js";
import { ThreadPool, type ThreadOptions } from "./pool.js";
import { Runner, summary, type Handler, type Registration } from "./runner.js";
import type { ScheduleSpec } from "./schedule-types.js";
import { defineTask, type AnyTask, type Task } from "./tasks.js";
import type { Telemetry } from "./telemetry.js";
import type { Logger } from "./types.js";
import { CONCURRENCY, sessionConfig, type SeenJob, type WorkerEvents, type WorkerOptions } from "./worker-options.js";

const stderr: Logger = {
  info: (message) => process.stderr.write(`jobwire: ${message}\n`),
  warn: (message) => process.stderr.write(`jobwire: warning: ${message}\n`),
  error: (message) => process.stderr.write(`jobwire: error: ${message}\n`),
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
  readonly #pools = new Map<string, ThreadPool>();
  readonly #schedules = new DeclaredSchedules();
  readonly #sessionId = randomUUID();
  #runner: Runner | undefined;
  #lag: LagMonitor | undefined;
  readonly #gauges = () => ({
    slots: this.#options.concurrency ?? CONCURRENCY,
    running: this.#runner?.running ?? 0,
    lagMs: this.#lag?.latestMs ?? 0,
  });
  readonly #metrics = new WorkerMetrics(this.#gauges);
  #watch: ReturnType<Telemetry["worker"]> | undefined;
  #finished: PromiseWithResolvers | undefined;
  #wasReady = false;
  #quiet = false;
  #draining = false;
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
  /**
   * Runs the handler in threads of its own, for work that keeps a CPU busy: `module` exports it as its default, or by
   * the name `handler`. Context, errors, progress and cancellation are the same there; input and result cross by
   * structured clone. A handler that computes without awaiting asks `ctx.cancelled` now and then; one that has not
   * stopped 2 s after its cancellation (or timeout) is ended with its thread. If a thread dies by itself the server
   * counts a crash of its job, not an attempt, and the thread is replaced.
   *
   * ```ts
   * worker.handle(resize, new URL("./resize.js", import.meta.url), { threads: 2 });
   * ```
   */
  handle(task: AnyTask | string, module: URL, options?: ThreadOptions): this;
  handle(task: AnyTask | string, handler: Handler<any, unknown> | URL, options: ThreadOptions = {}): this {
    const registered = this.#unhandled(task);
    if (typeof handler === "function") this.#handlers.set(registered.name, { task: registered, handler });
    else if (handler instanceof URL) this.#pooled(registered, new ThreadPool(handler, options, this.#options));
    else throw new InvalidArgument(`${registered.name}: a handler is a function, or the URL of a module`, { field: "handler" });
    return this;
  }

  /**
   * Registers a handler that runs up to `maxSize` jobs in one call: those that are there, and those that come within `linger`
   * of the first. Each job keeps its own lease, attempts, retries and outcome: see `BatchHandler`, and `ctx.jobs[i].fail(error)`
   * for single ones. The call counts as one of `concurrency`, and runs under the shortest timeout of its jobs. A job that is
   * cancelled is marked, and the call goes on unless all are. A job whose worker vanished with it runs alone from then on.
   *
   * ```ts
   * worker.handleBatch(index, { maxSize: 50, linger: "100ms" }, async (documents) => search.bulk(documents));
   * ```
   */
  handleBatch<Input, Output, Parsed, Returned>(
    task: Task<Input, Output, Parsed, Returned>,
    options: BatchOptions,
    handler: BatchHandler<Parsed, NoInfer<Returned>>,
  ): this;
  handleBatch(type: string, options: BatchOptions, handler: BatchHandler<any, unknown>): this;
  handleBatch(task: AnyTask | string, options: BatchOptions, handler: BatchHandler<any, unknown>): this {
    const registered = this.#unhandled(task);
    const batch = batchRule(options);
    if (typeof handler !== "function") throw new InvalidArgument(`${registered.name}: a batch handler is a function`, { field: "handler" });
    this.#handlers.set(registered.name, { task: registered, handler, batch });
    return this;
  }

  #unhandled(task: AnyTask | string): AnyTask {
    const registered = typeof task === "string" ? defineTask(task) : task;
    if (this.#finished) throw new InvalidArgument(`${registered.name}: register handlers before run()`, { field: "task" });
    if (this.#handlers.has(registered.name)) throw new InvalidArgument(`${registered.name} has a handler already`, { field: "task" });
    return registered;
  }

  #pooled(task: AnyTask, pool: ThreadPool): void {
    this.#pools.set(task.name, pool);
    // The runner makes the contexts that it hands to handlers.
    this.#handlers.set(task.name, { task, handler: (input, context) => pool.run(input, context as JobContext) });
  }

  /**
   * Declares a schedule, before `run()`: it is put when the worker starts, before the first job is taken, as
   * `client.schedules.put()` does. Workers that put the same are fine. A refusal stops the worker: `run()` rejects. Needs scope
   * `admin`; the option `putSchedules: false` leaves it out. To take a declaration away deletes nothing.
   */
  schedule(id: string, spec: ScheduleSpec): this {
    if (this.#finished) throw new InvalidArgument(`schedule ${id}: declare schedules before run()`, { field: "id" });
    this.#schedules.add(id, spec);
    return this;
  }

  /**
   * Works until drained: by a signal, by `stop()`, or because the server asked. Reconnects for ever; rejects only when
   * the server refuses this worker for good (too old, not allowed, malformed) or one of its schedules, or a handler's
   * module cannot be loaded.
   */
  run(): Promise<void> {
    if (this.#finished) return this.#finished.promise;
    if (this.#options.health !== undefined) healthAddress(this.#options.health);
    const config = sessionConfig(this.#sessionId, this.#options, this.#handlers, this.#pools);
    const finished = (this.#finished = withResolvers());
    const { connection, telemetry, codecs } = insideOf(this.#client);
    let link: SessionLink | undefined;
    const runner = (this.#runner = new Runner(
      this.#handlers,
      workerInside(this).classifiers,
      (events) => {
        for (const event of this.listenerCount("progress") > 0 ? events : []) {
          if (event.event !== "progress" || !event.progress) continue;
          const job = runner.job(event.key);
          if (job) this.#tell("progress", seen(job), event.progress);
        }
        if (link) link.send(events);
        else if (events.some(({ event }) => event === "drain")) this.#schedules.stop();
      },
      (job, error) => {
        this.#logger.warn(`${job.type} ${job.id} failed in attempt ${job.attempt}: ${summary(error)}`);
        this.#tell("failed", seen(job), error);
      },
      async (job, attempt) => {
        this.#tell("active", seen(job));
        const outcome = await (telemetry ? telemetry.process(job, config.workerId, attempt) : attempt());
        this.#metrics.ended(job.type, outcome.kind === "dropped" ? "lost" : outcome.kind);
        if (outcome.kind === "succeeded" && this.listenerCount("completed") > 0) {
          this.#tell("completed", seen(job), decodeBody(outcome.result, codecs));
        }
        return outcome;
      },
      codecs,
      insideOf(this.#client).dependencyResults,
    ));
    const connect = this.#options.sessionThread === false ? localLink : threadLink;
    const start = () => {
      link = connect(config, connection, {
        commands: (commands) => commands.forEach((command) => this.#obey(command)),
        failed: (error) => {
          runner.abort("the session broke down");
          finished.reject(new Internal("the session broke down", { cause: error }));
        },
      });
      if (this.#quiet) runner.post({ event: "quiet" });
    };
    if (this.#schedules.size === 0 || this.#options.putSchedules === false) start();
    else {
      const away = (message: string) => this.#obey({ command: "disconnected", message, retryInMs: 0 });
      this.#schedules.put(this.#client, away).then((put) => (put ? start() : finished.resolve()), finished.reject);
    }
    this.#watch = telemetry?.worker(config.workerId, this.#gauges);
    const { health } = this.#options;
    const server = health === undefined ? undefined : serveHealth(health, this.#metrics);
    for (const part of [server, ...[...this.#pools.values()].map((pool) => pool.start())]) {
      part?.catch((error: Error) => {
        runner.post({ event: "drain", graceMs: 0 });
        finished.reject(error);
      });
    }
    return this.#supervise(runner, finished.promise).finally(async () => {
      (await server?.catch(() => undefined))?.close().closeAllConnections();
    });
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
    const release = this.#options.captureConsole ? captureConsole() : () => {};
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
      release();
      this.#watch?.stopped();
      for (const signal of signals) process.off(signal, onSignal);
      await Promise.all([...this.#pools.values()].map((pool) => pool.close()));
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
        this.#metrics.ready = !this.#draining;
        if (!this.#wasReady) this.#tell("ready");
        else {
          this.#watch?.reconnected();
          this.#metrics.reconnects += 1;
        }
        this.#wasReady = true;
        this.#tell("connected", { id, version });
        return;
      }
      case "disconnected":
        this.#metrics.ready = false;
        // A server that is away for an hour does not deserve a line per attempt.
        if (command.message !== this.#complaint.why || performance.now() - this.#complaint.at > 60_000) {
          this.#logger.warn(`${command.message}; reconnecting`);
          this.#complaint = { why: command.message, at: performance.now() };
        }
        this.#tell("disconnected", command.message);
        return;
      case "draining":
        this.#draining = true;
        this.#metrics.ready = false;
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
}

function seen({ id, type, queue, attempt }: JobData): SeenJob {
  return { id, type, queue, attempt };
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
