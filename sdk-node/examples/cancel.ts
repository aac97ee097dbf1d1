// Cancelling: a waiting job ends at once, a running one is asked through its signal.
import { setTimeout as sleep } from "node:timers/promises";
import { Client, defineTask, JobCancelled, Worker } from "jobwire";

await using client = new Client();

// [handler]
const render = defineTask<{ seconds: number }, string>("cancel.render");
await using worker = new Worker(client, { signals: false }).handle(render, async ({ seconds }, ctx) => {
  try {
    await sleep(seconds * 1_000, undefined, { signal: ctx.signal }); // fetch(url, { signal: ctx.signal }) is alike
    return "done";
  } finally {
    if (ctx.cancelled) console.log("stopped:", ctx.cancelReason); // requested, timeout, lease_lost, shutdown, workflow
  }
});
// [/handler]
void worker.run();

// [cancel]
const job = await client.enqueue(render, { seconds: 3_600 });
for await (const event of job.events()) {
  if (event.kind === "state" && event.state === "running") await job.cancel("the user left", { grace: "5s" });
}
await job.result().catch((error: unknown) => {
  if (!(error instanceof JobCancelled)) throw error;
  console.log(error.state, error.failure?.message);
});
// [/cancel]
