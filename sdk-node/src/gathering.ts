// Jobs in hand that wait for others of their kind, to be run in one call.
import type { Lease } from "./lease.js";

/** Which jobs of a type run in one call. */
export interface BatchRule {
  maxSize: number;
  /** How long the first of them waits for others, counted from its arrival. */
  lingerMs: number;
  /** Only jobs of one fairness key. */
  byKey: boolean;
}

/** A job whose worker has vanished before runs by itself, so that it cannot take others with it. */
const ALONE: BatchRule = { maxSize: 1, lingerMs: 0, byKey: false };

export class Gathering {
  /** Leases in order of arrival, in a line for each batch that may be made of them. None is empty. */
  readonly #lines = new Map<string, Lease[]>();

  constructor(private readonly rules: Readonly<Record<string, BatchRule>> = {}) {}

  /** Whether jobs of this type run in batches. */
  covers(type: string): boolean {
    return Object.hasOwn(this.rules, type);
  }

  all(): Lease[] {
    return [...this.#lines.values()].flat();
  }

  add(lease: Lease): void {
    const at = this.#lineOf(lease);
    const line = this.#lines.get(at);
    if (line) line.push(lease);
    else this.#lines.set(at, [lease]);
  }

  /** It starts, or goes without having started. */
  remove(lease: Lease): void {
    const at = this.#lineOf(lease);
    const left = this.#lines.get(at)?.filter((one) => one !== lease);
    if (!left) return;
    if (left.length > 0) this.#lines.set(at, left);
    else this.#lines.delete(at);
  }

  /** The batch that may start at `now` and whose first job came first: it is full, or that job has lingered. */
  next(now: number): Lease[] | undefined {
    let best: Lease[] | undefined;
    for (const line of this.#lines.values()) {
      if (this.#dueAt(line) <= now && (!best || line[0]!.key < best[0]!.key)) best = line;
    }
    return best?.slice(0, this.#ruleOf(best[0]!).maxSize);
  }

  /** When a batch that may not start yet may start, though no other job comes. */
  wakeAt(now: number): number {
    let at = Infinity;
    for (const line of this.#lines.values()) {
      const due = this.#dueAt(line);
      if (due > now) at = Math.min(at, due);
    }
    return at;
  }

  #dueAt(line: Lease[]): number {
    const first = line[0]!;
    const { maxSize, lingerMs } = this.#ruleOf(first);
    return line.length >= maxSize ? -Infinity : first.receivedAt + lingerMs;
  }

  #ruleOf({ job: { type, crashes } }: Lease): BatchRule {
    return crashes > 0 ? ALONE : this.rules[type]!;
  }

  #lineOf({ token, job: { type, queue, fairnessKey, crashes } }: Lease): string {
    if (crashes > 0) return JSON.stringify([token]);
    return JSON.stringify(this.rules[type]!.byKey ? [type, queue, fairnessKey] : [type, ""]);
  }
}
