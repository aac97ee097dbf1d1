// Queues of the installation: looked at, configured, paused, purged.
import { call, paged, type Access } from "./access.js";
import type { QueueConfig, QueueRecord } from "./admin-types.js";
import { bulk, type BulkResult } from "./bulk.js";
import { invalid, isListOf, isString } from "./checks.js";
import { durationField, type Duration } from "./duration.js";
import { NotFound } from "./errors.js";
import { QueueService, type Queue as PbQueue } from "./gen/jobwire/v1/queue_service_pb.js";
import { configPaths, queueConfigInit, queueOf } from "./queue-config.js";
import type { CallOptions, ListOptions } from "./types.js";

const { method } = QueueService;

/**
 * `client.queues`. A queue is there as soon as something is enqueued to it; configuring it is optional, and acts on all workers
 * at once. Looking needs scope `read`, changing `admin`.
 */
export class Queues {
  readonly #access: Access;

  constructor(access: Access) {
    this.#access = access;
  }

  /** Throws NotFound when nobody has used or configured it. */
  async get(name: string, options: CallOptions = {}): Promise<QueueRecord> {
    return found(name, (await call(this.#access, method.getQueue, { name }, options)).queue);
  }

  /** All queues. Filterable: `name`, `paused`. */
  list(options: ListOptions = {}): AsyncGenerator<QueueRecord, void, undefined> {
    const { filter } = options;
    return paged(options, (page, limits) => call(this.#access, method.listQueues, { filter, ...page }, limits), ({ queues }) => queues.map(queueOf));
  }

  /** Replaces the configuration: what is left out goes back to its default. `etag`: only if it is still the queue's, else throws Aborted. */
  async put(name: string, config: QueueConfig, options: CallOptions & { etag?: string } = {}): Promise<QueueRecord> {
    const { etag, ...limits } = options;
    const request = { name, config: queueConfigInit(config), etag };
    return found(name, (await call(this.#access, method.putQueue, request, limits)).queue);
  }

  /**
   * Changes what is given, and leaves the rest; `undefined` goes back to the default.
   *
   * ```ts
   * await client.queues.set("mail", { maxRunning: 10, rateLimit: { max: 100, per: "1m" } });
   * ```
   */
  async set(name: string, config: QueueConfig, options: CallOptions & { etag?: string } = {}): Promise<QueueRecord> {
    const { etag, ...limits } = options;
    const paths = configPaths(config);
    if (paths.length === 0) throw invalid("config", "name what is to change, such as { maxRunning: 10 }");
    const request = { name, config: queueConfigInit(config), updateMask: { paths }, etag };
    return found(name, (await call(this.#access, method.putQueue, request, limits)).queue);
  }

  /**
   * Stops handing out jobs, until `resume()`, or for `duration`; running ones go on, new ones are accepted. Again: replaces
   * reason and duration. `"*"` means all queues. Answers their names.
   */
  async pause(names: string | readonly string[], options: CallOptions & { reason?: string; duration?: Duration } = {}): Promise<string[]> {
    const { reason, duration, ...limits } = options;
    const request = { names: named(names), reason, duration: durationField(duration, "duration") };
    return (await call(this.#access, method.pauseQueues, request, limits)).names;
  }

  /** Hands out jobs again. `"*"` means all queues. Answers their names. */
  async resume(names: string | readonly string[], options: CallOptions = {}): Promise<string[]> {
    return (await call(this.#access, method.resumeQueues, { names: named(names) }, options)).names;
  }

  /** Drops every job that neither runs nor has ended; only counts them without `force`. Not repeated by itself. */
  purge(name: string, options: CallOptions & { force?: boolean } = {}): Promise<BulkResult> {
    const { force, ...limits } = options;
    return bulk([name], (_, continueToken) => call(this.#access, method.purgeQueue, { name, force, continueToken }, limits));
  }
}

function found(name: string, queue: PbQueue | undefined): QueueRecord {
  if (!queue) throw new NotFound(`no queue ${name}`, { reason: "QUEUE_NOT_FOUND" });
  return queueOf(queue);
}

function named(names: string | readonly string[]): string[] {
  const list = isString(names) ? [names] : names;
  if (isListOf(list, isString) && list.length > 0) return [...list];
  throw invalid("names", 'name the queues; "*" means all of them');
}
