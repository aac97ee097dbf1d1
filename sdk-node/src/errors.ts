// Every error the SDK throws. What handlers throw to say what should happen next is in directives.ts.
//
//   JobwireError            base: code, reason, field, retryable, retryDelay, metadata
//   ├─ InvalidArgument  NotFound  AlreadyExists  FailedPrecondition  Aborted  OutOfRange
//   ├─ ResourceExhausted  Unavailable  DeadlineExceeded  CallCancelled  Internal
//   ├─ Unauthenticated  PermissionDenied  Unimplemented
//   ├─ WorkflowFailed        from result() of a workflow
//   └─ JobError             from result(): JobFailed, JobCancelled, JobExpired
//   Cancellation            `ctx.signal.reason` of a handler that should stop
import type { Failure, JobState } from "./types.js";
import type { WorkflowState } from "./workflow-types.js";

/** Names of the gRPC status codes, by number. */
export const CODE_NAMES = [
  "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
  "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
  "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
] as const;

/** Name of a gRPC status code. */
export type Code = (typeof CODE_NAMES)[number];

/** What an error carries besides its message. */
export interface ErrorDetails {
  /** Stable machine-readable reason, such as `"QUEUE_FULL"`; empty when the server gave none. */
  reason?: string;
  /** Path of the offending request field, when there is one: `"retry.max_attempts"`. */
  field?: string;
  /** Milliseconds the server asks to wait before the same call is made again. */
  retryDelay?: number;
  /** The dynamic parts of the message, such as `job_id` of a uniqueness conflict. */
  metadata?: Record<string, string>;
  cause?: unknown;
}

/** Base of everything the SDK throws. */
export class JobwireError extends Error {
  /** gRPC status of the call, also for errors found before sending. */
  readonly code: Code;
  readonly reason: string;
  readonly field: string | undefined;
  /** Milliseconds to wait before a retry; `undefined` when the server did not say. */
  readonly retryDelay: number | undefined;
  readonly metadata: Readonly<Record<string, string>>;

  constructor(code: Code, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = new.target.name;
    this.code = code;
    this.reason = details.reason ?? "";
    this.field = details.field;
    this.retryDelay = details.retryDelay;
    this.metadata = details.metadata ?? {};
  }

  /** Whether the same call may succeed later, unchanged. The SDK has already retried UNAVAILABLE. */
  get retryable(): boolean {
    return this.code === "UNAVAILABLE" || (this.code === "RESOURCE_EXHAUSTED" && this.retryDelay !== undefined);
  }
}

function errorClass<C extends Code>(code: C) {
  return class extends JobwireError {
    constructor(message: string, details?: ErrorDetails) {
      super(code, message, details);
    }
  };
}

/** A field is missing, malformed or out of range: see `field`. Also payloads that cannot be encoded. */
export class InvalidArgument extends errorClass("INVALID_ARGUMENT") {}
/** No such job, queue, schedule, workflow or worker. */
export class NotFound extends errorClass("NOT_FOUND") {}
/** The id or the uniqueness key is taken by another job. */
export class AlreadyExists extends errorClass("ALREADY_EXISTS") {
  /** Id of the job that stands in the way, when the server names it. */
  get jobId(): string | undefined {
    return this.metadata["job_id"];
  }
}
/** The job, queue or server is not in a state that allows this. */
export class FailedPrecondition extends errorClass("FAILED_PRECONDITION") {}
/** Somebody else was faster: an etag or a session moved on. */
export class Aborted extends errorClass("ABORTED") {}
/** A cursor is too old. */
export class OutOfRange extends errorClass("OUT_OF_RANGE") {}
/** A limit is reached: with `retryDelay` try again after it, without it the request itself is too large. */
export class ResourceExhausted extends errorClass("RESOURCE_EXHAUSTED") {}
/** No server could be reached, or it is not able to serve now. */
export class Unavailable extends errorClass("UNAVAILABLE") {}
/** The caller's time was up. The call may have taken effect. */
export class DeadlineExceeded extends errorClass("DEADLINE_EXCEEDED") {}
/** The caller gave up, or the client was closed. */
export class CallCancelled extends errorClass("CANCELLED") {}
/** The token is missing, wrong or out of date. */
export class Unauthenticated extends errorClass("UNAUTHENTICATED") {}
/** The token lacks a scope, or does not cover the queue. */
export class PermissionDenied extends errorClass("PERMISSION_DENIED") {}
/** The server does not offer this call. */
export class Unimplemented extends errorClass("UNIMPLEMENTED") {}
/** A defect of the server; `metadata.request_id` helps to find it. */
export class Internal extends errorClass("INTERNAL") {}

