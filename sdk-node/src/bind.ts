// Results of other nodes that belong into the input of a job, by the header `jobwire-bind`: docs/sdk-protocol.md.
import { InvalidArgument } from "./errors.js";

/** Names for each alias the key of the input that its result takes. Reserved, as all headers of this prefix. */
export const BIND_HEADER = "jobwire-bind";

/** Where a result goes: a key of the input, `""` for the input itself; with `[]` behind it, a list of results. */
export type BindKey = string;

/** A result of a job that this one waited for, decoded; `undefined` of one that did not succeed. */
export interface BoundResult {
  alias: string;
  result: unknown;
}

/** Whether a job with these headers needs results to have an input. */
export function isBound(headers: Readonly<Record<string, string>>): boolean {
  return headers[BIND_HEADER] !== undefined;
}

/** The input of a job: its payload with the results where its header says. Throws InvalidArgument where they do not fit. */
export function bindInput(payload: unknown, header: string | undefined, results: readonly BoundResult[]): unknown {
  if (header === undefined) return payload;
  let input = payload;
  for (const [key, value] of collected(parse(header), results)) {
    if (key === "") input = merged(value, input);
    else if (isObject(input)) input = { ...input, [key]: value };
    else throw unfit(`the result for ${JSON.stringify(key)} has no place in an input that is no object`);
  }
  return input;
}

/** The values by key, lists put together. */
function collected(bind: Record<string, BindKey>, results: readonly BoundResult[]): Map<string, unknown> {
  const values = new Map<string, unknown>();
  for (const [alias, key] of Object.entries(bind)) {
    if (key.endsWith("[]")) values.set(key.slice(0, -2), results.filter((one) => bind[one.alias] === key).map(({ result }) => result ?? null));
    else {
      const found = results.find((one) => one.alias === alias);
      if (!found) throw unfit(`the result of ${JSON.stringify(alias)} did not come`);
      values.set(key, found.result ?? null);
    }
  }
  return values;
}

/** A result that is the input, with what was given besides. */
function merged(result: unknown, given: unknown): unknown {
  if (given === undefined || (isObject(given) && Object.keys(given).length === 0)) return result;
  if (isObject(result) && isObject(given)) return { ...result, ...given };
  throw unfit("a result that is no object cannot be the input beside what was given: bind it to a key");
}

function parse(header: string): Record<string, BindKey> {
  try {
    const bind: unknown = JSON.parse(header);
    if (isObject(bind) && Object.values(bind).every((key) => typeof key === "string")) return bind as Record<string, BindKey>;
  } catch {
    // Said below.
  }
  throw unfit("the header is no JSON object of strings");
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function unfit(message: string): InvalidArgument {
  return new InvalidArgument(`${BIND_HEADER}: ${message}`, { reason: "INVALID_FIELD", field: BIND_HEADER });
}
