// From a spec back to the options that made it, for assertions.
import { msOf } from "../duration.js";
import { ExhaustedAction, type RetryPolicy } from "../gen/jobwire/v1/common_pb.js";
import { UniqueConflict, UniqueScope, type JobSpec, type Unique as PbUnique } from "../gen/jobwire/v1/job_pb.js";
import type { JobOptions, Priority, Retry, Unique } from "../types.js";

/** Options that were given, and no others. Durations in milliseconds. */
export function optionsOf(spec: JobSpec): JobOptions {
  const { expiration } = spec;
  return given<JobOptions>({
    priority: (spec.priority || undefined) as Priority | undefined,
    fairnessKey: spec.fairnessKey || undefined,
    timeout: msOf(spec.timeout),
    totalTimeout: msOf(spec.totalTimeout),
    heartbeatTimeout: msOf(spec.heartbeatTimeout),
    ttl: expiration.case === "ttl" ? msOf(expiration.value) : undefined,
    expireAt: expiration.case === "expireTime" ? new Date(msOf(expiration.value)) : undefined,
    retry: spec.retry && retryOf(spec.retry),
    idempotencyKey: spec.idempotencyKey || undefined,
    idempotencyTtl: msOf(spec.idempotencyTtl),
    unique: spec.unique && uniqueOf(spec.unique),
    tags: spec.tags.length > 0 ? spec.tags : undefined,
    headers: Object.keys(spec.headers).length > 0 ? spec.headers : undefined,
    retention: msOf(spec.retention),
    deadRetention: msOf(spec.deadRetention),
  });
}

function retryOf(policy: RetryPolicy): Retry {
  return given<Retry>({
    maxAttempts: policy.maxAttempts || undefined,
    initialDelay: msOf(policy.initialDelay),
    multiplier: policy.multiplier || undefined,
    maxDelay: msOf(policy.maxDelay),
    jitter: policy.jitter,
    delays: policy.delays.length > 0 ? policy.delays.map((delay) => msOf(delay)) : undefined,
    nonRetryableTypes: policy.nonRetryableTypes.length > 0 ? policy.nonRetryableTypes : undefined,
    maxCrashes: policy.maxCrashes,
    onExhausted: nameOf<Retry["onExhausted"]>(ExhaustedAction, policy.onExhausted),
  });
}

function uniqueOf(unique: PbUnique): Unique {
  return given<Unique>({
    key: unique.key || undefined,
    scope: nameOf<Unique["scope"]>(UniqueScope, unique.scope),
    ttl: msOf(unique.ttl),
    onConflict: nameOf<Unique["onConflict"]>(UniqueConflict, unique.onConflict),
  });
}

function nameOf<Name>(names: Record<number, string>, value: number): Name | undefined {
  return value === 0 ? undefined : (names[value]!.toLowerCase() as Name);
}

function given<T extends object>(fields: { [K in keyof T]: T[K] | undefined }): T {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as T;
}
