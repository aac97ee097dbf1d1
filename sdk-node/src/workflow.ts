// The handle of a workflow, and how a flow becomes one.
import { call, paged, type Access } from "./access.js";
import { bulk } from "./bulk.js";
import { isCanvas, type Canvas } from "./canvas.js";
import { dateOf, durationField, spanOf, toMs, type Duration } from "./duration.js";
import { CallCancelled, DeadlineExceeded, NotFound, WorkflowFailed } from "./errors.js";
import { FAILURE_POLICIES, Flow, type FlowOptions } from "./flow.js";
import { compileFlow, compileNodes, fitting } from "./flow-spec.js";
import {
  WorkflowService, WorkflowState as PbWorkflowState, type Workflow as PbWorkflow, type WorkflowNode, type WorkflowNodeStatus,
} from "./gen/jobwire/v1/workflow_service_pb.js";
import { currentContext } from "./context.js";
import { uuidv7 } from "./ids.js";
import { Job } from "./job.js";
import type { Node, NodeGroup } from "./nodes.js";
import type { AnyTask } from "./tasks.js";
import type { OutgoingJob } from "./telemetry.js";
import type { CallOptions, Failure, ListOptions } from "./types.js";
import type { NodeRecord, WorkflowRecord, WorkflowState } from "./workflow-types.js";
import { failureDataOf, progressOf, publicFailure, stateOf } from "./wire.js";

const { method } = WorkflowService;

/** Longest wait in one call. */
const WAIT_MS = 25_000;
const FAILURES_MAX = 100;

/** What passes jobs on their way to whoever observes. */
export type Observed = <T>(jobs: readonly OutgoingJob[], send: () => Promise<T>) => Promise<T>;

/** Whose result is that of the workflow, and the tasks of its nodes. */
interface Ends {
  of: Node | NodeGroup | undefined;
  tasks: ReadonlyMap<string, AnyTask>;
}

/** A workflow on the server. `Output` is what its last step returns; of a `Flow`, nothing. */
export class Workflow<Output = unknown> {
  /** The id to keep. */
  readonly id: string;
  readonly #access: Access;
  readonly #jobIds: Map<string, string>;
  readonly #ends: Ends | undefined;
  readonly #observed: Observed;
  declare readonly "~result"?: Output;

  /** Handles come from `client.start()` and `client.workflow()`. */
  constructor(access: Access, observed: Observed, id: string, jobIds: Record<string, string> = {}, ends?: Ends) {
    this.id = id;
    this.#access = access;
    this.#observed = observed;
    this.#jobIds = new Map(Object.entries(jobIds));
    this.#ends = ends;
  }

