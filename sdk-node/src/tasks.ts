// Tasks: job types declared in code, importable by producers without any worker code.
import { InvalidArgument } from "./errors.js";
import type { Given, GivenKeys } from "./nodes.js";
import { checkTaskOptions } from "./options.js";
import { makeSignature, type Needs, type Signature } from "./signature.js";
import type { JobOptions, TaskOptions } from "./types.js";

/** The part of the Standard Schema v1 interface that is used; Zod, Valibot, ArkType and others offer it. */
export interface StandardSchema<Input = unknown, Output = Input> {
  readonly "~standard": {
    readonly version: 1;
    readonly vendor: string;
    readonly validate: (value: unknown) => SchemaResult<Output> | Promise<SchemaResult<Output>>;
    readonly types?: { readonly input: Input; readonly output: Output } | undefined;
  };
}

/** What a Standard Schema answers. */
export type SchemaResult<Output> =
  | { readonly value: Output; readonly issues?: undefined }
  | { readonly issues: ReadonlyArray<{ readonly message: string; readonly path?: ReadonlyArray<PropertyKey | { readonly key: PropertyKey }> | undefined }> };

type SchemaIn<S extends StandardSchema> = NonNullable<S["~standard"]["types"]>["input"];
type SchemaOut<S extends StandardSchema> = NonNullable<S["~standard"]["types"]>["output"];

/**
 * A job type with its input and output. `Input` is what producers pass and `Output` what `result()` gives; with schemas
 * that transform, handlers see `Parsed` and return `Returned`, otherwise these are the same.
 */
export interface Task<Input = unknown, Output = unknown, Parsed = Input, Returned = Output> {
  /** The job type on the wire: `[A-Za-z0-9_.:/-]{1,128}`. */
  readonly name: string;
  readonly options: TaskOptions<Input>;
  readonly input: StandardSchema<Input, Parsed> | undefined;
  readonly output: StandardSchema<Returned, Output> | undefined;
  /** The same task with other defaults; options given here win. */
  opts(options: TaskOptions<Input>): Task<Input, Output, Parsed, Returned>;
  /**
   * The task with its input, or a part of it, and options of the job: for schedules and workflows. What is left out of the
   * input is what a workflow has to fill in.
   */
  s(): Signature<Needs<Input>, Output>;
  s(input: Given<Input>, options?: JobOptions): Signature<{}, Output>;
  s<const Part extends GivenKeys<Partial<Input>>>(input: Part, options?: JobOptions): Signature<Omit<Input, keyof Part>, Output>;
}

/** A task whose types do not matter here. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any
export type AnyTask = Task<any, any, any, any>;

/** Declares a task from schemas. Inputs are checked before they are sent and again before the handler runs. */
export function defineTask<In extends StandardSchema, Out extends StandardSchema = StandardSchema>(
  name: string,
  options: TaskOptions<SchemaIn<In>> & { input: In; output?: Out },
): Task<SchemaIn<In>, SchemaOut<Out>, SchemaOut<In>, SchemaIn<Out>>;
/** Declares a task from types alone. */
export function defineTask<Input, Output = unknown>(name: string, options?: TaskOptions<Input>): Task<Input, Output>;
export function defineTask(
  name: string,
  options: TaskOptions<unknown> & { input?: StandardSchema; output?: StandardSchema } = {},
): Task {
  const { input, output, ...rest } = options;
  return makeTask(name, rest, input, output);
}

const NAME = /^[A-Za-z0-9_.:/-]{1,128}$/;

function makeTask(name: string, options: TaskOptions<unknown>, input?: StandardSchema, output?: StandardSchema): Task {
  if (!NAME.test(name)) {
    throw new InvalidArgument(`task name ${JSON.stringify(name)} must match ${NAME.source}`, { reason: "INVALID_FIELD", field: "type" });
  }
  checkTaskOptions(options);
  const task: Task = {
    name,
    options,
    input,
    output,
    opts: (more) => makeTask(name, { ...options, ...more }, input, output),
    s: (given?: unknown, call: JobOptions = {}) => makeSignature(task, given, call),
  };
  return task;
}

/** Validates `value`; answers the parsed value or throws InvalidArgument that lists the issues. */
export async function validate(schema: StandardSchema | undefined, value: unknown, what: string): Promise<unknown> {
  if (!schema) return value;
  const result = await schema["~standard"].validate(value);
  if (!result.issues) return result.value;
  const issues = result.issues.map(({ path, message }) => {
    const at = path?.map((part) => String(typeof part === "object" ? part.key : part)).join(".");
    return at ? `${at}: ${message}` : message;
  });
  throw new InvalidArgument(`${what} does not fit its schema: ${issues.join("; ")}`, { reason: "INVALID_FIELD", field: what });
}
