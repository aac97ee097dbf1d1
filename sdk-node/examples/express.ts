// An Express application that enqueues, and shows what became of it. Its worker: mail/worker.ts.
// [app]
import express from "express";
import { Client, NotFound } from "jobwire";
import { sendMail } from "./mail/tasks.js";

const client = new Client();
const app = express();
app.use(express.json());

app.post("/mails", async (request, response) => {
  const job = await client.enqueue(sendMail, request.body);
  response.status(202).json({ id: job.id });
});

app.get("/mails/:id", async (request, response) => {
  try {
    response.json(await client.job(request.params.id, sendMail).result({ timeout: "10s" }));
  } catch (error) {
    if (!(error instanceof NotFound)) throw error;
    response.sendStatus(404);
  }
});
// [/app]

const server = app.listen(Number(process.env["PORT"] ?? 3000), "127.0.0.1", () => console.log(JSON.stringify(server.address())));

// [close]
process.once("SIGTERM", () => server.close(() => void client.close()));
// [/close]
