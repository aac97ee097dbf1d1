// How many jobs to hold ready beside the running ones: the quicker the handlers, the more.

const PREFETCH_MAX = 16;
const SLOTS_MAX = 10_000;
/** Mean run below which all of it is wanted, and above which none. */
const QUICK_MS = 1_000;
const SLOW_MS = 10_000;
/** Weight of the latest run in the mean. */
const WEIGHT = 0.1;

export class Prefetch {
  #meanMs: number | undefined;
  #announced: number;

  /** `fixed`: what the user asked for; without it, adapts. `largest`: jobs of the largest batch, which has to find room. */
  constructor(
    private readonly concurrency: number,
    private readonly fixed: number | undefined,
    private readonly largest = 0,
  ) {
    this.#announced = this.#wanted();
  }

  /** A handler has run this long. */
  ran(ms: number): void {
    this.#meanMs = this.#meanMs === undefined ? ms : this.#meanMs + WEIGHT * (ms - this.#meanMs);
  }

  /** Leases to hold, as announced last. */
  get slots(): number {
    return this.#announced;
  }

  /** Leases to hold from now on; `undefined` when it is what was announced. */
  change(): number | undefined {
    const wanted = this.#wanted();
    if (wanted === this.#announced) return undefined;
    return (this.#announced = wanted);
  }

  #wanted(): number {
    const most = Math.max(Math.min(this.concurrency, PREFETCH_MAX), 2 * this.largest - this.concurrency);
    const least = Math.max(0, this.largest - this.concurrency);
    const share = (SLOW_MS - (this.#meanMs ?? 0)) / (SLOW_MS - QUICK_MS);
    const prefetch = this.fixed ?? Math.max(least, Math.floor(most * Math.min(1, Math.max(0, share))));
    return Math.min(this.concurrency + prefetch, SLOTS_MAX);
  }
}
