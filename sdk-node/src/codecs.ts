// What happens to bodies between their JSON and the wire: compression, encryption.
import { gunzipSync, gzipSync } from "node:zlib";
import { InvalidArgument } from "./errors.js";
import type { Body } from "./payload.js";

/**
 * Transforms bodies on their way to the server, and back. Producers and workers need the same ones; the server and its
 * dashboard see only the outer form. Both functions are called on the thread of the caller and must be quick: keep keys
 * in memory.
 *
 * A codec that gives other bytes each time, as encryption should, makes equal inputs different to the server: give
 * `unique` a key, and do not repeat an `id` or `idempotencyKey` with a body that was encoded anew.
 */
export interface Codec {
  /** Its name in the body's content encoding: `[a-z0-9._-]+`, such as `"gzip"`. */
  readonly encoding: string;
  /** Answers the transformed bytes; `undefined` leaves this body as it is. */
  encode(data: Uint8Array): Uint8Array | undefined;
  /** Undoes it. What it throws ends the job as unprocessable, without a retry. */
  decode(data: Uint8Array): Uint8Array;
}

const JSON_TYPE = "application/json";
const INFLATED_MAX = 64 << 20;

/** Compresses bodies of `minBytes` (default 1,024) and more, where that makes them smaller. Reads up to 64 MiB. */
export function gzip(options: { minBytes?: number } = {}): Codec {
  const { minBytes = 1_024 } = options;
  return {
    encoding: "gzip",
    encode(data) {
      if (data.byteLength < minBytes) return undefined;
      const packed = gzipSync(data);
      return packed.byteLength < data.byteLength ? packed : undefined;
    },
    decode: (data) => gunzipSync(data, { maxOutputLength: INFLATED_MAX }),
  };
}

/** The codecs of a client: the first is applied first, and undone last. */
export class Codecs {
  readonly #byName = new Map<string, Codec>();

  constructor(private readonly list: readonly Codec[] = []) {
    for (const codec of list) {
      const { encoding } = codec;
      if (!/^[a-z0-9._-]+$/.test(encoding)) throw invalid(`${JSON.stringify(encoding)} must match [a-z0-9._-]+`);
      if (this.#byName.has(encoding)) throw invalid(`there are two of ${encoding}`);
      this.#byName.set(encoding, codec);
    }
  }

  /** A body that has an encoding already stays as it is. */
  encode(body: Body): Body {
    if (this.list.length === 0 || body.contentEncoding !== "") return body;
    let data: Uint8Array = body.text === undefined ? (body.data ?? new Uint8Array()) : Buffer.from(body.text);
    const applied: string[] = [];
    for (const codec of this.list) {
      const next = codec.encode(data);
      if (next === undefined) continue;
      data = next;
      applied.push(codec.encoding);
    }
    if (applied.length === 0) return body;
    const contentType = body.contentType || (body.text === undefined ? "" : JSON_TYPE);
    return { data, contentType, contentEncoding: applied.join(",") };
  }

  /** Without any codec an encoded body stays as it is; with some, one of an unknown encoding is refused. */
  decode(body: Body): Body;
  decode(body: Body | undefined): Body | undefined;
  decode(body: Body | undefined): Body | undefined {
    if (!body || body.contentEncoding === "" || this.list.length === 0) return body;
    let data: Uint8Array = body.data ?? Buffer.from(body.text ?? "");
    for (const name of body.contentEncoding.split(",").reverse()) {
      const codec = this.#byName.get(name.trim());
      if (!codec) throw invalid(`none for the encoding ${JSON.stringify(name.trim())} of this body; known are ${[...this.#byName.keys()].join(", ")}`);
      data = codec.decode(data);
    }
    return { data, contentType: body.contentType, contentEncoding: "" };
  }
}

/** For those who have none. */
export const NO_CODECS = new Codecs();

function invalid(message: string): InvalidArgument {
  return new InvalidArgument(`codecs: ${message}`, { reason: "INVALID_FIELD", field: "codecs" });
}
