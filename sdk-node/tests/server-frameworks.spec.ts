// The examples with web frameworks, as processes: a request enqueues, a worker does it, the result is there. Needs
// JOBWIRE_BIN.
import "reflect-metadata";
import assert from "node:assert/strict";
import { execFile, spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { createInterface } from "node:readline";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Injectable, Module, Scope } from "@nestjs/common";
import { NestFactory } from "@nestjs/core";
import { Client, defineTask, type Context } from "../src/index.js";
import { Handle, InjectJobwire, JobwireModule } from "../src/nest.js";
import { testServer, type TestServer } from "../src/testing.js";

const example = (name: string) => fileURLToPath(new URL(`../examples/${name}.js`, import.meta.url));
const quiet = { info() {}, warn() {}, error() {} };

describe("frameworks", () => {
  let server: TestServer;
  let relay: Server;
  let worker: ChildProcess;
  let env: NodeJS.ProcessEnv;

  before(async () => {
    server = await testServer();
    relay = createServer((request, response) => {
      let text = "";
      request.on("data", (chunk: Buffer) => (text += chunk.toString()));
      request.on("end", () => response.end(`sent to ${(JSON.parse(text) as { to: string }).to}`));
    }).listen(0, "127.0.0.1");
    await once(relay, "listening");
    env = { ...process.env, JOBWIRE_URL: server.url, PORT: "0", MAIL_RELAY: `http://127.0.0.1:${(relay.address() as AddressInfo).port}/` };
    worker = spawn(process.execPath, [example("mail/worker")], { env, stdio: ["ignore", "inherit", "ignore"] });
  });

  after(async () => {
    const exited = worker && once(worker, "exit");
    worker?.kill("SIGTERM");
    const [code] = (await exited) as [number];
    relay?.close();
    await server?.stop();
    assert.equal(code, 0);
  });

  for (const name of ["express", "fastify"]) {
    it(name, async () => {
      const app = spawn(process.execPath, [example(name)], { env, stdio: ["ignore", "pipe", "inherit"] });
      const exited = once(app, "exit");
      const [line] = (await once(createInterface({ input: app.stdout! }), "line")) as [string];
      const url = `http://127.0.0.1:${(JSON.parse(line) as AddressInfo).port}/mails`;
      const headers = { "content-type": "application/json", connection: "close" };
      const accepted = await fetch(url, { method: "POST", headers, body: JSON.stringify({ to: "ada@example.com", body: "Hello" }) });
      assert.equal(accepted.status, 202);
      const { id } = (await accepted.json()) as { id: string };
      const answer = await fetch(`${url}/${id}`, { headers });
      assert.deepEqual(await answer.json(), { id: "sent to ada@example.com" });
      assert.equal((await fetch(`${url}/019ab2c4-7d1e-7003-9c55-5b1f0e6a4d21`, { headers })).status, 404);
      app.kill("SIGTERM");
      assert.deepEqual(await exited, [0, null]);
    });
  }

  it("nest", async () => {
    // Its own server: the other worker serves the same queue.
    await using own = await testServer();
    const { stdout } = await promisify(execFile)(process.execPath, [example("nest/main")], { env: { ...env, JOBWIRE_URL: own.url } });
    assert.equal(stdout.trim(), "{ id: 'ada@example.com #1' }");
  });

  it("nest: options from a factory, injected dependencies, a drain before connections close", async () => {
    const slow = defineTask<{ n: number }, string>("nest.slow");
    const log: string[] = [];

    @Injectable()
    class Database {
      onApplicationShutdown() {
        log.push("database closed");
      }
    }

    @Injectable()
    class Slow {
      constructor(@InjectJobwire() readonly client: Client) {}

      @Handle(slow)
      async work({ n }: { n: number }, ctx: Context) {
        log.push("started");
        closing = app.close();
        await new Promise((resolve) => setImmediate(resolve));
        log.push("finished");
        return `${n} ${ctx.type} ${this instanceof Slow}`;
      }
    }

    @Module({
      imports: [
        JobwireModule.forRootAsync({
          inject: [],
          useFactory: async () => ({ client: { url: server.url }, worker: { logger: quiet } }),
        }),
      ],
      providers: [Database, Slow],
    })
    class AppModule {}

    let closing: Promise<void> | undefined;
    const app = await NestFactory.createApplicationContext(AppModule, { logger: false });
    const outside = new Client({ url: server.url });
    assert.equal(await outside.run(slow, { n: 1 }, { wait: "20s" }), "1 nest.slow true");
    await closing;
    assert.deepEqual(log, ["started", "finished", "database closed"]);
    await assert.rejects(app.get(Client).enqueue(slow, { n: 1 }), /closed/);
    await outside.close();
  });

  it("nest: refuses handlers that are no singletons, and runs no worker without handlers", async () => {
    const task = defineTask("nest.scoped");

    @Injectable({ scope: Scope.REQUEST })
    class Scoped {
      @Handle(task)
      work() {}
    }

    const client = { url: server.url };
    @Module({ imports: [JobwireModule.forRoot({ client })], providers: [Scoped] })
    class Wrong {}
    await assert.rejects(NestFactory.createApplicationContext(Wrong, { logger: false, abortOnError: false }), /Scoped.work handles nest.scoped, but its provider is not a singleton/);

    @Module({ imports: [JobwireModule.forRoot({ client, worker: false })] })
    class Producer {}
    const app = await NestFactory.createApplicationContext(Producer, { logger: false });
    assert.equal((await app.get(Client).enqueue("x")).enqueued, "created");
    await app.close();
  });
});
