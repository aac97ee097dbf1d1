// enqueueStream against a scripted server: order, bounds, refusals, interruptions.
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { create } from "@bufbuild/protobuf";
import { status } from "@grpc/grpc-js";
import { spanOf } from "../src/duration.js";
import { EnqueueStreamResponseSchema, type EnqueueStreamRequest } from "../src/gen/jobwire/v1/job_service_pb.js";
import { CallCancelled, Client, InvalidArgument, PermissionDenied, ResourceExhausted, type EnqueueItem } from "../src/index.js";
import { Inbox, ScriptedServer } from "./support/scripted-server.js";

/** One EnqueueStream call, seen from the server. */
class Producer {
  readonly frames = new Inbox<EnqueueStreamRequest>();
  /** The client ended its half, or gave up the stream. */
  readonly ended: Promise<unknown>;

  constructor(readonly call: any) {
    call.on("data", (frame: EnqueueStreamRequest) => this.frames.push(frame));
    call.on("error", () => {});
    this.ended = new Promise<void>((resolve) => {
      call.on("end", () => (call.end(), resolve()));
      call.on("cancelled", () => resolve());
    });
  }

  send(response: object): void {
    this.call.write(create(EnqueueStreamResponseSchema, response));
  }

  /** Acknowledges a frame; the job ids are the proposed ones with a mark. */
  ack({ seq, jobs }: EnqueueStreamRequest, more: object = {}): void {
    this.send({ ackedSeq: seq, jobIds: jobs.map(({ id }) => `srv-${id}`), ...more });
  }

  break(code = status.UNAVAILABLE): void {
    this.call.emit("error", Object.assign(new Error("broken"), { code, details: "broken" }));
  }
}

async function setup(maxUnacked = 8) {
  const server = await new ScriptedServer().listen();
  const producers = new Inbox<Producer>();
  server.bidi["enqueueStream"] = (call) => {
    const producer = new Producer(call);
    producer.send({ maxUnacked });
    producers.push(producer);
  };
  const client = new Client({ url: server.url });
  return {
    client,
    producers,
    async [Symbol.asyncDispose]() {
      await client.close();
      server.stop();
    },
  };
}

/** A source that gives what it is told, when it is told. */
class Tap<T> implements AsyncIterable<T> {
  readonly inbox = new Inbox<{ value?: T; end?: true; error?: Error }>();
  /** Resolves when nobody reads it any more. */
  readonly done: Promise<void>;
  #leave!: () => void;

