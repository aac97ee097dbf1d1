// A project that imports the package: a producer and a worker with its session in a thread, on a real server.
import assert from "node:assert/strict";
import { Client, defineTask, VERSION, Worker } from "jobwire";
import { testServer } from "jobwire/testing";

const server = await testServer();
const greet = defineTask("greet");
const client = new Client({ url: server.url });
const worker = new Worker(client, { signals: false }).handle(greet, ({ name }) => `Hello, ${name}!`);
const done = worker.run();
assert.equal(await client.run(greet, { name: "ESM" }, { wait: "20s" }), "Hello, ESM!");
await worker.stop();
await done;
await client.close();
await server.stop();
console.log(`esm ${VERSION}`);
