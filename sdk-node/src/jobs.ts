// Jobs by the many: found, stopped, run again, changed, deleted.
import { call, paged, type Access } from "./access.js";
import type { JobDetails, JobPatch } from "./admin-types.js";
import { bulk, type BulkResult, type Which } from "./bulk.js";
import { check, checkEach, invalid, isString } from "./checks.js";
import { durationField, spanOf, toMs, type Duration } from "./duration.js";
import { NotFound } from "./errors.js";
import { PayloadFormat } from "./gen/jobwire/v1/common_pb.js";
import { JobView, LogLevel as PbLogLevel } from "./gen/jobwire/v1/job_pb.js";
import { JobService } from "./gen/jobwire/v1/job_service_pb.js";
import { Job } from "./job.js";
import { PATCH } from "./options.js";
import { encodeBody } from "./payload.js";
import { payloadInit, retryOf, startOf } from "./spec.js";
import type { CallOptions, Explanation, JobRecord, ListOptions, LogLevel, LogLine } from "./types.js";
import { detailsOf, logLineOf, recordOf } from "./wire.js";

const { method } = JobService;

/** Options of a call that changes many. */
export interface ChangeOptions extends CallOptions {
  /** Count, change nothing. */
  dryRun?: boolean;
}

/**
 * Jobs of the installation, by id or filter: `client.jobs`. Looking needs scope `read`, changing `admin`. Calls about many go on
 * until all is done. What can be filtered by is in the comment of `ListJobs`: `state = DEAD AND queue = mail`.
 */
export class Jobs {
  readonly #access: Access;

  constructor(access: Access) {
    this.#access = access;
  }

  /** All that is known of a job, input, result and attempts included. Throws NotFound when it is not there, or was purged. */
  async get(id: string, options: CallOptions = {}): Promise<JobDetails> {
    const { job } = await call(this.#access, method.getJob, { id, view: JobView.FULL, payloadFormat: PayloadFormat.RAW }, options);
    if (!job) throw new NotFound(`no job ${id}`, { reason: "JOB_NOT_FOUND" });
    return detailsOf(job, this.#access.codecs);
  }

  /** Jobs without their input and result, grouped by queue and state. */
  list(options: ListOptions = {}): AsyncGenerator<JobRecord, void, undefined> {
    const { filter } = options;
    const request = { filter, view: JobView.BASIC, payloadFormat: PayloadFormat.OMIT };
    return paged(options, (page, limits) => call(this.#access, method.listJobs, { ...request, ...page }, limits), ({ jobs }) => jobs.map(recordOf));
  }

  /** What its handler logged, the oldest first; `minLevel` and above. `job.events()` follows it while it runs. */
  logs(id: string, options: Omit<ListOptions, "filter"> & { minLevel?: LogLevel } = {}): AsyncGenerator<LogLine, void, undefined> {
    const { minLevel } = options;
    const level = minLevel && PbLogLevel[minLevel.toUpperCase() as Uppercase<LogLevel>];
    return paged(
      options,
      (page, limits) => call(this.#access, method.listJobLogs, { id, minLevel: level, ...page }, limits),
      ({ lines }) => lines.map(logLineOf),
    );
  }

  /** Why a job does not run, or where it runs: as `job.explain()`. */
  explain(id: string, options: CallOptions = {}): Promise<Explanation> {
    return new Job(this.#access, id).explain(options);
  }

  /** Stops jobs: waiting ones at once, running ones by asking their handlers; see `job.cancel()`. */
  async cancel(which: Which, options: ChangeOptions & { reason?: string; grace?: Duration } = {}): Promise<BulkResult> {
    const { reason, grace, dryRun, ...limits } = options;
    const request = { reason, grace: durationField(grace, "grace"), dryRun };
    return bulk(which, (selector, continueToken) => call(this.#access, method.cancelJobs, { ...request, selector, continueToken }, limits));
  }

  /**
   * Runs jobs again, now: ended ones start over, waiting ones stop waiting; succeeded ones only by id. Grants one more
   * attempt, or with `resetAttempts` all. `spread`: starts them evenly over this long. `queue`: moves them on the way. Not
   * repeated by itself when the server is unavailable.
   */
  async retry(which: Which, options: ChangeOptions & { resetAttempts?: boolean; spread?: Duration; queue?: string } = {}): Promise<BulkResult> {
    const { resetAttempts, spread, queue, dryRun, ...limits } = options;
    const request = { resetAttempts, spread: durationField(spread, "spread"), queue, dryRun };
    return bulk(which, (selector, continueToken) => call(this.#access, method.retryJobs, { ...request, selector, continueToken }, limits));
  }

  /** Moves, reprioritises, reschedules or edits jobs that neither run nor have ended. `etag`: of a single job, else throws Aborted. */
  async update(which: Which, patch: JobPatch, options: ChangeOptions & { etag?: string } = {}): Promise<BulkResult> {
    checkEach({ ...PATCH, input: () => {} }, patch, "", { payload: "input", attempts: "retry", data: "input" });
    const { priority, queue, retry, timeout, input, delay, at } = patch;
    if (delay !== undefined && at !== undefined) throw invalid("delay", "delay and at exclude each other; give one of them");
    if (input !== undefined) check(isString, "the id of one job, where its input is to change")(which, "selector");
    const { etag, dryRun, ...limits } = options;
    const init = {
      priority,
      queue,
      start: startOf(patch),
      retry: retryOf(retry),
      timeout: timeout === undefined ? undefined : spanOf(toMs(timeout, "timeout")),
      payload: input === undefined ? undefined : payloadInit(encodeBody(input, "payload", this.#access.codecs)),
    };
    return bulk(which, (selector, continueToken) =>
      call(this.#access, method.updateJobs, { selector, patch: init, etag, dryRun, continueToken }, limits),
    );
  }

  /** Deletes records. By a filter, and jobs that have not ended, only with `force`; without it those are counted. */
  async delete(which: Which, options: CallOptions & { force?: boolean } = {}): Promise<BulkResult> {
    const { force, ...limits } = options;
    return bulk(which, (selector, continueToken) => call(this.#access, method.deleteJobs, { selector, force, continueToken }, limits));
  }
}
