import { Client } from "jobwire";
import { sendMail } from "./tasks.js";

await using client = new Client();
const job = await client.enqueue(sendMail, { to: "ada@example.com", body: "Hello" }, { priority: 2, tags: ["welcome"] });
for await (const event of job.events()) {
  if (event.kind === "progress") console.log(`${event.progress.percent} %`);
}
console.log((await job.result({ timeout: "20s" })).id);
