// Fairness keys, throttles and deadlines through the real server. Needs JOBWIRE_BIN.
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Client, defineTask, JobExpired, JobFailed, Snooze, Worker, type Context, type Task, type WorkerOptions } from "../src/index.js";
import { silent } from "./support/fixture.js";
import { RealServer } from "./support/real-server.js";

const PATIENCE = { timeout: "20s" } as const;
type In = { n: number };

describe("flow control", () => {
  let server: RealServer;
  let client: Client;

  before(async () => {
    server = await RealServer.start();
    client = new Client({ url: server.url });
  });

  after(async () => {
    await client?.close();
    await server?.stop();
  });

  async function working(type: string, handler: (input: In, ctx: Context) => unknown, act: (task: Task<In, unknown>) => Promise<void>, options: WorkerOptions = {}) {
    const task = type.startsWith("keys.") ? makeTask(type) : defineTask<In, unknown>(type);
    const worker = new Worker(client, { signals: false, logger: silent, prefetch: 0, ...options }).handle(task, handler);
    const done = worker.run();
    try {
      await act(task);
    } finally {
      await worker.stop({ grace: 0 });
      await done;
    }
  }

  const makeTask = (type: string) => defineTask<In, unknown>(type, { fairnessKey: ({ n }) => (n % 2 === 0 ? "even" : "odd") });

  it("lets keys take turns, whoever came first", async () => {
    const task = makeTask("keys.turns");
    const put = await client.enqueueMany(task, [...Array.from({ length: 20 }, (_, i) => ({ n: 2 * i })), { n: 1 }, { n: 3 }]);
    const order: number[] = [];
    await working("keys.turns", ({ n }) => void order.push(n), async () => {
      await Promise.all(put.map(({ job }) => job!.result(PATIENCE)));
    }, { concurrency: 1 });
    assert.ok(order.indexOf(1) < 4 && order.indexOf(3) < 6, `${order}`);
    assert.equal((await client.jobs.get(put[0]!.job!.id)).fairnessKey, "even");
  });

  it("runs as many jobs of a key at once as its queue says", async () => {
    await client.queues.set("keys.at-once", { maxRunningPerKey: 1 });
    const running = { even: 0, odd: 0 };
    let most = 0;
    const handler = async ({ n }: In) => {
      const key = n % 2 === 0 ? "even" : "odd";
      most = Math.max(most, ++running[key]);
      await sleep(5);
      running[key] -= 1;
    };
    await working("keys.at-once", handler, async (task) => {
      const put = await client.enqueueMany(task, Array.from({ length: 20 }, (_, n) => ({ n })));
      await Promise.all(put.map(({ job }) => job!.result(PATIENCE)));
    });
    assert.equal(most, 1);
  });

  for (const throttle of ["key", "queue"] as const) {
    it(`holds the others of a ${throttle} back that a handler throttles`, async () => {
      const started: { n: number; at: number }[] = [];
      const handler = ({ n }: In, ctx: Context) => {
        if (n === 0 && ctx.delivery === 1) throw new Snooze("600ms", { throttle, reason: "429" });
        started.push({ n, at: performance.now() });
      };
      const type = `keys.throttle.${throttle}`;
      await working(type, handler, async (task) => {
        const first = await client.enqueue(task, { n: 0 });
        for await (const event of first.events()) if (event.kind === "state" && event.job.delivery === 1 && event.state === "scheduled") break;
        const snoozed = performance.now();
        const put = await client.enqueueMany(task, [{ n: 2 }, { n: 1 }]);
        await Promise.all([first, ...put.map(({ job }) => job!)].map((job) => job.result(PATIENCE)));
        const waited = (n: number) => started.find((one) => one.n === n)!.at - snoozed;
        // Less what has passed before the event came.
        assert.ok(waited(2) > 300, `the same key waited ${waited(2)} ms`);
        if (throttle === "queue") assert.ok(waited(1) > 300, `the queue waited ${waited(1)} ms`);
        else assert.deepEqual(started[0]!.n, 1);
      });
    });
  }

  it("ends a job at its total timeout, while it waits and while it runs", async () => {
    const waiting = await client.enqueue("nobody", {}, { totalTimeout: "300ms" });
    await assert.rejects(waiting.result(PATIENCE), JobExpired);
    await working("total", () => {
      throw new Error("again");
    }, async (task) => {
      const retried = await client.enqueue(task, { n: 1 }, { totalTimeout: "400ms", retry: { initialDelay: 100, multiplier: 1 } });
      await assert.rejects(retried.result(PATIENCE), (error: unknown) => error instanceof JobExpired && error.failure !== undefined);
    });
    const stop = ({ signal }: Context) => new Promise((_resolve, reject) => signal.addEventListener("abort", () => reject(signal.reason as Error)));
    await working("total.run", (_, ctx) => stop(ctx), async (task) => {
      await assert.rejects((await client.enqueue(task, { n: 1 }, { totalTimeout: "400ms" })).result(PATIENCE), JobExpired);
    });
  });

  it("ends an attempt that is silent for its heartbeat timeout; progress keeps it alive", async () => {
    const handler = async ({ n }: In, ctx: Context) => {
      for (let i = 0; i < 8 && n === 1; i++) {
        ctx.progress(i);
        await sleep(100);
      }
      if (n === 1) return "alive";
      return new Promise((_resolve, reject) => ctx.signal.addEventListener("abort", () => reject(ctx.signal.reason as Error)));
    };
    await working("silent", handler, async (task) => {
      const options = { heartbeatTimeout: "500ms", retry: 1 } as const;
      const [alive, silent] = await Promise.all([client.enqueue(task, { n: 1 }, options), client.enqueue(task, { n: 2 }, options)]);
      await assert.rejects(silent.result(PATIENCE), (error: unknown) => error instanceof JobFailed && error.failure?.kind === "stalled");
      assert.equal(await alive.result(PATIENCE), "alive");
    });
  });
});
