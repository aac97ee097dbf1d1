// [mail]
import { Injectable } from "@nestjs/common";
import type { Client, Context } from "jobwire";
import { Handle, InjectJobwire } from "jobwire/nest";
import { sendMail } from "../mail/tasks.js";

@Injectable()
export class Mailer {
  @Handle(sendMail)
  async send({ to }: { to: string; body: string }, ctx: Context) {
    ctx.log.info("sent");
    return { id: `${to} #${ctx.attempt}` };
  }
}

@Injectable()
export class SignUp {
  constructor(@InjectJobwire() private readonly client: Client) {}

  async signUp(email: string) {
    return this.client.enqueue(sendMail, { to: email, body: "Welcome" });
  }
}
// [/mail]
