// A worker on a scripted server, over a real connection.
import { Client, Worker, type Context, type Logger, type WorkerOptions } from "../../src/index.js";
import { ScriptedServer, type WorkerStream } from "./scripted-server.js";

export const silent: Logger = { info: () => {}, warn: () => {}, error: () => {} };

export type Handlers = Record<string, (input: any, ctx: Context) => unknown>;

/** A worker on a scripted server, connected and welcomed. */
export class Fixture {
  private constructor(
    readonly server: ScriptedServer,
    readonly client: Client,
    readonly worker: Worker,
    readonly done: Promise<void>,
    public stream: WorkerStream,
  ) {}

  static async start(handlers: Handlers, options: WorkerOptions = {}, more?: (worker: Worker) => void): Promise<Fixture> {
    const server = await new ScriptedServer().listen();
    const client = new Client({ url: server.url });
    const worker = new Worker(client, { logger: silent, signals: false, concurrency: 4, prefetch: 0, ...options });
    for (const [type, handler] of Object.entries(handlers)) worker.handle(type, handler);
    more?.(worker);
    const done = worker.run();
    done.catch(() => {});
    const stream = await server.streams.next();
    stream.welcome();
    return new Fixture(server, client, worker, done, stream);
  }

  /** Lets the worker drain as it should, acknowledging what it says. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.stream.finish();
    await this.worker.stop({ grace: 0 }).catch(() => {});
    this.server.stop();
    await this.client.close();
  }

  async reconnected(): Promise<WorkerStream> {
    return (this.stream = await this.server.streams.next());
  }
}
