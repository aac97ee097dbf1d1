// A TypeScript project that uses the package; only compiled.
import { Client, defineTask, NonRetryable, Worker, type Duration, type Job } from "jobwire";
import { testServer } from "jobwire/testing";

const greet = defineTask<{ name: string }, string>("greet", { timeout: "30s" });

export async function main(): Promise<string> {
  const server = await testServer();
  const client: Client = server.client();
  const patience: Duration = "20s";
  const worker = new Worker(client).handle(greet, ({ name }, ctx) => {
    if (name === "") throw new NonRetryable("nobody");
    return `Hello, ${name} (${ctx.attempt})`;
  });
  const job: Job<string> = await client.enqueue(greet, { name: "Ada" });
  // @ts-expect-error: the input has another shape
  await client.enqueue(greet, { nam: "Ada" });
  // @ts-expect-error: a unit that is not known
  await client.enqueue(greet, { name: "Ada" }, { delay: "30 parsecs" });
  await worker.stop();
  return job.result({ timeout: patience });
}
