// The real server, as a child process on free ports.
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

export class RealServer {
  private constructor(
    readonly child: ChildProcess,
    readonly url: string,
  ) {}

  /** Starts `$JOBWIRE_BIN serve`, on the memory store and a free port by default; waits until it says that it listens. */
  static async start({ store = "memory", listen = "127.0.0.1:0" } = {}): Promise<RealServer> {
    const binary = process.env["JOBWIRE_BIN"];
    if (!binary) {
      throw new Error("JOBWIRE_BIN is not set: point it at the server's binary (cargo build, then target/debug/jobwire), or use `make test`");
    }
    const args = ["serve", "--store", store, "--listen", listen, "--http-listen", "127.0.0.1:0"];
    const child = spawn(binary, args, { stdio: ["ignore", "pipe", "inherit"] });
    const exited = once(child, "exit").then(([code]) => {
      throw new Error(`the server ended with ${code} before it listened`);
    });
    const listening = (async () => {
      for await (const line of createInterface({ input: child.stdout! })) {
        if (line.startsWith("{") && line.includes('"listening"')) return (JSON.parse(line) as { listening: string }).listening;
      }
      throw new Error("the server closed its output before it listened");
    })();
    exited.catch(() => {});
    const address = await Promise.race([listening, exited]);
    child.stdout!.resume();
    return new RealServer(child, `jobwire://${address}`);
  }

  /** Ends it without a farewell, as a crash or a power cut does. */
  async kill(): Promise<void> {
    const exited = once(this.child, "exit");
    this.child.kill("SIGKILL");
    await exited;
  }

  async stop(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const exited = once(this.child, "exit");
    this.child.kill("SIGTERM");
    await exited;
  }
}
