// Calls that change many things at once: bounded on the server, and continued here until all is done.
import { isListOf, isRecord, isString, show, invalid } from "./checks.js";
import { NotFound, type JobwireError } from "./errors.js";
import type { BulkResult as PbBulkResult } from "./gen/jobwire/v1/common_pb.js";
import { errorOfItem } from "./status.js";

/** Which ones: an id, ids, or a filter in the language of the server. The filter `"*"` means all. */
export type Which = string | readonly string[] | { readonly filter: string };

/** What became of a call about many. */
export interface BulkResult {
  /** How many were meant. */
  matched: number;
  /** How many were changed; those that would be, where nothing was to be changed. */
  affected: number;
  /** Up to 100 of those that were meant. */
  sampleIds: string[];
  /** Those that could not be changed, and why; the first 100 of each 1,000. */
  errors: { id: string; error: JobwireError }[];
}

/** Form of `Selector`. */
interface Selected {
  ids: string[];
  filter: string;
}

const IDS_MAX = 1_000;
const SAMPLES_MAX = 100;

/**
 * Calls `act` for all of `which`, a thousand ids or what the server does in one call at a time. What is wrong with a single
 * id is thrown; of several, or of a filter, it is in the result.
 */
export async function bulk(
  which: Which,
  act: (selector: Selected, continueToken: string) => Promise<{ result?: PbBulkResult | undefined }>,
): Promise<BulkResult> {
  const sum: BulkResult = { matched: 0, affected: 0, sampleIds: [], errors: [] };
  for (const selector of selectorsOf(which)) {
    let continueToken = "";
    do {
      const { result } = await act(selector, continueToken);
      sum.matched += result?.matchedCount ?? 0;
      sum.affected += result?.affectedCount ?? 0;
      sum.sampleIds.push(...(result?.sampleIds ?? []).slice(0, SAMPLES_MAX - sum.sampleIds.length));
      for (const { id, error } of result?.errors ?? []) if (error) sum.errors.push({ id, error: errorOfItem(error) });
      continueToken = result?.continueToken ?? "";
    } while (continueToken !== "");
  }
  if (typeof which === "string") {
    const [first] = sum.errors;
    if (first) throw first.error;
    if (sum.matched === 0) throw new NotFound(`there is no ${which}`);
  }
  return sum;
}

function selectorsOf(which: Which): Selected[] {
  if (isString(which)) return [{ ids: [which], filter: "" }];
  if (isListOf(which, isString)) {
    const ids = which as readonly string[];
    return Array.from({ length: Math.ceil(ids.length / IDS_MAX) }, (_, i) => ({ ids: ids.slice(i * IDS_MAX, (i + 1) * IDS_MAX), filter: "" }));
  }
  if (isRecord(which) && isString(which["filter"]) && which["filter"] !== "") return [{ ids: [], filter: which["filter"] }];
  throw invalid("selector", `say which: an id, a list of ids, or { filter: "…" } ("*" for all), not ${show(which)}`);
}
