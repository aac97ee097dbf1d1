// Tests of an application, with node:test: without a server, and with one.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Client, defineTask, Worker } from "jobwire";
import { fake, inline, testServer } from "jobwire/testing";

const client = new Client();
const welcome = defineTask<{ email: string }, string>("testing.welcome", { retry: { initialDelay: "1m", jitter: 0 } });
const mails: string[] = [];
const worker = new Worker(client).handle(welcome, ({ email }, ctx) => {
  if (email.startsWith("flaky") && ctx.attempt === 1) throw new Error("the relay is down");
  mails.push(email);
  return `sent to ${email}`;
});

/** What is tested: it knows nothing of tests. */
async function signUp(email: string) {
  return client.enqueue(welcome, { email }, { delay: "10m" });
}

// [inline]
test("inline: the job has run when its enqueue returns", async () => {
  using _ = inline(client, worker);
  const job = await signUp("ada@example.com");
  assert.equal(await job.result(), "sent to ada@example.com");
});
// [/inline]

// [fake]
test("fake: nothing is sent, and time is the test's", async () => {
  using jobs = fake(client, worker);
  const job = await signUp("flaky@example.com");
  jobs.assertEnqueued(welcome, { email: "flaky@example.com" }, 1);
  assert.equal(jobs.enqueued[0]!.dueAt.getTime() - jobs.now.getTime(), 600_000);

  await jobs.advance("10m"); // due: the first attempt fails
  assert.equal((await job.status()).state, "retrying");
  await jobs.advance("1m"); // its retry
  assert.equal(await job.result(), "sent to flaky@example.com");
});
// [/fake]

// [server]
test("testServer: the real thing, on free ports", async () => {
  await using server = await testServer();
  const client = server.client();
  const worker = new Worker(client, { signals: false }).handle(welcome, ({ email }) => `sent to ${email}`);
  void worker.run();
  assert.equal(await client.run(welcome, { email: "ada@example.com" }, { wait: "20s" }), "sent to ada@example.com");
  await worker.stop();
});
// [/server]
