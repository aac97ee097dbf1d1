import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { spanOf } from "./duration.js";
import { FailedPrecondition, Unavailable } from "./errors.js";
import {
  CancelReason, DirectiveKind, FailureAction, GoAwayReason, RejectionReason, StreamJobsResponseSchema, WorkerState,
  type StreamJobsRequest,
} from "./gen/jobwire/v1/worker_service_pb.js";
import { FailureKind } from "./gen/jobwire/v1/common_pb.js";
import type { OutcomeData, RunnerCommand, RunnerEvent } from "./messages.js";
import type { SessionConfig } from "./hello.js";
import { Session, type Action } from "./session.js";

type FrameInit = Exclude<MessageInitShape<typeof StreamJobsResponseSchema>, { $typeName: string }>;
type JobInit = Exclude<NonNullable<FrameInit["jobs"]>[number], { $typeName: string }>;
type WelcomeInit = Exclude<NonNullable<FrameInit["welcome"]>, { $typeName: string }>;

/** Drives a session by hand: time moves only when told to. */
class Bench {
  now = 1_000_000;
  session: Session;
  sent: StreamJobsRequest[] = [];
  told: RunnerCommand[] = [];
  did: Action["do"][] = [];
  wakeAt = 0;
  #seq = 0;
  #keys = new Map<string, number>();

  constructor(config: Partial<SessionConfig> = {}) {
    const full = { sessionId: "s", workerId: "w", types: ["t"], subscriptions: [], concurrency: 2, prefetch: 2, graceMs: 25_000, info: {} };
    const env = { random: () => 1, stats: () => ({ rssBytes: 1, cpuPercent: 0 }) };
    this.session = new Session({ ...full, ...config }, env);
  }

  poll(): this {
    const { actions, wakeAt } = this.session.poll(this.now);
    this.wakeAt = wakeAt;
    for (const action of actions) {
      this.did.push(action.do);
      if (action.do === "connect") this.#seq = 0;
      if (action.do === "send") this.sent.push(action.frame);
      if (action.do === "tell") this.told.push(action.command);
      if (action.do === "tell" && action.command.command === "run") this.#keys.set(action.command.job.id, action.command.job.key);
    }
    return this;
  }

  /** Lets time pass, waking the session whenever it asked to be woken. */
  pass(ms: number): this {
    const end = this.now + ms;
    while (this.wakeAt <= end) {
      this.now = Math.max(this.now, this.wakeAt);
      const before = this.wakeAt;
      this.poll();
      assert.ok(this.wakeAt > before || this.wakeAt === Infinity, "the session must not spin");
    }
    this.now = end;
    return this.poll();
  }

  frame(init: FrameInit): this {
    this.#seq += 1;
    this.session.frame(create(StreamJobsResponseSchema, { seq: BigInt(this.#seq), ...init }), this.now);
    return this.poll();
  }

  welcome(welcome: WelcomeInit = {}): this {
    return this.frame({
      welcome: { slots: 4, leaseTtl: spanOf(30_000), deliveryTtl: spanOf(10_000), heartbeatInterval: spanOf(10_000), ...welcome },
    });
  }

  jobs(...tokens: string[]): this {
    return this.frame({ jobs: tokens.map((token) => lease(token)) });
  }

  event(event: RunnerEvent): this {
    this.session.event(event, this.now);
    return this.poll();
  }

  closed(error?: Unavailable): this {
    this.session.closed(error, this.now);
    return this.poll();
  }

  finish(token: string, outcome: OutcomeData = { kind: "succeeded", result: undefined, runMs: 5 }): this {
    return this.event({ event: "finished", key: this.key(token), outcome });
  }

  /** The runner's name for a lease that was run; the job id in these tests is the token. */
  key(token: string): number {
    const key = this.#keys.get(token);
    assert.ok(key !== undefined, `${token} was never run`);
    return key;
  }

  get ran(): string[] {
    return this.told.flatMap((command) => (command.command === "run" ? [command.job.id] : []));
  }

  get cancels(): string[] {
    return this.told.flatMap((command) => (command.command === "cancel" ? [command.reason] : []));
  }

  get last(): StreamJobsRequest {
    return this.sent.at(-1)!;
  }

  /** Outcomes sent so far, as "token arm". */
  get outcomes(): string[] {
    return this.sent.flatMap((frame) => frame.outcomes.map((outcome) => `${outcome.leaseToken} ${outcome.result.case}`));
  }

  clear(): this {
    this.sent = [];
    this.told = [];
    this.did = [];
    return this;
  }
}

function lease(token: string, init: JobInit = {}): JobInit {
  return { leaseToken: token, attempt: 1, delivery: 1, task: { id: token, type: "t", queue: "t" }, ...init };
}

function open(config?: Partial<SessionConfig>): Bench {
  return new Bench(config).poll().welcome();
}

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
