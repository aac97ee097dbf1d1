// Notices when the main loop was blocked, and by whom it may have been.

const EVERY_MS = 1_000;
const LAG_MS = 1_000;

/**
 * Measures once a second how late the loop is. `sample` answers the names of what ran since the last measurement;
 * `report` is called with them when the loop was more than a second late.
 */
export class LagMonitor {
  readonly #timer: NodeJS.Timeout;
  /** How late the loop was at the last measurement, in milliseconds. */
  latestMs = 0;

  constructor(sample: () => string[], report: (ms: number, names: string[]) => void) {
    let expected = performance.now() + EVERY_MS;
    this.#timer = setInterval(() => {
      const now = performance.now();
      const lag = now - expected;
      expected = now + EVERY_MS;
      this.latestMs = Math.max(0, lag);
      const names = sample();
      if (lag > LAG_MS) report(lag, names);
    }, EVERY_MS).unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }
}
