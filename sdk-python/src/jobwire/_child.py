"""What runs in a child of the pool: one handler at a time, in the main thread.

A second thread reads what the parent says. No pickle carries user data: a job comes as its lease in the contract's own
encoding, its arguments being JSON, and an outcome goes back the same way. Messages are one byte that says what they
are, and a body; the lists below name both.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import queue
import signal
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

from ._app import apps
from ._context import Sink, log_capture
from ._errors import Cancelled
from ._executors import Execution
from ._instrument import instrument
from ._leases import Lease, Outcome
from ._tasks import Task
from ._vitals import resident_bytes
from .v1 import common_pb2, worker_service_pb2

# parent → child
JOB = b"J"  # HEADER, Limits, JobLease without its token
CANCEL = b"C"  # reason, a zero byte, message
TRUST = b"T"  # SECONDS: how long the lease may still be trusted
LEAVE = b"X"
# child → parent
READY = b"R"  # the modules of the tasks are imported
BEGUN = b"B"  # JOB arrived; what happens from here on is the job's doing
OUTCOME = b"O"  # RESIDENT, then an Outcome; or nothing, when there is nothing to report
PROGRESS, CHECKPOINT, LOG = b"P", b"K", b"L"  # Progress, Payload, LogLine
UNKNOWN = b"U"  # text: why the task cannot be found
ASK_TRUST = b"A"

HEADER = struct.Struct("!ddI")  # seconds until the timeout (infinite: none), seconds of trust, size of Limits
SECONDS = struct.Struct("!d")
RESIDENT = struct.Struct("!Q")

Target = tuple[str, str]  # the module that declares a task, and the task's name


def main(connection: Connection, targets: list[Target], log_level: int) -> None:
    """Entry point of the process; returns when the parent lets it go."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent drains
    child = Child(connection)
    signal.signal(signal.SIGTERM, child.interrupted)
    logging.getLogger().setLevel(log_level)
    log_capture.forwarded = True
    with log_capture:
        child.serve(targets)


def find(target: Target) -> Task[Any, Any]:
    """The task that the import of a module declares. LookupError or the import's own error."""
    module, name = target
    importlib.import_module(module)
    for app in list(apps):
        task = app.tasks.get(name)
        if task is not None and task.function.__module__ in (module, sys.modules[module].__name__):
            return task
    raise LookupError(
        f"importing {module} declares no task {name!r}: a handler with executor='process' must be declared at the top "
        "level of the module that defines it"
    )


class ChildLease(Lease):
    """A lease whose trust is known to the parent."""

    __slots__ = ("_ask", "_trusted_until")

    def __init__(self, job: worker_service_pb2.JobLease, now: float, ask: Callable[[], float]) -> None:
        self._ask = ask
        super().__init__(job, now, 0.0)

    @property
    def trusted_until(self) -> float:
        """Asked each time: the server confirms the lease to the parent."""
        return self._ask()

    @trusted_until.setter
    def trusted_until(self, value: float) -> None:
        self._trusted_until = value


class ChildExecution(Execution):
    """An attempt that SIGTERM may interrupt, but only inside the handler."""

    child: Child

    def _call(self, args: list[Any], kwargs: dict[str, Any]) -> Any:
        try:
            self.child.open(self.lease)
            return super()._call(args, kwargs)
        finally:
            self.child.interruptible = False


