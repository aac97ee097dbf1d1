import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { spanOf } from "./duration.js";
import { Unavailable } from "./errors.js";
import { GoAwayReason, WorkerState } from "./gen/jobwire/v1/worker_service_pb.js";
import { Bench, lease, open } from "../tests/support/session-bench.js";

describe("session: time limits", () => {
  it("cancels at timeout, and reports nothing while the handler runs", () => {
    const bench = open().frame({ jobs: [lease("t1", { timeout: spanOf(3_000) })] }).pass(2_999);
    assert.deepEqual(bench.cancels, []);
    bench.pass(1);
    assert.deepEqual(bench.cancels, ["timeout"]);
    bench.pass(4_000);
    assert.deepEqual(bench.outcomes, []);
  });

  it("cancels a job that is silent for heartbeat_timeout; progress resets it", () => {
    const bench = open().frame({ jobs: [lease("t1", { heartbeatTimeout: spanOf(2_000) })] }).pass(1_500);
    bench.event({ event: "progress", key: 1, progress: { percent: 10 } }).pass(1_999);
    assert.deepEqual(bench.cancels, []);
    bench.pass(1);
    const cancel = bench.told.find((command) => command.command === "cancel");
    assert.ok(cancel?.command === "cancel" && cancel.stalled);
  });

  it("keeps timing while there is no stream", () => {
    const bench = open().frame({ jobs: [lease("t1", { timeout: spanOf(1_000) })] });
    bench.closed(new Unavailable("gone")).pass(1_000);
    assert.deepEqual(bench.cancels, ["timeout"]);
  });
});

describe("session: reports", () => {
  it("sends the first progress at once, later ones 250 ms apart, the latest wins", () => {
    const bench = open().jobs("t1").clear();
    const progress = (percent: number) => bench.event({ event: "progress", key: 1, progress: { percent } });
    progress(1);
    progress(2);
    progress(3);
    bench.pass(249);
    const percents = () => bench.sent.flatMap((frame) => frame.progress.map((report) => report.progress?.percent));
    assert.deepEqual(percents(), [1]);
    bench.pass(1);
    assert.deepEqual(percents(), [1, 3]);
  });

  it("sends the last progress and all lines no later than the outcome", () => {
    const bench = open().jobs("t1").event({ event: "progress", key: 1, progress: { percent: 1 } }).clear();
    bench.event({ event: "progress", key: 1, progress: { percent: 99 } });
    bench.event({ event: "log", key: 1, line: { timeMs: 1, level: "info", message: "bye", fields: {} } });
    bench.event({ event: "finished", key: 1, outcome: { kind: "succeeded", result: undefined, runMs: 1 } });
    const frame = bench.sent[0]!;
    assert.equal(frame.progress[0]?.progress?.percent, 99);
    assert.equal(frame.logs[0]?.lines[0]?.message, "bye");
    assert.equal(frame.outcomes.length, 1);
  });

  it("keeps the newest MiB of lines while there is no stream", () => {
    const bench = open().jobs("t1").closed(new Unavailable("gone"));
    for (let i = 0; i < 3_000; i++) {
      bench.session.event({ event: "log", key: 1, line: { timeMs: 1, level: "info", message: `${i} ${"x".repeat(1_000)}`, fields: {} } }, bench.now);
    }
    bench.pass(50).clear().welcome().pass(1_000);
    const lines = bench.sent.flatMap((frame) => frame.logs.flatMap((report) => report.lines));
    assert.ok(lines.length > 900 && lines.length < 1_050, `${lines.length} lines`);
    assert.match(lines.at(-1)!.message, /^2999 /);
  });

  it("carries the latest checkpoint with every outcome but success", () => {
    const checkpoint = { text: '{"step":1}', contentType: "", contentEncoding: "" };
    const bench = open().jobs("t1", "t2");
    bench.event({ event: "progress", key: 1, checkpoint }).event({ event: "progress", key: 2, checkpoint });
    bench.finish("t1", { kind: "snoozed", delayMs: 5, reason: "", runMs: 1 }).finish("t2").pass(2);
    const bodies = bench.sent.flatMap((frame) => frame.outcomes.map((outcome) => outcome.checkpoint?.body.value));
    assert.deepEqual(bodies, ['{"step":1}', undefined]);
  });
});

