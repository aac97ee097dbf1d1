// What BullMQ's own quick start and guide do, in Jobwire. Needs a server (`jobwire dev`).
// [tasks]
import { Client, defineTask, NonRetryable, Snooze, Worker } from "jobwire";

const paint = defineTask<{ color: string }, string>("cars.paint", {
  queue: "cars", // new Queue("cars")
  retry: { maxAttempts: 3, initialDelay: "50ms" }, // { attempts: 3, backoff: { type: "exponential", delay: 50 } }
});
// [/tasks]

const client = new Client();

// [worker]
const worker = new Worker(client, { concurrency: 50, signals: false }) // new Worker("cars", …, { connection, concurrency: 50 })
  .handle(paint, async ({ color }, ctx) => {
    ctx.progress(42); // await job.updateProgress(42)
    ctx.log.info("painting", { color }); // await job.log(…)
    if (color === "plaid") throw new NonRetryable("no such paint"); // throw new UnrecoverableError(…)
    if (color === "wet" && ctx.delivery === 1) throw new Snooze("50ms"); // job.moveToDelayed(…); throw new DelayedError()
    if (color === "red" && ctx.attempt === 1) throw new Error("the can is empty"); // throw new Error(…)
    return `a ${color} car`;
  });
let failures = 0;
worker.on("failed", () => (failures += 1)); // worker.on("failed", (job, error) => …)
const running = worker.run();
// [/worker]

// [add]
const job = await client.enqueue(paint, { color: "blue" }); // await queue.add("paint", { color: "blue" })
const delayed = await client.enqueue(paint, { color: "wet" }, { delay: "50ms", priority: 1 }); // { delay: 50, priority }
const once = { unique: "red" }; // { deduplication: { id: "red" } }
const red = await client.enqueue(paint, { color: "red" }, once);
const bulk = await client.enqueueMany(paint, [{ color: "green" }, { color: "plaid" }]); // queue.addBulk([…])
// [/add]

// [results]
console.log(await job.result({ timeout: "20s" })); // await job.waitUntilFinished(queueEvents)
for await (const event of red.events()) { // queueEvents.on("progress" | "completed" | "failed", …)
  if (event.kind === "state" && event.state === "succeeded") console.log("completed");
}
console.log(await delayed.result({ timeout: "20s" }), (await delayed.status()).state); // await job.getState()
const [green, plaid] = bulk;
console.log(await green!.job!.result({ timeout: "20s" }));
await plaid!.job!.result({ timeout: "20s" }).catch((error: Error) => console.log(error.name)); // job.failedReason
// [/results]

// [close]
await worker.stop({ grace: "25s" }); // await worker.close()
await running;
await client.close(); // await queue.close()
// [/close]
console.log(failures);