class Child:
    """The two threads of the process."""

    def __init__(self, connection: Connection) -> None:
        self.interruptible = False  # written by the main thread only
        self._connection = connection
        self._main = threading.get_ident()
        self._jobs: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._sending = threading.Lock()
        self._pending = False  # an interruption that came while the main thread was sending
        self._running: ChildExecution | None = None
        self._asking = threading.Lock()
        self._answers: queue.SimpleQueue[float] = queue.SimpleQueue()
        self._tasks: dict[str, Task[Any, Any] | str] = {}

    def serve(self, targets: list[Target]) -> None:
        """Imports the tasks, then runs what comes."""
        threading.Thread(target=self._read, name="jobwire-parent", daemon=True).start()
        for target in targets:
            try:
                self._tasks[target[1]] = find(target)
            except Exception as error:  # whoever enqueues a job of it hears why
                self._tasks[target[1]] = "".join(traceback.format_exception_only(type(error), error)).strip()
        self.send(READY)
        while (message := self._jobs.get()) is not None:
            self._run(message)

    def open(self, lease: Lease) -> None:
        """The handler begins: from here on it can be interrupted, and is at once when it was cancelled before."""
        self._pending = False
        self.interruptible = True
        if lease.cancel is not None:
            self.interruptible = False
            raise Cancelled(lease.cancel)

    def interrupted(self, *_: Any) -> None:
        """SIGTERM. One that the parent did not announce came to a whole group: the parent drains, nothing to do."""
        execution = self._running
        if execution is None or execution.lease.cancel is None:
            return
        if self.interruptible:
            self.interruptible = False
            raise Cancelled(execution.lease.cancel)
        self._pending = True

    def send(self, kind: bytes, body: bytes = b"") -> None:
        """From any thread. An interruption waits: half a message would end the conversation."""
        with self._shielded(), self._sending:
            try:
                self._connection.send_bytes(kind + body)
            except OSError:
                os._exit(1)  # the parent is gone, and the lease with it

    @contextlib.contextmanager
    def _shielded(self) -> Iterator[None]:
        if threading.get_ident() != self._main or not self.interruptible:
            yield
            return
        self.interruptible = False
        try:
            yield
        finally:
            self.interruptible = True
        execution = self._running
        if self._pending and execution is not None:
            self._pending = self.interruptible = False
            raise Cancelled(execution.lease.cancel)

    def _run(self, message: bytes) -> None:
        now = time.monotonic()
        timeout, _, size = HEADER.unpack_from(message)
        limits = common_pb2.Limits.FromString(message[HEADER.size : HEADER.size + size])
        job = worker_service_pb2.JobLease.FromString(message[HEADER.size + size :])
        with instrument().carried(job.task.headers):
            self._run_job(job, limits, timeout, now)

    def _run_job(self, job: worker_service_pb2.JobLease, limits: common_pb2.Limits, timeout: float, now: float) -> None:
        task = self._tasks.get(job.task.type, "it is not among the worker's tasks")
        if isinstance(task, str):
            self.send(UNKNOWN, task.encode(errors="replace"))
            return
        lease = ChildLease(job, now, self._ask_trust)
        lease.started = now
        lease.deadline = None if timeout == float("inf") else now + timeout
        sink = Sink(self._progressed, lambda _, line: self.send(LOG, line.SerializeToString()), time.monotonic)
        execution = ChildExecution(task, lease, limits, sink, self._finished)
        execution.child = self
        self._running = execution
        self.send(BEGUN)
        execution.run_unseen()

    def _finished(self, _: str, outcome: Outcome | None) -> None:
        self._running = None
        self.send(OUTCOME, b"" if outcome is None else RESIDENT.pack(resident_bytes()) + outcome.SerializeToString())

    def _progressed(self, _: str, progress: Any, checkpoint: Any) -> None:
        if progress is not None:
            self.send(PROGRESS, progress.SerializeToString())
        if checkpoint is not None:
            self.send(CHECKPOINT, checkpoint.SerializeToString())

    def _ask_trust(self) -> float:
        with self._asking:
            while not self._answers.empty():
                self._answers.get()  # of a question that was interrupted
            self.send(ASK_TRUST)
            return self._answers.get()

    # --- the reader's thread --------------------------------------------------------------------------------------

    def _read(self) -> None:
        while True:
            try:
                message = self._connection.recv_bytes()
            except (EOFError, OSError):
                os._exit(1)  # the parent is gone, and the lease with it
            kind, body = message[:1], message[1:]
            if kind == JOB:
                self._jobs.put(body)
            elif kind == CANCEL:
                self._cancel(body)
            elif kind == TRUST:
                self._answers.put(time.monotonic() + SECONDS.unpack(body)[0])
            elif kind == LEAVE:
                self._jobs.put(None)
                return

    def _cancel(self, body: bytes) -> None:
        execution = self._running
        if execution is not None:
            reason, _, text = body.partition(b"\0")
            execution.lease.cancel_message = text.decode()
            execution.lease.cancel = reason.decode()
            execution.cancel()
            if hasattr(signal, "pthread_kill"):
                signal.pthread_kill(self._main, signal.SIGTERM)
