// Between schedules as users write and read them and the contract's.
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { check, checkEach, date, duration, invalid, isString, text, word, type Checks } from "./checks.js";
import type { Codecs } from "./codecs.js";
import { dateOf, durationField, msOf, spanOf, toMs, type Duration } from "./duration.js";
import {
  CatchUpPolicy, FoldPolicy, GapPolicy, OverlapPolicy, ScheduleSpecSchema,
  type Schedule as PbSchedule, type ScheduleSpec as PbScheduleSpec,
} from "./gen/jobwire/v1/schedule_service_pb.js";
import { decodeBody } from "./payload.js";
import type { Cadence, ScheduleRecord, ScheduleSpec } from "./schedule-types.js";
import { checkSignature, type Signature } from "./signature.js";
import { buildSpec } from "./spec.js";
import { bodyOf, stateOf } from "./wire.js";

export const OVERLAPS = {
  allow: OverlapPolicy.ALLOW,
  skip: OverlapPolicy.SKIP,
  buffer_one: OverlapPolicy.BUFFER_ONE,
  cancel_previous: OverlapPolicy.CANCEL_PREVIOUS,
};
const CATCH_UPS = { last: CatchUpPolicy.LAST, all: CatchUpPolicy.ALL, none: CatchUpPolicy.NONE };
const GAPS = { after: GapPolicy.AFTER, skip: GapPolicy.SKIP };
const FOLDS = { first: FoldPolicy.FIRST, both: FoldPolicy.BOTH };

const CADENCE: Checks<Cadence> = {
  cron: check((value) => isString(value) && value.trim() !== "", 'a cron expression, such as "30 2 * * 1-5"'),
  every: duration,
  timeZone: text,
  gap: word(GAPS),
  fold: word(FOLDS),
  start: date,
  end: date,
};
const SPEC: Checks<ScheduleSpec> = {
  ...CADENCE,
  task: checkSignature,
  jitter: duration,
  overlap: word(OVERLAPS),
  catchUp: word(CATCH_UPS),
  catchUpWindow: duration,
  note: text,
};

/** What people write who come from elsewhere. */
const MEANT = {
  pattern: "cron", expression: "cron", schedule: "cron", tz: "timeZone", timezone: "timeZone", interval: "every", repeat: "cron or every",
  startDate: "start", endDate: "end", immediately: "client.schedules.trigger()", paused: "client.schedules.pause()",
  type: "task", job: "task", input: "task: task.s(input)", queue: "task: task.s(input, { queue })",
};

/** Throws InvalidArgument, naming the field, for a cadence that cannot be meant. */
export function checkCadence(cadence: Cadence): void {
  checkEach(CADENCE, cadence, "", MEANT);
  checkKind(cadence);
}

/** As `checkCadence`, for a whole specification. */
export function checkScheduleSpec(spec: ScheduleSpec): void {
  checkEach(SPEC, spec, "", MEANT);
  checkKind(spec);
  if ((spec.task as unknown) === undefined) throw invalid("task", "task is missing: what to run, as task.s({ … })");
  for (const name of ["id", "delay", "at"] as const) {
    const { task, options } = spec.task as Signature;
    if ({ ...task.options, ...options }[name] === undefined) continue;
    throw invalid(`task.${name}`, `task.${name}: the job of a tick has its own id and starts at the tick; leave ${name} out`);
  }
}

function checkKind({ cron, every, timeZone, gap, fold }: Cadence): void {
  if (cron === undefined && every === undefined) throw invalid("cron", 'say when: cron: "30 2 * * *" or every: "5m"');
  if (cron !== undefined && every !== undefined) throw invalid("every", "cron and every exclude each other; give one of them");
  for (const [name, value] of Object.entries({ timeZone, gap, fold })) {
    if (every !== undefined && value !== undefined) throw invalid(name, `${name} goes with cron: every is elapsed time`);
  }
}

/** The contract's form of a checked specification. */
export async function scheduleSpecOf(spec: ScheduleSpec, codecs: Codecs): Promise<PbScheduleSpec> {
  const { task, input, options } = spec.task as Signature;
  const { spec: job } = await buildSpec(task, input, options, codecs);
  return create(ScheduleSpecSchema, {
    ...cadenceOf(spec),
    job: { ...job, id: "" },
    jitter: durationField(spec.jitter, "jitter"),
    overlap: spec.overlap && OVERLAPS[spec.overlap],
    catchUp: spec.catchUp && CATCH_UPS[spec.catchUp],
    catchUpWindow: durationField(spec.catchUpWindow, "catchUpWindow"),
    note: spec.note,
  });
}

/** The contract's form of a checked cadence. */
export function cadenceOf({ cron, every, timeZone, gap, fold, start, end }: Cadence) {
  return {
    cadence:
      cron !== undefined
        ? { case: "cron" as const, value: cron }
        : { case: "interval" as const, value: spanOf(toMs(every as Duration, "every")) as never },
    timeZone,
    gap: gap && GAPS[gap],
    fold: fold && FOLDS[fold],
    startTime: start && spanOf(start.getTime()),
    endTime: end && spanOf(end.getTime()),
  } satisfies MessageInitShape<typeof ScheduleSpecSchema>;
}

/** The word for a value; `otherwise` for none, `unknown` for one that this version does not know. */
function wordOf<W extends string>(words: Record<W, number>, value: number, otherwise: W): W | "unknown" {
  if (value === 0) return otherwise;
  return (Object.keys(words) as W[]).find((one) => words[one] === value) ?? "unknown";
}

/** The public form of a schedule. */
export function scheduleOf(schedule: PbSchedule, codecs: Codecs): ScheduleRecord {
  const { spec } = schedule;
  const job = spec?.job;
  const plain: ScheduleRecord = {
    id: schedule.id,
    timeZone: spec?.timeZone || "UTC",
    gap: wordOf(GAPS, spec?.gap ?? 0, "after"),
    fold: wordOf(FOLDS, spec?.fold ?? 0, "first"),
    jitter: msOf(spec?.jitter) ?? 0,
    overlap: wordOf(OVERLAPS, spec?.overlap ?? 0, "allow"),
    catchUp: wordOf(CATCH_UPS, spec?.catchUp ?? 0, "last"),
    note: spec?.note ?? "",
    job: {
      type: job?.type ?? "",
      queue: job?.queue || (job?.type ?? ""),
      input: decodeBody(bodyOf(job?.payload), codecs),
      tags: job?.tags ?? [],
      headers: job?.headers ?? {},
    },
    paused: schedule.paused,
    pauseReason: schedule.pauseReason,
    nextFireTimes: schedule.nextFireTimes.map((time) => dateOf(time)!),
    lastJobId: schedule.lastJobId,
    lastJobState: stateOf(schedule.lastJobState),
    firedCount: Number(schedule.firedCount),
    skippedCount: Number(schedule.skippedCount),
    etag: schedule.etag,
  };
  if (spec?.cadence.case === "cron") plain.cron = spec.cadence.value;
  if (spec?.cadence.case === "interval") plain.every = msOf(spec.cadence.value);
  const times = {
    start: spec?.startTime, end: spec?.endTime, lastFireTime: schedule.lastFireTime, waitingFireTime: schedule.waitingFireTime,
    createTime: schedule.createTime, updateTime: schedule.updateTime,
  };
  for (const [field, time] of Object.entries(times)) if (time) plain[field as keyof typeof times] = dateOf(time)!;
  const window = msOf(spec?.catchUpWindow);
  if (window !== undefined) plain.catchUpWindow = window;
  return plain;
}