  constructor() {
    this.done = new Promise((resolve) => (this.#leave = resolve));
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T> {
    try {
      for (;;) {
        const next = await this.inbox.next();
        if (next.error) throw next.error;
        if (next.end) return;
        yield next.value!;
      }
    } finally {
      this.#leave();
    }
  }
}

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const item of items) list.push(item);
  return list;
}

const inputOf = (frame: EnqueueStreamRequest) => frame.jobs.map(({ payload }) => JSON.parse(payload?.body.value as string).n as number);

describe("client: enqueueStream", () => {
  it("gathers what is at hand into frames, and answers in order", async () => {
    await using fixture = await setup();
    const inputs = Array.from({ length: 1_200 }, (_, n) => ({ n }));
    const answers = all(fixture.client.enqueueStream("t", inputs, { queue: "q", tags: ["x"] }));
    const producer = await fixture.producers.next();
    const frames: EnqueueStreamRequest[] = [];
    for (let jobs = 0; jobs < 1_200; jobs += frames.at(-1)!.jobs.length) {
      frames.push(await producer.frames.next());
      producer.ack(frames.at(-1)!);
    }
    assert.deepEqual(frames.map(({ seq }) => seq), frames.map((_, i) => BigInt(i + 1)));
    assert.deepEqual(frames.flatMap(inputOf), inputs.map(({ n }) => n));
    assert.ok(frames.length <= 4, `${frames.length} frames`);
    assert.deepEqual([frames[0]!.jobs[0]!.queue, frames[0]!.jobs[0]!.tags], ["q", ["x"]]);
    const ids = frames.flatMap(({ jobs }) => jobs.map(({ id }) => `srv-${id}`));
    assert.deepEqual((await answers).map(({ job }) => job?.id), ids);
    await producer.ended;
  });

  it("has no more frames unacknowledged than the server allows", async () => {
    await using fixture = await setup(2);
    const tap = new Tap<{ n: number }>();
    const answers = all(fixture.client.enqueueStream("t", tap));
    tap.inbox.push({ value: { n: 0 } });
    const producer = await fixture.producers.next();
    const first = await producer.frames.next();
    tap.inbox.push({ value: { n: 1 } });
    const second = await producer.frames.next();
    for (let n = 2; n < 6; n++) tap.inbox.push({ value: { n } });
    tap.inbox.push({ end: true });
    producer.ack(first);
    const third = await producer.frames.next();
    assert.deepEqual([first, second, third].map(inputOf), [[0], [1], [2, 3, 4, 5]]);
    producer.ack(third, { jobIds: [...second.jobs, ...third.jobs].map(({ id }) => id) });
    assert.deepEqual((await answers).map(({ job }) => job?.id), [`srv-${first.jobs[0]!.id}`, ...[...second.jobs, ...third.jobs].map(({ id }) => id)]);
  });

  it("answers for each job that was refused, here or there", async () => {
    await using fixture = await setup();
    const answers = all(fixture.client.enqueueStream("t", [{ n: 0 }, { n: NaN }, { n: 2 }]));
    const producer = await fixture.producers.next();
    const frame = await producer.frames.next();
    assert.deepEqual(inputOf(frame), [0, 2]);
    producer.send({ errors: [{ seq: frame.seq, index: 1, error: { code: 8, reason: "QUEUE_FULL", message: "full" } }] });
    producer.ack(frame, { jobIds: [frame.jobs[0]!.id, ""] });
    const [first, second, third] = await answers;
    assert.equal(first?.job?.id, frame.jobs[0]!.id);
    assert.ok(second?.error instanceof InvalidArgument);
    assert.ok(third?.error instanceof ResourceExhausted && third.error.reason === "QUEUE_FULL");
  });

  it("sends what was not acknowledged again after a break, with the same ids", async () => {
    await using fixture = await setup();
    const tap = new Tap<{ n: number }>();
    const answers = all(fixture.client.enqueueStream("t", tap));
    tap.inbox.push({ value: { n: 0 } });
    const before = await fixture.producers.next();
    const acked = await before.frames.next();
    before.ack(acked);
    tap.inbox.push({ value: { n: 1 } });
    const lost = await before.frames.next();
    before.break();
    const after = await fixture.producers.next();
    const again = await after.frames.next();
    assert.deepEqual([again.seq, again.jobs[0]!.id], [1n, lost.jobs[0]!.id]);
    // The server leaves: the stream moves once more, and nothing is lost.
    after.send({ reconnectDelay: spanOf(1) });
    const last = await fixture.producers.next();
    const third = await last.frames.next();
    assert.equal(third.jobs[0]!.id, lost.jobs[0]!.id);
    tap.inbox.push({ end: true });
    last.ack(third);
    assert.deepEqual((await answers).map(({ job }) => job?.id), [acked, lost].map(({ jobs }) => `srv-${jobs[0]!.id}`));
  });

  it("throws when the server refuses the producer, or the source fails", async () => {
    await using fixture = await setup();
    const refused = all(fixture.client.enqueueStream("t", [{ n: 0 }]));
    (await fixture.producers.next()).break(status.PERMISSION_DENIED);
    await assert.rejects(refused, PermissionDenied);

    const tap = new Tap<{ n: number }>();
    const seen: EnqueueItem<unknown>[] = [];
    const failing = (async () => {
      for await (const item of fixture.client.enqueueStream("t", tap)) seen.push(item);
    })();
    tap.inbox.push({ value: { n: 0 } });
    tap.inbox.push({ error: new RangeError("the source broke") });
    const producer = await fixture.producers.next();
    producer.ack(await producer.frames.next());
    await assert.rejects(failing, /the source broke/);
    assert.equal(seen.length, 1);
  });

  it("ends with its caller: by a signal, or when the loop is left", async () => {
    await using fixture = await setup();
    const controller = new AbortController();
    const aborted = all(fixture.client.enqueueStream("t", [{ n: 0 }], { signal: controller.signal }));
    const producer = await fixture.producers.next();
    await producer.frames.next();
    controller.abort();
    await assert.rejects(aborted, CallCancelled);
    await producer.ended;

    const tap = new Tap<{ n: number }>();
    tap.inbox.push({ value: { n: 0 } });
    const acking = fixture.producers.next().then(async (next) => {
      next.ack(await next.frames.next());
      return next;
    });
    for await (const { job } of fixture.client.enqueueStream("t", tap)) {
      assert.ok(job);
      break;
    }
    await (await acking).ended;
    tap.inbox.push({ value: { n: 1 } });
    await tap.done;
  });
});
