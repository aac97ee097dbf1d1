// Jobs, queues and workers as operators see and change them, through the real server. Needs JOBWIRE_BIN.
import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, describe, it } from "node:test";
import { Aborted, Client, defineTask, InvalidArgument, NotFound, Worker, type QueueConfig } from "../src/index.js";
import { silent } from "./support/fixture.js";
import { RealServer } from "./support/real-server.js";

const PATIENCE = { timeout: "20s" } as const;

describe("administration", () => {
  let server: RealServer;
  let client: Client;
  let worker: Worker;
  let done: Promise<void>;

  before(async () => {
    server = await RealServer.start();
    client = new Client({ url: server.url });
    worker = new Worker(client, { signals: false, logger: silent, queues: ["work"], workerId: "ada", labels: { zone: "a" }, appVersion: "7" })
      .handle("echo", (input, ctx) => {
        ctx.log.debug("quiet");
        ctx.log.warn("loud");
        return input;
      })
      .handle("fail", () => {
        throw new RangeError("far");
      });
    done = worker.run();
  });

  after(async () => {
    await worker?.stop();
    await done;
    await client?.close();
    await server?.stop();
  });

  const collect = async <T, U>(items: AsyncIterable<T>, of: (item: T) => U): Promise<U[]> => {
    const all: U[] = [];
    for await (const item of items) all.push(of(item));
    return all;
  };

  /** Jobs that stay, in a queue of their own. */
  const stay = async (queue: string, count: number) =>
    (await client.enqueueMany("echo", Array.from({ length: count }, (_, n) => ({ n })), { queue })).map(({ job }) => job!.id);

  it("shows all of a job", async () => {
    const job = await client.enqueue("fail", { n: 2n ** 60n }, { queue: "work", retry: { maxAttempts: 2, initialDelay: 10 }, tags: ["red"] });
    await job.result(PATIENCE).catch(() => {});
    const details = await client.jobs.get(job.id);
    assert.deepEqual([details.state, details.input, details.result, details.tags], ["dead", { n: 2n ** 60n }, undefined, ["red"]]);
    assert.deepEqual(details.attempts.map(({ attempt, result, workerId, failure }) => [attempt, result, workerId, failure?.type]), [
      [2, "failed", "ada", "RangeError"],
      [1, "failed", "ada", "RangeError"],
    ]);
    assert.ok(details.etag && details.purgeTime! > new Date());
    await assert.rejects(client.jobs.get("0190a5d2-0000-7000-8000-000000000000"), NotFound);
  });

  it("lists jobs and their lines page by page", async () => {
    const ids = await stay("paged", 7);
    const found = await collect(client.jobs.list({ filter: "queue = paged", pageSize: 3 }), ({ id, type }) => `${type} ${id}`);
    assert.deepEqual(found.toSorted(), ids.map((id) => `echo ${id}`).toSorted());
    const job = await client.enqueue("echo", {}, { queue: "work" });
    await job.result(PATIENCE);
    assert.deepEqual(await collect(client.jobs.logs(job.id, { pageSize: 1 }), ({ message }) => message), ["quiet", "loud"]);
    assert.deepEqual(await collect(client.jobs.logs(job.id, { minLevel: "info" }), ({ level }) => level), ["warn"]);
    for await (const _ of client.jobs.list({ filter: "queue = paged", pageSize: 1 })) break;
    await assert.rejects(collect(client.jobs.list({ filter: "nonsense =" }), () => 0), InvalidArgument);
  });

  it("changes, cancels, runs again and deletes jobs, by ids and by filter", async () => {
    const ids = await stay("bulk", 2_400);
    const counted = await client.jobs.update({ filter: "queue = bulk" }, { priority: 3 }, { dryRun: true });
    assert.deepEqual([counted.matched, counted.affected, counted.sampleIds.length], [2_400, 0, 100]);
    assert.equal((await client.jobs.update(ids.slice(0, 1_500), { priority: 2, retry: 3, timeout: "5s" })).affected, 1_500);
    const [first] = ids as [string];
    const { etag, priority } = await client.jobs.get(first);
    assert.equal(priority, 2);
    assert.equal((await client.jobs.update(first, { input: { edited: true }, delay: "1h" }, { etag })).affected, 1);
    const edited = await client.jobs.get(first);
    assert.deepEqual([edited.input, edited.state], [{ edited: true }, "scheduled"]);
    await assert.rejects(client.jobs.update(first, { priority: 1 }, { etag }), Aborted);
    assert.equal((await client.jobs.cancel({ filter: "queue = bulk" }, { reason: "drill" })).affected, 2_400);
    assert.equal((await client.jobs.cancel(ids.slice(0, 3))).affected, 0);
    const edits = await client.jobs.update(ids.slice(0, 3), { priority: 1 });
    assert.deepEqual([edits.affected, edits.errors.map(({ error }) => error.reason)], [0, ["JOB_TERMINAL", "JOB_TERMINAL", "JOB_TERMINAL"]]);
    assert.equal((await client.jobs.retry([first], { resetAttempts: true, queue: "work" })).affected, 1);
    assert.deepEqual(await client.job(first).result(PATIENCE), { edited: true });
    const kept = await client.jobs.delete({ filter: "queue = bulk" });
    assert.deepEqual([kept.matched, kept.affected], [2_399, 0]);
    assert.equal((await client.jobs.delete({ filter: "queue = bulk" }, { force: true })).affected, 2_399);
    await assert.rejects(client.jobs.cancel(ids[5]!), NotFound);
  });

  it("refuses what cannot be meant", async () => {
    const refused = async (act: () => Promise<unknown>, field: string) =>
      assert.rejects(act, (error: unknown) => error instanceof InvalidArgument && error.field === field, field);
    await refused(() => client.jobs.cancel({} as never), "selector");
    await refused(() => client.jobs.cancel({ filter: "" }), "selector");
    await refused(() => client.jobs.update({ filter: "*" }, { input: {} }), "selector");
    await refused(async () => client.jobs.update("x", { payload: {} } as never), "payload");
    await refused(async () => client.jobs.update("x", { delay: 5, at: new Date() }), "delay");
    await refused(() => client.queues.set("q", {}), "config");
    await refused(() => client.queues.set("q", { maxRunning: -1 }), "maxRunning");
    await refused(() => client.queues.put("q", { rateLimit: { max: 5 } } as never), "rateLimit.per");
    await refused(() => client.queues.put("q", { limiter: {} } as never), "limiter");
    await refused(() => client.queues.put("q", { keyWeights: { a: 0 } }), "keyWeights");
    await refused(() => client.queues.pause([]), "names");
  });

  it("configures queues, whole or in part", async () => {
    const config: QueueConfig = {
      maxRunning: 5, rateLimit: { max: 100, per: 60_000, burst: 10 }, maxDepth: 1_000, retry: { maxAttempts: 3, delays: [1_000], onExhausted: "discard" },
      timeout: 30_000, ttl: 3_600_000, retention: 60_000, deadRetention: 120_000, maxFinished: -1, maxDead: 50, note: "for Ada",
    };
    const put = await client.queues.put("configured", config);
    assert.deepEqual(put.config, config);
    const set = await client.queues.set("configured", { maxRunning: 7, note: undefined } as never, { etag: put.etag });
    const { note, ...rest } = config;
    assert.deepEqual([set.config, note], [{ ...rest, maxRunning: 7 }, "for Ada"]);
    await assert.rejects(client.queues.put("configured", {}, { etag: put.etag }), Aborted);
    assert.deepEqual((await client.queues.put("configured", {})).config, {});
    await assert.rejects(client.queues.get("nobody"), NotFound);
  });

  it("counts, pauses, resumes and purges queues", async () => {
    await stay("counted", 12);
    assert.deepEqual([(await client.queues.get("counted")).stats.ready], [12]);
    assert.ok((await collect(client.queues.list({ pageSize: 1 }), ({ name }) => name)).includes("counted"));
    assert.deepEqual(await client.queues.pause("counted", { reason: "moving", duration: "1h" }), ["counted"]);
    const { paused, pauseReason, resumeTime } = await client.queues.get("counted");
    assert.deepEqual([paused, pauseReason], [true, "moving"]);
    assert.ok(resumeTime! > new Date());
    assert.deepEqual(await client.queues.resume(["counted"]), ["counted"]);
    assert.deepEqual((({ matched, affected }) => [matched, affected])(await client.queues.purge("counted")), [12, 0]);
    assert.equal((await client.queues.purge("counted", { force: true })).affected, 12);
    assert.equal((await client.queues.get("counted")).stats.ready, 0);
  });

  it("sees workers, quiets them and lets them go on", async () => {
    const [seen] = await collect(client.workers.list({ filter: 'worker_id = ada AND label.zone = "a"' }), (one) => one);
    assert.deepEqual([seen!.sdk, seen!.state, seen!.types.toSorted(), seen!.queues, seen!.appVersion, seen!.pid], ["jobwire-node", "active", ["echo", "fail"], ["work"], "7", process.pid]);
    assert.deepEqual((await client.workers.get(seen!.id)).jobs, []);
    assert.equal((await client.workers.quiet(seen!.id, { reason: "look" })).affected, 1);
    const job = await client.enqueue("echo", { n: 1 }, { queue: "work" });
    assert.equal((await client.workers.get(seen!.id)).directive, "quiet");
    assert.equal((await client.workers.resume({ filter: "worker_id = ada" })).affected, 1);
    assert.deepEqual(await job.result(PATIENCE), { n: 1 });
    await assert.rejects(client.workers.get("nobody"), NotFound);
  });

  it("ends workers", async () => {
    const other = new Worker(client, { signals: false, logger: silent, workerId: "leaver" }).handle("leave", () => "");
    const left = other.run();
    await once(other, "ready");
    const [id] = await collect(client.workers.list({ filter: "worker_id = leaver" }), (one) => one.id);
    assert.equal((await client.workers.terminate(id!, { grace: "1s", reason: "deploy" })).affected, 1);
    await left;
  });

  it("is told what a worker does by the worker's events", async () => {
    const task = defineTask<{ ok: boolean }, string>("watched");
    const seen: string[] = [];
    const watched = new Worker(client, { signals: false, logger: silent, concurrency: 1 })
      .handle(task, ({ ok }, ctx) => {
        ctx.progress(50);
        if (!ok) throw new Error("not ok");
        return "fine";
      })
      .on("active", ({ type, queue, attempt }) => void seen.push(`active ${type} ${queue} ${attempt}`))
      .on("progress", (_, { percent }) => void seen.push(`progress ${percent}`))
      .on("completed", (_, result) => {
        seen.push(`completed ${result as string}`);
        throw new Error("a listener that throws changes nothing");
      })
      .on("failed", (_, error) => void seen.push(`failed ${(error as Error).message}`));
    const running = watched.run();
    assert.equal(await client.run(task, { ok: true }, { wait: "20s" }), "fine");
    await client.run(task, { ok: false }, { wait: "20s", retry: 1 }).catch(() => {});
    await watched.stop();
    await running;
    assert.deepEqual(seen.toSorted(), ["active watched watched 1", "active watched watched 1", "completed fine", "failed not ok", "progress 50", "progress 50"]);
  });
});
