// Uniqueness and idempotency through the real server: every scope, every way to settle a conflict. Needs JOBWIRE_BIN.
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { AlreadyExists, Client, defineTask, Worker, type Job, type JobOptions, type Unique } from "../src/index.js";
import { silent } from "./support/fixture.js";
import { RealServer } from "./support/real-server.js";

const PATIENCE = { timeout: "20s" } as const;

describe("unique jobs", () => {
  let server: RealServer;
  let client: Client;
  let worker: Worker;
  let done: Promise<void>;
  /** Handlers that wait until their job's key is let go. */
  const holds = new Map<string, () => void>();

  before(async () => {
    server = await RealServer.start();
    client = new Client({ url: server.url });
    worker = new Worker(client, { signals: false, logger: silent, queues: ["work"] })
      .handle("echo", (input) => input)
      .handle("hold", ({ key }: { key: string }, ctx) => {
        const held = new Promise<void>((resolve) => holds.set(key, resolve));
        ctx.progress(1);
        return held;
      });
    done = worker.run();
  });

  after(async () => {
    await worker?.stop({ grace: 0 });
    await done;
    await client?.close();
    await server?.stop();
  });

  /** Enqueued where nobody works, so that it stays. */
  const wait = (unique: string | Unique, n = 1, options: JobOptions = {}) => client.enqueue("echo", { n }, { queue: "nobody", unique, ...options });
  const again = (job: Job) => [job.id, job.enqueued];

  async function held(unique: Unique): Promise<{ job: Job; release: () => void }> {
    const job = await client.enqueue("hold", { key: unique.key }, { queue: "work", unique });
    for await (const event of job.events()) if (event.kind === "progress") break;
    return { job, release: holds.get(unique.key!)! };
  }

  it("keep the first by default, until it has finished", async () => {
    const first = await wait("keep");
    assert.equal(first.enqueued, "created");
    assert.deepEqual(again(await wait("keep", 2)), [first.id, "kept"]);
    await first.cancel();
    const next = await wait("keep", 3);
    assert.equal(next.enqueued, "created");
    assert.notEqual(next.id, first.id);
  });

  it("hold their key while they run with until_finished, and let it go with until_started", async () => {
    const finished = await held({ key: "finished", scope: "until_finished" });
    const during = await client.enqueue("hold", { key: "finished" }, { queue: "work", unique: { key: "finished", scope: "until_finished" } });
    assert.deepEqual(again(during), [finished.job.id, "kept"]);
    finished.release();
    await finished.job.result(PATIENCE);

    const started = await held({ key: "started", scope: "until_started" });
    const second = await client.enqueue("echo", {}, { queue: "work", unique: { key: "started", scope: "until_started" } });
    assert.equal(second.enqueued, "created");
    started.release();
    await Promise.all([started.job.result(PATIENCE), second.result(PATIENCE)]);
  });

  it("hold it for a time with for_ttl, whatever becomes of them", async () => {
    const unique: Unique = { key: "ttl", scope: "for_ttl", ttl: "1h" };
    const first = await client.enqueue("echo", { n: 1 }, { queue: "work", unique });
    await first.result(PATIENCE);
    assert.deepEqual(again(await client.enqueue("echo", { n: 2 }, { queue: "work", unique })), [first.id, "kept"]);
    const short: Unique = { key: "short", scope: "for_ttl", ttl: "1s" };
    const brief = await client.enqueue("echo", { n: 1 }, { queue: "work", unique: short });
    for (;;) {
      const next = await client.enqueue("echo", { n: 1 }, { queue: "work", unique: short });
      if (next.id !== brief.id) break;
      await next.status();
    }
  });

  it("refuse the second with reject, and name the first", async () => {
    const first = await wait({ key: "reject", onConflict: "reject" });
    await assert.rejects(wait({ key: "reject", onConflict: "reject" }, 2), (error) =>
      error instanceof AlreadyExists && error.reason === "UNIQUE_CONFLICT" && error.jobId === first.id);
    const [item] = await client.enqueueMany("echo", [{ n: 3 }], { queue: "nobody", unique: { key: "reject", onConflict: "reject" } });
    assert.ok(item?.error instanceof AlreadyExists && item.error.jobId === first.id);
  });

  it("take over payload and start of the second with replace, its start alone with debounce", async () => {
    for (const [onConflict, n] of [["replace", 2], ["debounce", 1]] as const) {
      const first = await client.enqueue("echo", { n: 1 }, { queue: "work", delay: "1h", unique: { key: onConflict, onConflict } });
      const second = await client.enqueue("echo", { n: 2 }, { queue: "work", delay: "2h", unique: { key: onConflict, onConflict } });
      assert.deepEqual(again(second), [first.id, "replaced"], onConflict);
      const hours = ((await first.status()).scheduleTime!.getTime() - Date.now()) / 3_600_000;
      assert.ok(Math.abs(hours - 2) < 0.1, `${onConflict}: in ${hours} h`);
      assert.equal(await first.retry(), true);
      assert.deepEqual(await first.result(PATIENCE), { n }, onConflict);
    }
  });

  it("have a key of type and payload where none is given, and one computed from the input where a task says so", async () => {
    const first = await wait({}, 10);
    assert.deepEqual(again(await wait({}, 10)), [first.id, "kept"]);
    assert.equal((await wait({}, 11)).enqueued, "created");
    const task = defineTask<{ to: string }>("echo", { queue: "nobody", unique: ({ to }) => `to-${to}`, tags: ({ to }) => [to] });
    const ada = await client.enqueue(task, { to: "ada" });
    assert.deepEqual(again(await client.enqueue(task, { to: "ada" })), [ada.id, "kept"]);
    assert.notEqual((await client.enqueue(task, { to: "bob" })).id, ada.id);
    assert.deepEqual((await ada.status()).tags, ["ada"]);
    assert.equal((await client.enqueue(task, { to: "ada" }, { unique: "other" })).enqueued, "created");
  });

  it("return the first job for a repeated idempotency key, also when it is over, and refuse another payload", async () => {
    const order = (n: number, options: JobOptions = {}) => client.enqueue("echo", { n }, { queue: "work", idempotencyKey: "order-7", ...options });
    const first = await order(1);
    await first.result(PATIENCE);
    assert.deepEqual(again(await order(1)), [first.id, "duplicate"]);
    await assert.rejects(order(2), (error) => error instanceof AlreadyExists && error.reason === "ID_CONFLICT");
    assert.equal((await order(1, { queue: "nobody" })).enqueued, "created", "keys belong to their queue");
    const short = () => client.enqueue("echo", {}, { queue: "work", idempotencyKey: "brief", idempotencyTtl: "1s" });
    const brief = await short();
    for (let next = await short(); next.id === brief.id; next = await short()) await next.status();
  });
});
