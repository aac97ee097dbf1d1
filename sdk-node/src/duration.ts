// Durations: what users may write, and the two forms the SDK computes with (milliseconds, protobuf Duration).
import { InvalidArgument } from "./errors.js";

/** A unit that a duration string may end in: milliseconds, seconds, minutes, hours, days. */
export type DurationUnit = "ms" | "s" | "m" | "h" | "d";

/**
 * A span of time: a number of **milliseconds**, or a number with one unit, such as `"250ms"`, `"30s"`, `"1.5h"`.
 * Never negative. Anything else (`"30 parsecs"`) is refused by the compiler, and at run time with `InvalidArgument`.
 */
export type Duration = number | `${number}${DurationUnit}`;

/** The shape of google.protobuf.Duration and Timestamp. */
export interface Span {
  seconds: bigint;
  nanos: number;
}

const UNIT_MS: Record<DurationUnit, number> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const PATTERN = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/;

/** Milliseconds of `value`. `field` names the option in the error. */
export function toMs(value: Duration, field = "duration"): number {
  if (typeof value === "number") {
    if (Number.isFinite(value) && value >= 0) return value;
  } else {
    const match = PATTERN.exec(value);
    if (match) return Number(match[1]) * UNIT_MS[match[2] as DurationUnit];
  }
  throw new InvalidArgument(
    `${field}: ${JSON.stringify(value)} is not a duration; write milliseconds or "30s" (units ms, s, m, h, d)`,
    { reason: "INVALID_FIELD", field },
  );
}

/** Protobuf form of a number of milliseconds (also of a Unix time in milliseconds). */
export function spanOf(ms: number): Span {
  const seconds = Math.floor(ms / 1_000);
  return { seconds: BigInt(seconds), nanos: Math.round((ms - seconds * 1_000) * 1e6) };
}

/** Milliseconds of a protobuf Duration or Timestamp; `undefined` when it is not set. */
export function msOf(span: Span): number;
export function msOf(span: Span | undefined): number | undefined;
export function msOf(span: Span | undefined): number | undefined {
  return span && Number(span.seconds) * 1_000 + span.nanos / 1e6;
}

/** Protobuf form of an option; `undefined` stays `undefined`. */
export function durationField(value: Duration | undefined, field: string): Span | undefined {
  return value === undefined ? undefined : spanOf(toMs(value, field));
}

/** Date of a protobuf Timestamp; `undefined` when it is not set. */
export function dateOf(span: Span | undefined): Date | undefined {
  return span && new Date(msOf(span));
}
