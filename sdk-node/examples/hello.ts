import { Client, defineTask, Worker } from "jobwire";

const greet = defineTask<{ name: string }, string>("greet");
const client = new Client();
const worker = new Worker(client).handle(greet, ({ name }) => `Hello, ${name}!`);
void worker.run();

const job = await client.enqueue(greet, { name: "Ada" });
console.log(await job.result({ timeout: "20s" }));

await worker.stop();
await client.close();
