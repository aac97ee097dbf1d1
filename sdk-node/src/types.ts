// Public data types: options users write and records they read. No behaviour, no protobuf.
import type { Duration } from "./duration.js";

/** Where a job is. `unknown` = a state that this version of the SDK does not know. */
export type JobState =
  | "scheduled" | "blocked" | "ready" | "running" | "retrying"
  | "succeeded" | "dead" | "cancelled" | "expired" | "discarded" | "unknown";

/** What became of an enqueue: `duplicate` = same id or idempotency key, `kept` and `replaced` = uniqueness key taken. */
export type EnqueueStatus = "created" | "duplicate" | "kept" | "replaced";

/** Priority in a queue: higher first, 0 is normal. */
export type Priority = -4 | -3 | -2 | -1 | 0 | 1 | 2 | 3 | 4;

/** What happens after a failed attempt. A field left out takes the queue's value, then the default given here. */
export interface Retry {
  /** Attempts in all, the first included; 1 = never again, -1 = no limit. Default 20. */
  maxAttempts?: number;
  /** Before the second attempt. Default 1 s. */
  initialDelay?: Duration;
  /** Growth per attempt, at least 1. Default 2. */
  multiplier?: number;
  /** Ceiling of a computed delay. Default 1 h. */
  maxDelay?: Duration;
  /** Share of each delay that is random, 0 to 1. Default 0.2. */
  jitter?: number;
  /** Explicit delays instead of the curve; the last one repeats. */
  delays?: Duration[];
  /** Error types that are never retried: exact names, or prefixes ending in `*`. */
  nonRetryableTypes?: string[];
  /** How often a worker may vanish with the job; 0 = the first time is final, -1 = no limit. Default 3. */
  maxCrashes?: number;
  /** Where the job goes when retries are used up. Default `"dead"`. */
  onExhausted?: "dead" | "discard";
}

/** At most one live job per key, within its queue and fairness key. */
export interface Unique {
  /** At most 256 bytes. Default: a hash of type and payload. */
  key?: string;
  /** How long the job holds the key. Default `"until_finished"`. */
  scope?: "until_finished" | "until_started" | "for_ttl";
  /** With scope `"for_ttl"`, where it is required: counted from enqueue. */
  ttl?: Duration;
  /**
   * What to do with a newcomer. Default `"keep"`: it is dropped, and the handle names the existing job. `"reject"`: throws
   * AlreadyExists with the existing job's `jobId`. `"replace"`: its payload and start go into the existing job, while that
   * one has not been handed out; `"debounce"`: its start alone; else both as `"keep"`.
   */
  onConflict?: "keep" | "reject" | "replace" | "debounce";
}

/** Options of one job. Durations: milliseconds or `"30s"`. */
export interface JobOptions {
  /** A UUID, version 7 by preference. Default: made by the SDK. The handle's `id` is the one to keep. */
  id?: string;
  /** Default: the task's name. */
  queue?: string;
  /** Start this long after the server has accepted the job; at most 10 years. Excludes `at`. */
  delay?: Duration;
  /** Start at this time (server clock). Excludes `delay`. */
  at?: Date;
  /** -4 (last) to 4 (first). Default 0. */
  priority?: Priority;
  /** Jobs of different keys take turns; often a tenant id. At most 256 bytes. Weights and limits by key are set on the queue. */
  fairnessKey?: string;
  /** Longest run of one attempt. Default from the queue, then 30 min; at most 30 d. */
  timeout?: Duration;
  /** From enqueue to the end, retries included. Default none. */
  totalTimeout?: Duration;
  /** Longest silence (no progress report) while running. Default none. */
  heartbeatTimeout?: Duration;
  /** The first attempt must start within this, counted from its scheduled start. Excludes `expireAt`. */
  ttl?: Duration;
  /** The first attempt must start before this. Excludes `ttl`. */
  expireAt?: Date;
  /** A number is short for `{ maxAttempts }`. */
  retry?: number | Retry;
  /** A business key such as `"order-7"`: a repeat returns the first job. At most 256 bytes. */
  idempotencyKey?: string;
  /** How long that key is remembered. Default 24 h, at most 30 d. */
  idempotencyTtl?: Duration;
  /** A string is short for `{ key }`. */
  unique?: string | Unique;
  /** At most 16 of 64 bytes. */
  tags?: string[];
  /** Carried unread to the worker; lower-case keys, at most 64 entries and 8 KiB. */
  headers?: Record<string, string>;
  /** How long to keep the finished record. Default from the queue, then 1 h. */
  retention?: Duration;
  /** How long to keep it when it is dead. Default from the queue, then 30 d. */
  deadRetention?: Duration;
  /** Wait until these jobs have succeeded: handles or ids, at most 1,000. */
  after?: (string | { readonly id: string })[];
}

