// The client against a scripted server.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { create } from "@bufbuild/protobuf";
import { status } from "@grpc/grpc-js";
import { spanOf } from "../src/duration.js";
import { JobState } from "../src/gen/jobwire/v1/job_pb.js";
import {
  AwaitResultsResponseSchema, EnqueueStatus, WatchJobResponseSchema,
  type AwaitResultsRequest, type EnqueueManyRequest, type EnqueueRequest, type WatchJobRequest,
} from "../src/gen/jobwire/v1/job_service_pb.js";
import {
  AlreadyExists, CallCancelled, Client, DeadlineExceeded, defineTask, InvalidArgument, JobCancelled, JobExpired, JobFailed,
  NotFound, ResourceExhausted, Unauthenticated, Unavailable, type JobEvent,
} from "../src/index.js";
import { fail, ScriptedServer } from "./support/scripted-server.js";

const greet = defineTask<{ name: string }, string>("greet", { queue: "hello", tags: (input) => [`for-${input.name}`], timeout: "30s" });

async function setup(unary: ScriptedServer["unary"] = {}) {
  const server = await new ScriptedServer().listen();
  server.unary = unary;
  const client = new Client({ url: server.url, deadline: "5s" });
  return {
    server,
    client,
    async [Symbol.asyncDispose]() {
      await client.close();
      server.stop();
    },
  };
}

const accept = {
  enqueue: ({ job }: EnqueueRequest) => ({ jobId: `srv-${job!.id}`, status: EnqueueStatus.CREATED }),
  enqueueMany: ({ jobs }: EnqueueManyRequest) => ({
    results: jobs.map((job) => ({ jobId: `srv-${job.id}`, status: EnqueueStatus.CREATED })),
  }),
};

