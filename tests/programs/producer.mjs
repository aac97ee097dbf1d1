// A producer for the crash tests: enqueues one by one and many at once until SIGTERM, and writes down both sides.
//
// Environment: JOBWIRE_URL, PRODUCER_NAME (starts every key), PRODUCER_LOG (a file: `sent KEY MS` before each enqueue,
// `acked KEY JOB STATUS MS` or `failed KEY MS ERROR` after it), PRODUCER_LOOPS (4), PRODUCER_PAUSE_MS (150).
import { randomUUID } from "node:crypto";
import { appendFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { Client } from "../../sdk-node/dist/index.js";

const { PRODUCER_NAME: name, PRODUCER_LOG: log, PRODUCER_LOOPS: loops = "4", PRODUCER_PAUSE_MS: pauseMs = "150" } = process.env;
const client = new Client();
let next = 0;
let stopped = false;
process.once("SIGTERM", () => (stopped = true));

const note = (...words) => appendFileSync(log, `${words.join(" ")}\n`);
const failed = (key, error) => note("failed", key, Date.now(), String(error).replaceAll("\n", " "));
const acked = (key, job) => note("acked", key, job.id, job.enqueued, Date.now());

/** Half of the jobs are quick, four in ten take 50 to 500 ms, one in ten fails once. */
function job(number) {
  const key = `${name}-${number}`;
  if (number % 10 === 9) return ["conf.fail", { key, message: "as planned", times: 1 }];
  if (number % 10 >= 5) return ["conf.sleep", { key, ms: 50 + ((number * 37) % 451) }];
  return ["conf.echo", { key }];
}

/** One job; every eighth is enqueued again with the same id, which has to make no second job. */
async function one(number) {
  const [type, payload] = job(number);
  const id = randomUUID();
  for (let left = number % 8 === 0 ? 2 : 1; left > 0; left--) {
    note("sent", payload.key, Date.now());
    try {
      acked(payload.key, await client.enqueue(type, payload, { id }));
    } catch (error) {
      failed(payload.key, error);
    }
  }
}

async function many(number) {
  const payloads = Array.from({ length: 5 }, (_, part) => ({ key: `${name}-${number}.${part}` }));
  for (const { key } of payloads) note("sent", key, Date.now());
  const items = await client.enqueueMany("conf.echo", payloads);
  items.forEach(({ job, error }, i) => (job ? acked(payloads[i].key, job) : failed(payloads[i].key, error)));
}

async function loop() {
  while (!stopped) {
    const number = next++;
    if (number % 5 === 4) await many(number);
    await one(number);
    await sleep(Number(pauseMs));
  }
}

await Promise.all(Array.from({ length: Number(loops) }, loop));
await client.close();
