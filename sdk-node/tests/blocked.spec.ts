// Leases over blocked loops, dying workers and dying threads, with the real server. Slow, because a lease lasts at least
// ten seconds; the cases run side by side. Needs JOBWIRE_BIN.
import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { after, before, describe, it } from "node:test";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { Client, Worker, type Job } from "../src/index.js";
import { silent } from "./support/fixture.js";
import { RealServer } from "./support/real-server.js";

const SCRIPT = fileURLToPath(new URL("../../tests/conformance-worker.mjs", import.meta.url));
const LEASE_MS = 10_000;
const PATIENCE = { timeout: "40s" } as const;

describe("leases", { concurrency: true }, () => {
  let server: RealServer;
  let client: Client;
  const children: ChildProcess[] = [];

  before(async () => {
    server = await RealServer.start();
    client = new Client({ url: server.url });
  });

  after(async () => {
    for (const child of children) child.kill("SIGKILL");
    await client?.close();
    await server?.stop();
  });

  /** A conformance worker on queues of its own, with the shortest lease; what it says on standard error, line by line. */
  async function worker(queue: string): Promise<{ child: ChildProcess; lines: string[] }> {
    const env = { ...process.env, JOBWIRE_URL: server.url, CONF_QUEUES: queue, CONF_LEASE_TTL_MS: String(LEASE_MS) };
    const child = spawn(process.execPath, [SCRIPT], { env, stdio: ["ignore", "pipe", "pipe"] });
    children.push(child);
    const lines: string[] = [];
    createInterface({ input: child.stderr! }).on("line", (line) => lines.push(line));
    await once(child.stdout!, "data");
    return { child, lines };
  }

  async function running(job: Job): Promise<void> {
    for await (const event of job.events()) if (event.kind === "state" && event.state === "running") return;
  }

  it("are kept while a handler blocks the event loop for longer, and the block is reported", async () => {
    const { lines } = await worker("blocked");
    const ms = LEASE_MS + 3_000;
    const job = await client.enqueue("conf.block", { ms }, { queue: "blocked" });
    assert.deepEqual(await job.result(PATIENCE), { blocked: ms });
    const { delivery, attempt, crashes } = await job.status();
    assert.deepEqual({ delivery, attempt, crashes }, { delivery: 1, attempt: 1, crashes: 0 });
    const next = await client.enqueue("conf.sleep", { ms: 1_100 }, { queue: "blocked" });
    await next.result(PATIENCE);
    assert.ok(lines.some((line) => /the event loop was blocked for 1\d{4} ms while these ran: conf\.block/.test(line)), lines.join("\n"));
  });

  it("of a worker that is killed run out, and only those", async () => {
    const [victim] = await Promise.all([worker("victim"), worker("survivor")]);
    const lost = await client.enqueue("conf.hang", { ms: 500 }, { queue: "victim", retry: { initialDelay: 10 } });
    const kept = await client.enqueue("conf.sleep", { ms: 2_000 }, { queue: "survivor" });
    await Promise.all([running(lost), running(kept)]);
    const exited = once(victim.child, "exit");
    victim.child.kill("SIGKILL");
    await exited;
    await worker("victim");
    assert.deepEqual(await kept.result(PATIENCE), { slept: 2_000 });
    assert.deepEqual(await lost.result(PATIENCE), { hung: 500 });
    assert.deepEqual([(await kept.status()).delivery, (await kept.status()).crashes], [1, 0]);
    const { delivery, attempt, crashes } = await lost.status();
    assert.deepEqual({ delivery, attempt, crashes }, { delivery: 2, attempt: 1, crashes: 1 });
  });

  it("of a thread that dies are taken back at once, as a crash and no attempt", async () => {
    const local = new Worker(client, { signals: false, logger: silent, queues: ["threads"] }).handle(
      "cpu",
      new URL("../../tests/modules/handler.mjs", import.meta.url),
      { threads: 1 },
    );
    const done = local.run();
    try {
      const job = await client.enqueue("cpu", { act: "exitOnce" }, { queue: "threads" });
      assert.deepEqual(await job.result({ timeout: LEASE_MS - 1_000 }), { delivery: 2, attempt: 1 });
      assert.equal((await job.status()).crashes, 1);
    } finally {
      await local.stop({ grace: 0 });
      await done;
    }
  });
});
