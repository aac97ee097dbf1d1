import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { InvalidArgument } from "./errors.js";
import { decodeBody, decodeJson, encodeBody, encodeJson, Payload } from "./payload.js";

describe("payload: writing", () => {
  it("writes JSON as usual", () => {
    const value = { a: [1, "zwei", null, true], b: { c: undefined, d: -0.5 } };
    assert.equal(encodeJson(value, "payload"), JSON.stringify(value));
    assert.equal(encodeJson(undefined, "result"), "null");
  });

  it("writes bigint as an integer, wherever it is", () => {
    assert.equal(encodeJson({ a: 2n ** 64n, b: [-1n, { c: 0n }], d: "5n" }, "payload"), '{"a":18446744073709551616,"b":[-1,{"c":0}],"d":"5n"}');
    assert.equal(encodeJson(7n, "result"), "7");
  });

  it("writes times as RFC 3339 and bytes as base64", () => {
    const at = new Date("2026-11-24T10:00:00Z");
    assert.equal(encodeJson({ at, n: 1n }, "payload"), '{"at":"2026-11-24T10:00:00.000Z","n":1}');
    assert.equal(encodeJson({ bytes: new Uint8Array([1, 2, 3]), buffer: Buffer.from("hi") }, "payload"), '{"bytes":"AQID","buffer":"aGk="}');
  });

  it("writes what toJSON answers, exactly as well", () => {
    class Money {
      constructor(readonly cents: bigint) {}
      toJSON() {
        return { cents: this.cents, at: new Date(0) };
      }
    }
    assert.equal(encodeJson({ money: new Money(2n ** 60n) }, "payload"), '{"money":{"cents":1152921504606846976,"at":"1970-01-01T00:00:00.000Z"}}');
    assert.equal(encodeJson([new URL("http://a/b")], "payload"), '["http://a/b"]');
    assert.throws(() => encodeJson({ toJSON: () => ({ n: NaN }) }, "payload"), InvalidArgument);
  });

  it("refuses half a surrogate pair, which other languages cannot read, and nothing that looks like one", () => {
    for (const bad of ["\ud83d", { text: "a\udca5b", n: 1n }, { "\ud800": 1 }]) {
      assert.throws(() => encodeJson(bad, "payload"), (error) => error instanceof InvalidArgument && /half a surrogate pair/.test(error.message));
    }
    for (const good of ["💥", "\\ud83d", "\\\\ud83d", "\\udont"]) assert.equal(JSON.parse(encodeJson(good, "payload")), good);
  });

  it("refuses what JSON has not, and names the field", () => {
    const loop: Record<string, unknown> = {};
    loop["self"] = loop;
    for (const bad of [{ n: NaN }, [Infinity], loop]) {
      assert.throws(() => encodeJson(bad, "payload"), (error: unknown) => error instanceof InvalidArgument && error.field === "payload");
    }
  });
});

describe("payload: reading", () => {
  it("keeps integers beyond 2^53 exact, and only those become bigint", () => {
    const text = '{"id":9007199254740993,"neg":-9007199254740993,"safe":9007199254740991,"frac":1234567890123456.5,"exp":1e20,"text":"12345678901234567890 \\" 98765432109876543210"}';
    assert.deepEqual(decodeJson(text), {
      id: 9007199254740993n,
      neg: -9007199254740993n,
      safe: 9007199254740991,
      frac: 1234567890123456.5,
      exp: 1e20,
      text: '12345678901234567890 " 98765432109876543210',
    });
  });

  it("gives back what was written", () => {
    const value = { big: [2n ** 63n, -(2n ** 70n)], "12345678901234567890": "key", text: "ü\u0000\u2028💥", nested: { deep: [[]] } };
    assert.deepEqual(decodeJson(encodeJson(value, "payload")), value);
  });

  it("accepts only JSON, also where big integers are", () => {
    for (const bad of ["", "{oops", "[1,]", "{12345678901234567890:1}", "12345678901234567890x"]) {
      assert.throws(() => decodeJson(bad), SyntaxError);
    }
  });

  it("hands other media types over as they are", () => {
    const image = new Payload(new Uint8Array([1, 2]), "image/png");
    assert.deepEqual(decodeBody(encodeBody(image, "payload")), image);
    assert.deepEqual(decodeBody({ data: Buffer.from("[1]"), contentType: "application/json", contentEncoding: "" }), [1]);
    assert.deepEqual(decodeBody({ data: Buffer.from("{}"), contentType: "application/vnd.api+json", contentEncoding: "" }), {});
    const compressed = decodeBody({ data: Buffer.from("x"), contentType: "", contentEncoding: "zstd" });
    assert.ok(compressed instanceof Payload && compressed.contentEncoding === "zstd");
    assert.equal(decodeBody(undefined), undefined);
  });
});
