// The builder of workflows: collects nodes and what passes between them. Nothing is sent before `client.start(flow)`.
import { BIND_HEADER } from "./bind.js";
import { isCanvas, type Canvas, type Group, type Step } from "./canvas.js";
import { check, checkEach, duration, invalid, isListOf, isRecord, isString, show, text, texts, word, type Checks } from "./checks.js";
import type { Duration } from "./duration.js";
import { DependencyCondition } from "./gen/jobwire/v1/job_pb.js";
import { WorkflowFailurePolicy } from "./gen/jobwire/v1/workflow_service_pb.js";
import { After, isRef, Node, NodeGroup } from "./nodes.js";
import { checkSignature, type Signature } from "./signature.js";

/** Options of a workflow. */
export interface FlowOptions {
  /** A UUID, version 7 by preference. Default: made by the SDK. The handle's `id` is the one to keep. */
  id?: string;
  /**
   * What the final failure of a node does: `"cancel_dependants"` (default) those that wait for it and what waits for them;
   * `"cancel_all"` everything else; `"hold"`: they wait until somebody retries it.
   */
  onNodeFailure?: "cancel_dependants" | "cancel_all" | "hold";
  /** Enqueued when it has succeeded; at the first failure that makes it fail; when it has ended, whichever way. */
  onSuccess?: Signature<{}, unknown>;
  onFailure?: Signature<{}, unknown>;
  onFinish?: Signature<{}, unknown>;
  /** More nodes may come, by `workflow.add()`, until `workflow.close()`. Default false. */
  open?: boolean;
  /** Makes it a node, called by its name, of that workflow, which must be open. */
  parent?: string | { readonly id: string };
  /** At most 16 of 64 bytes. */
  tags?: string[];
  /** Longest time to its end; then what has not ended is cancelled. Default none. */
  totalTimeout?: Duration;
  /** How long to keep it with its nodes. Default 1 h; 30 days when it failed. */
  retention?: Duration;
}

/** What a node waits for, besides the results it gets. */
export type Awaitable = Node | NodeGroup | After | string | { readonly id: string };

/** Options of a node. */
export interface NodeOptions {
  /** Unique in the workflow. Default: the task's name, numbered. */
  name?: string;
  /** Nodes of one group can be waited for together. */
  group?: string;
  /** What has to come first: nodes and groups (which have to succeed), `node.failed`, `node.finished`, jobs or their ids. */
  after?: readonly Awaitable[];
}

/** A dependency, as the contract has it. */
export interface Dependency {
  target: { case: "node" | "group" | "jobId"; value: string };
  condition?: DependencyCondition;
  passResult?: boolean;
  alias?: string;
}

/** A node before it is encoded. */
export interface PlannedNode {
  name: string;
  group: string;
  signature: Signature<never>;
  /** What was given of the input, without the results. */
  input: unknown;
  /** For the header; `undefined` where the input is whole. */
  bind: Record<string, string> | undefined;
  dependsOn: Dependency[];
}

export const FAILURE_POLICIES = {
  cancel_dependants: WorkflowFailurePolicy.CANCEL_DEPENDANTS,
  cancel_all: WorkflowFailurePolicy.CANCEL_ALL,
  hold: WorkflowFailurePolicy.HOLD,
};
const CONDITIONS = { succeeded: DependencyCondition.SUCCEEDED, failed: DependencyCondition.FAILED, finished: DependencyCondition.FINISHED };
/** Single nodes in one list: their aliases travel in a header. */
const LISTED_MAX = 50;

const OPTIONS: Checks<FlowOptions> = {
  id: text,
  onNodeFailure: word(FAILURE_POLICIES),
  onSuccess: checkSignature,
  onFailure: checkSignature,
  onFinish: checkSignature,
  open: check((value) => typeof value === "boolean", "true or false"),
  parent: check((value) => isString(isRecord(value) ? value["id"] : value), "a workflow or its id"),
  tags: texts,
  totalTimeout: duration,
  retention: duration,
};
const NODE: Checks<NodeOptions> = { name: text, group: text, after: check((value) => isListOf(value, isAwaitable), "a list of nodes, groups, jobs or ids") };

function isAwaitable(value: unknown): boolean {
  return isRef(value) || value instanceof After || isString(isRecord(value) ? value["id"] : value);
}

/**
 * Builds a workflow: a node for each task that is to run, which runs as soon as what it waits for has ended. A node in the
 * input of another one stands for its result.
 *
 * ```ts
 * const flow = new Flow("nightly");
 * const rows = flow.add(extract.s({ day }));
 * flow.add(report.s({ rows, title: "Sales" }));
 * const workflow = await client.start(flow);
 * ```
 */
export class Flow {
  readonly name: string;
  readonly options: FlowOptions;
  readonly #nodes = new Map<string, PlannedNode>();
  readonly #fresh: string;
  #groups = 0;

  /** `name`: for people, and for others of a parent workflow: `[A-Za-z0-9_.:/-]{1,128}`. */
  constructor(name = "", options: FlowOptions = {}, fresh = "") {
    check(isString, "a string")(name, "name");
    checkEach(OPTIONS, options, "", { timeout: "totalTimeout", failParentOnFailure: "onNodeFailure" });
    this.name = name;
    this.options = options;
    this.#fresh = fresh;
  }

