// Progress, checkpoints and log lines: unacknowledged, throttled, bounded.
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { LogReportSchema, ProgressReportSchema } from "./gen/jobwire/v1/worker_service_pb.js";
import type { Lease } from "./lease.js";
import type { LogLineData } from "./messages.js";
import type { Body } from "./payload.js";
import { payloadInit } from "./spec.js";
import type { Progress } from "./types.js";
import { logLineInit, progressInit } from "./wire.js";

/** Shortest time between two progress reports of a job. */
export const PROGRESS_MS = 250;
/** Longest wait of a log line. */
export const LOG_MS = 200;
/** Log lines waiting, in bytes; beyond it the oldest are dropped. */
export const LOG_BYTES_MAX = 1 << 20;

const FRAME_BYTES = 512 << 10;

interface PendingProgress {
  progress?: Progress;
  checkpoint?: Body;
  dueAt: number;
}

interface PendingLine {
  token: string;
  line: LogLineData;
  bytes: number;
}

/** What goes into one frame. */
export interface FrameReports {
  progress: MessageInitShape<typeof ProgressReportSchema>[];
  logs: MessageInitShape<typeof LogReportSchema>[];
}

export class Reports {
  #progress = new Map<Lease, PendingProgress>();
  #lastSent = new WeakMap<Lease, number>();
  #progressDueAt = Infinity;
  #lines: PendingLine[] = [];
  #lineBytes = 0;
  #logsDueAt = Infinity;

  /** The latest report of a job replaces one that still waits; a checkpoint stays until a newer one comes. */
  progress(lease: Lease, progress: Progress | undefined, checkpoint: Body | undefined, now: number): void {
    const waiting = this.#progress.get(lease) ?? { dueAt: Math.max(now, (this.#lastSent.get(lease) ?? -Infinity) + PROGRESS_MS) };
    if (progress) waiting.progress = progress;
    if (checkpoint) waiting.checkpoint = checkpoint;
    this.#progress.set(lease, waiting);
    this.#progressDueAt = Math.min(this.#progressDueAt, waiting.dueAt);
  }

  /** The job is done: its last report leaves with the next frame. */
  finish(lease: Lease): void {
    const waiting = this.#progress.get(lease);
    if (!waiting) return;
    waiting.dueAt = -Infinity;
    this.#progressDueAt = -Infinity;
  }

  /** The lease is gone: nobody wants its reports. */
  forget(lease: Lease): void {
    this.#progress.delete(lease);
  }

  log(lease: Lease, line: LogLineData, now: number): void {
    let bytes = 32 + line.message.length;
    for (const [key, value] of Object.entries(line.fields)) bytes += key.length + value.length;
    this.#lines.push({ token: lease.token, line, bytes });
    this.#lineBytes += bytes;
    while (this.#lineBytes > LOG_BYTES_MAX && this.#lines.length > 1) this.#lineBytes -= this.#lines.shift()!.bytes;
    if (this.#logsDueAt === Infinity) this.#logsDueAt = now + LOG_MS;
  }

  get dueAt(): number {
    return Math.min(this.#progressDueAt, this.#logsDueAt);
  }

  /** More lines wait than fit beside outcomes: they need a frame of their own first. */
  get crowded(): boolean {
    return this.#lineBytes > FRAME_BYTES;
  }

  /** Takes all progress that is due, and log lines up to a frame's share. */
  take(now: number): FrameReports {
    const frame: FrameReports = { progress: [], logs: [] };
    if (now >= this.#progressDueAt) {
      this.#progressDueAt = Infinity;
      for (const [lease, waiting] of this.#progress) {
        if (waiting.dueAt > now) {
          this.#progressDueAt = Math.min(this.#progressDueAt, waiting.dueAt);
          continue;
        }
        this.#progress.delete(lease);
        this.#lastSent.set(lease, now);
        frame.progress.push({
          leaseToken: lease.token,
          progress: waiting.progress && progressInit(waiting.progress),
          checkpoint: waiting.checkpoint && payloadInit(waiting.checkpoint),
        });
      }
    }
    let bytes = 0;
    let count = 0;
    const byToken = new Map<string, ReturnType<typeof logLineInit>[]>();
    for (const { token, line, bytes: size } of this.#lines) {
      if (count > 0 && bytes + size > FRAME_BYTES) break;
      bytes += size;
      count += 1;
      const lines = byToken.get(token);
      if (lines) lines.push(logLineInit(line));
      else byToken.set(token, [logLineInit(line)]);
    }
    this.#lines.splice(0, count);
    this.#lineBytes -= bytes;
    this.#logsDueAt = this.#lines.length > 0 ? now : Infinity;
    for (const [leaseToken, lines] of byToken) frame.logs.push({ leaseToken, lines });
    return frame;
  }
}
