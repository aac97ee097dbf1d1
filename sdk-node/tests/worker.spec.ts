// The whole worker against a scripted server: over a real connection, with the session in its own thread.
import assert from "node:assert/strict";
import { once } from "node:events";
import { describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { status } from "@grpc/grpc-js";
import { spanOf } from "../src/duration.js";
import { FailureKind } from "../src/gen/jobwire/v1/common_pb.js";
import { CancelReason, DirectiveKind, FailureAction, WorkerState } from "../src/gen/jobwire/v1/worker_service_pb.js";
import {
  Client, defineTask, Discard, FailedPrecondition, NonRetryable, Release, RetryAfter, Snooze, Worker,
  type Context, type StandardSchema,
} from "../src/index.js";
import { Fixture, silent, type Handlers } from "./support/fixture.js";
import { ScriptedServer } from "./support/scripted-server.js";

/** A Standard Schema by hand: an object whose `n` is a number. */
const numberSchema: StandardSchema<{ n: number }> = {
  "~standard": {
    version: 1,
    vendor: "test",
    validate: (value) =>
      typeof (value as { n: unknown }).n === "number"
        ? { value: value as { n: number } }
        : { issues: [{ message: "no number", path: ["n"] }] },
  },
};

describe("worker: outcomes", () => {
  const cases: [string, () => unknown, (arm: any) => void][] = [
    ["a value", () => ({ ok: true }), (arm) => assert.equal(arm.value.result.body.value, '{"ok":true}')],
    ["nothing", () => undefined, (arm) => assert.equal(arm.value.result, undefined)],
    ["a bigint", () => ({ n: 2n ** 60n }), (arm) => assert.equal(arm.value.result.body.value, '{"n":1152921504606846976}')],
    ["an error", () => { throw new RangeError("far"); }, (arm) => {
      assert.equal(arm.value.failure.type, "RangeError");
      assert.equal(arm.value.failure.message, "far");
      assert.match(arm.value.failure.stackTrace, /RangeError: far\n/);
      assert.equal(arm.value.action, FailureAction.UNSPECIFIED);
    }],
    ["an error with a cause", () => { throw new Error("outer", { cause: new TypeError("inner") }); }, (arm) =>
      assert.equal(arm.value.failure.cause.type, "TypeError")],
    ["RetryAfter", () => { throw new RetryAfter("30s"); }, (arm) => {
      assert.equal(arm.value.action, FailureAction.RETRY);
      assert.equal(arm.value.retryDelay.seconds, 30n);
    }],
    ["NonRetryable", () => { throw new NonRetryable("hopeless"); }, (arm) => assert.equal(arm.value.action, FailureAction.STOP)],
    ["Discard", () => { throw new Discard("nobody cares"); }, (arm) => assert.equal(arm.value.action, FailureAction.DISCARD)],
    ["Snooze", () => { throw new Snooze("60s", { reason: "429" }); }, (arm) => {
      assert.equal(arm.case, "snoozed");
      assert.equal(arm.value.delay.seconds, 60n);
      assert.equal(arm.value.reason, "429");
    }],
    ["Release", () => { throw new Release("not here"); }, (arm) => assert.equal(arm.value.reason, "not here")],
    ["a result that is no JSON", () => ({ n: NaN }), (arm) => {
      assert.equal(arm.value.failure.kind, FailureKind.UNPROCESSABLE);
      assert.equal(arm.value.action, FailureAction.STOP);
    }],
    ["an HTTP client's 503 with Retry-After", () => {
      throw Object.assign(new Error("503"), { response: { status: 503, headers: { "Retry-After": "7" } } });
    }, (arm) => assert.equal(arm.value.retryDelay.seconds, 7n)],
  ];

  it("turns whatever a handler does into one outcome", async () => {
    const handlers = Object.fromEntries(cases.map(([, handler], i) => [`case-${i}`, handler]));
    await using fixture = await Fixture.start(handlers);
    for (const [i, [name, , check]] of cases.entries()) {
      fixture.stream.job(`t${i}`, `case-${i}`);
      const { outcome, frame } = await fixture.stream.outcome(`t${i}`);
      try {
        check(outcome.result);
      } catch (error) {
        throw new Error(`${name}: ${(error as Error).message}`);
      }
      fixture.stream.send({ ackedSeq: frame.seq });
    }
  });

  it("survives a listener that throws", async () => {
    const errors: string[] = [];
    await using fixture = await Fixture.start({ bad: () => { throw new Error("no"); } }, { logger: { ...silent, error: (line) => errors.push(line) } });
    fixture.worker.on("failed", () => {
      throw new Error("listener");
    });
    fixture.stream.job("t1", "bad");
    assert.equal((await fixture.stream.outcome("t1")).outcome.result.case, "failed");
    assert.match(errors[0]!, /a listener of failed threw Error: listener/);
  });

  it("refuses input that is no JSON, or does not fit the schema, without calling the handler", async () => {
    const counted = defineTask("counted", { input: numberSchema });
    const called: string[] = [];
    await using fixture = await Fixture.start({ plain: () => called.push("plain") }, {}, (worker) =>
      worker.handle(counted, () => called.push("counted")),
    );
    fixture.stream.send({
      jobs: [{ leaseToken: "t1", attempt: 1, task: { id: "a", type: "plain", payload: { body: { case: "text", value: "{oops" } } } }],
    });
    fixture.stream.job("t2", "counted", { n: "one" });
    for (const token of ["t1", "t2"]) {
      const { outcome } = await fixture.stream.outcome(token);
      assert.equal((outcome.result as any).value.failure.kind, FailureKind.UNPROCESSABLE);
      assert.equal((outcome.result as any).value.action, FailureAction.STOP);
      if (token === "t2") assert.match((outcome.result as any).value.failure.message, /n: no number/);
    }
    assert.deepEqual(called, []);
  });
});

describe("worker: what a handler can say", () => {
  it("sees its job, reports progress, logs, saves checkpoints and enqueues with its outcome", async () => {
    const child = defineTask<{ n: number }>("child");
    let seen: Context | undefined;
    await using fixture = await Fixture.start({
      work: async (input, ctx) => {
        seen = ctx;
        ctx.progress(10);
        ctx.log.warn("careful", { n: 1, who: "me" });
        ctx.saveCheckpoint({ step: 2 });
        await ctx.enqueue(child, { n: input.n + 1 }, { priority: 2 });
        await ctx.enqueue("note", {}, { always: true });
        return ctx.checkpoint;
      },
    });
    fixture.stream.job("t1", "work", { n: 1 }, {
      attempt: 3, delivery: 5, checkpoint: { body: { case: "text", value: '{"step":1}' } }, timeout: spanOf(60_000),
      lastFailure: { type: "Boom", message: "before" },
    });
    const { outcome } = await fixture.stream.outcome("t1");
    const frames = fixture.stream.frames.all;
    assert.equal(seen?.jobId, "id-t1");
    assert.equal(seen?.attempt, 3);
    assert.equal(seen?.delivery, 5);
    assert.equal(seen?.lastFailure?.type, "Boom");
    assert.ok(seen?.deadline instanceof Date);
    assert.equal((outcome.result as any).value.result.body.value, '{"step":2}');
    assert.deepEqual(outcome.enqueue.map((spec) => [spec.type, spec.priority]), [["child", 2], ["note", 0]]);
    assert.ok(frames.some((frame) => frame.progress.some((report) => report.progress?.percent === 10)));
    assert.ok(frames.some((frame) => frame.progress.some((report) => report.checkpoint?.body.value === '{"step":2}')));
    const [line] = frames.flatMap((frame) => frame.logs.flatMap((report) => report.lines));
    assert.equal(line?.message, "careful");
    assert.deepEqual({ ...line?.fields }, { n: "1", who: "me" });
  });

  it("enqueues only what was marked `always` when it fails", async () => {
    await using fixture = await Fixture.start({
      work: async (_input, ctx) => {
        await ctx.enqueue("lost", {});
        await ctx.enqueue("kept", {}, { always: true });
        throw new Error("no");
      },
    });
    fixture.stream.job("t1", "work");
    const { outcome } = await fixture.stream.outcome("t1");
    assert.deepEqual(outcome.enqueue.map((spec) => spec.type), ["kept"]);
  });
});

describe("worker: cancellation", () => {
  const obedient: Handlers = { wait: (_input, ctx) => sleep(60_000, undefined, { signal: ctx.signal }) };

  it("aborts the signal with the reason and reports Cancelled", async () => {
    let reason: unknown;
    await using fixture = await Fixture.start({
      wait: async (_input, ctx) => {
        try {
          await sleep(60_000, undefined, { signal: ctx.signal });
        } finally {
          reason = ctx.cancelReason;
        }
      },
    });
    fixture.stream.job("t1", "wait");
    await fixture.stream.frames.next((frame) => frame.started.includes("t1"));
    fixture.stream.send({ cancels: [{ leaseToken: "t1", reason: CancelReason.REQUESTED, message: "user left" }] });
    const { outcome } = await fixture.stream.outcome("t1");
    assert.equal(outcome.result.case, "cancelled");
    assert.equal((outcome.result.value as any).reason, "user left");
    assert.equal(reason, "requested");
  });

  it("times out its own handlers", async () => {
    await using fixture = await Fixture.start(obedient);
    fixture.stream.job("t1", "wait", {}, { timeout: spanOf(50) });
    const { outcome } = await fixture.stream.outcome("t1");
    assert.equal((outcome.result as any).value.failure.kind, FailureKind.TIMEOUT);
  });

  it("reports nothing for a lost lease", async () => {
    await using fixture = await Fixture.start({ ...obedient, echo: (input) => input }, { concurrency: 1, prefetch: 1 });
    fixture.stream.job("t1", "wait");
    await fixture.stream.frames.next((frame) => frame.started.includes("t1"));
    fixture.stream.send({ heartbeatAck: { heartbeatSeq: 1n, lost: ["t1"] } });
    fixture.stream.job("t2", "echo");
    await fixture.stream.outcome("t2");
    assert.ok(fixture.stream.frames.all.every((frame) => frame.outcomes.every((outcome) => outcome.leaseToken !== "t1")));
  });
});

describe("worker: the stream", () => {
  it("introduces itself", async () => {
    await using fixture = await Fixture.start({ a: () => 1, b: () => 2 }, {
      concurrency: 5, prefetch: 3, queues: ["a", { queue: "b*", weight: 2, maxSlots: 4 }], appVersion: "1.2", labels: { zone: "x" }, leaseTtl: "15s",
    });
    const { hello } = await fixture.stream.frames.next();
    assert.deepEqual(hello?.types, ["a", "b"]);
    assert.deepEqual(hello?.subscriptions.map((one) => [one.queue, one.weight, one.maxSlots]), [["a", 0, 0], ["b*", 2, 4]]);
    assert.equal(hello?.capacity?.slots, 8);
    assert.equal(hello?.leaseTtl?.seconds, 15n);
    assert.equal(hello?.info?.sdk, "jobwire-node");
    assert.equal(hello?.info?.labels["zone"], "x");
  });

  it("resumes with its leases and resends what was not acknowledged", async () => {
    let finish!: () => void;
    await using fixture = await Fixture.start({ quick: () => "done", slow: () => new Promise<void>((resolve) => (finish = resolve)) });
    const first = fixture.stream;
    first.job("t1", "slow");
    first.job("t2", "quick");
    await first.outcome("t2");
    first.end(status.UNAVAILABLE, "bye");
    const second = await fixture.reconnected();
    const { hello } = await second.frames.next();
    assert.deepEqual(hello?.held.map((held) => held.leaseToken).sort(), ["t1", "t2"]);
    assert.equal(hello?.sessionId, first.frames.all[0]?.hello?.sessionId);
    second.welcome();
    await second.outcome("t2");
    finish();
    await second.outcome("t1");
  });

  it("keeps its leases while a handler blocks the main loop", async () => {
    await using fixture = await Fixture.start({
      block: ({ ms }) => {
        for (const end = performance.now() + ms; performance.now() < end; );
      },
    });
    // A second stream, with heartbeats every 100 ms, makes a short block long enough.
    fixture.stream.end(status.UNAVAILABLE, "bye");
    const stream = await fixture.reconnected();
    stream.welcome({ heartbeatInterval: spanOf(100) } as any);
    const lagged = once(fixture.worker, "lag");
    stream.job("t1", "block", { ms: 2_500 });
    await stream.outcome("t1");
    const beats = stream.frames.all.filter((frame) => frame.heartbeat?.held.includes("t1"));
    const at = stream.frames.all.findIndex((frame) => frame.outcomes.length > 0);
    assert.ok(beats.length >= 5, `${beats.length} heartbeats before the outcome in frame ${at}`);
    const [ms, names] = (await lagged) as [number, string[]];
    assert.ok(ms > 1_000);
    assert.deepEqual(names, ["block"]);
  });

  it("stops loudly when the server refuses it", async () => {
    await using fixture = await Fixture.start({ a: () => 1 });
    fixture.stream.end(status.FAILED_PRECONDITION, "this worker is too old");
    await assert.rejects(fixture.done, (error) => error instanceof FailedPrecondition && /too old/.test(error.message));
  });

  it("waits for a server that is not there yet", async () => {
    const server = await new ScriptedServer().listen();
    const { port } = server;
    server.stop();
    const client = new Client({ url: `jobwire://127.0.0.1:${port}` });
    const worker = new Worker(client, { logger: silent, signals: false, sessionThread: false }).handle("a", () => 1);
    const done = worker.run();
    const [why] = (await once(worker, "disconnected")) as [string];
    assert.match(why, new RegExp(`No Jobwire server at 127.0.0.1:${port}. Start one: jobwire dev`));
    await using late = await new ScriptedServer().listen(port);
    const stream = await late.streams.next();
    stream.welcome();
    const stopped = worker.stop();
    await stream.halfClosed;
    stream.end();
    await stopped;
    await done;
    await client.close();
  });
});

describe("worker: drain", () => {
  it("finishes what runs, gives back what does not, half-closes and resolves", async () => {
    let finish!: () => void;
    let begin!: () => void;
    const begun = new Promise<void>((resolve) => (begin = resolve));
    const slow = () => {
      begin();
      return new Promise<void>((resolve) => (finish = resolve));
    };
    await using fixture = await Fixture.start({ slow }, { concurrency: 1, prefetch: 1 });
    fixture.stream.job("t1", "slow");
    fixture.stream.job("t2", "slow");
    await fixture.stream.frames.next((frame) => frame.started.includes("t1"));
    // The session's thread reports the start; the handler's own thread may come to it a moment later.
    await begun;
    const stopped = fixture.worker.stop();
    await fixture.stream.frames.next((frame) => frame.state === WorkerState.DRAINING);
    finish();
    const { frame } = await fixture.stream.outcome("t1");
    const released = fixture.stream.frames.all.flatMap((one) => one.outcomes).find((outcome) => outcome.leaseToken === "t2");
    assert.equal(released?.result.case, "released");
    fixture.stream.send({ ackedSeq: frame.seq });
    await fixture.stream.halfClosed;
    fixture.stream.end();
    await stopped;
    await fixture.done;
  });

  it("cancels at grace, and gives back with the checkpoint", async () => {
    await using fixture = await Fixture.start({
      wait: async (_input, ctx) => {
        try {
          await sleep(60_000, undefined, { signal: ctx.signal });
        } catch (error) {
          ctx.saveCheckpoint({ at: ctx.cancelReason });
          throw error;
        }
      },
    }, { grace: 10 });
    fixture.stream.job("t1", "wait");
    await fixture.stream.frames.next((frame) => frame.started.includes("t1"));
    fixture.stream.send({ directive: { kind: DirectiveKind.TERMINATE, grace: spanOf(10), reason: "deploy" } });
    const { outcome, frame } = await fixture.stream.outcome("t1");
    assert.equal(outcome.result.case, "released");
    assert.equal(outcome.checkpoint?.body.value, '{"at":"shutdown"}');
    fixture.stream.send({ ackedSeq: frame.seq });
    await fixture.stream.halfClosed;
    fixture.stream.end();
    await fixture.done;
  });
});
