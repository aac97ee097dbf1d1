// Producer and worker through the real server. Needs JOBWIRE_BIN.
import assert from "node:assert/strict";
import { execFile, spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import {
  AlreadyExists, Client, InvalidArgument, JobCancelled, JobFailed, NotFound, Worker, type Job, type JobEvent, type JobOptions,
} from "../src/index.js";
import { Proxy } from "./support/proxy.js";
import { RealServer } from "./support/real-server.js";

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url));
const WORKER = path("../../tests/conformance-worker.mjs");
const HELLO = path("../examples/hello.js");

const PATIENCE = { timeout: "20s" } as const;
/** Failures of these tests are retried at once. */
const SOON: JobOptions = { retry: { initialDelay: 10, jitter: 0 } };

describe("with the real server", () => {
  let server: RealServer;
  let client: Client;
  let worker: ChildProcess;

  before(async () => {
    server = await RealServer.start();
    client = new Client({ url: server.url });
    worker = await startWorker();
  });

  after(async () => {
    await client?.close();
    if (worker && worker.exitCode === null) {
      const exited = once(worker, "exit");
      worker.kill("SIGKILL");
      await exited;
    }
    await server?.stop();
  });

  async function startWorker(env: Record<string, string> = {}): Promise<ChildProcess> {
    const child = spawn(process.execPath, [WORKER], {
      env: { ...process.env, JOBWIRE_URL: server.url, ...env },
      stdio: ["ignore", "pipe", "inherit"],
    });
    const [line] = (await once(child.stdout!, "data")) as [Buffer];
    assert.equal(line.toString(), "ready\n");
    return child;
  }

  const run = (type: string, input: object = {}, options: JobOptions = SOON) => client.run(type, input, { ...options, wait: "20s" });

  /** The failure of a job that must not succeed. */
  async function failure(job: Job): Promise<JobFailed> {
    return job.result(PATIENCE).then(
      (value) => assert.fail(`succeeded with ${JSON.stringify(value)}`),
      (error: unknown) => (error instanceof JobFailed ? error : Promise.reject(error)),
    );
  }

  it("says hello as the README shows", async () => {
    const { stdout } = await promisify(execFile)(process.execPath, [HELLO], { env: { ...process.env, JOBWIRE_URL: server.url } });
    assert.equal(stdout.trim(), "Hello, Ada!");
  });

  it("carries values exactly", async () => {
    const value = { text: "Grüße, 世界 💥 \u0000", big: 2n ** 63n + 1n, float: -0.1, nested: [null, true, { "": [] }] };
    assert.deepEqual(await run("conf.echo", value), value);
    assert.deepEqual(await run("conf.big", { bytes: 500_000 }), { data: "x".repeat(500_000) });
  });

  it("retries, gives up, discards, waits, snoozes and releases as the handler says", async () => {
    assert.deepEqual(await run("conf.fail", { message: "once", times: 1 }), { attempt: 2 });
    assert.deepEqual(await run("conf.retry_after", { ms: 20 }), { attempt: 2 });
    assert.deepEqual(await run("conf.snooze", { ms: 20 }), { delivery: 2 });
    assert.deepEqual(await run("conf.release"), { delivery: 2 });
    assert.deepEqual(await run("conf.checkpoint"), { checkpoint: { step: 1 } });

    const dead = await failure(await client.enqueue("conf.fail", { message: "always" }, { retry: { maxAttempts: 2, initialDelay: 10 } }));
    assert.equal(dead.state, "dead");
    assert.equal(dead.failure?.type, "ConfError");
    assert.equal(dead.failure?.message, "always");
    assert.equal((await failure(await client.enqueue("conf.no_retry"))).state, "dead");
    assert.equal((await failure(await client.enqueue("conf.discard"))).state, "discarded");
  });

  it("ends an attempt at its timeout", async () => {
    const error = await failure(await client.enqueue("conf.sleep", { ms: 60_000 }, { timeout: 100, retry: 1 }));
    assert.equal(error.failure?.kind, "timeout");
  });

  it("cancels a running job through its signal, and a waiting one at once", async () => {
    const running = await client.enqueue("conf.wait");
    for await (const event of running.events()) {
      if (event.kind === "state" && event.state === "running") assert.equal(await running.cancel("user left"), true);
    }
    await assert.rejects(running.result(PATIENCE), JobCancelled);
    const waiting = await client.enqueue("conf.echo", {}, { delay: "1h" });
    assert.equal((await waiting.status()).state, "scheduled");
    assert.equal(await waiting.cancel(), true);
    await assert.rejects(waiting.result(PATIENCE), JobCancelled);
    assert.equal(await waiting.cancel(), false);
  });

  it("shows progress and log lines while they happen", async () => {
    const lines = await eventsOf(await client.enqueue("conf.log"));
    assert.deepEqual(lines.flatMap((event) => (event.kind === "log" ? [`${event.line.level} ${event.line.message}`] : [])), ["info one", "warn two", "error three"]);
    assert.equal(lines.findLast((event) => event.kind === "state")?.state, "succeeded");
    const job = await client.enqueue("conf.progress");
    await job.result(PATIENCE);
    const { progress } = await job.status();
    assert.deepEqual(progress, { current: 5, total: 10, message: "half", data: { k: 1 } });
  });

  async function eventsOf(job: Job): Promise<JobEvent[]> {
    const events: JobEvent[] = [];
    for await (const event of job.events()) events.push(event);
    return events;
  }

  it("takes the same id once", async () => {
    const first = await client.enqueue("conf.echo", { n: 1 });
    const again = await client.enqueue("conf.echo", { n: 1 }, { id: first.id });
    assert.deepEqual([again.id, again.enqueued], [first.id, "duplicate"]);
    await assert.rejects(client.enqueue("conf.echo", { n: 2 }, { id: first.id }), AlreadyExists);
  });

  it("enqueues by the thousand and gives each its own result", async () => {
    const inputs = Array.from({ length: 2_000 }, (_, i) => ({ i }));
    const items = await client.enqueueMany("conf.echo", inputs);
    const results = await Promise.all(items.map((item) => item.job!.result(PATIENCE)));
    assert.deepEqual(results, inputs);
    const jobs = await Promise.all(inputs.slice(0, 256).map((input) => client.enqueue("conf.echo", input)));
    assert.deepEqual(await Promise.all(jobs.map((job) => job.result(PATIENCE))), inputs.slice(0, 256));
  });

  it("streams jobs in, and gives each its own result", async () => {
    const inputs = Array.from({ length: 3_000 }, (_, i) => ({ i }));
    const jobs: Job[] = [];
    for await (const { job } of client.enqueueStream("conf.echo", inputs)) jobs.push(job!);
    assert.deepEqual(await Promise.all(jobs.map((job) => job.result(PATIENCE))), inputs);
  });

  it("reports errors by class and field", async () => {
    await assert.rejects(client.enqueue("no such name!"), InvalidArgument);
    await assert.rejects(client.job("019ab2c4-7d1e-7003-9c55-5b1f0e6a4d21").status(), NotFound);
    await assert.rejects(client.job("019ab2c4-7d1e-7003-9c55-5b1f0e6a4d21").result(PATIENCE), NotFound);
  });

  it("runs a dead job again when asked", async () => {
    const job = await client.enqueue("conf.fail", { message: "again" }, { retry: 1 });
    assert.equal((await failure(job)).state, "dead");
    assert.equal(await job.retry(), true);
    assert.equal((await failure(job)).state, "dead");
    assert.equal((await job.status()).delivery, 2);
  });

  it("keeps running jobs over broken connections, and runs none of them twice", async (test) => {
    const proxy = await Proxy.to(server.url);
    const through = new Client({ url: proxy.url });
    let finish!: () => void;
    const held = new Promise<void>((resolve) => (finish = resolve));
    let started = 0;
    const ready: (() => void)[] = [];
    const local = new Worker(through, { signals: false, concurrency: 8, logger: { info() {}, warn() {}, error() {} } }).handle("net.hold", async () => {
      started += 1;
      for (const wake of ready.splice(0)) wake();
      await held;
      return "held";
    });
    const done = local.run();
    test.after(async () => {
      finish();
      await local.stop({ grace: 0 });
      await through.close();
      proxy.close();
    });
    const jobs = await Promise.all(Array.from({ length: 6 }, () => client.enqueue("net.hold")));
    while (started < 6) await new Promise<void>((resolve) => ready.push(resolve));
    for (let i = 0; i < 3; i++) {
      const reconnected = once(local, "connected");
      proxy.cut();
      await reconnected;
    }
    finish();
    proxy.cut();
    const results = await Promise.all(jobs.map((job) => job.result(PATIENCE)));
    assert.deepEqual(new Set(results), new Set(["held"]));
    for (const job of jobs) assert.deepEqual([(await job.status()).attempt, (await job.status()).delivery], [1, 1]);
    assert.equal(started, 6);
    await local.stop();
    await done;
  });

  it("loses nothing when its worker drains and another comes", async () => {
    const jobs = await Promise.all(Array.from({ length: 12 }, () => client.enqueue("conf.sleep", { ms: 200 })));
    const first = jobs[0]!;
    for await (const event of first.events()) if (event.kind === "state" && event.state === "running") break;
    const exited = once(worker, "exit");
    worker.kill("SIGTERM");
    worker = await startWorker();
    assert.deepEqual(await exited, [0, null]);
    const results = await Promise.all(jobs.map((job) => job.result(PATIENCE)));
    assert.ok(results.every((result) => (result as { slept: number }).slept === 200));
    for (const job of jobs) assert.equal((await job.status()).attempt, 1);
  });
});

