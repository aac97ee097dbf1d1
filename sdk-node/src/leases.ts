// The leases in hand: by key, by token, in the order they wait, and how many of them run.
import type { Lease } from "./lease.js";

/** Handlers that may run at once, in all and by type. */
export interface Concurrency {
  concurrency: number;
  typeConcurrency?: Record<string, number>;
}

export class Leases {
  readonly #byKey = new Map<number, Lease>();
  readonly #byToken = new Map<string, Lease>();
  readonly #waiting: Lease[] = [];
  readonly #runningOf = new Map<string, number>();
  #running = 0;

  constructor(private readonly most: Concurrency) {}

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
    return [...this.#waiting];
  }

  add(lease: Lease): void {
    this.#byKey.set(lease.key, lease);
    this.#byToken.set(lease.token, lease);
  }

  /** Behind those that wait for a free handler. */
  wait(lease: Lease): void {
    this.#waiting.push(lease);
  }

  /** It waits no longer. */
  unwait(lease: Lease): void {
    const at = this.#waiting.indexOf(lease);
    if (at >= 0) this.#waiting.splice(at, 1);
  }

  /** The next one that may start, in their order but for types that are at a limit of their own. */
  next(): Lease | undefined {
    if (this.#running >= this.most.concurrency) return undefined;
    return this.#waiting.find(({ job: { type } }) => (this.#runningOf.get(type) ?? 0) < (this.most.typeConcurrency?.[type] ?? Infinity));
  }

  start(lease: Lease, now: number): void {
    this.unwait(lease);
    lease.phase = "running";
    lease.startedAt = lease.heardAt = now;
    this.#count(lease, 1);
  }

  /** Its handler has stopped, or is off our hands. */
  stopped(lease: Lease): void {
    this.#count(lease, -1);
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
