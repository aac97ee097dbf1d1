// Workflows through the real server: what the builders make, and what becomes of it. Needs JOBWIRE_BIN.
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { chain, chord, Client, DeadlineExceeded, defineTask, Flow, group, NotFound, Worker, WorkflowFailed } from "../src/index.js";
import { silent } from "./support/fixture.js";
import { RealServer } from "./support/real-server.js";

const PATIENCE = { timeout: "20s" } as const;
const add = defineTask<{ a: number; b: number }, { a: number }>("add");
const square = defineTask<{ n: number }, number>("square");
const sum = defineTask<number[], number>("sum");
const echo = defineTask<any, any>("echo");
const flaky = defineTask<any, string>("flaky", { retry: 1 });

describe("workflows", () => {
  let server: RealServer;
  let client: Client;
  let worker: Worker;
  let done: Promise<void>;
  let healthy = false;

  before(async () => {
    server = await RealServer.start();
    client = new Client({ url: server.url });
    worker = new Worker(client, { signals: false, logger: silent, concurrency: 20 })
      .handle(add, ({ a, b }) => ({ a: a + b }))
      .handle(square, ({ n }) => n * n)
      .handle(sum, (numbers) => numbers.reduce((total, n) => total + n, 0))
      .handle(echo, (input) => input)
      .handle(flaky, () => {
        if (!healthy) throw new RangeError("no disk");
        return "healed";
      })
      .handle("grow", async (_, ctx) => {
        const own = client.workflow(ctx.workflowId);
        await own.add((flow) => flow.add(chord([1, 2, 3].map((n) => square.s({ n })), sum.s())));
        await own.close();
      });
    done = worker.run();
  });

  after(async () => {
    await worker?.stop({ grace: 0 });
    await done;
    await client?.close();
    await server?.stop();
  });

  it("chain: each step gets the result of the one before, given keys win", async () => {
    const workflow = await client.start(chain(add.s({ a: 1, b: 2 }), add.s({ b: 10 }), add.s({ b: 100 })), { name: "sums", tags: ["t"] });
    assert.deepEqual(await workflow.result(PATIENCE), { a: 113 });
    const { state, name, tags, nodeCount, percent, counts } = await workflow.status();
    assert.deepEqual([state, name, tags, nodeCount, percent, counts], ["succeeded", "sums", ["t"], 3, 100, { succeeded: 3 }]);
  });

  it("group and chord: results in order, however many", async () => {
    const pair = await client.start(group([square.s({ n: 3 }), echo.s("x")]));
    assert.deepEqual(await pair.result(PATIENCE), [9, "x"]);
    const many = await client.start(chord(Array.from({ length: 200 }, (_, n) => square.s({ n })), echo.s()));
    assert.deepEqual(await many.result(PATIENCE), Array.from({ length: 200 }, (_, n) => n * n));
    const between = await client.start(chain(echo.s({ n: 4 }), group([square.s(), square.s({ n: 5 })]), sum.s()));
    assert.equal(await between.result(PATIENCE), 16 + 25);
  });

  it("Flow: nodes stand for their results, by key", async () => {
    const flow = new Flow("graph");
    const first = flow.add(square.s({ n: 2 }), { name: "first" });
    const rest = flow.add(group([square.s({ n: first }), square.s({ n: 3 })]));
    const last = flow.add(echo.s({ first, rest, both: rest.nodes, given: true }));
    const workflow = await client.start(flow);
    assert.equal(await workflow.result(PATIENCE), undefined);
    assert.deepEqual(await (await workflow.job(last)).result(PATIENCE), { first: 4, rest: [16, 9], both: [16, 9], given: true });
    assert.equal(await (await client.workflow(workflow.id).job("first")).result(PATIENCE), 4);
    await assert.rejects(client.workflow(workflow.id).job("nobody"), NotFound);
  });

  it("fetches results that do not come along", async () => {
    const text = "x".repeat(100_000);
    const workflow = await client.start(chord(Array.from({ length: 6 }, (_, n) => echo.s(`${n}${text}`)), echo.s()));
    assert.deepEqual((await workflow.result(PATIENCE)).map((one: string) => [one[0], one.length]), Array.from({ length: 6 }, (_, n) => [`${n}`, 100_001]));
  });

  it("fails with its nodes, cancels what waits for them, and is run again", async () => {
    healthy = false;
    const workflow = await client.start(chain(flaky.s({}), echo.s()));
    await assert.rejects(workflow.result(PATIENCE), (error: unknown) => {
      assert.ok(error instanceof WorkflowFailed);
      assert.deepEqual([error.state, Object.keys(error.failures), error.failures["flaky"]!.type], ["failed", ["flaky"], "RangeError"]);
      return true;
    });
    const states: Record<string, string> = {};
    for await (const node of workflow.nodes({ pageSize: 1 })) states[node.name] = node.state;
    assert.deepEqual(states, { flaky: "dead", echo: "cancelled" });
    healthy = true;
    assert.equal(await workflow.retry(), true);
    assert.equal(await workflow.result(PATIENCE), "healed");
  });

  it("goes on where a failure is awaited, and calls back", async () => {
    healthy = false;
    const flow = new Flow("handled", { onSuccess: echo.s("well"), onFinish: echo.s("over") });
    const bad = flow.add(flaky.s({}));
    const rescue = flow.add(echo.s("rescued"), { after: [bad.failed] });
    flow.add(echo.s("never"), { name: "never", after: [bad] });
    const anyway = flow.add(echo.s("anyway"), { after: [bad.finished] });
    const workflow = await client.start(flow);
    assert.equal((await workflow.wait(PATIENCE)).state, "succeeded");
    for (const [node, text] of [[rescue, "rescued"], [anyway, "anyway"]] as const) assert.equal(await (await workflow.job(node)).result(PATIENCE), text);
    assert.equal((await (await workflow.job("never")).status()).state, "cancelled");
    const { callbackJobIds } = await workflow.status();
    assert.deepEqual((await Promise.all(callbackJobIds.map((id) => client.job(id).result(PATIENCE)))).sort(), ["over", "well"]);
  });

  it("is cancelled, and waited for no longer than asked", async () => {
    const workflow = await client.start(chain(echo.s({}, { delay: "1h" }), echo.s()));
    await assert.rejects(workflow.wait({ timeout: "100ms" }), DeadlineExceeded);
    assert.equal(await workflow.cancel("enough"), true);
    assert.equal((await workflow.wait(PATIENCE)).state, "cancelled");
  });

  it("grows while it is open, by a handler of its own as well", async () => {
    const workflow = await client.start(chain(defineTask<any, any>("grow").s({})), { open: true });
    const { state, nodeCount } = await workflow.wait(PATIENCE);
    assert.deepEqual([state, nodeCount], ["succeeded", 5]);
    const sums: unknown[] = [];
    for await (const { name, jobId } of workflow.nodes()) if (name.startsWith("sum-")) sums.push(await client.job(jobId).result(PATIENCE));
    assert.deepEqual(sums, [14]);
  });

  it("is sent in parts where it is large", async () => {
    const workflow = await client.start(chord(Array.from({ length: 1_500 }, () => square.s({ n: 1 })), sum.s()));
    assert.equal(await workflow.result({ timeout: "40s" }), 1_500);
  });

  it("waits for jobs that are there already, outside of workflows as well", async () => {
    const first = await client.enqueue(echo, { first: true }, { delay: "200ms" });
    const second = await client.enqueue(echo, { second: true }, { after: [first] });
    assert.equal((await second.status()).state, "blocked");
    const flow = new Flow();
    const node = flow.add(echo.s({ third: true }), { after: [second] });
    const workflow = await client.start(flow);
    assert.deepEqual(await (await workflow.job(node)).result(PATIENCE), { third: true });
    assert.deepEqual(await second.result(PATIENCE), { second: true });
  });

  it("are listed, looked at and deleted by the many", async () => {
    const workflow = await client.start(chain(echo.s({})), { name: "listed" });
    await workflow.result(PATIENCE);
    const found = [];
    for await (const { id } of client.workflows.list({ filter: "name = listed" })) found.push(id);
    assert.deepEqual(found, [workflow.id]);
    assert.equal((await client.workflows.get(workflow.id)).state, "succeeded");
    assert.equal((await client.workflows.delete(workflow.id)).affected, 1);
    await assert.rejects(workflow.status(), NotFound);
  });
});
