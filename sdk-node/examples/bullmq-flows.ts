// BullMQ's flows, in Jobwire. Needs a server (`jobwire dev`).
import { Client, defineTask, Flow, group, Worker } from "jobwire";

const client = new Client();
const paint = defineTask<{ place: string }, string>("flows.paint", { queue: "flows.steps", retry: 1 });
const renovate = defineTask<{ steps: string[] }, string>("flows.renovate");
const inspect = defineTask<{ room: string }, string>("flows.inspect");

const worker = new Worker(client, { signals: false })
  .handle(paint, ({ place }) => {
    if (place === "attic") throw new Error("locked");
    return `${place} painted`;
  })
  // [values]
  .handle(renovate, ({ steps }, ctx) => {
    // const values = Object.values(await job.getChildrenValues()); await job.getDependencies()
    return `${steps.join(", ")} (${ctx.dependencies.map(({ state }) => state).join()})`;
  })
  // [/values]
  .handle(inspect, ({ room }, { dependencies: [before] }) => `${room}: ${before?.failure?.message ?? "fine"}`);
const running = worker.run();

// [parent]
// await flowProducer.add({ name: "renovate", queueName: "renovate", children: [
//   { name: "paint", data: { place: "ceiling" }, queueName: "steps" }, { name: "paint", data: { place: "walls" }, … } ] })
const flow = new Flow("renovate-interior");
const steps = flow.add(group([paint.s({ place: "ceiling" }), paint.s({ place: "walls" })])); // the children
const parent = flow.add(renovate.s({ steps })); // runs when they have succeeded, with their results
const workflow = await client.start(flow); // all of it, or nothing
console.log(await (await workflow.job(parent)).result({ timeout: "20s" }));
// [/parent]

// [policies]
const careful = new Flow("attic", { onNodeFailure: "cancel_dependants" }); // failParentOnFailure: true is the default
const attic = careful.add(paint.s({ place: "attic" }));
const never = careful.add(renovate.s({ steps: [attic] })); // cancelled: its child has failed
const anyway = careful.add(inspect.s({ room: "hall" }), { after: [attic.finished] }); // ignoreDependencyOnFailure: true
const rescue = careful.add(inspect.s({ room: "attic" }), { after: [attic.failed] }); // continueParentOnFailure: true
const started = await client.start(careful);
// [/policies]
console.log((await started.wait({ timeout: "20s" })).state); // the failure was awaited
for (const node of [never, anyway, rescue]) console.log((await (await started.job(node)).status()).state);

await worker.stop();
await running;
await client.close();
