// The handle of a job.
import { call, type Access } from "./access.js";
import type { Codecs } from "./codecs.js";
import { toMs, spanOf, type Duration } from "./duration.js";
import { JobCancelled, JobExpired, JobFailed, JobwireError, NotFound } from "./errors.js";
import { PayloadFormat, type BulkResult } from "./gen/jobwire/v1/common_pb.js";
import { JobView } from "./gen/jobwire/v1/job_pb.js";
import { JobService, type JobResult } from "./gen/jobwire/v1/job_service_pb.js";
import { decodeBody } from "./payload.js";
import { pause, retryDelayMs, within } from "./retry.js";
import { errorOfItem } from "./status.js";
import { validate, type AnyTask } from "./tasks.js";
import type { CallOptions, EnqueueStatus, Explanation, JobEvent, JobRecord } from "./types.js";
import { bodyOf, failureDataOf, isTerminal, logLineOf, progressOf, publicFailure, recordOf, stateOf } from "./wire.js";

/** A job that exists, or existed, on the server. `Output` is what its task's handler returns. */
export class Job<Output = unknown> {
  /** The id to keep. */
  readonly id: string;
  /** What became of the enqueue; `undefined` for a handle made by `client.job()`. */
  readonly enqueued: EnqueueStatus | undefined;
  readonly #access: Access;
  readonly #task: AnyTask | undefined;

  /** Handles come from `client.enqueue()` and `client.job()`. */
  constructor(access: Access, id: string, task?: AnyTask, enqueued?: EnqueueStatus) {
    this.#access = access;
    this.id = id;
    this.#task = task;
    this.enqueued = enqueued;
  }

  /** The record as it is now. Needs scope `read`. Throws NotFound when it was purged. */
  async status(options: CallOptions = {}): Promise<JobRecord> {
    const request = { id: this.id, view: JobView.FULL, payloadFormat: PayloadFormat.RAW };
    const { job } = await call(this.#access, JobService.method.getJob, request, options);
    if (!job) throw new NotFound(`no job ${this.id}`, { reason: "JOB_NOT_FOUND" });
    return recordOf(job);
  }

  /**
   * Waits for the job to end and gives its result. Works with scope `enqueue` alone. Throws JobFailed, JobCancelled,
   * JobExpired; NotFound when the record is gone; DeadlineExceeded after `timeout` (default: waits as long as it takes).
   * Giving up leaves the job alone.
   */
  async result(options: { timeout?: Duration; signal?: AbortSignal } = {}): Promise<Output> {
    const { timeout, signal } = options;
    const { result, stop } = this.#access.results.wait(this.id);
    try {
      const limits = { ...(timeout !== undefined && { timeoutMs: toMs(timeout, "timeout") }), signal };
      return (await settle(await within(result, limits, `job ${this.id}`), this.#task, this.#access.codecs)) as Output;
    } finally {
      stop();
      result.catch(() => {});
    }
  }

  /**
   * Follows the job until it ends: its state now and after each change, progress, log lines (`logs: false` leaves them
   * out). Goes on after interruptions without repeating a line. Needs scope `read`.
   */
  async *events(options: { logs?: boolean; signal?: AbortSignal } = {}): AsyncGenerator<JobEvent, void, undefined> {
    const { logs = true, signal } = options;
    let logsAfter = 0n;
    let seen = "";
    for (let failures = 0; ; failures++) {
      try {
        const request = { id: this.id, payloadFormat: PayloadFormat.OMIT, ...(logs && { logsAfter }) };
        for await (const update of this.#access.transport.serverStream(JobService.method.watchJob, request, { signal })) {
          failures = 0;
          for (const line of update.lines) {
            if (line.index <= logsAfter) continue;
            logsAfter = line.index;
            yield { kind: "log", line: logLineOf(line) };
          }
          if (update.progress) yield { kind: "progress", progress: progressOf(update.progress) };
          if (!update.job) continue;
          const job = recordOf(update.job);
          const mark = `${job.state} ${job.attempt} ${job.delivery}`;
          if (mark !== seen) yield { kind: "state", state: job.state, job };
          seen = mark;
          if (isTerminal(job.state)) return;
        }
      } catch (error) {
        if (!(error instanceof JobwireError) || error.code !== "UNAVAILABLE") throw error;
      }
      await pause(retryDelayMs(failures), signal);
    }
  }

  /**
   * Stops the job: waiting at once, running by asking its handler. After `grace` the server ends it whether or not the
   * handler has stopped (default: as long as it takes; 0 = now). Answers false when it had ended already. Needs scope
   * `admin`.
   */
  async cancel(reason = "", options: CallOptions & { grace?: Duration } = {}): Promise<boolean> {
    const grace = options.grace === undefined ? undefined : spanOf(toMs(options.grace, "grace"));
    const request = { selector: { ids: [this.id] }, reason, grace };
    const { result } = await call(this.#access, JobService.method.cancelJobs, request, options);
    return this.#affected(result);
  }

  /**
   * Runs the job again, now: a terminal one starts over, a waiting one stops waiting. It is granted one more attempt, or
   * with `resetAttempts` all of them. Needs scope `admin`. Not repeated by itself when the server is unavailable.
   */
  async retry(options: CallOptions & { resetAttempts?: boolean } = {}): Promise<boolean> {
    const { resetAttempts = false } = options;
    const request = { selector: { ids: [this.id] }, resetAttempts };
    const { result } = await call(this.#access, JobService.method.retryJobs, request, options);
    return this.#affected(result);
  }

  /**
   * Why the job does not run, or where it runs, in sentences for people. Needs scope `read`. Throws NotFound, and
   * Unimplemented from servers of 0.1.
   */
  async explain(options: CallOptions = {}): Promise<Explanation> {
    const { state, summary, reasons } = await call(this.#access, JobService.method.explainJob, { id: this.id }, options);
    return { state: stateOf(state), summary, reasons: reasons.map(({ message }) => message) };
  }

  #affected(result: BulkResult | undefined): boolean {
    const error = result?.errors[0]?.error;
    if (error?.reason === "JOB_TERMINAL") return false;
    if (error) throw errorOfItem(error);
    if (!result || result.matchedCount === 0) throw new NotFound(`no job ${this.id}`, { reason: "JOB_NOT_FOUND" });
    return result.affectedCount > 0;
  }
}

/** The value of a job that succeeded, checked against its task's schema; the error of one that did not. */
export async function settle(result: JobResult, task: AnyTask | undefined, codecs: Codecs): Promise<unknown> {
  const state = stateOf(result.state);
  if (state === "succeeded") return validate(task?.output, decodeBody(bodyOf(result.result), codecs), "output");
  const failure = publicFailure(failureDataOf(result.failure));
  if (state === "cancelled") throw new JobCancelled(result.jobId, state, failure);
  if (state === "expired") throw new JobExpired(result.jobId, state, failure);
  throw new JobFailed(result.jobId, state, failure);
}
