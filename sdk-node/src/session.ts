// The worker's side of StreamJobs as a pure machine: no clock, no I/O, no threads. Its host feeds it frames, handler
// events and the time; `poll(now)` answers what to do and when to call again. The rules W1-W8 are those of
// worker_service.proto.
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { Drain } from "./drain.js";
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
import { Leases } from "./leases.js";
import type { OutcomeData, RunnerCommand, RunnerEvent } from "./messages.js";
import { Outbox } from "./outbox.js";
import { Prefetch } from "./prefetch.js";
import { Reports, type FrameReports } from "./reports.js";
import { DEFAULT_LIMITS, type SizeLimits } from "./spec.js";
import { StreamState } from "./stream-state.js";
import { limitAt, TimeLimits } from "./time-limits.js";
import { cancelReasonOf, jobDataOf } from "./wire.js";

/** Receipt of a frame with jobs, when nothing else says it sooner. */
const RECEIPT_MS = 1_000;
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

export class Session {
  #out: Action[] = [];
  #quiet = false;
  #stateChanged = false;
  #limits: SizeLimits = DEFAULT_LIMITS;
  #nextKey = 1;

  readonly #stream = new StreamState();
  readonly #drain = new Drain();
  readonly #leases: Leases;
  readonly #prefetch: Prefetch;
  readonly #outbox = new Outbox();
  readonly #reports = new Reports();
  readonly #inventory = new Inventory();
  readonly #timeLimits = new TimeLimits();

  #started: string[] = [];
  #startedAt = Infinity;
  #receiptAt = Infinity;

  constructor(
    private readonly config: SessionConfig,
    private readonly env: SessionEnv,
  ) {
    this.#leases = new Leases(config);
    const largest = Math.max(0, ...Object.values(config.batches ?? {}).map(({ maxSize }) => maxSize));
    this.#prefetch = new Prefetch(config.concurrency, config.prefetch, largest);
  }

  // ---- what the host reports ------------------------------------------------------------------------------------

