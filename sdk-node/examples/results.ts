// Results: waiting for one, for many, with a limit; and a handle made later from an id.
import { Client, DeadlineExceeded, defineTask, Worker } from "jobwire";

const square = defineTask<{ n: number }, number>("results.square");
const never = defineTask("results.never");

await using client = new Client();
await using worker = new Worker(client, { signals: false }).handle(square, ({ n }) => n * n);
void worker.run();

// [results]
const nine = await client.run(square, { n: 3 }, { wait: "20s" }); // a call across the queue

const job = await client.enqueue(square, { n: 4 });
const later = client.job(job.id, square); // in another process: the id is all it takes
const sixteen = await later.result({ timeout: "20s" });

const jobs = await Promise.all([5, 6, 7].map((n) => client.enqueue(square, { n })));
const all = await Promise.all(jobs.map((job) => job.result({ timeout: "20s" })));
// [/results]
console.log(nine, sixteen, all);

// [timeout]
const waiting = await client.enqueue(never, {});
try {
  await waiting.result({ timeout: "50ms" });
} catch (error) {
  if (!(error instanceof DeadlineExceeded)) throw error; // the job goes on
  console.log((await waiting.status()).state);
}
// [/timeout]
