// Batch handlers: what they are given, and what becomes of each job. On a scripted server, and on fakes.
import assert from "node:assert/strict";
import { describe, it, type TestContext } from "node:test";
import { spanOf } from "../src/duration.js";
import { CancelReason, FailureAction } from "../src/gen/jobwire/v1/worker_service_pb.js";
import {
  Client, currentContext, defineTask, Discard, InvalidArgument, NonRetryable, Worker,
  type BatchContext, type BatchHandler, type BatchOptions, type StandardSchema, type Task, type WorkerOptions,
} from "../src/index.js";
import { fake, inline } from "../src/testing.js";
import { Fixture, silent } from "./support/fixture.js";

type In = { n: number };
const task = defineTask<In, unknown>("b");

/** A worker whose one handler takes batches, and the jobs a scripted server sends it. */
async function batching(handler: BatchHandler<In, unknown>, options: Partial<BatchOptions> = {}, served: Task<any, any> = task) {
  const fixture = await Fixture.start({}, {}, (worker) => worker.handleBatch(served, { maxSize: 3, linger: 0, ...options }, handler));
  const send = (jobs: Record<string, unknown>, more: object = {}) =>
    fixture.stream.send({
      jobs: Object.entries(jobs).map(([token, input]) => ({
        leaseToken: token, attempt: 1, maxAttempts: 20, delivery: 1,
        task: { id: `id-${token}`, type: "b", queue: "b", payload: { body: { case: "text" as const, value: JSON.stringify(input) } } },
        ...more,
      })),
    });
  /** Those of a batch come in one frame. */
  const outcome = async (token: string) => {
    const { frames } = fixture.stream;
    const found = () => frames.all.flatMap(({ outcomes }) => outcomes).find(({ leaseToken }) => leaseToken === token);
    while (!found()) await frames.next(() => true, `the outcome of ${token}`);
    return shown(found()!.result);
  };
  /** Sends jobs and waits for their outcomes, in order of their tokens. */
  const run = async (jobs: Record<string, unknown>) => {
    send(jobs);
    const outcomes = [];
    for (const token of Object.keys(jobs)) outcomes.push(await outcome(token));
    return outcomes;
  };
  return { fixture, send, run, outcome, [Symbol.asyncDispose]: () => fixture[Symbol.asyncDispose]() };
}

function shown(result: { case?: string | undefined; value?: any }): unknown[] {
  const { value } = result;
  if (result.case === "succeeded") return ["succeeded", value.result?.body.value];
  if (result.case === "failed") return [value.failure.type, value.failure.message, FailureAction[value.action]];
  return result.case === "snoozed" ? ["snoozed", Number(value.delay.seconds)] : [result.case];
}

const three = { a: { n: 1 }, b: { n: 2 }, c: { n: 3 } };

