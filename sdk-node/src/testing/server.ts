// A real server for tests: a child process on free ports of this machine, which ends with its owner.
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import type { Socket } from "node:net";
import { createInterface } from "node:readline";
import { Client, type ClientOptions } from "../client.js";
import { toMs, type Duration } from "../duration.js";
import { FailedPrecondition } from "../errors.js";

/** Options of a test server. */
export interface TestServerOptions {
  /** `"memory"`, or `"embedded:DIR"` for one that survives a restart. Default `"memory"`. */
  store?: "memory" | `embedded:${string}`;
  /** `host:port` to listen on. Default `"127.0.0.1:0"`: a free port. */
  listen?: string;
  /** The server's program. Default: the variable `JOBWIRE_BIN`, then `jobwire` on the PATH. */
  binary?: string;
  /** Further flags of `jobwire serve`, such as `["--lease-ttl", "2s"]`. */
  args?: string[];
  /** How long it may take until it listens. Default 20 s. */
  startTimeout?: Duration;
}

/**
 * A running server. It ends by `stop()`, at the end of the `await using` block that declared it, and with this process,
 * however that ends.
 */
export class TestServer {
  readonly #child: ChildProcess;
  readonly #clients: Client[] = [];
  /** For `JOBWIRE_URL` and for `new Client({ url })`. */
  readonly url: string;
  /** Base of `/healthz`, `/readyz` and `/metrics`. */
  readonly httpUrl: string;
  /** What the server has logged so far, a line each. */
  readonly log: readonly string[];

  /** Servers come from `testServer()`. */
  constructor(child: ChildProcess, url: string, httpUrl: string, log: readonly string[]) {
    this.#child = child;
    this.url = url;
    this.httpUrl = httpUrl;
    this.log = log;
  }

  /** A client of this server, closed together with it. */
  client(options: Omit<ClientOptions, "url"> = {}): Client {
    const client = new Client({ ...options, url: this.url });
    this.#clients.push(client);
    return client;
  }

  /** Closes the clients and ends the server; resolves when it has gone. */
  async stop(): Promise<void> {
    await Promise.all(this.#clients.splice(0).map((client) => client.close()));
    await ended(this.#child, "SIGTERM");
  }

  /** Ends it without a farewell, as a crash does. Clients stay as they are. */
  async kill(): Promise<void> {
    await ended(this.#child, "SIGKILL");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

/**
 * Starts a server and waits until it listens. Throws FailedPrecondition when there is no program to start, or when it
 * ends or says nothing before `startTimeout`; the message says what it logged.
 *
 * ```ts
 * await using server = await testServer();
 * const client = server.client();
 * ```
 */
export async function testServer(options: TestServerOptions = {}): Promise<TestServer> {
  const { store = "memory", listen = "127.0.0.1:0", args = [], startTimeout = "20s" } = options;
  const binary = options.binary ?? (process.env["JOBWIRE_BIN"] || "jobwire");
  const timeoutMs = toMs(startTimeout, "startTimeout");
  const child = launch(binary, ["serve", "--store", store, "--listen", listen, "--http-listen", "127.0.0.1:0", ...args]);
  const log: string[] = [];
  try {
    const { listening, http } = await listens(child, log, timeoutMs);
    guard(child);
    unref(child);
    return new TestServer(child, `jobwire://${listening}`, `http://${http}`, log);
  } catch (error) {
    child.kill("SIGKILL");
    throw refused(binary, error as NodeJS.ErrnoException, log);
  }
}

interface Listening {
  listening: string;
  http: string;
}

/** The lines of the log that are kept. */
const LOG_LINES_MAX = 1_000;

function launch(binary: string, args: string[]): ChildProcess {
  const env = { ...process.env, JOBWIRE_LOG_FORMAT: process.env["JOBWIRE_LOG_FORMAT"] ?? "text" };
  return spawn(binary, args, { env, stdio: ["ignore", "pipe", "pipe"] });
}

/**
 * Ends the server when this process has ended, even by SIGKILL: a shell waits at a pipe that closes then. In a group of
 * its own, so that Ctrl-C does not end it first. Where there is no shell, the server ends by `stop()` only.
 */
function guard(server: ChildProcess): void {
  const script = 'read _; kill -TERM "$1"';
  const shell = spawn("sh", ["-c", script, "jobwire-test-guard", String(server.pid)], {
    stdio: ["pipe", "ignore", "ignore"],
    detached: true,
  });
  shell.on("error", () => {});
  shell.unref();
  (shell.stdin as Socket).unref();
  server.once("exit", () => shell.kill("SIGKILL"));
}

/** Lets this process end although the server still runs. */
function unref(server: ChildProcess): void {
  server.unref();
  (server.stdout as Socket).unref();
  (server.stderr as Socket).unref();
}

async function listens(child: ChildProcess, log: string[], timeoutMs: number): Promise<Listening> {
  createInterface({ input: child.stderr! }).on("line", (line) => {
    log.push(line);
    if (log.length > LOG_LINES_MAX) log.shift();
  });
  let timer: NodeJS.Timeout | undefined;
  try {
    return await Promise.race([
      announced(child),
      once(child, "exit").then(([code]) => Promise.reject(new Error(`it ended with ${code}`))),
      new Promise<never>((_, reject) => {
        timer = setTimeout(() => reject(new Error(`it did not listen within ${timeoutMs} ms`)), timeoutMs);
      }),
    ]);
  } finally {
    clearTimeout(timer);
  }
}

/** The server's first line is JSON and says where it listens. */
function announced(child: ChildProcess): Promise<Listening> {
  return new Promise((resolve) => {
    createInterface({ input: child.stdout! }).on("line", (line) => {
      if (line.startsWith("{") && line.includes('"listening"')) resolve(JSON.parse(line) as Listening);
    });
  });
}

function refused(binary: string, error: NodeJS.ErrnoException, log: readonly string[]): FailedPrecondition {
  if (error.code === "ENOENT") {
    return new FailedPrecondition(
      `there is no program ${JSON.stringify(binary)}: set JOBWIRE_BIN to the server's binary, or put jobwire on the PATH`,
      { reason: "NO_SERVER", cause: error },
    );
  }
  const tail = log.slice(-10).join("\n");
  return new FailedPrecondition(`the test server did not start: ${error.message}${tail && `\n${tail}`}`, { reason: "NO_SERVER", cause: error });
}

async function ended(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.ref();
  const exited = once(child, "exit");
  child.kill(signal);
  await exited;
}
