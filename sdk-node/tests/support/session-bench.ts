// A session machine, driven by hand.
import assert from "node:assert/strict";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { spanOf } from "../../src/duration.js";
import type { Unavailable } from "../../src/errors.js";
import { StreamJobsResponseSchema, type StreamJobsRequest } from "../../src/gen/jobwire/v1/worker_service_pb.js";
import type { JobData, OutcomeData, RunnerCommand, RunnerEvent } from "../../src/messages.js";
import type { SessionConfig } from "../../src/hello.js";
import { Session, type Action } from "../../src/session.js";

type FrameInit = Exclude<MessageInitShape<typeof StreamJobsResponseSchema>, { $typeName: string }>;
type JobInit = Exclude<NonNullable<FrameInit["jobs"]>[number], { $typeName: string }>;
type WelcomeInit = Exclude<NonNullable<FrameInit["welcome"]>, { $typeName: string }>;

/** Drives a session by hand: time moves only when told to. */
export class Bench {
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
      if (action.do === "tell") for (const { id, key } of jobsOf(action.command)) this.#keys.set(id, key);
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

  /** Batches that were run: the jobs of each. */
  get batches(): string[][] {
    return this.told.flatMap((command) => (command.command === "runBatch" ? [command.jobs.map(({ id }) => id)] : []));
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

export function lease(token: string, init: JobInit = {}): JobInit {
  return { leaseToken: token, attempt: 1, delivery: 1, task: { id: token, type: "t", queue: "t" }, ...init };
}

export function open(config?: Partial<SessionConfig>): Bench {
  return new Bench(config).poll().welcome();
}

function jobsOf(command: RunnerCommand): JobData[] {
  if (command.command === "run") return [command.job];
  return command.command === "runBatch" ? command.jobs : [];
}
