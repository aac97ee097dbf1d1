import { defineTask } from "jobwire";

export const sendMail = defineTask<{ to: string; body: string }, { id: string }>("email.send", {
  queue: "mail",
  timeout: "30s",
  retry: { maxAttempts: 8, initialDelay: "2s" },
});
