// The leases in hand: by key, by token, in the order they wait, and how many handlers run for them.
import { Gathering, type BatchRule } from "./gathering.js";
import type { Lease } from "./lease.js";

/** Handlers that may run at once, in all and by type; and which types are run in batches: those are one handler. */
export interface Concurrency {
  concurrency: number;
  typeConcurrency?: Record<string, number>;
  batches?: Record<string, BatchRule>;
}

export class Leases {
  readonly #byKey = new Map<number, Lease>();
  readonly #byToken = new Map<string, Lease>();
  /** Those that run by themselves, in order; batches gather beside them. */
  readonly #waiting: Lease[] = [];
  readonly #gathering: Gathering;
  readonly #runningOf = new Map<string, number>();
  #running = 0;

  constructor(private readonly most: Concurrency) {
    this.#gathering = new Gathering(most.batches);
  }

  get size(): number {
    return this.#byKey.size;
  }

  /** Handlers that run, or have not given up their slot. */
  get running(): number {
    return this.#running;
  }

  get(key: number): Lease | undefined {
    return this.#byKey.get(key);
  }

  byToken(token: string): Lease | undefined {
    return this.#byToken.get(token);
  }

  all(): Lease[] {
    return [...this.#byKey.values()];
  }

  /** Those without an outcome: what a heartbeat names. */
  inHand(): Lease[] {
    return this.all().filter(({ phase }) => phase !== "done");
  }

  runningOnes(): Lease[] {
    return this.all().filter(({ phase }) => phase === "running");
  }

  waiting(): Lease[] {
    return [...this.#waiting, ...this.#gathering.all()];
  }

  add(lease: Lease): void {
    this.#byKey.set(lease.key, lease);
    this.#byToken.set(lease.token, lease);
  }

  /** Behind those that wait for a free handler. */
  wait(lease: Lease): void {
    if (this.#gathering.covers(lease.job.type)) this.#gathering.add(lease);
    else this.#waiting.push(lease);
  }

  /** It waits no longer. */
  unwait(lease: Lease): void {
    if (this.#gathering.covers(lease.job.type)) return this.#gathering.remove(lease);
    const at = this.#waiting.indexOf(lease);
    if (at >= 0) this.#waiting.splice(at, 1);
  }

  /** Whether jobs of this type run in batches. */
  batched(type: string): boolean {
    return this.#gathering.covers(type);
  }

  /** What the next handler may start with, in order of arrival but for types that are at a limit of their own. */
  next(now: number): Lease[] | undefined {
    if (this.#running >= this.most.concurrency) return undefined;
    const one = this.#waiting.find(({ job: { type } }) => (this.#runningOf.get(type) ?? 0) < (this.most.typeConcurrency?.[type] ?? Infinity));
    const batch = this.#gathering.next(now);
    if (!one || (batch && batch[0]!.key < one.key)) return batch;
    return [one];
  }

  /** When a batch has gathered for long enough, though no other job comes. */
  gatheredAt(now: number): number {
    return this.#gathering.wakeAt(now);
  }

  /** One handler starts with all of these. */
  start(leases: Lease[], now: number): void {
    const call = { left: leases.length };
    for (const lease of leases) {
      this.unwait(lease);
      lease.phase = "running";
      lease.startedAt = lease.heardAt = now;
      lease.call = call;
    }
    this.#count(leases[0]!, 1);
  }

  /** Its handler has stopped, or is off our hands. */
  stopped(lease: Lease): void {
    if (--lease.call!.left === 0) this.#count(lease, -1);
  }

  forget(lease: Lease): void {
    this.#byKey.delete(lease.key);
    this.#byToken.delete(lease.token);
  }

  #count({ job: { type } }: Lease, change: 1 | -1): void {
    this.#running += change;
    this.#runningOf.set(type, (this.#runningOf.get(type) ?? 0) + change);
  }
}
