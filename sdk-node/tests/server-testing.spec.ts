// jobwire/testing with the real server: the server itself, the fake held to it, and vitest. Needs JOBWIRE_BIN.
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Client, JobwireError, NonRetryable, RetryAfter, Snooze, Worker, type Job } from "../src/index.js";
import { fake, testServer } from "../src/testing.js";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const quiet = { info() {}, warn() {}, error() {} };

describe("testServer", () => {
  it("serves on free ports and ends with its block", async () => {
    let url: string;
    {
      await using server = await testServer();
      await using other = await testServer();
      assert.notEqual(server.url, other.url);
      assert.equal((await fetch(`${server.httpUrl}/healthz`)).status, 200);
      const job = await server.client().enqueue("x");
      assert.equal((await job.status()).state, "ready");
      url = server.httpUrl;
    }
    await assert.rejects(fetch(url));
  });

  it("says what to do without a program, and what the program said", async () => {
    await assert.rejects(testServer({ binary: "no-such-jobwire" }), /no program "no-such-jobwire": set JOBWIRE_BIN .* or put jobwire on the PATH/);
    await assert.rejects(testServer({ args: ["--lease-ttl", "soon"] }), /the test server did not start: it ended with \d+\n.*lease-ttl/s);
  });

  it("ends with its owner, even a killed one", async () => {
    const script = `import { testServer } from "jobwire/testing"; const server = await testServer(); console.log(server.httpUrl); setInterval(() => {}, 1000);`;
    const owner = spawn(process.execPath, ["--input-type=module", "-e", script], { cwd: ROOT, stdio: ["ignore", "pipe", "inherit"] });
    const [line] = (await once(owner.stdout!, "data")) as [Buffer];
    const lives = () => fetch(`${line.toString().trim()}/healthz`).then(() => true, () => false);
    assert.equal(await lives(), true);
    owner.kill("SIGKILL");
    await once(owner, "exit");
    while (await lives());
  });
});

/** What a program sees of its jobs: the same on the fake and on the server. */
type Scene = (client: Client, settle: (...jobs: Job[]) => Promise<void>) => Promise<unknown>;

const tried = async <T>(work: Promise<T>): Promise<T | string> => work.catch((error: JobwireError) => `${error.code} ${error.reason}`);
const how = async (job: Promise<Job>) => tried(job.then(({ enqueued }) => enqueued));
const soon = { initialDelay: 1, jitter: 0 } as const;

