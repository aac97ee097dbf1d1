// Progress, log lines and checkpoints of a running job, and how to follow them.
import { Client, defineTask, Worker } from "jobwire";

// [handler]
const index = defineTask<{ pages: number }, number>("progress.index", { retry: { initialDelay: "20ms" } });

await using client = new Client();
await using worker = new Worker(client, { signals: false }).handle(index, async ({ pages }, ctx) => {
  const from = (ctx.checkpoint as number | undefined) ?? 0;
  for (let page = from; page < pages; page++) {
    ctx.progress({ current: page + 1, total: pages });
    ctx.saveCheckpoint(page + 1); // the next attempt goes on from here
    if (page === 1 && ctx.attempt === 1) throw new Error("the disk was full");
  }
  ctx.log.info("indexed", { pages: pages - from });
  return pages - from;
});
// [/handler]
void worker.run();

// [follow]
const job = await client.enqueue(index, { pages: 5 });
for await (const event of job.events()) {
  if (event.kind === "log") console.log(event.line.level, event.line.message, event.line.fields);
  if (event.kind === "state" && event.state === "succeeded") console.log(event.state);
}
// [/follow]
console.log(await job.result(), (await job.status()).progress);
