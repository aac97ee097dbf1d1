// Schedules on the server: put, looked at, steered.
import { call, paged, type Access } from "./access.js";
import { bulk, type BulkResult, type Which } from "./bulk.js";
import { check, checkEach, date, invalid, isRecord, isWhole, word } from "./checks.js";
import { dateOf, spanOf } from "./duration.js";
import { NotFound } from "./errors.js";
import { ScheduleService, type Schedule as PbSchedule } from "./gen/jobwire/v1/schedule_service_pb.js";
import { Job } from "./job.js";
import { encodeBody } from "./payload.js";
import { cadenceOf, checkCadence, checkScheduleSpec, OVERLAPS, scheduleOf, scheduleSpecOf } from "./schedule-spec.js";
import type { Backfilled, Cadence, Overlap, ScheduleRecord, ScheduleSpec } from "./schedule-types.js";
import { payloadInit } from "./spec.js";
import type { CallOptions, ListOptions } from "./types.js";

const { method } = ScheduleService;

const SAMPLES_MAX = 100;

/**
 * Recurring jobs: `client.schedules`. The server keeps and fires them, one job per tick however many servers there are.
 * Changing them needs scope `admin`, looking at them `read`. Throws NotFound for ids that nothing was put under.
 */
export class Schedules {
  readonly #access: Access;

  constructor(access: Access) {
    this.#access = access;
  }

  /**
   * Creates the schedule `id`, or replaces its specification; the same thing twice changes nothing. A changed cadence counts
   * from now and fires nothing from the past; a pause stays. `etag`: only if it is still the schedule's, else throws Aborted.
   * `validateOnly`: checks, and answers what would be stored.
   *
   * ```ts
   * await client.schedules.put("nightly", { task: report.s({ kind: "sales" }), cron: "30 2 * * 1-5", timeZone: "Europe/Berlin" });
   * ```
   */
  async put(
    id: string,
    spec: ScheduleSpec,
    options: CallOptions & { etag?: string; validateOnly?: boolean } = {},
  ): Promise<{ schedule: ScheduleRecord; created: boolean }> {
    checkScheduleSpec(spec);
    const { etag, validateOnly, ...limits } = options;
    const request = { id, spec: await scheduleSpecOf(spec, this.#access.codecs), etag, validateOnly };
    const { schedule, created } = await call(this.#access, method.putSchedule, request, limits);
    return { schedule: this.#public(id, schedule), created };
  }

  async get(id: string, options: CallOptions = {}): Promise<ScheduleRecord> {
    const { schedule } = await call(this.#access, method.getSchedule, { id }, options);
    return this.#public(id, schedule);
  }

  /** All schedules, by id. Filterable: `id`, `type`, `queue`, `paused`, `tag`. */
  list(options: ListOptions = {}): AsyncGenerator<ScheduleRecord, void, undefined> {
    const { filter } = options;
    return paged(
      options,
      (page, limits) => call(this.#access, method.listSchedules, { filter, ...page }, limits),
      ({ schedules }) => schedules.map((schedule) => scheduleOf(schedule, this.#access.codecs)),
    );
  }

  /** Lets ticks pass, counted as skipped, until `resume()`. The reason is shown wherever the schedule is. */
  pause(which: Which, options: CallOptions & { reason?: string } = {}): Promise<BulkResult> {
    const { reason, ...limits } = options;
    return bulk(which, (selector) => call(this.#access, method.pauseSchedules, { selector, reason }, limits));
  }

  /** Goes on with the next tick. Nothing is caught up: that is `backfill()`. */
  resume(which: Which, options: CallOptions = {}): Promise<BulkResult> {
    return bulk(which, (selector) => call(this.#access, method.resumeSchedules, { selector }, options));
  }

  /**
   * Runs it once, now, whatever its pause and overlap policy say; moves no tick. `input` is used instead of its own. Not
   * repeated by itself when the server is unavailable.
   */
  async trigger(id: string, options: CallOptions & { input?: unknown } = {}): Promise<Job> {
    const { input, ...limits } = options;
    const payload = input === undefined ? undefined : payloadInit(encodeBody(input, "payload", this.#access.codecs));
    const { jobId } = await call(this.#access, method.triggerSchedule, { id, payload }, limits);
    return new Job(this.#access, jobId);
  }

  /** Deletes schedules; their jobs stay. By a filter it only counts, unless it is to `force` it. */
  delete(which: Which, options: CallOptions & { force?: boolean } = {}): Promise<BulkResult> {
    const { force, ...limits } = options;
    return bulk(which, (selector) => call(this.#access, method.deleteSchedules, { selector, force }, limits));
  }

  /** The next times of a schedule, or of a cadence that nobody has put: 10 of them, or `count`, at most 100. */
  async preview(
    what: string | Cadence,
    options: CallOptions & { count?: number } = {},
  ): Promise<{ fireTimes: Date[]; description: string }> {
    const { count, ...limits } = options;
    if (count !== undefined) check((value) => isWhole(value, 1, 100), "a whole number from 1 to 100")(count, "count");
    if (isRecord(what)) checkCadence(what as unknown as Cadence);
    const asked = typeof what === "string" ? { id: what } : { spec: cadenceOf(what) };
    const { fireTimes, description } = await call(this.#access, method.previewSchedule, { ...asked, count }, limits);
    return { fireTimes: fireTimes.map((time) => dateOf(time)!), description };
  }

  /**
   * Runs the ticks of a past interval, both ends included, that have no job, paused or not, by the specification as it is
   * now. `overlap` is used instead of the schedule's (default `"allow"`: all at once). `dryRun` only counts.
   */
  async backfill(
    id: string,
    interval: { from: Date; to: Date; overlap?: Overlap; dryRun?: boolean },
    options: CallOptions = {},
  ): Promise<Backfilled> {
    checkEach({ from: date, to: date, overlap: word(OVERLAPS), dryRun: check((value) => typeof value === "boolean", "true or false") }, interval);
    const { from, to, overlap, dryRun } = interval;
    for (const [name, value] of Object.entries({ from, to })) if (value === undefined) throw invalid(name, `${name} is missing: a Date`);
    const request = { id, from: spanOf(from.getTime()), to: spanOf(to.getTime()), overlap: overlap && OVERLAPS[overlap], dryRun };
    const sum: Backfilled = { ticks: 0, fired: 0, existing: 0, skipped: 0, sampleIds: [] };
    let continueToken = "";
    do {
      const done = await call(this.#access, method.backfillSchedule, { ...request, continueToken }, options);
      sum.ticks += done.tickCount;
      sum.fired += done.firedCount;
      sum.existing += done.existingCount;
      sum.skipped += done.skippedCount;
      sum.sampleIds.push(...done.sampleIds.slice(0, SAMPLES_MAX - sum.sampleIds.length));
      ({ continueToken } = done);
    } while (continueToken !== "");
    return sum;
  }

  #public(id: string, schedule: PbSchedule | undefined): ScheduleRecord {
    if (!schedule) throw new NotFound(`no schedule ${id}`, { reason: "SCHEDULE_NOT_FOUND" });
    return scheduleOf(schedule, this.#access.codecs);
  }
}
