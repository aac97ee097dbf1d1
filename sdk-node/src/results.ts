// Everything a process awaits travels on one AwaitResults stream, which is open while anybody waits.
import { create } from "@bufbuild/protobuf";
import { CallCancelled, NotFound, type JobwireError } from "./errors.js";
import {
  AwaitResultsRequestSchema, JobService,
  type AwaitResultsRequest, type AwaitResultsResponse, type JobResult,
} from "./gen/jobwire/v1/job_service_pb.js";
import { isFinal, retryDelayMs } from "./retry.js";
import type { StreamCall, Transport } from "./transport.js";

const IDS_PER_FRAME = 1_000;
/** How long an unused stream stays open for the next one who waits. */
const IDLE_MS = 250;

interface Waiter {
  resolve(result: JobResult): void;
  reject(error: JobwireError): void;
}

export class ResultStream {
  readonly #waiters = new Map<string, Set<Waiter>>();
  #call: StreamCall<AwaitResultsRequest> | undefined;
  #ask: string[] = [];
  #forget: string[] = [];
  #failures = 0;
  #timer: NodeJS.Timeout | undefined;
  #timerIsReconnect = false;
  #closed = false;

  constructor(private readonly transport: Transport) {}

  /** Waits until the job is terminal; `stop` ends the wait of this caller. */
  wait(jobId: string): { result: Promise<JobResult>; stop: () => void } {
    let waiter!: Waiter;
    const result = new Promise<JobResult>((resolve, reject) => (waiter = { resolve, reject }));
    if (this.#closed) {
      waiter.reject(new CallCancelled("the client is closed"));
      return { result, stop: () => {} };
    }
    const waiters = this.#waiters.get(jobId);
    if (waiters) waiters.add(waiter);
    else {
      this.#waiters.set(jobId, new Set([waiter]));
      this.#request(jobId);
    }
    return { result, stop: () => this.#stop(jobId, waiter) };
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#call?.cancel();
    this.#call = undefined;
    this.#failAll(new CallCancelled("the client is closed"));
  }

  #stop(jobId: string, waiter: Waiter): void {
    const waiters = this.#waiters.get(jobId);
    if (!waiters?.delete(waiter) || waiters.size > 0) return;
    this.#waiters.delete(jobId);
    if (this.#forget.length + this.#ask.length === 0) queueMicrotask(() => this.#send());
    this.#forget.push(jobId);
    this.#idleSoon();
  }

  #request(jobId: string): void {
    if (this.#forget.length + this.#ask.length === 0) queueMicrotask(() => this.#send());
    this.#ask.push(jobId);
  }

  #send(): void {
    if (this.#waiters.size > 0 && !this.#call && !this.#timerIsReconnect) this.#open();
    const call = this.#call;
    const ask = this.#ask.splice(0).filter((id) => this.#waiters.has(id));
    const forgetIds = this.#forget.splice(0).filter((id) => !this.#waiters.has(id));
    if (!call) return;
    for (let at = 0; at < ask.length; at += IDS_PER_FRAME) {
      call.send(create(AwaitResultsRequestSchema, { jobIds: ask.slice(at, at + IDS_PER_FRAME) }));
    }
    for (let at = 0; at < forgetIds.length; at += IDS_PER_FRAME) {
      call.send(create(AwaitResultsRequestSchema, { forgetIds: forgetIds.slice(at, at + IDS_PER_FRAME) }));
    }
  }

  #open(): void {
    clearTimeout(this.#timer);
    this.#timerIsReconnect = false;
    const call = this.transport.bidi(JobService.method.awaitResults, {
      message: (response) => this.#answered(response),
      end: (error) => {
        if (this.#call === call) this.#ended(error);
      },
    });
    this.#call = call;
    this.#ask = [...this.#waiters.keys()];
  }

  #answered(response: AwaitResultsResponse): void {
    this.#failures = 0;
    for (const result of response.results) this.#settle(result.jobId, (waiter) => waiter.resolve(result));
    for (const id of response.unknownIds) {
      const error = new NotFound(`no job ${id}`, { reason: "JOB_NOT_FOUND", metadata: { job_id: id } });
      this.#settle(id, (waiter) => waiter.reject(error));
    }
    this.#idleSoon();
  }

  #settle(jobId: string, how: (waiter: Waiter) => void): void {
    const waiters = this.#waiters.get(jobId);
    this.#waiters.delete(jobId);
    waiters?.forEach(how);
  }

  #ended(error: JobwireError | undefined): void {
    this.#call = undefined;
    if (this.#waiters.size === 0) return;
    if (error && isFinal(error, this.#failures)) return this.#failAll(error);
    clearTimeout(this.#timer);
    this.#timerIsReconnect = true;
    this.#timer = setTimeout(() => {
      this.#timerIsReconnect = false;
      this.#send();
    }, retryDelayMs(this.#failures++, error?.retryDelay));
  }

  #failAll(error: JobwireError): void {
    for (const id of [...this.#waiters.keys()]) this.#settle(id, (waiter) => waiter.reject(error));
  }

  #idleSoon(): void {
    if (this.#waiters.size > 0 || this.#timerIsReconnect) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      if (this.#waiters.size > 0) return;
      this.#call?.cancel();
      this.#call = undefined;
    }, IDLE_MS);
  }
}
