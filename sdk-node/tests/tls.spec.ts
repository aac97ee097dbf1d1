// TLS, client certificates and tokens, with a real gRPC server in this process. Needs the openssl command.
import assert from "node:assert/strict";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { after, before, describe, it } from "node:test";
import * as grpc from "@grpc/grpc-js";
import { resolveConnection } from "../src/endpoints.js";
import { EnqueueStatus, type EnqueueRequest } from "../src/gen/jobwire/v1/job_service_pb.js";
import { Client, InvalidArgument, Unavailable, Worker, type ClientOptions } from "../src/index.js";
import { Certificates } from "./support/certificates.js";
import { silent } from "./support/fixture.js";
import { fail, ScriptedServer } from "./support/scripted-server.js";

const accept = ({ job }: EnqueueRequest) => ({ jobId: `srv-${job!.id}`, status: EnqueueStatus.CREATED });

describe("connections", () => {
  let certificates: Certificates;
  before(() => void (certificates = new Certificates()));
  after(() => certificates?.remove());

  async function serve({ clientCertificates = false } = {}): Promise<ScriptedServer> {
    const pair = { private_key: certificates.read("server.key"), cert_chain: certificates.read("server.pem") };
    const server = new ScriptedServer(grpc.ServerCredentials.createSsl(certificates.read("ca.pem"), [pair], clientCertificates));
    server.unary = { enqueue: accept };
    return server.listen();
  }

  async function enqueue(options: ClientOptions): Promise<void> {
    const client = new Client({ deadline: "1s", ...options });
    try {
      await client.enqueue("t");
    } finally {
      await client.close();
    }
  }

  /** One job through a worker, its stream in a thread or not. */
  async function work(server: ScriptedServer, options: ClientOptions, sessionThread: boolean): Promise<grpc.Metadata> {
    const client = new Client(options);
    const worker = new Worker(client, { signals: false, logger: silent, sessionThread }).handle("t", () => "done");
    const done = worker.run();
    const stream = await server.streams.next();
    stream.welcome();
    stream.job("a", "t");
    assert.equal((await stream.outcome("a")).outcome.result.case, "succeeded");
    stream.finish();
    await worker.stop();
    await done;
    await client.close();
    return stream.call.metadata;
  }

  it("are encrypted with jobwires://, and the server has to be the right one", async () => {
    await using server = await serve();
    await enqueue({ url: server.url, caFile: certificates.path("ca.pem") });
    await enqueue({ url: server.url.replace("127.0.0.1", "localhost"), caFile: certificates.path("ca.pem") });
    for (const sessionThread of [true, false]) await work(server, { url: server.url, caFile: certificates.path("ca.pem") }, sessionThread);
    await assert.rejects(enqueue({ url: server.url, caFile: certificates.path("stranger.pem") }), (error) =>
      error instanceof Unavailable && /^No TLS connection to 127\.0\.0\.1:\d+: .*certificate/.test(error.message));
    await assert.rejects(enqueue({ url: server.url }), /certificate.*caFile/s);
    await assert.rejects(enqueue({ url: server.url.replace("jobwires", "jobwire") }), /If it wants TLS, write jobwires:/);
    await using plain = await new ScriptedServer().listen();
    await assert.rejects(enqueue({ url: plain.url.replace("jobwire", "jobwires") }), /No TLS connection to .*wrong version number/);
  });

  it("prove who the client is with its own certificate", async () => {
    await using server = await serve({ clientCertificates: true });
    const mine = { caFile: certificates.path("ca.pem"), certFile: certificates.path("client.pem"), keyFile: certificates.path("client.key") };
    await enqueue({ url: server.url, ...mine });
    for (const sessionThread of [true, false]) await work(server, { url: server.url, ...mine }, sessionThread);
    await assert.rejects(enqueue({ url: server.url, caFile: mine.caFile }), /No TLS connection to .*(certificate required|Failed to connect).*certFile/);
    await assert.rejects(enqueue({ url: server.url, ...mine, certFile: certificates.path("stranger.pem"), keyFile: certificates.path("stranger.key") }), Unavailable);
  });

  it("take their files from the environment", async () => {
    await using server = await serve({ clientCertificates: true });
    const env = {
      JOBWIRE_URL: server.url, JOBWIRE_CA_FILE: certificates.path("ca.pem"), JOBWIRE_CERT_FILE: certificates.path("client.pem"),
      JOBWIRE_KEY_FILE: certificates.path("client.key"), JOBWIRE_TOKEN: "from-env",
    };
    Object.assign(process.env, env);
    try {
      await enqueue({});
    } finally {
      for (const name of Object.keys(env)) delete process.env[name];
    }
    assert.deepEqual(server.calls[0]!.metadata.get("authorization"), ["Bearer from-env"]);
  });

  it("say which file is missing, and that certificate and key go together", async () => {
    await assert.rejects(enqueue({ url: "jobwires://localhost", caFile: certificates.path("none.pem") }), (error) =>
      error instanceof InvalidArgument && error.field === "caFile");
    assert.throws(() => new Client({ certFile: certificates.path("client.pem") }), /certFile and keyFile go together/);
  });

  it("do not send a token in clear beyond this machine, unless the code allows it", async () => {
    for (const host of ["example.com", "10.0.0.1", "[2001:db8::1]"]) {
      assert.throws(() => new Client({ url: `jobwire://${host}`, token: "secret" }), (error) =>
        error instanceof InvalidArgument && error.message.includes("travel in clear") && !error.message.includes("secret"));
    }
    for (const url of ["jobwires://example.com", "jobwire://localhost", "jobwire://127.0.0.1", "jobwire://[::1]"]) new Client({ url, token: "secret" });
    new Client({ url: "jobwire://example.com", token: "secret", allowPlaintextToken: true });
  });

  it("prefer what the code says to the environment, and a token to a file", () => {
    const env = { JOBWIRE_TOKEN: "env", JOBWIRE_TOKEN_FILE: "env-file", JOBWIRE_CA_FILE: "" };
    const resolved = (options: ClientOptions) => {
      const { token, tokenFile, caFile } = resolveConnection(options, env);
      return [token, tokenFile, caFile];
    };
    assert.deepEqual(resolved({}), ["env", undefined, undefined]);
    assert.deepEqual(resolved({ tokenFile: "mine" }), [undefined, "mine", undefined]);
    assert.deepEqual(resolved({ token: "mine" }), ["mine", undefined, undefined]);
  });

  it("read a token's file again when it is refused: calls, streams of results, and the worker's", async (test) => {
    await using server = await serve();
    const tokenFile = certificates.path("token");
    const options = { url: server.url, caFile: certificates.path("ca.pem"), tokenFile };
    writeFileSync(tokenFile, "old\n");
    const refused = (metadata: grpc.Metadata) => metadata.get("authorization")[0] !== "Bearer new";
    server.unary["enqueue"] = (request) => {
      if (!refused(server.calls.at(-1)!.metadata)) return accept(request);
      writeFileSync(tokenFile, "new\n");
      return fail(grpc.status.UNAUTHENTICATED, "token expired");
    };
    await enqueue(options);
    assert.deepEqual(server.calls.map(({ metadata }) => metadata.get("authorization")[0]), ["Bearer old", "Bearer new"]);

    writeFileSync(tokenFile, "old\n");
    const client = new Client(options);
    const worker = new Worker(client, { signals: false, logger: silent }).handle("t", () => "done");
    test.after(async () => {
      await worker.stop({ grace: 0 });
      await client.close();
    });
    const connected = once(worker, "connected");
    const done = worker.run();
    const first = await server.streams.next();
    assert.ok(refused(first.call.metadata));
    writeFileSync(tokenFile, "new\n");
    first.end(grpc.status.UNAUTHENTICATED, "token expired");
    const second = await server.streams.next();
    assert.ok(!refused(second.call.metadata));
    second.welcome();
    await connected;
    second.finish();
    await worker.stop();
    await done;
  });
});
