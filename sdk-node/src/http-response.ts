// HTTP answers as the usual clients give them, recognised by their shape: no client is imported.

/** A response with headers: of `fetch`, undici, axios, got, `node:http`, or anything shaped like one of these. */
export interface ResponseLike {
  status?: number;
  statusCode?: number;
  statusText?: string;
  statusMessage?: string;
  headers: { get(name: string): unknown } | object;
}

const CAUSES_MAX = 5;

/**
 * The response that an error carries: in `response` (axios, got, ky, superagent, Octokit, …), in `$response` (AWS), on
 * the error itself (undici, most API clients), in its cause; or the thrown value, when it is a response.
 */
export function responseOf(error: unknown): ResponseLike | undefined {
  let at = error as Record<string, unknown> | null | undefined;
  for (let depth = 0; typeof at === "object" && at !== null && depth <= CAUSES_MAX; depth++) {
    for (const candidate of [at["response"], at["$response"], at]) {
      const found = responseLike(candidate, at);
      if (found) return found;
    }
    at = at["cause"] as typeof at;
  }
  return undefined;
}

function responseLike(value: unknown, owner: Record<string, unknown>): ResponseLike | undefined {
  const response = value as Partial<ResponseLike> | null | undefined;
  if (typeof response !== "object" || response === null) return undefined;
  const status = statusOf(response) ?? statusOf(owner as Partial<ResponseLike>);
  const { headers } = response;
  if (status === undefined || typeof headers !== "object" || headers === null) return undefined;
  return { status, headers };
}

/** The status code of a response, however its client calls it. */
export function statusOf({ status, statusCode }: Partial<ResponseLike>): number | undefined {
  const code = status ?? statusCode;
  return typeof code === "number" ? code : undefined;
}

/** Milliseconds of a response's `Retry-After` (seconds, or an HTTP date); `undefined` when there is none to be read. */
export function retryAfterMs({ headers }: ResponseLike): number | undefined {
  const raw = headerOf(headers, "retry-after")?.trim();
  if (!raw) return undefined;
  if (/^\d+(\.\d+)?$/.test(raw)) return Number(raw) * 1_000;
  const at = Date.parse(raw);
  return Number.isNaN(at) ? undefined : Math.max(0, at - Date.now());
}

function headerOf(headers: ResponseLike["headers"], name: string): string | undefined {
  if (typeof (headers as { get?: unknown }).get === "function") {
    const value = (headers as { get(name: string): unknown }).get(name);
    return value === null || value === undefined ? undefined : String(value);
  }
  for (const [key, value] of Object.entries(headers)) {
    if (key.toLowerCase() === name) return String(Array.isArray(value) ? value[0] : value);
  }
  return undefined;
}
