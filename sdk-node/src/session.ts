// The worker's side of StreamJobs as a pure machine: no clock, no I/O, no threads. Its host feeds it frames, handler
// events and the time; `poll(now)` answers what to do and when to call again. The rules W1-W8 are those of
// worker_service.proto.
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { msOf } from "./duration.js";
import type { CancelReason, JobwireError } from "./errors.js";
import {
  DirectiveKind, GoAwayReason, RejectionReason, StreamJobsRequestSchema, WorkerState,
  type CancelOrder, type Directive, type GoAway, type OutcomeRejection,
  type StreamJobsRequest, type StreamJobsResponse, type Welcome,
} from "./gen/jobwire/v1/worker_service_pb.js";
import { helloInit, type SessionConfig } from "./hello.js";
import { Inventory } from "./inventory.js";
import { fitting, newLease, outcomeInit, reportBytes, unprocessable, type Lease, type Report } from "./lease.js";
import type { OutcomeData, RunnerCommand, RunnerEvent } from "./messages.js";
import { Outbox } from "./outbox.js";
import { Reports, type FrameReports } from "./reports.js";
import { DEFAULT_LIMITS, type SizeLimits } from "./spec.js";
import { cancelReasonOf, jobDataOf } from "./wire.js";

/** Receipt of a frame with jobs, when nothing else says it sooner. */
const RECEIPT_MS = 1_000;
/** Time a handler has to obey the shutdown, and the server to acknowledge, and to end the stream. */
const STOP_MS = 2_000;
/** Reconnect delays: full jitter between 0 and a ceiling that doubles. */
const BACKOFF_MIN_MS = 50;
const BACKOFF_MAX_MS = 15_000;
/** A stream that lived this long counts as a success: the backoff starts afresh. */
const STABLE_MS = 1_000;
/** A job of a type that this worker does not handle, though it said so: look again later. */
const UNHANDLED_MS = 5_000;

/** Endings after which reconnecting is pointless: the worker stops and says why. */
const FATAL = new Set(["FAILED_PRECONDITION", "INVALID_ARGUMENT", "PERMISSION_DENIED"]);

/** What the machine takes from outside besides events. */
export interface SessionEnv {
  /** Uniform in [0, 1). */
  random(): number;
  /** For the dashboard. */
  stats(): { rssBytes: number; cpuPercent: number };
}

/** What the host has to do, in this order. */
export type Action =
  | { do: "connect" }
  | { do: "send"; frame: StreamJobsRequest }
  // End our half of the stream cleanly.
  | { do: "halfClose" }
  // Abandon the stream: no more events of it may arrive.
  | { do: "drop" }
  | { do: "tell"; command: RunnerCommand };

type Phase =
  | { name: "running" }
  | { name: "finishing"; graceAt: number }
  | { name: "stopping"; stopAt: number }
  | { name: "flushing"; until: number }
  | { name: "closing"; until: number }
  | { name: "stopped" };

export class Session {
  #out: Action[] = [];
  #phase: Phase = { name: "running" };
  #quiet = false;

  #stream: "none" | "opening" | "open" = "none";
  #connectAt = -Infinity;
  #failures = 0;
  #openedAt = 0;
  #dropAt = Infinity;
  #seq = 0;
  #receivedSeq = 0;
  #heardAt = 0;
  #helloAt = 0;
  #stateChanged = false;

  #leaseTtlMs = 30_000;
  #deliveryTtlMs = 10_000;
  #heartbeatMs = 10_000;
  #limits: SizeLimits = DEFAULT_LIMITS;

  #nextKey = 1;
  #leases = new Map<number, Lease>();
  #byToken = new Map<string, Lease>();
  #queue: Lease[] = [];
  #running = 0;
  #runningOf = new Map<string, number>();
  #outbox = new Outbox();
  #reports = new Reports();

  #started: string[] = [];
  #startedAt = Infinity;
  #receiptAt = Infinity;
  #inventory = new Inventory();
  #sweepAt = Infinity;

