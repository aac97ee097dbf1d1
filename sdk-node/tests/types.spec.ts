// What the compiler accepts and refuses. Every `@ts-expect-error` is an assertion: tsc fails when the line compiles.
import { describe, it } from "node:test";
import { chain, chord, Client, defineTask, Flow, group, RetryAfter, Snooze, Worker, type Duration, type StandardSchema } from "jobwire";
import { Handle, JobwireModule } from "jobwire/nest";
import { openTelemetry } from "jobwire/otel";
import { fake, testServer } from "jobwire/testing";

type Mail = { to: string; body: string };
declare const mailSchema: StandardSchema<Mail>;
declare const dateSchema: StandardSchema<{ at: string }, { at: Date }>;
declare const receiptSchema: StandardSchema<{ id: string }>;
declare const client: Client;

const resize = defineTask<{ path: string }, string>("img.resize");

/** Never runs; only its types matter. */
async function accepted() {
  const send = defineTask("email.send", { input: mailSchema, output: receiptSchema, queue: "mail", timeout: "30s", unique: (mail) => mail.to });
  const job = await client.enqueue(send, { to: "a@b.c", body: "hi" }, { delay: "1.5h", priority: -4, retry: 3 });
  const { id }: { id: string } = await job.result({ timeout: 500 });
  const path: string = await client.run(resize, { path: id });
  await client.enqueueMany(resize.opts({ tags: ["bulk"] }), [{ path }]);
  await client.enqueue("untyped", { anything: [1n] });
  const dated = defineTask("dated", { input: dateSchema });
  await client.enqueue(dated, { at: "2026-11-24" });
  await client.schedules.put("a", { task: resize.s({ path }, { queue: "b" }), cron: "@daily", timeZone: "UTC", gap: "skip" });
  await client.schedules.put("b", { task: defineTask("untyped").s(), every: "1h" });
  await client.schedules.put("c", { task: defineTask<{ page?: number }>("optional").s(), every: "1h" });
  const list = defineTask<{ dir: string }, string[]>("list");
  const count = defineTask<string[], number>("count");
  const report = defineTask<{ paths: string[]; total: number; title: string }, Mail>("report");
  const sizes: number = await (await client.start(chain(list.s({ dir: "x" }), count.s()))).result();
  const pair: [string, number] = await (await client.start(group([resize.s({ path }), chain(list.s({ dir: "x" }), count.s())]))).result();
  const total: number = await (await client.start(chord([path, id].map((one) => resize.s({ path: one })), count.s()), { name: "all" })).result();
  const flow = new Flow("nightly", { onNodeFailure: "hold", onFailure: send.s({ to: "a", body: "b" }) });
  const paths = flow.add(group([resize.s({ path }), resize.s({ path })]));
  const counted = flow.add(count.s(paths), { after: [paths.nodes[0]!.finished] });
  const reported = flow.add(report.s({ paths, total: counted, title: "x" }));
  flow.add(report.s({ paths: paths.nodes, total: sizes, title: "x" }));
  flow.add(chain(count.s(flow.add(list.s({ dir: "x" }))), defineTask<any, any>("python.square").s()));
  const started = await client.start(flow);
  const mail: Mail = await (await started.job(reported)).result();
  void [pair, total, mail];
  new Worker(client, { concurrency: 2, queues: ["a", { queue: "b", weight: 2 }] })
    .handle(send, async ({ to }, ctx) => ({ id: `${to} ${ctx.attempt}` }))
    .handle(resize, (input) => input.path)
    .handle(dated, ({ at }) => at.getTime());
}

