// Options of a job: when, how soon, at most once, for how long.
import { AlreadyExists, Client, defineTask } from "jobwire";

await using client = new Client();

// [task]
const remind = defineTask<{ user: string; text: string }, void>("options.remind", {
  queue: "options",
  timeout: "30s",
  retry: { maxAttempts: 5, initialDelay: "2s", maxDelay: "10m" },
  tags: ({ user }) => [`user:${user}`],
});
// [/task]

// [options]
const later = await client.enqueue(remind, { user: "ada", text: "tea" }, { delay: "10m", priority: 2, ttl: "1h" });
const at = await client.enqueue(remind, { user: "bob", text: "cake" }, { at: new Date(Date.now() + 3_600_000) });
// [/options]
console.log((await later.status()).state, (await at.status()).tags);

// [once]
// The same request again, minutes or days later: the first job stands.
const order = { idempotencyKey: "order-7" };
const first = await client.enqueue(remind, { user: "eve", text: "pay" }, order);
const again = await client.enqueue(remind, { user: "eve", text: "pay" }, order);
console.log(again.enqueued, again.id === first.id);

// At most one live job per key. The newest input wins while it waits.
const unique = { key: "digest:eve", onConflict: "replace" } as const;
await client.enqueue(remind, { user: "eve", text: "1 message" }, { unique, delay: "5m" });
const replaced = await client.enqueue(remind, { user: "eve", text: "2 messages" }, { unique, delay: "5m" });
console.log(replaced.enqueued);
// [/once]

// [conflict]
try {
  await client.enqueue(remind, { user: "eve", text: "3 messages" }, { unique: { ...unique, onConflict: "reject" } });
} catch (error) {
  if (!(error instanceof AlreadyExists)) throw error;
  console.log(error.reason, error.jobId === replaced.id);
}
// [/conflict]
