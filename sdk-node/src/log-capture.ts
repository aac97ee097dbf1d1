// What handlers log by other means than `ctx.log`: through a logging library, or `console`.
import { Writable } from "node:stream";
import { format } from "node:util";
import { currentLog } from "./context.js";
import type { LogLevel } from "./types.js";

/**
 * A stream for logging libraries that write JSON lines (pino, bunyan, winston): what is logged while a handler runs is
 * kept with its job, as by `ctx.log`; anything else is dropped. Give it beside the usual destination.
 *
 * ```ts
 * const log = pino({}, pino.multistream([{ stream: process.stdout }, { stream: jobLogStream() }]));
 * ```
 */
export function jobLogStream(): Writable {
  return new Writable({
    decodeStrings: false,
    write(chunk: string | Buffer, _encoding, done) {
      const log = currentLog();
      if (log) {
        for (const text of String(chunk).split("\n")) {
          if (text.trim() === "") continue;
          const { level, message, fields } = lineOf(text);
          log[level](message, fields);
        }
      }
      done();
    },
  });
}

/** Fields that say what the job knows already, or what became level and message. */
const COMMON = new Set(["level", "msg", "message", "time", "timestamp", "pid", "hostname", "v"]);

function lineOf(text: string): { level: LogLevel; message: string; fields?: Record<string, unknown> } {
  let record: Record<string, unknown>;
  try {
    record = JSON.parse(text) as Record<string, unknown>;
  } catch {
    return { level: "info", message: text };
  }
  if (typeof record !== "object" || record === null) return { level: "info", message: text };
  const fields = Object.fromEntries(Object.entries(record).filter(([key]) => !COMMON.has(key)));
  return { level: levelOf(record["level"]), message: String(record["msg"] ?? record["message"] ?? ""), fields };
}

const NAMES: Record<string, LogLevel> = {
  silly: "trace", trace: "trace", verbose: "debug", debug: "debug", http: "info", info: "info", notice: "info",
  warn: "warn", warning: "warn", error: "error", crit: "fatal", critical: "fatal", alert: "fatal", emerg: "fatal", fatal: "fatal",
};
/** Of pino and bunyan: each level up to the next one. */
const NUMBERS = [[60, "fatal"], [50, "error"], [40, "warn"], [30, "info"], [20, "debug"]] as const;

function levelOf(level: unknown): LogLevel {
  if (typeof level === "number") return NUMBERS.find(([from]) => level >= from)?.[1] ?? "trace";
  return NAMES[String(level).toLowerCase()] ?? "info";
}

const CONSOLE = { debug: "debug", log: "info", info: "info", warn: "warn", error: "error", trace: "trace" } as const;
let captures = 0;
let restore = (): void => {};

/** From now on what handlers print with `console` is kept with their job, too; until the returned function is called. */
export function captureConsole(): () => void {
  captures += 1;
  if (captures === 1) restore = patch();
  let live = true;
  return () => {
    if (live && --captures === 0) restore();
    live = false;
  };
}

function patch(): () => void {
  const originals = Object.keys(CONSOLE).map((name) => [name, console[name as keyof typeof CONSOLE]] as const);
  for (const [name, original] of originals) {
    const level = CONSOLE[name as keyof typeof CONSOLE];
    console[name as keyof typeof CONSOLE] = (...args: unknown[]) => {
      currentLog()?.[level](format(...args));
      original.apply(console, args);
    };
  }
  return () => Object.assign(console, Object.fromEntries(originals));
}
