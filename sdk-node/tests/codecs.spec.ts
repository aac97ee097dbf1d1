// Codecs from producer to worker and back, with handlers here and in threads. Needs JOBWIRE_BIN.
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Client, gzip, JobFailed, Payload, Worker, type Codec } from "../src/index.js";
import { silent } from "./support/fixture.js";
import { RealServer } from "./support/real-server.js";

const PATIENCE = { timeout: "20s" } as const;

const xor: Codec = {
  encoding: "xor",
  encode: (data) => data.map((byte) => byte ^ 0x5a),
  decode: (data) => data.map((byte) => byte ^ 0x5a),
};

describe("codecs, with the real server", () => {
  it("cover inputs, results, checkpoints and jobs of handlers, and the server sees none of it", async (test) => {
    const server = await RealServer.start();
    const client = new Client({ url: server.url, codecs: [gzip(), xor] });
    const bare = new Client({ url: server.url });
    const worker = new Worker(client, { signals: false, logger: silent, queues: ["q"] })
      .handle("here", async ({ secret, big }, ctx) => {
        if (ctx.attempt === 1) {
          ctx.saveCheckpoint({ secret });
          throw new Error("again");
        }
        await ctx.enqueue("child", { secret }, { queue: "q", id: "019ab2c4-7d1e-7003-9c55-5b1f0e6a4d21" });
        return { secret, big, checkpoint: ctx.checkpoint };
      })
      .handle("child", (input) => input)
      .handle("thread", new URL("../../tests/modules/handler.mjs", import.meta.url), { threads: 1 });
    const done = worker.run();
    test.after(async () => {
      await worker.stop({ grace: 0 });
      await done;
      await Promise.all([client.close(), bare.close()]);
      await server.stop();
    });

    const secret = "s3cret ".repeat(400);
    const options = { queue: "q", retry: { initialDelay: 10 } };
    const job = await client.enqueue("here", { secret, big: 2n ** 70n }, options);
    assert.deepEqual(await job.result(PATIENCE), { secret, big: 2n ** 70n, checkpoint: { secret } });
    const raw = (await bare.job(job.id).result(PATIENCE)) as Payload;
    assert.ok(raw instanceof Payload);
    assert.deepEqual([raw.contentType, raw.contentEncoding], ["application/json", "gzip,xor"]);
    assert.ok(!Buffer.from(raw.data as Uint8Array).includes("s3cret"));

    const speak = await client.enqueue("thread", { act: "resume", secret }, options);
    assert.deepEqual(await speak.result(PATIENCE), { checkpoint: { secret }, attempt: 2 });

    const foreign = await bare.enqueue("here", new Payload(Buffer.from("x"), "application/json", "rot13"), options);
    await assert.rejects(foreign.result(PATIENCE), (error) => error instanceof JobFailed && error.failure?.kind === "unprocessable" && /rot13/.test(error.message));
  });
});
