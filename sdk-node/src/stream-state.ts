// Where the stream is: when to open it, when it counts as dead, how long to wait before the next try.
import { msOf } from "./duration.js";
import type { Welcome } from "./gen/jobwire/v1/worker_service_pb.js";

/** Reconnect delays: full jitter between 0 and a ceiling that doubles. */
const BACKOFF_MIN_MS = 50;
const BACKOFF_MAX_MS = 15_000;
/** A stream that lived this long counts as a success: the backoff starts afresh. */
const STABLE_MS = 1_000;

export class StreamState {
  phase: "none" | "opening" | "open" = "none";
  /** When to open it, while there is none. */
  connectAt = -Infinity;
  /** When to abandon it for another, because the server asked. */
  dropAt = Infinity;
  /** Of the last frame that was sent, and of the last one that was read. */
  seq = 0;
  receivedSeq = 0;
  /** When the hello was sent. */
  helloAt = 0;

  leaseTtlMs = 30_000;
  deliveryTtlMs = 10_000;
  heartbeatMs = 10_000;

  #failures = 0;
  #openedAt = 0;
  #heardAt = 0;

  connecting(now: number): void {
    this.phase = "opening";
    this.connectAt = this.dropAt = Infinity;
    this.#heardAt = this.helloAt = now;
    this.seq = this.receivedSeq = 0;
  }

  welcomed(welcome: Welcome, now: number): void {
    this.phase = "open";
    this.#openedAt = now;
    this.leaseTtlMs = msOf(welcome.leaseTtl) || this.leaseTtlMs;
    this.deliveryTtlMs = msOf(welcome.deliveryTtl) || Math.min(10_000, this.leaseTtlMs);
    this.heartbeatMs = msOf(welcome.heartbeatInterval) || this.leaseTtlMs / 3;
  }

  heard(now: number): void {
    this.#heardAt = now;
  }

  gone(now: number): void {
    if (this.phase === "open" && now - this.#openedAt >= STABLE_MS) this.#failures = 0;
    this.phase = "none";
  }

  /** When a server that stays silent counts as dead. */
  get deadAt(): number {
    return this.#heardAt + 2 * this.heartbeatMs + 5_000;
  }

  /**
   * Sets when to try again, and answers in how many milliseconds. `random` is in [0, 1). With jobs in hand the next try
   * comes while their leases still run.
   */
  backOff(now: number, random: number, holding: boolean, atLeast = 0): number {
    const max = holding ? Math.min(BACKOFF_MAX_MS, this.leaseTtlMs / 3) : BACKOFF_MAX_MS;
    const ceiling = Math.min(max, BACKOFF_MIN_MS * 2 ** Math.min(this.#failures, 20));
    this.#failures += 1;
    const delay = Math.max(atLeast, random * ceiling);
    this.connectAt = now + delay;
    return delay;
  }
}
