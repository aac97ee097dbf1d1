// Durations, ids, endpoints and errors.
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { msOf, spanOf, toMs } from "./duration.js";
import { resolveConnection } from "./endpoints.js";
import { database, http, httpStrict, noRetryOn } from "./classifiers.js";
import { Discard, NonRetryable, RetryAfter } from "./directives.js";
import { InvalidArgument, JobFailed, JobwireError, makeError, Unavailable } from "./errors.js";
import { uuidv7 } from "./ids.js";
import { endingOf, failureOf } from "./outcomes.js";
import { errorOfStatus } from "./status.js";

describe("duration", () => {
  it("reads numbers as milliseconds and strings by their unit", () => {
    const cases = [[1500, 1500], ["250ms", 250], ["30s", 30_000], ["1.5h", 5_400_000], ["2m", 120_000], ["1d", 86_400_000]] as const;
    for (const [text, ms] of cases) assert.equal(toMs(text), ms);
    for (const bad of ["30 parsecs", "s", "-1s", "", "1h30m"]) {
      assert.throws(() => toMs(bad as "1s", "timeout"), (error: unknown) => error instanceof InvalidArgument && error.field === "timeout");
    }
  });

  it("survives the trip to protobuf and back, also below zero", () => {
    for (const ms of [0, 1, 999.5, 1_000, 86_400_000, -1.5]) assert.equal(msOf(spanOf(ms)), ms);
    assert.equal(msOf(undefined), undefined);
  });
});

describe("ids", () => {
  it("are UUIDv7: time first, never twice", () => {
    const ids = Array.from({ length: 5_000 }, () => uuidv7(0x0123456789ab));
    assert.ok(ids.every((id) => /^01234567-89ab-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/.test(id)));
    assert.equal(new Set(ids).size, ids.length);
  });
});

describe("endpoints", () => {
  it("come from options, then the environment, then the default", () => {
    assert.deepEqual(resolveConnection({}, {}).endpoints, ["127.0.0.1:7420"]);
    assert.deepEqual(resolveConnection({}, { JOBWIRE_URL: "jobwire://a, b:1" }).endpoints, ["a:7420", "b:1"]);
    const secure = resolveConnection({ url: "https://jobs.example.com:443", token: "t" }, { JOBWIRE_URL: "jobwire://a" });
    assert.deepEqual([secure.endpoints, secure.tls, secure.token], [["jobs.example.com:443"], true, "t"]);
    assert.deepEqual(resolveConnection({ url: "jobwire://[::1]:9" }, {}).endpoints, ["[::1]:9"]);
  });

  it("refuses what cannot be meant", () => {
    for (const url of ["ftp://a", "jobwire://", "jobwire://a,jobwires://b", "jobwire://user:pw@a"]) {
      assert.throws(() => resolveConnection({ url }, {}), InvalidArgument, url);
    }
    assert.throws(() => resolveConnection({ certFile: "c.pem" }, {}), InvalidArgument);
    assert.throws(() => resolveConnection({ url: "jobwire://far", tokenFile: "t" }, {}), /allowPlaintextToken/);
    assert.equal(resolveConnection({ url: "jobwire://far", token: "t", allowPlaintextToken: true }, {}).token, "t");
  });
});

describe("errors", () => {
  it("are instances of their class, the base, and Error", () => {
    const error = makeError("UNAVAILABLE", "away", { retryDelay: 5 });
    assert.ok(error instanceof Unavailable && error instanceof JobwireError && error instanceof Error);
    assert.deepEqual([error.name, error.code, error.retryable, error.retryDelay], ["Unavailable", "UNAVAILABLE", true, 5]);
    assert.equal(makeError("RESOURCE_EXHAUSTED", "too large").retryable, false);
    assert.equal(new JobFailed("j", "dead", undefined).retryable, false);
  });

  it("survive a damaged trailer and an unknown code", () => {
    const error = errorOfStatus(99, "odd", new Uint8Array([255, 255, 255]));
    assert.deepEqual([error.code, error.message, error.reason], ["UNKNOWN", "odd", ""]);
  });
});

