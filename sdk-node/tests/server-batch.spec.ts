// Batch handlers through the real server. Needs JOBWIRE_BIN.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { Client, defineTask, JobCancelled, JobFailed, Worker, type BatchHandler, type BatchOptions, type Task, type WorkerOptions } from "../src/index.js";
import { silent } from "./support/fixture.js";
import { RealServer } from "./support/real-server.js";

const PATIENCE = { timeout: "20s" } as const;
const CRASHER = fileURLToPath(new URL("../../tests/batch-crasher.mjs", import.meta.url));

describe("batch handlers with the real server", () => {
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

  async function working<In, Out, T>(
    type: string, options: BatchOptions, handler: BatchHandler<In, Out>, act: (task: Task<In, Out>, worker: Worker) => Promise<T>, more: WorkerOptions = {},
  ): Promise<T> {
    const task = defineTask<In, Out>(type);
    const worker = new Worker(client, { signals: false, logger: silent, ...more }).handleBatch(task, options, handler as never);
    const done = worker.run();
    try {
      return await act(task, worker);
    } finally {
      await worker.stop();
      await done;
    }
  }

  it("run many jobs in few calls, each with its own result", async () => {
    const sizes: number[] = [];
    const square: BatchHandler<{ n: number }, number> = (inputs) => {
      sizes.push(inputs.length);
      return inputs.map(({ n }) => n * n);
    };
    await working("batch.square", { maxSize: 50, linger: "100ms" }, square, async (task) => {
      const put = await client.enqueueMany(task, Array.from({ length: 500 }, (_, n) => ({ n })));
      const results = await Promise.all(put.map(({ job }) => job!.result(PATIENCE)));
      assert.deepEqual(results, Array.from({ length: 500 }, (_, n) => n * n));
    });
    assert.equal(sizes.reduce((sum, size) => sum + size), 500);
    assert.ok(Math.max(...sizes) <= 50 && sizes.length <= 25, `${sizes}`);
  });

  it("retry, cancel and fail single jobs", async () => {
    const seen: string[] = [];
    const handler: BatchHandler<{ name: string }, string> = (_, { jobs }) => {
      for (const job of jobs) {
        seen.push(`${job.input.name}.${job.attempt}`);
        if (job.input.name === "flaky" && job.attempt === 1) job.fail("once");
        else if (job.input.name === "bad") job.fail("always");
        else job.succeed(job.input.name);
      }
    };
    await working("batch.single", { maxSize: 10, linger: "50ms" }, handler, async (task) => {
      const one = (name: string) => client.enqueue(task, { name }, { retry: { maxAttempts: 2, initialDelay: 10, jitter: 0 } });
      const [good, flaky, bad] = await Promise.all([one("good"), one("flaky"), one("bad")]);
      assert.deepEqual([await good.result(PATIENCE), await flaky.result(PATIENCE)], ["good", "flaky"]);
      await assert.rejects(bad.result(PATIENCE), JobFailed);
    });
    assert.deepEqual(seen.toSorted(), ["bad.1", "bad.2", "flaky.1", "flaky.2", "good.1"]);
  });

  it("go on when a job is cancelled", async () => {
    const handler: BatchHandler<{ n: number }, string> = async (inputs, ctx) => {
      ctx.progress(1);
      const second = ctx.jobs.find(({ input }) => input.n === 2)!;
      if (!second.signal.aborted) await once(second.signal, "abort");
      second.fail(second.signal.reason);
      return inputs.map(() => "done");
    };
    await working("batch.cancel", { maxSize: 2, linger: "5s" }, handler, async (task) => {
      const first = await client.enqueue(task, { n: 1 });
      const second = await client.enqueue(task, { n: 2 });
      for await (const event of second.events()) if (event.kind === "progress") break;
      assert.equal(await second.cancel("enough"), true);
      await assert.rejects(second.result(PATIENCE), JobCancelled);
      assert.equal(await first.result(PATIENCE), "done");
    });
  });

  it("give what still gathers back to a drain, untouched", async () => {
    const job = await working("batch.gather", { maxSize: 10, linger: "1m" }, () => {}, async (task) => {
      const waiting = await client.enqueue(task, {});
      for await (const event of waiting.events()) if (event.kind === "state" && event.job.delivery === 1) break;
      return waiting;
    });
    const { state, attempt } = await job.status();
    assert.deepEqual([state, attempt], ["ready", 0]);
  });

  it("run jobs alone that a worker has vanished with", async () => {
    const crasher = spawn(process.execPath, [CRASHER], { env: { ...process.env, JOBWIRE_URL: server.url }, stdio: ["ignore", "ignore", "inherit"] });
    const put = await client.enqueueMany("batch.poison", [1, 2, 3].map((n) => ({ n })));
    await once(crasher, "exit");
    const batches: number[][] = [];
    const handler: BatchHandler<{ n: number }, void> = (inputs) => void batches.push(inputs.map(({ n }) => n));
    await working("batch.poison", { maxSize: 3, linger: "200ms" }, handler, async () => {
      await Promise.all(put.map(({ job }) => job!.result({ timeout: "30s" })));
      assert.equal((await put[0]!.job!.status()).crashes, 1);
    });
    assert.deepEqual(batches.toSorted(), [[1], [2], [3]]);
  });
});
