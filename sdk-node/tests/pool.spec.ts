// Handlers in threads of their own, with the session beside them in its thread or on the main one.
import assert from "node:assert/strict";
import { once } from "node:events";
import { describe, it } from "node:test";
import { FailureKind } from "../src/gen/jobwire/v1/common_pb.js";
import { CancelReason, FailureAction, type StreamJobsRequest } from "../src/gen/jobwire/v1/worker_service_pb.js";
import { Client, defineTask, InvalidArgument, noRetryOn, Worker, type StandardSchema, type ThreadOptions, type WorkerOptions } from "../src/index.js";
import { Fixture, silent } from "./support/fixture.js";

const module = (file: string) => new URL(`../../tests/modules/${file}`, import.meta.url);

const pooled = (options: ThreadOptions = { threads: 2 }, more: WorkerOptions = {}) =>
  Fixture.start({}, more, (worker) => worker.handle("cpu", module("handler.mjs"), options));

/** Runs one job; its outcome, acknowledged. */
async function run(fixture: Fixture, token: string, input: object, more: object = {}) {
  fixture.stream.job(token, "cpu", input, more);
  const { outcome, frame } = await fixture.stream.outcome(token);
  fixture.stream.send({ ackedSeq: frame.seq });
  return outcome.result as { case: string; value: any };
}

const valueOf = (result: { case: string; value: any }): unknown => {
  assert.equal(result.case, "succeeded", JSON.stringify(result.value.failure ?? result.value, (_key, item) => (typeof item === "bigint" ? `${item}` : item)));
  return JSON.parse(result.value.result.body.value);
};

const progressed = (fixture: Fixture, token: string) =>
  fixture.stream.frames.next((frame) => frame.progress.some(({ leaseToken }) => leaseToken === token), `progress of ${token}`);

for (const sessionThread of [true, false]) {
  describe(`pool: session ${sessionThread ? "in a thread" : "on the main one"}`, () => {
    it("gives the handler its context, and carries what it says", async () => {
      await using fixture = await pooled({ threads: 1 }, { sessionThread });
      const checkpoint = { body: { case: "text" as const, value: '{"step":1}' } };
      const task = { id: "id-a", type: "cpu", queue: "cpu", headers: { k: "v" }, payload: { body: { case: "text" as const, value: '{"act":"speak","child":"child"}' } } };
      fixture.stream.send({ jobs: [{ leaseToken: "a", attempt: 2, delivery: 3, task, checkpoint }] });
      const { outcome } = await fixture.stream.outcome("a");
      assert.deepEqual(valueOf(outcome.result as any), ["id-a", "cpu", 2, 3, "v", { step: 1 }, "id-a"]);
      assert.deepEqual(outcome.enqueue.map(({ type }) => type), ["child"]);
      const seen = <T>(part: (frame: StreamJobsRequest) => T[]) => fixture.stream.frames.all.flatMap(part);
      const reports = seen((frame) => frame.progress);
      assert.equal(reports.findLast(({ progress }) => progress)?.progress?.percent, 50);
      assert.equal(reports.findLast(({ checkpoint }) => checkpoint)?.checkpoint?.body.value, '{"step":2}');
      const logs = () => seen((frame) => frame.logs).flatMap(({ lines }) => lines.map(({ message, fields }) => [message, fields["n"]]));
      if (logs().length === 0) await fixture.stream.frames.next((frame) => frame.logs.length > 0, "the log line");
      assert.deepEqual(logs(), [["careful", "1"]]);
    });

    it("stops a handler that obeys, in a loop or by its signal, and ends one that does not", async () => {
      await using fixture = await pooled({ threads: 1 }, { sessionThread });
      for (const act of ["polite", "signal", "rude"]) {
        fixture.stream.job(act, "cpu", { act });
        await progressed(fixture, act);
        fixture.stream.send({ cancels: [{ leaseToken: act, reason: CancelReason.REQUESTED }] });
        const { outcome, frame } = await fixture.stream.outcome(act);
        assert.equal(outcome.result.case, "cancelled", act);
        fixture.stream.send({ ackedSeq: frame.seq });
      }
      assert.equal(valueOf(await run(fixture, "after", { act: "echo", value: 1 })), 1);
    });
  });
}

