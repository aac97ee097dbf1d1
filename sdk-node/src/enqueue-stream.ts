// A producer that never stops: one EnqueueStream call that gathers what the source has into frames, sends at most as many
// unacknowledged ones as the server allows, and after a break sends those again, with the same ids.
import { create } from "@bufbuild/protobuf";
import { msOf } from "./duration.js";
import { CallCancelled, type JobwireError } from "./errors.js";
import { EnqueueStreamRequestSchema, JobService, type EnqueueStreamRequest, type EnqueueStreamResponse } from "./gen/jobwire/v1/job_service_pb.js";
import { gaveUp, isFinal, retryDelayMs } from "./retry.js";
import type { BuiltSpec } from "./spec.js";
import { errorOfItem } from "./status.js";
import type { StreamCall, Transport } from "./transport.js";

/** Most jobs and bytes of a frame; one larger job travels alone. */
const FRAME_JOBS = 500;
const FRAME_BYTES = 256 << 10;
/** Frames that may be unacknowledged until the server has said how many. */
const UNACKED_FRAMES = 1;
/** Jobs that were read from the source and whose answers were not taken yet; beyond it the source waits. */
const AHEAD_MAX = 10_000;

/** The answer for one job: the server's id, or why it was refused. */
export type StreamAnswer = { jobId: string; error?: undefined } | { jobId?: undefined; error: JobwireError };

interface Item extends BuiltSpec {
  answer: StreamAnswer | undefined;
  resolve(): void;
  reject(error: unknown): void;
}

export class EnqueueStream {
  /** Everything that was read and not yet handed out, in the source's order. */
  readonly #order: { answer: StreamAnswer | undefined }[] = [];
  #pending: Item[] = [];
  #pendingBytes = 0;
  #sent: { seq: number; items: Item[] }[] = [];
  #seq = 0;
  #unackedMax = UNACKED_FRAMES;
  #call: StreamCall<EnqueueStreamRequest> | undefined;
  #failures = 0;
  #timer: NodeJS.Timeout | undefined;
  #flushing = false;
  #sourceEnded = false;
  #failure: { error: unknown } | undefined;
  #closed = false;
  #wake: (() => void)[] = [];

  constructor(private readonly transport: Transport) {}

