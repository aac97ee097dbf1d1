// What a handler may throw, and what becomes of its job.
import { Client, defineTask, JobFailed, NonRetryable, RetryAfter, Snooze, Worker } from "jobwire";

// [handler]
const charge = defineTask<{ card: string }, { attempt: number }>("retries.charge", {
  retry: { maxAttempts: 4, initialDelay: "20ms", multiplier: 2, jitter: 0 },
});

async function handle({ card }: { card: string }, ctx: { attempt: number; delivery: number }) {
  if (card === "stolen") throw new NonRetryable("the bank refuses this card"); // dead at once
  if (card === "night" && ctx.delivery === 1) throw new Snooze("50ms", { reason: "the bank is closed" }); // no attempt used
  if (card === "busy" && ctx.attempt === 1) throw new RetryAfter("50ms"); // the bank said when
  if (card === "flaky" && ctx.attempt < 3) throw new Error("connection reset"); // again, by the policy
  return { attempt: ctx.attempt };
}
// [/handler]

await using client = new Client();
await using worker = new Worker(client, { signals: false }).handle(charge, handle);
void worker.run();

for (const card of ["good", "flaky", "busy", "night"]) {
  console.log(card, (await client.run(charge, { card }, { wait: "20s" })).attempt);
}

// [failed]
const job = await client.enqueue(charge, { card: "stolen" });
try {
  await job.result({ timeout: "20s" });
} catch (error) {
  if (!(error instanceof JobFailed)) throw error;
  console.log(error.state, error.failure?.type, error.failure?.message);
}
// [/failed]