describe("batch handlers", () => {
  it("give results in order, or let all succeed", async () => {
    await using list = await batching((inputs) => inputs.map(({ n }) => n * 2));
    assert.deepEqual(await list.run(three), [["succeeded", "2"], ["succeeded", "4"], ["succeeded", "6"]]);
    await using nothing = await batching(async () => {});
    assert.deepEqual(await nothing.run(three), [["succeeded", undefined], ["succeeded", undefined], ["succeeded", undefined]]);
  });

  it("fail each job with what they throw, but for those of which something was said", async () => {
    await using thrown = await batching((_, { jobs: [first, second] }) => {
      first!.succeed({ done: true });
      second!.snooze("60s");
      throw new RangeError("far");
    });
    assert.deepEqual(await thrown.run(three), [["succeeded", '{"done":true}'], ["snoozed", 60], ["RangeError", "far", "UNSPECIFIED"]]);
  });

  it("say how single jobs ended, the last word counts", async () => {
    await using said = await batching((inputs, { jobs: [first, second, third] }) => {
      assert.deepEqual([first!.id, first!.input, first!.attempt], ["id-a", { n: 1 }, 1]);
      first!.fail("no");
      second!.fail(new NonRetryable("never"));
      third!.fail("no");
      third!.retryAfter("30s", "later");
      return inputs;
    });
    assert.deepEqual(await said.run(three), [["Error", "no", "UNSPECIFIED"], ["NonRetryable", "never", "STOP"], ["RetryAfter", "later", "RETRY"]]);
    await using discard = await batching(() => {
      throw new Discard("nobody cares");
    });
    assert.deepEqual(await discard.run({ a: { n: 1 } }), [["Discard", "nobody cares", "DISCARD"]]);
  });

  it("return as many results as there are jobs", async () => {
    await using short = await batching((inputs) => inputs.slice(1));
    const [first] = await short.run(three);
    assert.deepEqual(first, ["InvalidArgument", "a batch of 3 jobs returns as many results, or nothing, not 2 results", "UNSPECIFIED"]);
  });

  it("do not see inputs that are no good, and are not called for those alone", async () => {
    const schema: StandardSchema<In> = {
      "~standard": { version: 1, vendor: "test", validate: (value) => (Number.isInteger((value as In).n) ? { value: value as In } : { issues: [{ message: "no number" }] }) },
    };
    const calls: In[][] = [];
    await using checked = await batching((inputs) => void calls.push(inputs), {}, defineTask("b", { input: schema }));
    const outcomes = await checked.run({ a: { n: 1 }, b: { n: "x" }, c: { n: 3 } });
    assert.deepEqual(outcomes.map(([kind]) => kind), ["succeeded", "InvalidArgument", "succeeded"]);
    assert.deepEqual((await checked.run({ d: {} }))[0]![0], "InvalidArgument");
    assert.deepEqual(calls, [[{ n: 1 }, { n: 3 }]]);
  });

  it("wait for others within their linger", async () => {
    const calls: number[] = [];
    await using lingering = await batching((inputs) => void calls.push(inputs.length), { linger: "150ms" });
    lingering.send({ a: { n: 1 } });
    lingering.send({ b: { n: 2 } });
    await lingering.outcome("a");
    assert.deepEqual(calls, [2]);
  });

  it("mark a job that is cancelled and go on; all cancelled, they are asked to stop", async () => {
    let marked = () => {};
    let entered = (_: BatchContext<In, unknown>) => {};
    const running = new Promise<BatchContext<In, unknown>>((resolve) => (entered = resolve));
    const handler: BatchHandler<In, unknown> = async (_, ctx) => {
      ctx.jobs[1]!.signal.addEventListener("abort", () => marked());
      entered(ctx);
      await new Promise((_resolve, reject) => ctx.signal.addEventListener("abort", () => reject(ctx.signal.reason as Error)));
    };
    await using waiting = await batching(handler, { maxSize: 2 });
    waiting.send({ a: { n: 1 }, b: { n: 2 } });
    const ctx = await running;
    const first = new Promise<void>((resolve) => (marked = resolve));
    waiting.fixture.stream.send({ cancels: [{ leaseToken: "b", reason: CancelReason.REQUESTED, message: "enough" }] });
    await first;
    assert.deepEqual([ctx.cancelled, ctx.jobs.map(({ cancelled, cancelReason }) => [cancelled, cancelReason])], [false, [[false, undefined], [true, "requested"]]]);
    waiting.fixture.stream.send({ cancels: [{ leaseToken: "a", reason: CancelReason.TIMEOUT }] });
    assert.deepEqual([await waiting.outcome("a"), await waiting.outcome("b")], [["Timeout", "cancelled: timeout", "UNSPECIFIED"], ["cancelled"]]);
    assert.deepEqual([ctx.cancelled, ctx.cancelReason], [true, "timeout"]);
  });

  it("stop at the shortest timeout", async () => {
    await using slow = await batching((_, ctx) => new Promise((_resolve, reject) => ctx.signal.addEventListener("abort", () => reject(ctx.signal.reason as Error))), { maxSize: 2 });
    slow.send({ a: { n: 1 }, b: { n: 2 } }, { timeout: spanOf(80) });
    assert.deepEqual(await slow.outcome("b"), ["Timeout", "ran longer than 80 ms", "UNSPECIFIED"]);
  });

  it("log and report progress for each job, and enqueue for one", async () => {
    await using speaking = await batching(async (_, ctx) => {
      assert.equal(currentContext(), undefined);
      ctx.progress(50);
      ctx.log.info("all");
      ctx.jobs[1]!.log.info("one");
      await ctx.jobs[1]!.enqueue("next", { of: 2 });
    }, { maxSize: 2 });
    speaking.send({ a: { n: 1 }, b: { n: 2 } });
    const { frame, outcome } = await speaking.fixture.stream.outcome("b");
    assert.deepEqual(outcome.enqueue.map(({ type }) => type), ["next"]);
    const frames = speaking.fixture.stream.frames.all;
    const lines = frames.flatMap(({ logs }) => logs.flatMap((report) => report.lines.map(({ message }) => `${report.leaseToken} ${message}`)));
    assert.deepEqual(lines.toSorted(), ["a all", "b all", "b one"]);
    assert.deepEqual(frames.flatMap(({ progress }) => progress.map(({ leaseToken, progress }) => `${leaseToken} ${progress?.percent}`)).toSorted(), ["a 50", "b 50"]);
    assert.ok(frame);
  });

  it("are refused where no batch could ever be full, or options make no sense", () => {
    const client = new Client({ url: "jobwire://127.0.0.1:1" });
    const refused = (options: object, field: string, message: RegExp, worker: WorkerOptions = {}) => {
      const make = () => new Worker(client, worker).handleBatch(task, options as BatchOptions, () => {}).run();
      assert.throws(make, (error: unknown) => error instanceof InvalidArgument && error.field === field && message.test(error.message), field);
    };
    refused({}, "maxSize", /missing/);
    refused({ maxSize: 0 }, "maxSize", /1 to 1,000/);
    refused({ maxSize: 1_001 }, "maxSize", /1 to 1,000/);
    refused({ maxSize: 2, linger: "2m" }, "linger", /1 minute/);
    refused({ maxSize: 2, size: 3 }, "size", /maxSize is meant\?/);
    refused({ maxSize: 2, byKey: "yes" }, "byKey", /true or false/);
    refused({ maxSize: 50 }, "prefetch", /runs up to 50 jobs in one call, and this worker holds 15 .* set it to 40 or more/, { prefetch: 5 });
    refused({ maxSize: 50 }, "queues.maxSlots", /of queue b it may hold 8/, { queues: [{ queue: "b", maxSlots: 8 }] });
    assert.throws(() => new Worker(client).handleBatch(task, { maxSize: 2 }, "x" as never), /a function/);
    assert.throws(() => new Worker(client).handle(task, () => 1).handleBatch(task, { maxSize: 2 }, () => {}), /a handler already/);
  });
});