describe("outcomes", () => {
  const { signal } = new AbortController();
  const running = { cancelReason: undefined, signal, stalled: false };
  const response = (status: number, headers: Record<string, string> = {}) => Object.assign(new Error(`HTTP ${status}`), { response: { status, headers } });

  it("name a failure after the error, its class, or the type of the value", () => {
    class Own extends Error {}
    class Named extends Error { override name = "smtp.Timeout"; }
    const types = [new Own(), new Named(), new Error(), "text", { a: 1 }, null].map((error) => failureOf(error).type);
    assert.deepEqual(types, ["Own", "smtp.Timeout", "Error", "string", "object", "null"]);
  });

  it("bound what they carry", () => {
    let error = new Error("x".repeat(100_000));
    for (let i = 0; i < 10; i++) error = new Error("outer", { cause: error });
    let depth = 0;
    for (let at = failureOf(error).cause; at; at = at.cause) depth += 1;
    assert.equal(depth, 5);
    assert.ok(failureOf(new Error("x".repeat(100_000))).message.length <= 4_096);
  });

  it("follow Retry-After of HTTP clients", () => {
    const seconds = endingOf(response(429, { "retry-after": "3" }), running, [http]);
    assert.ok(seconds.kind === "failed" && seconds.action === "retry" && seconds.retryDelayMs === 3_000);
    const plain = endingOf(response(429), running, [http]);
    assert.ok(plain.kind === "failed" && plain.action === "policy");
    const date = RetryAfter.from({ status: 503, headers: new Headers({ "retry-after": new Date(Date.now() + 60_000).toUTCString() }) });
    assert.ok(date.delay! > 58_000 && date.delay! <= 60_000);
    assert.equal(RetryAfter.from({ status: 429, headers: {} }, "5s").delay, 5_000);
    assert.equal(RetryAfter.from({ headers: {} }).delay, undefined);
  });

  it("give up on hopeless answers with httpStrict", () => {
    const actions = [404, 408, 500].map((status) => endingOf(response(status), running, [httpStrict])).map((ending) => ending.kind === "failed" && ending.action);
    assert.deepEqual(actions, ["stop", "policy", "policy"]);
  });

  it("know the HTTP errors of the usual clients by their shape", () => {
    const headers = { "Retry-After": "2" };
    const errors: Record<string, unknown> = {
      "a Response": new Response("", { status: 429, headers }),
      "fetch, wrapped": new Error("no", { cause: new Response("", { status: 503, headers }) }),
      axios: Object.assign(new Error("axios"), { response: { status: 429, headers: { "retry-after": "2" } } }),
      got: Object.assign(new Error("got"), { response: { statusCode: 503, headers: { "retry-after": "2" } } }),
      undici: Object.assign(new Error("undici"), { statusCode: 429, headers: { "retry-after": "2" } }),
      "node:http": new Error("http", { cause: { statusCode: 429, statusMessage: "Too Many", headers: { "retry-after": ["2"] } } }),
      superagent: Object.assign(new Error("superagent"), { status: 429, response: { headers: { "retry-after": "2" } } }),
      AWS: Object.assign(new Error("aws"), { $response: { statusCode: 503, headers } }),
      "an API client": Object.assign(new Error("api"), { status: 429, headers: new Headers(headers) }),
      "an error in an error": new Error("outer", { cause: response(429, headers) }),
    };
    for (const [name, error] of Object.entries(errors)) {
      const ending = endingOf(error, running, [http]);
      assert.ok(ending.kind === "failed" && ending.action === "retry" && ending.retryDelayMs === 2_000, name);
    }
    for (const error of [response(500, headers), response(429, { "retry-after": "soon" }), new Error("x"), null, "429"]) assert.equal(http(error), undefined);
    assert.equal(RetryAfter.from({ statusCode: 429, statusMessage: "Too Many", headers }).message, "HTTP 429 Too Many");
  });

  it("know deadlocks and failed serialisations of the usual databases", () => {
    const error = (more: object) => Object.assign(new Error("db"), more);
    const conflicts = [
      error({ code: "40001" }), error({ code: "40P01" }), error({ code: "ER_LOCK_DEADLOCK", errno: 1213 }), error({ errno: 1213 }),
      error({ code: "P2034" }), error({ number: 1205 }), error({ code: "SQLITE_BUSY_SNAPSHOT" }),
      error({ driverError: { code: "40P01" } }), error({ original: { errno: 1213 } }), new Error("orm", { cause: error({ code: "40001" }) }),
    ];
    for (const conflict of conflicts) {
      const directive = database(conflict);
      assert.ok(directive instanceof RetryAfter && directive.delay! >= 100 && directive.delay! <= 1_000, JSON.stringify(conflict));
    }
    for (const other of [error({ code: "23505" }), error({ errno: -111, code: "ECONNREFUSED" }), new Error("x"), undefined]) assert.equal(database(other), undefined);
  });

  it("do not retry the classes of noRetryOn", () => {
    class Base extends Error {}
    class Derived extends Base {}
    assert.ok(noRetryOn(Base)(new Derived()) instanceof NonRetryable);
    assert.equal(noRetryOn(Base, RangeError)(new TypeError()), undefined);
  });

  it("go on without a classifier that throws, or answers something else", () => {
    const broken = [() => { throw new Error("classifier"); }, () => new Error("no directive") as never, http];
    const ending = endingOf(response(429, { "retry-after": "3" }), running, broken);
    assert.ok(ending.kind === "failed" && ending.action === "retry" && ending.retryDelayMs === 3_000);
  });

  it("ask the user's classifiers, and keep the error", () => {
    class Hopeless extends Error {}
    const classify = (error: unknown) => (error instanceof Hopeless ? new Discard() : error instanceof RangeError ? new NonRetryable() : undefined);
    const ending = endingOf(new Hopeless("why"), running, [classify]);
    assert.ok(ending.kind === "failed" && ending.action === "discard" && ending.failure.type === "Hopeless" && ending.failure.message === "why");
  });

  it("take an AbortError for an ordinary failure when nobody cancelled", () => {
    const error = Object.assign(new Error("mine"), { name: "AbortError" });
    const ending = endingOf(error, running, []);
    assert.ok(ending.kind === "failed" && ending.action === "policy");
  });
});