  /** The record as it is now. Needs scope `read`. Throws NotFound when it is gone. */
  async status(options: CallOptions = {}): Promise<WorkflowRecord> {
    return found(this.id, (await call(this.#access, method.getWorkflow, { id: this.id }, options)).workflow);
  }

  /** Its nodes. Filterable: `name`, `group`, `state`. Needs scope `read`. */
  nodes(options: ListOptions = {}): AsyncGenerator<NodeRecord, void, undefined> {
    return nodesOf(this.#access, this.id, options);
  }

  /** The handle of a node's job. Throws NotFound when it has no such node. */
  async job<Result = unknown>(node: string | Node<Result>): Promise<Job<Result>> {
    const name = typeof node === "string" ? node : node.name;
    let id = this.#jobIds.get(name);
    if (id === undefined) {
      for await (const found of this.nodes({ filter: `name = ${JSON.stringify(name)}` })) id = found.jobId;
    }
    if (!id) throw new NotFound(`workflow ${this.id} has no node ${name}`, { reason: "JOB_NOT_FOUND" });
    return new Job(this.#access, id, this.#ends?.tasks.get(name));
  }

  /** Waits for its end, whichever it is. Throws DeadlineExceeded after `timeout` (default: waits as long as it takes). */
  async wait(options: { timeout?: Duration; signal?: AbortSignal } = {}): Promise<WorkflowRecord> {
    const { timeout, signal } = options;
    const until = timeout === undefined ? Infinity : performance.now() + toMs(timeout, "timeout");
    for (;;) {
      if (signal?.aborted) throw new CallCancelled("the caller gave up", { cause: signal.reason });
      const waitMs = Math.max(0, Math.min(WAIT_MS, until - performance.now()));
      const request = { id: this.id, timeout: spanOf(waitMs) };
      const { workflow, finished } = await call(this.#access, method.waitWorkflow, request, {
        deadline: waitMs + this.#access.deadlineMs,
        ...(signal && { signal }),
      });
      if (finished) return found(this.id, workflow);
      if (performance.now() >= until) throw new DeadlineExceeded(`workflow ${this.id} took longer than ${timeout}`);
    }
  }

  /**
   * Waits for success and gives what the last step returned: of a group, the list. Of a `Flow` nothing: ask its nodes, `(await
   * workflow.job(node)).result()`. Throws WorkflowFailed when it ends otherwise; DeadlineExceeded after `timeout`.
   */
  async result(options: { timeout?: Duration; signal?: AbortSignal } = {}): Promise<Output> {
    const { state } = await this.wait(options);
    if (state !== "succeeded") throw new WorkflowFailed(this.id, state, await this.#failures());
    const of = this.#ends?.of;
    if (!of) return undefined as Output;
    const results = (of.kind === "group" ? of.nodes : [of]).map(async (node) => (await this.job(node)).result(options));
    const values = await Promise.all(results);
    return (of.kind === "group" ? values : values[0]) as Output;
  }

  /** Cancels every node that has not ended; see `job.cancel()`. Answers false when it had ended already. Needs scope `admin`. */
  async cancel(reason = "", options: CallOptions & { grace?: Duration } = {}): Promise<boolean> {
    const { grace, ...limits } = options;
    const request = { reason, grace: durationField(grace, "grace") };
    return (await bulk(this.id, (selector) => call(this.#access, method.cancelWorkflows, { ...request, selector }, limits))).affected > 0;
  }

  /**
   * Runs its failed nodes again, and revives what was cancelled because of them. Answers false when nothing had failed.
   * Needs scope `admin`. Not repeated by itself when the server is unavailable.
   */
  async retry(options: CallOptions = {}): Promise<boolean> {
    return (await bulk(this.id, (selector) => call(this.#access, method.retryWorkflows, { selector }, options))).affected > 0;
  }

  /**
   * Adds nodes while it is open: all, or, beyond 1,000, a thousand at a time. In a handler the names that are made up are the
   * same in each attempt, so that a retry adds nothing twice.
   *
   * ```ts
   * await client.workflow(ctx.workflowId).add((flow) => pages.map((page) => flow.add(parse.s({ page }))));
   * ```
   */
  async add(build: (flow: Flow) => unknown, options: CallOptions = {}): Promise<void> {
    const flow = new Flow("", {}, (currentContext()?.jobId ?? uuidv7()).slice(-12));
    build(flow);
    const nodes = await compileNodes(flow.planned, this.#access.codecs);
    await this.#observed(jobsOf(nodes), () => this.addNodes(fitting(nodes), options));
  }

  /** Sends encoded nodes. @internal */
  async addNodes(calls: WorkflowNode[][], options: CallOptions): Promise<void> {
    for (const nodes of calls) {
      const { jobIds } = await call(this.#access, method.addWorkflowNodes, { workflowId: this.id, nodes }, options);
      for (const [name, id] of Object.entries(jobIds)) this.#jobIds.set(name, id);
    }
  }

  /** No more nodes will come: it ends when the last one does. */
  async close(options: CallOptions = {}): Promise<void> {
    await call(this.#access, method.closeWorkflow, { workflowId: this.id }, options);
  }

  async #failures(): Promise<Record<string, Failure>> {
    const failures: Record<string, Failure> = {};
    for await (const { name, state, failure } of this.nodes()) {
      if (failure && (state === "dead" || state === "discarded" || state === "expired")) failures[name] = failure;
      if (Object.keys(failures).length === FAILURES_MAX) break;
    }
    return failures;
  }
}

/** Creates a workflow: in one call where it fits, else it stays open until all of it is there. */
export async function startFlow(
  access: Access,
  observed: Observed,
  what: Flow | Canvas,
  options: FlowOptions & CallOptions & { name?: string },
): Promise<Workflow> {
  const { signal, deadline, name, ...flowOptions } = options;
  const limits = { ...(signal && { signal }), ...(deadline !== undefined && { deadline }) };
  const flow = isCanvas(what) ? new Flow(name, flowOptions) : what;
  const of = isCanvas(what) ? flow.place(what, undefined, []) : undefined;
  const { spec, more, nodes } = await compileFlow(flow, access.codecs);
  const tasks = new Map(flow.planned.map((node) => [node.name, node.signature.task]));
  return observed(jobsOf(nodes), async () => {
    const { workflowId, jobIds } = await call(access, method.createWorkflow, { workflow: spec }, limits, true);
    const workflow = new Workflow(access, observed, workflowId, jobIds, { of, tasks });
    if (more.length === 0) return workflow;
    try {
      await workflow.addNodes(more, limits);
      if (!flow.options.open) await workflow.close(limits);
    } catch (error) {
      await workflow.cancel("it could not be created as a whole", { grace: 0 }).catch(() => {});
      throw error;
    }
    return workflow;
  });
}

function jobsOf(nodes: readonly WorkflowNode[]): OutgoingJob[] {
  return nodes.map(({ job }) => job!);
}

/** The nodes of a workflow, page by page. */
export function nodesOf(access: Access, workflowId: string, options: ListOptions): AsyncGenerator<NodeRecord, void, undefined> {
  const { filter } = options;
  return paged(options, (page, limits) => call(access, method.listWorkflowNodes, { workflowId, filter, ...page }, limits), ({ nodes }) => nodes.map(nodeOf));
}

function found(id: string, workflow: PbWorkflow | undefined): WorkflowRecord {
  if (!workflow) throw new NotFound(`no workflow ${id}`, { reason: "WORKFLOW_NOT_FOUND" });
  return workflowOf(workflow);
}

/** The public form of a workflow. */
export function workflowOf(workflow: PbWorkflow): WorkflowRecord {
  const policies = Object.keys(FAILURE_POLICIES) as (keyof typeof FAILURE_POLICIES)[];
  const policy = workflow.onNodeFailure === 0 ? "cancel_dependants" : policies.find((one) => FAILURE_POLICIES[one] === workflow.onNodeFailure);
  const record: WorkflowRecord = {
    id: workflow.id,
    name: workflow.name,
    state: workflow.state === PbWorkflowState.UNSPECIFIED ? "unknown" : ((PbWorkflowState[workflow.state]?.toLowerCase() ?? "unknown") as WorkflowState),
    open: workflow.open,
    onNodeFailure: policy ?? "unknown",
    nodeCount: Number(workflow.nodeCount),
    counts: Object.fromEntries(workflow.counts.map(({ state, count }) => [stateOf(state), Number(count)])),
    percent: workflow.percent,
    parentId: workflow.parentWorkflowId,
    tags: workflow.tags,
    callbackJobIds: workflow.callbackJobIds,
  };
  for (const field of ["createTime", "finishTime", "purgeTime"] as const) {
    const time = dateOf(workflow[field]);
    if (time) record[field] = time;
  }
  return record;
}

function nodeOf(node: WorkflowNodeStatus): NodeRecord {
  const record: NodeRecord = {
    name: node.name,
    group: node.group,
    jobId: node.jobId,
    state: stateOf(node.state),
    after: node.dependsOn.flatMap(({ target }) => (target.case ? [target.value] : [])),
  };
  if (node.progress) record.progress = progressOf(node.progress);
  const failure = publicFailure(failureDataOf(node.failure));
  if (failure) record.failure = failure;
  for (const field of ["startTime", "finishTime"] as const) {
    const time = dateOf(node[field]);
    if (time) record[field] = time;
  }
  return record;
}