  /** A frame of the current stream. */
  frame(frame: StreamJobsResponse, now: number): void {
    const stream = this.#stream;
    if (stream.phase === "none") return;
    stream.heard(now);
    if (stream.phase === "opening") {
      if (!frame.welcome) return this.#lose("the server's first frame had no welcome", now);
      this.#welcome(frame.welcome, now);
    }
    stream.receivedSeq = Number(frame.seq);
    for (const rejection of frame.rejections) this.#rejected(rejection, now);
    if (frame.ackedSeq > 0n) for (const lease of this.#outbox.ack(Number(frame.ackedSeq))) this.#forget(lease);
    for (const job of frame.jobs) {
      const lease = newLease(job.leaseToken, jobDataOf(job, this.#nextKey++), now, stream.deliveryTtlMs);
      this.#receive(lease, now);
    }
    if (frame.jobs.length > 0) this.#receiptAt = Math.min(this.#receiptAt, now + RECEIPT_MS);
    const ack = frame.heartbeatAck;
    if (ack) {
      for (const token of ack.lost) this.#lost(token);
      for (const { lease, at } of this.#inventory.acked(Number(ack.heartbeatSeq))) {
        if (!lease.lost) this.#trust(lease, at + stream.leaseTtlMs);
      }
    }
    for (const order of frame.cancels) this.#ordered(order, now);
    for (const token of frame.recalls) {
      const lease = this.#leases.byToken(token);
      if (lease?.phase === "queued") this.#release(lease, "recalled", now);
    }
    if (frame.directive) this.#directive(frame.directive, now);
    if (frame.goAway) this.#goAway(frame.goAway, now);
  }

  /** The current stream ended; `error` is absent when the server ended it with OK. */
  closed(error: JobwireError | undefined, now: number): void {
    const stream = this.#stream;
    if (stream.phase === "none") return;
    if (this.#drain.closing) return this.#stop();
    this.#streamGone(now);
    if (error && FATAL.has(error.code)) {
      const { code, message, reason, field, metadata } = error;
      return this.#stop({ code, message, details: { reason, metadata: { ...metadata }, ...(field && { field }) } });
    }
    const goAway = stream.dropAt;
    stream.dropAt = Infinity;
    if (goAway < Infinity) stream.connectAt = Math.max(now, goAway);
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
        if (event.now && this.#drain.draining) return this.#releaseNow(now);
        return this.#beginDrain(event.graceMs ?? this.config.graceMs, "asked to stop", now);
    }
  }

  /** Does what is due and takes what there is to do; call again at `wakeAt` at the latest. */
  poll(now: number): { actions: Action[]; wakeAt: number } {
    if (!this.#drain.stopped) {
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
    return { actions, wakeAt: this.#wakeAt(now) };
  }

  // ---- the stream -----------------------------------------------------------------------------------------------

  #checkStream(now: number): void {
    const stream = this.#stream;
    if (stream.phase !== "none") {
      if (now >= stream.dropAt) {
        this.#out.push({ do: "drop" });
        this.#streamGone(now);
        stream.dropAt = Infinity;
        stream.connectAt = now;
      } else if (now >= stream.deadAt) {
        this.#lose("no frame from the server for too long", now);
      }
    }
    if (stream.phase === "none" && now >= stream.connectAt) this.#connect(now);
  }

  #connect(now: number): void {
    this.#stream.connecting(now);
    this.#started = [];
    this.#startedAt = this.#receiptAt = Infinity;
    const held = this.#leases.all();
    this.#inventory.reset(held);
    this.#out.push({ do: "connect" });
    this.#stateChanged = this.#state() !== WorkerState.ACTIVE;
    this.#send({ hello: helloInit(this.config, this.#prefetch.slots, held, now) });
  }

  #welcome(welcome: Welcome, now: number): void {
    const stream = this.#stream;
    stream.welcomed(welcome, now);
    this.#inventory.by(now + stream.heartbeatMs);
    if (welcome.limits) {
      this.#limits = {
        payloadBytes: welcome.limits.maxPayloadBytes || DEFAULT_LIMITS.payloadBytes,
        resultBytes: welcome.limits.maxResultBytes || DEFAULT_LIMITS.resultBytes,
        checkpointBytes: welcome.limits.maxCheckpointBytes || DEFAULT_LIMITS.checkpointBytes,
      };
    }
    const resumed = this.#leases.size;
    for (const lease of this.#leases.all()) this.#trust(lease, stream.helloAt + stream.leaseTtlMs);
    for (const token of welcome.settled) {
      const lease = this.#leases.byToken(token);
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
    this.#stream.gone(now);
    this.#outbox.resend(now);
  }

  #backOff(why: string, now: number, atLeast = 0): void {
    const holding = this.#leases.size > 0 || !this.#outbox.empty;
    const retryInMs = this.#stream.backOff(now, this.env.random(), holding, atLeast);
    this.#tell({ command: "disconnected", message: why, retryInMs });
  }

  #goAway(goAway: GoAway, now: number): void {
    this.#stream.dropAt = now + (msOf(goAway.reconnectDelay) ?? 0);
    const reason = (GoAwayReason[goAway.reason] ?? "UNKNOWN").toLowerCase();
    this.#note("info", `the server asks to reconnect (${reason}${goAway.message && `: ${goAway.message}`})`);
  }

  // ---- leases ---------------------------------------------------------------------------------------------------

  #receive(lease: Lease, now: number): void {
    if (this.#leases.byToken(lease.token)) return;
    this.#leases.add(lease);
    this.#inventory.arrived(lease);
    this.#timeLimits.by(lease.trustedUntil);
    if (this.#drain.draining) this.#release(lease, "the worker is draining", now);
    else this.#leases.wait(lease);
  }

  /** Hands waiting jobs to free handlers. */
  #dispatch(now: number): void {
    for (let leases = this.#leases.next(now); leases && !this.#outbox.full; leases = this.#leases.next(now)) {
      // Somebody else may have one of them by now; the next Welcome tells.
      if (leases.some(({ trustedUntil }) => now >= trustedUntil)) return;
      const [lease] = leases as [Lease];
      const { type, id } = lease.job;
      if (this.#handles(type)) {
        this.#start(leases, now);
        continue;
      }
      const reason = `no handler for ${type}`;
      this.#note("warn", `${reason}: job ${id} goes back`);
      this.#leases.unwait(lease);
      this.#report(lease, { kind: "snoozed", delayMs: UNHANDLED_MS, reason, runMs: 0 }, now);
    }
  }

  #start(leases: Lease[], now: number): void {
    this.#leases.start(leases, now);
    // A batch runs under the shortest of its timeouts.
    const timeoutMs = Math.min(...leases.map(({ job }) => job.timeoutMs ?? Infinity));
    for (const lease of leases) {
      if (timeoutMs < Infinity) lease.job.timeoutMs = timeoutMs;
      this.#started.push(lease.token);
      this.#timeLimits.by(limitAt(lease));
    }
    this.#startedAt = Math.min(this.#startedAt, now);
    const jobs = leases.map(({ job }) => job);
    if (this.#leases.batched(jobs[0]!.type)) this.#tell({ command: "runBatch", jobs });
    else this.#tell({ command: "run", job: jobs[0]! });
  }

  #handles(type: string): boolean {
    return this.config.types.includes(type);
  }

  #finished(key: number, outcome: OutcomeData, now: number): void {
    const lease = this.#leases.get(key);
    if (!lease || lease.phase !== "running") return;
    this.#leases.stopped(lease);
    this.#prefetch.ran(now - lease.startedAt!);
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
    this.#leases.unwait(lease);
    this.#report(lease, { kind: "released", reason, runMs: 0 }, now);
  }

