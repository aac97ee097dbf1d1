// A handler for pools: does what its input says. It imports the built package, which is another copy than the one under
// test, as in an application that mixes ESM and CommonJS.
import { threadId } from "node:worker_threads";
import { currentContext, NonRetryable, RetryAfter, Snooze } from "jobwire";

class Far extends RangeError {}

const spin = (until) => {
  while (!until());
};

const actions = {
  echo: ({ value }) => value,
  thread: () => threadId,
  /** Computes without awaiting until it is told to stop. */
  polite: (_input, ctx) => {
    ctx.progress(1);
    spin(() => ctx.cancelled);
    throw Object.assign(new Error(`heard ${ctx.cancelReason}`), { name: "AbortError" });
  },
  rude: (_input, ctx) => {
    ctx.progress(1);
    spin(() => false);
  },
  signal: (_input, ctx) => {
    ctx.progress(1);
    return new Promise((_resolve, reject) => ctx.signal.addEventListener("abort", () => reject(ctx.signal.reason)));
  },
  speak: async ({ child }, ctx) => {
    const seen = [ctx.jobId, ctx.type, ctx.attempt, ctx.delivery, ctx.headers.k, ctx.checkpoint, currentContext()?.jobId];
    ctx.progress(50, { message: "half" });
    ctx.log.warn("careful", { n: 1 });
    ctx.saveCheckpoint({ step: 2 });
    await ctx.enqueue(child, { n: 1 });
    return seen;
  },
  print: () => console.debug("from %d thread", 1),
  /** Leaves a checkpoint in its first attempt, and answers with it in the second. */
  resume: ({ secret }, ctx) => {
    if (ctx.attempt > 1) return { checkpoint: ctx.checkpoint, attempt: ctx.attempt };
    ctx.saveCheckpoint({ secret });
    throw new Error("again");
  },
  fail: () => {
    throw new Far("too far", { cause: new TypeError("inner") });
  },
  http: () => {
    throw Object.assign(new Error("503"), { response: { status: 503, headers: new Headers({ "retry-after": "7" }), body: () => {} } });
  },
  retry: () => {
    throw new RetryAfter("30s");
  },
  stop: () => {
    throw new NonRetryable("hopeless");
  },
  snooze: () => {
    throw new Snooze("1m", { throttle: "queue", reason: "full" });
  },
  function: () => () => {},
  exit: () => process.exit(3),
  exitOnce: (_input, { delivery, attempt }) => (delivery === 1 ? process.exit(3) : { delivery, attempt }),
  uncaught: () => {
    setTimeout(() => {
      throw new Error("nobody catches this");
    });
    return new Promise(() => {});
  },
  memory: () => {
    const hoard = [];
    for (;;) hoard.push(new Array(1_000).fill(hoard.length));
  },
};

export default (input, ctx) => actions[input.act](input, ctx);
