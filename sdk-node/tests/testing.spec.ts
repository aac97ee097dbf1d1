// jobwire/testing without a server: fake and inline.
import assert from "node:assert/strict";
import { describe, it, type TestContext } from "node:test";
import {
  AlreadyExists, Client, DeadlineExceeded, defineTask, Discard, FailedPrecondition, JobCancelled, JobExpired, JobFailed, NonRetryable,
  NotFound, RetryAfter, Snooze, Unavailable, Unimplemented, Worker, type JobEvent,
} from "../src/index.js";
import { fake, inline } from "../src/testing.js";

const greet = defineTask<{ name: string }, string>("greet", { queue: "hello" });
const note = defineTask<{ n: number }, number>("note");

/** A client that reaches nothing, and a worker that notes what it ran and when. */
function setup(test: TestContext) {
  const client = new Client({ url: "jobwire://127.0.0.1:1" });
  const ran: string[] = [];
  const start = Date.now();
  const worker = new Worker(client, { signals: false })
    .handle(greet, ({ name }) => `Hello, ${name}!`)
    .handle(note, ({ n }, ctx) => {
      ran.push(`${n}.${ctx.attempt}`);
      return n;
    });
  const jobs = fake(client, worker);
  test.after(async () => {
    jobs.restore();
    await client.close();
  });
  const elapsed = () => jobs.now.getTime() - started;
  const started = jobs.now.getTime();
  assert.ok(started >= start);
  return { client, worker, jobs, ran, elapsed };
}

