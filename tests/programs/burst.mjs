// Enqueues one job with a unique key many times at once, beginning at a given moment, and prints `STATUS ID` of each.
//
// Environment: JOBWIRE_URL, BURST_TYPE, BURST_KEY, BURST_COUNT, BURST_AT_MS (wall clock).
import { setTimeout as sleep } from "node:timers/promises";
import { Client } from "../../sdk-node/dist/index.js";

const { BURST_TYPE: type, BURST_KEY: unique, BURST_COUNT: count, BURST_AT_MS: atMs } = process.env;
const client = new Client();
await sleep(Math.max(0, Number(atMs) - Date.now()));
const numbers = Array.from({ length: Number(count) }, (_, n) => n);
const jobs = await Promise.all(numbers.map((n) => client.enqueue(type, { key: `node-${n}` }, { unique })));
for (const job of jobs) console.log(job.enqueued, job.id);
await client.close();