describe("session: endings of the stream", () => {
  it("reconnects for ever, with a ceiling that doubles to 15 s", () => {
    const bench = new Bench().poll();
    const delays: number[] = [];
    for (let i = 0; i < 12; i++) {
      bench.closed(new Unavailable("refused"));
      delays.push(bench.wakeAt - bench.now);
      bench.pass(bench.wakeAt - bench.now);
    }
    assert.deepEqual(delays, [50, 100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 15_000, 15_000, 15_000]);
  });

  it("tries again within a third of the lease while it has jobs in hand", () => {
    const bench = new Bench().poll().welcome({ leaseTtl: spanOf(6_000) }).jobs("a");
    const delays: number[] = [];
    for (let i = 0; i < 9; i++) {
      bench.closed(new Unavailable("refused"));
      delays.push(bench.wakeAt - bench.now);
      bench.pass(bench.wakeAt - bench.now);
    }
    assert.deepEqual(delays, [50, 100, 200, 400, 800, 1_600, 2_000, 2_000, 2_000]);
  });

  it("waits as long as the server asks", () => {
    const bench = new Bench().poll().closed(new Unavailable("busy", { retryDelay: 700 }));
    assert.equal(bench.wakeAt - bench.now, 700);
  });

  it("reconnects after go_away when the server said, with the leases in hand", () => {
    const bench = open().jobs("t1").clear();
    bench.frame({ goAway: { reason: GoAwayReason.SHUTDOWN, reconnectDelay: spanOf(700), grace: spanOf(5_000) } });
    bench.pass(699);
    assert.ok(!bench.did.includes("connect"));
    bench.pass(1);
    assert.deepEqual(bench.did.filter((action) => action === "drop" || action === "connect"), ["drop", "connect"]);
    assert.deepEqual(bench.last.hello?.held.map((held) => held.leaseToken), ["t1"]);
  });

  it("keeps the appointment when the server ends the stream first", () => {
    const bench = open().frame({ goAway: { reason: GoAwayReason.REBALANCE, reconnectDelay: spanOf(700) } });
    bench.pass(100).closed(new Unavailable("bye"));
    assert.equal(bench.wakeAt - bench.now, 600);
  });

  it("drops a silent stream after two intervals and 5 s", () => {
    const bench = open().clear().pass(24_999);
    assert.ok(!bench.did.includes("drop"));
    bench.pass(1);
    assert.ok(bench.did.includes("drop"));
  });

  it("treats ABORTED / SESSION_MOVED and a clean end like a break", () => {
    const bench = open();
    bench.closed();
    assert.ok(bench.wakeAt < Infinity);
  });
});

