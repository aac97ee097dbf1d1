// What a worker can be told, and how it introduces itself with it.
import { hostname } from "node:os";
import type { Classifier } from "./classifiers.js";
import { spanOf, toMs, type Duration } from "./duration.js";
import { InvalidArgument } from "./errors.js";
import type { BatchRule } from "./gathering.js";
import type { SessionConfig } from "./hello.js";
import type { ThreadPool } from "./pool.js";
import type { Registration } from "./runner.js";
import type { AnyTask } from "./tasks.js";
import type { Logger, Progress } from "./types.js";
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
  /**
   * Jobs to hold ready beside the running ones, so that no handler waits for the network. Default: adapts, from the
   * smaller of `concurrency` and 16 for handlers of up to a second to none above ten.
   */
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
  /** Put the schedules that `worker.schedule()` declares when the worker starts. Default true. */
  putSchedules?: boolean;
  /** Name for people. Default `hostname:pid`. */
  workerId?: string;
  /** The application's build, shown to operators. */
  appVersion?: string;
  /** Shown to operators. */
  labels?: Record<string, string>;
  /** What to make of errors before they count as plain failures. Default `[http]`. */
  classifiers?: Classifier[];
  /**
   * Serve `/livez` (the process turns), `/readyz` (connected and not draining) and `/metrics` (Prometheus) here: a port
   * of 127.0.0.1, or `"0.0.0.0:9000"`. A port that is taken stops the worker at once. A blocked event loop cannot
   * answer: handlers that compute for long belong in threads. Default: nowhere.
   */
  health?: number | string;
  /** Keep what handlers print with `console` with their jobs, as `ctx.log` does; it is printed as before. Default false. */
  captureConsole?: boolean;
  /** Where the worker reports about itself. Default: standard error. */
  logger?: Logger;
}

/** A job, in what a worker emits. */
export interface SeenJob {
  id: string;
  type: string;
  queue: string;
  attempt: number;
}

/**
 * What a worker emits, for observing only: what a listener throws is logged and changes nothing. Other workers' jobs are
 * seen by their own events; `job.events()` follows one job wherever it runs.
 */
export interface WorkerEvents {
  /** Connected for the first time, and its schedules are put. */
  ready: [];
  /** Connected, also after every interruption. */
  connected: [server: { id: string; version: string }];
  disconnected: [why: string];
  draining: [why: string];
  /** A handler starts. */
  active: [job: SeenJob];
  /** A handler reported progress. Every report: those of one job that follow each other quickly reach the server as one. */
  progress: [job: SeenJob, progress: Progress];
  /** An attempt succeeded, as far as this worker knows: the server has not confirmed it yet. */
  completed: [job: SeenJob, result: unknown];
  /** An attempt failed. Whether it is tried again is the server's to say. */
  failed: [job: SeenJob, error: unknown];
  /** The main loop was blocked for `ms` while these types ran. */
  lag: [ms: number, running: string[]];
}

/** Handlers that run at once where nothing else is said. */
export const CONCURRENCY = 10;
const COUNT_MAX = 10_000;

/** Checks the options and makes of them what the session needs. Throws InvalidArgument that names the option. */
export function sessionConfig(
  sessionId: string,
  options: WorkerOptions,
  handlers: ReadonlyMap<string, Registration>,
  pools: ReadonlyMap<string, ThreadPool>,
): SessionConfig {
  const { concurrency = CONCURRENCY, grace = "25s", leaseTtl, workerId, appVersion = "", labels = {} } = options;
  const { prefetch } = options;
  if (handlers.size === 0) throw new InvalidArgument("the worker has no handlers; call handle() before run()", { field: "handlers" });
  checkCount(concurrency, "concurrency", 1);
  if (prefetch !== undefined) checkCount(prefetch, "prefetch", 0);
  const subscriptions = options.queues?.map((queue) => (typeof queue === "string" ? { queue } : queue)) ?? ownQueues(handlers, pools);
  const batches: Record<string, BatchRule> = {};
  for (const { task, batch } of handlers.values()) {
    if (!batch) continue;
    batches[task.name] = batch;
    checkRoom(task, batch, options, concurrency);
  }
  return {
    sessionId,
    workerId: workerId ?? `${hostname()}:${process.pid}`,
    types: [...handlers.keys()],
    subscriptions,
    concurrency,
    batches,
    typeConcurrency: Object.fromEntries([...pools].map(([type, { size }]) => [type, size])),
    ...(prefetch !== undefined && { prefetch }),
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

/** Refuses what would keep a batch from ever being full. */
function checkRoom(task: AnyTask, { maxSize }: BatchRule, { prefetch, queues }: WorkerOptions, concurrency: number): void {
  const says = `${task.name} runs up to ${maxSize} jobs in one call`;
  if (prefetch !== undefined && concurrency + prefetch < maxSize) {
    const hint = `leave prefetch out, or set it to ${maxSize - concurrency} or more`;
    throw new InvalidArgument(`${says}, and this worker holds ${concurrency + prefetch} (concurrency + prefetch): ${hint}`, { reason: "INVALID_FIELD", field: "prefetch" });
  }
  for (const queue of queues ?? []) {
    if (typeof queue === "string" || queue.queue !== (task.options.queue ?? task.name) || (queue.maxSlots ?? Infinity) >= maxSize) continue;
    throw new InvalidArgument(`${says}, and of queue ${queue.queue} it may hold ${queue.maxSlots}`, { reason: "INVALID_FIELD", field: "queues.maxSlots" });
  }
}

/** The queues of the handlers' tasks. One that feeds thread pools alone gets no more jobs than these can run. */
function ownQueues(handlers: ReadonlyMap<string, Registration>, pools: ReadonlyMap<string, ThreadPool>): SessionConfig["subscriptions"] {
  const slots = new Map<string, number>();
  for (const { task } of handlers.values()) {
    const queue = task.options.queue ?? task.name;
    slots.set(queue, (slots.get(queue) ?? 0) + (pools.get(task.name)?.size ?? Infinity));
  }
  return [...slots].map(([queue, maxSlots]) => (maxSlots === Infinity ? { queue } : { queue, maxSlots }));
}

function checkCount(value: number, field: string, min: number): void {
  if (Number.isInteger(value) && value >= min && value <= COUNT_MAX) return;
  throw new InvalidArgument(`${field} must be a whole number from ${min} to 10,000, not ${value}`, { reason: "INVALID_FIELD", field });
}