describe("fake", () => {
  it("records and sends nothing, until the client is its own again", async (test) => {
    const { client, jobs } = setup(test);
    const job = await client.enqueue(greet, { name: "Ada" }, { delay: "10m", tags: ["vip"], retry: 3, unique: { key: "k", scope: "until_started" } });
    assert.equal(job.enqueued, "created");
    const [recorded] = jobs.enqueued;
    assert.deepEqual(recorded, {
      id: job.id, type: "greet", queue: "hello", input: { name: "Ada" }, dueAt: new Date(jobs.now.getTime() + 600_000),
      options: { tags: ["vip"], retry: { maxAttempts: 3 }, unique: { key: "k", scope: "until_started" } },
    });
    assert.equal((await job.status()).state, "scheduled");
    jobs.restore();
    await assert.rejects(client.enqueue(greet, { name: "Ada" }, { deadline: 200 }), Unavailable);
  });

  it("says what was enqueued instead, when an assertion fails", async (test) => {
    const { client, jobs } = setup(test);
    jobs.assertEnqueued(greet, undefined, 0);
    assert.throws(() => jobs.assertEnqueued(greet), /greet was to be enqueued once or more, and was 0 times. Enqueued: nothing/);
    await client.enqueueMany(greet, [{ name: "Ada" }, { name: "Bob" }]);
    jobs.assertEnqueued(greet, { name: "Ada" }, 1);
    jobs.assertEnqueued("greet", undefined, 2);
    assert.throws(() => jobs.assertEnqueued(greet, { name: "Eve" }), /greet with { name: 'Eve' } .* was 0 times. Enqueued:\n  greet { name: 'Ada' }\n  greet/);
    assert.throws(() => jobs.assertEnqueued(greet, { name: "Ada" }, 2), { name: "AssertionError" });
    jobs.clear();
    assert.deepEqual(jobs.enqueued, []);
  });

  it("runs what is due, first by time, then by priority", async (test) => {
    const { client, jobs, ran, elapsed } = setup(test);
    await client.enqueue(note, { n: 1 }, { priority: -1 });
    await client.enqueue(note, { n: 2 }, { delay: "2m" });
    await client.enqueue(note, { n: 3 }, { at: new Date(jobs.now.getTime() + 60_000) });
    await client.enqueue(note, { n: 4 }, { priority: 2 });
    const waiting = await client.enqueue("nobody.handles", {});
    assert.equal(await jobs.run(), 2);
    assert.deepEqual(ran, ["4.1", "1.1"]);
    assert.equal(await jobs.advance("10m"), 2);
    assert.deepEqual(ran, ["4.1", "1.1", "3.1", "2.1"]);
    assert.equal(elapsed(), 600_000);
    assert.equal((await waiting.status()).state, "ready");
  });

  it("answers results, events and status as the server does", async (test) => {
    const { client, jobs } = setup(test);
    const job = await client.enqueue(greet, { name: "Ada" });
    const early = job.result();
    await assert.rejects(job.result({ timeout: 10 }), DeadlineExceeded);
    const events: JobEvent[] = [];
    const watching = (async () => {
      for await (const event of job.events()) events.push(event);
    })();
    await jobs.run();
    await watching;
    assert.deepEqual([await early, await job.result()], ["Hello, Ada!", "Hello, Ada!"]);
    assert.deepEqual(events.map((event) => event.kind === "state" && event.state).filter(Boolean).at(-1), "succeeded");
    const { state, attempt, delivery, queue } = await job.status();
    assert.deepEqual({ state, attempt, delivery, queue }, { state: "succeeded", attempt: 1, delivery: 1, queue: "hello" });
    await assert.rejects(client.job("019ab2c4-7d1e-7003-9c55-5b1f0e6a4d21").result(), NotFound);
  });

  it("retries by the policy without jitter, and obeys what handlers throw", async (test) => {
    const { client, worker, jobs, elapsed } = setup(test);
    const at: number[] = [];
    worker.handle("flaky", (_input, ctx) => {
      at.push(elapsed());
      if (ctx.delivery === 1) throw new Error("first");
      if (ctx.delivery === 2) throw new Error("second");
      if (ctx.delivery === 3) throw new RetryAfter("1h");
      if (ctx.delivery === 4) throw new Snooze("1d");
      return { attempt: ctx.attempt, failed: ctx.lastFailure?.type };
    });
    const job = await client.enqueue("flaky", {}, { retry: { initialDelay: "1m", multiplier: 3, jitter: 0.5 } });
    await jobs.run();
    assert.equal((await job.status()).state, "retrying");
    assert.equal((await job.status()).failure?.message, "first");
    await jobs.advance("2d");
    const minute = 60_000;
    assert.deepEqual(at, [0, minute, 4 * minute, 64 * minute, 64 * minute + 1_440 * minute]);
    assert.deepEqual(await job.result(), { attempt: 4, failed: "RetryAfter" });
  });

  it("ends jobs that are hopeless, used up or listed", async (test) => {
    const { client, worker, jobs } = setup(test);
    worker.handle("bad", ({ how }: { how: string }) => {
      throw { stop: new NonRetryable("no"), discard: new Discard("no"), type: new TypeError("no") }[how] ?? new Error("no");
    });
    const state = async (how: string, retry?: object) => {
      const job = await client.enqueue("bad", { how }, retry && { retry });
      await jobs.advance("1d");
      const error = await job.result().then(() => assert.fail(how), (error: unknown) => error as JobFailed);
      return [error.state, (await job.status()).delivery];
    };
    assert.deepEqual(await state("stop"), ["dead", 1]);
    assert.deepEqual(await state("discard"), ["discarded", 1]);
    assert.deepEqual(await state("other", { maxAttempts: 3 }), ["dead", 3]);
    assert.deepEqual(await state("other", { maxAttempts: 2, onExhausted: "discard" }), ["discarded", 2]);
    assert.deepEqual(await state("type", { nonRetryableTypes: ["Type*"] }), ["dead", 1]);
    assert.deepEqual(await state("other", { maxAttempts: 3, delays: ["1s"] }), ["dead", 3]);
    const job = await client.enqueue("bad", { how: "stop" });
    await jobs.run();
    assert.equal(await job.retry(), true);
    await jobs.run();
    assert.equal((await job.status()).delivery, 2);
  });

  it("expires what did not start in time", async (test) => {
    const { client, jobs, elapsed } = setup(test);
    const late = await client.enqueue("nobody.handles", {}, { delay: "1m", ttl: "1m" });
    const fixed = await client.enqueue("nobody.handles", {}, { expireAt: new Date(jobs.now.getTime() + 30_000) });
    const timely = await client.enqueue(note, { n: 1 }, { ttl: "1m" });
    await jobs.advance("119s");
    await assert.rejects(fixed.result(), JobExpired);
    assert.equal((await late.status()).state, "ready");
    await jobs.advance("1s");
    await assert.rejects(late.result(), JobExpired);
    assert.equal(await timely.result(), 1);
    assert.equal(elapsed(), 120_000);
  });

  it("cancels what waits, and what runs through its signal", async (test) => {
    const { client, worker, jobs } = setup(test);
    const waiting = await client.enqueue(note, { n: 1 });
    assert.equal(await waiting.cancel("not needed"), true);
    assert.equal(await waiting.cancel(), false);
    await assert.rejects(waiting.result(), JobCancelled);
    worker.handle("long", async (_input, ctx) => {
      await client.job(ctx.jobId).cancel("user left");
      ctx.signal.throwIfAborted();
    });
    const running = await client.enqueue("long");
    await jobs.run();
    await assert.rejects(running.result(), /user left/);
  });

  it("lets handlers enqueue and wait for others, and stops one that never ends", async (test) => {
    const { client, worker, jobs, ran } = setup(test);
    worker.handle("parent", async (_input, ctx) => {
      await ctx.enqueue(note, { n: 7 });
      const child = await client.enqueue(greet, { name: "child" });
      return [await child.result(), await client.run(greet, { name: "run" })];
    });
    worker.handle("echo", (_input, ctx) => ctx.enqueue("echo", {}));
    const job = await client.enqueue("parent");
    await jobs.run();
    assert.deepEqual(await job.result(), ["Hello, child!", "Hello, run!"]);
    assert.deepEqual(ran, ["7.1"]);
    assert.deepEqual(jobs.enqueued.map(({ type }) => type), ["parent", "greet", "greet", "note"]);
    await client.enqueue("echo");
    await assert.rejects(jobs.run(), /10000 attempts and no end: echo/);
  });

  it("refuses what it would only pretend to do", async (test) => {
    const { client } = setup(test);
    await assert.rejects(client.enqueue(note, { n: 1 }, { totalTimeout: "1h" }), (error: unknown) => error instanceof Unimplemented && error.field === "totalTimeout");
    await assert.rejects(client.enqueue(note, { n: 1 }, { after: ["019ab2c4-7d1e-7003-9c55-5b1f0e6a4d21"] }), Unimplemented);
  });
});