describe("pool", () => {
  it("keeps values exact, also dates and big integers", async () => {
    await using fixture = await pooled();
    const result = await run(fixture, "a", { act: "echo", value: { n: 1, text: "Grüße 💥", list: [null] } });
    assert.deepEqual(valueOf(result), { n: 1, text: "Grüße 💥", list: [null] });
    fixture.stream.send({
      jobs: [{ leaseToken: "b", attempt: 1, task: { id: "b", type: "cpu", payload: { body: { case: "text", value: '{"act":"echo","value":18446744073709551617}' } } } }],
    });
    const { outcome } = await fixture.stream.outcome("b");
    assert.equal((outcome.result as any).value.result.body.value, "18446744073709551617");
  });

  it("reports errors as if they were thrown here", async () => {
    await using fixture = await pooled({ threads: 1 }, { classifiers: undefined });
    const failed = (await run(fixture, "a", { act: "fail" })).value;
    assert.deepEqual([failed.failure.type, failed.failure.message, failed.failure.cause.type, failed.action], ["RangeError", "too far", "TypeError", FailureAction.UNSPECIFIED]);
    assert.match(failed.failure.stackTrace, /handler\.mjs/);
    assert.equal((await run(fixture, "b", { act: "http" })).value.retryDelay.seconds, 7n);
    assert.equal((await run(fixture, "c", { act: "retry" })).value.retryDelay.seconds, 30n);
    assert.equal((await run(fixture, "d", { act: "stop" })).value.action, FailureAction.STOP);
    const snoozed = await run(fixture, "e", { act: "snooze" });
    assert.deepEqual([snoozed.case, snoozed.value.delay.seconds, snoozed.value.reason, snoozed.value.throttle], ["snoozed", 60n, "full", 2]);
    assert.match((await run(fixture, "f", { act: "function" })).value.failure.message, /the result cannot leave its thread/);
  });

  it("knows the classes of errors from a thread", async () => {
    await using fixture = await pooled({ threads: 1 }, { classifiers: [noRetryOn(RangeError)] });
    assert.equal((await run(fixture, "a", { act: "fail" })).value.action, FailureAction.STOP);
    assert.equal((await run(fixture, "b", { act: "http" })).value.action, FailureAction.UNSPECIFIED);
  });

  it("validates on the main thread, where the schemas are", async () => {
    const schema: StandardSchema<{ act: string; value: number }> = {
      "~standard": {
        version: 1, vendor: "test",
        validate: (value) => (typeof (value as any).value === "number" ? { value: { act: "echo", value: (value as any).value + 1 } } : { issues: [{ message: "no number" }] }),
      },
    };
    const task = defineTask("cpu", { input: schema });
    await using fixture = await Fixture.start({}, {}, (worker) => worker.handle(task, module("handler.mjs"), { threads: 1 }));
    assert.equal(valueOf(await run(fixture, "a", { value: 1 })), 2);
    assert.equal((await run(fixture, "b", { value: "x" })).value.failure.kind, FailureKind.UNPROCESSABLE);
  });

  it("keeps what a handler prints in its thread with the job, when asked", async () => {
    await using fixture = await pooled({ threads: 1 }, { captureConsole: true });
    await run(fixture, "a", { act: "print" });
    const line = (frame: StreamJobsRequest) => frame.logs.flatMap(({ lines }) => lines)[0];
    const { message, level } = line(fixture.stream.frames.all.find(line) ?? (await fixture.stream.frames.next((frame) => line(frame) !== undefined)))!;
    assert.deepEqual([message, level], ["from 1 thread", 5]);
  });

  it("ends a handler at its timeout, with its thread", async () => {
    await using fixture = await pooled({ threads: 1 });
    const result = await run(fixture, "a", { act: "rude" }, { timeout: { seconds: 0n, nanos: 50_000_000 } });
    assert.deepEqual([result.case, result.value.failure.kind], ["failed", FailureKind.TIMEOUT]);
    const next = await run(fixture, "b", { act: "echo", value: "next" });
    assert.equal(valueOf(next), "next");
  });

  for (const [act, why, options] of [
    ["exit", /exited with code 3/, {}],
    ["uncaught", /nobody catches this/, {}],
    ["memory", /memory/, { maxHeapMb: 20 }],
  ] as const) {
    it(`leaves a job to the server as crashed when its thread dies: ${act}`, async () => {
      await using fixture = await pooled({ threads: 1, ...options });
      const failed = once(fixture.worker, "failed") as Promise<[{ id: string }, Error]>;
      fixture.stream.job("a", "cpu", { act });
      await fixture.stream.frames.next((frame) => frame.started.includes("a"));
      const [job, error] = await failed;
      assert.deepEqual([job.id, error.name], ["id-a", "ThreadDied"]);
      assert.match(error.message, why);
      const { heartbeat } = await fixture.stream.frames.next((frame) => frame.heartbeat !== undefined, "a heartbeat");
      assert.deepEqual([heartbeat?.held, heartbeat?.running], [[], 0]);
      assert.equal(valueOf(await run(fixture, "b", { act: "echo", value: "next" })), "next");
      assert.ok(!fixture.stream.frames.all.some((frame) => frame.outcomes.some(({ leaseToken }) => leaseToken === "a")));
    });
  }

  it("replaces a thread after maxJobs, and otherwise keeps it", async () => {
    await using fixture = await pooled({ threads: 1, maxJobs: 2 });
    const threads: unknown[] = [];
    for (const token of ["a", "b", "c"]) threads.push(valueOf(await run(fixture, token, { act: "thread" })));
    assert.equal(threads[0], threads[1]);
    assert.notEqual(threads[1], threads[2]);
  });

  it("starts no more jobs than it has threads, and holds nothing else up", async () => {
    await using fixture = await Fixture.start({ other: () => "done" }, { concurrency: 4 }, (worker) =>
      worker.handle("cpu", module("handler.mjs"), { threads: 1 }),
    );
    const { hello } = await fixture.stream.frames.next((frame) => frame.hello !== undefined);
    assert.deepEqual(hello?.subscriptions.map(({ queue, maxSlots }) => [queue, maxSlots]), [["other", 0], ["cpu", 1]]);
    fixture.stream.job("a", "cpu", { act: "polite" });
    fixture.stream.job("b", "cpu", { act: "echo", value: 1 });
    fixture.stream.job("c", "other");
    await fixture.stream.outcome("c");
    const started = () => fixture.stream.frames.all.flatMap((frame) => frame.started);
    assert.deepEqual(started().sort(), ["a", "c"]);
    fixture.stream.send({ cancels: [{ leaseToken: "a", reason: CancelReason.REQUESTED }] });
    await fixture.stream.frames.next((frame) => frame.outcomes.some(({ leaseToken }) => leaseToken === "b"));
  });

  it("gives a job back on shutdown, whatever its thread does", async () => {
    await using fixture = await pooled({ threads: 1 });
    fixture.stream.job("a", "cpu", { act: "rude" });
    await progressed(fixture, "a");
    fixture.stream.finish();
    const stopped = fixture.worker.stop({ grace: 0 });
    assert.equal((await fixture.stream.outcome("a")).outcome.result.case, "released");
    await stopped;
    await fixture.done;
  });

  it("takes CommonJS modules and handlers exported by name", async () => {
    await using fixture = await Fixture.start({}, {}, (worker) => worker.handle("cpu", module("handler.cjs")));
    assert.deepEqual(valueOf(await run(fixture, "a", { value: 1 })), { value: 1, type: "cpu", required: true });
  });

  it("stops the worker at once when the module cannot be used", async () => {
    for (const [file, why] of [["empty.mjs", /empty\.mjs cannot be used as a handler: it exports no handler/], ["missing.mjs", /missing\.mjs/]] as const) {
      const client = new Client({ url: "jobwire://127.0.0.1:1" });
      const worker = new Worker(client, { signals: false, logger: silent }).handle("cpu", module(file));
      await assert.rejects(worker.run(), (error) => error instanceof InvalidArgument && why.test(error.message));
      await client.close();
    }
  });

  it("refuses options out of range", () => {
    const worker = new Worker({} as never, { concurrency: 4, logger: silent });
    for (const options of [{ threads: 0 }, { threads: 5 }, { maxJobs: 0 }, { maxHeapMb: 0 }]) {
      assert.throws(() => worker.handle("cpu", module("handler.mjs"), options), InvalidArgument);
    }
  });
});
