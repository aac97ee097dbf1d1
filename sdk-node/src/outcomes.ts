// From what a handler threw to the outcome of its attempt. The order of the tests below is the order that counts.
import type { Classifier } from "./classifiers.js";
import { directiveKind, type Directive, type RetryAfter, type Snooze } from "./directives.js";
import type { CancelReason, Cancellation } from "./errors.js";
import type { FailureData, OutcomeData } from "./messages.js";
import { ThreadDied, typeOf } from "./thrown.js";

/** An outcome without its circumstances. */
export type Ending = OutcomeData extends infer O ? (O extends OutcomeData ? Omit<O, "runMs" | "enqueue"> : never) : never;

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
  // A thread that died in mid-job: no outcome, so that the server counts a crash.
  if (cancelReason === "lease_lost" || error instanceof ThreadDied) return { kind: "dropped" };
  if (directiveKind(error)) return endingOfDirective(error as Directive);
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
    const directive = opinion(classify, error);
    if (directive) return endingOfDirective(directive, error);
  }
  return { kind: "failed", failure: failureOf(error), action: "policy" };
}

function opinion(classify: Classifier, error: unknown): Directive | undefined {
  try {
    const directive = classify(error);
    return directiveKind(directive) && directive;
  } catch {
    return undefined;
  }
}

function endingOfDirective(directive: Directive, error: unknown = directive): Ending {
  const { message } = directive;
  switch (directiveKind(directive)!) {
    case "snooze": {
      const { delay, throttle } = directive as Snooze;
      return { kind: "snoozed", delayMs: delay, reason: message, ...(throttle && { throttle }) };
    }
    case "release":
      return { kind: "released", reason: message };
    case "discard":
      return { kind: "failed", failure: failureOf(error), action: "discard" };
    case "non_retryable":
      return { kind: "failed", failure: failureOf(error), action: "stop" };
    case "retry_after": {
      const { delay } = directive as RetryAfter;
      return { kind: "failed", failure: failureOf(error), action: "retry", ...(delay !== undefined && { retryDelayMs: delay }) };
    }
  }
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

/** A failure record of any thrown value. */
export function failureOf(error: unknown, depth = 0): FailureData {
  if (!(error instanceof Error)) {
    const message = typeof error === "string" ? error : safeJson(error);
    return plainFailure("application", error === null ? "null" : typeof error, message);
  }
  const failure = plainFailure("application", typeOf(error), error.message, error.stack);
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
