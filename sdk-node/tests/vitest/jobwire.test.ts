// The fixtures of jobwire/testing under vitest; server-testing.spec.ts runs this file.
// [fixtures]
import { expect, test as base } from "vitest";
import { defineTask, Worker } from "jobwire";
import { fake, jobwireFixtures, type JobwireFixtures } from "jobwire/testing";

const test = base.extend<JobwireFixtures>(jobwireFixtures);
const greet = defineTask<{ name: string }, string>("greet");

test("a server of the test's own", async ({ jobwireServer, jobwireClient }) => {
  const worker = new Worker(jobwireClient, { signals: false }).handle(greet, ({ name }) => `Hello, ${name}!`);
  void worker.run();
  expect(await jobwireClient.run(greet, { name: "vitest" }, { wait: "20s" })).toBe("Hello, vitest!");
  await worker.stop();
  expect(jobwireServer.url).toMatch(/^jobwire:/);
});
// [/fixtures]

test("a fake needs none", async ({ jobwireClient }) => {
  using jobs = fake(jobwireClient);
  await jobwireClient.enqueue(greet, { name: "nobody" });
  jobs.assertEnqueued(greet, { name: "nobody" }, 1);
});
