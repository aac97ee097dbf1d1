// Outcomes on their way: waiting to be sent, or sent and not yet acknowledged. Knows the flush rule and the bound.
import type { Lease } from "./lease.js";

/** Outcomes that make a frame leave at once. */
export const FLUSH_OUTCOMES = 128;
/** Bytes that make a frame leave at once. */
export const FLUSH_BYTES = 64 << 10;
/** Longest wait of an outcome for company. */
export const FLUSH_MS = 2;
/** Unacknowledged outcomes beyond which no new handler starts. */
export const UNACKED_MAX = 10_000;
export const UNACKED_BYTES_MAX = 16 << 20;

/** Most outcomes and bytes of one frame. */
const FRAME_OUTCOMES = 1_000;
const FRAME_BYTES = 1 << 20;

interface SentFrame {
  seq: number;
  leases: Lease[];
}

export class Outbox {
  #pending: Lease[] = [];
  #pendingBytes = 0;
  #since = Infinity;
  #sent: SentFrame[] = [];
  #bytes = 0;
  #count = 0;

  /** Takes a lease whose outcome is set. */
  put(lease: Lease, now: number): void {
    this.#pending.push(lease);
    this.#pendingBytes += lease.outcomeBytes;
    this.#bytes += lease.outcomeBytes;
    this.#count += 1;
    if (this.#since === Infinity) this.#since = now;
  }

  /** Nothing waits and nothing is unacknowledged. */
  get empty(): boolean {
    return this.#count === 0;
  }

  get hasPending(): boolean {
    return this.#pending.length > 0;
  }

  /** No frame with outcomes is unacknowledged. */
  get idle(): boolean {
    return this.#sent.length === 0;
  }

  get full(): boolean {
    return this.#count >= UNACKED_MAX || this.#bytes >= UNACKED_BYTES_MAX;
  }

  /** When the pending outcomes have to leave: at once if nothing is unacknowledged, else by count, bytes or time. */
  get dueAt(): number {
    if (this.#pending.length === 0) return Infinity;
    const now = this.idle || this.#pending.length >= FLUSH_OUTCOMES || this.#pendingBytes >= FLUSH_BYTES;
    return now ? -Infinity : this.#since + FLUSH_MS;
  }

  /** The outcomes of the next frame, which are from now on unacknowledged; empty when none wait. */
  take(seq: number): Lease[] {
    let bytes = 0;
    let count = 0;
    for (const lease of this.#pending) {
      if (count > 0 && (count === FRAME_OUTCOMES || bytes + lease.outcomeBytes > FRAME_BYTES)) break;
      bytes += lease.outcomeBytes;
      count += 1;
    }
    const leases = this.#pending.splice(0, count);
    this.#pendingBytes -= bytes;
    if (this.#pending.length === 0) this.#since = Infinity;
    if (leases.length > 0) this.#sent.push({ seq, leases });
    return leases;
  }

  /** Everything sent in frames up to `seq` is durable; returns those leases. */
  ack(seq: number): Lease[] {
    const done: Lease[] = [];
    while (this.#sent.length > 0 && this.#sent[0]!.seq <= seq) done.push(...this.#sent.shift()!.leases);
    for (const lease of done) this.#forget(lease);
    return done;
  }

  /** Drops one outcome, wherever it is. */
  remove(lease: Lease): void {
    const waiting = this.#pending.indexOf(lease);
    if (waiting >= 0) {
      this.#pending.splice(waiting, 1);
      this.#pendingBytes -= lease.outcomeBytes;
      if (this.#pending.length === 0) this.#since = Infinity;
      this.#forget(lease);
      return;
    }
    for (const frame of this.#sent) {
      const at = frame.leases.indexOf(lease);
      if (at < 0) continue;
      frame.leases.splice(at, 1);
      this.#forget(lease);
      return;
    }
  }

  /** The stream is gone: what it had not acknowledged waits again, in the old order. */
  resend(now: number): void {
    const unacked = this.#sent.flatMap((frame) => frame.leases);
    this.#sent = [];
    if (unacked.length === 0) return;
    this.#pending.unshift(...unacked);
    for (const lease of unacked) this.#pendingBytes += lease.outcomeBytes;
    this.#since = Math.min(this.#since, now);
  }

  #forget(lease: Lease): void {
    this.#bytes -= lease.outcomeBytes;
    this.#count -= 1;
  }
}
