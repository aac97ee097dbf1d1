// A worker process as a container runs it: SIGTERM drains it, and probes say how it is.
import { setTimeout as sleep } from "node:timers/promises";
import { Client, defineTask, Worker } from "jobwire";

const work = defineTask<{ ms: number }, string>("shutdown.work");

// [worker]
const client = new Client();
const worker = new Worker(client, {
  concurrency: 20,
  grace: "25s", // below the 30 s that Kubernetes waits before SIGKILL
  health: Number(process.env["HEALTH_PORT"] ?? 8_081), // /livez, /readyz, /metrics
}).handle(work, async ({ ms }, ctx) => {
  await sleep(ms, undefined, { signal: ctx.signal });
  return `worked for ${ms} ms`;
});

worker.on("draining", (why) => console.log(`draining: ${why}`));
await worker.run(); // until SIGTERM, SIGINT or an order of the server, and the drain that follows
await client.close();
// [/worker]
console.log("drained");
