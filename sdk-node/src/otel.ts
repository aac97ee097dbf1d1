// jobwire/otel: traces and metrics with options of one's own. Needs `@opentelemetry/api`. Without this module a client
// uses the API with the defaults when it is installed.
import * as api from "@opentelemetry/api";
import { OpenTelemetry, type OpenTelemetryOptions } from "./otel/telemetry.js";
import type { Telemetry } from "./telemetry.js";

export type { OpenTelemetryOptions } from "./otel/telemetry.js";
export type { TraceMode } from "./otel/propagation.js";

/**
 * Telemetry for `new Client({ telemetry })`, and for the workers of that client: a span for each enqueue (PRODUCER) and each
 * attempt (CONSUMER), W3C trace context and baggage in the headers of jobs by the propagator that is registered, and the
 * metrics of the messaging conventions. Payloads, results, messages of errors and tokens are in none of them.
 */
export function openTelemetry(options: OpenTelemetryOptions = {}): Telemetry {
  return new OpenTelemetry(api, options);
}