  constructor(
    private readonly config: SessionConfig,
    private readonly env: SessionEnv,
  ) {}

  // ---- what the host reports ------------------------------------------------------------------------------------

  /** A frame of the current stream. */
  frame(frame: StreamJobsResponse, now: number): void {
    if (this.#stream === "none") return;
    this.#heardAt = now;
    if (this.#stream === "opening") {
      if (!frame.welcome) return this.#lose("the server's first frame had no welcome", now);
      this.#welcome(frame.welcome, now);
    }
    this.#receivedSeq = Number(frame.seq);
    for (const rejection of frame.rejections) this.#rejected(rejection, now);
    if (frame.ackedSeq > 0n) for (const lease of this.#outbox.ack(Number(frame.ackedSeq))) this.#forget(lease);
    for (const job of frame.jobs) {
      const lease = newLease(job.leaseToken, jobDataOf(job, this.#nextKey++), now, this.#deliveryTtlMs);
      this.#receive(lease, now);
    }
    if (frame.jobs.length > 0) this.#receiptAt = Math.min(this.#receiptAt, now + RECEIPT_MS);
    const ack = frame.heartbeatAck;
    if (ack) {
      for (const token of ack.lost) this.#lost(token);
      for (const { lease, at } of this.#inventory.acked(Number(ack.heartbeatSeq))) {
        if (!lease.lost) this.#trust(lease, at + this.#leaseTtlMs);
      }
    }
    for (const order of frame.cancels) this.#ordered(order, now);
    for (const token of frame.recalls) {
      const lease = this.#byToken.get(token);
      if (lease?.phase === "queued") this.#release(lease, "recalled", now);
    }
    if (frame.directive) this.#directive(frame.directive, now);
    if (frame.goAway) this.#goAway(frame.goAway, now);
  }

  /** The current stream ended; `error` is absent when the server ended it with OK. */
  closed(error: JobwireError | undefined, now: number): void {
    if (this.#stream === "none") return;
    if (this.#phase.name === "closing") return this.#stop();
    this.#streamGone(now);
    if (error && FATAL.has(error.code)) {
      const { code, message, reason, field, metadata } = error;
      return this.#stop({ code, message, details: { reason, metadata: { ...metadata }, ...(field && { field }) } });
    }
    const goAway = this.#dropAt;
    this.#dropAt = Infinity;
    if (goAway < Infinity) this.#connectAt = Math.max(now, goAway);
    else this.#backOff(error?.message ?? "the server ended the stream", now, error?.retryDelay);
  }

  /** Something the runner did. */
  event(event: RunnerEvent, now: number): void {
    switch (event.event) {
      case "finished":
        return this.#finished(event.key, event.outcome, now);
      case "progress": {
        const lease = this.#leases.get(event.key);
        if (!lease || lease.phase !== "running" || lease.lost) return;
        lease.heardAt = now;
        if (event.checkpoint) lease.checkpoint = event.checkpoint;
        return this.#reports.progress(lease, event.progress, event.checkpoint, now);
      }
      case "log": {
        const lease = this.#leases.get(event.key);
        if (lease && !lease.lost) this.#reports.log(lease, event.line, now);
        return;
      }
      case "quiet":
      case "resume":
        return this.#setQuiet(event.event === "quiet");
      case "drain":
        if (event.now && this.#phase.name !== "running") return this.#releaseNow(now);
        return this.#drain(event.graceMs ?? this.config.graceMs, "asked to stop", now);
    }
  }

  /** Does what is due and takes what there is to do; call again at `wakeAt` at the latest. */
  poll(now: number): { actions: Action[]; wakeAt: number } {
    if (this.#phase.name !== "stopped") {
      this.#checkStream(now);
      this.#sweep(now);
      this.#dispatch(now);
      this.#advanceDrain(now);
      this.#flush(now);
      this.#advanceDrain(now);
    }
    // Frames before runs: a handler that takes the process down must not outrun the news of its start.
    const isTell = (action: Action): boolean => action.do === "tell";
    const actions = [...this.#out.filter((action) => !isTell(action)), ...this.#out.filter(isTell)];
    this.#out = [];
    return { actions, wakeAt: this.#wakeAt() };
  }

  // ---- the stream -----------------------------------------------------------------------------------------------

  #checkStream(now: number): void {
    if (this.#stream !== "none") {
      if (now >= this.#dropAt) {
        this.#out.push({ do: "drop" });
        this.#streamGone(now);
        this.#dropAt = Infinity;
        this.#connectAt = now;
      } else if (now >= this.#deadAt()) {
        this.#lose("no frame from the server for too long", now);
      }
    }
    if (this.#stream === "none" && now >= this.#connectAt) this.#connect(now);
  }

  #deadAt(): number {
    return this.#heardAt + 2 * this.#heartbeatMs + 5_000;
  }

  #connect(now: number): void {
    this.#stream = "opening";
    this.#connectAt = this.#dropAt = Infinity;
    this.#heardAt = this.#helloAt = now;
    this.#seq = this.#receivedSeq = 0;
    this.#started = [];
    this.#startedAt = this.#receiptAt = Infinity;
    const held = [...this.#leases.values()];
    this.#inventory.reset(held);
    this.#out.push({ do: "connect" });
    this.#stateChanged = this.#state() !== WorkerState.ACTIVE;
    this.#send({ hello: helloInit(this.config, held, now) });
  }

  #welcome(welcome: Welcome, now: number): void {
    this.#stream = "open";
    this.#openedAt = now;
    this.#leaseTtlMs = msOf(welcome.leaseTtl) || this.#leaseTtlMs;
    this.#deliveryTtlMs = msOf(welcome.deliveryTtl) || Math.min(10_000, this.#leaseTtlMs);
    this.#heartbeatMs = msOf(welcome.heartbeatInterval) || this.#leaseTtlMs / 3;
    this.#inventory.by(now + this.#heartbeatMs);
    if (welcome.limits) {
      this.#limits = {
        payloadBytes: welcome.limits.maxPayloadBytes || DEFAULT_LIMITS.payloadBytes,
        resultBytes: welcome.limits.maxResultBytes || DEFAULT_LIMITS.resultBytes,
        checkpointBytes: welcome.limits.maxCheckpointBytes || DEFAULT_LIMITS.checkpointBytes,
      };
    }
    const resumed = this.#leases.size;
    for (const lease of this.#leases.values()) this.#trust(lease, this.#helloAt + this.#leaseTtlMs);
    for (const token of welcome.settled) {
      const lease = this.#byToken.get(token);
      if (lease) this.#settled(lease);
    }
    for (const token of welcome.lost) this.#lost(token);
    for (const order of welcome.cancels) this.#ordered(order, now);
    this.#tell({
      command: "welcome",
      limits: this.#limits,
      serverId: welcome.serverId,
      serverVersion: welcome.serverVersion,
      serverTimeMs: msOf(welcome.serverTime),
      resumed,
    });
    if (welcome.directive) this.#directive(welcome.directive, now);
  }

  /** Gives up the stream and tries again later. */
  #lose(why: string, now: number): void {
    this.#out.push({ do: "drop" });
    this.#streamGone(now);
    this.#backOff(why, now);
  }

  #streamGone(now: number): void {
    if (this.#stream === "open" && now - this.#openedAt >= STABLE_MS) this.#failures = 0;
    this.#stream = "none";
    this.#outbox.resend(now);
  }

  /** With jobs in hand the next try comes while their leases still run. */
  #backOff(why: string, now: number, atLeast = 0): void {
    const held = this.#leases.size > 0 || !this.#outbox.empty;
    const max = held ? Math.min(BACKOFF_MAX_MS, this.#leaseTtlMs / 3) : BACKOFF_MAX_MS;
    const ceiling = Math.min(max, BACKOFF_MIN_MS * 2 ** Math.min(this.#failures, 20));
    this.#failures += 1;
    const retryInMs = Math.max(atLeast, this.env.random() * ceiling);
    this.#connectAt = now + retryInMs;
    this.#tell({ command: "disconnected", message: why, retryInMs });
  }

  #goAway(goAway: GoAway, now: number): void {
    this.#dropAt = now + (msOf(goAway.reconnectDelay) ?? 0);
    const reason = (GoAwayReason[goAway.reason] ?? "UNKNOWN").toLowerCase();
    this.#note("info", `the server asks to reconnect (${reason}${goAway.message && `: ${goAway.message}`})`);
  }

  // ---- leases ---------------------------------------------------------------------------------------------------

  #receive(lease: Lease, now: number): void {
    const before = this.#byToken.get(lease.token);
    if (before) return;
    this.#leases.set(lease.key, lease);
    this.#byToken.set(lease.token, lease);
    this.#inventory.arrived(lease);
    this.#sweepAt = Math.min(this.#sweepAt, lease.trustedUntil);
    if (this.#draining) return this.#release(lease, "the worker is draining", now);
    this.#queue.push(lease);
  }

  get #draining(): boolean {
    return this.#phase.name !== "running";
  }

  /** Hands queued jobs to free handlers, in their order but for types that are at a limit of their own. */
  #dispatch(now: number): void {
    let at = 0;
    while (at < this.#queue.length && this.#running < this.config.concurrency && !this.#outbox.full) {
      const lease = this.#queue[at]!;
      const { type } = lease.job;
      // Somebody else may have it by now; the next Welcome tells.
      if (now >= lease.trustedUntil) return;
      if ((this.#runningOf.get(type) ?? 0) >= (this.config.typeConcurrency?.[type] ?? Infinity)) {
        at += 1;
        continue;
      }
      this.#queue.splice(at, 1);
      if (!this.#handles(type)) {
        const reason = `no handler for ${type}`;
        this.#note("warn", `${reason}: job ${lease.job.id} goes back`);
        this.#report(lease, { kind: "snoozed", delayMs: UNHANDLED_MS, reason, runMs: 0 }, now);
        continue;
      }
      lease.phase = "running";
      lease.startedAt = lease.heardAt = now;
      this.#count(lease, 1);
      this.#started.push(lease.token);
      this.#startedAt = Math.min(this.#startedAt, now);
      this.#sweepAt = Math.min(this.#sweepAt, this.#limitAt(lease));
      this.#tell({ command: "run", job: lease.job });
    }
  }

  /** A handler has started (1) or is off our hands (-1). */
  #count({ job: { type } }: Lease, change: 1 | -1): void {
    this.#running += change;
    this.#runningOf.set(type, (this.#runningOf.get(type) ?? 0) + change);
  }

  #handles(type: string): boolean {
    return this.config.types.includes(type);
  }

  #finished(key: number, outcome: OutcomeData, now: number): void {
    const lease = this.#leases.get(key);
    if (!lease || lease.phase !== "running") return;
    this.#count(lease, -1);
    if (lease.lost || outcome.kind === "dropped") {
      this.#forget(lease);
      // The server counts the slot as taken until a heartbeat no longer names the lease.
      this.#inventory.by(now + RECEIPT_MS);
      return;
    }
    this.#report(lease, fitting(outcome, lease.checkpoint, this.#limits), now);
  }

  #report(lease: Lease, outcome: Report, now: number): void {
    lease.phase = "done";
    lease.outcome = outcome;
    lease.outcomeBytes = reportBytes(outcome, lease.checkpoint);
    this.#reports.finish(lease);
    this.#outbox.put(lease, now);
  }