describe("batch handlers in fakes", () => {
  function setup(test: TestContext, options: Partial<BatchOptions> = {}, of = fake) {
    const client = new Client({ url: "jobwire://127.0.0.1:1" });
    const calls: number[][] = [];
    const worker = new Worker(client, { logger: silent }).handleBatch(task, { maxSize: 3, ...options }, (inputs, { jobs }) => {
      calls.push(inputs.map(({ n }) => n));
      for (const job of jobs) if (job.input.n === 13 && job.attempt === 1) job.fail("unlucky");
      return inputs.map(({ n }) => n * 2);
    });
    const jobs = of(client, worker);
    test.after(async () => {
      jobs.restore();
      await client.close();
    });
    return { client, calls, jobs };
  }

  it("run what is due in one call, each job with its own outcome", async (test) => {
    const { client, calls, jobs } = setup(test);
    const put = await client.enqueueMany(task, [1, 2, 13, 4, 5].map((n) => ({ n })));
    await client.enqueue(task, { n: 9 }, { delay: "1h" });
    await jobs.run();
    assert.deepEqual(calls, [[1, 2, 13], [4, 5]]);
    assert.equal(await put[1]!.job!.result(), 4);
    assert.equal((await put[2]!.job!.status()).state, "retrying");
    await jobs.advance("2h");
    assert.deepEqual(calls.slice(2), [[13], [9]]);
  });

  it("keep fairness keys apart by wish", async (test) => {
    const { client, calls, jobs } = setup(test, { byKey: true });
    for (const [n, fairnessKey] of [[1, "red"], [2, "blue"], [3, "red"]] as const) await client.enqueue(task, { n }, { fairnessKey });
    await jobs.run();
    assert.deepEqual(calls, [[1, 3], [2]]);
  });

  it("run a job inline as a batch of one", async (test) => {
    const { client, calls } = setup(test, {}, inline as never);
    assert.equal(await client.run(task, { n: 4 }), 8);
    assert.deepEqual(calls, [[4]]);
  });
});
