// chain, group and chord: the usual shapes of workflows, by their usual names. They say what is meant; flow.ts builds it.
import { invalid, isRecord } from "./checks.js";
import { checkSignature, type Signature } from "./signature.js";

/**
 * A step of a workflow: `task.s(…)`, a chain, a group or a chord. `Needs` is what it takes from the step before it; `{}`
 * when nothing.
 */
export interface Step<Needs = {}, Output = unknown> {
  /** Types alone; never set. */
  readonly "~types"?: { readonly needs: (given: Needs) => void; readonly output: Output };
}

/** Steps one after the other, or side by side. */
export interface Canvas<Needs = {}, Output = unknown> extends Step<Needs, Output> {
  readonly shape: "chain" | "group";
  readonly steps: readonly (Signature<never> | Canvas<never>)[];
}

/** A group: steps side by side. `Output` is the list of their results. */
export interface Group<Needs = {}, Output extends readonly unknown[] = unknown[]> extends Canvas<Needs, Output> {
  readonly shape: "group";
}

type AnyStep = Step<never, unknown>;
type AnyStepBetween = Step<any, any>;
type NeedsOf<Steps extends readonly AnyStep[]> = Steps[number] extends Step<infer Needs, unknown> ? Needs : never;
type OutputsOf<Steps extends readonly AnyStep[]> = {
  -readonly [At in keyof Steps]: Steps[At] extends Step<never, infer Output> ? Output : never;
};

/**
 * Steps one after the other: each gets the result of the one before as its input, where keys that are given win. After a
 * group that is the list of its results; each member of a group gets the result of the step before the group.
 *
 * ```ts
 * await client.start(chain(fetchPage.s({ url }), parse.s(), store.s({ table: "pages" })));
 * ```
 */
export function chain<N, A>(a: Step<N, A>): Canvas<N, A>;
export function chain<N, A, B>(a: Step<N, A>, b: Step<A, B>): Canvas<N, B>;
export function chain<N, A, B, C>(a: Step<N, A>, b: Step<A, B>, c: Step<B, C>): Canvas<N, C>;
export function chain<N, A, B, C, D>(a: Step<N, A>, b: Step<A, B>, c: Step<B, C>, d: Step<C, D>): Canvas<N, D>;
export function chain<N, A, B, C, D, E>(a: Step<N, A>, b: Step<A, B>, c: Step<B, C>, d: Step<C, D>, e: Step<D, E>): Canvas<N, E>;
export function chain<N, A, B, C, D, E, F>(
  a: Step<N, A>, b: Step<A, B>, c: Step<B, C>, d: Step<C, D>, e: Step<D, E>, f: Step<E, F>,
): Canvas<N, F>;
/** Of seven steps or more, whose types are not held to each other: a chain of chains is. */
export function chain<N>(
  a: Step<N, any>, b: AnyStepBetween, c: AnyStepBetween, d: AnyStepBetween, e: AnyStepBetween, f: AnyStepBetween, g: AnyStepBetween,
  ...more: AnyStepBetween[]
): Canvas<N, any>;
export function chain(...steps: Step<any, any>[]): Canvas<any, any> {
  const flat = steps.flatMap((step): readonly unknown[] => (isCanvas(step) && step.shape === "chain" ? step.steps : [step]));
  if (flat.length === 0) throw invalid("steps", "a chain has at least one step");
  return { shape: "chain", steps: checked(flat) };
}

/** Steps side by side. Their results, in order, are a list: for the step behind them, or the result of the workflow. */
export function group<const Steps extends readonly AnyStep[]>(steps: Steps): Group<NeedsOf<Steps>, OutputsOf<Steps>> {
  if (!Array.isArray(steps)) throw invalid("steps", "a group is made of a list of steps: group([task.s(…), …])");
  return { shape: "group", steps: checked(steps) } as unknown as Group<NeedsOf<Steps>, OutputsOf<Steps>>;
}

/**
 * A group, and a step that gets the list of its results, in order, once all have succeeded.
 *
 * ```ts
 * await client.start(chord(paths.map((path) => resize.s({ path })), gallery.s()));
 * ```
 */
export function chord<const Steps extends readonly AnyStep[], Output>(
  steps: Steps,
  callback: Step<OutputsOf<Steps>, Output>,
): Canvas<NeedsOf<Steps>, Output> {
  return chain(group(steps), callback as Step<any, Output>) as Canvas<NeedsOf<Steps>, Output>;
}

/** Whether a step is a chain or a group. */
export function isCanvas(step: unknown): step is Canvas<never> {
  return isRecord(step) && (step["shape"] === "chain" || step["shape"] === "group");
}

function checked(steps: readonly unknown[]): Canvas<never>["steps"] {
  for (const step of steps) if (!isCanvas(step)) checkSignature(step, "steps");
  return steps as Canvas<never>["steps"];
}
