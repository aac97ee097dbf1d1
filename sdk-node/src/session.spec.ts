import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { spanOf } from "./duration.js";
import { FailedPrecondition, Unavailable } from "./errors.js";
import { FailureKind } from "./gen/jobwire/v1/common_pb.js";
import { CancelReason, DirectiveKind, FailureAction, RejectionReason, WorkerState } from "./gen/jobwire/v1/worker_service_pb.js";
import type { OutcomeData } from "./messages.js";
import { Bench, lease, open } from "../tests/support/session-bench.js";

describe("session: opening", () => {
  it("says hello first and nothing else before the welcome", () => {
    const bench = new Bench({ types: ["a", "b"], prefetch: 16, concurrency: 24 }).poll();
    assert.deepEqual(bench.did, ["connect", "send"]);
    assert.equal(bench.last.seq, 1n);
    assert.deepEqual(bench.last.hello?.types, ["a", "b"]);
    assert.equal(bench.last.hello?.capacity?.slots, 40);
    assert.equal(bench.last.hello?.capacity?.concurrency, 24);
    bench.pass(20_000);
    assert.equal(bench.sent.length, 1);
  });

  it("drops a stream whose first frame is not a welcome", () => {
    const bench = new Bench().poll().jobs("t1");
    assert.ok(bench.did.includes("drop"));
    assert.deepEqual(bench.ran, []);
  });

  it("stops loudly when the server refuses the worker", () => {
    const bench = new Bench().poll();
    bench.session.closed(new FailedPrecondition("too old", { reason: "REVISION_UNSUPPORTED" }), bench.now);
    bench.poll();
    const stopped = bench.told.find((command) => command.command === "stopped");
    assert.equal(stopped?.command === "stopped" && stopped.error?.code, "FAILED_PRECONDITION");
    assert.equal(bench.wakeAt, Infinity);
  });
});

describe("session: W1 window and started", () => {
  it("runs up to its concurrency, keeps the rest, and tells of starts at once with the receipt", () => {
    const bench = open().jobs("t1", "t2", "t3", "t4");
    assert.deepEqual(bench.ran, ["t1", "t2"]);
    assert.deepEqual(bench.last.started, ["t1", "t2"]);
    assert.equal(bench.last.receivedSeq, 2n);
    bench.finish("t1");
    assert.deepEqual(bench.ran, ["t1", "t2", "t3"]);
    assert.deepEqual(bench.outcomes, ["t1 succeeded"]);
    assert.deepEqual(bench.last.started, ["t3"]);
  });

  it("hands frames over before it hands jobs over", () => {
    const bench = open().clear().jobs("t1");
    assert.ok(bench.did.indexOf("send") < bench.did.indexOf("tell"));
  });

  it("sends the receipt within a second when nothing else does", () => {
    const bench = open().jobs("t1", "t2").clear().jobs("t3");
    assert.equal(bench.sent.length, 0);
    bench.pass(999);
    assert.equal(bench.sent.length, 0);
    bench.pass(1);
    assert.equal(bench.last.receivedSeq, 3n);
  });

  it("starts no handler beyond 10,000 unacknowledged outcomes", () => {
    const bench = open({ concurrency: 1, prefetch: 9_999 });
    const tokens = Array.from({ length: 10_001 }, (_, i) => `t${i}`);
    bench.jobs(...tokens);
    for (const token of tokens.slice(0, 10_000)) bench.finish(token);
    assert.equal(bench.ran.length, 10_000);
    bench.frame({ ackedSeq: bench.last.seq });
    assert.equal(bench.ran.length, 10_001);
  });

  it("gives back a job of a type it does not handle", () => {
    const bench = open().frame({ jobs: [lease("t1", { task: { id: "j", type: "other" } })] });
    assert.deepEqual(bench.outcomes, ["t1 snoozed"]);
    assert.deepEqual(bench.ran, []);
  });
});

describe("session: flush rule", () => {
  it("sends at once with nothing in flight, then waits 2 ms for company", () => {
    const bench = open({ concurrency: 300, prefetch: 0 }).jobs("t1", "t2", "t3").clear();
    bench.finish("t1");
    assert.equal(bench.sent.length, 1);
    bench.finish("t2").finish("t3");
    assert.equal(bench.sent.length, 1);
    bench.pass(2);
    assert.deepEqual(bench.outcomes, ["t1 succeeded", "t2 succeeded", "t3 succeeded"]);
    assert.equal(bench.sent.length, 2);
  });

  it("sends at 128 outcomes without waiting", () => {
    const tokens = Array.from({ length: 129 }, (_, i) => `t${i}`);
    const bench = open({ concurrency: 300, prefetch: 0 }).jobs(...tokens).clear();
    for (const token of tokens.slice(0, 128)) bench.finish(token);
    assert.equal(bench.sent.length, 1);
    bench.finish("t128");
    assert.equal(bench.last.outcomes.length, 128);
  });

  it("sends at 64 KiB without waiting", () => {
    const bench = open({ concurrency: 4 }).jobs("t1", "t2", "t3").finish("t1").clear();
    bench.finish("t2", { kind: "succeeded", runMs: 1, result: { text: "x".repeat(70_000), contentType: "", contentEncoding: "" } });
    assert.equal(bench.sent.length, 1);
  });

  it("splits what does not fit into one frame", () => {
    const bench = open({ concurrency: 4 }).jobs("t1", "t2", "t3", "t4").finish("t1").clear();
    const big: OutcomeData = { kind: "succeeded", runMs: 1, result: { text: "x".repeat(900_000), contentType: "", contentEncoding: "" } };
    bench.session.event({ event: "finished", key: 2, outcome: big }, bench.now);
    bench.session.event({ event: "finished", key: 3, outcome: big }, bench.now);
    bench.poll();
    assert.deepEqual(bench.sent.map((frame) => frame.outcomes.length), [1, 1]);
  });
});

