// The client: puts jobs in and gives handles to them.
import { call, paged, type Access } from "./access.js";
import { Codecs, type Codec } from "./codecs.js";
import { Coalescer, type SendJobs } from "./coalesce.js";
import { toMs, spanOf, type Duration } from "./duration.js";
import { resolveConnection, type Connection, type ConnectionOptions } from "./endpoints.js";
import { EnqueueStream } from "./enqueue-stream.js";
import { InvalidArgument, type JobwireError } from "./errors.js";
import { PayloadFormat } from "./gen/jobwire/v1/common_pb.js";
import { JobService, type EnqueueResult } from "./gen/jobwire/v1/job_service_pb.js";
import { WorkerService } from "./gen/jobwire/v1/worker_service_pb.js";
import { Job, settle } from "./job.js";
import { checkSharedOptions } from "./options.js";
import { detected } from "./otel/detect.js";
import { ResultStream } from "./results.js";
import { retrying, within } from "./retry.js";
import { Jobs } from "./jobs.js";
import { Queues } from "./queues.js";
import { Schedules } from "./schedules.js";
import type { Canvas } from "./canvas.js";
import type { Flow, FlowOptions } from "./flow.js";
import { startFlow, Workflow } from "./workflow.js";
import { Workers } from "./workers.js";
import { Workflows } from "./workflows.js";
import { buildSpec, buildSpecUnchecked, type BuiltSpec } from "./spec.js";
import type { AnyTask, Task } from "./tasks.js";
import type { DependencyData } from "./messages.js";
import type { OutgoingJob, Telemetry } from "./telemetry.js";
import { GrpcTransport, type Transport } from "./transport.js";
import type { CallOptions, JobOptions } from "./types.js";
import { dependencyDataOf, enqueueStatusOf } from "./wire.js";

/** Options of a client. */
export interface ClientOptions extends ConnectionOptions {
  /** Longest time for one call, retries included, where the call says nothing else. Default 30 s. */
  deadline?: Duration;
  /** Transform inputs, results and checkpoints, in this order: see `Codec`, and `gzip()`. Workers use their client's. */
  codecs?: Codec[];
  /**
   * Traces and metrics of this client and its workers. Default: OpenTelemetry when `@opentelemetry/api` is installed, else
   * none. `false` switches it off; `openTelemetry({ … })` of `jobwire/otel` has options.
   */
  telemetry?: Telemetry | false;
}

/** What `enqueueMany` answers for one input. */
export type EnqueueItem<Output> = { job: Job<Output>; error?: undefined } | { job?: undefined; error: JobwireError };

const RUN_WAIT_MS_MAX = 300_000;

/**
 * Connects on first use. Keep one per process. Concurrent `enqueue` calls share requests, so `Promise.all` over many is
 * fast, while awaiting one after the other costs a round trip and a durable write each.
 */
export class Client {
  readonly #telemetry: Telemetry | undefined;
  readonly #access: Access;
  #coalescer: Coalescer;
  /** Jobs by the many: for operators. */
  readonly jobs: Jobs;
  /** Queues, their numbers and their limits. */
  readonly queues: Queues;
  /** Recurring jobs. */
  readonly schedules: Schedules;
  /** Workers that are connected. */
  readonly workers: Workers;
  /** Workflows by the many: for operators. */
  readonly workflows: Workflows;