describe("client: enqueue", () => {
  it("proposes a UUIDv7, returns the server's id, and lets the call's options win", async () => {
    await using fixture = await setup(accept);
    const { server, client } = fixture;
    const job = await client.enqueue(greet, { name: "Ada" }, { delay: "10m", timeout: 1_500, priority: 3, retry: { maxAttempts: 2, jitter: 0 } });
    const { job: spec } = server.calls[0]!.request as EnqueueRequest;
    assert.match(spec!.id, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    assert.equal(job.id, `srv-${spec!.id}`);
    assert.equal(job.enqueued, "created");
    assert.equal(spec!.type, "greet");
    assert.equal(spec!.queue, "hello");
    assert.deepEqual(spec!.tags, ["for-Ada"]);
    assert.equal(spec!.payload?.body.value, '{"name":"Ada"}');
    assert.equal((spec!.start.value as any).seconds, 600n);
    assert.deepEqual([spec!.timeout?.seconds, spec!.timeout?.nanos], [1n, 500_000_000]);
    assert.equal(spec!.priority, 3);
    assert.equal(spec!.retry?.maxAttempts, 2);
    assert.equal(spec!.retry?.jitter, 0);
  });

  it("repeats on UNAVAILABLE with the same id", async () => {
    let calls = 0;
    await using fixture = await setup({
      enqueue: (request) => (++calls < 3 ? fail(status.UNAVAILABLE, "store away") : accept.enqueue(request)),
    });
    const { server, client } = fixture;
    await client.enqueue(greet, { name: "Ada" });
    const ids = server.calls.map((call) => (call.request as EnqueueRequest).job!.id);
    assert.equal(ids.length, 3);
    assert.equal(new Set(ids).size, 1);
  });

  it("gives up at the deadline and says how to start a server", async () => {
    const client = new Client({ url: "jobwire://127.0.0.1:1", deadline: 200 });
    await assert.rejects(client.enqueue(greet, { name: "Ada" }), (error: Error) =>
      error instanceof Unavailable && /No Jobwire server at 127\.0\.0\.1:1\. Start one: jobwire dev/.test(error.message));
    await client.close();
  });

  it("moves on to the next endpoint", async () => {
    await using server = await new ScriptedServer().listen();
    server.unary = accept;
    const client = new Client({ url: `jobwire://127.0.0.1:1,${server.url}`, deadline: "5s" });
    for (let i = 0; i < 4; i++) await client.enqueue(greet, { name: "Ada" });
    await client.close();
  });

  it("raises the server's error with code, reason, field and delay", async () => {
    // google.rpc.Status{8, "full", [ErrorInfo{QUEUE_FULL, metadata queue=mail}, RetryInfo{1.5s}, BadRequest{field "queue"}]}
    const any = (type: string, value: Buffer) => field(3, Buffer.concat([field(1, Buffer.from(`type.googleapis.com/google.rpc.${type}`)), field(2, value)]));
    const field = (number: number, bytes: Buffer) => Buffer.concat([Buffer.from([(number << 3) | 2, bytes.length]), bytes]);
    const entry = Buffer.concat([field(1, Buffer.from("queue")), field(2, Buffer.from("mail"))]);
    const bin = Buffer.concat([
      Buffer.from([8, 8]),
      any("ErrorInfo", Buffer.concat([field(1, Buffer.from("QUEUE_FULL")), field(2, Buffer.from("jobwire.dev")), field(3, entry)])),
      any("RetryInfo", field(1, Buffer.from([8, 1, 16, 0x80, 0xca, 0xb5, 0xee, 0x01]))),
      any("BadRequest", field(1, field(1, Buffer.from("queue")))),
    ]);
    await using fixture = await setup({ enqueue: () => fail(status.RESOURCE_EXHAUSTED, "queue mail is full", bin) });
    await assert.rejects(fixture.client.enqueue(greet, { name: "Ada" }), (error: unknown) => {
      assert.ok(error instanceof ResourceExhausted);
      assert.equal(error.code, "RESOURCE_EXHAUSTED");
      assert.equal(error.reason, "QUEUE_FULL");
      assert.equal(error.field, "queue");
      assert.equal(error.retryDelay, 1_500);
      assert.equal(error.retryable, true);
      assert.deepEqual({ ...error.metadata }, { queue: "mail" });
      return true;
    });
  });

  it("refuses what cannot be sent before sending it", async () => {
    await using fixture = await setup(accept);
    const { server, client } = fixture;
    const bad: [object, string][] = [
      [{ delay: "1s", at: new Date() }, "delay"],
      [{ ttl: "1s", expireAt: new Date() }, "ttl"],
      [{ timeout: "soon" }, "timeout"],
      [{ timeout: -1 }, "timeout"],
      [{ priority: 1.5 }, "priority"],
      [{ attempts: 3 }, "attempts"],
      [{ wait: "1s" }, "wait"],
    ];
    for (const [options, named] of bad) {
      await assert.rejects(client.enqueue("greet", {}, options), (error: unknown) => error instanceof InvalidArgument && (error.field ?? "") === named);
    }
    const shared: object = { id: "019ab3c4-0000-7000-8000-000000000000" };
    const isAboutId = (error: unknown) => error instanceof InvalidArgument && error.field === "id";
    await assert.rejects(client.enqueueMany("greet", [{}, {}], shared), isAboutId);
    await assert.rejects(client.enqueueStream("greet", [{}, {}], shared).next(), isAboutId);
    await assert.rejects(client.enqueue("greet", { n: Infinity }), InvalidArgument);
    await assert.rejects(client.enqueue("greet", { text: "x".repeat(1 << 20) }), ResourceExhausted);
    assert.equal(server.calls.length, 0);
  });

  it("sends the token, and not in clear to another machine", async () => {
    await using server = await new ScriptedServer().listen();
    server.unary = accept;
    const client = new Client({ url: server.url, token: "secret" });
    await client.enqueue(greet, { name: "Ada" });
    assert.deepEqual(server.calls[0]!.metadata.get("authorization"), ["Bearer secret"]);
    await client.close();
    assert.throws(() => new Client({ url: "jobwire://example.com", token: "secret" }), /allowPlaintextToken/);
  });

  it("reads the token's file again when it is refused", async () => {
    const folder = mkdtempSync(join(tmpdir(), "jobwire-token-"));
    const tokenFile = join(folder, "token");
    writeFileSync(tokenFile, "old\n");
    await using server = await new ScriptedServer().listen();
    server.unary = {
      enqueue: (request) => {
        if (server.calls.at(-1)!.metadata.get("authorization")[0] === "Bearer new") return accept.enqueue(request);
        writeFileSync(tokenFile, "new\n");
        return fail(status.UNAUTHENTICATED, "expired");
      },
    };
    const client = new Client({ url: server.url, tokenFile });
    await client.enqueue(greet, { name: "Ada" });
    assert.equal(server.calls.length, 2);
    server.unary["enqueue"] = () => fail(status.UNAUTHENTICATED, "no");
    await assert.rejects(client.enqueue(greet, { name: "Ada" }), Unauthenticated);
    assert.equal(server.calls.length, 4);
    await client.close();
    rmSync(folder, { recursive: true });
  });
});

describe("client: coalescing", () => {
  it("sends the first at once and the others together", async () => {
    await using fixture = await setup(accept);
    const { server, client } = fixture;
    const names = Array.from({ length: 256 }, (_, i) => `n${i}`);
    const jobs = await Promise.all(names.map((name) => client.enqueue(greet, { name })));
    assert.deepEqual(server.calls.map((call) => call.method), ["enqueue", "enqueueMany"]);
    assert.equal((server.calls[1]!.request as EnqueueManyRequest).jobs.length, 255);
    const sent = [(server.calls[0]!.request as EnqueueRequest).job!, ...(server.calls[1]!.request as EnqueueManyRequest).jobs];
    assert.deepEqual(jobs.map((job) => job.id), sent.map((spec) => `srv-${spec.id}`));
    assert.deepEqual(sent.map((spec) => JSON.parse(spec.payload!.body.value as string).name), names);
  });

  it("sends 1,000 jobs beside a call that is under way", async () => {
    let release!: () => void;
    const held = new Promise<void>((resolve) => (release = resolve));
    await using fixture = await setup({ ...accept, enqueue: async (request) => (await held, accept.enqueue(request)) });
    const { server, client } = fixture;
    const jobs = Array.from({ length: 1_501 }, (_, i) => client.enqueue(greet, { name: `${i}` }));
    await jobs[1_000];
    assert.deepEqual(server.calls.map((call) => call.method), ["enqueue", "enqueueMany"]);
    release();
    await Promise.all(jobs);
    assert.deepEqual(server.calls.slice(1).map((call) => (call.request as EnqueueManyRequest).jobs.length), [1_000, 500]);
  });

  it("fails one caller for one bad item, and retries one that is unavailable", async () => {
    const tries = new Map<string, number>();
    await using fixture = await setup({
      ...accept,
      enqueueMany: ({ jobs }: EnqueueManyRequest) => ({
        results: jobs.map((job) => {
          const { name } = JSON.parse(job.payload!.body.value as string) as { name: string };
          tries.set(name, (tries.get(name) ?? 0) + 1);
          if (name === "bad") return { error: { code: 6, reason: "UNIQUE_CONFLICT", message: "taken", metadata: { job_id: "other" } } };
          if (name === "late" && tries.get(name) === 1) return { error: { code: 14, reason: "STORE_UNAVAILABLE", message: "away" } };
          return { jobId: job.id, status: EnqueueStatus.CREATED };
        }),
      }),
    });
    const { client } = fixture;
    const results = await Promise.allSettled(["first", "good", "bad", "late"].map((name) => client.enqueue(greet, { name })));
    assert.deepEqual(results.map((result) => result.status), ["fulfilled", "fulfilled", "rejected", "fulfilled"]);
    const { reason } = results[2] as PromiseRejectedResult;
    assert.ok(reason instanceof AlreadyExists);
    assert.equal(reason.jobId, "other");
  });

  it("lets a caller give up without ending anything", async () => {
    let release!: () => void;
    const held = new Promise<void>((resolve) => (release = resolve));
    await using fixture = await setup({ ...accept, enqueue: async (request) => (await held, accept.enqueue(request)) });
    const { client } = fixture;
    const controller = new AbortController();
    const first = client.enqueue(greet, { name: "a" });
    const gone = client.enqueue(greet, { name: "b" }, { signal: controller.signal });
    const other = client.enqueue(greet, { name: "c" });
    setImmediate(() => controller.abort());
    await assert.rejects(gone, CallCancelled);
    release();
    await Promise.all([first, other]);
  });

  it("answers per item in enqueueMany", async () => {
    await using fixture = await setup(accept);
    const { server, client } = fixture;
    const items = await client.enqueueMany(greet, [{ name: "a" }, { name: "b", bad: NaN } as any, { name: "c" }]);
    assert.deepEqual(items.map((item) => (item.error ? "error" : item.job.enqueued)), ["created", "error", "created"]);
    assert.ok(items[1]!.error instanceof InvalidArgument);
    assert.equal((server.calls[0]!.request as EnqueueManyRequest).jobs.length, 2);
    const many = await client.enqueueMany("greet", Array.from({ length: 2_500 }, (_, i) => ({ i })));
    assert.equal(many.length, 2_500);
    assert.deepEqual(server.calls.slice(1).map((call) => (call.request as EnqueueManyRequest).jobs.length), [1_000, 1_000, 500]);
  });
});

describe("client: results", () => {
  /** A server that finishes jobs as told, on AwaitResults. */
  function awaiting(server: ScriptedServer, answer: (id: string) => object | undefined) {
    const opened = { streams: 0, asked: [] as string[], forgotten: [] as string[] };
    server.bidi["awaitResults"] = (call) => {
      opened.streams += 1;
      call.on("data", (request: AwaitResultsRequest) => {
        opened.asked.push(...request.jobIds);
        opened.forgotten.push(...request.forgetIds);
        const known = request.jobIds.filter((id) => id !== "nobody");
        const results = known.flatMap((id) => answer(id) ?? []);
        call.write(create(AwaitResultsResponseSchema, { results, unknownIds: request.jobIds.filter((id) => id === "nobody") }));
      });
      call.on("end", () => call.end());
    };
    return opened;
  }

  const done = (jobId: string, value = "null") => ({
    jobId, state: JobState.SUCCEEDED, result: { body: { case: "text", value } },
  });

  it("shares one stream among all who wait", async () => {
    await using fixture = await setup();
    const { server, client } = fixture;
    const opened = awaiting(server, (id) => done(id, `{"id":"${id}","n":12345678901234567890}`));
    const ids = Array.from({ length: 2_500 }, (_, i) => `j${i}`);
    const results = await Promise.all(ids.map((id) => client.job<{ id: string; n: bigint }>(id).result()));
    assert.deepEqual(results.map(({ id }) => id), ids);
    assert.equal(results[0]!.n, 12345678901234567890n);
    assert.equal(opened.streams, 1);
  });

  it("throws by the way the job ended", async () => {
    await using fixture = await setup();
    const { server, client } = fixture;
    const states: Record<string, JobState> = { dead: JobState.DEAD, gone: JobState.DISCARDED, cancelled: JobState.CANCELLED, expired: JobState.EXPIRED };
    awaiting(server, (id) => ({ jobId: id, state: states[id], failure: { type: "smtp.Timeout", message: "no answer", stackTrace: "at …" } }));
    await assert.rejects(client.job("dead").result(), (error: unknown) => {
      assert.ok(error instanceof JobFailed);
      assert.equal(error.state, "dead");
      assert.equal(error.failure?.type, "smtp.Timeout");
      assert.match(error.message, /job dead is dead: smtp\.Timeout: no answer/);
      return true;
    });
    await assert.rejects(client.job("gone").result(), JobFailed);
    await assert.rejects(client.job("cancelled").result(), JobCancelled);
    await assert.rejects(client.job("expired").result(), JobExpired);
    await assert.rejects(client.job("nobody").result(), NotFound);
  });

  it("stops waiting when asked, and tells the server", async () => {
    await using fixture = await setup();
    const { server, client } = fixture;
    const opened = awaiting(server, (id) => (id === "quick" ? done(id) : undefined));
    await assert.rejects(client.job("slow").result({ timeout: 30 }), DeadlineExceeded);
    await client.job("quick").result();
    assert.deepEqual(opened.forgotten, ["slow"]);
    await assert.rejects(client.job("slow").result({ signal: AbortSignal.abort() }), CallCancelled);
  });

  it("goes on after the stream broke", async () => {
    await using fixture = await setup();
    const { server, client } = fixture;
    let streams = 0;
    server.bidi["awaitResults"] = (call) => {
      streams += 1;
      call.on("data", (request: AwaitResultsRequest) => {
        if (streams === 1) call.emit("error", Object.assign(new Error("bye"), { code: status.UNAVAILABLE, details: "bye" }));
        else call.write(create(AwaitResultsResponseSchema, { results: request.jobIds.map((id) => done(id, "7")) as any }));
      });
    };
    assert.equal(await client.job<number>("j").result(), 7);
    assert.equal(streams, 2);
  });

  it("runs: enqueues, waits on the server, and goes on by itself after that", async () => {
    await using fixture = await setup({
      enqueue: ({ job, wait }: EnqueueRequest) => {
        assert.ok(wait);
        const quick = job!.type === "greet";
        return { jobId: "j1", status: EnqueueStatus.CREATED, ...(quick && { result: done("j1", '"Hello"') }) };
      },
    });
    const { server, client } = fixture;
    awaiting(server, (id) => done(id, '"later"'));
    assert.equal(await client.run(greet, { name: "Ada" }, { wait: "20s" }), "Hello");
    assert.equal(await client.run("other", {}), "later");
  });
});

describe("client: handles", () => {
  it("follows a job, resumes its log after a break, and repeats nothing", async () => {
    await using fixture = await setup();
    const { server, client } = fixture;
    const asked: bigint[] = [];
    server.serverStream["watchJob"] = (call) => {
      const request = call.request as WatchJobRequest;
      asked.push(request.logsAfter!);
      const line = (index: bigint) => ({ index, message: `line ${index}`, level: 9, time: spanOf(1) as any });
      const send = (update: object) => call.write(create(WatchJobResponseSchema, update));
      if (asked.length === 1) {
        send({ job: { id: "j", state: JobState.RUNNING, attempt: 1 }, lines: [line(1n), line(2n)] });
        send({ progress: { percent: 50 } });
        call.emit("error", Object.assign(new Error("bye"), { code: status.UNAVAILABLE, details: "bye" }));
      } else {
        send({ job: { id: "j", state: JobState.RUNNING, attempt: 1 }, lines: [line(2n), line(3n)] });
        send({ job: { id: "j", state: JobState.SUCCEEDED, attempt: 1 } });
        call.end();
      }
    };
    const events: JobEvent[] = [];
    for await (const event of client.job("j").events()) events.push(event);
    const told = events.map((event) => (event.kind === "log" ? event.line.message : event.kind === "state" ? event.state : event.progress.percent));
    assert.deepEqual(asked, [0n, 2n]);
    assert.deepEqual(told, ["line 1", "line 2", "running", 50, "line 3", "succeeded"]);
  });

  it("reads the record", async () => {
    await using fixture = await setup({
      getJob: () => ({
        job: {
          id: "j", state: JobState.RETRYING, attempt: 2, delivery: 3, crashes: 1, spec: { type: "t", queue: "q", tags: ["x"], priority: 4 },
          createTime: spanOf(1_700_000_000_123), failure: { type: "E", message: "m", kind: 2 }, progress: { percent: 0, current: 5n },
        },
      }),
    });
    const { client } = fixture;
    const record = await client.job("j").status();
    assert.equal(record.state, "retrying");
    assert.equal(record.queue, "q");
    assert.equal(record.createTime?.getTime(), 1_700_000_000_123);
    assert.equal(record.failure?.kind, "timeout");
    assert.deepEqual(record.progress, { percent: 0, current: 5 });
  });

  it("explains in sentences", async () => {
    await using fixture = await setup({
      explainJob: () => ({ state: JobState.READY, summary: "READY in mail.", reasons: [{ message: "Queue mail is paused.", reason: { case: "paused", value: {} } }, { message: "12 jobs are ahead." }] }),
    });
    const explanation = await fixture.client.job("j").explain();
    assert.deepEqual(explanation, { state: "ready", summary: "READY in mail.", reasons: ["Queue mail is paused.", "12 jobs are ahead."] });
  });

  it("cancels and retries, and says when there was nothing to do", async () => {
    await using fixture = await setup({
      cancelJobs: ({ selector }) => ({ result: selector.ids[0] === "done" ? { matchedCount: 1 } : selector.ids[0] === "none" ? {} : { matchedCount: 1, affectedCount: 1 } }),
      retryJobs: () => ({ result: { matchedCount: 1, affectedCount: 1 } }),
    });
    const { server, client } = fixture;
    assert.equal(await client.job("j").cancel("user left", { grace: "30s" }), true);
    assert.equal(server.calls[0]!.request.reason, "user left");
    assert.equal(server.calls[0]!.request.grace.seconds, 30n);
    assert.equal(await client.job("done").cancel(), false);
    await assert.rejects(client.job("none").cancel(), NotFound);
    assert.equal(await client.job("j").retry({ resetAttempts: true }), true);
  });
});