  /** Puts a job in; its answer comes in its turn. Resolves when it is durable; rejects when it is refused, or given up. */
  add(built: BuiltSpec): Promise<void> {
    return new Promise((resolve, reject) => {
      const item: Item = { ...built, answer: undefined, resolve, reject };
      this.#order.push(item);
      this.#pending.push(item);
      this.#pendingBytes += item.bytes;
      if (this.#pending.length >= FRAME_JOBS || this.#pendingBytes >= FRAME_BYTES) this.#flush();
      else this.#flushSoon();
    });
  }

  /** An input that cannot be sent: its answer comes in its turn. */
  refuse(error: JobwireError): void {
    this.#order.push({ answer: { error } });
    this.#changed();
  }

  /** Resolves when the source may go on. */
  async room(): Promise<void> {
    while (this.#order.length >= AHEAD_MAX && !this.#closed) await this.#change();
  }

  /** The source has ended, or failed with `failure`. */
  end(failure?: { error: unknown }): void {
    this.#sourceEnded = true;
    this.#failure ??= failure;
    this.#changed();
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** The answers, in order; ends after the last one, throws when the source, the caller or the server gave up. */
  async *answers(signal: AbortSignal | undefined): AsyncGenerator<StreamAnswer, void, undefined> {
    const abort = () => this.#fail(gaveUp(signal!));
    if (signal?.aborted) abort();
    signal?.addEventListener("abort", abort);
    try {
      for (;;) {
        const head = this.#order[0];
        if (head?.answer) {
          this.#order.shift();
          if (this.#order.length === AHEAD_MAX - 1) this.#changed();
          yield head.answer;
          continue;
        }
        // What the source's failure came after is still answered; the server's failure ends everything.
        if (this.#failure && (this.#closed || !head)) throw this.#failure.error;
        if (!head && this.#sourceEnded) return;
        await this.#change();
      }
    } finally {
      signal?.removeEventListener("abort", abort);
      this.#close();
    }
  }

  #change(): Promise<void> {
    return new Promise((resolve) => this.#wake.push(resolve));
  }

  #changed(): void {
    for (const wake of this.#wake.splice(0)) wake();
  }

  #fail(error: unknown): void {
    this.#failure = { error };
    this.#close();
  }

  #close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#timer);
    if (this.#sourceEnded && this.#sent.length === 0) this.#call?.halfClose();
    else this.#call?.cancel();
    this.#call = undefined;
    const error = this.#failure?.error ?? new CallCancelled("the stream was left");
    for (const item of [...this.#sent.flatMap(({ items }) => items), ...this.#pending]) item.reject(error);
    this.#changed();
  }

  /** After what the source has at hand. */
  #flushSoon(): void {
    if (this.#flushing) return;
    this.#flushing = true;
    setImmediate(() => {
      this.#flushing = false;
      this.#flush();
    });
  }

  #flush(): void {
    if (this.#closed) return;
    if (!this.#call && !this.#timer && this.#pending.length > 0) this.#open();
    while (this.#call && this.#pending.length > 0 && this.#sent.length < this.#unackedMax) this.#send(this.#call);
  }

  #send(call: StreamCall<EnqueueStreamRequest>): void {
    let bytes = 0;
    let count = 0;
    for (const item of this.#pending) {
      if (count > 0 && (count === FRAME_JOBS || bytes + item.bytes > FRAME_BYTES)) break;
      bytes += item.bytes;
      count += 1;
    }
    const items = this.#pending.splice(0, count);
    this.#pendingBytes -= bytes;
    this.#seq += 1;
    this.#sent.push({ seq: this.#seq, items });
    call.send(create(EnqueueStreamRequestSchema, { seq: BigInt(this.#seq), jobs: items.map(({ spec }) => spec) }));
  }

  #open(): void {
    this.#seq = 0;
    this.#unackedMax = UNACKED_FRAMES;
    const call: StreamCall<EnqueueStreamRequest> = this.transport.bidi(JobService.method.enqueueStream, {
      message: (response) => this.#call === call && this.#received(response),
      end: (error) => this.#call === call && this.#ended(error),
    });
    this.#call = call;
  }

  #received(response: EnqueueStreamResponse): void {
    this.#failures = 0;
    if (response.maxUnacked > 0) this.#unackedMax = response.maxUnacked;
    for (const { seq, index, error } of response.errors) {
      const item = this.#sent.find((frame) => frame.seq === Number(seq))?.items[index];
      if (item && error) item.answer = { error: errorOfItem(error) };
    }
    let at = 0;
    while (this.#sent.length > 0 && this.#sent[0]!.seq <= Number(response.ackedSeq)) {
      for (const item of this.#sent.shift()!.items) {
        const jobId = response.jobIds[at++] ?? "";
        item.answer ??= { jobId: jobId || item.spec.id };
        if (item.answer.error) item.reject(item.answer.error);
        else item.resolve();
      }
    }
    if (response.reconnectDelay) {
      this.#call?.cancel();
      this.#reconnect(msOf(response.reconnectDelay));
    }
    this.#changed();
    this.#flush();
  }

  #ended(error: JobwireError | undefined): void {
    if (error && isFinal(error, this.#failures)) return this.#fail(error);
    this.#reconnect(retryDelayMs(this.#failures++, error?.retryDelay));
  }

  /** What was not acknowledged waits again, before everything else. */
  #reconnect(delayMs: number): void {
    this.#call = undefined;
    const unacked = this.#sent.flatMap(({ items }) => items);
    this.#sent = [];
    for (const item of unacked) {
      item.answer = undefined;
      this.#pendingBytes += item.bytes;
    }
    this.#pending.unshift(...unacked);
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#flush();
    }, delayMs);
  }
}
