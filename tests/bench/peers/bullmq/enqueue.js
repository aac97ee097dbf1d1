// Usage: enqueue.js ready|delayed COUNT, with BENCH_PORT: puts so many jobs of 100 bytes of JSON into a queue.
const { Queue } = require("bullmq");

const CHUNK = 500;
const HOUR_MS = 3_600_000;
const payload = (n) => {
  const text = JSON.stringify({ n, pad: "" });
  return { n, pad: "x".repeat(100 - text.length) };
};

(async () => {
  const [kind, count] = [process.argv[2], Number(process.argv[3])];
  const queue = new Queue(kind, { connection: { host: "127.0.0.1", port: Number(process.env.BENCH_PORT) } });
  await queue.waitUntilReady();
  const opts = { attempts: 3, backoff: { type: "exponential", delay: 1000 }, ...(kind === "delayed" && { delay: HOUR_MS }) };
  for (let n = 0; n < count; n += CHUNK) {
    const size = Math.min(CHUNK, count - n);
    await queue.addBulk(Array.from({ length: size }, (_, i) => ({ name: "noop", data: payload(n + i), opts })));
  }
  await queue.close();
})();
