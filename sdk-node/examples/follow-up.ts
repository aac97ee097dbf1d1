// A job that enqueues others: recorded in one step with its outcome, exactly once.
import { EventEmitter, once } from "node:events";
import { Client, currentContext, defineTask, Worker } from "jobwire";

const receipt = defineTask<{ order: number }, string>("follow.receipt");

await using client = new Client();
const mails = new EventEmitter();
// [follow]
const order = defineTask<{ id: number }, string>("follow.order");
await using worker = new Worker(client, { signals: false })
  .handle(order, async ({ id }, ctx) => {
    await ctx.enqueue(receipt, { order: id }); // leaves only if this job succeeds
    return `order ${id} is paid`;
  })
  .handle(receipt, ({ order }) => {
    const ctx = currentContext()!; // the same context, without passing it on
    mails.emit("sent", `receipt for ${order}, in attempt ${ctx.attempt}`);
    return "sent";
  });
// [/follow]
void worker.run();

const sent = once(mails, "sent");
console.log(await client.run(order, { id: 7 }, { wait: "20s" }));
console.log(...(await sent));
