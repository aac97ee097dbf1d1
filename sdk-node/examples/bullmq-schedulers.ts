// BullMQ's job schedulers, in Jobwire. Needs a server (`jobwire dev`).
import { Client, defineTask, Worker } from "jobwire";

const client = new Client();
const paint = defineTask<{ color: string }, string>("schedulers.paint", { retry: { maxAttempts: 3 } });

// [put]
// await queue.upsertJobScheduler("nightly", { pattern: "0 15 3 * * *" }, { name: "paint", data: { color: "blue" }, opts: { attempts: 3 } })
const nightly = { task: paint.s({ color: "blue" }), cron: "0 15 3 * * *", timeZone: "Europe/Paris" };
const first = await client.schedules.put("nightly", nightly);
const again = await client.schedules.put("nightly", nightly); // the same thing: nothing changes
// await queue.upsertJobScheduler("often", { every: 60_000, startDate, endDate }, { … })
await client.schedules.put("often", { task: paint.s({ color: "red" }), every: "60s", end: new Date("2040-01-01T00:00:00Z"), overlap: "skip" });
// [/put]
console.log(first.created, again.created);

const worker = new Worker(client, { signals: false }).handle(paint, ({ color }, { fireTime }) => `painted ${color} at 15 past${fireTime ? "" : "?"}`);
const running = worker.run();

// [manage]
const run = await client.schedules.trigger("nightly"); // { immediately: true }
console.log(await run.result({ timeout: "20s" }));
const { id, cron } = await client.schedules.get("nightly"); // await queue.getJobScheduler("nightly")
const { fireTimes } = await client.schedules.preview("nightly", { count: 3 });
for await (const schedule of client.schedules.list({ filter: "type = schedulers.paint" })) await client.schedules.delete(schedule.id); // await queue.removeJobScheduler(…)
// [/manage]
console.log(id, cron);
console.log(fireTimes.length, fireTimes.every((time) => time > new Date()));

await worker.stop();
await running;
await client.close();
