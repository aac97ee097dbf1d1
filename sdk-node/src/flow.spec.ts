import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { toJson } from "@bufbuild/protobuf";
import { chain, chord, group, type Canvas } from "./canvas.js";
import { NO_CODECS } from "./codecs.js";
import { InvalidArgument } from "./errors.js";
import { Flow, type FlowOptions } from "./flow.js";
import { compileFlow } from "./flow-spec.js";
import { WorkflowNodeSchema, WorkflowSpecSchema } from "./gen/jobwire/v1/workflow_service_pb.js";
import { bodyOf } from "./wire.js";
import { defineTask } from "./tasks.js";

const fetchPage = defineTask<{ url: string }, { html: string }>("fetch");
const parse = defineTask<{ html: string; strict?: boolean }, string[]>("parse");
const count = defineTask<string[], number>("count");
const report = defineTask<{ rows: string[]; numbers: number[]; title: string }, string>("report");
const untyped = defineTask<any, any>("any");

/** Nodes in short: name, group, what is given, the header, what it waits for. */
async function nodes(flow: Flow) {
  return (await compileFlow(flow, NO_CODECS)).nodes.map(({ name, group, job }) => {
    assert.equal(job!.id, "");
    const after = job!.dependsOn.map(({ target, passResult, alias, condition }) => `${target.case} ${target.value}${passResult ? ` as ${alias}` : ""}${condition ? ` ${condition}` : ""}`);
    return { name, ...(group && { group }), input: JSON.parse(bodyOf(job!.payload)!.text!), bind: job!.headers["jobwire-bind"], after };
  });
}

async function placed(canvas: Canvas<{}, unknown>, options?: FlowOptions) {
  const flow = new Flow("", options);
  flow.place(canvas, undefined, []);
  return nodes(flow);
}

const refused = async (act: () => unknown, field: string, message: RegExp) =>
  assert.rejects(async () => act(), (error: unknown) => error instanceof InvalidArgument && error.field === field && message.test(error.message), `${field} ${message}`);

describe("chains, groups and chords", () => {
  it("hand each result to the next step, as its input", async () => {
    assert.deepEqual(await placed(chain(fetchPage.s({ url: "u" }), parse.s({ strict: true }), count.s())), [
      { name: "fetch", input: { url: "u" }, bind: undefined, after: [] },
      { name: "parse", input: { strict: true }, bind: '{"previous":""}', after: ["node fetch as previous"] },
      { name: "count", input: {}, bind: '{"previous":""}', after: ["node parse as previous"] },
    ]);
  });

  it("hand the list of a group to the step behind it, and each member what comes before", async () => {
    const canvas = chain(untyped.s({ n: 0 }), group([untyped.s(), untyped.s({ k: 1 })]), untyped.s());
    assert.deepEqual(await placed(canvas), [
      { name: "any", input: { n: 0 }, bind: undefined, after: [] },
      { name: "any-2", group: "group-1", input: {}, bind: '{"previous":""}', after: ["node any as previous"] },
      { name: "any-3", group: "group-1", input: { k: 1 }, bind: '{"previous":""}', after: ["node any as previous"] },
      { name: "any-4", input: {}, bind: '{"previous":"[]"}', after: ["group group-1 as previous"] },
    ]);
    assert.deepEqual((await placed(chord([], untyped.s()) as never)), [{ name: "any", input: {}, bind: '{"previous":"[]"}', after: [] }]);
  });

  it("nest: chains in groups count by their last step, chains in chains are flat", async () => {
    const canvas = chord([chain(untyped.s(1), untyped.s()), untyped.s(2)], chain(untyped.s(), chain(untyped.s(), untyped.s())));
    assert.deepEqual((await placed(canvas)).map(({ name, group, after }) => [name, group, after.join()]), [
      ["any", undefined, ""],
      ["any-2", "group-1", "node any as previous"],
      ["any-3", "group-1", ""],
      ["any-4", undefined, "group group-1 as previous"],
      ["any-5", undefined, "node any-4 as previous"],
      ["any-6", undefined, "node any-5 as previous"],
    ]);
    await refused(() => placed(chain(group([group([untyped.s()])]))), "steps", /a group in a group/);
    await refused(() => group([fetchPage as never]), "steps", /the task itself/);
    await refused(() => (chain as () => unknown)(), "steps", /at least one step/);
  });
});

