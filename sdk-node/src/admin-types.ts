// Jobs, queues and workers as operators read and change them. No behaviour, no protobuf.
import type { Duration } from "./duration.js";
import type { Failure, JobRecord, Priority, Retry } from "./types.js";

/** All that is known of a job. */
export interface JobDetails extends JobRecord {
  /** Decoded; `undefined` where there is none. */
  input: unknown;
  result: unknown;
  fairnessKey: string;
  parentId: string;
  /** The tick this run stands for, when it came from a schedule. */
  fireTime?: Date;
  cancelRequestTime?: Date;
  /** When the finished record goes away. */
  purgeTime?: Date;
  /** Newest first; at most 25. */
  attempts: Attempt[];
  /** Changes with every change of the record. */
  etag: string;
}

/** One lease of a job and how it ended. */
export interface Attempt {
  attempt: number;
  delivery: number;
  result: "running" | "succeeded" | "failed" | "timed_out" | "lost" | "snoozed" | "released" | "cancelled" | "unknown";
  workerId: string;
  startTime?: Date;
  finishTime?: Date;
  failure?: Failure;
  /** Milliseconds, as measured by the worker, and from runnable to leased. */
  runMs: number;
  waitMs: number;
}

/** Changes to waiting jobs. What is left out stays. */
export interface JobPatch {
  priority?: Priority;
  queue?: string;
  /** Start this long from now. Excludes `at`. */
  delay?: Duration;
  /** Start at this time. Excludes `delay`. */
  at?: Date;
  retry?: number | Retry;
  timeout?: Duration;
  /** Of a single job, by its id. */
  input?: unknown;
}

/** At most `max` starts per `per` over all workers: a token bucket. */
export interface RateLimit {
  max: number;
  per: Duration;
  /** Starts allowed at once. Default `max`; 1 spaces them evenly. */
  burst?: number;
}

/** What can be set of a queue. What is left out has its default; 0 is no limit, where nothing else is said. */
export interface QueueConfig {
  /** Jobs running at once across all workers. */
  maxRunning?: number;
  rateLimit?: RateLimit;
  /** The same for each fairness key. Jobs without one share the empty key. */
  maxRunningPerKey?: number;
  rateLimitPerKey?: RateLimit;
  /** Turns of single keys relative to the others, 1 to 1,000; others have 1. At most 1,000 entries. */
  keyWeights?: Record<string, number>;
  /** Jobs waiting, in all states; beyond it enqueueing throws ResourceExhausted. */
  maxDepth?: number;
  /** Defaults for jobs that do not say: these five. */
  retry?: number | Retry;
  timeout?: Duration;
  ttl?: Duration;
  retention?: Duration;
  deadRetention?: Duration;
  /** Finished records kept, dead ones apart. 0 = 100,000, -1 = no limit. */
  maxFinished?: number;
  /** Dead records kept. 0 = 1,000,000, -1 = no limit. */
  maxDead?: number;
  /** What an acknowledged change survives. Default: the server's. */
  durability?: "fast" | "fsync" | "replicated";
  /** Redis only: parts of the store that a hot queue is spread over. 0 = 1. */
  shards?: number;
  /** For people. */
  note?: string;
}

/** Milliseconds, over the last minute. */
export interface Percentiles {
  p50: number;
  p95: number;
  p99: number;
  max: number;
}

/** Numbers of a queue. Rates are over the last minute. */
export interface QueueStats {
  ready: number;
  running: number;
  scheduled: number;
  retrying: number;
  blocked: number;
  dead: number;
  /** Other finished records still kept. */
  finished: number;
  /** How long the oldest runnable job has waited, in milliseconds. The number to alert on. */
  latencyMs: number;
  enqueuedPerSecond: number;
  startedPerSecond: number;
  succeededPerSecond: number;
  failedPerSecond: number;
  wait: Percentiles;
  run: Percentiles;
  workers: number;
  slots: number;
  slotsBusy: number;
  /** Types that no worker handles, with the jobs set aside for that. */
  unhandledTypes: Record<string, number>;
}

/** A queue: what was set of it, and how it is. Durations are milliseconds. */
export interface QueueRecord {
  name: string;
  /** What was set; nothing else. */
  config: QueueConfig;
  stats: QueueStats;
  paused: boolean;
  pauseReason: string;
  /** Who paused it. */
  pauseActor: string;
  pauseTime?: Date;
  /** When a pause or a throttle ends by itself. */
  resumeTime?: Date;
  etag: string;
}

/** A connected worker, on whichever server; a few seconds old at most. */
export interface WorkerRecord {
  /** Of its session: what to name it by. */
  id: string;
  /** For people: `hostname:pid` unless it says otherwise. */
  name: string;
  state: "active" | "quiet" | "draining" | "unknown";
  /** What it was told to do, if anything. */
  directive?: "run" | "quiet" | "terminate" | "unknown";
  hostname: string;
  pid: number;
  sdk: string;
  sdkVersion: string;
  runtime: string;
  appVersion: string;
  labels: Record<string, string>;
  types: string[];
  queues: string[];
  slots: number;
  concurrency: number;
  /** Leases held, and how many of them have started. */
  inFlight: number;
  running: number;
  connectTime?: Date;
  lastSeenTime?: Date;
  /** Since it connected. */
  succeededCount: number;
  failedCount: number;
  rssBytes: number;
  cpuPercent: number;
  /** The server its stream is on. */
  serverId: string;
}