  /** What was added so far. @internal */
  get planned(): readonly PlannedNode[] {
    return [...this.#nodes.values()];
  }

  /**
   * Adds a node, or those of a chain, group or chord, and gives what stands for its result: the last step of a chain, all of
   * a group. `after` of a chain is for its first step.
   */
  add<Output extends readonly unknown[]>(step: Group<{}, Output>, options?: Pick<NodeOptions, "after">): NodeGroup<Output[number]>;
  add<Output>(step: Canvas<{}, Output>, options?: Pick<NodeOptions, "after">): Node<Output>;
  add<Output>(step: Signature<{}, Output>, options?: NodeOptions): Node<Output>;
  add(step: Step<{}, unknown>, options: NodeOptions = {}): Node | NodeGroup {
    checkEach(NODE, options, "", { dependsOn: "after", children: "after" });
    const { name, group, after = [] } = options;
    if (isCanvas(step) && (name !== undefined || group !== undefined)) throw invalid("name", "name and group are of single nodes");
    return this.place(step, undefined, after, options);
  }

  /** As `add`, behind `before`, whose result the step gets. @internal */
  place(step: Step<never>, before: Node | NodeGroup | undefined, after: readonly Awaitable[], options: NodeOptions = {}): Node | NodeGroup {
    if (!isCanvas(step)) return this.#node(step as Signature<never>, before, after, options);
    if (step.shape === "group") return this.#group(step, before, after);
    let end: Node | NodeGroup | undefined = before;
    for (const [at, part] of step.steps.entries()) end = this.place(part, end, at === 0 ? after : []);
    return end!;
  }

  #group({ steps }: Canvas<never>, before: Node | NodeGroup | undefined, after: readonly Awaitable[]): NodeGroup {
    const name = `group-${this.#fresh}${++this.#groups}`;
    const nodes = steps.map((step) => {
      const end = this.place(step, before, after, isCanvas(step) ? {} : { group: name });
      if (end.kind === "group") throw invalid("steps", "a group in a group has no one result: end it with a step, as chord([…], step)");
      this.#nodes.get(end.name)!.group = name;
      return end;
    });
    return new NodeGroup(name, nodes);
  }

  #node(signature: Signature<never>, before: Node | NodeGroup | undefined, after: readonly Awaitable[], options: NodeOptions): Node {
    checkSignature(signature, "step");
    const name = options.name ?? this.#named(signature.task.name);
    if (this.#nodes.has(name)) throw invalid("name", `there is a node ${JSON.stringify(name)} already`);
    const binding = new Binding();
    const input = binding.take(signature.input, before);
    const dependsOn = [...binding.dependencies, ...after.flatMap(dependencyOf)];
    this.#nodes.set(name, { name, group: options.group ?? "", signature, input, bind: binding.header, dependsOn });
    return new Node(name);
  }

  #named(type: string): string {
    const base = this.#fresh ? `${type.slice(0, 90)}-${this.#fresh}` : type.slice(0, 110);
    for (let number = 1; ; number++) {
      const name = number === 1 ? base : `${base}-${number}`;
      if (!this.#nodes.has(name)) return name;
    }
  }
}

/** What of an input is the result of other nodes. */
class Binding {
  header: Record<string, string> | undefined;
  readonly dependencies: Dependency[] = [];

  /** Takes the results out of an input; `before` is the step whose result it gets. */
  take(input: unknown, before: Node | NodeGroup | undefined): unknown {
    if (before) this.#bind("", before);
    if (isRef(input)) {
      if (before) throw invalid("input", "the result of the step before is the input; it cannot be another one's, too");
      this.#bind("", input);
      return undefined;
    }
    if (!isRecord(input) || Object.getPrototypeOf(input) !== Object.prototype) return input;
    const rest: [string, unknown][] = [];
    for (const [key, value] of Object.entries(input)) {
      if (isRef(value)) this.#bind(key, value);
      else if (Array.isArray(value) && value.some(isRef)) this.#bindList(key, value);
      else rest.push([key, value]);
    }
    return Object.fromEntries(rest);
  }

  #bind(key: string, of: Node | NodeGroup): void {
    const alias = key || "previous";
    const many = of.kind === "group";
    this.#into(alias, many ? `${key}[]` : key);
    // A group of none is not known to the server, and has nothing to wait for.
    if (!many || of.nodes.length > 0) this.dependencies.push({ ...targetOf(of), passResult: true, alias });
  }

  #bindList(key: string, values: readonly unknown[]): void {
    if (!values.every((value) => isRef(value) && value.kind === "node")) throw invalid(key, `${key}: a list of results is of nodes alone`);
    if (values.length > LISTED_MAX) throw invalid(key, `${key}: at most ${LISTED_MAX} nodes in a list; add a group([…]) and give that`);
    for (const node of values as Node[]) {
      this.#into(node.name, `${key}[]`);
      this.dependencies.push({ ...targetOf(node), passResult: true, alias: node.name });
    }
  }

  #into(alias: string, key: string): void {
    if (this.header?.[alias] !== undefined) throw invalid(BIND_HEADER, `the result of ${alias} goes to one place; add a node between`);
    this.header = { ...this.header, [alias]: key };
  }
}

function targetOf(of: Node | NodeGroup): Pick<Dependency, "target"> {
  return { target: { case: of.kind, value: of.name } };
}

function dependencyOf(on: Awaitable): Dependency[] {
  const [of, condition] = on instanceof After ? [on.of, on.condition] : [on, undefined];
  const more = condition && { condition: CONDITIONS[condition] };
  if (isRef(of)) return of.kind === "group" && of.nodes.length === 0 ? [] : [{ ...targetOf(of), ...more }];
  const id = typeof of === "string" ? of : of.id;
  if (!isString(id)) throw invalid("after", `after: nodes, groups, jobs or ids, not ${show(on)}`);
  return [{ target: { case: "jobId", value: id }, ...more }];
}
