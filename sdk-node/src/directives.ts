// What a handler throws to say what should happen to its job: RetryAfter, NonRetryable, Discard, Snooze, Release.
import { toMs, type Duration } from "./duration.js";
import { retryAfterMs, statusOf, type ResponseLike } from "./http-response.js";

/** What a directive asks for. */
export type DirectiveKind = "retry_after" | "non_retryable" | "discard" | "snooze" | "release";

/** Found on directives of every copy of this package, so that ESM, CommonJS and other threads understand each other. */
const KIND = Symbol.for("jobwire.directive");

/** Base of what a handler throws to say what should happen to its job. */
export abstract class Directive extends Error {
  constructor(kind: DirectiveKind, message?: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = new.target.name;
    Object.defineProperty(this, KIND, { value: kind });
  }
}

/** The kind of a directive, also of one that another copy of this package made; `undefined` for any other value. */
export function directiveKind(error: unknown): DirectiveKind | undefined {
  return error instanceof Error ? (error as { [KIND]?: DirectiveKind })[KIND] : undefined;
}

/** The attempt failed; run again after `delay`, not before, instead of the retry policy's delay. Uses an attempt. */
export class RetryAfter extends Directive {
  /** Milliseconds; `undefined` leaves the delay to the retry policy. */
  readonly delay: number | undefined;

  constructor(delay?: Duration, message = "told to retry later", options?: { cause?: unknown }) {
    super("retry_after", message, options);
    this.delay = delay === undefined ? undefined : toMs(delay, "delay");
  }

  /**
   * From a response with `Retry-After` (seconds or an HTTP date); without a usable header `fallback` counts, and
   * without that the retry policy.
   */
  static from(response: ResponseLike, fallback?: Duration): RetryAfter {
    const status = statusOf(response);
    const message = status ? `HTTP ${status} ${response.statusText ?? response.statusMessage ?? ""}`.trimEnd() : undefined;
    return new RetryAfter(retryAfterMs(response) ?? fallback, message);
  }
}

/** The attempt failed and trying again is hopeless: the job goes where its policy's `onExhausted` says. */
export class NonRetryable extends Directive {
  constructor(message?: string, options?: { cause?: unknown }) {
    super("non_retryable", message, options);
  }
}

/** Give up and keep no record for repair. */
export class Discard extends Directive {
  constructor(message?: string, options?: { cause?: unknown }) {
    super("discard", message, options);
  }
}

/** Not now: run again after `delay`. Uses no attempt. */
export class Snooze extends Directive {
  /** Milliseconds. */
  readonly delay: number;
  /** Whom else to hold back for as long: jobs of the same fairness key, or the whole queue. */
  readonly throttle: "key" | "queue" | undefined;

  constructor(delay: Duration, options: { reason?: string; throttle?: "key" | "queue" } = {}) {
    super("snooze", options.reason ?? "snoozed");
    this.delay = toMs(delay, "delay");
    this.throttle = options.throttle;
  }
}

/** Give the job back untouched: it returns to the front of its queue. Uses no attempt. */
export class Release extends Directive {
  constructor(reason = "released by its handler") {
    super("release", reason);
  }
}