/** Options a task may fix in advance; four of them may be computed from the input. */
export interface TaskOptions<Input> extends Omit<JobOptions, "id" | "unique" | "fairnessKey" | "idempotencyKey" | "tags"> {
  unique?: string | Unique | ((input: Input) => string | Unique);
  fairnessKey?: string | ((input: Input) => string);
  idempotencyKey?: string | ((input: Input) => string);
  tags?: string[] | ((input: Input) => string[]);
}

/** How long and under whose control a call to the server may take. */
export interface CallOptions {
  /** Gives up the call. What was sent may have taken effect. */
  signal?: AbortSignal;
  /** Longest time for the call, retries included. Default: the client's `deadline`, 30 s. */
  deadline?: Duration;
}

/** Options of a call that lists. */
export interface ListOptions {
  /** Which ones, in the filter language of the server: `state = DEAD AND queue = mail`. Default: all. */
  filter?: string;
  /** How many to ask for at a time, 1 to 1,000. Default 100. The pages follow each other by themselves. */
  pageSize?: number;
  /** Ends the listing. */
  signal?: AbortSignal;
}

/** Why an attempt, or a job, did not succeed. Plain text: nothing is rebuilt from the wire. */
export interface Failure {
  /** Who decided: the handler, a timeout, a vanished worker, … */
  kind: "application" | "timeout" | "stalled" | "worker_lost" | "cancelled" | "expired" | "dependency" | "unprocessable" | "unknown";
  /** Class name in the worker's language. */
  type: string;
  message: string;
  stackTrace: string;
  /** What the handler kept with the failure, decoded. */
  details?: unknown;
  cause?: Failure;
}

/** Latest progress of a job. */
export interface Progress {
  /** 0 to 100. */
  percent?: number;
  /** Units done, and in all. */
  current?: number;
  total?: number;
  message?: string;
  /** Anything structured: a JSON object. */
  data?: Record<string, unknown>;
}

/** Severity of a log line. */
export type LogLevel = "trace" | "debug" | "info" | "warn" | "error" | "fatal";

/** A line that a handler logged. */
export interface LogLine {
  /** Position in the job's log, from 1; a gap means that lines were dropped. */
  index: number;
  time: Date;
  level: LogLevel;
  message: string;
  fields: Record<string, string>;
  attempt: number;
}

/** A job's record, as the server keeps it. */
export interface JobRecord {
  id: string;
  type: string;
  queue: string;
  state: JobState;
  priority: number;
  /** Attempts that count against `maxAttempts`. */
  attempt: number;
  /** Times it was handed out; never goes down. */
  delivery: number;
  /** Times a worker vanished with it. */
  crashes: number;
  tags: string[];
  headers: Record<string, string>;
  createTime?: Date;
  scheduleTime?: Date;
  startTime?: Date;
  finishTime?: Date;
  progress?: Progress;
  /** The latest failure, also while retrying. */
  failure?: Failure;
  /** Name of the worker that holds it, or held it last. */
  workerId: string;
  workflowId: string;
  node: string;
  scheduleId: string;
}

/** What `explain()` answers; servers of 0.1 refuse it. */
export interface Explanation {
  state: JobState;
  /** One sentence, whatever the state: `"RUNNING on pod-3 for 12 s, attempt 2 of 20."` */
  summary: string;
  /** What keeps a waiting job from running, a sentence each; what has to go first comes first. Empty otherwise. */
  reasons: string[];
}

/** What `events()` yields: every change of state, the latest progress, each log line. */
export type JobEvent =
  | { kind: "state"; state: JobState; job: JobRecord }
  | { kind: "progress"; progress: Progress }
  | { kind: "log"; line: LogLine };

/** Where the SDK reports what an operator should know. `console` fits. */
export interface Logger {
  info(message: string): void;
  warn(message: string): void;
  error(message: string): void;
}
