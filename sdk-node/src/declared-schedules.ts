// Schedules that a worker's code declares: put when it starts, before it asks for its first job.
import type { Client } from "./client.js";
import { invalid } from "./checks.js";
import { JobwireError, makeError } from "./errors.js";
import { checkScheduleSpec } from "./schedule-spec.js";
import type { ScheduleSpec } from "./schedule-types.js";

/** How long one is tried before it is said that the server is away; then it is tried again. */
const TRY_MS = 5_000;

export class DeclaredSchedules {
  readonly #specs = new Map<string, ScheduleSpec>();
  readonly #stop = new AbortController();

  get size(): number {
    return this.#specs.size;
  }

  /** Throws InvalidArgument for a specification that cannot be meant, and for an id that is declared already. */
  add(id: string, spec: ScheduleSpec): void {
    if (this.#specs.has(id)) throw invalid("id", `the schedule ${id} is declared already`);
    checkScheduleSpec(spec);
    this.#specs.set(id, spec);
  }

  /** Ends a `put()` under way. */
  stop(): void {
    this.#stop.abort();
  }

  /**
   * Puts all of them, for as long as it takes to reach the server; `away` hears why that is. Answers false when it was
   * stopped first. Throws what the server says against one, with its id.
   */
  async put(client: Client, away: (why: string) => void): Promise<boolean> {
    const done = await Promise.all([...this.#specs].map(([id, spec]) => this.#putOne(client, id, spec, away)));
    return done.every(Boolean);
  }

  async #putOne(client: Client, id: string, spec: ScheduleSpec, away: (why: string) => void): Promise<boolean> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      try {
        await client.schedules.put(id, spec, { signal, deadline: TRY_MS });
        return true;
      } catch (error) {
        if (!(error instanceof JobwireError)) throw error;
        if (signal.aborted) break;
        if (error.retryable || error.code === "DEADLINE_EXCEEDED") away(error.message);
        else throw named(id, error);
      }
    }
    return false;
  }
}

function named(id: string, cause: JobwireError): JobwireError {
  const { code, message, reason, field, metadata } = cause;
  const hint = code === "PERMISSION_DENIED" ? "; it needs scope admin, or putSchedules: false" : "";
  return makeError(code, `schedule ${id}: ${message}${hint}`, { reason, ...(field !== undefined && { field }), metadata, cause });
}
