// Between protobuf messages and the SDK's plain data. Unknown enum values become the documented fallback.
import { toJson, type JsonObject } from "@bufbuild/protobuf";
import { ValueSchema } from "@bufbuild/protobuf/wkt";
import type { Attempt, JobDetails } from "./admin-types.js";
import type { Codecs } from "./codecs.js";
import { dateOf, msOf, spanOf } from "./duration.js";
import type { CancelReason } from "./errors.js";
import { FailureKind, type Failure as PbFailure, type Payload as PbPayload } from "./gen/jobwire/v1/common_pb.js";
import {
  AttemptResult, JobState as PbJobState, LogLevel as PbLogLevel, ThrottleScope,
  type Attempt as PbAttempt, type Job as PbJob, type LogLine as PbLogLine, type Progress as PbProgress,
} from "./gen/jobwire/v1/job_pb.js";
import { EnqueueStatus as PbEnqueueStatus } from "./gen/jobwire/v1/job_service_pb.js";
import { CancelReason as PbCancelReason, FailureAction, type DependencyResult as PbDependencyResult, type JobLease } from "./gen/jobwire/v1/worker_service_pb.js";
import type { DependencyData, FailureData, JobData, LogLineData, OutcomeData } from "./messages.js";
import { decodeBody, type Body } from "./payload.js";
import { payloadInit } from "./spec.js";
import type { EnqueueStatus, Failure, JobRecord, JobState, LogLevel, LogLine, Progress } from "./types.js";

/** Name of an enum value, in lower case; `unknown` for one this version does not know. */
function nameOf(names: Record<number, string>, value: number): string {
  return names[value]?.toLowerCase() ?? "unknown";
}

export function stateOf(state: PbJobState): JobState {
  return state === PbJobState.UNSPECIFIED ? "unknown" : (nameOf(PbJobState, state) as JobState);
}

/** Whether a job in this state will not change by itself any more. */
export function isTerminal(state: JobState): boolean {
  return state === "succeeded" || state === "dead" || state === "cancelled" || state === "expired" || state === "discarded";
}

export function enqueueStatusOf(status: PbEnqueueStatus): EnqueueStatus {
  const name = nameOf(PbEnqueueStatus, status);
  return name === "unspecified" || name === "unknown" ? "created" : (name as EnqueueStatus);
}

export function cancelReasonOf(reason: PbCancelReason): CancelReason {
  if (reason === PbCancelReason.TIMEOUT) return "timeout";
  return reason === PbCancelReason.WORKFLOW ? "workflow" : "requested";
}

export function bodyOf(payload: PbPayload | undefined): Body | undefined {
  if (!payload || payload.body.case === undefined) return undefined;
  const { contentType, contentEncoding } = payload;
  if (payload.body.case === "text") return { text: payload.body.value, contentType, contentEncoding };
  if (payload.body.case === "data") return { data: payload.body.value.slice(), contentType, contentEncoding };
  return { text: JSON.stringify(toJson(ValueSchema, payload.body.value)), contentType, contentEncoding };
}

export function failureDataOf(failure: PbFailure | undefined): FailureData | undefined {
  if (!failure) return undefined;
  const kind = failure.kind === FailureKind.UNSPECIFIED ? "application" : nameOf(FailureKind, failure.kind);
  const data: FailureData = {
    kind: kind as FailureData["kind"],
    type: failure.type,
    message: failure.message,
    stackTrace: failure.stackTrace,
  };
  const details = bodyOf(failure.details);
  if (details) data.details = details;
  const cause = failureDataOf(failure.cause);
  if (cause) data.cause = cause;
  return data;
}

/** The public form: details decoded. */
export function publicFailure(data: FailureData | undefined): Failure | undefined {
  if (!data) return undefined;
  const { details, cause, ...rest } = data;
  const failure: Failure = { ...rest };
  if (details) failure.details = decodeBody(details);
  if (cause) failure.cause = publicFailure(cause)!;
  return failure;
}

export function jobDataOf(lease: JobLease, key: number): JobData {
  const task = lease.task;
  return {
    key,
    id: task?.id ?? "",
    type: task?.type ?? "",
    queue: task?.queue ?? "",
    payload: bodyOf(task?.payload),
    headers: task?.headers ?? {},
    tags: task?.tags ?? [],
    priority: task?.priority ?? 0,
    attempt: lease.attempt,
    maxAttempts: lease.maxAttempts,
    delivery: lease.delivery,
    crashes: lease.crashes,
    fairnessKey: task?.fairnessKey ?? "",
    workflowId: task?.workflowId ?? "",
    node: task?.node ?? "",
    parentId: task?.parentId ?? "",
    scheduleId: task?.scheduleId ?? "",
    createTimeMs: msOf(task?.createTime),
    fireTimeMs: msOf(task?.fireTime),
    waitMs: msOf(lease.waitDuration) ?? 0,
    timeoutMs: msOf(lease.timeout) || undefined,
    heartbeatTimeoutMs: msOf(lease.heartbeatTimeout) || undefined,
    checkpoint: bodyOf(lease.checkpoint),
    lastFailure: failureDataOf(lease.lastFailure),
    dependencies: lease.dependencies.map(dependencyDataOf),
    dependenciesTruncated: lease.dependenciesTruncated,
  };
}

export function dependencyDataOf({ alias, jobId, state, result, failure }: PbDependencyResult): DependencyData {
  return { alias, jobId, state: stateOf(state), result: bodyOf(result), failure: failureDataOf(failure) };
}

const ACTIONS = {
  policy: FailureAction.UNSPECIFIED,
  retry: FailureAction.RETRY,
  stop: FailureAction.STOP,
  discard: FailureAction.DISCARD,
};

