// A worker that is gone in the middle of its first batch: for server-batch.spec.ts.
import { Client, Worker } from "jobwire";

await new Worker(new Client(), { concurrency: 1, leaseTtl: "10s", signals: false })
  .handleBatch("batch.poison", { maxSize: 3, linger: "5s" }, () => process.kill(process.pid, "SIGKILL"))
  .run();
