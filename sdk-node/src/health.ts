// The worker's health endpoint, for Kubernetes and Prometheus.
import { createServer, type Server } from "node:http";
import { InvalidArgument } from "./errors.js";

/** Numbers of one worker, kept while it runs. */
export class WorkerMetrics {
  /** Connected, and not draining. */
  ready = false;
  /** Streams opened after the first. */
  reconnects = 0;
  readonly #ended = new Map<string, Map<string, number>>();

  constructor(private readonly now: () => { slots: number; running: number; lagMs: number }) {}

  /** An attempt has ended here. */
  ended(type: string, outcome: string): void {
    let outcomes = this.#ended.get(type);
    if (!outcomes) this.#ended.set(type, (outcomes = new Map()));
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
  }

  /** As Prometheus reads them. */
  text(): string {
    const { slots, running, lagMs } = this.now();
    const jobs = [...this.#ended].flatMap(([type, outcomes]) =>
      [...outcomes].map(([outcome, count]) => `{type=${JSON.stringify(type)},outcome="${outcome}"} ${count}`),
    );
    return [
      family("jobwire_worker_slots", "gauge", "Handlers that may run at once.", [` ${slots}`]),
      family("jobwire_worker_running", "gauge", "Handlers that run.", [` ${running}`]),
      family("jobwire_worker_loop_lag_seconds", "gauge", "How late the event loop was when it was last measured.", [` ${lagMs / 1_000}`]),
      family("jobwire_client_reconnects_total", "counter", "Streams opened after the first.", [` ${this.reconnects}`]),
      family("jobwire_worker_jobs_total", "counter", "Attempts that ended here, by type and outcome.", jobs),
    ].join("");
  }
}

function family(name: string, kind: string, help: string, samples: string[]): string {
  return `# HELP ${name} ${help}\n# TYPE ${name} ${kind}\n${samples.map((sample) => `${name}${sample}\n`).join("")}`;
}

/** Where to listen: a port of 127.0.0.1, or "host:port". */
export function healthAddress(health: number | string): { host: string; port: number } {
  const [, host = "127.0.0.1", digits] = /^(?:(.+):)?(\d{1,5})$/.exec(String(health)) ?? [];
  const port = Number(digits);
  if (digits !== undefined && port <= 65_535) return { host: host.replace(/^\[(.*)\]$/, "$1"), port };
  throw new InvalidArgument(`health must be a port or "host:port", not ${JSON.stringify(health)}`, { reason: "INVALID_FIELD", field: "health" });
}

/** Answers `/livez`, `/readyz` and `/metrics`; rejects when it cannot listen. */
export function serveHealth(health: number | string, metrics: WorkerMetrics): Promise<Server> {
  const { host, port } = healthAddress(health);
  const server = createServer({ keepAlive: false }, (request, response) => {
    const { status, text } = answer(new URL(request.url ?? "/", "http://health").pathname, metrics);
    response.writeHead(status, { "content-type": "text/plain; version=0.0.4; charset=utf-8", connection: "close" }).end(text);
  });
  return new Promise((resolve, reject) => {
    server.once("error", (error) => {
      const message = `the health endpoint cannot listen on ${host}:${port}: ${error.message}; give health a free port`;
      reject(new InvalidArgument(message, { reason: "INVALID_FIELD", field: "health", cause: error }));
    });
    server.listen(port, host, () => resolve(server.unref()));
  });
}

function answer(path: string, metrics: WorkerMetrics): { status: number; text: string } {
  switch (path) {
    case "/livez":
      return { status: 200, text: "ok\n" };
    case "/readyz":
      return metrics.ready ? { status: 200, text: "ready\n" } : { status: 503, text: "not connected, or draining\n" };
    case "/metrics":
      return { status: 200, text: metrics.text() };
    default:
      return { status: 404, text: "/livez, /readyz or /metrics\n" };
  }
}
