// Entry of the session's thread: the stream, heartbeats and unacknowledged outcomes live here, so that a handler which
// blocks the main loop does not lose its leases.
import { parentPort, workerData } from "node:worker_threads";
import type { Connection } from "./endpoints.js";
import type { RunnerEvent } from "./messages.js";
import { SessionHost } from "./session-host.js";
import type { SessionConfig } from "./hello.js";
import { GrpcTransport } from "./transport.js";

/** What the main thread passes at the start. */
export interface ThreadData {
  config: SessionConfig;
  connection: Connection;
}

if (parentPort) {
  const port = parentPort;
  const { config, connection } = workerData as ThreadData;
  const host = new SessionHost(config, new GrpcTransport(connection), (commands) => {
    port.postMessage(commands);
    if (commands.some((command) => command.command === "stopped")) port.close();
  });
  port.on("message", (events: RunnerEvent[]) => host.receive(events));
  host.start();
}
