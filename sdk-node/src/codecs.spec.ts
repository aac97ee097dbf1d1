import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Codecs, gzip, type Codec } from "./codecs.js";
import { InvalidArgument } from "./errors.js";
import { decodeBody, encodeBody, Payload } from "./payload.js";

/** "Encryption": every byte turned by one, after a mark. */
const turn: Codec = {
  encoding: "turn",
  encode: (data) => Uint8Array.from([7, ...data.map((byte) => byte + 1)]),
  decode: (data) => {
    if (data[0] !== 7) throw new Error("not mine");
    return data.subarray(1).map((byte) => byte - 1);
  },
};

describe("codecs", () => {
  const value = { text: "Grüße 💥 ".repeat(500), big: 2n ** 64n };

  it("change the bytes and not the value, one after the other", () => {
    const codecs = new Codecs([gzip(), turn]);
    const body = encodeBody(value, "payload", codecs);
    assert.deepEqual([body.contentType, body.contentEncoding, body.text], ["application/json", "gzip,turn", undefined]);
    assert.ok(body.data!.byteLength < 500);
    assert.deepEqual(decodeBody(body, codecs), value);
    const image = new Payload(new Uint8Array(5_000), "image/png");
    const packed = encodeBody(image, "payload", codecs);
    assert.deepEqual([packed.contentType, packed.contentEncoding], ["image/png", "gzip,turn"]);
    assert.deepEqual([...((decodeBody(packed, codecs) as Payload).data as Uint8Array)], [...(image.data as Uint8Array)]);
  });

  it("leave alone what they decline, and what is encoded already", () => {
    const codecs = new Codecs([gzip({ minBytes: 100 })]);
    assert.deepEqual(encodeBody({ a: 1 }, "payload", codecs), { text: '{"a":1}', contentType: "", contentEncoding: "" });
    const noise = new Payload(Uint8Array.from({ length: 200 }, () => Math.random() * 256), "x/y");
    assert.equal(encodeBody(noise, "payload", codecs).contentEncoding, "");
    assert.equal(encodeBody(new Payload(new Uint8Array(5_000), "x/y", "zstd"), "payload", codecs).contentEncoding, "zstd");
  });

  it("refuse encodings they do not know, and bodies that do not fit; without any, the body stays as it is", () => {
    const body = encodeBody(value, "payload", new Codecs([turn]));
    assert.throws(() => decodeBody(body, new Codecs([gzip()])), (error) => error instanceof InvalidArgument && /none for the encoding "turn".*known are gzip/.test(error.message));
    assert.throws(() => decodeBody({ ...body, data: new Uint8Array([1]) }, new Codecs([turn])), /not mine/);
    assert.ok(decodeBody(body) instanceof Payload);
    const bomb = { data: gzip().encode(new Uint8Array(65 << 20))!, contentType: "x/y", contentEncoding: "gzip" };
    assert.throws(() => decodeBody(bomb, new Codecs([gzip()])), /larger than/);
  });

  it("have names that fit, each once", () => {
    assert.throws(() => new Codecs([{ ...turn, encoding: "a,b" }]), InvalidArgument);
    assert.throws(() => new Codecs([turn, turn]), /two of turn/);
  });
});
