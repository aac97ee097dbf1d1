// Tasks with schemas: any Standard Schema library. Inputs are checked before they leave and again before the handler.
import { type } from "arktype";
import { Client, defineTask, InvalidArgument, Worker } from "jobwire";
import * as v from "valibot";
import { z } from "zod";

// [schemas]
const invite = defineTask("schemas.invite", {
  input: z.object({ email: z.email(), at: z.iso.datetime().transform((text) => new Date(text)) }),
  output: z.object({ year: z.number() }),
});
const resize = defineTask("schemas.resize", { input: v.object({ path: v.string(), width: v.optional(v.number(), 800) }) });
const rate = defineTask("schemas.rate", { input: type({ stars: "1 <= number.integer <= 5" }) });
// [/schemas]

await using client = new Client();
await using worker = new Worker(client, { signals: false })
  .handle(invite, ({ at }) => ({ year: at.getUTCFullYear() }))
  .handle(resize, ({ path, width }) => `${path} ${width}`)
  .handle(rate, ({ stars }) => "★".repeat(stars));
void worker.run();

const wait = { wait: "20s" } as const;
console.log(await client.run(invite, { email: "ada@example.com", at: "2026-11-24T00:00:00Z" }, wait));
console.log(await client.run(resize, { path: "a.png" }, wait));
console.log(await client.run(rate, { stars: 3 }, wait));

// [refused]
try {
  await client.enqueue(rate, { stars: 9 });
} catch (error) {
  if (!(error instanceof InvalidArgument)) throw error;
  console.log(error.field, error.message);
}
// [/refused]
