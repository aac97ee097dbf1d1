import { Client, NonRetryable, RetryAfter, Worker } from "jobwire";
import { sendMail } from "./tasks.js";

const relay = process.env["MAIL_RELAY"] ?? "http://127.0.0.1:8025/send";

const worker = new Worker(new Client(), { concurrency: 50 }).handle(sendMail, async (mail, ctx) => {
  const response = await fetch(relay, { method: "POST", body: JSON.stringify(mail), signal: ctx.signal });
  if (response.status === 429) throw RetryAfter.from(response);
  if (response.status === 422) throw new NonRetryable(`${mail.to} is not an address`);
  if (!response.ok) throw new Error(`the relay answered ${response.status}`);
  ctx.progress(100);
  return { id: await response.text() };
});
await worker.run();
