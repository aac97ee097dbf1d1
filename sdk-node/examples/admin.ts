// For operators: jobs by the many, queues with their limits, workers; and a worker that is watched.
import { Client, defineTask, Worker } from "jobwire";

const client = new Client();
const charge = defineTask<{ card: string }, string>("admin.charge", { queue: "admin", retry: 1 });

// [events]
const seen: string[] = [];
const worker = new Worker(client, { signals: false })
  .handle(charge, ({ card }) => {
    if (card === "stolen") throw new Error("refused");
    return card;
  })
  .on("completed", ({ type }, result) => void seen.push(`${type}: ${result as string}`)) // "active" and "progress", too
  .on("failed", ({ type, attempt }, error) => void seen.push(`${type} ${attempt}: ${(error as Error).message}`));
// [/events]
const running = worker.run();
const put = await client.enqueueMany(charge, [{ card: "good" }, { card: "stolen" }, { card: "stolen" }]);
await Promise.allSettled(put.map(({ job }) => job!.result({ timeout: "20s" })));

// [jobs]
for await (const { id, failure } of client.jobs.list({ filter: "queue = admin AND state = DEAD" })) {
  console.log(failure?.message, (await client.jobs.get(id)).attempts.length);
}
const { affected } = await client.jobs.retry({ filter: "queue = admin AND state = DEAD" }, { spread: "1m" }); // not all at once
const would = await client.jobs.cancel({ filter: "queue = admin" }, { dryRun: true });
await client.jobs.cancel({ filter: "queue = admin" }, { reason: "a drill" });
// [/jobs]
console.log(affected, would.matched > 0);

// [queues]
await client.queues.set("admin", { maxRunning: 10, rateLimit: { max: 100, per: "1m" } }); // on all workers, at once
await client.queues.pause("admin", { reason: "the bank is away", duration: "15m" });
const { paused, pauseReason, stats } = await client.queues.get("admin");
await client.queues.resume("admin");
// [/queues]
console.log(paused, pauseReason, stats.running);

// [workers]
for await (const { id, sdk, queues } of client.workers.list({ filter: "queue = admin" })) {
  console.log(sdk, queues);
  await client.workers.terminate(id, { grace: "10s", reason: "deploy" }); // or quiet(), resume()
}
// [/workers]
await running;
console.log(seen.sort().join(", "));
await client.close();
