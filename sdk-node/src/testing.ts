// jobwire/testing: what tests of an application need. Without a server: `inline` runs a job when it is enqueued, `fake`
// records jobs and runs them on a clock that the test moves. With one: `testServer`.
export { fake, FakeJobs, inline, type EnqueuedJob } from "./testing/fake.js";
export { testServer, TestServer, type TestServerOptions } from "./testing/server.js";
export { jobwireFixtures, type JobwireFixtures } from "./testing/vitest.js";
