// Connected workers: who is there, what they do, and what they are told.
import { call, paged, type Access } from "./access.js";
import type { WorkerRecord } from "./admin-types.js";
import { bulk, type BulkResult, type Which } from "./bulk.js";
import { dateOf, durationField, type Duration } from "./duration.js";
import { NotFound } from "./errors.js";
import { AdminService, type Worker as PbWorker } from "./gen/jobwire/v1/admin_service_pb.js";
import { DirectiveKind, WorkerState } from "./gen/jobwire/v1/worker_service_pb.js";
import type { CallOptions, JobRecord, ListOptions } from "./types.js";
import { recordOf } from "./wire.js";

const { method } = AdminService;

/** `client.workers`: those that are connected, on all servers. Looking needs scope `read`, telling them something `admin`. */
export class Workers {
  readonly #access: Access;

  constructor(access: Access) {
    this.#access = access;
  }

  /** A worker by the id of its session, with up to 100 of the jobs it holds. Throws NotFound when it is not connected. */
  async get(id: string, options: CallOptions = {}): Promise<WorkerRecord & { jobs: JobRecord[] }> {
    const { worker, jobs } = await call(this.#access, method.getWorker, { sessionId: id }, options);
    if (!worker) throw new NotFound(`no worker ${id}`, { reason: "WORKER_NOT_FOUND" });
    return { ...workerOf(worker), jobs: jobs.map(recordOf) };
  }

  /** All workers. Filterable: `session_id`, `worker_id`, `state`, `queue`, `type`, `hostname`, `sdk`, `label.KEY`. */
  list(options: ListOptions = {}): AsyncGenerator<WorkerRecord, void, undefined> {
    const { filter } = options;
    return paged(options, (page, limits) => call(this.#access, method.listWorkers, { filter, ...page }, limits), ({ workers }) => workers.map(workerOf));
  }

  /** Takes nothing new and stays connected, until `resume()`. */
  quiet(which: Which, options: CallOptions & { reason?: string } = {}): Promise<BulkResult> {
    return this.#signal(which, DirectiveKind.QUIET, options);
  }

  /** Takes jobs again. */
  resume(which: Which, options: CallOptions & { reason?: string } = {}): Promise<BulkResult> {
    return this.#signal(which, DirectiveKind.RUN, options);
  }

  /** Finishes what runs, within `grace` (default: the worker's own), and exits. */
  terminate(which: Which, options: CallOptions & { reason?: string; grace?: Duration } = {}): Promise<BulkResult> {
    return this.#signal(which, DirectiveKind.TERMINATE, options);
  }

  async #signal(which: Which, directive: DirectiveKind, options: CallOptions & { reason?: string; grace?: Duration }): Promise<BulkResult> {
    const { reason, grace, ...limits } = options;
    const request = { directive, reason, grace: durationField(grace, "grace") };
    return bulk(which, (selector) => call(this.#access, method.signalWorkers, { ...request, selector }, limits));
  }
}

function workerOf(worker: PbWorker): WorkerRecord {
  const { info } = worker;
  const record: WorkerRecord = {
    id: worker.sessionId,
    name: worker.workerId,
    state: (worker.state === WorkerState.UNSPECIFIED ? "active" : (WorkerState[worker.state]?.toLowerCase() ?? "unknown")) as WorkerRecord["state"],
    hostname: info?.hostname ?? "",
    pid: Number(info?.pid ?? 0),
    sdk: info?.sdk ?? "",
    sdkVersion: info?.sdkVersion ?? "",
    runtime: info?.runtime ?? "",
    appVersion: info?.appVersion ?? "",
    labels: info?.labels ?? {},
    types: worker.types,
    queues: worker.subscriptions.map(({ queue }) => queue),
    slots: worker.slots,
    concurrency: worker.concurrency,
    inFlight: worker.inFlight,
    running: worker.running,
    succeededCount: Number(worker.succeededCount),
    failedCount: Number(worker.failedCount),
    rssBytes: Number(worker.rssBytes),
    cpuPercent: worker.cpuPercent,
    serverId: worker.serverId,
  };
  if (worker.directive !== DirectiveKind.UNSPECIFIED) {
    record.directive = (DirectiveKind[worker.directive]?.toLowerCase() ?? "unknown") as NonNullable<WorkerRecord["directive"]>;
  }
  for (const field of ["connectTime", "lastSeenTime"] as const) {
    const time = dateOf(worker[field]);
    if (time) record[field] = time;
  }
  return record;
}
