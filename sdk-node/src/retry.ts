// Waiting and trying again: UNAVAILABLE only, full jitter, never beyond the caller's deadline.
import { CallCancelled, DeadlineExceeded, JobwireError } from "./errors.js";

const DELAY_MIN_MS = 50;
const DELAY_MAX_MS = 5_000;

/** Endings of a stream that opening it again will not mend. */
const FINAL = new Set(["INVALID_ARGUMENT", "PERMISSION_DENIED", "UNAUTHENTICATED", "UNIMPLEMENTED", "FAILED_PRECONDITION", "OUT_OF_RANGE"]);

/** Whether a stream that ended with `error`, after so many failures, need not be opened again. */
export function isFinal(error: JobwireError, failures: number): boolean {
  // The token may have been replaced: its file is read again.
  if (error.code === "UNAUTHENTICATED" && failures === 0) return false;
  return FINAL.has(error.code) || (error.code === "RESOURCE_EXHAUSTED" && error.retryDelay === undefined);
}

/** Milliseconds to wait before try number `failures + 1`; at least what the server asked for. */
export function retryDelayMs(failures: number, asked = 0): number {
  return Math.max(asked, Math.random() * Math.min(DELAY_MAX_MS, DELAY_MIN_MS * 2 ** Math.min(failures, 20)));
}

/** Calls `attempt` with the milliseconds left until it succeeds, fails for good, or time is up (`deadlineAt`). */
export async function retrying<T>(
  deadlineAt: number,
  signal: AbortSignal | undefined,
  attempt: (leftMs: number) => Promise<T>,
): Promise<T> {
  for (let failures = 0; ; failures++) {
    try {
      return await attempt(Math.max(1, deadlineAt - performance.now()));
    } catch (error) {
      if (!(error instanceof JobwireError) || error.code !== "UNAVAILABLE") throw error;
      const delay = retryDelayMs(failures, error.retryDelay);
      if (performance.now() + delay >= deadlineAt) throw error;
      await pause(delay, signal);
    }
  }
}

/** Resolves after `ms`; rejects with CallCancelled when the signal fires first. */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(gaveUp(signal));
    const abort = () => {
      clearTimeout(timer);
      reject(gaveUp(signal!));
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", abort);
      resolve();
    }, ms);
    signal?.addEventListener("abort", abort, { once: true });
  });
}

/**
 * A caller's view of shared work: gives up when its own time is up or its signal fires, and leaves the work alone.
 * `what` completes "… did not finish in time".
 */
export function within<T>(work: Promise<T>, limits: { timeoutMs?: number; signal?: AbortSignal | undefined }, what: string): Promise<T> {
  const { timeoutMs, signal } = limits;
  if (timeoutMs === undefined && !signal) return work;
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(gaveUp(signal));
    const abort = () => settle(() => reject(gaveUp(signal!)));
    const timer =
      timeoutMs === undefined
        ? undefined
        : setTimeout(() => settle(() => reject(new DeadlineExceeded(`${what} took longer than ${timeoutMs} ms`))), timeoutMs);
    const settle = (how: () => void) => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", abort);
      how();
    };
    signal?.addEventListener("abort", abort, { once: true });
    work.then(
      (value) => settle(() => resolve(value)),
      (error: unknown) => settle(() => reject(error as Error)),
    );
  });
}

/** What a call is rejected with whose caller's signal fired. */
export function gaveUp(signal: AbortSignal): CallCancelled {
  return new CallCancelled("the caller gave up", { cause: signal.reason });
}
