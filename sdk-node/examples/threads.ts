// CPU-bound work: the handler is a module, and runs in worker_threads.
import { Client, defineTask, Worker } from "jobwire";

await using client = new Client();
// [threads]
const primes = defineTask<{ limit: number }, number>("threads.primes", { timeout: "1m" });

await using worker = new Worker(client, { signals: false }) //
  .handle(primes, new URL("./threads/primes.js", import.meta.url), { threads: 2 });
// [/threads]
void worker.run();

console.log(await Promise.all([10, 1_000, 20_000].map((limit) => client.run(primes, { limit }, { wait: "20s" }))));