  constructor(options: ClientOptions = {}) {
    const connection = resolveConnection(options);
    const transport = new GrpcTransport(connection);
    this.#telemetry = options.telemetry === undefined ? detected() : options.telemetry || undefined;
    this.#coalescer = new Coalescer(sender(transport));
    this.#access = {
      transport,
      results: new ResultStream(transport),
      deadlineMs: toMs(options.deadline ?? "30s", "deadline"),
      codecs: new Codecs(options.codecs),
    };
    this.jobs = new Jobs(this.#access);
    this.queues = new Queues(this.#access);
    this.schedules = new Schedules(this.#access);
    this.workers = new Workers(this.#access);
    this.workflows = new Workflows(this.#access);
    insides.set(this, {
      connection,
      telemetry: this.#telemetry,
      codecs: this.#access.codecs,
      dependencyResults: (jobId) => dependencyResults(this.#access, jobId),
      replaceTransport: (replacement) => this.#replaceTransport(replacement),
    });
  }

  /**
   * Puts a job in; durable when it returns. `task` may be a plain type name. Repeated with the same id while the server
   * is unavailable, until the deadline. Throws InvalidArgument, AlreadyExists, ResourceExhausted, Unavailable, ….
   */
  enqueue<Input, Output>(
    task: Task<Input, Output, any, any>,
    input: NoInfer<Input>,
    options?: JobOptions & CallOptions,
  ): Promise<Job<Output>>;
  enqueue(type: string, input?: unknown, options?: JobOptions & CallOptions): Promise<Job>;
  async enqueue(task: AnyTask | string, input: unknown, options: JobOptions & CallOptions = {}): Promise<Job> {
    const { signal, deadline, ...jobOptions } = options;
    const timeoutMs = this.#deadlineMs(deadline);
    const built = await build(task, input, jobOptions, this.#access.codecs);
    const { jobId, status } = await this.#observed([built.spec], false, () => {
      const accepted = this.#coalescer.add(built, performance.now() + timeoutMs);
      // The extra second lets the call's own, more telling error come first.
      return within(accepted, { timeoutMs: timeoutMs + 1_000, signal }, "enqueue");
    });
    return new Job(this.#access, jobId, nameless(task), enqueueStatusOf(status));
  }

  /**
   * Puts many jobs of one task in, in order, 1,000 or 1 MiB per call. Each stands alone: the answer has one entry per
   * input. Options that must differ per job, such as `id`, cannot be given here.
   */
  enqueueMany<Input, Output>(
    task: Task<Input, Output, any, any>,
    inputs: Iterable<NoInfer<Input>>,
    options?: Omit<JobOptions, "id"> & CallOptions,
  ): Promise<EnqueueItem<Output>[]>;
  enqueueMany(type: string, inputs: Iterable<unknown>, options?: Omit<JobOptions, "id"> & CallOptions): Promise<EnqueueItem<unknown>[]>;
  async enqueueMany(
    task: AnyTask | string,
    inputs: Iterable<unknown>,
    options: Omit<JobOptions, "id"> & CallOptions = {},
  ): Promise<EnqueueItem<unknown>[]> {
    const { signal, deadline, ...jobOptions } = options;
    checkSharedOptions(jobOptions);
    const items: EnqueueItem<unknown>[] = [];
    const built: { at: number; spec: BuiltSpec }[] = [];
    for (const input of inputs) {
      try {
        const spec = build(task, input, jobOptions, this.#access.codecs);
        built.push({ at: items.length, spec: spec instanceof Promise ? await spec : spec });
        items.push(undefined as never);
      } catch (error) {
        items.push({ error: error as JobwireError });
      }
    }
    const deadlineAt = performance.now() + this.#deadlineMs(deadline);
    const specs = built.map(({ spec }) => spec);
    const results = await this.#observed(specs.map(({ spec }) => spec), true, () =>
      within(this.#coalescer.addAll(specs, deadlineAt), { signal }, "enqueueMany"),
    );
    results.forEach((result, i) => {
      items[built[i]!.at] =
        result.status === "rejected"
          ? { error: result.reason as JobwireError }
          : { job: new Job(this.#access, result.value.jobId, nameless(task), enqueueStatusOf(result.value.status)) };
    });
    return items;
  }

  /**
   * For producers that never stop: puts in what `inputs` gives, over one stream, and answers one entry per input, in
   * order, once it is durable or refused. Reads ahead of the answers by at most 10,000 inputs; nothing is read before the
   * first answer is asked for, and leaving the loop ends the stream. Goes on after interruptions for as long as it takes,
   * sending what was not acknowledged again with the same ids; `signal` ends it. Throws what `inputs` throws.
   *
   * ```ts
   * for await (const { job, error } of client.enqueueStream(index, changes())) if (error) console.error(error);
   * ```
   */
  enqueueStream<Input, Output>(
    task: Task<Input, Output, any, any>,
    inputs: Iterable<NoInfer<Input>> | AsyncIterable<NoInfer<Input>>,
    options?: Omit<JobOptions, "id"> & { signal?: AbortSignal },
  ): AsyncGenerator<EnqueueItem<Output>, void, undefined>;
  enqueueStream(
    type: string,
    inputs: Iterable<unknown> | AsyncIterable<unknown>,
    options?: Omit<JobOptions, "id"> & { signal?: AbortSignal },
  ): AsyncGenerator<EnqueueItem<unknown>, void, undefined>;
  async *enqueueStream(
    task: AnyTask | string,
    inputs: Iterable<unknown> | AsyncIterable<unknown>,
    options: Omit<JobOptions, "id"> & { signal?: AbortSignal } = {},
  ): AsyncGenerator<EnqueueItem<unknown>, void, undefined> {
    const { signal, ...jobOptions } = options;
    checkSharedOptions(jobOptions);
    const stream = new EnqueueStream(this.#access.transport);
    const read = async (): Promise<void> => {
      for await (const input of inputs) {
        if (stream.closed) return;
        try {
          const built = await build(task, input, jobOptions, this.#access.codecs);
          this.#observed([built.spec], false, () => stream.add(built)).catch(() => {});
        } catch (error) {
          stream.refuse(error as JobwireError);
        }
        await stream.room();
      }
    };
    void read().then(() => stream.end(), (error: unknown) => stream.end({ error }));
    for await (const { jobId, error } of stream.answers(signal)) {
      yield error ? { error } : { job: new Job(this.#access, jobId, nameless(task)) };
    }
  }

  /**
   * Puts a job in and waits for its result: a call across the queue. Throws as `Job.result()`; DeadlineExceeded after
   * `wait` (default: waits as long as it takes). The job goes on when the caller gives up.
   */
  run<Input, Output>(
    task: Task<Input, Output, any, any>,
    input: NoInfer<Input>,
    options?: JobOptions & CallOptions & { wait?: Duration },
  ): Promise<Output>;
  run(type: string, input?: unknown, options?: JobOptions & CallOptions & { wait?: Duration }): Promise<unknown>;
  async run(task: AnyTask | string, input: unknown, options: JobOptions & CallOptions & { wait?: Duration } = {}): Promise<unknown> {
    const { signal, deadline, wait, ...jobOptions } = options;
    const began = performance.now();
    const waitMs = wait === undefined ? undefined : toMs(wait, "wait");
    const serverWaitMs = Math.min(waitMs ?? RUN_WAIT_MS_MAX, RUN_WAIT_MS_MAX);
    const { spec } = await build(task, input, jobOptions, this.#access.codecs);
    const request = { job: spec, wait: spanOf(serverWaitMs), payloadFormat: PayloadFormat.RAW };
    const deadlineAt = began + this.#deadlineMs(deadline) + serverWaitMs;
    const response = await this.#observed([spec], false, () =>
      retrying(deadlineAt, signal, (timeoutMs) =>
        this.#access.transport.unary(JobService.method.enqueue, request, { timeoutMs, signal }),
      ),
    );
    const job = new Job(this.#access, response.jobId, nameless(task), enqueueStatusOf(response.status));
    if (response.result) return settle(response.result, nameless(task), this.#access.codecs);
    const left = waitMs === undefined ? {} : { timeout: Math.max(0, began + waitMs - performance.now()) };
    return job.result({ ...left, ...(signal && { signal }) });
  }

  /**
   * Creates a workflow: all or nothing, durable when it returns. Beyond 1,000 nodes or 1 MiB it is sent in parts, and stays
   * open until all are there. Repeated with the same id while the server is unavailable. Throws InvalidArgument for graphs
   * that make no sense.
   */
  start<Output>(canvas: Canvas<{}, Output>, options?: FlowOptions & CallOptions & { name?: string }): Promise<Workflow<Output>>;
  start(flow: Flow, options?: CallOptions): Promise<Workflow<undefined>>;
  start(what: Flow | Canvas, options: FlowOptions & CallOptions & { name?: string } = {}): Promise<Workflow<any>> {
    return startFlow(this.#access, this.#workflowObserved, what, options);
  }

  /** The handle of a workflow by id; asks nothing of the server. */
  workflow(id: string): Workflow<undefined> {
    return new Workflow(this.#access, this.#workflowObserved, id);
  }

  readonly #workflowObserved = <T>(jobs: readonly OutgoingJob[], send: () => Promise<T>): Promise<T> => this.#observed(jobs, true, send);

  /** The handle of a job by id; asks nothing of the server. With a task its result is typed, and checked. */
  job<Output = unknown>(id: string, task?: Task<any, Output, any, any>): Job<Output> {
    return new Job(this.#access, id, task);
  }

  /** Waits for enqueues under way, then disconnects. Pending `result()` calls are rejected with CallCancelled. */
  async close(): Promise<void> {
    await this.#coalescer.idle();
    this.#access.results.close();
    this.#access.transport.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #deadlineMs(deadline: Duration | undefined): number {
    return deadline === undefined ? this.#access.deadlineMs : toMs(deadline, "deadline");
  }

  #observed<T>(jobs: readonly OutgoingJob[], bulk: boolean, send: () => Promise<T>): Promise<T> {
    return this.#telemetry ? this.#telemetry.enqueue(jobs, bulk, send) : send();
  }

  #replaceTransport(transport: Transport): () => void {
    const before = { transport: this.#access.transport, results: this.#access.results, coalescer: this.#coalescer };
    this.#coalescer = new Coalescer(sender(transport));
    Object.assign(this.#access, { transport, results: new ResultStream(transport) });
    return () => {
      this.#access.results.close();
      this.#coalescer = before.coalescer;
      Object.assign(this.#access, { transport: before.transport, results: before.results });
    };
  }
}

/** What the rest of the SDK may see of a client. */
export interface ClientInside {
  readonly connection: Connection;
  readonly telemetry: Telemetry | undefined;
  readonly codecs: Codecs;
  /** All results of the jobs that this one waited for. */
  dependencyResults(jobId: string): Promise<DependencyData[]>;
  /** Speaks to `transport` instead, handles included, until the function that it answers is called. */
  replaceTransport(transport: Transport): () => void;
}

const insides = new WeakMap<Client, ClientInside>();

/** For workers and tests. Throws InvalidArgument for what is no client of this copy of the package. */
export function insideOf(client: Client): ClientInside {
  const inside = insides.get(client);
  if (inside) return inside;
  throw new InvalidArgument("not a Client, or one of another copy of this package: import all of it, or require all of it", { field: "client" });
}

async function dependencyResults(access: Access, jobId: string): Promise<DependencyData[]> {
  const { listDependencyResults } = WorkerService.method;
  const pages = paged({}, (page, limits) => call(access, listDependencyResults, { jobId, ...page }, limits), ({ results }) => results);
  const all: DependencyData[] = [];
  for await (const result of pages) all.push(dependencyDataOf(result));
  return all;
}

/** Does not wait where there is no schema, so that a first enqueue leaves in the same turn. */
function build(task: AnyTask | string, input: unknown, options: JobOptions, codecs: Codecs): BuiltSpec | Promise<BuiltSpec> {
  return typeof task !== "string" && task.input ? buildSpec(task, input, options, codecs) : buildSpecUnchecked(task, input, options, codecs);
}

function nameless(task: AnyTask | string): AnyTask | undefined {
  return typeof task === "string" ? undefined : task;
}

/** One job goes as Enqueue, more as EnqueueMany; both keep their ids when repeated. */
function sender(transport: Transport): SendJobs {
  return (jobs, deadlineAt) =>
    retrying(deadlineAt, undefined, async (timeoutMs) => {
      const [job] = jobs;
      if (jobs.length === 1) {
        const response = await transport.unary(JobService.method.enqueue, { job: job!, payloadFormat: PayloadFormat.RAW }, { timeoutMs });
        return [response as unknown as EnqueueResult];
      }
      return (await transport.unary(JobService.method.enqueueMany, { jobs }, { timeoutMs })).results;
    });
}
