// BullMQ under load: `bench.js produce` obeys the driver, `bench.js work` is a worker until SIGTERM.
const { Queue, Worker } = require("bullmq");
const { arrived, serve } = require("../../lines.cjs");

const { hostname, port } = new URL(process.env.BENCH_URL);
const connection = { host: hostname, port: Number(port) };
const opts = { attempts: 3, backoff: { type: "exponential", delay: 1000 } };

async function produce() {
  const queue = new Queue("bench", { connection });
  await queue.waitUntilReady();
  await serve({
    one: (data) => queue.add("noop", data, opts),
    many: (all) => queue.addBulk(all.map((data) => ({ name: "noop", data, opts }))),
  });
  await queue.close();
}

function work() {
  const handler = async (job) => {
    arrived(job.data.t);
    return "ok";
  };
  const worker = new Worker("bench", handler, { connection, concurrency: Number(process.env.BENCH_CONCURRENCY) });
  process.once("SIGTERM", () => worker.close());
}

if (process.argv[2] === "produce") produce();
else work();
