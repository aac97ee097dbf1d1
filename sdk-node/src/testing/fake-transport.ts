// The client's calls, answered by the simulation instead of a server.
import {
  create,
  type DescMessage, type DescMethodBiDiStreaming, type DescMethodServerStreaming, type DescMethodUnary,
  type MessageInitShape, type MessageShape,
} from "@bufbuild/protobuf";
import { CODE_NAMES, FailedPrecondition, JobwireError, NotFound, Unimplemented } from "../errors.js";
import { ItemErrorSchema, type ItemError } from "../gen/jobwire/v1/common_pb.js";
import type { JobSpec } from "../gen/jobwire/v1/job_pb.js";
import {
  AwaitResultsResponseSchema, EnqueueStatus, EnqueueStreamResponseSchema,
  type AwaitResultsRequest, type CancelJobsRequest, type EnqueueManyRequest, type EnqueueRequest,
  type EnqueueStreamRequest, type GetJobRequest, type RetryJobsRequest, type WatchJobRequest,
} from "../gen/jobwire/v1/job_service_pb.js";
import { spanOf } from "../duration.js";
import type { CallLimits, StreamCall, StreamHandlers, Transport } from "../transport.js";
import { jobOf, resultOf, type Entry } from "./book.js";
import type { Simulation } from "./simulation.js";

/** What `create()` takes for an answer; which one belongs to which call is checked at the edge only. */
type Answer = Promise<object>;

export class FakeTransport implements Transport {
  readonly #calls: Record<string, (request: never) => Answer> = {
    Enqueue: (request: EnqueueRequest) => this.#enqueue(request),
    EnqueueMany: (request: EnqueueManyRequest) => this.#enqueueMany(request.jobs),
    GetJob: async ({ id }: GetJobRequest) => ({ job: jobOf(this.#find(id)) }),
    CancelJobs: ({ selector, reason }: CancelJobsRequest) =>
      this.#each(selector?.ids, async (entry) => this.simulation.cancel(entry, reason), "JOB_TERMINAL"),
    RetryJobs: ({ selector, resetAttempts }: RetryJobsRequest) =>
      this.#each(selector?.ids, (entry) => this.simulation.retry(entry, resetAttempts), "JOB_RUNNING"),
  };

  constructor(private readonly simulation: Simulation) {}

  async unary<I extends DescMessage, O extends DescMessage>(method: DescMethodUnary<I, O>, request: MessageInitShape<I>): Promise<MessageShape<O>> {
    const call = this.#calls[method.name];
    if (!call) throw unknown(method.name);
    return create(method.output, (await call(create(method.input, request) as never)) as MessageInitShape<O>);
  }

  async *serverStream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodServerStreaming<I, O>,
    request: MessageInitShape<I>,
    { signal }: CallLimits = {},
  ): AsyncGenerator<MessageShape<O>> {
    if (method.name !== "WatchJob") throw unknown(method.name);
    const { id, logsAfter } = create(method.input, request) as MessageShape<I> & WatchJobRequest;
    const entry = this.#find(id);
    let wake = () => {};
    const unwatch = this.simulation.watch((changed) => changed === entry && wake());
    signal?.addEventListener("abort", () => wake());
    let sent = logsAfter === undefined ? Infinity : Number(logsAfter);
    try {
      while (!signal?.aborted) {
        const changed = new Promise<void>((resolve) => (wake = resolve));
        const lines = entry.lines.slice(sent);
        sent += lines.length;
        yield create(method.output, { job: jobOf(entry), progress: entry.progress, lines } as unknown as MessageInitShape<O>);
        if (entry.finishedAt !== undefined) return;
        await changed;
      }
    } finally {
      unwatch();
    }
  }

  bidi<I extends DescMessage, O extends DescMessage>(
    method: DescMethodBiDiStreaming<I, O>,
    handlers: StreamHandlers<MessageShape<O>>,
  ): StreamCall<MessageShape<I>> {
    const message = handlers.message as unknown as (message: object) => void;
    const open: Record<string, () => StreamCall<never>> = {
      AwaitResults: () => this.#awaitResults(message),
      EnqueueStream: () => this.#enqueueStream(message, () => handlers.end()),
    };
    const call = open[method.name]?.();
    if (call) return call as unknown as StreamCall<MessageShape<I>>;
    queueMicrotask(() => handlers.end(unknown(method.name)));
    return { send() {}, halfClose() {}, cancel() {} };
  }

  close(): void {}

  async #enqueue({ job, wait }: EnqueueRequest): Answer {
    const { entry, status } = await this.simulation.put(job!);
    if (wait) void this.simulation.demand(entry);
    const result = wait && (await this.#ended(entry));
    return { jobId: entry.id, status, state: entry.state, scheduleTime: spanOf(entry.dueAt), result };
  }

  async #enqueueMany(jobs: JobSpec[]): Answer {
    const results = [];
    let createdCount = 0;
    for (const job of jobs) {
      try {
        const { entry, status } = await this.simulation.put(job);
        if (status === EnqueueStatus.CREATED) createdCount += 1;
        results.push({ jobId: entry.id, status, state: entry.state, scheduleTime: spanOf(entry.dueAt) });
      } catch (error) {
        results.push({ error: itemError(error) });
      }
    }
    return { results, createdCount };
  }

