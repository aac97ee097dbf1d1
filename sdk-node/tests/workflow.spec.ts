// Workflows on a scripted server: what is sent, what comes back, and what a worker makes of results.
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { status } from "@grpc/grpc-js";
import { spanOf } from "../src/duration.js";
import { FailureKind } from "../src/gen/jobwire/v1/common_pb.js";
import { JobState } from "../src/gen/jobwire/v1/job_pb.js";
import { WorkflowState } from "../src/gen/jobwire/v1/workflow_service_pb.js";
import { chain, Client, DeadlineExceeded, defineTask, group, NotFound, WorkflowFailed } from "../src/index.js";
import { Fixture } from "./support/fixture.js";
import { fail, ScriptedServer } from "./support/scripted-server.js";

const step = defineTask<any, any>("step");
const ID = "0190a5d2-0000-7000-8000-000000000000";

/** A server that creates workflows, whose nodes' jobs are called by their names. */
async function scripted(unary: ScriptedServer["unary"] = {}) {
  const server = await new ScriptedServer().listen();
  const jobIds = (nodes: { name: string }[]) => Object.fromEntries(nodes.map(({ name }) => [name, `job-${name}`]));
  server.unary = {
    createWorkflow: ({ workflow }) => ({ workflowId: workflow.id, jobIds: jobIds(workflow.nodes) }),
    addWorkflowNodes: ({ nodes }) => ({ jobIds: jobIds(nodes) }),
    closeWorkflow: () => ({}),
    cancelWorkflows: () => ({ result: { matchedCount: 1, affectedCount: 1 } }),
    ...unary,
  };
  const client = new Client({ url: server.url });
  const methods = () => server.calls.map(({ method }) => method);
  const close = async () => {
    await client.close();
    server.stop();
  };
  return { server, client, methods, [Symbol.asyncDispose]: close };
}

describe("workflows", () => {
  it("are created in one call, and again with the same id while the server is away", async () => {
    let tries = 0;
    await using at = await scripted({
      createWorkflow: ({ workflow }) => (++tries < 3 ? fail(status.UNAVAILABLE, "away") : { workflowId: workflow.id, jobIds: { step: "j" } }),
    });
    const workflow = await at.client.start(chain(step.s({ n: 1 }), step.s()), { name: "two", tags: ["a"] });
    const specs = at.server.calls.map(({ request }) => request.workflow);
    assert.deepEqual(new Set(specs.map(({ id }) => id)), new Set([workflow.id]));
    assert.deepEqual([specs.length, specs[2].name, specs[2].tags, specs[2].open, specs[2].nodes.length], [3, "two", ["a"], false, 2]);
    assert.equal((await workflow.job("step")).id, "j");
  });

  it("that are large go in parts and are closed, or cancelled where that fails", async () => {
    await using whole = await scripted();
    const many = () => group(Array.from({ length: 2_100 }, (_, n) => step.s({ n })));
    const workflow = await whole.client.start(many());
    assert.deepEqual(whole.methods(), ["createWorkflow", "addWorkflowNodes", "addWorkflowNodes", "closeWorkflow"]);
    assert.equal((await workflow.job("step-2100")).id, "job-step-2100");
    await using open = await scripted();
    await open.client.start(many(), { open: true });
    assert.equal(open.methods().at(-1), "addWorkflowNodes");
    await using broken = await scripted({ addWorkflowNodes: () => fail(status.INVALID_ARGUMENT, "a cycle") });
    await assert.rejects(broken.client.start(many()), /a cycle/);
    assert.equal(broken.methods().at(-1), "cancelWorkflows");
  });

  it("grow, with names that a retried handler makes up again", async () => {
    await using at = await scripted();
    const workflow = at.client.workflow(ID);
    await workflow.add((flow) => {
      flow.add(step.s({ a: flow.add(step.s()) }));
    });
    await workflow.close();
    const [first] = at.server.calls;
    assert.match(first!.request.nodes[0].name, /^step-[0-9a-f]{12}$/);
    assert.deepEqual([first!.request.workflowId, first!.request.nodes.length, at.methods()], [ID, 2, ["addWorkflowNodes", "closeWorkflow"]]);

    const names: string[] = [];
    await using fixture = await Fixture.start({
      grow: async () => {
        await at.client.workflow(ID).add((flow) => flow.add(step.s()));
        names.push(at.server.calls.at(-1)!.request.nodes[0].name);
      },
    });
    for (const delivery of [1, 2]) {
      fixture.stream.job(`t${delivery}`, "grow", {}, { delivery, task: { id: "0190a5d2-0000-7000-8000-00000000abcd", type: "grow", queue: "grow" } });
      await fixture.stream.outcome(`t${delivery}`);
    }
    assert.deepEqual(names, ["step-00000000abcd", "step-00000000abcd"]);
  });

  it("are waited for call by call, and end in results, failures, or too late", async () => {
    let waits = 0;
    const failure = { kind: FailureKind.APPLICATION, type: "RangeError", message: "far" };
    await using at = await scripted({
      waitWorkflow: ({ id }) => (++waits < 3 ? { finished: false } : { finished: true, workflow: { id, state: WorkflowState.FAILED, nodeCount: 2n, counts: [{ state: JobState.DEAD, count: 1n }] } }),
      listWorkflowNodes: ({ filter }) => ({ nodes: filter ? [] : [{ name: "ok", jobId: "a", state: JobState.SUCCEEDED }, { name: "bad", jobId: "b", state: JobState.DEAD, failure }] }),
    });
    const workflow = at.client.workflow(ID);
    assert.deepEqual((({ state, counts }) => [state, counts])(await workflow.wait()), ["failed", { dead: 1 }]);
    await assert.rejects(workflow.result(), (error: unknown) => {
      assert.ok(error instanceof WorkflowFailed);
      assert.deepEqual([error.state, Object.keys(error.failures), error.message], ["failed", ["bad"], `workflow ${ID} is failed: bad: RangeError: far`]);
      return true;
    });
    waits = -1_000_000;
    await assert.rejects(workflow.wait({ timeout: 0 }), DeadlineExceeded);
    await assert.rejects(workflow.wait({ signal: AbortSignal.abort() }), /gave up/);
    await assert.rejects(workflow.job("nobody"), NotFound);
  });
});