describe("session: W3 and W4, acknowledgement and resend", () => {
  it("forgets outcomes up to acked_seq and resends the others after a break, in order", () => {
    const bench = open({ concurrency: 4 }).jobs("t1", "t2", "t3", "t4");
    bench.finish("t1");
    const first = bench.last.seq;
    bench.finish("t2").pass(2).finish("t3").pass(2);
    bench.frame({ ackedSeq: first });
    bench.closed(new Unavailable("gone")).clear().pass(50);
    const hello = bench.sent[0]!.hello!;
    assert.deepEqual(hello.held.map((held) => held.leaseToken), ["t2", "t3", "t4"]);
    assert.ok(hello.held.every((held) => held.runningFor !== undefined));
    assert.deepEqual(bench.outcomes, []);
    bench.welcome();
    assert.deepEqual(bench.outcomes, ["t2 succeeded", "t3 succeeded"]);
    assert.equal(bench.sent[1]!.seq, 2n);
  });

  it("drops what the welcome calls settled, and stops what it calls lost", () => {
    const bench = open().jobs("t1", "t2", "t3").finish("t1");
    bench.closed(new Unavailable("gone")).pass(50).clear().welcome({ settled: ["t1"], lost: ["t2", "t3"] });
    assert.deepEqual(bench.outcomes, []);
    assert.deepEqual(bench.cancels, ["lease_lost", "lease_lost"]);
    bench.event({ event: "finished", key: 2, outcome: { kind: "dropped", runMs: 1 } });
    bench.event({ event: "finished", key: 3, outcome: { kind: "succeeded", result: undefined, runMs: 1 } });
    assert.deepEqual(bench.outcomes, []);
  });

  it("repeats nothing that a rejection refused for good", () => {
    for (const reason of [RejectionReason.SUPERSEDED, RejectionReason.FINISHED, RejectionReason.UNKNOWN_LEASE, 99 as RejectionReason]) {
      const bench = open().jobs("t1").finish("t1");
      bench.frame({ ackedSeq: bench.last.seq, rejections: [{ leaseToken: "t1", reason }] });
      bench.closed(new Unavailable("gone")).clear().pass(50);
      assert.deepEqual(bench.sent[0]!.hello?.held, []);
    }
  });

  it("reports UNPROCESSABLE where the lease stays valid, once", () => {
    const bench = open().jobs("t1").finish("t1").clear();
    bench.frame({ ackedSeq: 10n, rejections: [{ leaseToken: "t1", reason: RejectionReason.INVALID, message: "too big" }] });
    const failed = bench.last.outcomes[0]!.result;
    assert.ok(failed.case === "failed");
    assert.equal(failed.value.failure?.kind, FailureKind.UNPROCESSABLE);
    assert.equal(failed.value.action, FailureAction.STOP);
    assert.match(failed.value.failure!.message, /INVALID.*too big/);
    bench.clear().frame({ rejections: [{ leaseToken: "t1", reason: RejectionReason.INVALID }] });
    assert.deepEqual(bench.outcomes, []);
  });

  it("replaces a result that is over the limit before sending it", () => {
    const bench = open().jobs("t1");
    bench.finish("t1", { kind: "succeeded", runMs: 1, result: { text: "x".repeat(1_100_000), contentType: "", contentEncoding: "" } });
    assert.deepEqual(bench.outcomes, ["t1 failed"]);
  });
});

