// What happens to leases as time passes: trust runs out, attempts run too long or fall silent.
import type { Lease } from "./lease.js";

export interface Overdue {
  /** The store may have given the job to another worker. */
  atRisk(lease: Lease): void;
  /** Its handler has to stop. */
  timedOut(lease: Lease, message: string, stalled: boolean): void;
}

export class TimeLimits {
  /** When to look next. */
  at = Infinity;

  /** Something may be due at `at`. */
  by(at: number): void {
    this.at = Math.min(this.at, at);
  }

  /** Looks at all leases, if it is time. */
  sweep(now: number, leases: Iterable<Lease>, on: Overdue): void {
    if (now < this.at) return;
    this.at = Infinity;
    for (const lease of leases) {
      if (lease.phase === "done") continue;
      const running = lease.phase === "running";
      if (now < lease.trustedUntil) this.by(lease.trustedUntil);
      else if (running && !lease.atRisk && !lease.lost) on.atRisk(lease);
      if (!running) continue;
      if (now < limitAt(lease)) {
        this.by(limitAt(lease));
        continue;
      }
      const { timeoutMs, heartbeatTimeoutMs } = lease.job;
      const timedOut = timeoutMs !== undefined && now >= lease.startedAt! + timeoutMs;
      on.timedOut(lease, timedOut ? `ran longer than ${timeoutMs} ms` : `no progress for ${heartbeatTimeoutMs} ms`, !timedOut);
    }
  }
}

/** When this attempt has run too long, or has been silent too long. */
export function limitAt({ cancelled, startedAt = 0, heardAt, job: { timeoutMs, heartbeatTimeoutMs } }: Lease): number {
  if (cancelled !== undefined) return Infinity;
  return Math.min(startedAt + (timeoutMs ?? Infinity), heardAt + (heartbeatTimeoutMs ?? Infinity));
}