const scenes: Record<string, Scene> = {
  "ids and idempotency keys": async (client) => {
    const id = "019ab2c4-7d1e-7003-9c55-5b1f0e6a4d21";
    const key = { idempotencyKey: "order-7" };
    return [
      await how(client.enqueue("p.none", { n: 1 }, { id })),
      await how(client.enqueue("p.none", { n: 1 }, { id })),
      await how(client.enqueue("p.none", { n: 2 }, { id })),
      await how(client.enqueue("p.none", { n: 1 }, key)),
      await how(client.enqueue("p.none", { n: 1 }, key)),
      await how(client.enqueue("p.none", { n: 1 }, { ...key, queue: "other" })),
    ];
  },
  "unique jobs": async (client, settle) => {
    const answers: unknown[] = [];
    for (const onConflict of ["keep", "reject", "replace", "debounce"] as const) {
      const unique = { key: onConflict, onConflict };
      const first = await client.enqueue("p.echo", { n: 1 }, { unique, delay: onConflict === "debounce" ? 1 : 0 });
      answers.push(first.enqueued, await how(client.enqueue("p.echo", { n: 2 }, { unique })));
      await settle(first);
      answers.push(await first.result(), await how(client.enqueue("p.none", { n: 3 }, { unique, queue: "p.echo" })));
    }
    const hashed = { unique: {} };
    answers.push(await how(client.enqueue("p.none", { n: 1 }, hashed)), await how(client.enqueue("p.none", { n: 1 }, hashed)));
    answers.push(await how(client.enqueue("p.none", { n: 2 }, hashed)));
    const throttle = { unique: { key: "t", scope: "for_ttl", ttl: "1h" } } as const;
    const job = await client.enqueue("p.echo", {}, throttle);
    await settle(job);
    return [...answers, await how(client.enqueue("p.echo", {}, throttle))];
  },
  "outcomes and attempts": async (client, settle) => {
    const inputs = ["ok", "error", "stop", "after", "snooze"];
    const jobs = await Promise.all(inputs.map((what) => client.enqueue("p.do", { what }, { retry: { maxAttempts: 2, ...soon } })));
    await settle(...jobs);
    return Promise.all(
      jobs.map(async (job) => {
        const result = await job.result().catch((error: JobwireError) => error.name);
        const { state, attempt, delivery, failure } = await job.status();
        return { result, state, attempt, delivery, failure: failure && [failure.kind, failure.type, failure.message] };
      }),
    );
  },
  "cancel and retry": async (client, settle) => {
    const job = await client.enqueue("p.echo", { n: 1 }, { delay: "1h" });
    const answers: unknown[] = [(await job.status()).state, await job.cancel("no"), await job.cancel("no"), (await job.status()).state];
    answers.push(await tried(job.result()), (await job.status()).failure, await job.retry());
    await settle(job);
    const { state, attempt, delivery } = await job.status();
    const long = await client.enqueue("p.long", {});
    const cancelling = settle(long);
    answers.push(await tried(long.result()), (await long.status()).failure?.message);
    await cancelling;
    const unknown = client.job("019ab2c4-7d1e-7003-9c55-5b1f0e6a4d99");
    return [...answers, await job.result(), state, attempt, delivery, await tried(unknown.status()), await tried(unknown.cancel())];
  },
  "progress, logs and checkpoint": async (client, settle) => {
    const job = await client.enqueue("p.report", {}, { retry: soon });
    await settle(job);
    const lines: string[] = [];
    for await (const event of job.events()) if (event.kind === "log") lines.push(`${event.line.index} ${event.line.level} ${event.line.message}`);
    return [await job.result(), (await job.status()).progress, lines];
  },
};

function handlers(client: Client): Worker {
  const did = (what: string, delivery: number): unknown => {
    if (what === "error") throw new TypeError("as asked");
    if (what === "stop") throw new NonRetryable("hopeless");
    if (what === "after" && delivery === 1) throw new RetryAfter(1, "wait");
    if (what === "snooze" && delivery === 1) throw new Snooze(1);
    return delivery;
  };
  return new Worker(client, { signals: false, logger: quiet, queues: ["p.echo", "p.do", "p.report", "p.long"], prefetch: 0 })
    .handle("p.echo", (input) => input)
    .handle("p.do", ({ what }: { what: string }, ctx) => did(what, ctx.delivery))
    .handle("p.long", async (_input, ctx) => {
      await client.job(ctx.jobId).cancel("user left");
      if (!ctx.cancelled) await once(ctx.signal, "abort");
      ctx.signal.throwIfAborted();
    })
    .handle("p.report", (_input, ctx) => {
      if (ctx.attempt > 1) return ctx.checkpoint;
      ctx.log.info("first");
      ctx.log.warn("second");
      ctx.progress(50, { message: "half" });
      ctx.saveCheckpoint({ at: 1 });
      throw new Error("again");
    });
}

describe("fake, held to the server", () => {
  for (const [name, scene] of Object.entries(scenes)) {
    it(name, async () => {
      await using server = await testServer();
      const real = server.client();
      const seen = await scene(real, async (...jobs) => {
        await using worker = handlers(real);
        void worker.run();
        await Promise.allSettled(jobs.map((job) => job.result()));
      });
      await using client = new Client({ url: "jobwire://127.0.0.1:1" });
      using jobs = fake(client, handlers(client));
      const faked = await scene(client, async () => void (await jobs.advance("1m")));
      assert.deepEqual(faked, seen);
    });
  }
});

describe("vitest", () => {
  it("runs with the fixtures", async () => {
    const { stdout } = await promisify(execFile)("node_modules/.bin/vitest", ["run", "--dir", "tests/vitest", "--reporter", "verbose", "--no-color"], { cwd: ROOT });
    assert.match(stdout, /a server of the test's own/);
    assert.match(stdout, /Tests +2 passed/);
  });
});
