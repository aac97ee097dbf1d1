// From a flow to what travels: one CreateWorkflow, and what does not fit into it as additions.
import { create, toBinary } from "@bufbuild/protobuf";
import { BIND_HEADER } from "./bind.js";
import { invalid } from "./checks.js";
import type { Codecs } from "./codecs.js";
import { durationField } from "./duration.js";
import { FAILURE_POLICIES, type Flow, type PlannedNode } from "./flow.js";
import { DependencySchema, type JobSpec } from "./gen/jobwire/v1/job_pb.js";
import { WorkflowNodeSchema, WorkflowSpecSchema, type WorkflowNode, type WorkflowSpec } from "./gen/jobwire/v1/workflow_service_pb.js";
import { uuidv7 } from "./ids.js";
import type { Signature } from "./signature.js";
import { buildSpec, buildSpecUnchecked } from "./spec.js";

/** Limits of one call; the server's are a little wider in bytes. */
const NODES_MAX = 1_000;
const BYTES_MAX = (1 << 20) - 4_096;

/** A flow, ready to be sent: `more` are the nodes for later calls, in order, as many in each as fit. */
export interface Compiled {
  spec: WorkflowSpec;
  more: WorkflowNode[][];
  /** All nodes. */
  nodes: WorkflowNode[];
}

/** Encodes a flow. Throws InvalidArgument for inputs that do not fit their schemas, and for what a node cannot have. */
export async function compileFlow(flow: Flow, codecs: Codecs): Promise<Compiled> {
  const { options, name } = flow;
  const callback = async (signature: Signature | undefined) => signature && (await jobOf(signature, codecs));
  const nodes = await compileNodes(flow.planned, codecs);
  const { parent } = options;
  const bare = create(WorkflowSpecSchema, {
    id: options.id ?? uuidv7(),
    name,
    onNodeFailure: options.onNodeFailure && FAILURE_POLICIES[options.onNodeFailure],
    onSuccess: await callback(options.onSuccess),
    onFailure: await callback(options.onFailure),
    onFinish: await callback(options.onFinish),
    parentWorkflowId: typeof parent === "string" ? parent : parent?.id,
    tags: options.tags,
    totalTimeout: durationField(options.totalTimeout, "totalTimeout"),
    retention: durationField(options.retention, "retention"),
  });
  const [first = [], ...more] = fitting(nodes, toBinary(WorkflowSpecSchema, bare).byteLength);
  return { spec: { ...bare, nodes: first, open: (options.open ?? false) || more.length > 0 }, more, nodes };
}

/** Encodes nodes, in order. */
export async function compileNodes(planned: readonly PlannedNode[], codecs: Codecs): Promise<WorkflowNode[]> {
  const nodes: WorkflowNode[] = [];
  for (const node of planned) {
    nodes.push(create(WorkflowNodeSchema, { name: node.name, group: node.group, job: await jobOfNode(node, codecs) }));
  }
  return nodes;
}

/** Splits nodes into calls; what waits for others comes after them, as it was added. */
export function fitting(nodes: readonly WorkflowNode[], bytesBefore = 0): WorkflowNode[][] {
  const calls: WorkflowNode[][] = [];
  let bytes = Infinity;
  for (const node of nodes) {
    const size = toBinary(WorkflowNodeSchema, node).byteLength + 8;
    if (bytes + size > BYTES_MAX || calls.at(-1)!.length >= NODES_MAX) {
      bytes = calls.length === 0 ? bytesBefore : 0;
      calls.push([]);
    }
    bytes += size;
    calls.at(-1)!.push(node);
  }
  return calls;
}

async function jobOfNode({ name, signature, input, bind, dependsOn }: PlannedNode, codecs: Codecs): Promise<JobSpec> {
  const job = bind ? unbound(name, { ...signature, input } as Signature, codecs) : await jobOf(signature as Signature, codecs);
  if (bind) job.headers[BIND_HEADER] = JSON.stringify(bind);
  job.dependsOn.push(...dependsOn.map((dependency) => create(DependencySchema, dependency)));
  return job;
}

/** The job of a signature whose input is whole. */
async function jobOf({ task, input, options }: Signature, codecs: Codecs): Promise<JobSpec> {
  refuseId(options, task.name);
  return { ...(await buildSpec(task, input, options, codecs)).spec, id: "" };
}

/** The job of a signature whose input is not known yet: no schema can be asked, and no function of the input. */
function unbound(name: string, { task, input, options }: Signature, codecs: Codecs): JobSpec {
  refuseId(options, name);
  for (const [option, value] of Object.entries(task.options)) {
    if (typeof value !== "function" || options[option as keyof typeof options] !== undefined) continue;
    throw invalid(option, `${option} of ${name} is a function of the input, which is not known before other nodes have ended`);
  }
  return { ...buildSpecUnchecked(task, input, options, codecs).spec, id: "" };
}

function refuseId(options: { id?: string }, name: string): void {
  if (options.id !== undefined) throw invalid("id", `id of ${name}: jobs of a workflow get theirs from it`);
}
