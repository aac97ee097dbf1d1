// Telemetry by default where the application has the OpenTelemetry API, and nothing where it has not.
import { createRequire } from "node:module";
import type * as Api from "@opentelemetry/api";
import type { Telemetry } from "../telemetry.js";
import { OpenTelemetry } from "./telemetry.js";

let found: { telemetry: Telemetry | undefined } | undefined;

/** One per process; `undefined` when `@opentelemetry/api` is not installed. */
export function detected(): Telemetry | undefined {
  return (found ??= { telemetry: look() }).telemetry;
}

function look(): Telemetry | undefined {
  try {
    // All copies of the API share the providers that were registered, so it does not matter which of its builds this is.
    return new OpenTelemetry(createRequire(import.meta.url)("@opentelemetry/api") as typeof Api);
  } catch {
    return undefined;
  }
}
