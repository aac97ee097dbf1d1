// When a failed attempt is followed by another: the server's rule, without its jitter.
import { msOf } from "../duration.js";
import { ExhaustedAction, type RetryPolicy } from "../gen/jobwire/v1/common_pb.js";
import { FailureAction } from "../gen/jobwire/v1/worker_service_pb.js";

const HOUR_MS = 3_600_000;

/** Milliseconds until the next attempt, or where the job ends. `failures` counts the one that just happened. */
export function nextAfter(
  policy: RetryPolicy | undefined,
  maxAttempts: number,
  failures: number,
  type: string,
  action: FailureAction,
  retryDelayMs: number | undefined,
): number | "dead" | "discard" {
  const exhausted = policy?.onExhausted === ExhaustedAction.DISCARD ? "discard" : "dead";
  if (action === FailureAction.DISCARD) return "discard";
  if (action === FailureAction.STOP) return exhausted;
  if (action !== FailureAction.RETRY && policy?.nonRetryableTypes.some((pattern) => matches(pattern, type))) return exhausted;
  if (maxAttempts >= 0 && failures >= maxAttempts) return exhausted;
  if (action === FailureAction.RETRY && retryDelayMs !== undefined) return retryDelayMs;
  const past = Math.max(0, failures - 1);
  const delays = policy?.delays ?? [];
  if (delays.length > 0) return msOf(delays[Math.min(past, delays.length - 1)]!);
  const grown = (msOf(policy?.initialDelay) ?? 1_000) * (policy?.multiplier || 2) ** past;
  return Math.min(grown, msOf(policy?.maxDelay) ?? HOUR_MS);
}

function matches(pattern: string, type: string): boolean {
  return pattern.endsWith("*") ? type.startsWith(pattern.slice(0, -1)) : pattern === type;
}
