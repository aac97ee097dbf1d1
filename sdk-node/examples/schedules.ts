// Recurring jobs: declared by the worker that handles them, looked at and steered through the client.
import { once } from "node:events";
import { Client, defineTask, Worker } from "jobwire";

const client = new Client();

// [declare]
const report = defineTask<{ kind: string }, string>("schedules.report", { retry: 3 });
const ping = defineTask("schedules.ping");

const worker = new Worker(client, { signals: false })
  .handle(report, ({ kind }, ctx) => `${kind} of ${ctx.fireTime!.toISOString().slice(0, 10)}, by ${ctx.scheduleId}`)
  .handle(ping, () => "pong")
  .schedule("nightly-report", { task: report.s({ kind: "sales" }), cron: "30 2 * * 1-5", timeZone: "Europe/Berlin", overlap: "skip" })
  .schedule("heartbeat", { task: ping.s(), every: "90s", jitter: "5s" });
const running = worker.run(); // puts both, then takes jobs
// [/declare]

await once(worker, "ready");

// [client]
const { created } = await client.schedules.put("monthly", { task: report.s({ kind: "tax" }), cron: "0 6 1 * *", note: "for Ada" });
const { fireTimes, description } = await client.schedules.preview("nightly-report", { count: 3 });
await client.schedules.pause("monthly", { reason: "the office is closed" });
for await (const { id, paused } of client.schedules.list({ filter: "type = schedules.report" })) console.log(id, paused);
// [/client]
console.log(created, description, fireTimes.length);

// [backfill]
const run = await client.schedules.trigger("nightly-report", { input: { kind: "all" } });
console.log(String(await run.result({ timeout: "20s" })).replace(/\d{4}-\d\d-\d\d/, "today"));
const missed = { from: new Date("2025-11-03T00:00:00Z"), to: new Date("2025-11-10T00:00:00Z") };
console.log((await client.schedules.backfill("nightly-report", { ...missed, dryRun: true })).fired);
await client.schedules.delete({ filter: "type = schedules.report" }, { force: true }); // what was enqueued stays
// [/backfill]

await worker.stop();
await running;
await client.close();
