// The end of a session in steps: handlers finish, are cancelled, are given up; outcomes are acknowledged; the stream ends.

/** Time a handler has to obey the shutdown, and the server to acknowledge, and to end the stream. */
const STOP_MS = 2_000;

type Phase =
  | { name: "working" }
  | { name: "finishing"; graceAt: number }
  | { name: "stopping"; stopAt: number }
  | { name: "flushing"; until: number }
  | { name: "closing"; until: number }
  | { name: "stopped" };

/** What the session has to do next. */
export type DrainStep =
  // Ask the handlers that still run to stop.
  | "cancel"
  // Give back what still runs.
  | "release"
  // No handler runs any more: get the last outcomes out.
  | "flush"
  // Everything is acknowledged: end the stream cleanly.
  | "close"
  | "stop";

/** What the next step depends on. */
export interface DrainView {
  running: number;
  /** No outcome waits for its acknowledgement. */
  acked: boolean;
  connected: boolean;
  emptyHanded: boolean;
}

export class Drain {
  #phase: Phase = { name: "working" };

  get draining(): boolean {
    return this.#phase.name !== "working";
  }

  get closing(): boolean {
    return this.#phase.name === "closing";
  }

  get stopped(): boolean {
    return this.#phase.name === "stopped";
  }

  begin(now: number, graceMs: number): void {
    this.#phase = { name: "finishing", graceAt: now + graceMs };
  }

  stop(): void {
    this.#phase = { name: "stopped" };
  }

  /** The next step that is due; call again until there is none. */
  step(now: number, { running, acked, connected, emptyHanded }: DrainView): DrainStep | undefined {
    const phase = this.#phase;
    switch (phase.name) {
      case "finishing":
        if (running === 0) return this.#flush(now);
        if (now < phase.graceAt) return undefined;
        this.#phase = { name: "stopping", stopAt: now + STOP_MS };
        return "cancel";
      case "stopping":
        if (running === 0) return this.#flush(now);
        return now >= phase.stopAt ? "release" : undefined;
      case "flushing":
        if (acked && connected) {
          this.#phase = { name: "closing", until: now + STOP_MS };
          return "close";
        }
        return now >= phase.until || (acked && emptyHanded) ? "stop" : undefined;
      case "closing":
        return now >= phase.until ? "stop" : undefined;
      case "working":
      case "stopped":
        return undefined;
    }
  }

  #flush(now: number): DrainStep {
    this.#phase = { name: "flushing", until: now + STOP_MS };
    return "flush";
  }

  /** When a step may be due though nothing happens. */
  get wakeAt(): number {
    const phase = this.#phase;
    if (phase.name === "finishing") return phase.graceAt;
    if (phase.name === "stopping") return phase.stopAt;
    return phase.name === "flushing" || phase.name === "closing" ? phase.until : Infinity;
  }
}
