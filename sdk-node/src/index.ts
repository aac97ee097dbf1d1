// The public surface; a test keeps a list of it.
export { Client, type ClientOptions, type EnqueueItem } from "./client.js";
export type { ConnectionOptions } from "./endpoints.js";
export { Job } from "./job.js";
export { defineTask, type StandardSchema, type Task } from "./tasks.js";
export type { Needs, Signature } from "./signature.js";
export type { BulkResult, Which } from "./bulk.js";
export { Jobs, type ChangeOptions } from "./jobs.js";
export { Queues } from "./queues.js";
export { Schedules } from "./schedules.js";
export { Workers } from "./workers.js";
export { chain, chord, group, type Canvas, type Group, type Step } from "./canvas.js";
export { Flow, type Awaitable, type FlowOptions, type NodeOptions } from "./flow.js";
export { After, Node, NodeGroup, type Condition, type Given, type GivenKeys, type Ref } from "./nodes.js";
export { Workflow } from "./workflow.js";
export { Workflows } from "./workflows.js";
export type { NodeRecord, WorkflowRecord, WorkflowState } from "./workflow-types.js";
export type {
  Attempt, JobDetails, JobPatch, Percentiles, QueueConfig, QueueRecord, QueueStats, RateLimit, WorkerRecord,
} from "./admin-types.js";
export type { Backfilled, Cadence, CadenceCommon, Cron, Every, Overlap, ScheduleRecord, ScheduleSpec } from "./schedule-types.js";
export { Worker } from "./worker.js";
export type { QueueOptions, SeenJob, WorkerEvents, WorkerOptions } from "./worker-options.js";
export type { ThreadOptions } from "./pool.js";
export type { Handler } from "./runner.js";
export type { BatchContext, BatchHandler, BatchJob, BatchOptions } from "./batch.js";
export { currentContext, type Context, type DependencyResult, type LogFunction } from "./context.js";
export { gzip, type Codec } from "./codecs.js";
export { jobLogStream } from "./log-capture.js";
export { database, http, httpStrict, noRetryOn, type Classifier } from "./classifiers.js";
export { Payload } from "./payload.js";
export type { Duration, DurationUnit } from "./duration.js";
export {
  Aborted, AlreadyExists, CallCancelled, Cancellation, DeadlineExceeded, FailedPrecondition, Internal, InvalidArgument,
  JobCancelled, JobError, JobExpired, JobFailed, JobwireError, NotFound, OutOfRange, PermissionDenied, ResourceExhausted,
  Unauthenticated, Unavailable, Unimplemented, WorkflowFailed,
  type CancelReason, type Code, type ErrorDetails,
} from "./errors.js";
export { Directive, Discard, NonRetryable, Release, RetryAfter, Snooze, type DirectiveKind } from "./directives.js";
export type { ResponseLike } from "./http-response.js";
export type {
  CallOptions, EnqueueStatus, Explanation, Failure, JobEvent, JobOptions, JobRecord, JobState, ListOptions, Logger, LogLevel, LogLine, Priority,
  Progress, Retry, TaskOptions, Unique,
} from "./types.js";
export type { Attempted, OutgoingJob, RunningJob, Telemetry, WorkerGauges } from "./telemetry.js";
export { VERSION } from "./version.js";
