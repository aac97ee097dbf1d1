// From a task, an input and options to the JobSpec that travels.
import { create, toBinary, type MessageInitShape } from "@bufbuild/protobuf";
import type { Codecs } from "./codecs.js";
import { durationField, msOf, spanOf, toMs } from "./duration.js";
import { InvalidArgument, ResourceExhausted } from "./errors.js";
import type { RetryPolicy } from "./gen/jobwire/v1/common_pb.js";
import { JobSpecSchema, type JobSpec } from "./gen/jobwire/v1/job_pb.js";
import { uuidv7 } from "./ids.js";
import { checkJobOptions, computed, CONFLICTS, EXHAUSTED, SCOPES } from "./options.js";
import { bodyBytes, encodeBody, type Body } from "./payload.js";
import { validate, type AnyTask } from "./tasks.js";
import type { JobOptions, Retry, TaskOptions, Unique } from "./types.js";

/** Sizes checked before sending; the server's defaults until a Welcome says otherwise. */
export interface SizeLimits {
  payloadBytes: number;
  resultBytes: number;
  checkpointBytes: number;
}

export const DEFAULT_LIMITS: SizeLimits = { payloadBytes: 1 << 20, resultBytes: 1 << 20, checkpointBytes: 64 << 10 };

/** More than id, type and what frames them can take on the wire. */
const BARE_SPEC_BYTES = 300;

/** A spec and its size on the wire, or a little more. */
export interface BuiltSpec {
  spec: JobSpec;
  bytes: number;
}

/** Builds and checks a spec: validates the input, merges the options (the call wins over the task), proposes an id. */
export async function buildSpec(task: AnyTask | string, input: unknown, call: JobOptions, codecs: Codecs): Promise<BuiltSpec> {
  if (typeof task !== "string" && task.input) await validate(task.input, input, "input");
  return buildSpecUnchecked(task, input, call, codecs);
}

/** As `buildSpec`, without the schema. */
export function buildSpecUnchecked(task: AnyTask | string, input: unknown, call: JobOptions, codecs: Codecs): BuiltSpec {
  const type = typeof task === "string" ? task : task.name;
  const options = mergeOptions(typeof task === "string" ? {} : task.options, call, input);
  const body = encodeBody(input === undefined ? {} : input, "payload", codecs);
  // Most jobs have no options; not to look at each of them again, and not to encode the job twice, halves the cost.
  const bare = !Object.entries(options).some(([name, value]) => name !== "id" && value !== undefined);
  const init = bare ? {} : initOf(options);
  const spec = create(JobSpecSchema, { ...init, id: options.id ?? uuidv7(), type, payload: payloadInit(body) });
  const size = bodyBytes(body);
  const limit = DEFAULT_LIMITS.payloadBytes;
  if (size > limit) {
    throw new ResourceExhausted(
      `payload of ${type} is ${size} bytes; the limit is ${limit}: keep large data elsewhere and send a reference`,
      { reason: "MESSAGE_TOO_LARGE", field: "payload" },
    );
  }
  return { spec, bytes: bare ? size + BARE_SPEC_BYTES : bytesOf(spec) };
}

/** Throws InvalidArgument where an option does not encode. */
function bytesOf(spec: JobSpec): number {
  try {
    return toBinary(JobSpecSchema, spec).byteLength;
  } catch (error) {
    throw new InvalidArgument(`options of ${spec.type}: ${(error as Error).message}`, { reason: "INVALID_FIELD", cause: error });
  }
}

function initOf(options: JobOptions) {
  return {
    queue: options.queue,
    // A copy: telemetry adds to it, and the options may be those of a task.
    headers: options.headers && { ...options.headers },
    priority: options.priority,
    start: startOf(options),
    timeout: durationField(options.timeout, "timeout"),
    totalTimeout: durationField(options.totalTimeout, "totalTimeout"),
    heartbeatTimeout: durationField(options.heartbeatTimeout, "heartbeatTimeout"),
    expiration: expirationOf(options),
    retry: retryOf(options.retry),
    tags: options.tags,
    fairnessKey: options.fairnessKey,
    unique: uniqueOf(options.unique),
    idempotencyKey: options.idempotencyKey,
    idempotencyTtl: durationField(options.idempotencyTtl, "idempotencyTtl"),
    retention: durationField(options.retention, "retention"),
    deadRetention: durationField(options.deadRetention, "deadRetention"),
    dependsOn: options.after?.map((job) => ({
      target: { case: "jobId" as const, value: typeof job === "string" ? job : job.id },
    })),
  } satisfies MessageInitShape<typeof JobSpecSchema>;
}

/** Protobuf init of a body. */
export function payloadInit(body: Body) {
  return {
    body:
      body.data !== undefined
        ? { case: "data" as const, value: body.data as Uint8Array<ArrayBuffer> }
        : { case: "text" as const, value: body.text ?? "" },
    contentType: body.contentType,
    contentEncoding: body.contentEncoding,
  };
}

