"""The worker's side of StreamJobs as a pure machine: no clock, no I/O, no threads.

In go frames of the server, events of handlers and `poll(now)`; out come frames to write, commands for the driver, and
the time of the next poll. `now` is any monotonic clock in seconds. Rules W1 to W8 are those of worker_service.proto.

    idle ──Connect(hello)──▶ opening ──welcome──▶ active ──all acknowledged, draining──▶ closing ──▶ over
      ▲                         │                    │
      └────── backoff ──────────┴── stream broke ────┘      leases, outcomes and orders live on across streams
"""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass

from ._convert import duration, seconds
from ._errors import JobwireError
from ._heartbeats import Heartbeats
from ._leases import (
    LEASE_LOST,
    REQUESTED,
    SHUTDOWN,
    TIMEOUT,
    WORKFLOW,
    Cancel,
    Command,
    Connect,
    Disconnect,
    Exit,
    Frame,
    HalfClose,
    Lease,
    Outcome,
    SessionConfig,
    Start,
    StartBatch,
    Warn,
    Welcomed,
    cancelled,
    released,
    unprocessable,
)
from ._lines import Lines
from ._outbox import Outbox, fitting
from ._reports import NEVER, Reports
from .v1 import common_pb2, job_pb2, worker_service_pb2

pb = worker_service_pb2

FLUSH_DELAY = 0.002
RECEIPT_DELAY = 0.9  # a receipt is due within a second of reading jobs
BACKOFF_FIRST, BACKOFF_MAX = 0.05, 15.0
SHUTDOWN_GRACE = 2.0  # to save a checkpoint once cancelled; and, again, for the last acknowledgements
SETTLED_AFTER = 1.0  # a stream that lived this long starts the backoff afresh
FATAL = frozenset({"FAILED_PRECONDITION", "INVALID_ARGUMENT", "PERMISSION_DENIED"})

_CANCEL_REASONS = {pb.CANCEL_REASON_TIMEOUT: TIMEOUT, pb.CANCEL_REASON_WORKFLOW: WORKFLOW}


@dataclass
class Polled:
    """Frames to write, in order; then commands, in order; and when to poll again at the latest."""

    frames: list[Frame]
    commands: list[Command]
    wake: float


