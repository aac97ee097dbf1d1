// A Fastify application that enqueues, and shows what became of it. Its worker: mail/worker.ts.
// [app]
import Fastify from "fastify";
import { Client, NotFound } from "jobwire";
import { sendMail } from "./mail/tasks.js";

const client = new Client();
const app = Fastify();
app.addHook("onClose", () => client.close());

app.post<{ Body: { to: string; body: string } }>("/mails", async (request, reply) => {
  const job = await client.enqueue(sendMail, request.body);
  return reply.code(202).send({ id: job.id });
});

app.get<{ Params: { id: string } }>("/mails/:id", async (request, reply) => {
  try {
    return await client.job(request.params.id, sendMail).result({ timeout: "10s" });
  } catch (error) {
    if (!(error instanceof NotFound)) throw error;
    return reply.code(404).send();
  }
});
// [/app]

await app.listen({ port: Number(process.env["PORT"] ?? 3000), host: "127.0.0.1" });
console.log(JSON.stringify(app.server.address()));
process.once("SIGTERM", () => void app.close());
