// Fixtures for vitest's `test.extend`, or for any other runner that takes the same shape. Imports no runner.
import type { Client } from "../client.js";
import { testServer, type TestServer } from "./server.js";

/** What a test gets when it asks for it. */
export interface JobwireFixtures {
  /** A server of this test's own, on the memory store. */
  jobwireServer: TestServer;
  /** A client of that server, closed after the test. */
  jobwireClient: Client;
}

type Use<T> = (value: T) => Promise<void>;

/**
 * `const test = base.extend<JobwireFixtures>(jobwireFixtures)`: tests that name `jobwireServer` or `jobwireClient` get a
 * server that starts before them and ends after them. Others pay nothing.
 */
export const jobwireFixtures = {
  // The runner reads the names of what a fixture needs from these patterns.
  // eslint-disable-next-line no-empty-pattern
  jobwireServer: async ({}: object, use: Use<TestServer>): Promise<void> => {
    await using server = await testServer();
    await use(server);
  },
  jobwireClient: async ({ jobwireServer }: { jobwireServer: TestServer }, use: Use<Client>): Promise<void> => {
    await use(jobwireServer.client());
  },
};
