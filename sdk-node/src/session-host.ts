// Runs a session machine: gives it the time, performs its actions on a transport, and speaks with the runner in
// batches. Lives in the session's thread, or on the main one.
import { WorkerService, type StreamJobsRequest } from "./gen/jobwire/v1/worker_service_pb.js";
import type { RunnerCommand, RunnerEvent } from "./messages.js";
import type { SessionConfig } from "./hello.js";
import { Session, type Action } from "./session.js";
import type { StreamCall, Transport } from "./transport.js";

export class SessionHost {
  readonly #session: Session;
  #call: StreamCall<StreamJobsRequest> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #stepping = false;
  #commands: RunnerCommand[] = [];
  #cpu = { at: performance.now(), micros: cpuMicros() };

  constructor(
    config: SessionConfig,
    private readonly transport: Transport,
    private readonly tell: (commands: RunnerCommand[]) => void,
  ) {
    this.#session = new Session(config, { random: Math.random, stats: () => this.#stats() });
  }

  start(): void {
    this.#step();
  }

  /** Events from the runner. */
  receive(events: RunnerEvent[]): void {
    const now = performance.now();
    for (const event of events) this.#session.event(event, now);
    this.#step();
  }

  /** Several causes in one turn of the loop make one step. */
  #stepSoon(): void {
    if (this.#stepping) return;
    this.#stepping = true;
    queueMicrotask(() => {
      this.#stepping = false;
      this.#step();
    });
  }

  #step(): void {
    clearTimeout(this.#timer);
    const now = performance.now();
    const { actions, wakeAt } = this.#session.poll(now);
    for (const action of actions) this.#perform(action);
    if (wakeAt < Infinity) {
      this.#timer = setTimeout(() => this.#step(), Math.min(Math.max(0, Math.ceil(wakeAt - now)), 60_000));
    }
  }

  #perform(action: Action): void {
    switch (action.do) {
      case "connect":
        return this.#connect();
      case "send":
        return this.#call?.send(action.frame);
      case "halfClose":
        return this.#call?.halfClose();
      case "drop":
        this.#call?.cancel();
        this.#call = undefined;
        return;
      case "tell":
        // After the frames of this step have reached the socket: see Session.poll.
        if (this.#commands.length === 0) setImmediate(() => this.tell(this.#commands.splice(0)));
        this.#commands.push(action.command);
        return;
    }
  }

  #connect(): void {
    const call = this.transport.bidi(WorkerService.method.streamJobs, {
      message: (frame) => {
        if (this.#call !== call) return;
        this.#session.frame(frame, performance.now());
        this.#stepSoon();
      },
      end: (error) => {
        if (this.#call !== call) return;
        this.#call = undefined;
        this.#session.closed(error, performance.now());
        this.#stepSoon();
      },
    });
    this.#call = call;
  }

  #stats(): { rssBytes: number; cpuPercent: number } {
    const at = performance.now();
    const micros = cpuMicros();
    const cpuPercent = (micros - this.#cpu.micros) / 10 / Math.max(1, at - this.#cpu.at);
    this.#cpu = { at, micros };
    return { rssBytes: process.memoryUsage.rss(), cpuPercent };
  }
}

function cpuMicros(): number {
  const { user, system } = process.cpuUsage();
  return user + system;
}
