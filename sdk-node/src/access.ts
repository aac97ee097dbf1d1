// How calls reach the server: shared by the client, its handles and what it administers.
import type { DescMessage, DescMethodUnary, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import type { Codecs } from "./codecs.js";
import { toMs } from "./duration.js";
import type { ResultStream } from "./results.js";
import { retrying } from "./retry.js";
import type { Transport } from "./transport.js";
import type { CallOptions, ListOptions } from "./types.js";

/** What handles and calls need of their client. */
export interface Access {
  transport: Transport;
  results: ResultStream;
  /** Longest time for one call that says nothing else. */
  deadlineMs: number;
  codecs: Codecs;
}

/** The deadline of a call, in milliseconds. */
export function deadlineMsOf(access: Access, { deadline }: CallOptions): number {
  return deadline === undefined ? access.deadlineMs : toMs(deadline, "deadline");
}

/** Calls the server; repeats while it is unavailable, if that is harmless: by the contract, unless it is said otherwise. */
export function call<I extends DescMessage, O extends DescMessage>(
  access: Access,
  method: DescMethodUnary<I, O>,
  request: MessageInitShape<I>,
  options: CallOptions = {},
  harmless = method.idempotency !== MethodOptions_IdempotencyLevel.IDEMPOTENCY_UNKNOWN,
): Promise<MessageShape<O>> {
  const { signal } = options;
  const deadlineMs = deadlineMsOf(access, options);
  const once = (timeoutMs: number) => access.transport.unary(method, request, { timeoutMs, signal });
  if (!harmless) return once(deadlineMs);
  return retrying(performance.now() + deadlineMs, signal, once);
}

const PAGE_SIZE = 100;

/** Everything that a listing finds, page by page as it is asked for. */
export async function* paged<Page extends { nextPageToken: string }, Item>(
  { pageSize = PAGE_SIZE, signal }: ListOptions,
  get: (page: { pageSize: number; pageToken: string }, options: CallOptions) => Promise<Page>,
  itemsOf: (page: Page) => Iterable<Item>,
): AsyncGenerator<Item, void, undefined> {
  let pageToken = "";
  do {
    const page = await get({ pageSize, pageToken }, signal ? { signal } : {});
    yield* itemsOf(page);
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
}