describe("over the death of the server", () => {
  it("loses no accepted job and runs none twice that was held", async (test) => {
    const folder = mkdtempSync(join(tmpdir(), "jobwire-restart-"));
    const store = `embedded:${folder}`;
    let server = await RealServer.start({ store });
    const client = new Client({ url: server.url });
    const runs = new Map<string, number>();
    let finish!: () => void;
    const held = new Promise<void>((resolve) => (finish = resolve));
    let started = 0;
    let allStarted!: () => void;
    const four = new Promise<void>((resolve) => (allStarted = resolve));
    const count = (id: string) => runs.set(id, (runs.get(id) ?? 0) + 1);
    const worker = new Worker(client, { signals: false, concurrency: 8, logger: { info() {}, warn() {}, error() {} } })
      .handle("hold", async (_input, ctx) => {
        count(ctx.jobId);
        if (++started === 4) allStarted();
        await held;
      })
      .handle("quick", (input, ctx) => {
        count(ctx.jobId);
        return input;
      });
    const done = worker.run();
    test.after(async () => {
      finish();
      await worker.stop({ grace: 0 });
      await client.close();
      await server.stop();
      rmSync(folder, { recursive: true });
    });
    const holding = await Promise.all(Array.from({ length: 4 }, () => client.enqueue("hold")));
    await four;

    const reconnected = once(worker, "connected");
    await server.kill();
    // Enqueued while there is no server: the client repeats them with their ids.
    const enqueued = Promise.all(Array.from({ length: 100 }, (_, i) => client.enqueue("quick", { i })));
    server = await RealServer.start({ store, listen: server.url.replace("jobwire://", "") });
    const quick = await enqueued;
    await reconnected;
    finish();

    const results = await Promise.all(quick.map((job) => job.result(PATIENCE)));
    assert.deepEqual(results, quick.map((_, i) => ({ i })));
    await Promise.all(holding.map((job) => job.result(PATIENCE)));
    for (const job of holding) assert.equal((await job.status()).delivery, 1);
    assert.deepEqual(new Set(runs.values()), new Set([1]));
    assert.equal(runs.size, 104);
    await worker.stop();
    await done;
  });
});