const CLASSES: Partial<Record<Code, new (message: string, details?: ErrorDetails) => JobwireError>> = {
  INVALID_ARGUMENT: InvalidArgument,
  NOT_FOUND: NotFound,
  ALREADY_EXISTS: AlreadyExists,
  FAILED_PRECONDITION: FailedPrecondition,
  ABORTED: Aborted,
  OUT_OF_RANGE: OutOfRange,
  RESOURCE_EXHAUSTED: ResourceExhausted,
  UNAVAILABLE: Unavailable,
  DEADLINE_EXCEEDED: DeadlineExceeded,
  CANCELLED: CallCancelled,
  UNAUTHENTICATED: Unauthenticated,
  PERMISSION_DENIED: PermissionDenied,
  UNIMPLEMENTED: Unimplemented,
  INTERNAL: Internal,
};

/** The right class for a code. */
export function makeError(code: Code, message: string, details?: ErrorDetails): JobwireError {
  const Class = CLASSES[code];
  return Class ? new Class(message, details) : new JobwireError(code, message, details);
}

/** A job ended in another way than success. Thrown by `result()` and `run()`. */
export class JobError extends JobwireError {
  readonly jobId: string;
  readonly state: JobState;
  /** Type, message and trace of what happened on the worker, as plain text. */
  readonly failure: Failure | undefined;

  constructor(jobId: string, state: JobState, failure: Failure | undefined) {
    const what = failure ? `: ${failure.type ? `${failure.type}: ` : ""}${failure.message}` : "";
    super("FAILED_PRECONDITION", `job ${jobId} is ${state}${what}`, { reason: "JOB_TERMINAL" });
    this.jobId = jobId;
    this.state = state;
    this.failure = failure;
  }

  override get retryable(): boolean {
    return false;
  }
}
/** The job is `dead` (out of retries) or was `discarded`. */
export class JobFailed extends JobError {}
/** The job was cancelled. */
export class JobCancelled extends JobError {}
/** The job was not started, or not finished, in time. */
export class JobExpired extends JobError {}

/** A workflow ended in another way than success. Thrown by `result()` of its handle. */
export class WorkflowFailed extends JobwireError {
  readonly workflowId: string;
  /** `"failed"` or `"cancelled"`. */
  readonly state: WorkflowState;
  /** By node, those that failed for good. At most 100. */
  readonly failures: Readonly<Record<string, Failure>>;

  constructor(workflowId: string, state: WorkflowState, failures: Record<string, Failure>) {
    const [first] = Object.entries(failures);
    const what = first ? `: ${first[0]}: ${first[1].type ? `${first[1].type}: ` : ""}${first[1].message}` : "";
    super("FAILED_PRECONDITION", `workflow ${workflowId} is ${state}${what}`);
    this.workflowId = workflowId;
    this.state = state;
    this.failures = failures;
  }

  override get retryable(): boolean {
    return false;
  }
}

/** Why a running handler should stop. */
export type CancelReason = "requested" | "timeout" | "workflow" | "lease_lost" | "shutdown";

/**
 * `ctx.signal.reason` of a handler that should stop. Its name is `"AbortError"`, so that libraries which take a signal
 * treat it as such; let it escape from the handler to obey.
 */
export class Cancellation extends Error {
  override readonly name = "AbortError";
  constructor(
    readonly reason: CancelReason,
    message: string,
  ) {
    super(message);
  }
}