  async #each(ids: string[] = [], act: (entry: Entry) => Promise<boolean>, refusal: string): Answer {
    const errors: { id: string; error: ItemError }[] = [];
    let matchedCount = 0;
    let affectedCount = 0;
    for (const id of ids) {
      const entry = this.simulation.book.get(id);
      if (!entry) continue;
      matchedCount += 1;
      if (await act(entry)) affectedCount += 1;
      else errors.push({ id, error: itemError(new FailedPrecondition(`job ${id} is not in a state for this`, { reason: refusal })) });
    }
    return { result: { matchedCount, affectedCount, sampleIds: ids, errors } };
  }

  #awaitResults(message: (message: object) => void): StreamCall<AwaitResultsRequest> {
    const awaited = new Set<string>();
    const answer = (init: MessageInitShape<typeof AwaitResultsResponseSchema>) =>
      queueMicrotask(() => message(create(AwaitResultsResponseSchema, init)));
    const unwatch = this.simulation.watch((entry) => {
      if (entry.finishedAt !== undefined && awaited.delete(entry.id)) answer({ results: [resultOf(entry)] });
    });
    return {
      send: ({ jobIds, forgetIds }) => {
        for (const id of forgetIds) awaited.delete(id);
        for (const id of jobIds) {
          const entry = this.simulation.book.get(id);
          if (!entry) answer({ unknownIds: [id] });
          else if (entry.finishedAt !== undefined) answer({ results: [resultOf(entry)] });
          else {
            awaited.add(id);
            void this.simulation.demand(entry);
          }
        }
      },
      halfClose: unwatch,
      cancel: unwatch,
    };
  }

  #enqueueStream(message: (message: object) => void, end: () => void): StreamCall<EnqueueStreamRequest> {
    let work = Promise.resolve();
    const then = (next: () => Promise<void> | void) => void (work = work.then(next));
    then(() => message(create(EnqueueStreamResponseSchema, { maxUnacked: 1_000 })));
    return {
      send: ({ seq, jobs }) =>
        then(async () => {
          const { results } = (await this.#enqueueMany(jobs)) as { results: { jobId?: string; error?: ItemError }[] };
          const errors = results.flatMap(({ error }, index) => (error ? [{ seq, index, error }] : []));
          message(create(EnqueueStreamResponseSchema, { ackedSeq: seq, jobIds: results.map(({ jobId = "" }) => jobId), errors }));
        }),
      halfClose: () => then(end),
      cancel() {},
    };
  }

  #find(id: string): Entry {
    const entry = this.simulation.book.get(id);
    if (entry) return entry;
    throw new NotFound(`no job ${id}`, { reason: "JOB_NOT_FOUND", metadata: { job_id: id } });
  }

  #ended(entry: Entry): Promise<ReturnType<typeof resultOf>> {
    return new Promise((resolve) => {
      if (entry.finishedAt !== undefined) return resolve(resultOf(entry));
      const unwatch = this.simulation.watch((changed) => {
        if (changed !== entry || entry.finishedAt === undefined) return;
        unwatch();
        resolve(resultOf(entry));
      });
    });
  }
}

function itemError(error: unknown): ItemError {
  const { code, reason, message, field, metadata } = error instanceof JobwireError ? error : new JobwireError("INTERNAL", String(error));
  return create(ItemErrorSchema, { code: CODE_NAMES.indexOf(code), reason, message, field: field ?? "", metadata });
}

function unknown(call: string): JobwireError {
  return new Unimplemented(`the fake does not know ${call}; test it with testServer()`, { reason: "FEATURE_DISABLED" });
}
