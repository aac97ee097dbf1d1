// The Node SDK under load: `bench.mjs produce` obeys the driver, `bench.mjs work` is a worker until SIGTERM.
import { Client, defineTask, Worker } from "../../../sdk-node/dist/index.js";
import { arrived, serve } from "../lines.cjs";

const noop = defineTask("bench.noop");
const client = new Client({ url: process.env.BENCH_URL });

if (process.argv[2] === "produce") {
  await serve({
    one: (input) => client.enqueue(noop, input),
    many: async (inputs) => {
      for (const { error } of await client.enqueueMany(noop, inputs)) if (error) throw error;
    },
  });
  await client.close();
} else {
  const concurrency = Number(process.env.BENCH_CONCURRENCY);
  const worker = new Worker(client, { concurrency, prefetch: concurrency }).handle(noop, ({ t }) => {
    arrived(t);
    return "ok";
  });
  await worker.run();
  await client.close();
}