describe("session: W5 and W6, heartbeats", () => {
  it("names every lease in hand, once an interval and when one has been unnamed for 5 s", () => {
    const bench = open().pass(7_000).jobs("t1", "t2", "t3").clear().pass(3_000);
    assert.deepEqual(bench.last.heartbeat?.held, ["t1", "t2", "t3"]);
    bench.frame({ heartbeatAck: { heartbeatSeq: bench.last.seq } }).jobs("t4").clear().pass(4_999);
    assert.ok(bench.sent.every((frame) => !frame.heartbeat));
    bench.pass(1);
    assert.deepEqual(bench.last.heartbeat?.held, ["t1", "t2", "t3", "t4"]);
    assert.equal(bench.last.heartbeat?.running, 2);
  });

  it("sends outcomes in a frame before the inventory that no longer names them", () => {
    const bench = open({ concurrency: 3 }).jobs("t1", "t2", "t3").finish("t1").clear();
    bench.pass(4_999);
    bench.session.event({ event: "finished", key: 2, outcome: { kind: "succeeded", result: undefined, runMs: 1 } }, bench.now);
    bench.pass(1);
    const outcomeAt = bench.sent.findIndex((frame) => frame.outcomes.some((outcome) => outcome.leaseToken === "t2"));
    const heartbeatAt = bench.sent.findIndex((frame) => frame.heartbeat);
    assert.ok(outcomeAt >= 0 && outcomeAt < heartbeatAt, `outcome in frame ${outcomeAt}, heartbeat in ${heartbeatAt}`);
    assert.deepEqual(bench.sent[heartbeatAt]?.heartbeat?.held, ["t3"]);
  });

  it("goes on naming a lost lease until its handler has stopped", () => {
    const bench = open().jobs("t1").pass(5_000).clear();
    bench.frame({ heartbeatAck: { heartbeatSeq: 3n, lost: ["t1"] } });
    assert.deepEqual(bench.cancels, ["lease_lost"]);
    bench.pass(10_000);
    assert.deepEqual(bench.last.heartbeat?.held, ["t1"]);
    bench.event({ event: "finished", key: 1, outcome: { kind: "dropped", runMs: 1 } }).clear().pass(1_000);
    assert.deepEqual(bench.last.heartbeat?.held, []);
  });

  it("says when a lease can no longer be trusted, and when it can again", () => {
    const bench = open().jobs("t1").pass(5_000);
    bench.frame({ heartbeatAck: { heartbeatSeq: bench.last.seq } });
    bench.closed(new Unavailable("gone")).clear();
    const risks = () => bench.told.flatMap((command) => (command.command === "risk" ? [command.atRisk] : []));
    bench.pass(24_000);
    bench.closed(new Unavailable("still gone"));
    assert.deepEqual(risks(), []);
    bench.pass(6_000);
    assert.deepEqual(risks(), [true]);
    bench.welcome();
    assert.deepEqual(risks(), [true, false]);
  });

  it("starts nothing on a lease that has probably run out", () => {
    const bench = open({ concurrency: 1 }).jobs("t1", "t2");
    bench.closed(new Unavailable("gone")).pass(10_001);
    bench.finish("t1");
    assert.deepEqual(bench.ran, ["t1"]);
    bench.welcome();
    assert.deepEqual(bench.ran, ["t1", "t2"]);
  });
});

describe("session: W7, orders", () => {
  it("cancels a running job once and reports a waiting one itself", () => {
    const bench = open({ concurrency: 1 }).jobs("t1", "t2");
    const order = (leaseToken: string) => ({ leaseToken, reason: CancelReason.REQUESTED, message: "user left" });
    bench.frame({ cancels: [order("t1"), order("t2")] }).frame({ cancels: [order("t1")] });
    assert.deepEqual(bench.cancels, ["requested"]);
    assert.deepEqual(bench.outcomes, ["t2 cancelled"]);
    assert.deepEqual(bench.ran, ["t1"]);
  });

  it("knows each reason, and takes an unknown one for a request", () => {
    const reasons = [CancelReason.REQUESTED, CancelReason.TIMEOUT, CancelReason.WORKFLOW, 77 as CancelReason];
    const heard = reasons.map((reason) => open().jobs("t1").frame({ cancels: [{ leaseToken: "t1", reason }] }).cancels[0]);
    assert.deepEqual(heard, ["requested", "timeout", "workflow", "requested"]);
  });

  it("gives back recalled jobs that have not started, and only those", () => {
    const bench = open({ concurrency: 1 }).jobs("t1", "t2").frame({ recalls: ["t1", "t2", "t9"] });
    assert.deepEqual(bench.outcomes, ["t2 released"]);
  });

  it("obeys QUIET and RUN, also when a welcome repeats them", () => {
    const bench = open().frame({ directive: { kind: DirectiveKind.QUIET } });
    assert.equal(bench.last.state, WorkerState.QUIET);
    bench.closed(new Unavailable("gone")).clear().pass(50);
    assert.equal(bench.sent[0]!.state, WorkerState.QUIET);
    bench.welcome({ directive: { kind: DirectiveKind.RUN } });
    assert.equal(bench.last.state, WorkerState.ACTIVE);
  });

  it("drains on TERMINATE", () => {
    const bench = open({ concurrency: 1 }).jobs("t1", "t2");
    bench.frame({ directive: { kind: DirectiveKind.TERMINATE, grace: spanOf(60_000) } });
    assert.ok(bench.sent.some((frame) => frame.state === WorkerState.DRAINING));
    assert.deepEqual(bench.outcomes, ["t2 released"]);
    bench.pass(59_999);
    assert.deepEqual(bench.cancels, []);
    bench.pass(1);
    assert.deepEqual(bench.cancels, ["shutdown"]);
  });
});
