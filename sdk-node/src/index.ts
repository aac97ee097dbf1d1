// The public surface; a test keeps a list of it.
export { Client, type ClientOptions, type EnqueueItem } from "./client.js";
export type { ConnectionOptions } from "./endpoints.js";
export { Job } from "./job.js";
export { defineTask, type StandardSchema, type Task } from "./tasks.js";
export { Worker, type QueueOptions, type WorkerEvents, type WorkerOptions } from "./worker.js";
export type { Handler } from "./runner.js";
export { currentContext, type Context, type DependencyResult, type LogFunction } from "./context.js";
export { http, httpStrict, type Classifier } from "./outcomes.js";
export { Payload } from "./payload.js";
export type { Duration, DurationUnit } from "./duration.js";
export {
  Aborted, AlreadyExists, CallCancelled, Cancellation, DeadlineExceeded, Directive, Discard, FailedPrecondition, Internal,
  InvalidArgument, JobCancelled, JobError, JobExpired, JobFailed, JobwireError, NonRetryable, NotFound, OutOfRange,
  PermissionDenied, Release, ResourceExhausted, RetryAfter, Snooze, Unauthenticated, Unavailable, Unimplemented,
  type CancelReason, type Code, type ErrorDetails, type ResponseLike,
} from "./errors.js";
export type {
  CallOptions, EnqueueStatus, Failure, JobEvent, JobOptions, JobRecord, JobState, Logger, LogLevel, LogLine, Priority,
  Progress, Retry, TaskOptions, Unique,
} from "./types.js";
export type { Attempted, OutgoingJob, RunningJob, Telemetry, WorkerGauges } from "./telemetry.js";
export { VERSION } from "./version.js";
