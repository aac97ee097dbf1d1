// What the compiler accepts and refuses. Every `@ts-expect-error` is an assertion: tsc fails when the line compiles.
import { describe, it } from "node:test";
import { Client, defineTask, RetryAfter, Worker, type Duration, type StandardSchema } from "jobwire";

type Mail = { to: string; body: string };
declare const mailSchema: StandardSchema<Mail>;
declare const dateSchema: StandardSchema<{ at: string }, { at: Date }>;
declare const receiptSchema: StandardSchema<{ id: string }>;
declare const client: Client;

const resize = defineTask<{ path: string }, string>("img.resize");

/** Never runs; only its types matter. */
async function accepted() {
  const send = defineTask("email.send", { input: mailSchema, output: receiptSchema, queue: "mail", timeout: "30s", unique: (mail) => mail.to });
  const job = await client.enqueue(send, { to: "a@b.c", body: "hi" }, { delay: "1.5h", priority: -4, retry: 3 });
  const { id }: { id: string } = await job.result({ timeout: 500 });
  const path: string = await client.run(resize, { path: id });
  await client.enqueueMany(resize.opts({ tags: ["bulk"] }), [{ path }]);
  await client.enqueue("untyped", { anything: [1n] });
  const dated = defineTask("dated", { input: dateSchema });
  await client.enqueue(dated, { at: "2026-11-24" });
  new Worker(client, { concurrency: 2, queues: ["a", { queue: "b", weight: 2 }] })
    .handle(send, async ({ to }, ctx) => ({ id: `${to} ${ctx.attempt}` }))
    .handle(resize, (input) => input.path)
    .handle(dated, ({ at }) => at.getTime());
}

async function refused() {
  // @ts-expect-error: a unit that is not known
  const far: Duration = "30 parsecs";
  // @ts-expect-error: a number of what
  new RetryAfter("30");
  // @ts-expect-error: the input has another shape
  await client.enqueue(resize, { file: "x" });
  // @ts-expect-error: a field is missing
  await client.enqueue(defineTask("email.send", { input: mailSchema }), { to: "x" });
  // @ts-expect-error: an option that does not exist
  await client.enqueue(resize, { path: "x" }, { dealy: "1s" });
  // @ts-expect-error: priorities end at 4
  await client.enqueue(resize, { path: "x" }, { priority: 5 });
  // @ts-expect-error: the result is a string
  const size: number = await client.run(resize, { path: "x" });
  // @ts-expect-error: the handler returns something else
  new Worker(client).handle(resize, () => 5);
  // @ts-expect-error: the handler wants another input
  new Worker(client).handle(resize, (input: { file: string }) => input.file);
  // @ts-expect-error: one id for many jobs
  await client.enqueueMany(resize, [{ path: "x" }], { id: "1" });
  return [far, size];
}

describe("types", () => {
  it("are checked by the compiler that built this file", () => void [accepted, refused]);
});
