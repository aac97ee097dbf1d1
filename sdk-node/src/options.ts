// What options may be. The compiler says the same; this is for callers without one, and for what `any` lets through.
import {
  check, checkEach, date, duration, durations, INT32_MAX, invalid, isListOf, isRecord, isString, isWhole, number, show, text, texts, word,
  type Check, type Checks,
} from "./checks.js";
import { ExhaustedAction } from "./gen/jobwire/v1/common_pb.js";
import { UniqueConflict, UniqueScope } from "./gen/jobwire/v1/job_pb.js";
import type { JobOptions, Retry, TaskOptions, Unique } from "./types.js";

export const EXHAUSTED = { dead: ExhaustedAction.DEAD, discard: ExhaustedAction.DISCARD };
export const SCOPES = { until_finished: UniqueScope.UNTIL_FINISHED, until_started: UniqueScope.UNTIL_STARTED, for_ttl: UniqueScope.FOR_TTL };
export const CONFLICTS = { keep: UniqueConflict.KEEP, reject: UniqueConflict.REJECT, replace: UniqueConflict.REPLACE, debounce: UniqueConflict.DEBOUNCE };

const isCount = (value: unknown): boolean => value === -1 || isWhole(value, 1, INT32_MAX);
const attempts = check(isCount, "a whole number (1 = never again, -1 = no limit)");

const RETRY: Checks<Retry> = {
  maxAttempts: attempts,
  initialDelay: duration,
  multiplier: number,
  maxDelay: duration,
  jitter: number,
  delays: durations,
  nonRetryableTypes: texts,
  maxCrashes: check((value) => isWhole(value, -1, INT32_MAX), "a whole number (0 = the first time is final, -1 = no limit)"),
  onExhausted: word(EXHAUSTED),
};

const UNIQUE: Checks<Unique> = { key: text, scope: word(SCOPES), ttl: duration, onConflict: word(CONFLICTS) };

const retry: Check = (value, field) => {
  if (typeof value === "number") return attempts(value, field);
  if (!isRecord(value)) throw invalid(field, `${field} must be a number or { maxAttempts: 3 }, not ${show(value)}`);
  checkEach(RETRY, value, "retry.", MEANT_IN_RETRY);
};

const unique: Check = (value, field) => {
  if (isString(value)) return;
  if (!isRecord(value)) throw invalid(field, `${field} must be a key or { key: "…" }, not ${show(value)}`);
  checkEach(UNIQUE, value, "unique.", { conflict: "onConflict" });
};

/** Values stay out of the message: headers may carry secrets. */
const headers: Check = (value, field) => {
  if (!isRecord(value)) throw invalid(field, `${field} must be an object of strings, not ${show(value)}`);
  for (const [key, one] of Object.entries(value)) {
    if (!isString(one)) throw invalid(field, `${field} must be strings: write String(…) for ${JSON.stringify(key)}, a value of type ${typeof one}`);
  }
};

const TASK: Checks<Omit<JobOptions, "id">> = {
  queue: text,
  delay: duration,
  at: date,
  priority: check((value) => isWhole(value, -4, 4), "a whole number from -4 to 4"),
  fairnessKey: text,
  timeout: duration,
  totalTimeout: duration,
  heartbeatTimeout: duration,
  ttl: duration,
  expireAt: date,
  retry,
  idempotencyKey: text,
  idempotencyTtl: duration,
  unique,
  tags: texts,
  headers,
  retention: duration,
  deadRetention: duration,
  after: check((value) => isListOf(value, (item) => isString(isRecord(item) ? item["id"] : item)), "a list of handles or ids"),
};
const JOB: Checks<JobOptions> = { id: text, ...TASK };

/** A policy of retries, where a queue has one. */
export const RETRY_OPTION = retry;
/** What can be changed of a job that waits. */
export const PATCH = { priority: TASK.priority, queue: text, delay: duration, at: date, retry, timeout: duration };

/** What people write who come from elsewhere. */
const MEANT: Record<string, string> = {
  attempts: "retry: { maxAttempts }",
  retries: "retry: { maxAttempts }",
  maxAttempts: "retry: { maxAttempts }",
  maxRetries: "retry: { maxAttempts }",
  backoff: "retry: { initialDelay, multiplier }",
  initialDelay: "retry: { initialDelay }",
  onExhausted: "retry: { onExhausted }",
  onConflict: "unique: { onConflict }",
  jobId: "id",
  dependsOn: "after",
};
const MEANT_IN_RETRY = { attempts: "maxAttempts", retries: "maxAttempts", delay: "initialDelay", backoff: "initialDelay, multiplier" };

/** Options of a task that may be functions of the input: what these answer is checked once it is known. */
const COMPUTED = ["unique", "fairnessKey", "idempotencyKey", "tags"] as const;

/** Throws InvalidArgument for an option of a call that is unknown, or has a value it cannot have. */
export function checkJobOptions(options: JobOptions): void {
  checkEach(JOB, options, "", MEANT);
}

/** Many jobs of one id would be one job and its duplicates. */
export function checkSharedOptions(options: object): void {
  if ("id" in options && options.id !== undefined) throw invalid("id", "id belongs to one job, not to many: give it to enqueue()");
}

/** As `checkJobOptions`, for options of a task. */
export function checkTaskOptions(options: TaskOptions<never>): void {
  const fixed: Record<string, unknown> = { ...options };
  for (const name of COMPUTED) if (typeof fixed[name] === "function") delete fixed[name];
  if (fixed["id"] !== undefined) throw invalid("id", "id belongs to one job, not to a task: give it to enqueue()");
  checkEach(TASK, fixed, "", MEANT);
}

/** What `option`, where it is a function of the input, answers for this one. */
export function computed<T>(option: T | ((input: unknown) => T) | undefined, input: unknown, name: (typeof COMPUTED)[number]): T | undefined {
  if (typeof option !== "function") return option;
  const value = (option as (input: unknown) => T | undefined)(input);
  if (value !== undefined) TASK[name](value, name);
  return value;
}
