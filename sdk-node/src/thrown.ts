// Errors that cross from one thread to another. The structured clone keeps neither classes nor most properties, so an
// error travels as plain data and is made anew: with its type, its chain of classes and what classifiers look at.
import { Discard, NonRetryable, Release, RetryAfter, Snooze, directiveKind, type DirectiveKind } from "./directives.js";

const CAUSES_MAX = 5;
const DEPTH_MAX = 3;

/** Names of the classes that an error had in its thread. */
const CLASSES = Symbol("classes");

/** An error as it crosses threads. */
export type Thrown =
  | { kind: "value"; value: unknown }
  | { kind: "directive"; directive: DirectiveKind; message: string; stack: string; delay?: number; throttle?: "key" | "queue"; cause?: Thrown }
  | { kind: "error"; name: string; message: string; stack: string; classes: string[]; props: Record<string, unknown>; cause?: Thrown };

/** The thread of a pool that ran the job is gone: it exited, ran out of memory, or an error that nobody caught ended it. */
export class ThreadDied extends Error {
  override readonly name = "ThreadDied";
}

/** Makes plain data of whatever was thrown. */
export function pack(error: unknown, depth = 0): Thrown {
  if (!(error instanceof Error)) return { kind: "value", value: plain(error, 0) };
  const { message, stack = "" } = error;
  const cause = error.cause !== undefined && depth < CAUSES_MAX ? { cause: pack(error.cause, depth + 1) } : {};
  const directive = directiveKind(error);
  if (directive) {
    const { delay, throttle } = error as Partial<Snooze>;
    return { kind: "directive", directive, message, stack, ...(delay !== undefined && { delay }), ...(throttle && { throttle }), ...cause };
  }
  const classes: string[] = [];
  for (let proto: unknown = Object.getPrototypeOf(error); proto !== null && proto !== Object.prototype; proto = Object.getPrototypeOf(proto)) {
    classes.push((proto as Error).constructor.name);
  }
  const props: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(error)) {
    const copy = plain(value, 0);
    if (copy !== undefined && key !== "cause") props[key] = copy;
  }
  return { kind: "error", name: typeOf(error), message, stack, classes, props, ...cause };
}

/** Makes the error again. */
export function unpack(thrown: Thrown): unknown {
  if (thrown.kind === "value") return thrown.value;
  const options = thrown.cause && { cause: unpack(thrown.cause) };
  const error = thrown.kind === "directive" ? directiveOf(thrown, options) : new Error(thrown.message, options);
  Object.defineProperty(error, "stack", { value: thrown.stack, writable: true, configurable: true });
  if (thrown.kind === "error") {
    Object.assign(error, thrown.props);
    Object.defineProperty(error, "name", { value: thrown.name, writable: true, configurable: true });
    Object.defineProperty(error, CLASSES, { value: thrown.classes });
  }
  return error;
}

/** `instanceof`, also for errors that came from another thread: there by the names of their classes. */
export function isInstance(error: unknown, Class: new (...args: any[]) => Error): boolean {
  return error instanceof Class || ((error as { [CLASSES]?: string[] } | null | undefined)?.[CLASSES]?.includes(Class.name) ?? false);
}

function directiveOf(thrown: Extract<Thrown, { kind: "directive" }>, options: { cause?: unknown } | undefined): Error {
  const { directive, message, delay, throttle } = thrown;
  switch (directive) {
    case "retry_after":
      return new RetryAfter(delay, message, options);
    case "non_retryable":
      return new NonRetryable(message, options);
    case "discard":
      return new Discard(message, options);
    case "snooze":
      return new Snooze(delay ?? 0, { reason: message, ...(throttle && { throttle }) });
    case "release":
      return new Release(message);
  }
}

/** The error's name; for a subclass that never set one, its class name. */
export function typeOf(error: Error): string {
  return error.name === "Error" ? error.constructor.name || "Error" : error.name;
}

/** A copy of data that can cross: of a response its status and headers, of other objects what is plain in them. */
function plain(value: unknown, depth: number): unknown {
  if (typeof value === "function" || typeof value === "symbol") return undefined;
  if (typeof value !== "object" || value === null) return value;
  if (value instanceof Date) return new Date(value);
  if (depth === DEPTH_MAX) return undefined;
  if (Array.isArray(value)) return value.slice(0, 100).map((item) => plain(item, depth + 1));
  // Headers, Map, and what is like them.
  const { entries } = value as { entries?: unknown };
  if (typeof entries === "function") return Object.fromEntries((value as Map<string, unknown>).entries());
  const { headers, status, statusCode } = value as { headers?: unknown; status?: unknown; statusCode?: unknown };
  if (typeof headers === "object" && headers !== null) {
    // Some clients have a class of their own for headers: its fields are the headers.
    return { status: status ?? statusCode, headers: plain("entries" in headers ? headers : { ...headers }, depth + 1) };
  }
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) return undefined;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, plain(item, depth + 1)]));
}
