// jobwire/testing: what tests of an application need.
export { testServer, TestServer, type TestServerOptions } from "./testing/server.js";
