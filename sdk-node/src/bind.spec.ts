import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, it } from "node:test";
import { bindInput, isBound, type BoundResult } from "./bind.js";

interface Case {
  name: string;
  bind?: Record<string, string>;
  dependencies: BoundResult[];
  payload: unknown;
  input?: unknown;
  refused?: boolean;
}

const { cases } = JSON.parse(readFileSync(new URL("../../../tests/conformance/bind/results.json", import.meta.url), "utf8")) as { cases: Case[] };

describe("results of other nodes, by the cases of all languages", () => {
  for (const { name, bind, dependencies, payload, input, refused } of cases) {
    it(name, () => {
      const make = () => bindInput(payload, bind && JSON.stringify(bind), dependencies);
      if (refused) assert.throws(make, { code: "INVALID_ARGUMENT", field: "jobwire-bind" });
      else assert.deepEqual(make(), input);
    });
  }

  it("are refused where the header is no object of strings", () => {
    for (const header of ["", "[]", "null", '"x"', '{"a":1}']) assert.throws(() => bindInput({}, header, []), /no JSON object/, header);
  });

  it("are needed by jobs with the header alone", () => {
    assert.equal(isBound({}), false);
    assert.equal(isBound({ "jobwire-bind": "{}" }), true);
  });
});