async function refused() {
  // @ts-expect-error: a unit that is not known
  const far: Duration = "30 parsecs";
  // @ts-expect-error: a number of what
  new RetryAfter("30");
  // @ts-expect-error: the input has another shape
  await client.enqueue(resize, { file: "x" });
  // @ts-expect-error: a field is missing
  await client.enqueue(defineTask("email.send", { input: mailSchema }), { to: "x" });
  // @ts-expect-error: an option that does not exist
  await client.enqueue(resize, { path: "x" }, { dealy: "1s" });
  // @ts-expect-error: priorities end at 4
  await client.enqueue(resize, { path: "x" }, { priority: 5 });
  // @ts-expect-error: the result is a string
  const size: number = await client.run(resize, { path: "x" });
  // @ts-expect-error: the handler returns something else
  new Worker(client).handle(resize, () => 5);
  // @ts-expect-error: the handler wants another input
  new Worker(client).handle(resize, (input: { file: string }) => input.file);
  // @ts-expect-error: one id for many jobs
  await client.enqueueMany(resize, [{ path: "x" }], { id: "1" });
  // @ts-expect-error: a unit that is not known
  defineTask("x", { timeout: "1 fortnight" });
  // @ts-expect-error: an option of the retry policy that does not exist
  defineTask("x", { retry: { attempts: 3 } });
  // @ts-expect-error: what becomes of a conflict
  await client.enqueue(resize, { path: "x" }, { unique: { key: "k", onConflict: "overwrite" } });
  // @ts-expect-error: the scope of a key
  await client.enqueue(resize, { path: "x" }, { unique: { key: "k", scope: "for_ever" } });
  // @ts-expect-error: a time is a Date
  await client.enqueue(resize, { path: "x" }, { at: "tomorrow" });
  // @ts-expect-error: an id belongs to one job, not to a task
  resize.opts({ id: "1" });
  // @ts-expect-error: the input of a stream has another shape
  client.enqueueStream(resize, [{ file: "x" }]);
  // @ts-expect-error: an option of a worker that does not exist
  new Worker(client, { concurency: 2 });
  // @ts-expect-error: a unit that is not known
  new Worker(client, { grace: "25 seconds" });
  // @ts-expect-error: an option of a client that does not exist
  new Client({ uri: "jobwire://host" });
  // @ts-expect-error: whom to hold back
  new Snooze("1m", { throttle: "all" });
  // @ts-expect-error: options of threads go with a module
  new Worker(client).handle(resize, (input) => input.path, { threads: 2 });
  // @ts-expect-error: an option of threads that does not exist
  new Worker(client).handle(resize, new URL("file:///x.js"), { processes: 2 });
  // @ts-expect-error: a job that is enqueued by a handler has the input of its task
  new Worker(client).handle(resize, async (input, ctx) => (await ctx.enqueue(resize, { file: "x" }), input.path));
  // @ts-expect-error: two cadences
  await client.schedules.put("a", { task: resize.s({ path: "x" }), cron: "@daily", every: "1h" });
  // @ts-expect-error: no cadence
  await client.schedules.put("a", { task: resize.s({ path: "x" }) });
  // @ts-expect-error: an interval is in no time zone
  await client.schedules.put("a", { task: resize.s({ path: "x" }), every: "1h", timeZone: "UTC" });
  // @ts-expect-error: the input is missing
  await client.schedules.put("a", { task: resize.s(), every: "1h" });
  // @ts-expect-error: a part of the input is missing
  await client.schedules.put("a", { task: defineTask<Mail>("m").s({ to: "x" }), every: "1h" });
  // @ts-expect-error: the input has another shape
  resize.s({ path: 1 });
  // @ts-expect-error: what becomes of a tick while the run before it goes on
  new Worker(client).schedule("a", { task: resize.s({ path: "x" }), every: "1h", overlap: "queue" });
  const list = defineTask<{ dir: string }, string[]>("list");
  const count = defineTask<string[], number>("count");
  // @ts-expect-error: a step takes what the one before it returns
  chain(list.s({ dir: "x" }), resize.s());
  // @ts-expect-error: nothing comes before the first step
  await client.start(chain(count.s(), count.s()));
  // @ts-expect-error: the callback takes a list
  chord([resize.s({ path: "x" })], resize.s());
  // @ts-expect-error: the callback takes another list
  chord([chain(list.s({ dir: "x" }), count.s())], count.s());
  // @ts-expect-error: the result is a number
  const text: string = await (await client.start(chain(list.s({ dir: "x" }), count.s()))).result();
  // @ts-expect-error: an input is missing
  new Flow().add(resize.s());
  // @ts-expect-error: the node returns something else
  new Flow().add(resize.s({ path: new Flow().add(list.s({ dir: "x" })) }));
  // @ts-expect-error: a policy that does not exist
  new Flow("x", { onNodeFailure: "stop" });
  return [far, size, text];
}

function refusedAround() {
  const jobs = fake(client);
  // @ts-expect-error: the input has another shape
  jobs.assertEnqueued(resize, { file: "x" });
  // @ts-expect-error: a unit that is not known
  void jobs.advance("10 minutes");
  // @ts-expect-error: an option that does not exist
  void testServer({ port: 1 });
  // @ts-expect-error: how spans belong to each other
  openTelemetry({ traceMode: "child" });
  class Handlers {
    @Handle(resize)
    fine({ path }: { path: string }): string {
      return path;
    }
    // @ts-expect-error: the method takes another input
    @Handle(resize)
    wrongInput({ file }: { file: string }): string {
      return file;
    }
    // @ts-expect-error: the method returns something else
    @Handle(resize)
    wrongResult({ path }: { path: string }): number {
      return path.length;
    }
  }
  // @ts-expect-error: an option that does not exist
  JobwireModule.forRoot({ url: "jobwire://host" });
  return Handlers;
}

describe("types", () => {
  it("are checked by the compiler that built this file", () => void [accepted, refused, refusedAround]);
});
