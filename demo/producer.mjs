// The demo's Node producer: one `file.digest` job per file named on standard input, then the results as they come.
// Writes one JSON object a line: {"enqueued":n}, {"path":…,"result":…} or {"path":…,"error":…}.
import { Client, defineTask } from "../sdk-node/dist/index.js";

const digest = defineTask("file.digest", { retry: { maxAttempts: 5, initialDelay: "200ms" } });
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const paths = Buffer.concat(chunks).toString().split("\n").filter(Boolean);

const client = new Client();
let enqueued = 0;
await Promise.all(
  paths.map(async (path) => {
    try {
      const job = await client.enqueue(digest, { path });
      say({ enqueued: ++enqueued });
      const result = await job.result({ timeout: "5m" });
      const { attempt } = await job.status();
      say({ path, result, attempt, id: job.id });
    } catch (error) {
      say({ path, error: String(error) });
    }
  }),
);
await client.close();
