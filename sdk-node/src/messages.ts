// What session and runner tell each other. Plain data that can cross a thread: no lease token, no protobuf message but
// the specs of jobs to enqueue.
import type { CancelReason, Code, ErrorDetails } from "./errors.js";
import type { JobSpec } from "./gen/jobwire/v1/job_pb.js";
import type { Body } from "./payload.js";
import type { SizeLimits } from "./spec.js";
import type { Failure, JobState, LogLevel, Progress } from "./types.js";

/** A job as the runner sees it. `key` names it between session and runner; it means nothing anywhere else. */
export interface JobData {
  key: number;
  id: string;
  type: string;
  queue: string;
  payload: Body | undefined;
  headers: Record<string, string>;
  tags: string[];
  priority: number;
  attempt: number;
  maxAttempts: number;
  delivery: number;
  /** Times a worker has vanished with it. */
  crashes: number;
  fairnessKey: string;
  workflowId: string;
  node: string;
  parentId: string;
  scheduleId: string;
  createTimeMs: number | undefined;
  fireTimeMs: number | undefined;
  /** How long it was runnable before it was handed out. */
  waitMs: number;
  /** Milliseconds this attempt may run; `undefined` = as long as it takes. */
  timeoutMs: number | undefined;
  heartbeatTimeoutMs: number | undefined;
  checkpoint: Body | undefined;
  lastFailure: FailureData | undefined;
  dependencies: DependencyData[];
  /** There are more than came along. */
  dependenciesTruncated: boolean;
}

/** Result of a job this one depended on. */
export interface DependencyData {
  alias: string;
  jobId: string;
  state: JobState;
  result: Body | undefined;
  failure: FailureData | undefined;
}

/** `Failure` with its details still encoded. */
export interface FailureData extends Omit<Failure, "details" | "cause"> {
  details?: Body;
  cause?: FailureData;
}

/** How an attempt ended. */
export type OutcomeData = { runMs: number; enqueue?: JobSpec[] } & (
  | { kind: "succeeded"; result: Body | undefined }
  | { kind: "failed"; failure: FailureData; action: "policy" | "retry" | "stop" | "discard"; retryDelayMs?: number }
  | { kind: "snoozed"; delayMs: number; reason: string; throttle?: "key" | "queue" }
  | { kind: "cancelled"; reason: string }
  | { kind: "released"; reason: string }
  // Nothing to report, the slot is free: the lease is lost, or the thread that ran the handler died, and the server is
  // to count a crash.
  | { kind: "dropped" }
);

/** A line on its way to the server. */
export interface LogLineData {
  timeMs: number;
  level: LogLevel;
  message: string;
  fields: Record<string, string>;
}

/** Runner to session. */
export type RunnerEvent =
  | { event: "finished"; key: number; outcome: OutcomeData }
  | { event: "progress"; key: number; progress?: Progress; checkpoint?: Body }
  | { event: "log"; key: number; line: LogLineData }
  | { event: "quiet" | "resume" }
  // Drain, or, when already draining, release everything now.
  | { event: "drain"; graceMs?: number; now?: boolean };

/** Session to runner. */
export type RunnerCommand =
  | { command: "run"; job: JobData }
  // Run these in one call of their handler; they are of one type.
  | { command: "runBatch"; jobs: JobData[] }
  | { command: "cancel"; key: number; reason: CancelReason; stalled?: boolean; message: string }
  | { command: "risk"; key: number; atRisk: boolean }
  // The job was given back while its handler still runs: nobody waits for that handler any more.
  | { command: "abandon"; key: number }
  | { command: "welcome"; limits: SizeLimits; serverId: string; serverVersion: string; serverTimeMs: number | undefined; resumed: number }
  | { command: "disconnected"; message: string; retryInMs: number }
  | { command: "draining"; reason: string; ordered: boolean }
  | { command: "note"; level: "info" | "warn" | "error"; message: string }
  | { command: "stopped"; error?: { code: Code; message: string; details: ErrorDetails } };