describe("inline", () => {
  it("runs a job to its end before its enqueue returns", async () => {
    await using client = new Client({ url: "jobwire://127.0.0.1:1" });
    let tries = 0;
    const worker = new Worker(client)
      .handle(greet, ({ name }) => `Hello, ${name}!`)
      .handle("third", (input: { at: unknown }, ctx) => {
        tries += 1;
        if (ctx.attempt < 3) throw new Error("not yet");
        return input;
      })
      .handle("never", () => {
        throw new NonRetryable("no");
      });
    using jobs = inline(client, worker);
    const job = await client.enqueue(greet, { name: "Ada" }, { delay: "1d" });
    assert.equal((await job.status()).state, "succeeded");
    assert.equal(await job.result(), "Hello, Ada!");
    assert.equal(await client.run(greet, { name: "Bob" }), "Hello, Bob!");
    const at = new Date(0);
    assert.deepEqual(await client.run("third", { at }), { at: at.toISOString() });
    assert.equal(tries, 3);
    await assert.rejects(client.run("never"), JobFailed);
    await assert.rejects(client.enqueue("unknown"), (error: unknown) => error instanceof FailedPrecondition && /no handler for unknown/.test(error.message));
    jobs.assertEnqueued(greet, { name: "Ada" }, 1);
    await assert.rejects(client.enqueue(greet, { name: "other" }, { id: job.id }), AlreadyExists);
  });
});
