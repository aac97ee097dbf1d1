// What options may be, in parts: checks of single values, and of records of them.
import { inspect, types } from "node:util";
import { toMs, type Duration } from "./duration.js";
import { InvalidArgument } from "./errors.js";

/** Refuses a value; `field` names the option in the error. */
export type Check = (value: unknown, field: string) => void;
export type Checks<T> = Record<keyof T, Check>;

export const INT32_MAX = 2 ** 31 - 1;

export const check = (fits: (value: unknown) => boolean, expected: string): Check => (value, field) => {
  if (!fits(value)) throw invalid(field, `${field} must be ${expected}, not ${show(value)}`);
};
export const isString = (value: unknown): value is string => typeof value === "string";
export const isNumber = (value: unknown): value is number => typeof value === "number" && !Number.isNaN(value);
export const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null && !Array.isArray(value);
export const isWhole = (value: unknown, min: number, max: number): boolean => Number.isInteger(value) && min <= Number(value) && Number(value) <= max;
export const isListOf = (value: unknown, fits: (item: unknown) => boolean): boolean => Array.isArray(value) && value.every(fits);

export const text = check(isString, "a string");
export const number = check(isNumber, "a number");
export const texts = check((value) => isListOf(value, isString), "a list of strings");
export const date = check((value) => types.isDate(value) && !Number.isNaN(value.getTime()), 'a valid Date: write new Date("2030-01-01T09:00:00Z")');
export const duration: Check = (value, field) => void toMs(value as Duration, field);
export const durations: Check = (value, field) => {
  if (!Array.isArray(value)) throw invalid(field, `${field} must be a list of durations, such as ["1s", "10s"], not ${show(value)}`);
  for (const item of value) duration(item, field);
};
export const word = (words: object): Check =>
  check((value) => isString(value) && Object.hasOwn(words, value), `one of ${Object.keys(words).map((one) => `"${one}"`).join(", ")}`);

/**
 * Throws InvalidArgument for an option that is unknown, or has a value it cannot have. `prefix` goes before its name,
 * `meant` says what people mean who come from elsewhere.
 */
export function checkEach(checks: Record<string, Check>, options: object, prefix = "", meant: Record<string, string> = {}): void {
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined) continue;
    if (!Object.hasOwn(checks, name)) {
      const hint = Object.hasOwn(meant, name) ? `${meant[name]} is meant? ` : "";
      throw invalid(prefix + name, `${prefix}${name} is no option; ${hint}known are ${Object.keys(checks).join(", ")}`);
    }
    checks[name]!(value, prefix + name);
  }
}

/** A value in an error. */
export function show(value: unknown): string {
  const shown = isString(value) ? JSON.stringify(value) : inspect(value, { depth: 1, breakLength: Infinity });
  return shown.length <= 80 ? shown : `${shown.slice(0, 79)}…`;
}

export function invalid(field: string, message: string): InvalidArgument {
  return new InvalidArgument(message, { reason: "INVALID_FIELD", field });
}
