// A project that requires the package: a producer and a worker with its session in a thread, on a real server.
const assert = require("node:assert/strict");
const { Client, defineTask, VERSION, Worker } = require("jobwire");
const { testServer } = require("jobwire/testing");

async function main() {
  const server = await testServer();
  const greet = defineTask("greet");
  const client = new Client({ url: server.url });
  const worker = new Worker(client, { signals: false }).handle(greet, ({ name }) => `Hello, ${name}!`);
  const done = worker.run();
  assert.equal(await client.run(greet, { name: "CommonJS" }, { wait: "20s" }), "Hello, CommonJS!");
  await worker.stop();
  await done;
  await client.close();
  await server.stop();
  console.log(`cjs ${VERSION}`);
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
