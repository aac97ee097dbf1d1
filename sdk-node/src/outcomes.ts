// From what a handler threw to the outcome of its attempt. The order of the tests below is the order that counts.
import {
  Discard, NonRetryable, Release, RetryAfter, Snooze, retryAfterMs,
  type CancelReason, type Cancellation, type Directive, type ResponseLike,
} from "./errors.js";
import type { FailureData, OutcomeData } from "./messages.js";

/** Looks at an error and answers what should happen, or `undefined` when it has no opinion. */
export type Classifier = (error: unknown) => Directive | undefined;

type Ending = OutcomeData extends infer O ? (O extends OutcomeData ? Omit<O, "runMs" | "enqueue"> : never) : never;

const MESSAGE_CHARS_MAX = 4_000;
const STACK_CHARS_MAX = 32_000;
const CAUSES_MAX = 5;

/** What is known about the attempt that ended. */
export interface Ended {
  cancelReason: CancelReason | undefined;
  signal: AbortSignal;
  stalled: boolean;
}

/** Classifies an error thrown by a handler. */
export function endingOf(error: unknown, ended: Ended, classifiers: readonly Classifier[]): Ending {
  const { cancelReason, signal, stalled } = ended;
  if (cancelReason === "lease_lost") return { kind: "dropped" };
  if (error instanceof Snooze || error instanceof Release || error instanceof Discard || error instanceof NonRetryable || error instanceof RetryAfter) {
    return endingOfDirective(error);
  }
  if (cancelReason === "timeout") {
    const message = (signal.reason as Cancellation).message;
    const failure = plainFailure(stalled ? "stalled" : "timeout", stalled ? "Stalled" : "Timeout", message);
    if (!isAbort(error, signal)) failure.cause = failureOf(error);
    return { kind: "failed", failure, action: "policy" };
  }
  if (cancelReason !== undefined && isAbort(error, signal)) {
    const reason = (signal.reason as Cancellation).message;
    return cancelReason === "shutdown" ? { kind: "released", reason } : { kind: "cancelled", reason };
  }
  for (const classify of classifiers) {
    const directive = classify(error);
    if (directive) return endingOfDirective(directive, error);
  }
  return { kind: "failed", failure: failureOf(error), action: "policy" };
}

function endingOfDirective(directive: Directive, error: unknown = directive): Ending {
  const { message } = directive;
  if (directive instanceof Snooze) {
    const { delay, throttle } = directive;
    return { kind: "snoozed", delayMs: delay, reason: message, ...(throttle && { throttle }) };
  }
  if (directive instanceof Release) return { kind: "released", reason: message };
  const failure = failureOf(error);
  if (directive instanceof Discard) return { kind: "failed", failure, action: "discard" };
  if (directive instanceof NonRetryable) return { kind: "failed", failure, action: "stop" };
  const delay = directive instanceof RetryAfter ? directive.delay : undefined;
  return { kind: "failed", failure, action: "retry", ...(delay !== undefined && { retryDelayMs: delay }) };
}

/** The handler obeyed: it let the signal's reason escape, or an AbortError that came of it. */
function isAbort(error: unknown, signal: AbortSignal): boolean {
  for (let at: unknown = error, depth = 0; at !== undefined && at !== null && depth <= CAUSES_MAX; depth++) {
    if (at === signal.reason || (at as Error).name === "AbortError") return true;
    at = (at as Error).cause;
  }
  return false;
}

/** An input or result that cannot be used: trying again would not help. */
export function unprocessable(error: unknown): Ending {
  const failure = failureOf(error);
  return { kind: "failed", failure: { ...failure, kind: "unprocessable" }, action: "stop" };
}

/**
 * A failure record of any thrown value. Its type is the error's name; for a subclass that never set one, its class
 * name.
 */
export function failureOf(error: unknown, depth = 0): FailureData {
  if (!(error instanceof Error)) {
    const message = typeof error === "string" ? error : safeJson(error);
    return plainFailure("application", error === null ? "null" : typeof error, message);
  }
  const type = error.name === "Error" ? error.constructor.name || "Error" : error.name;
  const failure = plainFailure("application", type, error.message, error.stack);
  if (error.cause !== undefined && depth < CAUSES_MAX) failure.cause = failureOf(error.cause, depth + 1);
  return failure;
}

function plainFailure(kind: FailureData["kind"], type: string, message: string, stackTrace = ""): FailureData {
  return { kind, type: String(type), message: String(message).slice(0, MESSAGE_CHARS_MAX), stackTrace: String(stackTrace).slice(0, STACK_CHARS_MAX) };
}

function safeJson(value: unknown): string {
  try {
    return JSON.stringify(value) ?? String(value);
  } catch {
    return String(value);
  }
}

/**
 * The classifier that is on by default: an error that carries an HTTP response (axios, got, ky, and whatever else puts
 * it into `error.response`) with status 429 or 503 and a Retry-After header is retried after it.
 */
export const http: Classifier = (error) => {
  const response = responseOf(error);
  if (!response || (response.status !== 429 && response.status !== 503)) return undefined;
  const delay = retryAfterMs(response);
  return delay === undefined ? undefined : new RetryAfter(delay);
};

/** As `http`; other 4xx answers but 408 and 425 are not retried. Add it to `classifiers`. */
export const httpStrict: Classifier = (error) => {
  const status = responseOf(error)?.status;
  const hopeless = status !== undefined && status >= 400 && status < 500 && ![408, 425, 429].includes(status);
  return hopeless ? new NonRetryable() : http(error);
};

function responseOf(error: unknown): ResponseLike | undefined {
  const response = (error as { response?: { status?: number; statusCode?: number; headers?: ResponseLike["headers"] } } | null)?.response;
  if (typeof response !== "object" || response === null || !response.headers) return undefined;
  const status = response.status ?? response.statusCode;
  return { headers: response.headers, ...(status !== undefined && { status }) };
}
