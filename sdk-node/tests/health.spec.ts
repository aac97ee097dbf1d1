// The health endpoint, and what handlers log by other means than ctx.log.
import assert from "node:assert/strict";
import { createServer, type AddressInfo } from "node:net";
import { describe, it } from "node:test";
import { once } from "node:events";
import { status } from "@grpc/grpc-js";
import { Client, InvalidArgument, jobLogStream, Worker, type LogLevel } from "../src/index.js";
import { Fixture, silent } from "./support/fixture.js";

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

describe("worker: health", () => {
  it("tells life, readiness and metrics", async () => {
    const port = await freePort();
    const get = async (path: string) => {
      const response = await fetch(`http://127.0.0.1:${port}${path}`);
      return { status: response.status, text: await response.text() };
    };
    let finish!: () => void;
    const held = new Promise<void>((resolve) => (finish = resolve));
    let connected!: Promise<unknown>;
    await using fixture = await Fixture.start(
      { ok: () => 1, bad: () => Promise.reject(new Error("no")), hold: () => held },
      { health: port, concurrency: 7 },
      (worker) => (connected = once(worker, "connected")),
    );
    await connected;
    assert.deepEqual(await get("/livez"), { status: 200, text: "ok\n" });
    assert.deepEqual(await get("/readyz"), { status: 200, text: "ready\n" });
    assert.equal((await get("/other")).status, 404);
    for (const [token, type] of [["a", "ok"], ["b", "ok"], ["c", "bad"]] as const) {
      fixture.stream.job(token, type);
      await fixture.stream.outcome(token);
    }
    const reconnected = once(fixture.worker, "connected");
    const disconnected = once(fixture.worker, "disconnected");
    fixture.stream.end(status.UNAVAILABLE, "away");
    await disconnected;
    assert.deepEqual(await get("/readyz"), { status: 503, text: "not connected, or draining\n" });
    (await fixture.reconnected()).welcome();
    await reconnected;
    fixture.stream.job("d", "hold");
    await fixture.stream.frames.next((frame) => frame.started.includes("d"));
    const { text } = await get("/metrics");
    const sample = (name: string) => text.split("\n").find((line) => line.startsWith(`${name} `))?.split(" ").at(-1);
    assert.equal(sample("jobwire_worker_slots"), "7");
    assert.equal(sample("jobwire_worker_running"), "1");
    assert.equal(sample("jobwire_client_reconnects_total"), "1");
    assert.ok(Number(sample("jobwire_worker_loop_lag_seconds")) >= 0);
    assert.equal(sample('jobwire_worker_jobs_total{type="ok",outcome="succeeded"}'), "2");
    assert.equal(sample('jobwire_worker_jobs_total{type="bad",outcome="failed"}'), "1");
    for (const line of text.trim().split("\n")) assert.match(line, /^# (HELP|TYPE) jobwire_\w+ .+$|^jobwire_\w+(\{type="[^"]*",outcome="\w+"\})? [\d.e-]+$/);

    const draining = once(fixture.worker, "draining");
    const stopped = fixture.worker.stop();
    await draining;
    assert.equal((await get("/readyz")).status, 503);
    fixture.stream.finish();
    finish();
    await stopped;
    await fixture.done;
    await assert.rejects(get("/livez"), "it is gone with the worker");
  });

  it("says at once when its port is taken, or no port", async () => {
    const taken = createServer().listen(0, "127.0.0.1");
    await once(taken, "listening");
    const { port } = taken.address() as AddressInfo;
    const client = new Client({ url: "jobwire://127.0.0.1:1" });
    const worker = (health: number | string) => new Worker(client, { health, signals: false, logger: silent }).handle("t", () => {});
    await assert.rejects(worker(`127.0.0.1:${port}`).run(), (error) => error instanceof InvalidArgument && error.field === "health" && /EADDRINUSE.*give health a free port/.test(error.message));
    for (const health of ["here", "host:", 70_000, -1, 1.5]) assert.throws(() => worker(health).run(), InvalidArgument);
    taken.close();
    await client.close();
  });
});

/** The log lines of a job that has ended: level, message, fields. */
async function linesOf(fixture: Fixture, token: string, type: string, input: object = {}) {
  fixture.stream.job(token, type, input);
  const { frame } = await fixture.stream.outcome(token);
  fixture.stream.send({ ackedSeq: frame.seq });
  const lines = () => fixture.stream.frames.all.flatMap(({ logs }) => logs.filter(({ leaseToken }) => leaseToken === token).flatMap(({ lines }) => lines));
  while (!lines().some(({ message }) => message === "end")) await fixture.stream.frames.next((frame) => frame.logs.length > 0, "log lines");
  return lines().map(({ level, message, fields }) => [level, message, { ...fields }]);
}

describe("worker: captured logs", () => {
  it("keeps what a handler prints with its job, when asked, and prints it as before", async () => {
    const printed: unknown[][] = [];
    const original = console.warn;
    console.warn = (...args) => void printed.push(args);
    try {
      await using fixture = await Fixture.start({
        talk: async (_input, ctx) => {
          console.warn("careful: %d", 7);
          await Promise.resolve();
          console.warn({ a: 1 });
          ctx.log.info("end");
        },
      }, { captureConsole: true });
      console.warn("outside");
      assert.deepEqual(await linesOf(fixture, "a", "talk"), [[13, "careful: 7", {}], [13, "{ a: 1 }", {}], [9, "end", {}]]);
      assert.deepEqual(printed, [["outside"], ["careful: %d", 7], [{ a: 1 }]]);
    } finally {
      console.warn = original;
    }
  });

  it("puts the console back when the last worker has stopped", async () => {
    const { log } = console;
    {
      await using one = await Fixture.start({ t: () => {} }, { captureConsole: true });
      await using two = await Fixture.start({ t: () => {} }, { captureConsole: true });
      one.stream.finish();
      await one.worker.stop();
      assert.notEqual(console.log, log);
      two.stream.finish();
      await two.worker.stop();
    }
    assert.equal(console.log, log);
  });

  it("takes the JSON lines of logging libraries", async () => {
    const stream = jobLogStream();
    await using fixture = await Fixture.start({
      talk: (_input, ctx) => {
        stream.write('{"level":40,"time":1,"pid":2,"hostname":"h","msg":"pino","n":1}\n');
        stream.write(`${JSON.stringify({ level: "error", message: "winston", err: { code: 7 } })}\n`);
        stream.write("no JSON\n");
        ctx.log.info("end");
      },
    });
    stream.write('{"level":30,"msg":"outside of any job"}\n');
    const lines = await linesOf(fixture, "a", "talk");
    assert.deepEqual(lines, [[13, "pino", { n: "1" }], [17, "winston", { err: '{"code":7}' }], [9, "no JSON", {}], [9, "end", {}]]);
  });

  it("names levels as the libraries do", async () => {
    const stream = jobLogStream();
    const levels: [unknown, LogLevel][] = [[10, "trace"], [20, "debug"], [35, "info"], [60, "fatal"], ["silly", "trace"], ["verbose", "debug"], ["notice", "info"], ["warning", "warn"], ["emerg", "fatal"], ["odd", "info"]];
    await using fixture = await Fixture.start({
      talk: (_input, ctx) => {
        for (const [level] of levels) stream.write(JSON.stringify({ level, msg: "x" }));
        ctx.log.info("end");
      },
    });
    const numbers: Record<LogLevel, number> = { trace: 1, debug: 5, info: 9, warn: 13, error: 17, fatal: 21 };
    assert.deepEqual((await linesOf(fixture, "a", "talk")).slice(0, -1).map(([level]) => level), levels.map(([, name]) => numbers[name]));
  });
});
