// Several jobs in one call of their handler: a bulk insert, an index, an API that takes many.
import { Client, defineTask, NonRetryable, Worker } from "jobwire";

const client = new Client();
const index = new Map<string, string>();
const bulkIndex = async (documents: { id: string; text: string }[]) => {
  for (const { id, text } of documents) index.set(id, text);
};

// [handler]
type Document = { id: string; text: string };
const indexDocument = defineTask<Document, void>("batch.index", { queue: "search", timeout: "1m" });

const worker = new Worker(client, { concurrency: 4, signals: false })
  .handleBatch(indexDocument, { maxSize: 50, linger: "100ms" }, async (documents, ctx) => {
    await bulkIndex(documents);
    ctx.log.info(`indexed ${documents.length} at once`);
  });
// [/handler]

// [outcomes]
const push = defineTask<{ device: string }, string>("batch.push");

worker.handleBatch(push, { maxSize: 100, linger: "50ms", byKey: true }, async (pushes, ctx) => {
  const answers = await sendAll(pushes.map(({ device }) => device)); // one answer for each
  for (const [i, { status }] of answers.entries()) {
    const job = ctx.jobs[i]!;
    if (job.cancelled) job.fail(job.signal.reason); // it obeys: cancelled
    else if (status === 200) job.succeed("delivered");
    else if (status === 410) job.fail(new NonRetryable(`${job.input.device} is gone`));
    else job.retryAfter("30s"); // the others keep their outcomes
  }
});
// [/outcomes]

async function sendAll(devices: string[]): Promise<{ status: number }[]> {
  return devices.map((device) => ({ status: device === "old" ? 410 : 200 }));
}

const running = worker.run();
const documents = Array.from({ length: 120 }, (_, n) => ({ id: `doc-${n}`, text: "…" }));
const put = await client.enqueueMany(indexDocument, documents); // each is a job of its own
await Promise.all(put.map(({ job }) => job!.result({ timeout: "20s" })));
console.log(index.size);

const [phone, old] = await client.enqueueMany(push, [{ device: "phone" }, { device: "old" }]);
console.log(await phone!.job!.result({ timeout: "20s" }));
console.log(await old!.job!.result({ timeout: "20s" }).catch((error: Error) => error.message.split(": ").at(-1)));

await worker.stop();
await running;
await client.close();
