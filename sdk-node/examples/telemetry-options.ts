// Telemetry with options of one's own.
// [options]
import { Client } from "jobwire";
import { openTelemetry } from "jobwire/otel";

const client = new Client({ telemetry: openTelemetry({ traceMode: "link" }) });
const silent = new Client({ telemetry: false });
// [/options]
const jobs = await Promise.all([client.enqueue("telemetry.none"), silent.enqueue("telemetry.none")]);
console.log(jobs.map((job) => job.enqueued));
await client.close();
await silent.close();
