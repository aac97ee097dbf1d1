// A task with its input, before anything is done with it: what schedules start and workflows are made of.
import { isRecord, isString, invalid, show } from "./checks.js";
import { checkJobOptions } from "./options.js";
import type { AnyTask } from "./tasks.js";
import type { JobOptions } from "./types.js";

/**
 * A task with its input and options, made by `task.s(input, options)`. `Needs` is what is still missing of the input: `{}`
 * when nothing is, and it can stand alone.
 */
export interface Signature<Needs = {}, Output = unknown> {
  readonly task: AnyTask;
  /** What was given; `undefined` for nothing. */
  readonly input: unknown;
  readonly options: JobOptions;
  /** Types alone; never set. */
  readonly "~types"?: { readonly needs: (given: Needs) => void; readonly output: Output };
}

/** What a task without any input given still needs: nothing, where its type asks for nothing in particular. */
export type Needs<Input> = unknown extends Input ? unknown : [Input] extends [undefined | void] ? unknown : Input;

/** Throws InvalidArgument for options that no job can have. */
export function makeSignature(task: AnyTask, input: unknown, options: JobOptions): Signature<any, any> {
  checkJobOptions(options);
  return { task, input, options };
}

/** Throws InvalidArgument, naming `field`, for what no `task.s(…)` has made. */
export function checkSignature(value: unknown, field: string): void {
  if (isRecord(value) && isRecord(value["task"]) && isString(value["task"]["name"]) && isRecord(value["options"])) return;
  const hint = isRecord(value) && typeof value["s"] === "function" ? "that is the task itself" : show(value);
  throw invalid(field, `${field} must be a task with its input, task.s({ … }), not ${hint}`);
}
