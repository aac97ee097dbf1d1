// A Nest application whose provider handles the jobs that another one enqueues. Shutdown drains its worker.
// [module]
import "reflect-metadata";
import { Module } from "@nestjs/common";
import { NestFactory } from "@nestjs/core";
import { JobwireModule } from "jobwire/nest";
import { Mailer, SignUp } from "./mail.js";

@Module({
  imports: [JobwireModule.forRoot({ worker: { concurrency: 20 } })],
  providers: [Mailer, SignUp],
})
class AppModule {}

const app = await NestFactory.createApplicationContext(AppModule, { logger: ["error"] });
app.enableShutdownHooks();
// [/module]

const job = await app.get(SignUp).signUp("ada@example.com");
console.log(await job.result({ timeout: "20s" }));
await app.close();
