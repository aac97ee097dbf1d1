// The seam for traces and metrics: what an observer of clients and workers implements. `jobwire/otel` does; nothing else
// here knows OpenTelemetry.

/** A job on its way to the server. Only `headers` may be changed. */
export interface OutgoingJob {
  readonly type: string;
  /** Empty = the type. */
  readonly queue: string;
  readonly headers: Record<string, string>;
  /** When it is to start, if not at once: a span from now, or a Unix time. */
  readonly start: {
    readonly case?: "delay" | "scheduleTime" | undefined;
    readonly value?: { readonly seconds: bigint; readonly nanos: number } | undefined;
  };
  /** Jobs it is to wait for. */
  readonly dependsOn: readonly unknown[];
}

/** A job that a handler is about to run. */
export interface RunningJob {
  readonly id: string;
  readonly type: string;
  readonly queue: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly attempt: number;
  readonly delivery: number;
  /** Empty when it belongs to none; so is `scheduleId`. */
  readonly workflowId: string;
  readonly scheduleId: string;
  /** Unix time in milliseconds. */
  readonly createTimeMs: number | undefined;
  /** How long it was runnable before it was handed out, in milliseconds. */
  readonly waitMs: number;
  /** Jobs it waited for. */
  readonly dependencies: readonly unknown[];
}

/** How an attempt ended, and what goes to the server with it. */
export interface Attempted {
  readonly kind: "succeeded" | "failed" | "snoozed" | "cancelled" | "released" | "dropped";
  readonly failure?: { readonly type: string };
  readonly enqueue?: readonly OutgoingJob[];
}

/** What a worker knows of itself, when asked. */
export interface WorkerGauges {
  /** Handlers that may run at once. */
  slots: number;
  /** Handlers that run now. */
  running: number;
  /** How late the main loop was when it was last measured, in milliseconds. */
  lagMs: number;
}

/** Observes clients and workers. Its methods must not throw. */
export interface Telemetry {
  /**
   * Around the sending of jobs: calls `send` once, after it may have added to the jobs' headers, and answers what that
   * answers. `bulk`: one call of the application for several jobs; else the answer's `jobId` is the job's final id.
   */
  enqueue<T>(jobs: readonly OutgoingJob[], bulk: boolean, send: () => Promise<T>): Promise<T>;
  /** Around one attempt: calls `attempt` once; it never rejects. */
  process<E extends Attempted>(job: RunningJob, workerId: string, attempt: () => Promise<E>): Promise<E>;
  /** A worker has started. `reconnected` is to be called whenever it has its stream again; `stopped` once. */
  worker(workerId: string, gauges: () => WorkerGauges): { reconnected(): void; stopped(): void };
}
