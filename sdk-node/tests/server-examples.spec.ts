// Every example, as a process of its own against the real server. Needs JOBWIRE_BIN.
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { createInterface } from "node:readline";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { testServer, type TestServer } from "../src/testing.js";

const example = (name: string) => fileURLToPath(new URL(`../examples/${name}.js`, import.meta.url));

/** What each prints. */
const printed: Record<string, string[]> = {
  hello: ["Hello, Ada!"],
  "coming-from-bullmq": ["a blue car", "completed", "a wet car succeeded", "a green car", "JobFailed", "2"],
  "bullmq-schedulers": ["true false", "painted blue at 15 past", "nightly 0 15 3 * * *", "3 true"],
  admin: [
    "refused 1", "refused 1", "2 true", "true the bank is away 0", "jobwire-node [ 'admin' ]",
    "admin.charge 1: refused, admin.charge 1: refused, admin.charge: good",
  ],
  batch: ["120", "delivered", "old is gone"],
  schedules: ["monthly true", "nightly-report false", "true At 02:30, Monday to Friday, Europe/Berlin 3", "all of today, by nightly-report", "5"],
  workflows: [
    "2", "3", "Nightly: 2 links, 1.webp 2.webp 3.webp", "succeeded", "failed [ 'flow.broken' ] no disk", "flow.broken dead", "flow.alarm cancelled",
  ],
  "bullmq-flows": ["ceiling painted, walls painted (succeeded,succeeded)", "succeeded", "cancelled", "succeeded", "succeeded"],
  options: ["scheduled [ 'user:bob' ]", "duplicate true", "replaced", "UNIQUE_CONFLICT true"],
  retries: ["good 1", "flaky 3", "busy 2", "night 1", "dead NonRetryable the bank refuses this card"],
  progress: ["info indexed { pages: '3' }", "succeeded", "3 { current: 5, total: 5 }"],
  results: ["9 16 [ 25, 36, 49 ]", "ready"],
  cancel: ["stopped: requested", "cancelled cancelled: the user left"],
  threads: ["[ 4, 168, 2262 ]"],
  many: ["2500 0 2499.png.webp", "500"],
  "follow-up": ["order 7 is paid", "receipt for 7, in attempt 1"],
  telemetry: ["[ 'enqueue hello', 'process hello', 'request' ] 1"],
  "telemetry-options": ["[ 'created', 'created' ]"],
  schemas: ["{ year: 2026 }", "a.png 800", "★★★", "input input does not fit its schema: stars: stars must be at most 5 (was 9)"],
};

/** Examples that other tests run: with frameworks, or below. */
const elsewhere = ["express", "fastify", "nest/mail", "nest/main", "mail/producer", "mail/tasks", "mail/worker", "next/jobwire", "shutdown", "testing", "threads/primes"];

describe("examples", { concurrency: 2 }, () => {
  let server: TestServer;
  let env: NodeJS.ProcessEnv;

  before(async () => {
    server = await testServer();
    env = { ...process.env, JOBWIRE_URL: server.url, NODE_TEST_CONTEXT: undefined };
  });

  after(async () => {
    await server?.stop();
  });

  it("are all of them", () => {
    const files = readdirSync(fileURLToPath(new URL("../examples/", import.meta.url)), { recursive: true, encoding: "utf8" });
    const names = files.filter((file) => file.endsWith(".js")).map((file) => file.slice(0, -3));
    assert.deepEqual(names.sort(), [...Object.keys(printed), ...elsewhere].sort());
  });

  for (const [name, lines] of Object.entries(printed)) {
    it(name, async () => {
      const { stdout } = await promisify(execFile)(process.execPath, [example(name)], { env });
      assert.deepEqual(stdout.trim().split("\n"), lines);
    });
  }

  it("testing", async () => {
    const { stdout } = await promisify(execFile)(process.execPath, ["--test", "--test-reporter=tap", example("testing")], { env });
    assert.match(stdout, /# pass 3\n# fail 0/);
  });

  it("shutdown", async () => {
    const HEALTH_PORT = String(await freePort());
    const worker = spawn(process.execPath, [example("shutdown")], { env: { ...env, HEALTH_PORT }, stdio: ["ignore", "pipe", "ignore"] });
    const exited = once(worker, "exit");
    const output: string[] = [];
    createInterface({ input: worker.stdout! }).on("line", (line) => output.push(line));
    const client = server.client();
    const job = await client.enqueue("shutdown.work", { ms: 400 });
    for await (const event of job.events()) if (event.kind === "state" && event.state === "running") break;
    assert.equal((await fetch(`http://127.0.0.1:${HEALTH_PORT}/readyz`)).status, 200);
    worker.kill("SIGTERM");
    assert.deepEqual(await exited, [0, null]);
    assert.equal(await job.result({ timeout: "20s" }), "worked for 400 ms");
    assert.deepEqual(output.map((line) => line.split(":")[0]), ["draining", "drained"]);
  });

  it("next: one client, however often its module is loaded", async () => {
    const load = async (query: string) => ((await import(`../examples/next/jobwire.js?${query}`)) as { client: object }).client;
    assert.equal(await load("first"), await load("second"));
  });

  it("mail: producer", async () => {
    const relay = createServer((socket) => socket.once("data", () => socket.end("HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\nmail-1")));
    relay.listen(0, "127.0.0.1");
    await once(relay, "listening");
    const MAIL_RELAY = `http://127.0.0.1:${(relay.address() as AddressInfo).port}/`;
    const worker = spawn(process.execPath, [example("mail/worker")], { env: { ...env, MAIL_RELAY }, stdio: "ignore" });
    const exited = once(worker, "exit");
    const { stdout } = await promisify(execFile)(process.execPath, [example("mail/producer")], { env });
    assert.equal(stdout.trim().split("\n").at(-1), "mail-1");
    worker.kill("SIGTERM");
    assert.deepEqual(await exited, [0, null]);
    relay.close();
  });
});

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const { port } = probe.address() as AddressInfo;
  probe.close();
  await once(probe, "close");
  return port;
}
