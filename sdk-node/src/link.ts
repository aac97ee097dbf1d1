// How the worker reaches its session: in a thread of its own, or in the same one.
import type { Connection } from "./endpoints.js";
import type { RunnerCommand, RunnerEvent } from "./messages.js";
import { SessionHost } from "./session-host.js";
import type { ThreadData } from "./session-thread.js";
import type { SessionConfig } from "./hello.js";
import { startThread } from "./threads.js";
import { GrpcTransport } from "./transport.js";

export interface SessionLink {
  send(events: RunnerEvent[]): void;
}

export interface LinkHandlers {
  commands(commands: RunnerCommand[]): void;
  /** The session broke down: a defect. */
  failed(error: Error): void;
}

/** Starts a session in a worker thread. */
export function threadLink(config: SessionConfig, connection: Connection, handlers: LinkHandlers): SessionLink {
  const workerData: ThreadData = { config, connection };
  const thread = startThread("session-thread", { workerData });
  thread.on("message", (commands: RunnerCommand[]) => handlers.commands(commands));
  thread.on("error", (error) => handlers.failed(error));
  return { send: (events) => thread.postMessage(events) };
}

/** Starts a session on this thread: for tests and for runtimes without threads. */
export function localLink(config: SessionConfig, connection: Connection, handlers: LinkHandlers): SessionLink {
  const transport = new GrpcTransport(connection);
  const host = new SessionHost(config, transport, (commands) => handlers.commands(commands));
  host.start();
  return { send: (events) => host.receive(events) };
}
