// The worker that the language-neutral conformance suite drives. Environment: JOBWIRE_URL, CONF_QUEUES,
// CONF_CONCURRENCY (4), CONF_PREFETCH (0), CONF_GRACE_MS (25000), CONF_LEASE_TTL_MS, CONF_LOG (a file that gets a line
// per start and end of a handler). Prints "ready" once it is connected.
import { appendFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { Client, Discard, NonRetryable, Release, RetryAfter, Snooze, Worker } from "../dist/index.js";

class ConfError extends Error {
  name = "ConfError";
}

const tasks = {
  "conf.echo": (input) => input,
  "conf.copy": (input) => input,
  "conf.add": ({ numbers, plus }) => ({ numbers: numbers.map((number) => BigInt(number) + BigInt(plus)) }),
  "conf.typed": ({ n }) => ({ n }),
  "conf.context": (_input, { headers, tags }) => ({ headers, tags }),
  "conf.sleep": async ({ ms }, ctx) => {
    await sleep(ms, undefined, { signal: ctx.signal });
    return { slept: ms };
  },
  "conf.block": ({ ms }) => {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
    return { blocked: ms };
  },
  "conf.wait": (_input, ctx) =>
    new Promise((_resolve, reject) => {
      const abort = () => reject(ctx.signal.reason);
      if (ctx.signal.aborted) abort();
      ctx.signal.addEventListener("abort", abort);
    }),
  "conf.hang": async ({ ms }) => {
    await sleep(ms);
    return { hung: ms };
  },
  "conf.fail": ({ message, times }, ctx) => {
    if (times === undefined || ctx.attempt <= times) throw new ConfError(message);
    return { attempt: ctx.attempt };
  },
  "conf.no_retry": () => {
    throw new NonRetryable("hopeless");
  },
  "conf.discard": () => {
    throw new Discard("nobody cares");
  },
  "conf.retry_after": ({ ms }, ctx) => {
    if (ctx.attempt === 1) throw new RetryAfter(ms);
    return { attempt: ctx.attempt };
  },
  "conf.snooze": ({ ms }, ctx) => {
    if (ctx.delivery === 1) throw new Snooze(ms);
    return { delivery: ctx.delivery };
  },
  "conf.release": (_input, ctx) => {
    if (ctx.delivery === 1) throw new Release();
    return { delivery: ctx.delivery };
  },
  "conf.progress": (_input, ctx) => {
    ctx.progress(10);
    ctx.progress({ current: 5, total: 10, message: "half", data: { k: 1 } });
    return {};
  },
  "conf.log": (_input, ctx) => {
    ctx.log.info("one");
    ctx.log.warn("two");
    ctx.log.error("three");
    return {};
  },
  "conf.checkpoint": (_input, ctx) => {
    if (ctx.attempt > 1) return { checkpoint: ctx.checkpoint };
    ctx.saveCheckpoint({ step: 1 });
    throw new ConfError("after the checkpoint");
  },
  "conf.crash": () => {
    process.kill(process.pid, "SIGKILL");
    return new Promise(() => {});
  },
  "conf.enqueue": async ({ queue, always, fail }, ctx) => {
    await ctx.enqueue("conf.context", { parent: ctx.jobId }, { always, ...(queue && { queue }) });
    if (fail) throw new ConfError("after all");
    return {};
  },
  "conf.end": ({ how }, ctx) => {
    ctx.saveCheckpoint({ step: 1 });
    const ends = {
      fail: () => new ConfError("as told"),
      no_retry: () => new NonRetryable("as told"),
      discard: () => new Discard("as told"),
      retry_after: () => new RetryAfter("30s"),
      snooze: () => new Snooze("30s"),
      release: () => new Release("as told"),
    };
    if (how in ends) throw ends[how]();
    return {};
  },
  "conf.leave": (_input, ctx) =>
    new Promise((_resolve, reject) => {
      ctx.progress(1);
      ctx.signal.addEventListener("abort", () => {
        console.error(`told to stop: ${ctx.cancelReason}`);
        ctx.saveCheckpoint({ reason: ctx.cancelReason });
        reject(ctx.signal.reason);
      });
    }),
  "conf.at_risk": async (_input, ctx) => {
    while (!ctx.leaseAtRisk) await sleep(20);
    return { at_risk: true };
  },
  "conf.big": ({ bytes }) => ({ data: "x".repeat(bytes) }),
};

const { env } = process;
const number = (name, fallback) => (env[name] ? Number(env[name]) : fallback);
const record = (...words) => env.CONF_LOG && appendFileSync(env.CONF_LOG, `${words.join(" ")}\n`);

const worker = new Worker(new Client(), {
  queues: env.CONF_QUEUES?.split(","),
  concurrency: number("CONF_CONCURRENCY", 4),
  prefetch: number("CONF_PREFETCH", 0),
  grace: number("CONF_GRACE_MS", 25_000),
  leaseTtl: number("CONF_LEASE_TTL_MS", undefined),
});
for (const [name, handler] of Object.entries(tasks)) {
  worker.handle(name, async (input, ctx) => {
    const mark = [ctx.jobId, ctx.attempt, ctx.delivery, process.pid];
    record("start", ...mark, Date.now());
    let how = "ok";
    try {
      return await handler(input, ctx);
    } catch (error) {
      how = error?.constructor?.name ?? typeof error;
      throw error;
    } finally {
      record("end", ...mark, Date.now(), how);
    }
  });
}
worker.once("ready", () => process.stdout.write("ready\n"));
await worker.run();
