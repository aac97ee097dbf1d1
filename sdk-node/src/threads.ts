// Starts the package's own threads. Their entries lie beside this file, built in the same way (.js, .cjs, .mjs).
import { fileURLToPath } from "node:url";
import { extname } from "node:path";
import { Worker as Thread, type WorkerOptions } from "node:worker_threads";

export type { Thread };

/** Starts one of the thread entries of this package. */
export function startThread(entry: "session-thread" | "pool-thread", options: WorkerOptions): Thread {
  return new Thread(new URL(`./${entry}${extname(fileURLToPath(import.meta.url))}`, import.meta.url), { name: `jobwire-${entry}`, ...options });
}
