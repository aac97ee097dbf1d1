// A TypeScript project that uses the entries whose peers it has installed; only compiled.
import { Client, defineTask, type Telemetry } from "jobwire";
import { Handle, InjectJobwire, JobwireModule, type JobwireModuleOptions } from "jobwire/nest";
import { openTelemetry, type OpenTelemetryOptions } from "jobwire/otel";

const options: OpenTelemetryOptions = { traceMode: "link" };
const telemetry: Telemetry = openTelemetry(options);
export const client = new Client({ telemetry });

const greet = defineTask<{ name: string }, string>("greet");
const settings: JobwireModuleOptions = { client: { telemetry }, worker: { concurrency: 5 } };
export const imports = [JobwireModule.forRoot(settings), JobwireModule.forRootAsync({ useFactory: () => settings })];

export class Handlers {
  constructor(@InjectJobwire() readonly client: Client) {}

  @Handle(greet)
  greet({ name }: { name: string }): string {
    return `Hello, ${name}!`;
  }
}