describe("session: drain", () => {
  it("releases what has not started, waits for handlers and acks, half-closes, stops", () => {
    const bench = open({ concurrency: 1 }).jobs("t1", "t2").clear().event({ event: "drain" });
    assert.equal(bench.sent[0]!.state, WorkerState.DRAINING);
    assert.deepEqual(bench.outcomes, ["t2 released"]);
    bench.jobs("t3").pass(2);
    assert.deepEqual(bench.outcomes, ["t2 released", "t3 released"]);
    bench.event({ event: "finished", key: 1, outcome: { kind: "succeeded", result: undefined, runMs: 1 } }).pass(2);
    assert.ok(!bench.did.includes("halfClose"));
    bench.frame({ ackedSeq: bench.last.seq });
    assert.ok(bench.did.includes("halfClose"));
    bench.closed();
    assert.equal(bench.told.at(-1)?.command, "stopped");
    assert.equal(bench.wakeAt, Infinity);
  });

  it("cancels at grace and releases 2 s later, with the checkpoint", () => {
    const bench = open().jobs("t1").event({ event: "drain", graceMs: 20_000 }).clear().pass(20_000);
    assert.deepEqual(bench.cancels, ["shutdown"]);
    bench.event({ event: "progress", key: 1, checkpoint: { text: "7", contentType: "", contentEncoding: "" } });
    bench.pass(2_000);
    assert.deepEqual(bench.outcomes, ["t1 released"]);
    assert.equal(bench.sent.flatMap((frame) => frame.outcomes)[0]?.checkpoint?.body.value, "7");
    assert.ok(bench.told.some((command) => command.command === "abandon"));
  });

  it("releases everything at once when asked a second time", () => {
    const bench = open().jobs("t1").event({ event: "drain" }).clear().event({ event: "drain", now: true });
    assert.deepEqual(bench.outcomes, ["t1 released"]);
    assert.deepEqual(bench.cancels, ["shutdown"]);
  });

  it("waits at most 2 s for the last acks", () => {
    const bench = open().jobs("t1").event({ event: "drain" });
    bench.event({ event: "finished", key: 1, outcome: { kind: "succeeded", result: undefined, runMs: 1 } }).pass(1_999);
    assert.notEqual(bench.told.at(-1)?.command, "stopped");
    bench.pass(1);
    assert.equal(bench.told.at(-1)?.command, "stopped");
  });

  it("reconnects to deliver outcomes while it waits", () => {
    const bench = open().jobs("t1").closed(new Unavailable("gone")).event({ event: "drain" });
    bench.event({ event: "finished", key: 1, outcome: { kind: "succeeded", result: undefined, runMs: 1 } }).clear().pass(1).welcome();
    assert.deepEqual(bench.outcomes, ["t1 succeeded"]);
    bench.frame({ ackedSeq: bench.last.seq });
    assert.ok(bench.did.includes("halfClose"));
  });

  it("stops at once when it holds nothing and has no stream", () => {
    const bench = new Bench().poll().event({ event: "drain" });
    assert.equal(bench.told.at(-1)?.command, "stopped");
  });
});

describe("session: how much it holds", () => {
  const ran = (bench: Bench, token: string, ms: number) => bench.jobs(token).pass(ms).finish(token).frame({ ackedSeq: BigInt(bench.last.seq) });

  it("holds fewer jobs ready the longer handlers run, and says so with a heartbeat", () => {
    const bench = open({ concurrency: 4, prefetch: undefined });
    assert.equal(bench.sent[0]!.hello?.capacity?.slots, 8);
    ran(bench, "t1", 9_000).pass(10_000);
    const slow = bench.sent.findLast((frame) => frame.capacity);
    assert.ok(slow?.heartbeat);
    assert.deepEqual([slow.capacity?.slots, slow.capacity?.concurrency], [4, 4]);
    for (let i = 0; i < 40; i++) ran(bench, `quick-${i}`, 1);
    bench.pass(10_000);
    assert.equal(bench.sent.findLast((frame) => frame.capacity)?.capacity?.slots, 8);
    bench.session.closed(new Unavailable("away"), bench.now);
    bench.poll().pass(1_000);
    assert.equal(bench.last.hello?.capacity?.slots, 8);
  });

  it("holds what it was told to", () => {
    const bench = open({ concurrency: 4, prefetch: 1 });
    ran(bench, "t1", 60_000).pass(20_000);
    assert.equal(bench.sent[0]!.hello?.capacity?.slots, 5);
    assert.ok(!bench.sent.some((frame) => frame.capacity));
  });

  it("starts no more jobs of a type than it may, and others past them", () => {
    const bench = open({ types: ["a", "b"], concurrency: 4, typeConcurrency: { a: 1 } });
    const job = (leaseToken: string, type: string) => ({ leaseToken, task: { id: leaseToken, type } });
    bench.frame({ jobs: [job("a1", "a"), job("a2", "a"), job("b1", "b")] });
    assert.deepEqual(bench.ran, ["a1", "b1"]);
    bench.finish("a1");
    assert.deepEqual(bench.ran, ["a1", "b1", "a2"]);
  });
});
