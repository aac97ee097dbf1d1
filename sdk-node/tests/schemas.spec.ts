// Three vendors of Standard Schema: what the compiler makes of them, and what happens to inputs and results at run time.
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type } from "arktype";
import * as v from "valibot";
import { z } from "zod";
import { Client, defineTask, InvalidArgument, JobFailed, Worker, type Task } from "jobwire";
import { inline } from "jobwire/testing";

const zod = defineTask("schema.zod", {
  input: z.object({ id: z.number(), at: z.iso.datetime().transform((text) => new Date(text)) }),
  output: z.object({ year: z.number() }).transform(({ year }) => `year ${year}`),
  unique: (input) => String(input.id),
});
const valibot = defineTask("schema.valibot", {
  input: v.object({ id: v.pipe(v.number(), v.minValue(1)), at: v.pipe(v.string(), v.transform((text) => new Date(text))) }),
  output: v.pipe(v.object({ year: v.number() }), v.transform(({ year }) => `year ${year}`)),
  queue: "schemas",
});
const arktype = defineTask("schema.arktype", {
  input: type({ id: "number > 0", at: "string.date.iso.parse" }),
  output: type({ year: "number" }).pipe(({ year }) => `year ${year}`),
  timeout: "30s",
});

type Is<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
type Sent = { id: number; at: string };
type Parsed = { id: number; at: Date };
/** What producers pass and get, what handlers get and return, taken from the schema of each vendor. */
type Parts<T> = T extends Task<infer Input, infer Output, infer Seen, infer Returned> ? { Input: Input; Output: Output; Seen: Seen; Returned: Returned } : never;
type Same<T> = [
  Is<Parts<T>["Input"], Sent>, Is<Parts<T>["Output"], string>, Is<Parts<T>["Seen"], Parsed>, Is<Parts<T>["Returned"], { year: number }>,
];
const exact: [Same<typeof zod>, Same<typeof valibot>, Same<typeof arktype>] = [
  [true, true, true, true],
  [true, true, true, true],
  [true, true, true, true],
];

/** Never runs; only its types matter. */
async function refused(client: Client) {
  // @ts-expect-error: producers pass the text, not the date
  await client.enqueue(zod, { id: 1, at: new Date() });
  // @ts-expect-error: producers pass the text, not the date
  await client.enqueue(valibot, { id: 1, at: new Date() });
  // @ts-expect-error: producers pass the text, not the date
  await client.enqueue(arktype, { id: 1, at: new Date() });
  // @ts-expect-error: a field is missing
  await client.enqueueMany(zod, [{ id: 1 }]);
  // @ts-expect-error: a field is missing
  await client.run(valibot, { at: "" });
  // @ts-expect-error: a field is missing
  client.enqueueStream(arktype, [{ at: "" }]);
  // @ts-expect-error: the result is a string
  const year: number = await client.run(zod, { id: 1, at: "" });
  const worker = new Worker(client);
  // @ts-expect-error: handlers return what the output schema takes in
  worker.handle(zod, () => "year 2026");
  // @ts-expect-error: handlers return what the output schema takes in
  worker.handle(valibot, async () => ({ year: "2026" }));
  // @ts-expect-error: handlers return what the output schema takes in
  worker.handle(arktype, () => undefined);
  // @ts-expect-error: handlers see the date
  worker.handle(zod, ({ at }) => ({ year: at.length }));
  // @ts-expect-error: an option that tasks do not have
  defineTask("x", { input: z.object({}), retires: 3 });
  // @ts-expect-error: a key is a string
  defineTask("x", { input: z.object({ n: z.number() }), unique: (input) => input.n });
  return year;
}

describe("schemas", () => {
  const year = ({ at }: Parsed) => ({ year: at.getUTCFullYear() });

  for (const [vendor, task] of Object.entries({ zod, valibot, arktype } as Record<string, typeof zod>)) {
    it(`of ${vendor}: parse inputs for handlers and results for callers, and refuse what does not fit`, async () => {
      assert.ok(exact.flat().every(Boolean) && typeof refused === "function");
      await using client = new Client({ url: "jobwire://127.0.0.1:1" });
      let bad = false;
      const worker = new Worker(client).handle(task, (input) => (bad ? ({ year: "soon" } as never) : year(input)));
      using jobs = inline(client, worker);
      assert.equal(await client.run(task, { id: 1, at: "2026-11-24T00:00:00Z" }), "year 2026");
      assert.deepEqual(jobs.enqueued[0]!.input, { id: 1, at: "2026-11-24T00:00:00Z" });

      await assert.rejects(client.enqueue(task, { id: "one" as never, at: "2026-11-24T00:00:00Z" }), (error: unknown) => {
        assert.ok(error instanceof InvalidArgument);
        assert.equal(error.field, "input");
        assert.match(error.message, /^input does not fit its schema: id: /);
        return true;
      });
      // From a producer that does not know the schema: unprocessable, once.
      const raw = await client.enqueue(task.name, { id: 1 }, { retry: 5 });
      const refusal = await raw.result().then(() => assert.fail(vendor), (error: unknown) => error as JobFailed);
      assert.deepEqual([refusal.state, refusal.failure?.kind, (await raw.status()).delivery], ["dead", "unprocessable", 1]);

      bad = true;
      const wrong = await client.enqueue(task, { id: 2, at: "2026-11-24T00:00:00Z" }, { retry: 5 });
      await assert.rejects(wrong.result(), (error: unknown) => error instanceof JobFailed && error.failure?.kind === "unprocessable");
    });
  }
});
