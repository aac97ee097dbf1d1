// Options that the compiler would refuse, from callers who have none.
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { NO_CODECS } from "./codecs.js";
import { InvalidArgument } from "./errors.js";
import { ExhaustedAction } from "./gen/jobwire/v1/common_pb.js";
import { UniqueConflict, UniqueScope } from "./gen/jobwire/v1/job_pb.js";
import { buildSpecUnchecked } from "./spec.js";
import { defineTask } from "./tasks.js";

const spec = (options: object) => buildSpecUnchecked("t", {}, options, NO_CODECS).spec;

/** `options` are refused with `field` and a text, as options of a call, of a task and of its variant. */
function refused(options: object, field: string, text: RegExp, of: "all" | "call" | "task" = "all"): void {
  const ways: [string, () => unknown][] = [];
  if (of !== "task") ways.push(["enqueue", () => spec(options)]);
  if (of !== "call") ways.push(["defineTask", () => defineTask("t", options)], ["opts", () => defineTask("t").opts(options)]);
  for (const [way, act] of ways) {
    const check = (error: unknown) => {
      assert.ok(error instanceof InvalidArgument, String(error));
      assert.equal(error.field, field);
      assert.equal(error.reason, "INVALID_FIELD");
      assert.match(error.message, text);
      return true;
    };
    assert.throws(act, check, `${way} ${field}`);
  }
}

describe("options", () => {
  it("have a number of attempts, or a policy", () => {
    for (const retry of [0, -2, 1.5, NaN, Infinity, 2 ** 31]) {
      refused({ retry }, "retry", /1 = never again, -1 = no limit/);
      refused({ retry: { maxAttempts: retry } }, "retry.maxAttempts", /1 = never again, -1 = no limit/);
    }
    for (const retry of ["3", true, false, null, [3]]) refused({ retry }, "retry", /a number or \{ maxAttempts: 3 \}/);
    refused({ retry: { maxAttempts: "3" } }, "retry.maxAttempts", /whole number/);
    refused({ retry: { multiplier: "2" } }, "retry.multiplier", /number/);
    refused({ retry: { jitter: NaN } }, "retry.jitter", /number/);
    refused({ retry: { maxCrashes: 0.5 } }, "retry.maxCrashes", /whole number/);
    refused({ retry: { initialDelay: "soon" } }, "retry.initialDelay", /"30s"/);
    refused({ retry: { delays: "1s" } }, "retry.delays", /list/);
    refused({ retry: { delays: ["1s", "soon"] } }, "retry.delays", /"30s"/);
    refused({ retry: { nonRetryableTypes: "TypeError" } }, "retry.nonRetryableTypes", /list of strings/);
    for (const retry of [1, -1, { maxAttempts: 1 }, { maxAttempts: -1 }]) {
      assert.equal(spec({ retry }).retry?.maxAttempts, typeof retry === "number" ? retry : retry.maxAttempts);
    }
    assert.equal(spec({ retry: { maxCrashes: 0 } }).retry?.maxCrashes, 0);
  });

  it("have known names", () => {
    refused({ attempts: 3 }, "attempts", /attempts is no option; retry: \{ maxAttempts \} is meant\?/);
    refused({ backoff: 1 }, "backoff", /retry: \{ initialDelay, multiplier \} is meant\?/);
    refused({ maxAttempts: 3 }, "maxAttempts", /retry: \{ maxAttempts \}/);
    refused({ retry: { attempts: 3 } }, "retry.attempts", /retry\.attempts is no option; maxAttempts is meant\?/);
    refused({ unique: { name: "k" } }, "unique.name", /known are key, scope, ttl, onConflict/);
    refused({ dely: 3 }, "dely", /known are .*\bdelay\b/);
    refused({ constructor: 3 }, "constructor", /known are/);
    refused({ wait: "1s" }, "wait", /known are/);
    refused({ id: "x" }, "id", /task/, "task");
    const task = defineTask("t", { dely: undefined } as object);
    assert.equal(buildSpecUnchecked(task, {}, { backoff: undefined } as object, NO_CODECS).spec.type, "t");
  });

  it("have words that the compiler knows", () => {
    refused({ unique: { scope: "forever" } }, "unique.scope", /one of "until_finished", "until_started", "for_ttl", not "forever"/);
    refused({ unique: { scope: "constructor" } }, "unique.scope", /"until_finished"/);
    refused({ unique: { onConflict: "skip" } }, "unique.onConflict", /"keep", "reject", "replace", "debounce"/);
    refused({ retry: { onExhausted: "drop" } }, "retry.onExhausted", /"dead", "discard"/);
    refused({ retry: { onExhausted: "" } }, "retry.onExhausted", /"dead", "discard"/);
    for (const unique of [true, false, 7, null, ["k"]]) refused({ unique }, "unique", /a key or \{ key: "…" \}/);
    refused({ unique: { key: 7 } }, "unique.key", /string/);
    assert.equal(spec({ unique: { scope: "until_started" } }).unique?.scope, UniqueScope.UNTIL_STARTED);
    assert.equal(spec({ unique: { onConflict: "debounce" } }).unique?.onConflict, UniqueConflict.DEBOUNCE);
    assert.equal(spec({ retry: { onExhausted: "dead" } }).retry?.onExhausted, ExhaustedAction.DEAD);
  });

  it("have values of their type", () => {
    for (const name of ["at", "expireAt"]) {
      for (const value of ["2030-01-01", 1_900_000_000_000, new Date("soon"), null, {}]) refused({ [name]: value }, name, /new Date\(/);
    }
    for (const after of ["id", { id: "a" }, [7], [{ id: 7 }], [null], null]) refused({ after }, "after", /list of handles or ids/);
    for (const priority of [1.5, "1", NaN, 5, true]) refused({ priority }, "priority", /whole number from -4 to 4/);
    for (const tags of ["a", [1], {}, null]) refused({ tags }, "tags", /list of strings/);
    for (const headers of [{ "x-n": 1 }, ["a"], "a", null]) refused({ headers }, "headers", /strings/);
    for (const queue of [7, null, {}]) refused({ queue }, "queue", /string/);
    for (const name of ["idempotencyKey", "fairnessKey"]) refused({ [name]: 7 }, name, /string/);
    refused({ id: 7 }, "id", /string/, "call");
    refused({ timeout: "soon" }, "timeout", /"30s"/);
    const options = { headers: { a: "b" }, tags: ["c"], at: new Date(5_000), after: ["i", { id: "j" }], priority: -4 };
    const built = spec(options);
    assert.deepEqual([built.headers, built.tags, built.priority, built.dependsOn.length], [{ a: "b" }, ["c"], -4, 2]);
  });

  it("that are computed are held to the same", () => {
    const computed: [object, string][] = [
      [{ unique: () => true }, "unique"],
      [{ unique: () => ({ nmae: "k" }) }, "unique.nmae"],
      [{ tags: () => "a" }, "tags"],
      [{ fairnessKey: () => 7 }, "fairnessKey"],
      [{ idempotencyKey: () => 7 }, "idempotencyKey"],
    ];
    for (const [options, field] of computed) {
      const task = defineTask("t", options);
      assert.throws(() => buildSpecUnchecked(task, {}, {}, NO_CODECS), (error: unknown) => error instanceof InvalidArgument && error.field === field, field);
    }
    refused({ tags: () => ["a"] }, "tags", /list of strings/, "call");
    assert.throws(() => defineTask("t", { queue: () => "q" } as object), InvalidArgument);
  });
});