/** Init of an Outcome's `result` arm. */
export function outcomeArm(outcome: Exclude<OutcomeData, { kind: "dropped" }>) {
  switch (outcome.kind) {
    case "succeeded":
      return { case: "succeeded", value: { result: outcome.result && payloadInit(outcome.result) } } as const;
    case "failed":
      return {
        case: "failed",
        value: {
          failure: failureInit(outcome.failure),
          action: ACTIONS[outcome.action],
          retryDelay: outcome.retryDelayMs === undefined ? undefined : spanOf(outcome.retryDelayMs),
        },
      } as const;
    case "snoozed":
      return {
        case: "snoozed",
        value: {
          delay: spanOf(outcome.delayMs),
          reason: outcome.reason,
          throttle: outcome.throttle && (outcome.throttle === "key" ? ThrottleScope.KEY : ThrottleScope.QUEUE),
        },
      } as const;
    case "cancelled":
      return { case: "cancelled", value: { reason: outcome.reason } } as const;
    case "released":
      return { case: "released", value: { reason: outcome.reason } } as const;
  }
}

const KINDS = Object.fromEntries(
  Object.entries(FailureKind).map(([name, value]) => [name.toLowerCase(), value]),
) as Record<string, FailureKind>;

function failureInit(failure: FailureData): object {
  return {
    kind: KINDS[failure.kind] ?? FailureKind.APPLICATION,
    type: failure.type,
    message: failure.message,
    stackTrace: failure.stackTrace,
    details: failure.details && payloadInit(failure.details),
    cause: failure.cause && failureInit(failure.cause),
  };
}

export function progressInit(progress: Progress) {
  return {
    percent: progress.percent,
    current: progress.current === undefined ? undefined : BigInt(Math.trunc(progress.current)),
    total: progress.total === undefined ? undefined : BigInt(Math.trunc(progress.total)),
    message: progress.message,
    data: progress.data as JsonObject | undefined,
  };
}

export function progressOf(progress: PbProgress): Progress {
  const plain: Progress = {};
  if (progress.percent !== undefined) plain.percent = progress.percent;
  if (progress.current !== 0n) plain.current = Number(progress.current);
  if (progress.total !== 0n) plain.total = Number(progress.total);
  if (progress.message !== "") plain.message = progress.message;
  if (progress.data !== undefined) plain.data = progress.data as Record<string, unknown>;
  return plain;
}

export function logLineInit(line: LogLineData) {
  return {
    time: spanOf(line.timeMs),
    level: PbLogLevel[line.level.toUpperCase() as Uppercase<LogLevel>],
    message: line.message,
    fields: line.fields,
  };
}

export function logLineOf(line: PbLogLine): LogLine {
  // Between two named severities the lower one names it: 10 is still INFO.
  const level = (["fatal", "error", "warn", "info", "debug"] as const).find(
    (name) => line.level >= PbLogLevel[name.toUpperCase() as Uppercase<LogLevel>],
  );
  return {
    index: Number(line.index),
    time: dateOf(line.time) ?? new Date(0),
    level: line.level === PbLogLevel.UNSPECIFIED ? "info" : (level ?? "trace"),
    message: line.message,
    fields: line.fields,
    attempt: line.attempt,
  };
}

export function recordOf(job: PbJob): JobRecord {
  const spec = job.spec;
  const record: JobRecord = {
    id: job.id,
    type: spec?.type ?? "",
    queue: spec?.queue ?? "",
    state: stateOf(job.state),
    priority: spec?.priority ?? 0,
    attempt: job.attempt,
    delivery: job.delivery,
    crashes: job.crashes,
    tags: spec?.tags ?? [],
    headers: spec?.headers ?? {},
    workerId: job.workerId,
    workflowId: job.workflowId,
    node: job.node,
    scheduleId: job.scheduleId,
  };
  for (const field of ["createTime", "scheduleTime", "startTime", "finishTime"] as const) {
    const time = dateOf(job[field]);
    if (time) record[field] = time;
  }
  if (job.progress) record.progress = progressOf(job.progress);
  const failure = publicFailure(failureDataOf(job.failure));
  if (failure) record.failure = failure;
  return record;
}

/** The whole record, decoded. */
export function detailsOf(job: PbJob, codecs: Codecs): JobDetails {
  const details: JobDetails = {
    ...recordOf(job),
    input: decodeBody(bodyOf(job.spec?.payload), codecs),
    result: decodeBody(bodyOf(job.result), codecs),
    fairnessKey: job.spec?.fairnessKey ?? "",
    parentId: job.spec?.parentId ?? "",
    attempts: job.attempts.map(attemptOf),
    etag: job.etag,
  };
  for (const field of ["fireTime", "cancelRequestTime", "purgeTime"] as const) {
    const time = dateOf(job[field]);
    if (time) details[field] = time;
  }
  return details;
}

function attemptOf(attempt: PbAttempt): Attempt {
  const running = attempt.result === AttemptResult.UNSPECIFIED;
  const plain: Attempt = {
    attempt: attempt.attempt,
    delivery: attempt.delivery,
    result: running ? "running" : (nameOf(AttemptResult, attempt.result) as Attempt["result"]),
    workerId: attempt.workerId,
    runMs: msOf(attempt.runDuration) ?? 0,
    waitMs: msOf(attempt.waitDuration) ?? 0,
  };
  for (const field of ["startTime", "finishTime"] as const) {
    const time = dateOf(attempt[field]);
    if (time) plain[field] = time;
  }
  const failure = publicFailure(failureDataOf(attempt.failure));
  if (failure) plain.failure = failure;
  return plain;
}