describe("flows", () => {
  it("bind nodes, groups and lists of nodes to the keys of an input", async () => {
    const flow = new Flow("nightly");
    const page = flow.add(fetchPage.s({ url: "u" }), { name: "page" });
    const rows = flow.add(parse.s(page));
    const numbers = flow.add(group([count.s(rows), count.s(rows)]));
    flow.add(report.s({ rows, numbers, title: "t" }), { after: [page.finished, "0190", { id: "0191" }] });
    const [a, b] = numbers.nodes;
    flow.add(report.s({ rows, numbers: [a!, b!], title: "u" }), { group: "reports" });
    flow.add(untyped.s(), { after: [numbers.failed] });
    assert.deepEqual((await nodes(flow)).slice(1), [
      { name: "parse", input: {}, bind: '{"previous":""}', after: ["node page as previous"] },
      { name: "count", group: "group-1", input: {}, bind: '{"previous":""}', after: ["node parse as previous"] },
      { name: "count-2", group: "group-1", input: {}, bind: '{"previous":""}', after: ["node parse as previous"] },
      {
        name: "report", input: { title: "t" }, bind: '{"rows":"rows","numbers":"numbers[]"}',
        after: ["node parse as rows", "group group-1 as numbers", "node page 3", "jobId 0190", "jobId 0191"],
      },
      {
        name: "report-2", group: "reports", input: { title: "u" }, bind: '{"rows":"rows","count":"numbers[]","count-2":"numbers[]"}',
        after: ["node parse as rows", "node count as count", "node count-2 as count-2"],
      },
      { name: "any", input: {}, bind: undefined, after: ["group group-1 2"] },
    ]);
  });

  it("have options and callbacks", async () => {
    const flow = new Flow("nightly", {
      id: "0190a5d2-0000-7000-8000-000000000000", onNodeFailure: "hold", onSuccess: untyped.s({ ok: true }), onFinish: untyped.s(),
      tags: ["a"], totalTimeout: "1h", retention: "1d", open: true, parent: { id: "0190" },
    });
    flow.add(untyped.s());
    const { nodes: _, ...spec } = toJson(WorkflowSpecSchema, (await compileFlow(flow, NO_CODECS)).spec) as Record<string, any>;
    assert.deepEqual(spec, {
      id: "0190a5d2-0000-7000-8000-000000000000", name: "nightly", onNodeFailure: "WORKFLOW_FAILURE_POLICY_HOLD", open: true,
      onSuccess: { type: "any", payload: { text: '{"ok":true}' } },
      onFinish: { type: "any", payload: { text: "{}" } },
      parentWorkflowId: "0190", tags: ["a"], totalTimeout: "3600s", retention: "86400s",
    });
  });

  it("carry the options of their jobs, and hold inputs to their schemas", async () => {
    const flow = new Flow();
    const node = flow.add(untyped.opts({ queue: "q", tags: ["x"] }).s({}, { priority: 2, after: ["0190"] }));
    const [encoded] = (await compileFlow(flow, NO_CODECS)).nodes;
    const { job } = toJson(WorkflowNodeSchema, encoded!) as { job: object };
    assert.deepEqual({ ...job, payload: 0 }, { type: "any", queue: "q", tags: ["x"], priority: 2, payload: 0, dependsOn: [{ jobId: "0190" }] });
    const picky = defineTask("picky", { input: { "~standard": { version: 1, vendor: "t", validate: () => ({ issues: [{ message: "no" }] }) } } });
    const bad = new Flow();
    bad.add(picky.s({} as never));
    await refused(() => compileFlow(bad, NO_CODECS), "input", /does not fit its schema/);
    const late = new Flow();
    late.add(picky.s({ n: late.add(untyped.s()) } as never));
    assert.equal((await compileFlow(late, NO_CODECS)).nodes.length, 2);
    const computed = new Flow();
    computed.add(defineTask<{ n: number }>("c", { tags: ({ n }) => [`${n}`] }).s({ n: computed.add(untyped.s()) }));
    await refused(() => compileFlow(computed, NO_CODECS), "tags", /function of the input/);
    await refused(() => JSON.stringify({ node }), "input", /in its workflow alone/);
  });

  it("go in parts where they are too large for one call", async () => {
    const flow = new Flow();
    flow.add(group(Array.from({ length: 2_300 }, (_, n) => untyped.s({ n }))));
    const { spec, more } = await compileFlow(flow, NO_CODECS);
    assert.deepEqual([spec.nodes.length, spec.open, more.map(({ length }) => length)], [1_000, true, [1_000, 300]]);
    const large = new Flow();
    for (let n = 0; n < 5; n++) large.add(untyped.s({ text: "x".repeat(300_000) }));
    const parts = await compileFlow(large, NO_CODECS);
    assert.deepEqual([parts.spec.nodes.length, parts.more.map(({ length }) => length)], [3, [2]]);
    assert.equal((await compileFlow(new Flow("empty"), NO_CODECS)).spec.open, false);
  });

  it("refuse what cannot be meant", async () => {
    const flow = new Flow();
    const node = flow.add(untyped.s(), { name: "one" });
    await refused(() => flow.add(untyped.s(), { name: "one" }), "name", /already/);
    await refused(() => flow.add(fetchPage as never), "step", /the task itself/);
    await refused(() => flow.add(untyped.s(), { after: [7 as never] }), "after", /nodes, groups, jobs or ids/);
    await refused(() => flow.add(untyped.s(), { dependsOn: [node] } as never), "dependsOn", /after is meant\?/);
    await refused(() => flow.add(chain(untyped.s()), { name: "x" } as never), "name", /single nodes/);
    await refused(() => flow.add(untyped.s({ list: [node, 5] })), "list", /of nodes alone/);
    await refused(() => new Flow("x", { onNodeFailure: "stop" } as never), "onNodeFailure", /"hold"/);
    await refused(() => new Flow("x", { timeout: "1h" } as never), "timeout", /totalTimeout is meant\?/);
    const identified = new Flow();
    identified.add(untyped.s({}, { id: "0190a5d2-0000-7000-8000-000000000000" }));
    await refused(() => compileFlow(identified, NO_CODECS), "id", /get theirs/);
  });
});
