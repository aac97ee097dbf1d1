// The conformance worker as a process of its own: signals, and death.
import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { WorkerState } from "../src/gen/jobwire/v1/worker_service_pb.js";
import { ScriptedServer, type WorkerStream } from "./support/scripted-server.js";

const SCRIPT = fileURLToPath(new URL("../../tests/conformance-worker.mjs", import.meta.url));

async function start(server: ScriptedServer, env: Record<string, string> = {}): Promise<{ child: ChildProcess; stream: WorkerStream }> {
  const child = spawn(process.execPath, [SCRIPT], { env: { ...process.env, JOBWIRE_URL: server.url, ...env }, stdio: ["ignore", "pipe", "ignore"] });
  const stream = await server.streams.next();
  stream.welcome();
  const [line] = (await once(child.stdout!, "data")) as [Buffer];
  assert.equal(line.toString(), "ready\n");
  return { child, stream };
}

describe("worker process", () => {
  it("has told of the start of a job that kills it at once", async () => {
    await using server = await new ScriptedServer().listen();
    const { child, stream } = await start(server);
    stream.job("t1", "conf.crash");
    const [, signal] = (await once(child, "exit")) as [number | null, string];
    assert.equal(signal, "SIGKILL");
    await stream.frames.next((frame) => frame.started.includes("t1"), "the start of t1");
  });

  it("drains on SIGTERM and exits with 0", async () => {
    await using server = await new ScriptedServer().listen();
    const { child, stream } = await start(server, { CONF_CONCURRENCY: "1", CONF_PREFETCH: "1" });
    stream.job("t1", "conf.sleep", { ms: 300 });
    stream.job("t2", "conf.sleep", { ms: 300 });
    await stream.frames.next((frame) => frame.started.includes("t1"));
    child.kill("SIGTERM");
    await stream.frames.next((frame) => frame.state === WorkerState.DRAINING);
    stream.finish();
    const [code] = (await once(child, "exit")) as [number];
    assert.equal(code, 0);
    const outcomes = stream.frames.all.flatMap((frame) => frame.outcomes.map((one) => `${one.leaseToken} ${one.result.case}`));
    assert.deepEqual(outcomes.sort(), ["t1 succeeded", "t2 released"]);
  });

  it("gives everything back on the second signal, and exits although a handler hangs", async () => {
    await using server = await new ScriptedServer().listen();
    const { child, stream } = await start(server);
    stream.job("t1", "conf.hang", { ms: 60_000 });
    await stream.frames.next((frame) => frame.started.includes("t1"));
    child.kill("SIGTERM");
    await stream.frames.next((frame) => frame.state === WorkerState.DRAINING);
    stream.finish();
    child.kill("SIGINT");
    const { outcome } = await stream.outcome("t1");
    assert.equal(outcome.result.case, "released");
    const [code] = (await once(child, "exit")) as [number];
    assert.equal(code, 0);
  });
});
