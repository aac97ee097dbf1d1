// Bodies: JSON text in and out with exact integers, and raw bytes for everything else.
import { randomBytes } from "node:crypto";
import { NO_CODECS, type Codecs } from "./codecs.js";
import { InvalidArgument } from "./errors.js";

/** A body as it crosses threads and the wire: one of `text` and `data`, or neither (empty). */
export interface Body {
  text?: string;
  data?: Uint8Array;
  contentType: string;
  contentEncoding: string;
}

/**
 * A body that is not JSON: pass it as the input or return it as the result, and receive it for any body whose media
 * type is not JSON.
 */
export class Payload {
  constructor(
    readonly data: Uint8Array | string,
    /** Media type, such as `"image/png"`. */
    readonly contentType: string,
    /** Transformation that was applied (`"zstd"`); empty = none, then the client's codecs apply theirs. */
    readonly contentEncoding = "",
  ) {
    if (typeof data === "string" || data instanceof Uint8Array) return;
    throw new InvalidArgument("Payload: data must be a string or a Uint8Array", { reason: "INVALID_FIELD", field: "data" });
  }
}

/** Encodes a value. `undefined` becomes `null`. `field` names the value in errors. */
export function encodeBody(value: unknown, field: string, codecs: Codecs = NO_CODECS): Body {
  if (value instanceof Payload) {
    const { data, contentType, contentEncoding } = value;
    return codecs.encode(typeof data === "string" ? { text: data, contentType, contentEncoding } : { data, contentType, contentEncoding });
  }
  return codecs.encode({ text: encodeJson(value, field), contentType: "", contentEncoding: "" });
}

/** Decodes a body: JSON to a value (integers beyond 2^53 as `bigint`), anything else to a `Payload`. */
export function decodeBody(encoded: Body | undefined, codecs: Codecs = NO_CODECS): unknown {
  const body = codecs.decode(encoded);
  if (body === undefined || (body.text === undefined && body.data === undefined)) return undefined;
  const json = body.contentType === "" ? body.text !== undefined : /^application\/(?:[\w.+-]+\+)?json\b/i.test(body.contentType);
  if (json && body.contentEncoding === "") {
    return decodeJson(body.text ?? new TextDecoder("utf-8", { fatal: true }).decode(body.data));
  }
  return new Payload(body.text ?? body.data!, body.contentType || "application/octet-stream", body.contentEncoding);
}

/** Bytes of a body on the wire. */
export function bodyBytes(body: Body | undefined): number {
  if (!body) return 0;
  return body.text !== undefined ? Buffer.byteLength(body.text) : (body.data?.byteLength ?? 0);
}

/** JSON text of a value: `bigint` as an integer, `Date` as RFC 3339, bytes as base64; NaN and Infinity are refused. */
export function encodeJson(value: unknown, field: string): string {
  try {
    if (!needsReplacer(value)) return wellFormed(JSON.stringify(value) ?? "null");
    const mark = `${randomBytes(12).toString("hex")}:`;
    const text = JSON.stringify(value, function (this: Record<string, unknown>, key: string, item: unknown) {
      if (typeof item === "bigint") return `${mark}${item}`;
      if (typeof item === "number" && !Number.isFinite(item)) throw new TypeError(`${item} is not a JSON number`);
      const original = this[key];
      return original instanceof Uint8Array ? Buffer.from(original).toString("base64") : item;
    });
    return wellFormed(text.replace(new RegExp(`"${mark}(-?\\d+)"`, "g"), "$1"));
  } catch (error) {
    const why = error instanceof RangeError ? "it is nested too deeply, or contains itself" : (error as Error).message;
    throw new InvalidArgument(`${field} cannot be written as JSON: ${why}`, { reason: "INVALID_FIELD", field, cause: error });
  }
}

/** JSON.stringify escapes halves of surrogate pairs, and nothing else of theirs; many languages cannot read these. */
const HALF_PAIR = /(?<!\\)(?:\\\\)*\\ud[89a-f]/;

function wellFormed(text: string): string {
  if (text.includes("\\ud") && HALF_PAIR.test(text)) throw new TypeError("a string holds half a surrogate pair");
  return text;
}

/** Whether plain JSON.stringify might lose something: a bigint or bytes. Throws for numbers that JSON has not. */
function needsReplacer(value: unknown): boolean {
  switch (typeof value) {
    case "bigint":
      return true;
    case "number":
      if (Number.isFinite(value)) return false;
      throw new TypeError(`${value} is not a JSON number`);
    case "object": {
      if (value === null) return false;
      if (value instanceof Uint8Array) return true;
      if (typeof (value as { toJSON?: unknown }).toJSON === "function") return !(value instanceof Date);
      let found = false;
      for (const item of Array.isArray(value) ? value : Object.values(value)) found = needsReplacer(item) || found;
      return found;
    }
    default:
      return false;
  }
}

const LONG_DIGITS = /\d{16}/;
const STRING_OR_NUMBER = /"[^"\\]*(?:\\.[^"\\]*)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;

/** Parses JSON; integers that a number cannot hold exactly become `bigint`. Throws SyntaxError. */
export function decodeJson(text: string): unknown {
  const plain: unknown = JSON.parse(text);
  if (!LONG_DIGITS.test(text)) return plain;
  const mark = `${randomBytes(12).toString("hex")}:`;
  let marked = false;
  const rewritten = text.replace(STRING_OR_NUMBER, (token) => {
    if (token.length < 16 || !/^-?\d+$/.test(token) || Number.isSafeInteger(Number(token))) return token;
    marked = true;
    return `"${mark}${token}"`;
  });
  if (!marked) return plain;
  return JSON.parse(rewritten, (_key, item: unknown) =>
    typeof item === "string" && item.startsWith(mark) ? BigInt(item.slice(mark.length)) : item,
  );
}