class Session:
    """One worker process, over all its streams. Driven by a single thread."""

    def __init__(self, config: SessionConfig, rng: random.Random | None = None) -> None:
        self.config = config
        self.leases: dict[str, Lease] = {}  # in hand, handler not ended
        self.state = "idle"
        self.limits = common_pb2.Limits(
            max_result_bytes=1 << 20, max_message_bytes=3 << 20, max_checkpoint_bytes=64 << 10
        )
        self._rng = rng or random.Random()
        self._lines = Lines(config)
        self._vanished: dict[str, Lease] = {}  # died with their process; the next heartbeat leaves them out
        self._outbox = Outbox()
        self._deadlines: list[tuple[float, int, Lease]] = []
        self._starts = 0
        self._mean_run: float | None = None
        self._prefetch = self.config.wanted_prefetch(self._mean_run)
        self._commands: list[Command] = []
        # life cycle
        self._quiet = False
        self._drain_at: float | None = None  # when running handlers are cancelled
        self._kill_at: float | None = None  # when they are given up
        self._last_ack_at: float | None = None  # when acknowledgements are given up
        # stream
        self._connect_at = 0.0
        self._failures = 0
        self._opened_at = 0.0
        self._last_frame = 0.0
        self._leave_at = NEVER  # told to go away: when to drop this stream
        self._lease_ttl, self._delivery_ttl, self._interval = 30.0, 10.0, 10.0
        self._seq = self._received = 0
        self._flush_at = self._receipt_at = NEVER
        self._started: list[str] = []
        self._heartbeats = Heartbeats()
        self._say_state = self._say_capacity = False
        # progress, checkpoints, log lines
        self._reports = Reports()

    @property
    def running(self) -> int:
        """Handlers that run."""
        return self._lines.running

    @property
    def slots(self) -> int:
        """Leases that the worker takes at once; 0 while it is quiet or draining."""
        resting = self._quiet or self._drain_at is not None
        return 0 if resting else self.config.concurrency + self._prefetch

    @property
    def draining(self) -> bool:
        """It was told to end."""
        return self._drain_at is not None

    # --- events of handlers -------------------------------------------------------------------------------------

    def finished(self, token: str, outcome: Outcome | None, now: float) -> None:
        """The handler of `token` ended. None, or a lost lease: nothing is reported."""
        lease = self.leases.pop(token, None)
        if lease is None:
            return  # given up during a drain
        self._lines.stopped(lease)
        run = now - (lease.started if lease.started is not None else now)
        self._mean_run = run if self._mean_run is None else self._mean_run + 0.1 * (run - self._mean_run)
        if lease.lost or outcome is None:
            self._forget(lease)
            return
        outcome.run_duration.CopyFrom(duration(max(run, 0.0)))
        self._report(lease, outcome, now)

    def vanished(self, token: str, now: float) -> None:
        """The process that ran the handler of `token` died: no outcome, and no naming from now on.

        The server then counts a crash, not an attempt. What the handler said before goes ahead.
        """
        lease = self.leases.pop(token, None)
        if lease is None:
            return
        self._lines.stopped(lease)
        self._heartbeats.gone(token)
        if not lease.lost:
            self._vanished[token] = lease
        self._heartbeats.hurry(now)

    def progressed(
        self, token: str, progress: job_pb2.Progress | None, checkpoint: common_pb2.Payload | None, now: float
    ) -> None:
        """New progress or a new checkpoint of a running handler."""
        lease = self.leases.get(token)
        if lease is not None:
            self._reports.progressed(lease, progress, checkpoint, now)

    def logged(self, token: str, line: job_pb2.LogLine, now: float) -> None:
        """A line logged by a running handler."""
        if token in self.leases:
            self._reports.logged(token, line, now)

    def drain(self, now: float, grace: float | None = None) -> None:
        """Take nothing new, give back what has not started, end within `grace`. A second call gives up at once."""
        if self._drain_at is not None:
            self._drain_at = self._kill_at = now
            return
        self._drain_at = now + (self.config.grace if grace is None else grace)
        self._say_state = True
        for lease in self._lines.clear():
            self._give_back(lease, "worker is shutting down", now)

    # --- events of the stream -----------------------------------------------------------------------------------

    def received(self, frame: worker_service_pb2.StreamJobsResponse, now: float) -> None:
        """A frame of the current stream."""
        if self.state not in ("opening", "active", "closing"):
            return
        self._last_frame = now
        if self.state == "opening":
            if not frame.HasField("welcome"):
                self._abandon("the first frame of the server was no welcome", now)
                return
            self._welcome(frame.welcome, now)
        self._received = frame.seq
        for rejection in frame.rejections:
            self._rejected(rejection, now)
        if frame.acked_seq:
            self._acked(frame.acked_seq, now)
        if frame.HasField("heartbeat_ack"):
            self._heartbeat_acked(frame.heartbeat_ack, now)
        for job in frame.jobs:
            self._delivered(job, now)
        for order in frame.cancels:
            self._ordered(order, now)
        for token in frame.recalls:
            lease = self.leases.get(token)
            if lease is not None and lease.started is None:
                self._give_back(lease, "recalled", now)
        if frame.HasField("directive"):
            self._directed(frame.directive, now)
        if frame.HasField("go_away"):
            self._leave_at = now + seconds(frame.go_away.reconnect_delay)

    def disconnected(self, error: JobwireError | None, now: float) -> None:
        """The current stream ended; None = cleanly. Leases, outcomes and handlers are kept for the next one."""
        if self.state in ("idle", "over"):
            return
        if self.state == "closing":
            self._exit(None)
        elif error is not None and error.code in FATAL:
            for lease in self.leases.values():
                self._cancel(lease, SHUTDOWN, str(error))
            self._exit(error)
        else:
            leave_at = 0.0 if self._leave_at == NEVER else self._leave_at
            delay = self._backoff(now)
            if error is not None and error.retry_delay:
                delay = max(delay, error.retry_delay)
            if error is not None and error.reason == "SESSION_MOVED":
                delay += 1.0  # somebody else speaks for this session; do not fight for it
            self._go_idle(max(now + delay, leave_at))

    # --- polling ------------------------------------------------------------------------------------------------

    def poll(self, now: float) -> Polled:
        """What is due at `now`."""
        self._time_out(now)
        if self._drain_at is not None:
            self._drain_on(now)
        if self.state in ("opening", "active", "closing"):
            self._watch_stream(now)
        if self.state == "active":
            self._start_ready(now)
        frames = self._compose(now) if self.state == "active" else []
        if self._drain_at is not None:
            self._close_when_done(now)
        if self.state == "idle" and now >= self._connect_at:
            self._commands.append(Connect(self._hello(now)))
        commands, self._commands = self._commands, []
        return Polled(frames, commands, self._wake(now))

    def _wake(self, now: float) -> float:
        if self._commands:
            return now
        times = [self._deadlines[0][0] if self._deadlines else NEVER]
        if self._drain_at is not None:
            if self.leases:
                times.append(self._drain_at if self._kill_at is None else self._kill_at)
            elif self._last_ack_at is not None:
                times.append(self._last_ack_at)
        if self.state == "idle":
            times.append(self._connect_at)
        elif self.state != "over":
            times += [self._last_frame + 2 * self._interval + 5.0, self._leave_at]
        if self.state == "active":
            times += [self._flush_at, self._receipt_at, self._next_heartbeat(), self._reports.next_at()]
            if not self._outbox.overfull:
                times.append(self._lines.next_at())
        return min(times)

    def _time_out(self, now: float) -> None:
        while self._deadlines and self._deadlines[0][0] <= now:
            lease = heapq.heappop(self._deadlines)[2]
            if lease.token in self.leases:
                self._cancel(lease, TIMEOUT)

    def _watch_stream(self, now: float) -> None:
        if now >= self._leave_at:
            self._commands.append(Disconnect("the server asked to go"))
            self._go_idle(now)
        elif now >= self._last_frame + 2 * self._interval + 5.0:
            self._abandon("no frame for two heartbeat intervals and 5 s", now)

    def _start_ready(self, now: float) -> None:
        if self._drain_at is not None:
            return
        while not self._outbox.overfull and (leases := self._lines.first(now)):
            if any(lease.token in self.leases and now >= lease.trusted_until for lease in leases):
                return  # somebody else may have it by now; the next acknowledged heartbeat or Welcome tells
            self._lines.take(leases)
            if leases[0].token in self.leases:  # not dropped since; of a batch, all are there
                self._start(leases, now)

    def _start(self, leases: list[Lease], now: float) -> None:
        self._lines.started(leases)
        limits = [seconds(lease.job.timeout) for lease in leases if lease.job.HasField("timeout")]
        for lease in leases:
            lease.started = now
            self._started.append(lease.token)
            if limits:
                lease.deadline = now + min(limits)
                self._starts += 1
                heapq.heappush(self._deadlines, (lease.deadline, self._starts, lease))
        if len(self._deadlines) > 2 * len(self.leases) + 64:  # most are of jobs that ended long before
            self._deadlines = [entry for entry in self._deadlines if entry[2].token in self.leases]
            heapq.heapify(self._deadlines)
        self._flush_soon(now)
        batch = leases[0].job.task.type in self.config.batches
        self._commands.append(StartBatch(leases) if batch else Start(leases[0]))

    # --- draining -----------------------------------------------------------------------------------------------

    def _drain_on(self, now: float) -> None:
        assert self._drain_at is not None
        if now >= self._drain_at and self.running:
            for lease in self.leases.values():
                self._cancel(lease, SHUTDOWN, "worker is shutting down")
            if self._kill_at is None:
                self._kill_at = now + SHUTDOWN_GRACE
        if self._kill_at is not None and now >= self._kill_at:
            for lease in list(self.leases.values()):
                del self.leases[lease.token]
                if lease.started is not None:
                    self._lines.stopped(lease)
                if lease.lost:
                    self._forget(lease)
                else:
                    self._report(lease, released("worker shut down"), now)

    def _close_when_done(self, now: float) -> None:
        """Draining: half-close once nothing is in hand and everything is acknowledged."""
        if self.state == "over" or (self.leases and self.state != "closing"):
            return
        if self.state == "closing":
            if self._last_ack_at is not None and now >= self._last_ack_at:
                self._exit(None)
        elif not self._outbox:
            if self.state == "active":
                self._commands.append(HalfClose())
                self.state, self._last_ack_at = "closing", now + SHUTDOWN_GRACE
            else:
                self._exit(None)
        elif self._last_ack_at is None:
            # Without a stream there is hope until the grace is over.
            hopeful = self.state != "active" and self._kill_at is None
            self._last_ack_at = (self._drain_at if hopeful and self._drain_at else now) + SHUTDOWN_GRACE
        elif now >= self._last_ack_at:
            self._commands.append(Warn(f"{len(self._outbox)} outcomes were not acknowledged; those jobs may run again"))
            self._exit(None)

    def _exit(self, error: JobwireError | None) -> None:
        if self.state != "over":
            self.state = "over"
            self._commands.append(Exit(error))

    # --- the stream's life --------------------------------------------------------------------------------------

    def _hello(self, now: float) -> Frame:
        config = self.config
        self._outbox.rewind()
        self._started.clear()  # `running_for` says it
        self._vanished.clear()  # `held` does not name them
        self._seq, self._received = 1, 0
        self._heartbeats.restart()
        self._flush_at = self._receipt_at = NEVER
        self._say_state = self._quiet or self._drain_at is not None
        self._say_capacity = False
        self.state, self._opened_at, self._last_frame, self._leave_at = "opening", now, now, NEVER
        hello = pb.Hello(
            session_id=config.session_id,
            worker_id=config.worker_id,
            types=config.types,
            subscriptions=config.subscriptions,
            capacity=self._capacity(),
            info=config.info,
            revision=1,
        )
        if config.lease_ttl is not None:
            hello.lease_ttl.CopyFrom(duration(config.lease_ttl))
        for lease in [*self.leases.values(), *self._outbox.waiting.values()]:
            held = hello.held.add(lease_token=lease.token)
            if lease.started is not None:
                held.running_for.CopyFrom(duration(max(now - lease.started, 0.0)))
            if lease.token in self.leases:
                self._reports.again(lease, now)
        return Frame(seq=1, hello=hello)

    def _capacity(self) -> worker_service_pb2.Capacity:
        return pb.Capacity(slots=self.slots, concurrency=self.config.concurrency)

    def _welcome(self, welcome: worker_service_pb2.Welcome, now: float) -> None:
        self.state = "active"
        self._lease_ttl = seconds(welcome.lease_ttl) or self._lease_ttl
        self._delivery_ttl = seconds(welcome.delivery_ttl) or self._delivery_ttl
        self._interval = seconds(welcome.heartbeat_interval) or self._lease_ttl / 3
        self._heartbeats.due_at(self._opened_at + self._interval)
        if welcome.HasField("limits"):
            self.limits.MergeFrom(welcome.limits)
        for lease in self.leases.values():
            lease.trusted_until = self._opened_at + self._lease_ttl
        for token in welcome.lost:
            self._lost(token)
        for token in welcome.settled:
            self._settled(token)
        for order in welcome.cancels:
            self._ordered(order, now)
        if welcome.HasField("directive"):
            self._directed(welcome.directive, now)
        if self._outbox:
            self._flush_at = now
        self._commands.append(Welcomed(welcome))

    def _backoff(self, now: float) -> float:
        if self.state == "active" and now - self._opened_at >= SETTLED_AFTER:
            self._failures = 0
        # With jobs in hand the next try comes while their leases still run.
        most = min(BACKOFF_MAX, self._lease_ttl / 3) if self.leases or self._outbox else BACKOFF_MAX
        ceiling = min(most, BACKOFF_FIRST * 2 ** min(self._failures, 20))
        self._failures += 1
        return self._rng.uniform(0.0, ceiling)

    def _abandon(self, why: str, now: float) -> None:
        self._commands.append(Disconnect(why))
        if self.state == "closing":
            self._exit(None)
        else:
            self._go_idle(now + self._backoff(now))

    def _go_idle(self, connect_at: float) -> None:
        self.state, self._connect_at = "idle", connect_at
        self._leave_at = NEVER

    # --- what a frame brings ------------------------------------------------------------------------------------

    def _delivered(self, job: worker_service_pb2.JobLease, now: float) -> None:
        lease = Lease(job, now, self._delivery_ttl)
        self.leases[lease.token] = lease
        self._heartbeats.arrived(lease.token, now)
        self._receipt_at = min(self._receipt_at, now + RECEIPT_DELAY)
        if self._drain_at is not None:
            self._give_back(lease, "worker is shutting down", now)
        else:
            self._lines.add(lease)

    def _ordered(self, order: worker_service_pb2.CancelOrder, now: float) -> None:
        lease = self.leases.get(order.lease_token)
        if lease is None:
            return
        reason = _CANCEL_REASONS.get(order.reason, REQUESTED)
        if lease.started is None:
            self._drop(lease)
            self._report(lease, cancelled(order.message or reason), now)
        else:
            self._cancel(lease, reason, order.message)

    def _cancel(self, lease: Lease, reason: str, message: str = "") -> None:
        if lease.started is None or lease.cancel in (reason, LEASE_LOST):
            return
        lease.cancel, lease.cancel_message = reason, message
        self._commands.append(Cancel(lease, reason))

    def _lost(self, token: str) -> None:
        """Gone for good. A handler that runs keeps its name in the inventory until it has stopped (W1)."""
        self._settled(token)
        lease = self.leases.get(token)
        if lease is None:
            return
        lease.lost = True
        if lease.started is None:
            self._drop(lease)
            self._forget(lease)
        else:
            self._cancel(lease, LEASE_LOST, "the lease was lost")

    def _settled(self, token: str) -> None:
        """Its outcome is durable, or will never be wanted."""
        report = self._outbox.settled(token)
        if report is not None:
            self._forget(report.lease)

    def _drop(self, lease: Lease) -> None:
        """It will not start."""
        del self.leases[lease.token]
        self._lines.drop(lease)

    def _forget(self, lease: Lease) -> None:
        self._heartbeats.gone(lease.token)
        self._reports.forget(lease.token)

    def _acked(self, seq: int, now: float) -> None:
        for report in self._outbox.acked(seq):
            self._forget(report.lease)
        if not self._outbox.in_flight and self._flush_at != NEVER:
            self._flush_at = now

    def _rejected(self, rejection: worker_service_pb2.OutcomeRejection, now: float) -> None:
        report = self._outbox.rejected(rejection.lease_token)
        if report is None:
            return
        self._forget(report.lease)
        name = pb.RejectionReason.Name(rejection.reason) if rejection.reason in pb.RejectionReason.values() else "?"
        about = f"{name.removeprefix('REJECTION_REASON_')}: {rejection.message}".rstrip(": ")
        armed = rejection.reason in (pb.REJECTION_REASON_INVALID, pb.REJECTION_REASON_UNSUPPORTED)
        task = report.lease.job.task
        self._commands.append(Warn(f"outcome of job {task.id} ({task.type}) was not applied, {about}"))
        if armed and not report.rearmed:
            outcome = unprocessable(f"the server refused the outcome, {about}")
            outcome.run_duration.CopyFrom(report.outcome.run_duration)
            self._report(report.lease, outcome, now, rearmed=True)
            self._heartbeats.arrived(report.token, now)

    def _heartbeat_acked(self, ack: worker_service_pb2.HeartbeatAck, now: float) -> None:
        self._heartbeats.acked(ack.heartbeat_seq, self._lease_ttl)
        for token in ack.lost:
            self._lost(token)

    def _directed(self, directive: worker_service_pb2.Directive, now: float) -> None:
        if directive.kind == pb.DIRECTIVE_KIND_TERMINATE:
            if self._drain_at is None:
                self.drain(now, seconds(directive.grace) if directive.HasField("grace") else None)
        elif directive.kind in (pb.DIRECTIVE_KIND_QUIET, pb.DIRECTIVE_KIND_RUN):
            quiet = directive.kind == pb.DIRECTIVE_KIND_QUIET
            if quiet != self._quiet:
                self._quiet = quiet
                self._say_state = True
                self._say_capacity = not quiet

    # --- outcomes and frames ------------------------------------------------------------------------------------

    def _give_back(self, lease: Lease, reason: str, now: float) -> None:
        if lease.token in self.leases:
            self._drop(lease)
            self._report(lease, released(reason), now)

    def _report(self, lease: Lease, outcome: Outcome, now: float, *, rearmed: bool = False) -> None:
        outcome = fitting(outcome, self.limits)
        outcome.lease_token = lease.token
        if lease.checkpoint is not None and outcome.WhichOneof("result") in ("failed", "snoozed", "released"):
            outcome.checkpoint.CopyFrom(lease.checkpoint)
        self._outbox.add(lease, outcome, rearmed=rearmed)
        self._flush_soon(now)

    def _flush_soon(self, now: float) -> None:
        """At once with nothing in flight or a full frame, else within 2 ms."""
        at = now + FLUSH_DELAY if self._outbox.in_flight and not self._outbox.full_frame else now
        self._flush_at = min(self._flush_at, at)

    def _next_heartbeat(self) -> float:
        return self._heartbeats.next_at(self._delivery_ttl)

    def _compose(self, now: float) -> list[Frame]:
        beat = now >= self._next_heartbeat()
        reports = now >= self._reports.next_at()
        due = now >= min(self._flush_at, self._receipt_at)
        if not (beat or reports or due or self._say_state or self._say_capacity):
            return []
        frames = [self._frame()]
        self._add_controls(frames[0])
        # Progress and log lines go ahead of the outcome of their job.
        ending = {**self._outbox.waiting, **self._vanished}
        if reports or ending:
            self._reports.write(frames, ending, now, self._frame)
        while self._outbox.unsent:
            if frames[-1].progress or frames[-1].logs or frames[-1].outcomes:
                frames.append(self._frame())
            for token in self._outbox.fill(frames[-1]):
                self._heartbeats.gone(token)
        if beat:
            # The inventory follows the outcomes, so that it need not name their leases.
            if frames[-1].outcomes or self._vanished:
                frames.append(self._frame())
            self._add_heartbeat(frames[-1], now)
            for lease in self._vanished.values():
                self._forget(lease)
            self._vanished.clear()
        self._flush_at = self._receipt_at = NEVER
        return frames

    def _frame(self) -> Frame:
        self._seq += 1
        return Frame(seq=self._seq, received_seq=self._received)

    def _add_controls(self, frame: Frame) -> None:
        frame.started.extend(self._started)
        self._started.clear()
        if self._say_state:
            state = pb.WORKER_STATE_QUIET if self._quiet else pb.WORKER_STATE_ACTIVE
            frame.state = state if self._drain_at is None else pb.WORKER_STATE_DRAINING
        if self._say_capacity:
            frame.capacity.CopyFrom(self._capacity())
        self._say_state = self._say_capacity = False

    def _add_heartbeat(self, frame: Frame, now: float) -> None:
        self._heartbeats.write(frame, self.leases.values(), self.running, self.config.vitals(), now)
        self._heartbeats.due_at(now + self._interval)
        prefetch = self.config.wanted_prefetch(self._mean_run)
        if prefetch != self._prefetch:
            self._prefetch = prefetch
            frame.capacity.CopyFrom(self._capacity())