  #forget(lease: Lease): void {
    this.#leases.forget(lease);
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
    const lease = this.#leases.byToken(token);
    if (!lease) return;
    if (lease.phase === "running") {
      // Its handler still takes a slot: it stays in the inventory until the handler has stopped.
      if (lease.lost) return;
      lease.lost = true;
      this.#cancel(lease, "lease_lost", "the lease is lost: another worker may have the job");
      return;
    }
    if (lease.phase === "queued") this.#leases.unwait(lease);
    else this.#outbox.remove(lease);
    this.#forget(lease);
  }

  #rejected(rejection: OutcomeRejection, now: number): void {
    const lease = this.#leases.byToken(rejection.leaseToken);
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
    const lease = this.#leases.byToken(order.leaseToken);
    if (!lease || lease.phase === "done") return;
    const reason = cancelReasonOf(order.reason);
    if (lease.phase === "running") {
      return this.#cancel(lease, reason, order.message || `cancelled: ${reason}`);
    }
    if (reason === "timeout") return;
    this.#leases.unwait(lease);
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
    this.#timeLimits.by(lease.trustedUntil);
  }

  #sweep(now: number): void {
    this.#timeLimits.sweep(now, this.#leases.all(), {
      atRisk: (lease) => {
        lease.atRisk = true;
        this.#tell({ command: "risk", key: lease.key, atRisk: true });
      },
      timedOut: (lease, message, stalled) => this.#cancel(lease, "timeout", message, stalled),
    });
  }

  // ---- life cycle -----------------------------------------------------------------------------------------------

  #directive(directive: Directive, now: number): void {
    switch (directive.kind) {
      case DirectiveKind.RUN:
        return this.#setQuiet(false);
      case DirectiveKind.QUIET:
        return this.#setQuiet(true);
      case DirectiveKind.TERMINATE:
        return this.#beginDrain(msOf(directive.grace) ?? this.config.graceMs, directive.reason || "the server asks to stop", now, true);
    }
  }

  #state(): WorkerState {
    if (this.#drain.draining) return WorkerState.DRAINING;
    return this.#quiet ? WorkerState.QUIET : WorkerState.ACTIVE;
  }

  #setQuiet(quiet: boolean): void {
    if (this.#quiet === quiet || this.#drain.draining) return;
    this.#quiet = quiet;
    this.#stateChanged = true;
  }

  #beginDrain(graceMs: number, reason: string, now: number, ordered = false): void {
    if (this.#drain.draining) return;
    this.#drain.begin(now, graceMs);
    this.#stateChanged = true;
    this.#tell({ command: "draining", reason, ordered });
    for (const lease of this.#leases.waiting()) this.#release(lease, "the worker is draining", now);
  }

  #cancelRunning(message: string): void {
    for (const lease of this.#leases.runningOnes()) this.#cancel(lease, "shutdown", message);
  }

  /** Gives back what still runs, handlers or no handlers. */
  #releaseNow(now: number): void {
    this.#cancelRunning("the worker is shutting down");
    for (const lease of this.#leases.runningOnes()) {
      this.#tell({ command: "abandon", key: lease.key });
      this.#leases.stopped(lease);
      if (lease.lost) this.#forget(lease);
      else this.#report(lease, { kind: "released", reason: "the worker is shutting down", runMs: now - lease.startedAt! }, now);
    }
  }

  #advanceDrain(now: number): void {
    for (;;) {
      const step = this.#drain.step(now, {
        running: this.#leases.running,
        acked: this.#outbox.empty,
        connected: this.#stream.phase === "open",
        emptyHanded: this.#leases.size === 0,
      });
      switch (step) {
        case undefined:
          return;
        case "cancel":
          this.#cancelRunning("the worker is shutting down");
          break;
        case "release":
          this.#releaseNow(now);
          break;
        case "flush":
          if (this.#stream.phase === "none") this.#stream.connectAt = Math.min(this.#stream.connectAt, now);
          break;
        case "close":
          this.#flushAll(now);
          this.#out.push({ do: "halfClose" });
          break;
        case "stop":
          return this.#stop();
      }
    }
  }

  #stop(error?: Extract<RunnerCommand, { command: "stopped" }>["error"]): void {
    this.#cancelRunning(error?.message ?? "the worker has stopped");
    if (this.#stream.phase !== "none") this.#out.push({ do: "drop" });
    this.#stream.phase = "none";
    this.#stream.connectAt = Infinity;
    this.#drain.stop();
    this.#tell({ command: "stopped", ...(error && { error }) });
  }

  // ---- frames ---------------------------------------------------------------------------------------------------

  #flush(now: number): void {
    if (this.#stream.phase === "open" && !this.#drain.closing) this.#flushAll(now);
  }

  #flushAll(now: number): void {
    while (this.#reports.crowded) this.#send(this.#reports.take(now));
    const heartbeat = now >= this.#heartbeatDueAt();
    if (!heartbeat && !this.#stateChanged && now < this.#frameDueAt()) return;
    // Outcomes first, in frames of their own: what they settle is no longer in hand when the inventory is taken.
    do this.#sendReports(now);
    while (this.#outbox.hasPending);
    if (heartbeat) this.#sendHeartbeat(now);
  }

  #sendReports(now: number): void {
    const reports: FrameReports = this.#reports.take(now);
    const outcomes = this.#outbox.take(this.#stream.seq + 1).map(outcomeInit);
    if (outcomes.length + this.#started.length + reports.progress.length + reports.logs.length === 0) {
      if (!this.#stateChanged && now < this.#receiptAt) return;
    }
    this.#send({ ...reports, outcomes });
  }

  #sendHeartbeat(now: number): void {
    const leases = this.#leases.inHand();
    const { rssBytes, cpuPercent } = this.env.stats();
    const held = leases.map((lease) => lease.token);
    const slots = this.#prefetch.change();
    this.#send({
      heartbeat: { held, running: this.#leases.running, rssBytes: BigInt(rssBytes), cpuPercent },
      ...(slots !== undefined && { capacity: { slots, concurrency: this.config.concurrency } }),
    });
    this.#inventory.sent(this.#stream.seq, now, leases, this.#stream.heartbeatMs);
  }

  #send(init: MessageInitShape<typeof StreamJobsRequestSchema>): void {
    this.#stream.seq += 1;
    const frame = create(StreamJobsRequestSchema, {
      ...init,
      seq: BigInt(this.#stream.seq),
      receivedSeq: BigInt(this.#stream.receivedSeq),
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
    return this.#inventory.dueAt(this.#stream.deliveryTtlMs);
  }

  #wakeAt(now: number): number {
    if (this.#drain.stopped) return Infinity;
    const at = Math.min(this.#timeLimits.at, this.#drain.wakeAt, this.#leases.gatheredAt(now));
    const { phase, connectAt, deadAt, dropAt } = this.#stream;
    if (phase === "none") return Math.min(at, connectAt);
    const due = phase === "open" && !this.#drain.closing ? Math.min(this.#frameDueAt(), this.#heartbeatDueAt()) : Infinity;
    return Math.min(at, deadAt, dropAt, due);
  }

  #tell(command: RunnerCommand): void {
    this.#out.push({ do: "tell", command });
  }

  #note(level: "info" | "warn" | "error", message: string): void {
    this.#tell({ command: "note", level, message });
  }
}
