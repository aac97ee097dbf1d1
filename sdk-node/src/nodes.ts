// Nodes of a workflow, as what is built refers to them.
import { InvalidArgument } from "./errors.js";

/** Stands for a value of type `T` that is not there before a node has ended: the argument of another node. */
export interface Ref<T> {
  /** Types alone; never set. */
  readonly "~result"?: T;
}

/** An input, any key of which may be the result of another node. */
export type Given<Input> = Ref<Input> | GivenKeys<Input>;

/** The same, of an object: its keys. */
export type GivenKeys<Input> = Input extends readonly unknown[]
  ? Input
  : Input extends object
    ? { [Key in keyof Input]: Input[Key] | Ref<Input[Key]> | (Input[Key] extends readonly (infer Item)[] ? readonly Ref<Item>[] : never) }
    : Input;

/** How a node has to end for another one to run. */
export type Condition = "succeeded" | "failed" | "finished";

/** A node or group, and how it has to end: `node.failed`, `node.finished`. */
export class After {
  constructor(
    readonly of: Node | NodeGroup,
    readonly condition: Condition,
  ) {}
}

/** Found on nodes and groups of every copy of this package, so that ESM and CommonJS understand each other. */
const REF = Symbol.for("jobwire.ref");

/** Conditions and the like of nodes and groups. */
abstract class Awaited {
  /** Unique in its workflow. */
  readonly name: string;

  constructor(name: string) {
    this.name = name;
    Object.defineProperty(this, REF, { value: true });
  }

  /** For `after`: once it has ended in another way than success. A failure that is awaited does not fail the workflow. */
  get failed(): After {
    return new After(this as unknown as Node, "failed");
  }

  /** For `after`: once it has ended, whichever way. */
  get finished(): After {
    return new After(this as unknown as Node, "finished");
  }

  toJSON(): never {
    throw new InvalidArgument(`the result of node ${this.name} is known in its workflow alone: as an input, or a key of one`, {
      reason: "INVALID_FIELD",
      field: "input",
    });
  }
}

/** A node: a task with its input that runs once what it waits for has ended. In the input of another node: its result. */
export class Node<Output = unknown> extends Awaited implements Ref<Output> {
  declare readonly "~result"?: Output;
  readonly kind = "node";
}

/** Nodes that are waited for together, however many. In the input of another node: the list of their results. */
export class NodeGroup<Output = unknown> extends Awaited implements Ref<Output[]> {
  declare readonly "~result"?: Output[];
  readonly kind = "group";
  readonly nodes: readonly Node<Output>[];

  constructor(name: string, nodes: readonly Node<Output>[]) {
    super(name);
    this.nodes = nodes;
  }
}

/** Whether a value stands for a result. */
export function isRef(value: unknown): value is Node | NodeGroup {
  return typeof value === "object" && value !== null && REF in value;
}
