// Schedules as users write and read them. No behaviour, no protobuf.
import type { Duration } from "./duration.js";
import type { Signature } from "./signature.js";
import type { JobState } from "./types.js";

/** What becomes of a tick when the run before it is not finished; waiting and retrying runs are not. */
export type Overlap = "allow" | "skip" | "buffer_one" | "cancel_previous";

/** When a schedule fires: by a cron expression in a time zone, or every so often. */
export type Cadence = CadenceCommon & (Cron | Every);

/** What both kinds of cadence have. */
export interface CadenceCommon {
  /** No tick before this. An interval counts from here. */
  start?: Date;
  /** No tick after this. */
  end?: Date;
}

/** By a cron expression. */
export interface Cron {
  /**
   * Minute, hour, day of month, month, day of week; with six fields seconds come first. Names (`JAN`, `MON`), `L`, `#` and
   * `W` for days; `@daily` and the like. At most 256 bytes.
   */
  cron: string;
  every?: undefined;
  /** IANA name of the zone that `cron` is in, such as `"Europe/Berlin"`. Default `"UTC"`. */
  timeZone?: string;
  /** A fixed local time that a clock change skips: fires right `"after"` the gap (default), or `"skip"`. */
  gap?: "after" | "skip";
  /** A fixed local time that a clock change repeats: fires the `"first"` time (default), or `"both"`. */
  fold?: "first" | "both";
}

/** By elapsed time. */
export interface Every {
  /** Between ticks, 1 s to 10 years; counted from `start`, else from the put that set it. */
  every: Duration;
  cron?: undefined;
  timeZone?: undefined;
  gap?: undefined;
  fold?: undefined;
}

/** What a schedule is to do: `task.s(input, options)`, at the times of its cadence. */
export type ScheduleSpec = Cadence & {
  /** What to run. Its options may have no `id`, `delay` or `at`: a tick's job has an id of its own, and starts at the tick. */
  task: Signature<{}, unknown>;
  /** Each job starts later than its tick by a part of this that is always the same for that tick. At most 1 day. */
  jitter?: Duration;
  /**
   * When the run before is not finished: `"allow"` (default) runs beside it; `"skip"` leaves the tick out; `"buffer_one"` lets
   * one tick wait for its end; `"cancel_previous"` cancels it, with 30 s of grace, and runs the newest tick after it.
   */
  overlap?: Overlap;
  /** Ticks that were missed by over a minute, because no server ran: the `"last"` one (default), `"all"`, or `"none"`. */
  catchUp?: "last" | "all" | "none";
  /** Ticks missed longer ago than this are forgotten. Default 1 h, at most 10 years. */
  catchUpWindow?: Duration;
  /** For people. At most 1 KiB. */
  note?: string;
};

/** A schedule, as the server keeps it. Durations are milliseconds. */
export interface ScheduleRecord {
  id: string;
  /** One of `cron` and `every` is set. */
  cron?: string;
  every?: number;
  timeZone: string;
  start?: Date;
  end?: Date;
  gap: "after" | "skip" | "unknown";
  fold: "first" | "both" | "unknown";
  jitter: number;
  overlap: Overlap | "unknown";
  catchUp: "last" | "all" | "none" | "unknown";
  catchUpWindow?: number;
  note: string;
  /** What it enqueues. */
  job: { type: string; queue: string; input: unknown; tags: string[]; headers: Record<string, string> };
  paused: boolean;
  pauseReason: string;
  /** The next five, without jitter; none while it is paused. */
  nextFireTimes: Date[];
  /** The nominal time of the latest run. */
  lastFireTime?: Date;
  lastJobId: string;
  /** `unknown` when its record is gone, and in lists. */
  lastJobState: JobState;
  /** A tick that waits for the end of the run before it. */
  waitingFireTime?: Date;
  /** Jobs enqueued, triggers and backfills included. */
  firedCount: number;
  /** Ticks without a job: by overlap, missed, paused, or because a uniqueness key was taken. */
  skippedCount: number;
  createTime?: Date;
  updateTime?: Date;
  /** Changes with the specification, not with ticks and pauses. */
  etag: string;
}

/** What became of a backfill. */
export interface Backfilled {
  /** Ticks looked at. */
  ticks: number;
  /** Jobs enqueued; with `dryRun`, those that would be. */
  fired: number;
  /** Ticks whose job was there already. */
  existing: number;
  /** Ticks that `overlap` kept from running. */
  skipped: number;
  /** Up to 100 of the jobs enqueued, or that would be. */
  sampleIds: string[];
}
