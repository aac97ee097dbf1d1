// Entry of a pool's threads: imports the user's module once and runs its handler, one job at a time.
import { parentPort, receiveMessageOnPort, workerData, type MessagePort } from "node:worker_threads";
import { JobContext, withContext } from "./context.js";
import type { CancelReason } from "./errors.js";
import type { JobSpec } from "./gen/jobwire/v1/job_pb.js";
import { captureConsole } from "./log-capture.js";
import type { JobData, RunnerEvent } from "./messages.js";
import type { Handler } from "./runner.js";
import type { SizeLimits } from "./spec.js";
import { pack, type Thrown } from "./thrown.js";

/** What the main thread passes at the start. */
export interface PoolThreadData {
  /** URL of the user's module. */
  module: string;
  captureConsole: boolean;
}

/** Main thread to pool thread. */
export type ToThread =
  | { do: "run"; job: JobData; input: unknown; limits: SizeLimits }
  | { do: "cancel"; key: number; reason: CancelReason; message: string }
  | { do: "risk"; key: number; atRisk: boolean };

/** Pool thread to main thread. */
export type FromThread =
  | { is: "ready" }
  // The module cannot be used; the thread ends.
  | { is: "broken"; why: string }
  | { is: "event"; event: RunnerEvent }
  | { is: "done"; key: number; enqueued: { spec: JobSpec; always: boolean }[]; value?: unknown; thrown?: Thrown };

/** A context that looks for orders when it is asked, so that a handler which never awaits hears of its cancellation. */
class ThreadContext extends JobContext {
  override get cancelled(): boolean {
    hear();
    return super.cancelled;
  }

  override get cancelReason(): CancelReason | undefined {
    hear();
    return super.cancelReason;
  }
}

let port: MessagePort;
let current: { key: number; context: ThreadContext } | undefined;

const say = (message: FromThread): void => port.postMessage(message);

/** Handles what has come and was not handed out yet. */
function hear(): void {
  for (let next = receiveMessageOnPort(port); next; next = receiveMessageOnPort(port)) obey(next.message as ToThread);
}

function obey(message: ToThread): void {
  if (message.do === "run") return void run(message);
  // An order that crossed with the end of its job is for nobody.
  if (current?.key !== message.key) return;
  if (message.do === "cancel") current.context.cancel(message.reason, message.message);
  else current.context.leaseAtRisk = message.atRisk;
}

let handler: Handler<never, unknown>;

async function run({ job, input, limits }: Extract<ToThread, { do: "run" }>): Promise<void> {
  const { key } = job;
  let enqueued: () => { spec: JobSpec; always: boolean }[] = () => [];
  try {
    const context = new ThreadContext(job, (event) => say({ is: "event", event }), () => limits);
    enqueued = () => context.enqueued;
    current = { key, context };
    const value = await withContext(context, async () => handler(input as never, context));
    try {
      say({ is: "done", key, enqueued: enqueued(), value });
    } catch (error) {
      // DataCloneError: a function, a class instance with private parts, ….
      throw new TypeError(`the result cannot leave its thread: ${(error as Error).message}`);
    }
  } catch (error) {
    say({ is: "done", key, enqueued: enqueued(), thrown: pack(error) });
  }
}

type Module = { default?: unknown; handler?: unknown };

/** The default export, or the one named `handler`; of a CommonJS module the same of `module.exports`. */
async function load(url: string): Promise<Handler<never, unknown>> {
  const module = (await import(url)) as Module;
  const inner = (typeof module.default === "object" ? module.default : undefined) as Module | undefined;
  for (const candidate of [module.default, module.handler, inner?.default, inner?.handler]) {
    if (typeof candidate === "function") return candidate as Handler<never, unknown>;
  }
  throw new TypeError("it exports no handler: export a function as default, or named `handler`");
}

async function main(): Promise<void> {
  const { module, captureConsole: capture } = workerData as PoolThreadData;
  if (capture) captureConsole();
  try {
    handler = await load(module);
  } catch (error) {
    say({ is: "broken", why: error instanceof Error ? error.message : String(error) });
    port.close();
    return;
  }
  port.on("message", obey);
  say({ is: "ready" });
}

if (parentPort) {
  port = parentPort;
  void main();
}
