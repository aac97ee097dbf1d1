import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { spanOf } from "./duration.js";
import { CancelReason } from "./gen/jobwire/v1/worker_service_pb.js";
import type { SessionConfig } from "./hello.js";
import { Bench, lease, open } from "../tests/support/session-bench.js";

const RULE = { maxSize: 3, lingerMs: 100, byKey: false };
const batching = (rule: Partial<typeof RULE> = {}, more: Partial<SessionConfig> = {}): Bench =>
  open({ batches: { t: { ...RULE, ...rule } }, types: ["t", "one"], ...more });

/** A job of another type, key or history. */
const job = (token: string, { type = "t", key = "", crashes = 0, timeoutMs = 0 } = {}) =>
  lease(token, { crashes, ...(timeoutMs > 0 && { timeout: spanOf(timeoutMs) }), task: { id: token, type, queue: "t", fairnessKey: key } });
const started = (bench: Bench) => bench.sent.flatMap((frame) => frame.started);

describe("session: batches", () => {
  it("start at once when they are full, and are said to have started", () => {
    const bench = batching().jobs("a", "b", "c", "d");
    assert.deepEqual(bench.batches, [["a", "b", "c"]]);
    assert.deepEqual(started(bench), ["a", "b", "c"]);
  });

  it("linger from the arrival of their first job, and no longer", () => {
    const bench = batching().jobs("a").pass(60).jobs("b").pass(39);
    assert.deepEqual([bench.batches, started(bench)], [[], []]);
    bench.pass(1);
    assert.deepEqual(bench.batches, [["a", "b"]]);
    bench.jobs("c").pass(99);
    assert.equal(bench.batches.length, 1);
    bench.pass(1);
    assert.deepEqual(bench.batches[1], ["c"]);
  });

  it("wait for nobody with a linger of 0", () => {
    assert.deepEqual(batching({ lingerMs: 0 }).jobs("a", "b").jobs("c").batches, [["a", "b"], ["c"]]);
  });

  it("are one handler each, and go on growing while all are busy", () => {
    const bench = batching({ lingerMs: 0 }, { concurrency: 1, prefetch: 8 }).jobs("a", "b").jobs("c").pass(500).jobs("d", "e", "f");
    assert.deepEqual(bench.batches, [["a", "b"]]);
    bench.finish("a");
    assert.equal(bench.batches.length, 1);
    bench.finish("b");
    assert.deepEqual(bench.batches, [["a", "b"], ["c", "d", "e"]]);
  });

  it("go in order of arrival with jobs that run alone", () => {
    const bench = batching({ maxSize: 2 }, { concurrency: 1, prefetch: 8 });
    bench.frame({ jobs: [job("x", { type: "one" }), job("a"), job("b"), job("y", { type: "one" })] });
    const order = () => bench.told.flatMap((command) => (command.command === "run" ? [command.job.id] : command.command === "runBatch" ? [command.jobs.map(({ id }) => id).join()] : []));
    bench.finish("x").finish("a").finish("b");
    assert.deepEqual(order(), ["x", "a,b", "y"]);
  });

  it("have one fairness key by wish", () => {
    const jobs = [job("a", { key: "red" }), job("b", { key: "blue" }), job("c", { key: "red" }), job("d", { key: "blue" })];
    assert.deepEqual(batching({ byKey: true, maxSize: 2 }).frame({ jobs }).batches, [["a", "c"], ["b", "d"]]);
    assert.deepEqual(batching({ maxSize: 2 }).frame({ jobs }).batches, [["a", "b"], ["c", "d"]]);
  });

  it("leave out what a worker has vanished with: that runs alone, at once", () => {
    const bench = batching({}, { concurrency: 4 }).frame({ jobs: [job("a"), job("b", { crashes: 1 }), job("c"), job("d", { crashes: 2 })] });
    assert.deepEqual(bench.batches, [["b"], ["d"]]);
    assert.deepEqual(bench.pass(100).batches, [["b"], ["d"], ["a", "c"]]);
  });

  it("run under the shortest of their timeouts", () => {
    const bench = batching().frame({ jobs: [job("a", { timeoutMs: 5_000 }), job("b"), job("c", { timeoutMs: 2_000 })] });
    const [command] = bench.told.filter((one) => one.command === "runBatch");
    assert.deepEqual(command?.command === "runBatch" && command.jobs.map(({ timeoutMs }) => timeoutMs), [2_000, 2_000, 2_000]);
    bench.pass(1_999);
    assert.deepEqual(bench.cancels, []);
    bench.pass(1);
    assert.deepEqual(bench.cancels, ["timeout", "timeout", "timeout"]);
  });

  it("mark a job that is cancelled, drop the outcome of a lost one, report the others", () => {
    const bench = batching().jobs("a", "b", "c").clear();
    bench.frame({ cancels: [{ leaseToken: "b", reason: CancelReason.REQUESTED }], heartbeatAck: { lost: ["c"] } });
    assert.deepEqual(bench.told.map((command) => (command.command === "cancel" ? [command.key, command.reason] : command)), [
      [bench.key("c"), "lease_lost"],
      [bench.key("b"), "requested"],
    ]);
    bench.finish("a").finish("b").finish("c").pass(5);
    assert.deepEqual(bench.outcomes, ["a succeeded", "b succeeded"]);
  });

  it("that gather give back what is recalled or cancelled, and what is lost", () => {
    const bench = batching().jobs("a", "b").frame({ recalls: ["a"] }).pass(5);
    assert.deepEqual(bench.outcomes, ["a released"]);
    bench.frame({ cancels: [{ leaseToken: "b", reason: CancelReason.REQUESTED }] }).pass(200);
    assert.deepEqual([bench.outcomes, bench.batches], [["a released", "b cancelled"], []]);
    bench.jobs("c").frame({ heartbeatAck: { lost: ["c"] } }).pass(200);
    assert.deepEqual(bench.batches, []);
  });

  it("that gather are released by a drain, and those that run are finished", () => {
    const bench = batching().jobs("a", "b", "c", "d", "e").clear();
    bench.event({ event: "drain" }).pass(200);
    assert.deepEqual([bench.outcomes, bench.batches], [["d released", "e released"], []]);
    bench.finish("a").finish("b").pass(5);
    assert.ok(!bench.did.includes("halfClose"));
    bench.finish("c").pass(5).frame({ ackedSeq: 99n });
    assert.deepEqual(bench.outcomes.slice(2), ["a succeeded", "b succeeded", "c succeeded"]);
    assert.ok(bench.did.includes("halfClose"));
  });

  it("find room: the worker holds two of the largest, or one when handlers are slow", () => {
    const slots = (config: Partial<SessionConfig>) => batching({ maxSize: 50 }, config).sent[0]!.hello?.capacity?.slots;
    const undefinedPrefetch = { prefetch: undefined } as never;
    assert.equal(slots({ concurrency: 10, ...(undefinedPrefetch as object) }), 100);
    assert.equal(slots({ concurrency: 200, ...(undefinedPrefetch as object) }), 216);
    assert.equal(slots({ concurrency: 10, prefetch: 45 }), 55);
    const slow = batching({ maxSize: 2, lingerMs: 0 }, { concurrency: 1, ...(undefinedPrefetch as object) });
    slow.jobs("a").pass(20_000).finish("a").frame({}).pass(10_000);
    assert.deepEqual(slow.sent.flatMap(({ capacity }) => (capacity ? [capacity.slots] : [])), [2]);
  });
});
