// What every Node program of the benchmark shares: jobs, and commands of the driver. See lines.py.
const { appendFileSync } = require("node:fs");
const { createInterface } = require("node:readline");

const PAYLOAD_BYTES = 100;
/** Jobs of one bulk call, and such calls in flight. */
const BULK = 500;
const BULKS = 4;

/** Microseconds; the same in every process of the machine. */
const clock = () => Number(process.hrtime.bigint() / 1000n);

/** A job whose JSON has 100 bytes. `t`: when it was enqueued, if somebody wants to know. */
function job(t = 0) {
  return { t, pad: process.env.BENCH_PAD.slice(0, PAYLOAD_BYTES - '{"t":,"pad":""}'.length - String(t).length) };
}

/** The first line of every handler. */
function arrived(t) {
  if (t) appendFileSync(process.env.BENCH_DELAYS, `${clock() - t}\n`);
}

/** A closed loop of so many callers: `send(count)` puts jobs in until there is no time, or nothing to make, any more. */
async function closed({ seconds = Infinity, jobs = Infinity, callers = 1, step = 1 }, send) {
  const end = performance.now() + seconds * 1000;
  let [left, done] = [jobs, 0];
  const caller = async () => {
    while (left > 0 && performance.now() < end) {
      const count = Math.min(step, left);
      left -= count;
      await send(count);
      done += count;
    }
  };
  await Promise.all(Array.from({ length: callers }, caller));
  return done;
}

/** An open loop: each job at its time, whatever became of those before it. */
async function paced({ rate, jobs }, send) {
  const [begun, calls] = [performance.now(), []];
  for (let n = 0; n < jobs; n++) {
    const wait = begun + (n * 1000) / rate - performance.now();
    if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait));
    calls.push(send(job(clock())));
  }
  await Promise.all(calls);
  return jobs;
}

/** Obeys the driver until it closes the pipe: `one` puts a job in, `many` puts so many in with one call. */
async function serve({ one, many }) {
  const commands = {
    one: (command) => closed(command, () => one(job())),
    callers: (command) => closed(command, () => one(job())),
    many: (command) => closed({ ...command, step: BULK, callers: BULKS }, (count) => many(Array.from({ length: count }, () => job()))),
    paced: (command) => paced(command, one),
  };
  console.log(JSON.stringify({ runtime: `Node ${process.version}` }));
  for await (const line of createInterface({ input: process.stdin })) {
    const command = JSON.parse(line);
    console.log(JSON.stringify({ jobs: await commands[command.do](command) }));
  }
}

module.exports = { arrived, serve };