describe("results of other nodes", () => {
  const previous = (more: object) => ({ headers: { "jobwire-bind": '{"previous":"","rows":"rows[]"}' }, ...more });
  const result = (alias: string, value: unknown) => ({ alias, jobId: `of-${alias}`, state: JobState.SUCCEEDED, result: { body: { case: "text" as const, value: JSON.stringify(value) } } });

  it("are put into the input, also those that did not come along", async () => {
    const inputs: unknown[] = [];
    await using fixture = await Fixture.start({ step: (input, ctx) => void inputs.push(input, ctx.dependencies.length) });
    const task = (id: string) => ({ id, type: "step", queue: "step", ...previous({ payload: { body: { case: "text", value: '{"k":1}' } } }) });
    fixture.stream.job("a", "step", {}, { task: task("one"), dependencies: [result("previous", { p: 1 }), result("rows", "r1"), result("rows", "r2")] });
    await fixture.stream.outcome("a");
    const pages = [{ results: [result("previous", { p: 2 })], nextPageToken: "2" }, { results: [result("rows", "r3")] }];
    (fixture.server as ScriptedServer).unary["listDependencyResults"] = ({ jobId, pageToken }) => (assert.equal(jobId, "two"), pages[pageToken ? 1 : 0]!);
    fixture.stream.job("b", "step", {}, { task: task("two"), dependencies: [result("previous", { p: 2 })], dependenciesTruncated: true });
    await fixture.stream.outcome("b");
    assert.deepEqual(inputs, [{ p: 1, k: 1, rows: ["r1", "r2"] }, 3, { p: 2, k: 1, rows: ["r3"] }, 2]);
  });

  it("that do not fit end the job, and those that cannot be fetched are tried again", async () => {
    await using fixture = await Fixture.start({ step: () => assert.fail("must not run") });
    const task = { id: "x", type: "step", queue: "step", headers: { "jobwire-bind": '{"previous":"p"}' } };
    fixture.stream.job("a", "step", {}, { task });
    const { outcome } = await fixture.stream.outcome("a");
    assert.deepEqual([outcome.result.case, (outcome.result.value as any).failure.kind], ["failed", FailureKind.UNPROCESSABLE]);
    fixture.server.unary["listDependencyResults"] = () => fail(status.NOT_FOUND, "gone");
    fixture.stream.job("b", "step", {}, { task, dependenciesTruncated: true, timeout: spanOf(5_000) });
    const second = await fixture.stream.outcome("b");
    assert.deepEqual([(second.outcome.result.value as any).failure.type, (second.outcome.result.value as any).action], ["NotFound", 0]);
  });
});