  #release(lease: Lease, reason: string, now: number): void {
    const at = this.#queue.indexOf(lease);
    if (at >= 0) this.#queue.splice(at, 1);
    this.#report(lease, { kind: "released", reason, runMs: 0 }, now);
  }

  #forget(lease: Lease): void {
    this.#leases.delete(lease.key);
    this.#byToken.delete(lease.token);
    this.#reports.forget(lease);
  }

  /** The server has the outcome already; only its acknowledgement was lost. */
  #settled(lease: Lease): void {
    if (lease.phase === "done") {
      this.#outbox.remove(lease);
      this.#forget(lease);
    } else {
      this.#lost(lease.token);
    }
  }

  #lost(token: string): void {
    const lease = this.#byToken.get(token);
    if (!lease) return;
    if (lease.phase === "running") {
      // Its handler still takes a slot: it stays in the inventory until the handler has stopped.
      if (lease.lost) return;
      lease.lost = true;
      this.#cancel(lease, "lease_lost", "the lease is lost: another worker may have the job");
      return;
    }
    if (lease.phase === "queued") this.#queue.splice(this.#queue.indexOf(lease), 1);
    else this.#outbox.remove(lease);
    this.#forget(lease);
  }

  #rejected(rejection: OutcomeRejection, now: number): void {
    const lease = this.#byToken.get(rejection.leaseToken);
    if (!lease || lease.phase !== "done") return;
    this.#outbox.remove(lease);
    const reason = RejectionReason[rejection.reason] ?? "UNKNOWN";
    const message = `the outcome of job ${lease.job.id} was refused (${reason})${rejection.message && `: ${rejection.message}`}`;
    const armed = rejection.reason === RejectionReason.INVALID || rejection.reason === RejectionReason.UNSUPPORTED;
    this.#note(armed ? "error" : "warn", message);
    if (!armed || lease.replaced) return this.#forget(lease);
    lease.replaced = true;
    lease.checkpoint = undefined;
    this.#report(lease, unprocessable(lease.outcome?.runMs ?? 0, message), now);
  }

  #ordered(order: CancelOrder, now: number): void {
    const lease = this.#byToken.get(order.leaseToken);
    if (!lease || lease.phase === "done") return;
    const reason = cancelReasonOf(order.reason);
    if (lease.phase === "running") {
      return this.#cancel(lease, reason, order.message || `cancelled: ${reason}`);
    }
    if (reason === "timeout") return;
    this.#queue.splice(this.#queue.indexOf(lease), 1);
    this.#report(lease, { kind: "cancelled", reason: order.message || reason, runMs: 0 }, now);
  }

  /** Tells the handler to stop. Only the loss of the lease overrides an earlier order. */
  #cancel(lease: Lease, reason: CancelReason, message: string, stalled = false): void {
    if (lease.cancelled !== undefined && reason !== "lease_lost") return;
    lease.cancelled = reason;
    this.#tell({ command: "cancel", key: lease.key, reason, message, ...(stalled && { stalled }) });
  }

  // ---- time limits and trust ------------------------------------------------------------------------------------

  #trust(lease: Lease, until: number): void {
    lease.trustedUntil = Math.max(lease.trustedUntil, until);
    if (lease.atRisk) {
      lease.atRisk = false;
      this.#tell({ command: "risk", key: lease.key, atRisk: false });
    }
    this.#sweepAt = Math.min(this.#sweepAt, lease.trustedUntil);
  }

  /** When this attempt has run too long, or has been silent too long. */
  #limitAt({ cancelled, startedAt = 0, heardAt, job: { timeoutMs, heartbeatTimeoutMs } }: Lease): number {
    if (cancelled !== undefined) return Infinity;
    return Math.min(startedAt + (timeoutMs ?? Infinity), heardAt + (heartbeatTimeoutMs ?? Infinity));
  }

  #sweep(now: number): void {
    if (now < this.#sweepAt) return;
    this.#sweepAt = Infinity;
    for (const lease of this.#leases.values()) {
      if (lease.phase === "done") continue;
      if (now >= lease.trustedUntil) {
        if (lease.phase === "running" && !lease.atRisk && !lease.lost) {
          lease.atRisk = true;
          this.#tell({ command: "risk", key: lease.key, atRisk: true });
        }
      } else {
        this.#sweepAt = Math.min(this.#sweepAt, lease.trustedUntil);
      }
      if (lease.phase !== "running") continue;
      if (now >= this.#limitAt(lease)) {
        const { timeoutMs } = lease.job;
        const timedOut = timeoutMs !== undefined && now >= lease.startedAt! + timeoutMs;
        const message = timedOut ? `ran longer than ${timeoutMs} ms` : `no progress for ${lease.job.heartbeatTimeoutMs} ms`;
        this.#cancel(lease, "timeout", message, !timedOut);
      } else {
        this.#sweepAt = Math.min(this.#sweepAt, this.#limitAt(lease));
      }
    }
  }

  // ---- life cycle -----------------------------------------------------------------------------------------------

  #directive(directive: Directive, now: number): void {
    switch (directive.kind) {
      case DirectiveKind.RUN:
        return this.#setQuiet(false);
      case DirectiveKind.QUIET:
        return this.#setQuiet(true);
      case DirectiveKind.TERMINATE:
        return this.#drain(msOf(directive.grace) ?? this.config.graceMs, directive.reason || "the server asks to stop", now, true);
    }
  }

  #state(): WorkerState {
    if (this.#draining) return WorkerState.DRAINING;
    return this.#quiet ? WorkerState.QUIET : WorkerState.ACTIVE;
  }

  #setQuiet(quiet: boolean): void {
    if (this.#quiet === quiet || this.#draining) return;
    this.#quiet = quiet;
    this.#stateChanged = true;
  }

  #drain(graceMs: number, reason: string, now: number, ordered = false): void {
    if (this.#draining) return;
    this.#phase = { name: "finishing", graceAt: now + graceMs };
    this.#stateChanged = true;
    this.#tell({ command: "draining", reason, ordered });
    for (const lease of [...this.#queue]) this.#release(lease, "the worker is draining", now);
  }

  #runningLeases(): Lease[] {
    return [...this.#leases.values()].filter((lease) => lease.phase === "running");
  }

  /** Gives back what still runs, handlers or no handlers. */
  #releaseNow(now: number): void {
    for (const lease of this.#runningLeases()) {
      this.#cancel(lease, "shutdown", "the worker is shutting down");
      this.#tell({ command: "abandon", key: lease.key });
      this.#count(lease, -1);
      if (lease.lost) this.#forget(lease);
      else this.#report(lease, { kind: "released", reason: "the worker is shutting down", runMs: now - lease.startedAt! }, now);
    }
  }

  #advanceDrain(now: number): void {
    if (this.#phase.name === "finishing" && now >= this.#phase.graceAt && this.#running > 0) {
      for (const lease of this.#runningLeases()) this.#cancel(lease, "shutdown", "the worker is shutting down");
      this.#phase = { name: "stopping", stopAt: now + STOP_MS };
    }
    if (this.#phase.name === "stopping" && now >= this.#phase.stopAt) this.#releaseNow(now);
    if ((this.#phase.name === "finishing" || this.#phase.name === "stopping") && this.#running === 0) {
      this.#phase = { name: "flushing", until: now + STOP_MS };
      if (this.#stream === "none") this.#connectAt = Math.min(this.#connectAt, now);
    }
    if (this.#phase.name === "flushing") {
      if (this.#outbox.empty && this.#stream === "open") {
        this.#flush(now);
        this.#out.push({ do: "halfClose" });
        this.#phase = { name: "closing", until: now + STOP_MS };
      } else if (now >= this.#phase.until || (this.#outbox.empty && this.#leases.size === 0)) {
        this.#stop();
      }
    }
    if (this.#phase.name === "closing" && now >= this.#phase.until) this.#stop();
  }

  #stop(error?: Extract<RunnerCommand, { command: "stopped" }>["error"]): void {
    for (const lease of this.#runningLeases()) {
      this.#tell({ command: "cancel", key: lease.key, reason: "shutdown", message: error?.message ?? "the worker has stopped" });
    }
    if (this.#stream !== "none") this.#out.push({ do: "drop" });
    this.#stream = "none";
    this.#connectAt = Infinity;
    this.#phase = { name: "stopped" };
    this.#tell({ command: "stopped", ...(error && { error }) });
  }

  // ---- frames ---------------------------------------------------------------------------------------------------

  #flush(now: number): void {
    if (this.#stream !== "open" || this.#phase.name === "closing") return;
    while (this.#reports.crowded) this.#send(this.#reports.take(now));
    const heartbeat = now >= this.#heartbeatDueAt();
    if (heartbeat || this.#stateChanged || now >= this.#frameDueAt()) {
      // Outcomes first, in frames of their own: what they settle is no longer in hand when the inventory is taken.
      do this.#sendReports(now);
      while (this.#outbox.hasPending);
      if (heartbeat) this.#sendHeartbeat(now);
    }
  }

  #sendReports(now: number): void {
    const reports: FrameReports = this.#reports.take(now);
    const outcomes = this.#outbox.take(this.#seq + 1).map(outcomeInit);
    if (outcomes.length + this.#started.length + reports.progress.length + reports.logs.length === 0) {
      if (!this.#stateChanged && now < this.#receiptAt) return;
    }
    this.#send({ ...reports, outcomes });
  }

  #sendHeartbeat(now: number): void {
    const leases = [...this.#leases.values()].filter((lease) => lease.phase !== "done");
    const { rssBytes, cpuPercent } = this.env.stats();
    this.#send({
      heartbeat: { held: leases.map((lease) => lease.token), running: this.#running, rssBytes: BigInt(rssBytes), cpuPercent },
    });
    this.#inventory.sent(this.#seq, now, leases, this.#heartbeatMs);
  }

  #send(init: MessageInitShape<typeof StreamJobsRequestSchema>): void {
    this.#seq += 1;
    const frame = create(StreamJobsRequestSchema, {
      ...init,
      seq: BigInt(this.#seq),
      receivedSeq: BigInt(this.#receivedSeq),
      started: this.#started,
    });
    if (this.#stateChanged) frame.state = this.#state();
    this.#started = [];
    this.#startedAt = this.#receiptAt = Infinity;
    this.#stateChanged = false;
    this.#out.push({ do: "send", frame });
  }

  /** When a frame other than a heartbeat has to leave. */
  #frameDueAt(): number {
    // News of a start follow the same rule as outcomes.
    const started = this.#outbox.idle ? (this.#startedAt < Infinity ? -Infinity : Infinity) : this.#startedAt + 2;
    return Math.min(this.#outbox.dueAt, started, this.#receiptAt, this.#reports.dueAt);
  }

  #heartbeatDueAt(): number {
    return this.#inventory.dueAt(this.#deliveryTtlMs);
  }

  #wakeAt(): number {
    let at = this.#sweepAt;
    const { name } = this.#phase;
    if (name === "stopped") return Infinity;
    if (this.#phase.name === "finishing" && this.#running > 0) at = Math.min(at, this.#phase.graceAt);
    if (this.#phase.name === "stopping") at = Math.min(at, this.#phase.stopAt);
    if (this.#phase.name === "flushing" || this.#phase.name === "closing") at = Math.min(at, this.#phase.until);
    if (this.#stream === "none") return Math.min(at, this.#connectAt);
    at = Math.min(at, this.#deadAt(), this.#dropAt);
    if (this.#stream === "open" && name !== "closing") at = Math.min(at, this.#frameDueAt(), this.#heartbeatDueAt());
    return at;
  }

  #tell(command: RunnerCommand): void {
    this.#out.push({ do: "tell", command });
  }

  #note(level: "info" | "warn" | "error", message: string): void {
    this.#tell({ command: "note", level, message });
  }
}
