// When the next heartbeat is due, and what the acknowledged ones have named.
import type { Lease } from "./lease.js";

/** A heartbeat on its way. */
interface Sent {
  seq: number;
  at: number;
  leases: Lease[];
}

export class Inventory {
  #at = Infinity;
  #unnamed: Lease[] = [];
  #sent: Sent[] = [];

  /** A new stream: its Hello names everything; heartbeats start with the welcome. */
  reset(held: Lease[]): void {
    for (const lease of held) lease.named = true;
    this.#unnamed = [];
    this.#sent = [];
    this.#at = Infinity;
  }

  /** The next heartbeat is due at `at`, or sooner if it was already. */
  by(at: number): void {
    this.#at = Math.min(this.#at, at);
  }

  arrived(lease: Lease): void {
    this.#unnamed.push(lease);
  }

  /** Due every interval, and sooner when a lease that no heartbeat has named yet is half its delivery_ttl old. */
  dueAt(deliveryTtlMs: number): number {
    const settled = ({ named, phase }: Lease) => named || phase === "done";
    while (this.#unnamed.length > 0 && settled(this.#unnamed[0]!)) this.#unnamed.shift();
    const oldest = this.#unnamed[0];
    return Math.min(this.#at, oldest ? oldest.receivedAt + deliveryTtlMs / 2 : Infinity);
  }

  /** A heartbeat has left. */
  sent(seq: number, at: number, leases: Lease[], intervalMs: number): void {
    for (const lease of leases) lease.named = true;
    this.#unnamed = [];
    this.#sent.push({ seq, at, leases });
    this.#at = at + intervalMs;
  }

  /** The store has taken the heartbeats up to `seq`: which leases they named, and when each was sent. */
  *acked(seq: number): Generator<{ lease: Lease; at: number }> {
    while (this.#sent.length > 0 && this.#sent[0]!.seq <= seq) {
      const { at, leases } = this.#sent.shift()!;
      for (const lease of leases) yield { lease, at };
    }
  }
}