/** The options of the task were checked when it was made. */
function mergeOptions(task: TaskOptions<unknown>, call: JobOptions, input: unknown): JobOptions {
  checkJobOptions(call);
  const { unique, fairnessKey, idempotencyKey, tags, ...rest } = task;
  const merged: JobOptions = {
    ...rest,
    unique: computed(unique, input, "unique"),
    fairnessKey: computed(fairnessKey, input, "fairnessKey"),
    idempotencyKey: computed(idempotencyKey, input, "idempotencyKey"),
    tags: computed(tags, input, "tags"),
  };
  for (const [key, value] of Object.entries(call)) {
    if (value !== undefined) (merged as Record<string, unknown>)[key] = value;
  }
  // The two spellings of one wish: the call's replaces the task's.
  if (call.delay !== undefined && call.at === undefined) delete merged.at;
  if (call.at !== undefined && call.delay === undefined) delete merged.delay;
  if (call.ttl !== undefined && call.expireAt === undefined) delete merged.expireAt;
  if (call.expireAt !== undefined && call.ttl === undefined) delete merged.ttl;
  if (merged.delay !== undefined && merged.at !== undefined) throw conflict("delay", "at");
  if (merged.ttl !== undefined && merged.expireAt !== undefined) throw conflict("ttl", "expireAt");
  return merged;
}

function conflict(a: string, b: string): InvalidArgument {
  return new InvalidArgument(`${a} and ${b} exclude each other; give one of them`, { reason: "INVALID_FIELD", field: a });
}

/** When a job is to start, if not at once. */
export function startOf({ delay, at }: Pick<JobOptions, "delay" | "at">): JobSpec["start"] | undefined {
  if (delay !== undefined) return { case: "delay", value: message(spanOf(toMs(delay, "delay"))) };
  return at && { case: "scheduleTime", value: message(spanOf(at.getTime())) };
}

function expirationOf({ ttl, expireAt }: JobOptions): JobSpec["expiration"] | undefined {
  if (ttl !== undefined) return { case: "ttl", value: message(spanOf(toMs(ttl, "ttl"))) };
  return expireAt && { case: "expireTime", value: message(spanOf(expireAt.getTime())) };
}

/** protobuf-es accepts plain objects where `create` takes an init; the types of a oneof's arms do not say so. */
function message<T>(span: { seconds: bigint; nanos: number }): T {
  return span as T;
}

/** The contract's form of a policy of retries. */
export function retryOf(retry: number | Retry | undefined) {
  if (retry === undefined) return undefined;
  if (typeof retry === "number") return { maxAttempts: retry };
  return {
    maxAttempts: retry.maxAttempts,
    initialDelay: durationField(retry.initialDelay, "retry.initialDelay"),
    multiplier: retry.multiplier,
    maxDelay: durationField(retry.maxDelay, "retry.maxDelay"),
    jitter: retry.jitter,
    delays: retry.delays?.map((delay) => spanOf(toMs(delay, "retry.delays"))),
    nonRetryableTypes: retry.nonRetryableTypes,
    maxCrashes: retry.maxCrashes,
    onExhausted: retry.onExhausted && EXHAUSTED[retry.onExhausted],
  } satisfies Partial<Record<keyof RetryPolicy, unknown>>;
}

/** The public form of a policy of retries: what was set of it. */
export function retryFrom(policy: RetryPolicy): Retry {
  const retry: Retry = {};
  if (policy.maxAttempts !== 0) retry.maxAttempts = policy.maxAttempts;
  if (policy.initialDelay) retry.initialDelay = msOf(policy.initialDelay);
  if (policy.multiplier !== 0) retry.multiplier = policy.multiplier;
  if (policy.maxDelay) retry.maxDelay = msOf(policy.maxDelay);
  if (policy.jitter !== undefined) retry.jitter = policy.jitter;
  if (policy.delays.length > 0) retry.delays = policy.delays.map((delay) => msOf(delay));
  if (policy.nonRetryableTypes.length > 0) retry.nonRetryableTypes = policy.nonRetryableTypes;
  if (policy.maxCrashes !== undefined) retry.maxCrashes = policy.maxCrashes;
  if (policy.onExhausted === EXHAUSTED.discard) retry.onExhausted = "discard";
  return retry;
}

function uniqueOf(unique: string | Unique | undefined) {
  if (unique === undefined) return undefined;
  if (typeof unique === "string") return { key: unique };
  return {
    key: unique.key,
    scope: unique.scope && SCOPES[unique.scope],
    ttl: durationField(unique.ttl, "unique.ttl"),
    onConflict: unique.onConflict && CONFLICTS[unique.onConflict],
  };
}
