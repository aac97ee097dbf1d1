// Many jobs: a batch with an answer for each, and a stream for producers that never stop.
import { Client, defineTask, Worker } from "jobwire";

const thumbnail = defineTask<{ path: string }, string>("many.thumbnail");

await using client = new Client();
await using worker = new Worker(client, { signals: false, concurrency: 50 }).handle(thumbnail, ({ path }) => `${path}.webp`);
void worker.run();

// [many]
const paths = Array.from({ length: 2_500 }, (_, i) => ({ path: `${i}.png` }));
const items = await client.enqueueMany(thumbnail.opts({ tags: ["import"] }), paths);
const refused = items.filter((item) => item.error); // each stands alone
const last = await items.at(-1)!.job!.result({ timeout: "20s" });
// [/many]
console.log(items.length, refused.length, last);

// [stream]
async function* changes() {
  for (let n = 0; n < 500; n++) yield { path: `change-${n}.png` };
}

let taken = 0;
for await (const { job, error } of client.enqueueStream(thumbnail, changes())) {
  if (error) console.error(error.message);
  else if (job.id) taken += 1;
}
// [/stream]
console.log(taken);
