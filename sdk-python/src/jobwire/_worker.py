"""The Worker: drives the session machine with a clock, a stream and executors.

Threads: one for the session, which owns the machine and waits on one queue; one that reads the stream; grpcio's writer;
one for the event loop of `async def` handlers; one per running `def` handler, or child process of the pool. The queue
takes functions of (session, now); everything that happens anywhere becomes one of them.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import multiprocessing
import os
import platform
import queue
import signal
import socket
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from ._batch_execution import BatchExecution
from ._calls import Attempts, bridge
from ._context import Sink, log_capture
from ._errors import JobwireError, Unavailable
from ._executors import Execution, LoopExecutor, ThreadExecutor
from ._health import Gauges, HealthServer, Metrics, health_address
from ._instrument import instrument
from ._leases import (
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
    released,
)
from ._pool import ProcessExecutor, cpu_count, targets
from ._reports import NEVER
from ._schedules import refused
from ._session import SHUTDOWN_GRACE, Session
from ._subscriptions import batches, check_number, subscriptions
from ._transport import BidiStream, Transport
from ._types import Duration, Queue, to_seconds
from ._version import __version__
from ._vitals import Vitals
from ._workflow import fetch_results
from .v1 import job_pb2, worker_service_pb2

if TYPE_CHECKING:
    from ._app import App

log = logging.getLogger("jobwire.worker")
Event = Callable[[Session, float], None]
EVENTS_PER_POLL = 1000
PUT_TIMEOUT = 30.0  # of one try to put a schedule


class Worker:
    """Runs an App's tasks. Made by `app.worker(...)`, which documents the options."""

    def __init__(
        self,
        app: App,
        *,
        queues: Iterable[str | Queue] | None = None,
        concurrency: int = 10,
        prefetch: int | None = None,
        pool_size: int | None = None,
        max_jobs: int | None = None,
        max_rss: int | None = None,
        grace: Duration = "25s",
        lease_ttl: Duration | None = None,
        name: str = "",
        app_version: str = "",
        labels: Mapping[str, str] | None = None,
        health: int | str | None = None,
        put_schedules: bool = True,
        on_ready: Callable[[], None] | None = None,
    ) -> None:
        check_number("concurrency", concurrency, 1)
        for option, value, least in (
            ("prefetch", prefetch, 0),
            ("pool_size", pool_size, 1),
            ("max_jobs", max_jobs, 1),
            ("max_rss", max_rss, 1),
        ):
            if value is not None:
                check_number(option, value, least)
        if not app.tasks:
            raise ValueError("the app has no tasks: declare some with @app.task, in a module that is imported")
        self._tasks = dict(app.tasks)
        self._connection = app._connection()
        self._schedules = list(app._schedules.values()) if put_schedules else []
        self._on_ready = on_ready
        self._health = health
        if health is not None:
            health_address(health)
        self._grace = to_seconds(grace, "grace")
        host = socket.gethostname()
        self.config = SessionConfig(
            session_id=str(uuid.uuid4()),
            worker_id=name or f"{host}:{os.getpid()}",
            types=sorted(self._tasks),
            subscriptions=subscriptions(self._tasks, queues),
            concurrency=concurrency,
            pool_types=frozenset(name for name, task in self._tasks.items() if task.executor == "process"),
            pool_size=min(pool_size or cpu_count(), concurrency),
            batches=batches(self._tasks, queues, concurrency, prefetch),
            prefetch=prefetch,
            lease_ttl=None if lease_ttl is None else to_seconds(lease_ttl, "lease_ttl"),
            info=worker_service_pb2.WorkerInfo(
                hostname=host,
                pid=os.getpid(),
                sdk="jobwire-python",
                sdk_version=__version__,
                runtime=f"{platform.python_implementation()} {platform.python_version()}",
                app_version=app_version,
                labels=dict(labels or {}),
            ),
            grace=self._grace,
            vitals=Vitals(),
        )
        self.config.info.start_time.GetCurrentTime()
        self._session = Session(self.config)  # touched by the session's thread only
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._executors: dict[str, LoopExecutor | ThreadExecutor] = {
            "loop": (loop := LoopExecutor()),
            "thread": ThreadExecutor(concurrency),
        }
        self._loop = loop
        if self.config.pool_types:
            pooled = [task for task in self._tasks.values() if task.executor == "process"]
            self._executors["process"] = ProcessExecutor(
                self.config.pool_size, targets(pooled), self._vanished, max_jobs=max_jobs, max_rss=max_rss
            )
        self.metrics = Metrics(self._gauges)
        self._health_server: HealthServer | None = None
        self._recycle: Callable[[int], bool] | None = None  # with the jobs this process ran: enough?
        self._jobs_here = 0
        self._executions: dict[str, Execution] = {}
        self._sink = Sink(
            self._progressed, self._logged, time.monotonic, self.config.worker_id, functools.partial(fetch_results, app)
        )
        self._stream: BidiStream | None = None
        self._transport: Transport | None = None
        self._ready = threading.Event()
        self._ended: Future[None] = Future()
        self._thread: threading.Thread | None = None
        self._pid = 0  # where it was started
        self._over = False
        self._complained = False

    # --- life -----------------------------------------------------------------------------------------------------

    def run(self, *, signals: bool = True) -> None:
        """Works until SIGTERM, SIGINT, `stop()`, or the server's order to terminate; returns after the drain.

        The first signal drains: nothing new is taken, what has not started goes back, handlers may finish within
        `grace`; then they are cancelled (reason shutdown) and, 2 s later, released. A second signal releases at once.
        signals: install the handlers, when this is the main thread. Raises JobwireError when the server refuses this
        worker for good. Every thread is a daemon, so a handler that hangs does not keep the process.
        """
        if signals and threading.current_thread() is threading.main_thread():
            self._run_with_signals()
        else:
            self.start()
        self._ended.result()

    def _run_with_signals(self) -> None:
        # Python runs signal handlers on the main thread, between two instructions. One that waits for a lock misses a
        # signal that came to another thread, or just before the wait; it cannot miss a byte on a socket.
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.setblocking(False)
            installed = {n: signal.signal(n, self._signalled) for n in (signal.SIGTERM, signal.SIGINT)}
            woken_before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
            try:
                self.start()
                self._ended.add_done_callback(lambda _: _wake(theirs))
                while not self._ended.done():
                    ours.recv(64)
            finally:
                signal.set_wakeup_fd(woken_before)
                for number, handler in installed.items():
                    signal.signal(number, handler)

    async def arun(self) -> None:
        """Works until `stop()`, the server's order to terminate, or cancellation, which drains first.

        Handlers run on the worker's own event loop, not on this one. Installs no signal handlers.
        """
        self.start()
        try:
            await bridge(self._ended)
        except BaseException:
            self.stop(wait=False)
            await bridge(self._ended)
            raise

    def start(self) -> None:
        """Begins to work in the background. A worker works once."""
        if getattr(multiprocessing.current_process(), "_inheriting", False):
            raise RuntimeError(
                "a child process imports this module to find its tasks, and would run a worker of its own: put what "
                'the script runs under `if __name__ == "__main__":`'
            )
        if self._thread is not None:
            self._check_process()
            raise RuntimeError("this worker was started before; make another one")
        if self._health is not None:
            self._health_server = HealthServer(self._health, self.metrics)
        self._ended.set_running_or_notify_cancel()
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._drive, name="jobwire-session", daemon=True)
        self._thread.start()
        _started.add(self)

    def stop(self, grace: Duration | None = None, *, wait: bool = True) -> None:
        """Drains within `grace` (default: the worker's own). Called again: releases everything at once.

        wait: return when the worker has ended; raises what `run` would.
        """
        self._check_process()
        limit = None if grace is None else to_seconds(grace, "grace")
        self._events.put(lambda session, now: session.drain(now, limit))
        if wait and self._thread is not None:
            self._ended.result()

    def wait_ready(self, timeout: float | None = None) -> bool:
        """Waits until the server has welcomed the worker for the first time, or for `timeout` seconds."""
        self._check_process()
        return self._ready.wait(timeout)

    @property
    def running(self) -> int:
        """Handlers that run now."""
        return len(set(self._executions.values()))

    @property
    def loop_lag(self) -> float:
        """How late the event loop of `async def` handlers is, in seconds; measured once a second while some run."""
        return self._loop.latest_lag

    def _check_process(self) -> None:
        if self._thread is not None and self._pid != os.getpid():
            raise RuntimeError(
                f"this worker runs in process {self._pid}, and a fork took none of its threads along: make a worker in "
                "this process, after the fork"
            )

    def _signalled(self, number: int, _frame: Any) -> None:
        # SimpleQueue.put may be interrupted by itself; logging could deadlock here, so the session's thread does it.
        name = signal.Signals(number).name

        def drain(session: Session, now: float) -> None:
            log.info("%s: draining; once more to give up at once", name)
            session.drain(now)

        self._events.put(drain)

    @property
    def health_port(self) -> int | None:
        """The port of the health endpoint, once started; None without one. With `health=0` the system picked it."""
        return None if self._health_server is None else self._health_server.port

    def _gauges(self) -> Gauges:
        # Read beside the session's thread, one number at a time.
        session = self._session
        ready = session.state == "active" and not session.draining
        return Gauges(session.slots, session.running, self._loop.latest_lag, ready)

    # --- the session's thread -------------------------------------------------------------------------------------

    def _drive(self) -> None:
        try:
            with log_capture, instrument().working(self):
                error = self._work()
        except BaseException as failure:
            log.exception("the worker's session failed")
            error = failure
        finally:
            self._close_stream()
            for executor in self._executors.values():
                executor.stop()
            if self._health_server is not None:
                self._health_server.close()
        if error is None:
            self._ended.set_result(None)
        else:
            self._ended.set_exception(error)

    def _work(self) -> BaseException | None:
        self._transport = Transport(self._connection)
        session = self._session
        self._put_schedules(session, self._transport)
        while True:
            polled = session.poll(time.monotonic())
            if self._stream is not None:
                for frame in polled.frames:
                    self._stream.send(frame)
            self._perform(polled.commands)
            for command in polled.commands:
                if isinstance(command, Exit):
                    self._let_go(session, SHUTDOWN_GRACE if command.error else 0.0)
                    return command.error
            self._await_events(session, polled.wake)

    def _put_schedules(self, session: Session, transport: Transport) -> None:
        """Puts what the app declared, before a job is taken. Waits for a server; raises what it refuses."""
        for request in self._schedules:
            attempts = Attempts(None, new_token=bool(transport.connection.token_file), on_failure=transport.rotate)
            while not session.draining:
                call = transport.unary("PutSchedule", request, PUT_TIMEOUT)
                call.add_done_callback(lambda _: self._events.put(_nothing))
                self._idle(session, lambda call=call: call.done(), NEVER)  # type: ignore[misc]
                if not call.done():
                    call.abandon()
                    return
                try:
                    call.result()
                    break
                except JobwireError as error:
                    resume_at = time.monotonic() + attempts.pause(refused(request.id, error))
                self._idle(session, lambda: False, resume_at)

    def _idle(self, session: Session, enough: Callable[[], bool], until: float) -> None:
        """Waits without a stream, for `enough`, a moment, or the order to drain."""
        while not (enough() or session.draining) and (now := time.monotonic()) < until:
            self._await_events(session, min(until, now + 60.0))

    def _let_go(self, session: Session, patience: float) -> None:
        """Refused for good: the handlers were cancelled, and may clean up for a moment."""
        until = time.monotonic() + patience
        while self._executions and time.monotonic() < until:
            self._await_events(session, until)

    def _await_events(self, session: Session, wake: float) -> None:
        now = time.monotonic()
        if self._loop.busy:
            wake = min(wake, now + 1.0)
            warning = self._loop.lag(now)
            if warning is not None:
                log.warning("%s", warning)
        try:
            event = self._events.get(timeout=max(wake - now, 0.0))
            for _ in range(EVENTS_PER_POLL):
                event(session, time.monotonic())
                event = self._events.get_nowait()
            event(session, time.monotonic())
        except queue.Empty:
            pass

    def _perform(self, commands: list[Command]) -> None:
        starting: dict[str, list[Execution]] = {}
        for command in commands:
            match command:
                case Start(lease):
                    execution = self._execution(lease)
                    if execution is not None:
                        starting.setdefault(execution.task.executor, []).append(execution)
                case StartBatch(leases):
                    batch = self._batch_execution(leases)
                    starting.setdefault(batch.task.executor, []).append(batch)
                case Cancel(lease, reason):
                    self._cancel(lease, reason)
                case Connect(hello):
                    self._open(hello)
                case Disconnect(why):
                    log.info("leaving the server: %s", why)
                    if self._stream is not None and self._transport is not None:
                        self._transport.rotate(self._stream.endpoint)
                    self._close_stream()
                case HalfClose():
                    if self._stream is not None:
                        self._stream.half_close()
                case Welcomed(welcome):
                    self._welcomed(welcome)
                case Warn(message):
                    log.warning("%s", message)
        for kind, executions in starting.items():
            self._executors[kind].start(executions)

    def _execution(self, lease: Lease) -> Execution | None:
        task = self._tasks.get(lease.job.task.type)
        if task is None:
            self._finished(lease.token, released(f"no handler for {lease.job.task.type}"))
            return None
        execution = Execution(task, lease, self._session.limits, self._sink, self._finished)
        self._executions[lease.token] = execution
        return execution

    def _batch_execution(self, leases: list[Lease]) -> Execution:
        task = self._tasks[leases[0].job.task.type]
        execution = BatchExecution(task, leases, self._session.limits, self._sink, self._finished)
        self._executions.update((lease.token, execution) for lease in leases)
        return execution

    def _cancel(self, lease: Lease, reason: str) -> None:
        execution = self._executions.get(lease.token)
        if execution is not None and execution.stops(lease):
            log.info("cancelling job %s (%s): %s", lease.job.task.id, lease.job.task.type, reason)
            self._executors[execution.task.executor].cancel(execution)

    def _welcomed(self, welcome: worker_service_pb2.Welcome) -> None:
        assert self._transport is not None
        self._complained = False
        log.info("connected to %s at %s", welcome.server_id or "the server", self._transport.endpoint.address)
        if welcome.HasField("server_time"):
            skew = time.time() - welcome.server_time.ToNanoseconds() / 1e9
            if abs(skew) > 2.0:
                log.warning("this clock is %.1f s %s the server's", abs(skew), "ahead of" if skew > 0 else "behind")
        if self._ready.is_set():
            instrument().reconnected(self)
        else:
            self._ready.set()
            if self._on_ready is not None:
                try:
                    self._on_ready()
                except Exception:
                    log.exception("on_ready failed")

    # --- the stream -----------------------------------------------------------------------------------------------

    def _open(self, hello: Frame) -> None:
        assert self._transport is not None
        self._close_stream()
        try:
            stream = self._transport.bidi("StreamJobs", hello, own_channel=True)
        except Exception as error:
            broken: JobwireError = Unavailable(f"the stream could not be opened: {error}", cause=error)
            if isinstance(error, JobwireError) and not self._ready.is_set():
                broken = error  # a wrong configuration; once it has worked, a file may come back
            self._events.put(lambda session, now: self._broke(session, broken))
            return
        self._stream = stream
        self.metrics.streams += 1
        threading.Thread(target=self._read, args=(stream,), name="jobwire-reader", daemon=True).start()

    def _read(self, stream: BidiStream) -> None:
        """The reader's thread. Never waits for anything but the stream (W8)."""
        error: JobwireError | None = None
        try:
            for frame in stream:
                self._events.put(lambda session, now, frame=frame: self._received(session, stream, frame, now))  # type: ignore[misc]
        except JobwireError as caught:
            error = caught
        except Exception as caught:
            error = Unavailable(f"the stream broke: {caught}", cause=caught)

        def ended(session: Session, now: float) -> None:
            if stream is self._stream:
                self._broke(session, error)

        self._events.put(ended)

    def _received(self, session: Session, stream: BidiStream, frame: Any, now: float) -> None:
        if stream is self._stream:
            session.received(frame, now)

    def _broke(self, session: Session, error: JobwireError | None) -> None:
        assert self._transport is not None
        endpoint = self._stream.endpoint if self._stream is not None else None
        self._close_stream()
        session.disconnected(error, time.monotonic())
        if session.state == "over":
            return
        level = logging.DEBUG if self._complained else logging.WARNING
        log.log(level, "%s; reconnecting", error.message if error else "the server ended the stream")
        self._complained = True
        if error is not None and error.code == "UNAVAILABLE":
            self._transport.rotate(endpoint)

    def _close_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.cancel()

    # --- called by handlers' threads ------------------------------------------------------------------------------

    def _finished(self, token: str, outcome: Outcome | None) -> None:
        def finished(session: Session, now: float) -> None:
            execution = self._executions.pop(token, None)
            if execution is not None:
                self._loop.ended(token)
                self.metrics.ended(execution.task.name, (outcome and outcome.WhichOneof("result")) or "lost")
                self._jobs_here += execution.task.executor != "process"
            session.finished(token, outcome, now)
            if self._recycle is not None and not session.draining and self._recycle(self._jobs_here):
                log.info("this process has done enough: draining, for another one to go on")
                session.drain(now)

        self._events.put(finished)

    def _vanished(self, execution: Execution, why: str) -> None:
        """The process of a handler died with it."""
        task = execution.lease.job.task
        log.error("job %s (%s): %s; the server counts a crash", task.id, task.type, why)
        token = execution.lease.token
        line = job_pb2.LogLine(level=job_pb2.LOG_LEVEL_ERROR, message=why, attempt=execution.lease.job.attempt)
        line.time.GetCurrentTime()

        def vanished(session: Session, now: float) -> None:
            self._executions.pop(token, None)
            self.metrics.ended(task.type, "crashed")
            session.logged(token, line, now)
            session.vanished(token, now)

        self._events.put(vanished)

    def _progressed(self, token: str, progress: Any, checkpoint: Any) -> None:
        self._events.put(lambda session, now: session.progressed(token, progress, checkpoint, now))

    def _logged(self, token: str, line: Any) -> None:
        self._events.put(lambda session, now: session.logged(token, line, now))


def _nothing(_session: Session, _now: float) -> None:
    """Wakes the session's thread."""


_started: weakref.WeakSet[Worker] = weakref.WeakSet()


def _before_fork() -> None:
    # It cannot be forbidden from here, only said: gRPC holds its threads up, for seconds at worst.
    if any(not worker._ended.done() and worker._pid == os.getpid() for worker in list(_started)):
        log.warning(
            "this process forks while a worker runs in it: the worker is held up, and does not run in the child; use "
            "executor='process', subprocess, or multiprocessing with forkserver or spawn"
        )


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork)


def _wake(sleeper: socket.socket) -> None:
    # Closed: nobody sleeps any more.
    with contextlib.suppress(OSError):
        sleeper.send(b"\0")
